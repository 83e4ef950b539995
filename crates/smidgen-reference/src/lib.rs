//! Slow, obvious, double-precision twins of the kernels of Smidgen
