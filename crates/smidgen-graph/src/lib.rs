//! Network graphs, shape inference, differentiation and a model zoo, without a GPU
#![deny(missing_docs)]

mod access;
mod attributes;
mod operation;
mod program;
mod shape;

pub use attributes::{Activation, ConvolutionAttributes, PoolAttributes};
pub use operation::{Content, Operation, OperationKind, Optimizer, Phase};
pub use program::{CONTROL_WORDS, Layout, METRICS_WORDS, Program, Role, Value, ValueId};
pub use shape::MapShape;
