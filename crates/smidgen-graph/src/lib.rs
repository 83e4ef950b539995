#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod access;
mod alone;
mod attributes;
mod builder;
mod differentiate;
mod emitter;
mod error;
mod filter;
pub mod forms;
mod fusion;
mod gradients;
mod graph;
mod growth;
mod halves;
mod init;
mod layers;
mod lower;
mod operation;
mod patches;
mod program;
mod shape;
mod slabs;
mod slopes;
mod source;
mod sparsity;
mod updates;
mod weights;
pub mod zoo;

pub use attributes::{Activation, ConvolutionAttributes, PoolAttributes};
pub use builder::Builder;
pub use error::GraphError;
pub use filter::{FilterState, LARGEST_PATCH, reads_tap_sums};
pub use graph::{Buffer, BufferId, Graph, Layer, Node, NodeId, Parameter, ParameterId};
pub use halves::{LOSS_SCALE, UNCLIPPED};
pub use init::{Fan, Initial};
pub use layers::{Convolution, Extent, Pool};
pub use lower::{ExampleMemory, Lowering, Mode, Rehearsal};
pub use operation::{
    Coded, Content, HeldSlope, Operation, OperationKind, Optimizer, Phase, RehearsalMemory,
};
pub use program::{
    BOUND_WORDS, CONTROL_WORDS, FORGETTING, Layout, METRICS_WORDS, Program, Role, Value, ValueId,
};
pub use shape::MapShape;
pub use slabs::Slabs;
pub use source::Source;
pub use sparsity::{Distribution, SparseBlocks, SparseLayer, Sparsity};
pub use weights::{MASK_SUFFIX, Tensor, Weights, WeightsError, replace_file};
