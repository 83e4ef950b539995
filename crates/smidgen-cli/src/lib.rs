//! The smidgen command: train and evaluate networks on any GPU within a byte budget
