//! Which form for which stash: the curve of the least time over the bytes it takes.

mod blocks;
mod options;
mod weigh;
mod workers;

use crate::chain::undominated;
use crate::costs::Costs;
use crate::preset::Preset;
use blocks::Blocks;
use options::Way;
use serde::{Deserialize, Serialize};
use smidgen_graph::forms::{Form, FormError, Forms, Outline};
use smidgen_graph::{Program, ValueId};
use std::ops::Range;
use weigh::Scale;

/// How many points a front of the dynamic programme may have, and about how many choices it gives; of exact ways, and at each price of variance.
const EXACT_POINTS: [usize; 2] = [512, 160];
const PRICED_POINTS: [usize; 2] = [160, 80];

/// What a variance of one may cost, in times of keeping everything, as powers of four (Everett's multipliers): from prices at which nobody buys any to
/// one at which it is all but free.
const PRICES: Range<i32> = -5..12;
/// So many prices are tried at a time.
const TOGETHER: usize = 2;

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

    /// The choices of at most this variance of which no other is as low, as fast and as exact; the fastest first.
    ///
    /// What is chosen among does not depend on the variance that is allowed, so that more of it never costs time: a price of variance is sought by
    /// bisection at which some is first bought, and lowered until all that is bought exceeds what is allowed.
    #[must_use]
    pub fn curve(&self, variance: f64) -> Vec<Choice> {
        let ways = options::of_chain(&self.scale, &self.blocks);
        let whole = self.weigh(Forms::new());
        let seconds = whole.as_ref().map_or(0.0, |choice| choice.seconds);
        let mut choices: Vec<Choice> = whole.into_iter().collect();
        let exact: Vec<&Way> = ways.iter().filter(|way| way.variance <= 0.0).collect();
        choices.extend(self.best(&exact, 0.0, EXACT_POINTS));
        if exact.len() < ways.len() {
            let lossy: Vec<&Way> = ways.iter().collect();
            let priced = |power: i32| {
                let price = f64::from(2 * power).exp2() * seconds;
                self.best(&lossy, price, PRICED_POINTS)
            };
            let Range { mut start, mut end } = PRICES;
            while end - start > 1 {
                let middle = start + (end - start) / 2;
                if priced(middle).iter().any(|choice| choice.variance > 0.0) {
                    start = middle;
                } else {
                    end = middle;
                }
            }
            let powers: Vec<i32> = (PRICES.start..=start).rev().collect();
            let mut found = powers
                .chunks(TOGETHER)
                .flat_map(|powers| workers::each(powers.len(), |at| priced(powers[at])));
            let allowed = |choice: &Choice| (0.0..=variance).contains(&choice.variance);
            let bought = |choice: &Choice| choice.variance > 0.0 && allowed(choice);
            let mut more = true;
            while more && let Some(found) = found.next() {
                more = found.iter().any(bought);
                choices.extend(found.into_iter().filter(allowed));
            }
        }
        // What others have published is not to be beaten by luck alone.
        let policies = Preset::ALL.iter().chain(&Preset::TRIVIAL);
        let unbiased = policies.filter(|preset| preset.is_unbiased());
        choices.extend(unbiased.filter_map(|preset| {
            let forms = preset.forms(self, self.scale.outline);
            self.weigh(forms).ok()
        }));
        choices.retain(|choice| choice.variance <= variance);
        // The blocks were weighed one at a time; now that they are together, some choices turn out to be dominated.
        choices.sort_by(|left, right| {
            (left.seconds.total_cmp(&right.seconds))
                .then(left.height.cmp(&right.height))
                .then(left.variance.total_cmp(&right.variance))
        });
        let mut found: Vec<Choice> = Vec::new();
        for choice in choices {
            let beats = |faster: &Choice| {
                faster.height <= choice.height && faster.variance <= choice.variance
            };
            if !found.iter().any(beats) {
                found.push(choice);
            }
        }
        found
    }

    /// The choices that the dynamic programme finds among these ways, variance having a price in seconds.
    fn best(&self, ways: &[&Way], price: f64, [front, most]: [usize; 2]) -> Vec<Choice> {
        let (ways, arcs) = options::priced(ways, price);
        let paths = undominated(self.blocks.count(), options::STATES, &arcs, front);
        let (every, count) = (paths.len().div_ceil(most).max(1), paths.len());
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
