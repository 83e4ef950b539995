//! Convolution kernels for training on wgpu: forward, input gradient, weight gradient.
#![deny(missing_docs)]

mod gather;
mod geometry;
mod passes;
mod select;
mod shape;
mod weight;
mod weight_gradient;

pub use passes::{Forward, InputGradient, forward, input_gradient};
pub use shape::{ConvolutionShape, ShapeError};
pub use weight::{pack_weight, unpack_weight};
pub use weight_gradient::{WeightGradient, weight_gradient, weight_gradient_workspace};
