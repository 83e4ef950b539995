//! Which form for which stash: the curve of the least time over the bytes it takes.

mod blocks;
mod options;
mod weigh;
mod workers;

use crate::chain::{Arc, undominated};
use crate::costs::Costs;
use crate::preset::Preset;
use blocks::Blocks;
use options::Way;
use serde::{Deserialize, Serialize};
use smidgen_graph::forms::{Form, FormError, Forms, Outline};
use smidgen_graph::{Program, ValueId};
use weigh::Scale;

/// How many points a front of the dynamic programme may have, and about how many choices each weight of variance gives.
const FRONT_POINTS: usize = 512;
const CURVE_POINTS: usize = 160;

/// What a plan may take of the variance that is allowed, in times of keeping everything: the weights of variance against time that are
/// tried (Everett's multipliers).
const WEIGHTS: [f64; 6] = [0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0];

/// Forms for the stashes of a program, with what they take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The form of every stash that is not whole.
    pub forms: Forms,
    /// Bytes above the persistent part at the highest moment, before packing: no placement can be lower.
    pub height: u64,
    /// Predicted seconds of a step.
    pub seconds: f64,
    /// The predicted error of what the backward pass decodes: squared, by the square of the value, the mean over all stashes that
    /// backward is linear in. 0: exact.
    pub variance: f64,
}

/// Chooses forms for the stashes of one program.
pub struct Planner<'a> {
    scale: Scale<'a>,
    blocks: Blocks,
}

impl<'a> Planner<'a> {
    /// A planner for `program`, in which every stash is whole, with the workspace of each of its operations in bytes. Sizes are
    /// rounded up to `alignment`. Lossy forms are considered where `outline` was made with codes.
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
            variance: weight.variance,
            forms,
        })
    }

    /// Bytes that a stash leaves on the stack in a form.
    #[must_use]
    pub fn held(&self, value: ValueId, form: Form) -> u64 {
        self.scale.held(value, form)
    }

    /// By value that bounds a block: for plans that checkpoint (keep only what blocks are entered with).
    pub fn boundaries(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.blocks.entries.iter().copied().flatten()
    }

    /// The undominated choices of at most this variance, by falling height and so by rising time: the first is the fastest.
    #[must_use]
    pub fn curve(&self, variance: f64) -> Vec<Choice> {
        let ways = options::of_chain(&self.scale, &self.blocks);
        let whole = self.weigh(Forms::new());
        let seconds = whole.as_ref().map_or(0.0, |choice| choice.seconds);
        let mut choices: Vec<Choice> = whole.into_iter().collect();
        let exact: Vec<&Way> = ways.iter().filter(|way| way.variance <= 0.0).collect();
        choices.extend(self.best(&exact, 0.0));
        if exact.len() < ways.len() {
            let lossy: Vec<&Way> = ways.iter().collect();
            for weight in WEIGHTS {
                choices.extend(self.best(&lossy, weight * seconds / variance));
            }
        }
        // What others have published is not to be beaten by luck alone.
        let policies = Preset::ALL.iter().chain(&Preset::TRIVIAL);
        choices.extend(policies.filter_map(|preset| {
            let forms = preset.forms(self, self.scale.outline);
            self.weigh(forms).ok()
        }));
        // The blocks were weighed one at a time; now that they are together, some choices turn out to be dominated.
        choices.retain(|choice| choice.variance <= variance);
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

    /// The choices that the dynamic programme finds among these ways, variance having a price in seconds.
    fn best(&self, ways: &[&Way], price: f64) -> Vec<Choice> {
        let priced = ways.iter().map(|way| Arc {
            cost: way.arc.cost + price * way.variance,
            ..way.arc
        });
        let arcs: Vec<Arc> = priced.collect();
        let paths = undominated(self.blocks.count(), options::STATES, &arcs, FRONT_POINTS);
        let (every, count) = (paths.len().div_ceil(CURVE_POINTS).max(1), paths.len());
        let thinned = paths.iter().enumerate();
        let thinned = thinned.filter(|(at, _)| at % every == 0 || at + 1 == count);
        thinned
            .filter_map(|(_, path)| {
                let forms = path.arcs.iter().flat_map(|at| ways[*at].forms.clone());
                self.weigh(forms.collect()).ok()
            })
            .collect()
    }
}
