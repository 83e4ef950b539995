//! Prune and grow, in place.

use super::{SparseError, SparseShape};
use crate::gather::groups_of;
use crate::passes::sized;
use smidgen_gpu::{Launch, Region, folded_grid, params};

params! {
    /// What a mutation does to every output group; the host writes it to the device before the launch runs.
    #[derive(Eq)]
    pub struct Order {
        /// Live blocks that stay: those of the largest norm.
        keep: u32,
        /// Blocks that grow from zero in free slots.
        grow: u32,
        /// Of the random choice of what grows.
        seed: u32,
        /// Another random choice for the same seed: one for each layer.
        stream: u32,
    }
}

impl Order {
    /// Its bytes on the device.
    pub const BYTES: u64 = 16;

    /// Whether `shape`, of which `before` blocks of every output group are live, can do this: what was live before cannot grow.
    ///
    /// # Errors
    /// More blocks to keep than there are, more than fit the slots, or more to grow than were not live.
    pub fn check(&self, shape: &SparseShape, before: u32) -> Result<(), SparseError> {
        let candidates = shape.candidates();
        let fits = self.keep <= before
            && before <= shape.live
            && u64::from(self.keep) + u64::from(self.grow) <= u64::from(shape.live)
            && u64::from(before) + u64::from(self.grow) <= u64::from(candidates);
        if fits {
            return Ok(());
        }
        Err(SparseError::Mutation {
            before,
            keep: self.keep,
            grow: self.grow,
            slots: shape.live,
            candidates,
        })
    }
}

/// What a mutation reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// An [`Order`].
    pub order: Region,
    /// A word a slot, `shape.column_bytes()`.
    pub columns: Region,
    /// Live blocks, `shape.value_bytes()`.
    pub values: Region,
    /// Up to two arrays of optimiser state, `shape.value_bytes()` each: zeroed where a block goes.
    pub states: Vec<Region>,
    /// What grows: the blocks of the highest score here (`shape.score_bytes()`, see [`block_norms`]); `None` for a random choice.
    pub growth: Option<Region>,
}

params! {
    /// Uniform of `conv/sparse_mutate.wgsl`.
    pub(crate) struct MutateParams {
        output_groups: u32, live: u32, candidates: u32, taps: u32, taps_x: u32, vectors: u32,
        group_inputs: u32, group_outputs: u32, input_quads: u32, span: u32,
    }
}

params! {
    /// Uniform of `conv/sparse_block_norms.wgsl`.
    pub(crate) struct NormParams { blocks: u32, candidates: u32, taps: u32, slots: u32, quads: u32 }
}

/// Candidates that one workgroup can tell apart: what its memory has bits for.
const MOST_CANDIDATES: u32 = 1 << 14;

impl SparseShape {
    /// Bytes of a score for every block that a dense layer would have.
    #[must_use]
    pub fn score_bytes(&self) -> u64 {
        u64::from(self.output_groups()) * u64::from(self.candidates()) * 4
    }
}

/// The launch that prunes and grows every output group as its order says. [`transpose`](super::transpose) has to follow.
///
/// # Errors
/// A shape that is not valid or has more candidates than a workgroup can hold, or a region smaller than it needs.
pub fn mutate(shape: &SparseShape, regions: &Mutation) -> Result<Launch, SparseError> {
    shape.validate()?;
    let (convolution, candidates) = (&shape.convolution, shape.candidates());
    if candidates > MOST_CANDIDATES || regions.states.len() > 2 {
        return Err(SparseError::TooLarge);
    }
    let params = MutateParams {
        output_groups: shape.output_groups(),
        live: shape.live,
        candidates,
        taps: convolution.taps(),
        taps_x: convolution.kernel[1],
        vectors: shape.block_quads * 4,
        group_inputs: convolution.group_inputs(),
        group_outputs: convolution.group_outputs(),
        input_quads: convolution.input_quads(),
        span: convolution.slots(),
    };
    let mut bound = vec![
        sized("order", regions.order, Order::BYTES)?,
        sized("columns", regions.columns, shape.column_bytes())?,
        sized("values", regions.values, shape.value_bytes())?,
    ];
    let mut defines = vec![
        // A few sizes, so that layers share kernels.
        (
            "BITS",
            candidates
                .div_ceil(32)
                .next_power_of_two()
                .max(32)
                .to_string(),
        ),
        ("STATES", regions.states.len().to_string()),
    ];
    // A number of bindings is a variant of its own.
    match regions.states.len() {
        0 => {}
        1 => defines.push(("ONE_STATE", String::new())),
        _ => defines.push(("TWO_STATES", String::new())),
    }
    match regions.growth {
        Some(growth) => bound.push(sized("growth", growth, shape.score_bytes())?),
        None => defines.push(("RANDOM", String::new())),
    }
    for state in &regions.states {
        bound.push(sized("state", *state, shape.value_bytes())?);
    }
    Ok(Launch::new(
        "conv/sparse_mutate.wgsl",
        &defines,
        &params,
        bound,
        folded_grid(u64::from(shape.output_groups())),
    ))
}

/// The launch that takes the norm of every block of a dense weight or its gradient (stacks of blocks): scores for
/// [`Mutation::growth`].
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn block_norms(
    shape: &SparseShape,
    dense: Region,
    norms: Region,
) -> Result<Launch, SparseError> {
    shape.validate()?;
    let blocks = shape.output_groups() * shape.candidates();
    let params = NormParams {
        blocks,
        candidates: shape.candidates(),
        taps: shape.convolution.taps(),
        slots: shape.convolution.slots(),
        quads: shape.block_quads,
    };
    Ok(Launch::new(
        "conv/sparse_block_norms.wgsl",
        &[],
        &params,
        vec![
            sized("dense weight", dense, shape.convolution.weight_bytes())?,
            sized("norms", norms, shape.score_bytes())?,
        ],
        folded_grid(groups_of(u64::from(blocks))),
    ))
}
