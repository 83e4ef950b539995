use crate::shape::QUAD_BYTES;
use crate::{ConvolutionShape, ShapeError};

/// A convolution of which every group of output channels holds the same number of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SparseShape {
    /// The convolution as it would be dense.
    pub convolution: ConvolutionShape,
    /// Output quads of a block: 1 for blocks of 4 by 4 channels, 2 for 8 by 4, 4 for 16 by 4. An output group is that many quads.
    pub block_quads: u32,
    /// Slots of every output group, each with room for one live block.
    pub live: u32,
}

/// What can be wrong with a sparse layer, its weights or its regions.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SparseError {
    /// The convolution itself, its weights or a region.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A share of live blocks that is none.
    #[error(
        "a density of {given} is outside (0, 1]; give the share of weights that stay, such as 0.1"
    )]
    Density {
        /// The number given.
        given: f64,
    },
    /// Less than one block of a group would be live.
    #[error(
        "an output group has {candidates} blocks, of which a density of {density} leaves less than one; leave this layer dense, or give \
         it at least {least}"
    )]
    TooSmall {
        /// The density asked for.
        density: f64,
        /// Blocks of an output group.
        candidates: u32,
        /// The least density that leaves a block.
        least: f64,
    },
    /// More slots than blocks, or none.
    #[error(
        "{live} slots for an output group that has {candidates} blocks; give 1 to {candidates}"
    )]
    Slots {
        /// Slots asked for.
        live: u32,
        /// Blocks of an output group.
        candidates: u32,
    },
    /// Blocks of this size do not divide the layer.
    #[error(
        "blocks of {} output channels do not fit {output_channels} output channels in {groups} groups; use blocks of 4",
        4 * block_quads
    )]
    Blocks {
        /// Output quads of a block.
        block_quads: u32,
        /// Output channels of the layer.
        output_channels: u32,
        /// Groups of the layer.
        groups: u32,
    },
    /// One weight a channel and tap cannot be blocked.
    #[error("a depthwise layer has one weight a channel and tap and no blocks; leave it dense")]
    Depthwise,
    /// More taps or channels than a column can name.
    #[error(
        "kernels of more than 255 rows or columns, or more than 262140 input channels, cannot be sparse; leave this layer dense"
    )]
    TooLarge,
    /// A mutation that cannot be done exactly.
    #[error(
        "an output group with {before} live blocks in {slots} slots cannot keep {keep} and grow {grow} of {candidates} blocks; what was \
         live before cannot grow, and what stays must fit"
    )]
    Mutation {
        /// Live blocks before.
        before: u32,
        /// Blocks to keep.
        keep: u32,
        /// Blocks to grow.
        grow: u32,
        /// Slots of the group.
        slots: u32,
        /// Blocks of a dense group.
        candidates: u32,
    },
    /// A mask, or a list of columns, of another layer.
    #[error("{what} of {given} elements for a layer that has {expected}")]
    Length {
        /// `a mask`, `weights`, `columns`, or `values`.
        what: &'static str,
        /// Elements given.
        given: usize,
        /// Elements expected.
        expected: usize,
    },
    /// A column that names no block of its group, or one twice.
    #[error(
        "column {column:#x} of output group {group} names no block of the layer, or one that another slot holds"
    )]
    Column {
        /// The output group.
        group: u32,
        /// The word.
        column: u32,
    },
}

impl SparseShape {
    /// Blocks of four by four channels of which a share of `density` is live: the nearest number, at least one.
    ///
    /// # Errors
    /// A density outside (0, 1], a layer of which it leaves less than one block an output group, or a shape that is not valid.
    pub fn with_density(convolution: ConvolutionShape, density: f64) -> Result<Self, SparseError> {
        Self::with_blocks(convolution, 1, density)
    }

    /// The same for blocks of `block_quads` output quads.
    ///
    /// # Errors
    /// Those of [`with_density`](Self::with_density), and blocks that do not divide the output channels.
    pub fn with_blocks(
        convolution: ConvolutionShape,
        block_quads: u32,
        density: f64,
    ) -> Result<Self, SparseError> {
        if !(density > 0.0 && density <= 1.0) {
            return Err(SparseError::Density { given: density });
        }
        let shape = Self {
            convolution,
            block_quads,
            live: 1,
        };
        shape.validate()?;
        let candidates = shape.candidates();
        let live = f64::from(candidates) * density;
        // A little below one is what rounding leaves of 1 / candidates.
        if live < 1.0 - 1e-9 {
            return Err(SparseError::TooSmall {
                density,
                candidates,
                least: 1.0 / f64::from(candidates),
            });
        }
        Ok(Self {
            live: live.round() as u32,
            ..shape
        })
    }

    /// Whether kernels can compute this shape.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), SparseError> {
        let shape = &self.convolution;
        shape.validate()?;
        if shape.is_depthwise() {
            return Err(SparseError::Depthwise);
        }
        let fits = matches!(self.block_quads, 1 | 2 | 4)
            && shape.output_quads().is_multiple_of(self.block_quads)
            && (shape.groups == 1 || self.block_quads == 1);
        if !fits {
            return Err(SparseError::Blocks {
                block_quads: self.block_quads,
                output_channels: shape.output_channels,
                groups: shape.groups,
            });
        }
        // The word of all ones is no column.
        if shape.kernel[0] > 255 || shape.kernel[1] > 255 || shape.input_quads() > 0xffff {
            return Err(SparseError::TooLarge);
        }
        let candidates = self.candidates();
        if self.live == 0 || self.live > candidates {
            return Err(SparseError::Slots {
                live: self.live,
                candidates,
            });
        }
        Ok(())
    }

    /// Groups of output channels that each have a list of live blocks.
    #[must_use]
    pub fn output_groups(&self) -> u32 {
        self.convolution.output_quads() / self.block_quads.max(1)
    }

    /// Blocks that an output group would have if it were dense.
    #[must_use]
    pub fn candidates(&self) -> u32 {
        self.convolution.slots() * self.convolution.taps()
    }

    /// Slots of all output groups.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.output_groups() * self.live
    }

    /// Pieces of four output channels by four input channels that the blocks of all slots are made of.
    pub(super) fn pieces(&self) -> u32 {
        self.blocks() * self.block_quads
    }

    /// Elements of a block.
    #[must_use]
    pub fn block_elements(&self) -> u32 {
        16 * self.block_quads
    }

    /// The share of blocks that are live.
    #[must_use]
    pub fn density(&self) -> f64 {
        f64::from(self.live) / f64::from(self.candidates().max(1))
    }

    /// Bytes of the columns: a word a slot.
    #[must_use]
    pub fn column_bytes(&self) -> u64 {
        u64::from(self.blocks()) * 4
    }

    /// Bytes of the values, of their gradient, and of each part of an optimiser's state.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        u64::from(self.blocks()) * u64::from(self.block_quads) * 4 * QUAD_BYTES
    }

    /// Bytes of where each input quad's part of the transposed list begins.
    #[must_use]
    pub fn start_bytes(&self) -> u64 {
        (u64::from(self.convolution.input_quads()) + 1) * 4
    }

    /// Bytes of the transposed list: a word a slot.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        self.column_bytes()
    }

    /// Bytes of the lists of live blocks by what they read, forward and transposed: two words for every four output channels of a slot.
    #[must_use]
    pub fn walk_bytes(&self) -> u64 {
        2 * u64::from(self.pieces()) * 4
    }

    /// Multiplications of one pass if every slot is live (each of the three passes has the same number).
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        u64::from(self.convolution.output_plane())
            * u64::from(self.blocks())
            * u64::from(self.block_elements())
    }
}
