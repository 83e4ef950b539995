//! Normalisation, activation, pooling, loss, attention and optimiser kernels on `wgpu`.
//!
//! Host functions are pure: sizes and byte regions in, plain [`smidgen_gpu::Launch`] values out.
#![deny(missing_docs)]

mod error;
mod shape;

pub use error::OpsError;
pub use shape::MapShape;
