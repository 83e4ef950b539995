//! Train neural networks on any GPU, in the bytes you name
