//! Which form for which stash: the curve of the least time over the bytes it takes.

mod blocks;
mod options;
mod part;
mod weigh;
mod workers;

use crate::chain::{Path, undominated};
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
const EXACT_POINTS: [usize; 2] = [512, 256];
const PRICED_POINTS: [usize; 2] = [160, 80];

/// What a variance of one may cost, in times of keeping everything, as powers of two (Everett's multipliers): from a price at which it is all but free to one
/// at which no more is bought than bytes ask for.
const PRICES: Range<i32> = -10..16;
/// So many prices are tried at a time.
const TOGETHER: usize = 2;

/// How many points a front has where only the lowest plans are wanted, how far above the lowest these are, as a part of it, and how many are given.
const LOW_POINTS: usize = 64;
const LOW_PART: u64 = 64;
const LOW_CHOICES: usize = 8;

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
    /// What is chosen among does not depend on the variance that is allowed, so that more of it never costs time: the price of variance is lowered until all
    /// that is bought exceeds what is allowed.
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
                let price = f64::from(power).exp2() * seconds;
                self.best(&lossy, price, PRICED_POINTS)
            };
            let powers: Vec<i32> = PRICES.rev().collect();
            let mut found = powers
                .chunks(TOGETHER)
                .flat_map(|powers| workers::each(powers.len(), |at| priced(powers[at])));
            let allowed = |choice: &Choice| choice.variance <= variance;
            let lossy = |choice: &&Choice| choice.variance > 0.0;
            let mut more = true;
            while more && let Some(found) = found.next() {
                let mut bought = found.iter().filter(lossy).peekable();
                more = bought.peek().is_none() || bought.any(allowed);
                choices.extend(found.into_iter().filter(allowed));
            }
        }
        // What others have published is not to be beaten by luck alone.
        let policies = Preset::ALL.iter().chain(&Preset::TRIVIAL);
        let unbiased = policies.filter(|preset| preset.is_unbiased());
        choices.extend(unbiased.filter_map(|preset| {
            let forms = preset.forms(self, &self.scale.outline);
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

    /// A few choices of at most this variance that are about as low as any, the lowest first: found in a part of the time that the [curve](Self::curve) takes, which may hold
    /// others that are packed lower.
    #[must_use]
    pub fn lowest(&self, variance: f64) -> Vec<Choice> {
        let ways = options::of_chain(&self.scale, &self.blocks);
        let count = self.blocks.count();
        let exact: Vec<&Way> = ways.iter().filter(|way| way.variance <= 0.0).collect();
        let (exact, arcs) = options::priced(&exact, 0.0);
        let least = undominated(count, options::STATES, &arcs, 2, u64::MAX);
        let ceiling = least
            .last()
            .map_or(0, |path| path.height + path.height / LOW_PART);
        let paths = undominated(count, options::STATES, &arcs, LOW_POINTS, ceiling);
        let mut found = self.weigh_paths(&exact, &paths, LOW_CHOICES);
        if variance > 0.0 && exact.len() < ways.len() {
            let seconds = self.weigh(Forms::new()).map_or(0.0, |whole| whole.seconds);
            let lossy: Vec<&Way> = ways.iter().collect();
            // At such a price as little variance is bought as a height asks for.
            let price = f64::from(PRICES.end).exp2() * seconds;
            found.extend(self.best(&lossy, price, PRICED_POINTS));
        }
        found.retain(|choice| choice.variance <= variance);
        found.sort_by_key(|choice| choice.height);
        found.truncate(LOW_CHOICES);
        found
    }

    /// The choices that the dynamic programme finds among these ways, variance having a price in seconds.
    fn best(&self, ways: &[&Way], price: f64, [front, most]: [usize; 2]) -> Vec<Choice> {
        let (ways, arcs) = options::priced(ways, price);
        let count = self.blocks.count();
        let mut paths = undominated(count, options::STATES, &arcs, front, u64::MAX);
        // Once more with all the points for what is about as low as the lowest: there the most depends on them.
        let ceiling = paths.last().map_or(0, |path| path.height / 4 * 5);
        paths.extend(undominated(count, options::STATES, &arcs, front, ceiling));
        self.weigh_paths(&ways, &paths, most)
    }

    /// About so many of these paths, among them the last.
    fn weigh_paths(&self, ways: &[&Way], paths: &[Path], most: usize) -> Vec<Choice> {
        let every = paths.len().div_ceil(most).max(1);
        let taken: Vec<&Path> = paths.iter().rev().step_by(every).collect();
        let weighed = workers::each(taken.len(), |at| {
            let forms = taken[at].arcs.iter().flat_map(|at| ways[*at].forms.clone());
            self.weigh(forms.collect()).ok()
        });
        weighed.into_iter().flatten().collect()
    }
}
