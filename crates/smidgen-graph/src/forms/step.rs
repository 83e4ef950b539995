use super::Code;

/// What only the forms ask for. Values are numbered as in a [`Schedule`](super::Schedule).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Fields are values; `of` is the value of the program that all this is about.
pub enum Step {
    /// Writes `stash`: `input` in a code.
    Encode {
        of: usize,
        code: Code,
        input: usize,
        stash: usize,
    },
    /// Writes `output` from `stash`.
    Decode {
        of: usize,
        code: Code,
        stash: usize,
        output: usize,
    },
    /// Writes `output`: `input`, normalised as the readers of the value do, and `activated` as they do or not.
    Apply {
        of: usize,
        input: usize,
        activated: bool,
        output: usize,
    },
    /// Multiplies `target`, in place, with the slope in `stash`.
    Slope {
        of: usize,
        stash: usize,
        target: usize,
    },
}

impl Step {
    /// The values it reads or writes, but for small ones that are held anyway.
    #[must_use]
    pub fn values(&self) -> [usize; 2] {
        match *self {
            Self::Encode { input, stash, .. } => [input, stash],
            Self::Decode { stash, output, .. } => [stash, output],
            Self::Apply { input, output, .. } => [input, output],
            Self::Slope { stash, target, .. } => [stash, target],
        }
    }
}
