//! Convolution kernels for training on wgpu: forward, input gradient, weight gradient
