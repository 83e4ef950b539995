//! Gradient filtering of convolutions on wgpu: a backward pass at the resolution of patches (Yang, Li and Marculescu, CVPR 2023).
//!
//! The forward pass is exact. The backward pass takes the output gradient to be constant over patches of `patch` by `patch` pixels, and
//! the patch to be large beside the kernel. What is left of it are two small matrix products:
//!
//! ```text
//! patch_sums      x[i, p]  = sum of the input over the patch, stride * patch pixels wide       kept instead of the input
//! tap_sums        w[o, i]  = sum of the weight over its taps                                    until the weight changes
//! patch_averages  g[o, p]  = mean of the output gradient over the patch's pixels, / strides
//! input_gradient  [i, every pixel of p] = sum over o of w[o, i] g[o, p]
//! weight_gradient [o, i, every tap]     = sum over p of g[o, p] x[i, p]
//! bias_gradient   [o]                   = sum of the output gradient, exactly
//! ```
//!
//! Compared with an exact backward pass that is about `patch^2` times `taps` less to compute, and `patch^2` less to keep. The gradient is
//! biased: see how well it points where the exact one does before trusting it. It is exact for a 1x1 convolution of stride 1 whose
//! output gradient is constant over each patch.
//!
//! **Patches.** There are `ceil(output / patch)` of them along an axis, centred on input and output alike; where they do not fit evenly,
//! the larger half of the padding comes first, so patches of 2 on 7 rows have 1, 2, 2 and 2 of them. Averages are over pixels that exist.
//! Where the windows do not cover the input (a kernel without padding), the outermost patches take what is left, so that each input
//! pixel belongs to exactly one patch.
//!
//! **Stride.** An input pixel stands for one output pixel in `stride_y * stride_x`, and so averages are divided by that. Without it,
//! both gradients of a convolution of stride 2 would be four times too large.
//!
//! **Dilation.** Where taps are further apart than a patch, the input gradient takes each from the patch it falls into, and reads the
//! whole weight ([`FilterShape::reads_every_tap`]).
//!
//! **Layers in a row.** The input gradient is constant over each patch, so the patch averages of a filtered layer before, with the same patches and an
//! elementwise layer of slopes 0 and 1 between, follow from it without a map: [`patch_gradient`].
//!
//! **Launches.** What is left to compute is often so little that a launch takes as long. So [`averages_and_tap_sums`] takes averages and tap sums in one
//! dispatch, and [`gradients`] both products where that is faster.
//!
//! **A weight gradient is the same at every tap**, so it, and an optimiser's state, may be held once a pair of channels
//! ([`Taps::Once`]), which for a 3x3 kernel is a ninth.
//!
//! The functions are pure: from a shape, the facts of a device and byte ranges of your buffers they give [`Launch`](smidgen_gpu::Launch)
//! values, which a [`Sequence`](smidgen_gpu::Sequence) records on a compute pass of yours. `examples/embed_filter.rs` does, in a program with
//! its own `wgpu` device.
//!
//! ```no_run
//! use smidgen_filter::{FilterShape, PatchSums, patch_sums};
//! use smidgen_gpu::{Device, DeviceRequest, Region, Sequence};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::open(&DeviceRequest::default())?;
//! let shape = FilterShape::new(1, [4, 8, 8], 4, [3, 3], 2).with_padding(1);
//! let input = device.buffer_with("input", &[1.0_f32; 4 * 8 * 8])?;
//! let sums = device.storage_buffer("patch sums", shape.patch_sums_bytes())?;
//! let launches = patch_sums(&shape, device.facts(), &PatchSums {
//!     input: Region::whole(0, shape.input_bytes()).into(),
//!     patch_sums: Region::whole(1, shape.patch_sums_bytes()),
//!     slope_counts: None,
//! })?;
//! let sequence = Sequence::prepare(&device, &launches, &[&input, &sums])?;
//! device.run(|pass| sequence.record(pass))?;
//! assert_eq!(device.read::<f32>(&sums, 0, 1)?, [4.0]);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod axis;
mod error;
mod gradients;
mod input_gradient;
mod pool;
mod select;
mod shape;
mod weight_gradient;

pub use error::FilterError;
pub use gradients::gradients;
pub use input_gradient::{
    InputGradient, Mask, PatchGradient, TapSums, TowardsInput, input_gradient, patch_gradient,
    tap_sums,
};
pub use pool::{PatchAverages, PatchSums, averages_and_tap_sums, patch_averages, patch_sums};
pub use shape::{FilterShape, LARGEST_PATCH};
pub use weight_gradient::{
    BiasGradient, Taps, WeightGradient, bias_gradient, weight_gradient, weight_gradient_workspace,
};
