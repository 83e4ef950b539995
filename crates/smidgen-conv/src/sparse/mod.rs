//! Sparse masked convolution: time and memory of all three passes follow the number of live blocks.
//!
//! A weight is cut into blocks, four output channels (or 8, or 16) by four input channels at one tap. Every group of output channels
//! has the same number of slots, and a slot holds one live block: its **column** (input quad and tap) and its 16 (32, 64) values. Gradient
//! and optimiser state are arrays of the shape of the values. Nothing of the dense size exists.
//!
//! The input gradient walks the blocks by input quad, along a transposed list that [`transpose`] rebuilds on the device whenever columns
//! change. The weight gradient is sampled: blocks that are not live are never computed.

mod columns;
mod gather;
mod mutate;
mod shape;
mod strip;
#[cfg(test)]
mod tests;
mod tile;
mod weight_gradient;
mod weight_strip;

pub use columns::{EMPTY, Imported, column, column_parts};
pub use gather::{
    SparseForward, SparseInputGradient, Transpose, sparse_forward, sparse_forward_with_moments,
    sparse_input_gradient, transpose,
};
pub use mutate::{Mutation, Order, block_norms, mutate};
pub use shape::{SparseError, SparseShape};
pub use weight_gradient::{
    SparseWeightGradient, sparse_weight_gradient, sparse_weight_gradient_workspace,
};
