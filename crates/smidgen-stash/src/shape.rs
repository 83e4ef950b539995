use crate::StashError;

/// The sizes of a tensor held as planes of quads: `quads` planes of `pixels` vectors of four f32 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StashShape {
    /// Planes: channels divided by four, rounded up.
    pub quads: u32,
    /// Vectors of a plane: pixels of all images.
    pub pixels: u32,
}

impl StashShape {
    /// Planes of an activation with `channels` channels and `pixels` pixels in all its images.
    #[must_use]
    pub fn planes(channels: u32, pixels: u32) -> Self {
        Self {
            quads: channels.div_ceil(4),
            pixels,
        }
    }

    /// A flat array of `count` f32: one plane.
    ///
    /// # Errors
    /// A count that is not a multiple of four, which is what kernels load at once: pad the array.
    pub fn flat(count: u32) -> Result<Self, StashError> {
        if !count.is_multiple_of(4) {
            return Err(StashError::Shape(format!(
                "{count} values; a multiple of four is needed, pad the array with zeros"
            )));
        }
        Ok(Self {
            quads: 1,
            pixels: count / 4,
        })
    }

    /// Quads of all planes.
    #[must_use]
    pub fn elements(&self) -> u64 {
        u64::from(self.quads) * u64::from(self.pixels)
    }

    /// Bytes of the f32 values.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        self.elements().saturating_mul(16)
    }

    /// Refuses what kernels cannot count: nothing at all, more than 16 GiB, more planes or pixels than a grid has rows.
    pub(crate) fn check(&self) -> Result<(), StashError> {
        if self.elements() == 0
            || self.elements() > 1 << 30
            || self.quads > 65_535
            || self.pixels > 65_535 * 1024
        {
            return Err(StashError::Shape(format!(
                "{} planes of {} pixels; at least one of each is needed, at most 16 GiB, 65535 planes and 67107840 pixels: split the batch",
                self.quads, self.pixels
            )));
        }
        Ok(())
    }
}
