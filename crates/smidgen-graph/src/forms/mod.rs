//! How stashes are held, and the program that follows.
//!
//! A [`Program`](crate::Program) as it is lowered keeps every stash whole. [`Outline::schedule`] says what runs, and when, if some
//! are held in another [`Form`]; [`Outline::apply`] makes a program of it. Everything downstream (lifetimes, packing, launches)
//! reads that program and needs to know nothing of forms.

mod apply;
mod code;
mod outline;
mod part;
mod rename;
mod schedule;
mod slices;
mod step;

pub use code::{Code, Codes};
pub use outline::{Activated, Outline, Stash};
pub use schedule::{Extra, Run, Schedule};
pub use slices::Slices;
pub use step::{Encoded, FormPass, Step};

use crate::program::ValueId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a stash is held from its last use in the forward pass to its first in the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Form {
    /// As it was made.
    Whole,
    /// Not at all: the operation that made it runs again just before the first use, on inputs that are held or made again
    /// themselves. Exact, to the bit: the same kernel on the same numbers.
    Recomputed,
    /// The same, but in so many slices of its channels, one after the other in the same memory, for backward operations that need a channel for
    /// nothing but that channel: the map never stands whole in the backward pass. Exact, to the bit.
    Sliced(u32),
    /// Encoded after its last use in the forward pass, decoded just before its first in the backward pass. The forward pass stays
    /// exact, and so do masks; only gradients that are linear in the value carry the error.
    Coded(Code),
    /// The same for the input of a normalisation with a ReLU or a ReLU6 behind it, and its slope in 1 or 2 bits beside it, taken where the numbers were
    /// exact.
    Masked(Code),
    /// In the host's memory: copied there after its last use in the forward pass and back just before its first in the backward pass. Exact.
    Offloaded,
}

impl Form {
    /// Whether the value is made again of exact numbers, at once or in slices.
    #[must_use]
    pub fn is_made_again(self) -> bool {
        matches!(self, Self::Recomputed | Self::Sliced(_))
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => formatter.write_str("whole"),
            Self::Recomputed => formatter.write_str("recomputed"),
            Self::Sliced(slices) => write!(formatter, "in {slices} slices"),
            Self::Coded(code) => code.fmt(formatter),
            Self::Masked(code) => write!(formatter, "{code} and slope"),
            Self::Offloaded => formatter.write_str("on the host"),
        }
    }
}

/// The form of every stash that is not held whole.
pub type Forms = BTreeMap<ValueId, Form>;

/// Why forms cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// The value is not made by an operation that may run twice.
    #[error("`{value}` cannot be computed again: {reason}; hold it whole")]
    NotRepeatable {
        /// Name of the value.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// The value cannot be made again in so many slices.
    #[error("`{value}` cannot be made again in {slices} slices; {open}")]
    NotSliceable {
        /// Name of the value.
        value: String,
        /// In how many it was to be.
        slices: u32,
        /// What is open to it.
        open: String,
    },
    /// The code would lose what backward needs of the value.
    #[error("`{value}` cannot be held as {code}: {reason}")]
    NotCodable {
        /// Name of the value.
        value: String,
        /// The code.
        code: Code,
        /// Why not.
        reason: &'static str,
    },
    /// The value may not leave the device.
    #[error("`{value}` cannot be held in the host's memory: {reason}")]
    NotOffloadable {
        /// Name of the value.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// The value is no stash of the program.
    #[error(
        "`{value}` is not kept for the backward pass of this program; the plan is of another one"
    )]
    NoStash {
        /// Name of the value.
        value: String,
    },
}
