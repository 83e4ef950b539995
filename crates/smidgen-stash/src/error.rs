/// Why a tensor cannot be encoded or decoded as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StashError {
    /// A shape that the kernels cannot count.
    #[error("stash: {0}")]
    Shape(String),
    /// A region smaller than what the kernel reads or writes; kernels run without bounds checks.
    #[error("stash: `{region}` has {given} bytes, the codec and shape need {needed}")]
    Region {
        /// The region's name.
        region: &'static str,
        /// Its bytes.
        given: u64,
        /// The bytes needed.
        needed: u64,
    },
    /// A region that this codec needs was not given.
    #[error("stash: {codec} needs {what}")]
    Missing {
        /// The codec.
        codec: &'static str,
        /// What is missing, and what it is for.
        what: &'static str,
    },
    /// The codec does not hold what was asked for.
    #[error("stash: {codec} {what}")]
    Unsupported {
        /// The codec.
        codec: &'static str,
        /// What it does not hold, and what does.
        what: &'static str,
    },
    /// A bound that the codec cannot work with.
    #[error(
        "stash: the error bound {0} must be a number from 2^-81 to 2^99; choose one relative to the largest value, such as 1e-3 of it"
    )]
    Bound(f32),
}
