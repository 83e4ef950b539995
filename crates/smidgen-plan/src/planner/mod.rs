//! Which form for which stash: the curve of the least time over the bytes it takes.

mod blocks;
mod options;
mod weigh;

use crate::chain::undominated;
use crate::costs::Costs;
use blocks::Blocks;
use serde::{Deserialize, Serialize};
use smidgen_graph::Program;
use smidgen_graph::forms::{FormError, Forms, Outline};
use weigh::Scale;

/// How many points a front of the dynamic programme may have, and about how many choices the curve has in the end.
const FRONT_POINTS: usize = 512;
const CURVE_POINTS: usize = 192;

/// Forms for the stashes of a program, with what they take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The form of every stash that is not whole.
    pub forms: Forms,
    /// Bytes above the persistent part at the highest moment, before packing: no placement can be lower.
    pub height: u64,
    /// Predicted seconds of a step.
    pub seconds: f64,
}

/// Chooses forms for the stashes of one program.
#[derive(Debug)]
pub struct Planner<'a> {
    scale: Scale<'a>,
    blocks: Blocks,
}

impl<'a> Planner<'a> {
    /// A planner for `program`, in which every stash is whole, with the workspace of each of its operations in bytes. Sizes are
    /// rounded up to `alignment`.
    #[must_use]
    pub fn new(
        program: &'a Program,
        outline: &'a Outline,
        workspaces: &[u64],
        alignment: u64,
        costs: &dyn Costs,
    ) -> Self {
        let blocks = Blocks::new(program, outline);
        let scale = Scale::new(program, outline, workspaces, alignment, costs, &blocks);
        Self { scale, blocks }
    }

    /// What given forms take.
    ///
    /// # Errors
    /// Forms that the program does not allow.
    pub fn weigh(&self, forms: Forms) -> Result<Choice, FormError> {
        let weight = self.scale.weigh(&forms)?;
        Ok(Choice {
            height: weight.height(),
            seconds: weight.seconds,
            forms,
        })
    }

    /// The undominated choices, by falling height and so by rising time: the first keeps everything, or is faster still.
    #[must_use]
    pub fn curve(&self) -> Vec<Choice> {
        let ways = options::of_chain(&self.scale, &self.blocks);
        let arcs: Vec<_> = ways.iter().map(|way| way.arc).collect();
        let paths = undominated(self.blocks.count(), options::STATES, &arcs, FRONT_POINTS);
        let every = paths.len().div_ceil(CURVE_POINTS).max(1);
        let count = paths.len();
        let thinned = paths.iter().enumerate();
        let thinned = thinned.filter(|(at, _)| at % every == 0 || at + 1 == count);
        let mut choices: Vec<Choice> = thinned
            .filter_map(|(_, path)| {
                let forms = path.arcs.iter().flat_map(|at| ways[*at].forms.clone());
                self.weigh(forms.collect()).ok()
            })
            .chain(self.weigh(Forms::new()).ok())
            .collect();
        // The blocks were weighed one at a time; now that they are together, some choices turn out to be dominated.
        choices.sort_by(|left, right| {
            (left.seconds.total_cmp(&right.seconds)).then(left.height.cmp(&right.height))
        });
        let mut least = u64::MAX;
        choices.retain(|choice| {
            let lower = choice.height < least;
            least = least.min(choice.height);
            lower
        });
        choices
    }
}
