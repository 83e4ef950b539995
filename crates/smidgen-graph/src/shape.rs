//! The size of an activation.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Images, channels, rows and columns of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

    /// Pixels of all images: `N*H*W`; the largest number where the product does not fit.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        u64::from(self.batch)
            .saturating_mul(u64::from(self.height))
            .saturating_mul(u64::from(self.width))
    }

    /// Planes of quads: channels divided by four, rounded up.
    #[must_use]
    pub fn quads(&self) -> u32 {
        self.channels.div_ceil(4)
    }

    /// Numbers, padding of channels not included: `N*C*H*W`.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.pixels().saturating_mul(u64::from(self.channels))
    }

    /// The same map with another number of channels.
    #[must_use]
    pub fn with_channels(self, channels: u32) -> Self {
        Self { channels, ..self }
    }

    /// The same images and channels with other rows and columns.
    #[must_use]
    pub fn with_size(self, [height, width]: [u32; 2]) -> Self {
        Self {
            height,
            width,
            ..self
        }
    }
}

impl fmt::Display for MapShape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}x{}x{}x{}",
            self.batch, self.channels, self.height, self.width
        )
    }
}
