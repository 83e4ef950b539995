//! Normalisation, activation, pooling, loss, attention and optimiser kernels on wgpu
