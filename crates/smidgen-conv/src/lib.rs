//! Convolution kernels for training on wgpu: forward, input gradient, weight gradient (and the bias and its gradient).
//!
//! Any kernel size, stride, padding, dilation and groups; 1x1 and depthwise convolutions have kernels of their own, and a linear layer is a
//! [1x1 convolution on maps of one pixel](ConvolutionShape::linear). The functions are pure: from a shape, the facts of a device and byte
//! ranges of your buffers they give [`Launch`](smidgen_gpu::Launch) values, which a [`Sequence`](smidgen_gpu::Sequence) records on a compute
//! pass of yours.
//!
//! ```no_run
//! use smidgen_conv::{ConvolutionShape, Forward, forward, pack_weight};
//! use smidgen_gpu::{Device, DeviceRequest, Region, Sequence};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::open(&DeviceRequest::default())?;
//! let shape = ConvolutionShape::new(1, [4, 8, 8], 4, [3, 3]).with_padding(1);
//! let input = device.buffer_with("input", &[1.0_f32; 4 * 8 * 8])?;
//! let weight = device.buffer_with("weight", &pack_weight(&shape, &[0.5; 4 * 4 * 9])?)?;
//! let output = device.storage_buffer("output", shape.output_bytes())?;
//! let launches = forward(&shape, device.facts(), None, &Forward {
//!     input: Region::whole(0, shape.input_bytes()).into(),
//!     weight: Region::whole(1, shape.weight_bytes()),
//!     bias: None,
//!     output: Region::whole(2, shape.output_bytes()),
//!     workspace: None,
//! })?;
//! let sequence = Sequence::prepare(&device, &launches, &[&input, &weight, &output])?;
//! device.run(|pass| sequence.record(pass))?;
//! assert_eq!(device.read::<f32>(&output, 0, 1)?, [8.0]);
//! # Ok(())
//! # }
//! ```
//!
//! The next larger one is `examples/embed_convolution.rs`: a program with its own `wgpu` device and buffers that records a convolution and its gradients
//! on its own pass.
//!
//! A pass can be computed in several ways. [`candidates`] lists those worth measuring for a shape on a device as plain [`Variant`] values,
//! the deterministic default first; every pass takes one of them, or `None` for the default.
//!
//! [`sparse`] has convolutions of which few blocks of the weight are live, [`listed`] those of which few output pixels are computed.
//!
//! **Activations** are planes of quads, see [`ConvolutionShape`]; kernels keep the channels that pad the last quad zero. **Weights** are
//! stacks of 4x4 blocks, see [`pack_weight`]; elements that stand for no weight (padding, or between groups) are zero and get a gradient
//! of exactly zero, so any optimiser leaves them alone.
#![deny(missing_docs)]

mod backward;
mod gather;
mod geometry;
pub mod listed;
mod passes;
mod select;
mod shape;
pub mod sparse;
mod strips;
mod tiles;
mod variant;
mod weight;
mod weight_gradient;
mod weight_product;
mod weight_tiles;
mod winograd;

pub use backward::{backward, fused_candidates, fuses};
pub use passes::{
    Forward, InputGradient, forward, forward_with_moments, input_gradient, takes_moments,
};
pub use select::{candidates, fits, variant_of_part};
pub use shape::{ConvolutionShape, ShapeError};
pub use variant::{
    BlockTile, GatherTile, ParseVariantError, Pass, ProductTile, SharedBlockTile, SharedTile,
    StripTile, Variant,
};
pub use weight::{pack_weight, unpack_weight};
pub use weight_gradient::{
    WeightGradient, bias_gradient, bias_gradient_workspace, weight_gradient, workspace,
};
