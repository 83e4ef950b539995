//! What can be wrong with weights.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why weights cannot be read, written or used.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written; one that was there before is as it was.
    #[error("cannot write `{path}`, what was there before is untouched: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file was read, and cannot be used.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<WeightsError>,
    },
    /// The bytes are not those of a safetensors file.
    #[error("not a sound safetensors file, download or export it again: {problem}")]
    Corrupt {
        /// What is wrong.
        problem: String,
    },
    /// A tensor holds something else than floating-point numbers of 32 or 16 bits.
    #[error(
        "tensor `{name}` holds {kind}: only F32, F16 and BF16 can be read; export it as one of these"
    )]
    Kind {
        /// The tensor.
        name: String,
        /// What it holds.
        kind: String,
    },
    /// A tensor has more or fewer numbers than its shape says.
    #[error("tensor `{name}` of shape {shape:?} has {found} numbers")]
    Count {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many numbers there are.
        found: usize,
    },
    /// The network needs tensors that are not there.
    #[error(
        "`{network}` needs {count} tensors that are missing, among them {examples}: these are weights of another network"
    )]
    Missing {
        /// The network.
        network: String,
        /// How many are missing.
        count: usize,
        /// Some of them.
        examples: String,
    },
    /// A tensor has another shape than the network needs.
    #[error(
        "tensor `{name}` is {found:?} and must be {expected:?}: these are weights of another network, or of another number of classes"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// What the network needs.
        expected: Vec<usize>,
        /// What is there.
        found: Vec<usize>,
    },
    /// There are tensors that the network does not know.
    #[error(
        "`{network}` has no place for {count} of the tensors, among them {examples}: these are weights of another network"
    )]
    Unknown {
        /// The network.
        network: String,
        /// How many are unknown.
        count: usize,
        /// Some of them.
        examples: String,
    },
}
