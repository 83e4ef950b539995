//! Compressed storage of activations on `wgpu`: masks, f16, 8, 4 and 2 bits a value, and error-bounded codes.
//!
//! What a [`Codec`] makes of a tensor has a size that depends on the shape alone ([`Codec::encoded_bytes`]), never on the data, so it can
//! be planned. The functions are pure: a codec, a shape and byte ranges of your buffers give [`Launch`](smidgen_gpu::Launch) values, which a
//! [`Sequence`](smidgen_gpu::Sequence) records on a compute pass of yours.
//!
//! ```no_run
//! use smidgen_gpu::{Device, DeviceRequest, Region, Sequence};
//! use smidgen_stash::{Bits, Codec, Decode, Encode, Group, Seed, StashShape, decode, encode};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::open(&DeviceRequest::default())?;
//! let codec = Codec::Linear { bits: Bits::Four, group: Group::G64 };
//! let shape = StashShape::flat(4096)?;
//! let values = device.buffer_with("values", &[0.25_f32; 4096])?;
//! let seed = device.buffer_with("seed", &[7_u32])?;
//! let stash = device.storage_buffer("stash", codec.encoded_bytes(&shape))?; // 2,304 bytes
//! let values_region = Region::whole(0, shape.value_bytes());
//! let stash_region = Region::whole(2, codec.encoded_bytes(&shape));
//! let mut launches = encode(codec, &shape, &Encode {
//!     values: values_region,
//!     stash: stash_region,
//!     seed: Some(Seed { region: Region::whole(1, 4), word: 0, tensor: 0 }),
//!     bound: None,
//! })?;
//! launches.extend(decode(codec, &shape, &Decode { stash: stash_region, values: values_region })?);
//! let sequence = Sequence::prepare(&device, &launches, &[&values, &seed, &stash])?;
//! device.run(|pass| sequence.record(pass))?;
//! # Ok(())
//! # }
//! ```
//!
//! The next larger one is `examples/embed_stash.rs`: a program with its own `wgpu` device that compresses a buffer of its own and reads it back.
//!
//! **Decode on load.** A kernel of yours need not have the values decoded for it: import `common/stash` in its shader, declare the stash as
//! `array<vec4<u32>>`, give it the [`loader_defines`](Codec::loader_defines) of the codec and call `stash_load(quad, pixel, quads, pixels)`
//! where it would have read a `vec4`. (The weight gradient of `smidgen-conv` and the backward pass of a normalisation of `smidgen-ops` do so already: [`on_load`].) That reads one word of codes and one header, and no decoded tensor ever exists.
//!
//! **What is lossy, and how.** [`Linear`](Codec::Linear), [`Rectified`](Codec::Rectified) and [`SignMagnitude`](Codec::SignMagnitude) round
//! up or down at random so that the mean of what is decoded is the value: gradients that are linear in it stay unbiased. The random words
//! are a function of the seed, the tensor and the element, so a step can be repeated bit for bit. [`Lattice`](Codec::Lattice) rounds to
//! nearest within a bound. Do not hold lossily what a gradient is not linear in, such as the input of a GELU.
//!
//! **Values that are not finite.** They are not refused (a kernel cannot) and not hidden: a group that holds an infinity, a NaN or a
//! magnitude of 2^100 or more decodes to NaN in all its elements. Magnitudes below 2^-100 count as zero. [`Half`](Codec::Half) keeps
//! infinities and NaN element by element, and holds finite values above 65504 as 65504.
#![deny(missing_docs)]

mod bound;
mod codec;
mod error;
mod launches;
mod shape;

pub use bound::Bound;
pub use codec::{Bits, Codec, Group};
pub use error::StashError;
pub use launches::{
    Decode, Encode, HeldSlope, Seed, SlopeBackward, decode, decode_activated, encode, encode_slope,
    encode_within, on_load, slope_backward,
};
pub use shape::StashShape;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
