//! Convolution at listed output pixels only: what networks need that choose for each picture where to look closer.
//!
//! A **gate**, a map of one channel, says which output pixels are wanted. [`list_pixels`] makes a list of them on the device, in ascending
//! order and without a word to the host; [`listed_forward`] computes these pixels, with dense weights, and the two gradients sum over them. Kernels
//! are dispatched for the most pixels that a list can hold, and those beyond its end leave at once: time follows what is listed, the
//! memory of the list is reserved for the most.
//!
//! ```no_run
//! use smidgen_conv::listed::{Base, ListPixels, ListedForward, ListedShape, PixelList, list_pixels, listed_forward};
//! use smidgen_conv::{ConvolutionShape, pack_weight};
//! use smidgen_gpu::{Device, DeviceRequest, Region, Sequence};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::open(&DeviceRequest::default())?;
//! let convolution = ConvolutionShape::new(1, [4, 8, 8], 4, [3, 3]).with_padding(1);
//! // At most a quarter of the pixels.
//! let shape = ListedShape { convolution, capacity: 16 };
//! // A quad a pixel, of which the first lane decides; pixels 9 and 10 are wanted.
//! let mut gate = vec![0.0_f32; 4 * 64];
//! (gate[4 * 9], gate[4 * 10]) = (1.0, 0.5);
//! let gate = device.buffer_with("gate", &gate)?;
//! let input = device.buffer_with("input", &[1.0_f32; 4 * 64])?;
//! let weight = device.buffer_with("weight", &pack_weight(&convolution, &[0.5; 4 * 4 * 9])?)?;
//! let marks = device.storage_buffer("marks", shape.mark_bytes())?;
//! let entries = device.storage_buffer("entries", shape.entry_bytes())?;
//! let output = device.storage_buffer("output", convolution.output_bytes())?;
//! let list = PixelList {
//!     marks: Region::whole(3, shape.mark_bytes()),
//!     entries: Region::whole(4, shape.entry_bytes()),
//! };
//! let mut launches = list_pixels(&shape, &ListPixels { gate: Region::whole(0, shape.gate_bytes()), list })?;
//! launches.extend(listed_forward(&shape, device.facts(), &ListedForward {
//!     input: Region::whole(1, convolution.input_bytes()).into(),
//!     weight: Region::whole(2, convolution.weight_bytes()),
//!     bias: None,
//!     list,
//!     output: Region::whole(5, convolution.output_bytes()),
//!     base: Base::Zero,
//! })?);
//! let buffers = [&gate, &input, &weight, &marks, &entries, &output];
//! let sequence = Sequence::prepare(&device, &launches, &buffers)?;
//! device.run(|pass| sequence.record(pass))?;
//! assert_eq!(device.read::<f32>(&output, 4 * 8, 4 * 4)?[..], [[0.0; 4], [18.0; 4], [18.0; 4], [0.0; 4]].concat());
//! # Ok(())
//! # }
//! ```
//!
//! The next larger one is `examples/listed_pixels.rs`: a gate, a residual connection and both gradients.

mod gather;
mod list;
mod shape;
#[cfg(test)]
mod tests;
mod weight_gradient;

pub use gather::{Base, ListedForward, ListedInputGradient, listed_forward, listed_input_gradient};
pub use list::{ListPixels, ListReached, PixelList, list_pixels, list_reached};
pub use shape::{ListedError, ListedShape};
pub use weight_gradient::{
    ListedWeightGradient, listed_weight_gradient, listed_weight_gradient_workspace,
};
