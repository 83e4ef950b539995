//! Normalisation, activation, pooling, loss, attention and optimiser kernels on `wgpu`.
//!
//! Every function here is pure: a shape, the facts of a device and the byte ranges to work on give the
//! [`Launch`](smidgen_gpu::Launch)es that compute the operator. Nothing touches a device until they are recorded, so the same
//! values serve to plan memory, to count work and to run.
//!
//! The facts that change from step to step (learning rate, seed) stand in a [`Control`](control::Control) block on the device,
//! which every optimiser reads; launches are therefore made once and recorded as often as wanted.
//!
//! ```
//! use smidgen_gpu::{DeviceFacts, Launch, Region};
//! use smidgen_ops::optimizer::{SgdOptions, SgdRegions, sgd};
//!
//! /// Updates 1000 parameters that stand in the buffers 0 (parameters), 1 (gradients), 2 (momentum) and 3 (control block).
//! fn update(facts: &DeviceFacts) -> Result<Launch, smidgen_ops::OpsError> {
//!     let options = SgdOptions { momentum: 0.9, nesterov: true, weight_decay: 5e-4 };
//!     let regions = SgdRegions {
//!         parameter: Region::whole(0, 4000),
//!         gradient: Region::whole(1, 4000),
//!         momentum: Some(Region::whole(2, 4000)),
//!         control: Region::whole(3, 32),
//!     };
//!     sgd(&options, facts, &regions, 1000)
//! }
//! ```
//!
//! Activations are planes of quads: channel `c` of pixel `p = (n*H + y)*W + x` stands at element `((c/4)*P + p)*4 + c%4` with
//! `P = N*H*W`; the channels that pad the last quad are zero, and every kernel keeps them so. Vectors with one value a channel
//! are padded to whole quads in the same way.
#![deny(missing_docs)]

pub mod activation;
pub mod attention;
pub mod batch_norm;
pub mod clip;
pub mod concat;
pub mod control;
pub mod dropout;
pub mod elementwise;
mod error;
pub mod layer_norm;
pub mod loss;
pub mod optimizer;
pub mod pairs;
pub mod pool;
pub mod probe;
pub mod rehearsal;
pub mod resize;
pub mod selection;
mod shape;
pub mod shortcut;
pub mod slopes;
pub mod softmax;
mod table;

pub use activation::Activation;
pub use error::OpsError;
pub use shape::MapShape;
