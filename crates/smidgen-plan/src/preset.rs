//! Published policies, restated as forms.

use crate::planner::Planner;
use smidgen_graph::forms::{Code, Form, Forms, Outline, Stash};

/// A published policy for what the backward pass needs again, restated on this planner's forms: a re-implementation, made to be
/// compared with, not the authors' program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Everything whole.
    KeepAll,
    /// The map at the end of every so many blocks is kept, everything else made again: the root of the number of blocks (Chen et al.,
    /// "Training Deep Nets with Sublinear Memory Cost", 2016).
    SquareRoot,
    /// 4 bits for every activation (Chakrabarti and Moseley, "Backprop with Approximate Activations", 2019).
    Blpa,
    /// 4 bits for every activation, masks in 1 bit (Liu et al., "GACT", 2022, without its adaptive widths).
    Gact,
    /// 2 bits for every activation, masks in 1 bit (Chen et al., "ActNN", 2021, level L3 at 2 bits, without its mixed widths).
    ActNn,
    /// 4 bits for every activation within a bound of its own (Jin et al., "COMET", 2022: its lattice in a slot of fixed size, without entropy
    /// coding, masks in 1 bit).
    Comet,
    /// Everything made again that can be.
    Recompute,
    /// 8 bits for every activation.
    EightBits,
}

impl Preset {
    /// What takes no planning.
    pub const TRIVIAL: [Self; 3] = [Self::KeepAll, Self::Recompute, Self::EightBits];

    /// Every policy that was published.
    pub const ALL: [Self; 6] = [
        Self::KeepAll,
        Self::SquareRoot,
        Self::Blpa,
        Self::Gact,
        Self::ActNn,
        Self::Comet,
    ];

    /// Whether the errors of its codes are zero on the mean, which a quality promises: only such policies are weighed beside a planner's own plans.
    #[must_use]
    pub fn is_unbiased(self) -> bool {
        self != Self::Comet
    }

    /// In a few words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepAll => "keep all",
            Self::SquareRoot => "checkpoint every root of the blocks, restated",
            Self::Blpa => "BLPA at 4 bits, restated",
            Self::Gact => "GACT at 4 bits, restated",
            Self::ActNn => "ActNN at 2 bits, restated",
            Self::Comet => "COMET at 4 bits, restated",
            Self::Recompute => "recompute all",
            Self::EightBits => "all at 8 bits",
        }
    }

    /// The forms it gives the stashes of a program. Where its width is not open to a stash, the next wider that is.
    #[must_use]
    pub fn forms(self, planner: &Planner<'_>, outline: &Outline) -> Forms {
        let stashes = outline.stashes().iter();
        match self {
            Self::KeepAll => Forms::new(),
            Self::SquareRoot => {
                let boundaries: Vec<_> = planner.boundaries().collect();
                let every = (boundaries.len() as f64).sqrt().ceil().max(1.0) as usize;
                let kept: Vec<_> = boundaries.iter().skip(every - 1).step_by(every).collect();
                stashes
                    .filter(|stash| stash.repeatable && !kept.contains(&&stash.value))
                    .map(|stash| (stash.value, Form::Recomputed))
                    .collect()
            }
            Self::Blpa | Self::Gact => coded(stashes, &[Code::Rectified, Code::Four]),
            Self::Recompute => stashes
                .filter(|stash| stash.repeatable)
                .map(|stash| (stash.value, Form::Recomputed))
                .collect(),
            Self::EightBits => coded(stashes, &[Code::Eight, Code::Half]),
            Self::Comet => coded(stashes, &[Code::Bounded, Code::Rectified]),
            Self::ActNn => coded(stashes, &[Code::Two, Code::RectifiedTwo]),
        }
    }
}

/// Each stash in the first of these codes that is open to it.
fn coded<'a>(stashes: impl Iterator<Item = &'a Stash>, codes: &[Code]) -> Forms {
    let form = |stash: &Stash| {
        let open = |list: &[(Code, u64)], code: Code| list.iter().any(|(own, _)| *own == code);
        codes.iter().find_map(|&code| {
            let coded = open(&stash.codes, code).then_some(Form::Coded(code));
            coded.or_else(|| open(&stash.masked, code).then_some(Form::Masked(code)))
        })
    };
    stashes
        .filter_map(|stash| Some((stash.value, form(stash)?)))
        .collect()
}
