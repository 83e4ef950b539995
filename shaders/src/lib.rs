//! The WGSL kernels of Smidgen, their preprocessor and their table of variants
