//! Byte-exact memory plans for training programs.
//!
//! A [`Plan`] gives every value of a [`Program`](smidgen_graph::Program) its place in one arena before anything runs:
//!
//! ```text
//! | persistent | stash stack: forward pushes, backward pops ->  ...  <- transients and workspace, packed |
//! ```
//!
//! Parameters, optimiser state and running statistics stand at the start. Forward values that backward needs again are pushed in
//! the order they are made; backward pops them in reverse, so the stack has no holes. Everything else is packed from the far end
//! and grows into what the stack gives back. The height of the whole is the peak, and it is what the session allocates.
#![deny(missing_docs)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod chain;
mod costs;
mod lifetime;
mod pack;
mod plan;
mod planner;
mod preset;

pub use costs::{Costs, Roofline, multiply_adds};
pub use lifetime::{Lifetime, Placement, placements};
pub use plan::{Limits, Peak, Place, Plan, PlanError, ProgramPlan, persistent_bytes};
pub use planner::{Choice, Planner};
pub use preset::Preset;
