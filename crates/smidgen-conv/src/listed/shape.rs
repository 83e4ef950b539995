use crate::shape::QUAD_BYTES;
use crate::{ConvolutionShape, ShapeError};

/// A convolution of which some output pixels are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListedShape {
    /// The convolution as it would be at all output pixels.
    pub convolution: ConvolutionShape,
    /// The most output pixels, of the whole batch, that are computed. Where the gate wants more, the first ones are.
    pub capacity: u32,
}

/// What can be wrong with a convolution at listed pixels, or with its regions.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ListedError {
    /// The convolution itself, or a region.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A list for no pixel, or for more than there are.
    #[error("a list of {given} pixels for a map of {pixels}; give 1 to {pixels}")]
    Capacity {
        /// The capacity given.
        given: u32,
        /// Output pixels of the batch.
        pixels: u32,
    },
    /// Channels in groups.
    #[error(
        "{groups} groups of channels cannot be computed at listed pixels; compute the layer whole"
    )]
    Groups {
        /// Groups of the layer.
        groups: u32,
    },
}

/// Pixels whose marks a workgroup writes.
const BLOCK: u32 = 2048;

pub(super) fn blocks(pixels: u32) -> u32 {
    pixels.div_ceil(BLOCK)
}

/// A bit a pixel in whole blocks, and a count a block.
pub(super) fn mark_bytes(pixels: u32) -> u64 {
    u64::from(blocks(pixels)) * (u64::from(BLOCK) / 32 + 1) * 4
}

/// Two counts and a word an entry.
pub(super) fn entry_bytes(capacity: u32) -> u64 {
    (u64::from(capacity) + 2) * 4
}

impl ListedShape {
    /// Whether kernels can compute this shape.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), ListedError> {
        let (given, shape) = (self.capacity, &self.convolution);
        shape.validate()?;
        if shape.groups > 1 {
            let groups = shape.groups;
            return Err(ListedError::Groups { groups });
        }
        let pixels = shape.output_plane();
        if given == 0 || given > pixels {
            return Err(ListedError::Capacity { given, pixels });
        }
        Ok(())
    }

    /// Bytes of the gate: a quad an output pixel.
    #[must_use]
    pub fn gate_bytes(&self) -> u64 {
        u64::from(self.convolution.output_plane()) * QUAD_BYTES
    }

    /// Bytes of the marks of a list of output pixels.
    #[must_use]
    pub fn mark_bytes(&self) -> u64 {
        mark_bytes(self.convolution.output_plane())
    }

    /// Bytes of the entries of a list of output pixels.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        entry_bytes(self.capacity)
    }

    /// The most input pixels that listed output pixels can read.
    pub(super) fn reached(&self) -> u32 {
        let all = self.convolution.input_plane();
        self.capacity
            .checked_mul(self.convolution.taps())
            .map_or(all, |most| most.min(all))
    }

    /// Bytes of the marks of a list of input pixels.
    #[must_use]
    pub fn reached_mark_bytes(&self) -> u64 {
        mark_bytes(self.convolution.input_plane())
    }

    /// Bytes of the entries of a list of input pixels.
    #[must_use]
    pub fn reached_entry_bytes(&self) -> u64 {
        entry_bytes(self.reached())
    }
}
