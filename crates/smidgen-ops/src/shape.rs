use crate::OpsError;

/// Bytes of one quad: four f32.
pub(crate) const QUAD_BYTES: u64 = 16;

/// The sizes of an activation held as planes of quads: element `(quad, pixel)` is the `vec4` at `quad * pixels() + pixel`, with
/// `pixel = (image * height + y) * width + x`. Channels are padded with zeros to a multiple of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapShape {
    /// Images.
    pub batch: u32,
    /// Channels, without padding.
    pub channels: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl MapShape {
    /// A shape from its sizes.
    #[must_use]
    pub fn new(batch: u32, channels: u32, height: u32, width: u32) -> Self {
        Self {
            batch,
            channels,
            height,
            width,
        }
    }

    /// Planes: channels divided by four, rounded up.
    #[must_use]
    pub fn quads(&self) -> u32 {
        self.channels.div_ceil(4)
    }

    /// Pixels of all images; 0 where the product does not fit, which no operator accepts.
    #[must_use]
    pub fn pixels(&self) -> u32 {
        self.batch
            .checked_mul(self.height)
            .and_then(|rows| rows.checked_mul(self.width))
            .unwrap_or(0)
    }

    /// Bytes of the activation.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.quads()) * u64::from(self.pixels()) * QUAD_BYTES
    }

    /// Bytes of a vector of one f32 a channel, padded to whole quads.
    #[must_use]
    pub fn vector_bytes(&self) -> u64 {
        u64::from(self.quads()) * QUAD_BYTES
    }

    /// Number of quads in all planes.
    pub(crate) fn elements(&self) -> u64 {
        u64::from(self.quads()) * u64::from(self.pixels())
    }

    /// Refuses empty activations, and those whose quads cannot be counted in 30 bits (16 GiB) as kernels do.
    pub(crate) fn check(&self, operator: &'static str) -> Result<(), OpsError> {
        if [self.batch, self.channels, self.height, self.width].contains(&0) {
            return Err(OpsError::shape(
                operator,
                format!("every size of {self:?} must be at least 1"),
            ));
        }
        // A grid has at most 65535 rows of workgroups, and most kernels take one row a quad.
        if self.pixels() == 0 || self.elements() > 1 << 30 || self.quads() > 65_535 {
            return Err(OpsError::shape(
                operator,
                format!(
                    "{self:?} is too large for one launch; 16 GiB and 262140 channels are the most, split the batch"
                ),
            ));
        }
        Ok(())
    }
}

/// Workgroups for a kernel whose workgroups take 1024 neighbouring pixels of one quad: x along the pixels, y over the quads.
pub(crate) fn plane_grid(
    operator: &'static str,
    pixels: u32,
    quads: u32,
) -> Result<[u32; 3], OpsError> {
    let groups = pixels.div_ceil(1024);
    if groups > 65_535 {
        return Err(OpsError::shape(
            operator,
            format!("{pixels} pixels are too many for one launch, split the batch"),
        ));
    }
    Ok([groups, quads, 1])
}
