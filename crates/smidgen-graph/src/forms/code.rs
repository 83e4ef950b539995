use crate::attributes::Activation;
use crate::operation::Content;
use crate::shape::MapShape;
use serde::{Deserialize, Serialize};

/// A code for the numbers of a map, in fewer bits. What it does, to the bit, is the host's; here it is known what it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Code {
    /// f16, rounded to nearest. Keeps what is zero and what is not apart.
    Half,
    /// 8 bits within the range of 64 neighbours, rounded at random without bias.
    Eight,
    /// 4 bits within the range of 64 neighbours, rounded at random without bias.
    Four,
    /// 2 bits within the range of 256 neighbours, rounded at random without bias.
    Two,
    /// 4 bits for what an activation has left at zero or above, rounded at random without bias; zero stays zero and nothing else
    /// becomes it.
    Rectified,
    /// The same in 2 bits, among 256 neighbours.
    RectifiedTwo,
    /// 8 bits, the nearest multiple of a power of two times a least step, which is chosen for each group of 64 neighbours; what no number's error
    /// is above is told. Zero stays zero; not random, so not without bias.
    BoundedEight,
    /// The same in 4 bits.
    Bounded,
    /// 1 bit: whether a number is above zero. Not for numbers that are needed themselves.
    Slope,
    /// 2 bits: whether a number is above zero, and whether it is below six. Not for numbers that are needed themselves.
    SlopeSix,
}

impl Code {
    /// The code of the slope of an activation; `None` where there is none.
    pub(super) fn of_slope(activation: Activation) -> Option<Self> {
        match activation {
            Activation::Relu => Some(Self::Slope),
            Activation::Relu6 => Some(Self::SlopeSix),
            _ => None,
        }
    }

    /// Every code for numbers, the most exact first.
    pub const ALL: [Self; 8] = [
        Self::Half,
        Self::Eight,
        Self::BoundedEight,
        Self::Rectified,
        Self::Four,
        Self::Bounded,
        Self::RectifiedTwo,
        Self::Two,
    ];

    /// Whether the error it reaches is told.
    #[must_use]
    pub fn is_bounded(self) -> bool {
        self.searched() != self
    }

    /// The code of the same width that a planner tries, and times, in its place: itself but for those that keep to a bound, which take about as
    /// long and whose error is no smaller.
    #[must_use]
    pub fn searched(self) -> Self {
        match self {
            Self::BoundedEight => Self::Eight,
            Self::Bounded => Self::Four,
            other => other,
        }
    }

    /// Whether backward gets what it needs of a value: the numbers, and where `masked` also whether each is above zero. `rectified`
    /// tells whether the values are known to be at zero or above.
    pub(super) fn serves(self, content: Content, masked: bool, rectified: bool) -> bool {
        let of_rectified = matches!(self, Self::Rectified | Self::RectifiedTwo);
        let keeps_signs = of_rectified || self == Self::Half;
        content == Content::Linear && (!masked || keeps_signs) && (!of_rectified || rectified)
    }

    /// The mean square of the error over that of the value, for values spread as a normal distribution: what rounding at random to so
    /// many levels within the range of 64 such values gives, and rounding to nearest with 11 bits of mantissa.
    #[must_use]
    pub fn variance(self) -> f64 {
        // The range of 64 normal values is 4.7 deviations wide on the mean. Rounding at random within a step has a mean square error of a
        // sixth of its square.
        let within = |range: f64, levels: f64| (range / levels).powi(2) / 6.0;
        // To the nearest multiple of a step it is a twelfth; the step is 1 to 2 times the largest magnitude of 64 (2.6 deviations) by the codes on
        // either side of zero, of whose square the mean over the logarithm is 1.5 / ln 2.
        let nearest = |codes: f64| (2.6 / codes).powi(2) * 1.5 / std::f64::consts::LN_2 / 12.0;
        match self {
            Self::BoundedEight => nearest(127.0),
            Self::Bounded => nearest(7.0),
            Self::Half => 2.0_f64.powi(-22) / 6.0,
            Self::Eight => within(4.7, 255.0),
            Self::Four => within(4.7, 15.0),
            // Of 256, the range is 5.6 deviations.
            Self::Two => within(5.6, 3.0),
            // From zero to the largest of 64; half of the values are zero and have no error, and the others' square is all there is.
            Self::Rectified => within(2.35, 14.0),
            Self::RectifiedTwo => within(2.8, 2.0),
            Self::Slope | Self::SlopeSix => 0.0,
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Half => "f16",
            Self::Eight => "8 bits",
            Self::Four => "4 bits",
            Self::Two => "2 bits",
            Self::Rectified => "4 bits above zero",
            Self::RectifiedTwo => "2 bits above zero",
            Self::BoundedEight => "8 bits, error-bounded",
            Self::Bounded => "4 bits, error-bounded",
            Self::Slope => "1 bit",
            Self::SlopeSix => "2 bits for the flat parts of a ReLU6",
        })
    }
}

/// How many bytes codes take: known to the crate whose kernels write them.
pub trait Codes {
    /// Bytes of a map in a code; `None` where the kernels do not take it.
    fn bytes(&self, code: Code, shape: MapShape) -> Option<u64>;
}
