//! Byte-exact memory plans for training programs, without a GPU
