use crate::StashShape;
use serde::{Deserialize, Serialize};

/// Bits of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bits {
    /// 2 bits: four levels.
    Two,
    /// 4 bits: 16 levels.
    Four,
    /// 8 bits: 256 levels.
    Eight,
}

impl Bits {
    /// Every width.
    pub const ALL: [Self; 3] = [Self::Two, Self::Four, Self::Eight];

    /// As a number.
    #[must_use]
    pub fn count(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// How many neighbouring pixels of one channel share a header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// 64 pixels: half a bit a value for the header, and less error.
    #[default]
    G64,
    /// 256 pixels: an eighth of a bit a value.
    G256,
}

impl Group {
    /// As a number.
    #[must_use]
    pub fn pixels(self) -> u32 {
        match self {
            Self::G64 => 64,
            Self::G256 => 256,
        }
    }
}

/// How a tensor is held. The bytes depend on the shape alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Codec {
    /// One bit a value, whether it is above zero: the slope of a ReLU, exact.
    Mask,
    /// Two bits a value, whether it is below zero, between, or above six: the slope of a ReLU6, exact.
    MaskSix,
    /// Where the maxima of a pooling stand, `bits` a value instead of a byte: 2 for windows of up to 4 taps, 4 for up to 16. Exact.
    Taps {
        /// Bits of a tap.
        bits: Bits,
    },
    /// f16, rounded to nearest; no value but zero becomes zero, so that a ReLU's slope can be told from it.
    Half,
    /// A minimum and a step for every group, and a code for every value, rounded at random without bias. The error is below a step.
    Linear {
        /// Bits of a code.
        bits: Bits,
        /// Size of a group.
        group: Group,
    },
    /// Four bits for a value whose sign matters exactly, such as the input of a ReLU: whether it is above zero, and 3 bits of magnitude
    /// with a step for either side. Zero stays zero; unbiased.
    SignMagnitude {
        /// Size of a group.
        group: Group,
    },
    /// For values after a ReLU: zero is zero and nothing else is told as zero, so that the slope is exact; all other codes, 15 of 4 bits
    /// and 3 of 2, are levels above zero; unbiased. Values below zero count as zero.
    Rectified {
        /// Bits of a code.
        bits: Bits,
        /// Size of a group.
        group: Group,
    },
    /// Multiples of a step twice the wanted bound, nearest to each value: zero stays zero and no error is above the bound. Where the codes of
    /// a group do not fit, its step is doubled until they do, and [`Bound`](crate::Bound) tells by how much.
    Lattice {
        /// Bits of a code.
        bits: Bits,
        /// Size of a group.
        group: Group,
    },
}

impl Codec {
    /// The codec of the taps of a pooling window, in as few bits as hold them.
    #[must_use]
    pub fn taps(kernel: [u32; 2]) -> Self {
        let bits = match kernel[0].saturating_mul(kernel[1]) {
            0..=4 => Bits::Two,
            5..=16 => Bits::Four,
            _ => Bits::Eight,
        };
        Self::Taps { bits }
    }

    /// Bytes of the stash of a tensor of this shape, a multiple of 16.
    #[must_use]
    pub fn encoded_bytes(self, shape: &StashShape) -> u64 {
        if self == Self::Half {
            return shape.elements().div_ceil(2).saturating_mul(16);
        }
        (self.first_word(shape) + u64::from(shape.quads) * self.plane_words(shape))
            .next_multiple_of(4)
            .saturating_mul(4)
    }

    /// Bytes of what is encoded: f32 values, or a byte for each tap.
    #[must_use]
    pub fn value_bytes(self, shape: &StashShape) -> u64 {
        match self {
            Self::Taps { .. } => shape.elements().saturating_mul(4),
            _ => shape.value_bytes(),
        }
    }

    /// Whether the values come back exactly (of a mask: the slope).
    #[must_use]
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Mask | Self::MaskSix | Self::Taps { .. })
    }

    /// Whether the decoded values have the original's mean over the seeds.
    #[must_use]
    pub fn is_random(self) -> bool {
        matches!(
            self,
            Self::Linear { .. } | Self::SignMagnitude { .. } | Self::Rectified { .. }
        )
    }

    /// Whether values can be decoded.
    #[must_use]
    pub fn holds_values(self) -> bool {
        !matches!(self, Self::Mask | Self::MaskSix | Self::Taps { .. })
    }

    /// Whether the slope of an activation can be read, by `stash_slope` in a shader and by [`slope_backward`](crate::slope_backward).
    #[must_use]
    pub fn holds_slope(self) -> bool {
        matches!(
            self,
            Self::Mask
                | Self::MaskSix
                | Self::Half
                | Self::SignMagnitude { .. }
                | Self::Rectified { .. }
        )
    }

    /// The defines that make `common/stash.wgsl` the decoder of this codec.
    #[must_use]
    pub fn loader_defines(self) -> Vec<(&'static str, String)> {
        let mut defines = vec![(self.flag(), String::new())];
        if self != Self::Half {
            defines.push(("STASH_BITS", self.bits().to_string()));
        }
        if let Some(group) = self.group() {
            defines.push(("STASH_GROUP", group.pixels().to_string()));
        }
        defines
    }

    /// Steps between the lowest and the highest code, where these are random.
    pub(crate) fn levels(self) -> Option<u32> {
        match self {
            Self::Linear { bits, .. } => Some((1 << bits.count()) - 1),
            Self::SignMagnitude { .. } => Some(7),
            Self::Rectified { bits, .. } => Some((1 << bits.count()) - 2),
            _ => None,
        }
    }

    /// For messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mask => "a mask",
            Self::MaskSix => "a ReLU6 mask",
            Self::Taps { .. } => "the codec of taps",
            Self::Half => "f16",
            Self::Linear { .. } => "a linear code",
            Self::SignMagnitude { .. } => "the sign-magnitude code",
            Self::Rectified { .. } => "the code for values after a ReLU",
            Self::Lattice { .. } => "the error-bounded code",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Mask => "STASH_MASK",
            Self::MaskSix => "STASH_SIX",
            Self::Taps { .. } => "STASH_TAPS",
            Self::Half => "STASH_HALF",
            Self::Linear { .. } => "STASH_LINEAR",
            Self::SignMagnitude { .. } => "STASH_SIGNED",
            Self::Rectified { .. } => "STASH_RECTIFIED",
            Self::Lattice { .. } => "STASH_LATTICE",
        }
    }

    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Mask => 1,
            Self::MaskSix => 2,
            Self::Half => 16,
            Self::SignMagnitude { .. } => 4,
            Self::Taps { bits }
            | Self::Linear { bits, .. }
            | Self::Rectified { bits, .. }
            | Self::Lattice { bits, .. } => bits.count(),
        }
    }

    pub(crate) fn group(self) -> Option<Group> {
        match self {
            Self::Linear { group, .. }
            | Self::SignMagnitude { group }
            | Self::Rectified { group, .. }
            | Self::Lattice { group, .. } => Some(group),
            _ => None,
        }
    }

    /// Blocks of four groups in a plane.
    pub(crate) fn plane_blocks(self, shape: &StashShape) -> u64 {
        self.group()
            .map_or(0, |group| u64::from(shape.pixels.div_ceil(group.pixels())))
    }

    /// Words of codes in a plane.
    pub(crate) fn plane_words(self, shape: &StashShape) -> u64 {
        (u64::from(shape.pixels) * u64::from(self.bits())).div_ceil(8)
    }

    /// Where the codes begin, in words: behind the headers.
    fn first_word(self, shape: &StashShape) -> u64 {
        let blocks = u64::from(shape.quads) * self.plane_blocks(shape);
        match self {
            Self::Lattice { .. } => 4 + blocks.next_multiple_of(4),
            _ => 4 * blocks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_feature_map_are_those_of_the_table() {
        // 16 channels, 32 images of 32 x 32: 2 MiB in f32.
        let shape = StashShape::planes(16, 32 * 32 * 32);
        assert_eq!(shape.value_bytes(), 2 << 20);
        let group = Group::G64;
        let kib = |codec: Codec| codec.encoded_bytes(&shape) / 1024;
        assert_eq!(kib(Codec::Mask), 64);
        assert_eq!(kib(Codec::MaskSix), 128);
        assert_eq!(kib(Codec::taps([2, 2])), 128);
        assert_eq!(kib(Codec::taps([3, 3])), 256);
        assert_eq!(kib(Codec::Half), 1024);
        let linear = |bits, group| kib(Codec::Linear { bits, group });
        assert_eq!(linear(Bits::Eight, group), 512 + 32);
        assert_eq!(linear(Bits::Four, group), 256 + 32);
        assert_eq!(linear(Bits::Two, Group::G256), 128 + 8);
        assert_eq!(kib(Codec::SignMagnitude { group }), 288);
        assert_eq!(
            kib(Codec::Rectified {
                bits: Bits::Four,
                group
            }),
            288
        );
        let bits = Bits::Four;
        let lattice = Codec::Lattice { bits, group }.encoded_bytes(&shape);
        assert_eq!(lattice, (256 + 8) * 1024 + 16);
    }

    #[test]
    fn odd_sizes_are_rounded_up_to_words_headers_and_vectors() {
        let one = StashShape::planes(1, 1);
        assert_eq!(Codec::Mask.encoded_bytes(&one), 16);
        assert_eq!(Codec::Half.encoded_bytes(&one), 16);
        let group = Group::G64;
        let four = Codec::SignMagnitude { group };
        assert_eq!(four.encoded_bytes(&one), 32);
        // 65 pixels of two planes: two blocks and 33 words each.
        assert_eq!(
            four.encoded_bytes(&StashShape::planes(5, 65)),
            4 * 16 + 68 * 4
        );
        assert_eq!(Codec::Mask.encoded_bytes(&StashShape::planes(0, 7)), 0);
    }

    #[test]
    fn codecs_are_saved_by_name() {
        let codec = Codec::Linear {
            bits: Bits::Four,
            group: Group::G256,
        };
        let text = serde_json::to_string(&codec).unwrap();
        assert_eq!(text, r#"{"linear":{"bits":"four","group":"g256"}}"#);
        assert_eq!(serde_json::from_str::<Codec>(&text).unwrap(), codec);
    }
}
