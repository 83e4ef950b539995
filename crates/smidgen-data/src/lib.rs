//! Image data sets, augmentation and batch loading for training
