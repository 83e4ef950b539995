//! Device, byte ledger and kernel launches on `wgpu`.
//!
//! A kernel crate answers "what would run" with plain [`Launch`] values: a shader variant, its parameters, the byte ranges it
//! touches and its grid. Nothing of `wgpu` is in them, so they can be planned, counted and tested without a device.
//! [`Sequence`] turns launches into pipelines, bind groups and one uniform buffer, once; after that a step only records.
//!
//! ```no_run
//! use smidgen_gpu::{Device, DeviceRequest, Launch, Region, Sequence, params};
//! params! { struct FillParams { count: u32, value: f32 } }
//!
//! let device = Device::open(&DeviceRequest::default())?;
//! let buffer = device.storage_buffer("numbers", 1024)?;
//! let fill = Launch::new("ops/fill.wgsl", &[], &FillParams { count: 256, value: 1.5 }, vec![Region::whole(0, 1024)], [1, 1, 1]);
//! let sequence = Sequence::prepare(&device, &[fill], &[&buffer])?;
//! device.run(|pass| sequence.record(pass))?;
//! assert_eq!(device.read::<f32>(&buffer, 0, 256)?[255], 1.5);
//! # Ok::<(), smidgen_gpu::GpuError>(())
//! ```
//!
//! The next larger one, a loop within a budget that allocates nothing, is in the README.
#![deny(missing_docs)]

mod adapter;
mod ahead;
mod device;
mod error;
mod launch;
mod ledger;
mod pipelines;
mod sequence;
mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timeline;
mod transfer;

pub use adapter::{AdapterSummary, DeviceFacts, DeviceKind, adapters};
pub use device::{ALLOCATOR_BLOCK_BYTES, Device, DeviceRequest};
pub use error::GpuError;
pub use launch::{Launch, Params, Region, folded_grid};
pub use ledger::{Category, Entry, Held, Ledger};
pub use sequence::Sequence;
pub use source::{Activation, Source, moments_bytes, normalisation_bytes};
pub use timeline::{Timeline, Timing};
pub use transfer::{ReadbackRing, StagingRing};

#[doc(hidden)]
pub use bytemuck;
pub use wgpu;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
