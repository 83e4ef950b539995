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
//! use smidgen_ops::control::Control;
//!
//! let control = Control { learning_rate: 0.1, ..Control::default() };
//! assert_eq!(control.gradient_scale, 1.0);
//! ```
//!
//! Activations are planes of quads: channel `c` of pixel `p = (n*H + y)*W + x` stands at element `((c/4)*P + p)*4 + c%4` with
//! `P = N*H*W`; the channels that pad the last quad are zero, and every kernel keeps them so. Vectors with one value a channel
//! are padded to whole quads in the same way.
#![deny(missing_docs)]

pub mod control;
mod error;
mod shape;

pub use error::OpsError;
pub use shape::MapShape;
