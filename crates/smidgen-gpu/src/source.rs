use crate::Region;

/// An activation function. All of them map zero to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Activation {
    /// The value itself.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * relu6(x + 3) / 6`.
    HardSwish,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x` times the normal distribution function of `x`.
    Gelu,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Self; 6] = [
        Self::Identity,
        Self::Relu,
        Self::Relu6,
        Self::HardSwish,
        Self::Silu,
        Self::Gelu,
    ];

    /// Whether the derivative can be told from the output alone, so that the input need not be kept.
    #[must_use]
    pub fn derivative_from_output(self) -> bool {
        matches!(self, Self::Identity | Self::Relu | Self::Relu6)
    }

    /// The shader flag of this activation, as `common/activation.wgsl` knows it; the identity has none.
    #[must_use]
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Relu => Some("ACTIVATION_RELU"),
            Self::Relu6 => Some("ACTIVATION_RELU6"),
            Self::HardSwish => Some("ACTIVATION_HARD_SWISH"),
            Self::Silu => Some("ACTIVATION_SILU"),
            Self::Gelu => Some("ACTIVATION_GELU"),
        }
    }
}

/// A map as a kernel reads it: `activation(scale * value + shift)`, computed while it is loaded (`common/source.wgsl`), so that the
/// normalised and activated map need not stand in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// The map as its producer wrote it.
    pub region: Region,
    /// [`normalisation_bytes`]: scale, shift, mean and inverse deviation of every quad of channels.
    pub normalisation: Option<Region>,
    /// Applied last.
    pub activation: Activation,
}

/// Bytes of the normalisation of a map with this many channels.
#[must_use]
pub fn normalisation_bytes(channels: u32) -> u64 {
    u64::from(channels.div_ceil(4)) * 64
}

/// Bytes that always suffice for the moments of a map: what producers of the map, a workgroup at a time, find of mean and squared deviations
/// of their pixels, and what its statistics are merged from (`common/group_moments.wgsl`). A workgroup takes 64 pixels at least.
#[must_use]
pub fn moments_bytes(channels: u32, pixels: u64) -> u64 {
    let records = u64::from(channels.div_ceil(4)).saturating_mul(pixels.div_ceil(64));
    records
        .saturating_mul(3)
        .saturating_add(1)
        .saturating_mul(16)
}

impl From<Region> for Source {
    /// The map as it is.
    fn from(region: Region) -> Self {
        Self {
            region,
            normalisation: None,
            activation: Activation::Identity,
        }
    }
}

impl Source {
    /// The flags of a shader that imports `common/source.wgsl`.
    pub fn defines(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.normalisation
            .map(|_| "NORMALISE")
            .into_iter()
            .chain(self.activation.flag())
            .map(|flag| (flag, String::new()))
    }
}
