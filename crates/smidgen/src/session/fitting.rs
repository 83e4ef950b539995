//! Whether a budget is met, by as little planning as that takes.

use super::SessionOptions;
use super::draft::Draft;
use super::plans::{Plans, policies};
use crate::tuning::{Measurements, Source};
use crate::{Bytes, Error};
use smidgen_gpu::DeviceFacts;
use smidgen_graph::Graph;
use smidgen_graph::forms::Forms;

/// A question with two answers, each about a number of images or layers: one that is found fast and hardly ever wrong, and one that
/// [sessions](super::Session) keep to.
pub(super) struct Question<'q> {
    pub(super) about: &'q dyn Fn(u32) -> Option<(Graph, SessionOptions)>,
    pub(super) facts: &'q DeviceFacts,
    pub(super) budget: Bytes,
}

impl Question<'_> {
    fn may_fit(&self, count: u32) -> bool {
        (self.about)(count)
            .is_some_and(|(graph, options)| may_fit(&graph, self.facts, &options, self.budget))
    }

    fn fits(&self, count: u32) -> bool {
        (self.about)(count)
            .is_some_and(|(graph, options)| fits(&graph, self.facts, &options, self.budget))
    }

    /// The largest that fits, above `low`, which does (or is 0), and below `high`, as the need grows with it.
    pub(super) fn largest(&self, low: u32, high: u32) -> Option<u32> {
        let found = largest(low, high, |count| self.may_fit(count)).unwrap_or(low);
        if found > low && !self.fits(found) {
            return largest(low, found, |count| self.fits(count));
        }
        if found + 1 < high && self.fits(found + 1) {
            return largest(found + 1, high, |count| self.fits(count));
        }
        (found > 0).then_some(found)
    }
}

/// The largest batch that a budget trains (or evaluates); `None` if not even one image fits. The batch of `options` is not looked
/// at; no more than `most` is tried.
///
/// # Errors
/// A network that cannot be planned for one image either.
pub fn largest_batch(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    budget: Bytes,
    most: u32,
) -> Result<Option<u32>, Error> {
    let of_batch = |batch| Some((graph.clone(), options.of_batch(batch, budget)));
    let question = Question {
        about: &of_batch,
        facts,
        budget,
    };
    let (mut low, mut high) = (0, 1);
    while high <= most && question.may_fit(high) {
        (low, high) = (high, high.saturating_mul(2));
    }
    let high = high.min(most.saturating_add(1));
    Ok(match question.largest(low, high) {
        Some(found) if found > low || question.fits(found) => Some(found),
        _ => question.largest(0, low),
    })
}

/// Whether a session is planned within the budget, which is asked in full only if it may be.
pub(super) fn is_met(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    budget: Bytes,
) -> bool {
    may_fit(graph, facts, options, budget) && fits(graph, facts, options, budget)
}

/// Whether a session is planned within the budget.
fn fits(graph: &Graph, facts: &DeviceFacts, options: &SessionOptions, budget: Bytes) -> bool {
    let plans = Plans::new(graph, facts, options);
    plans
        .and_then(|plans| plans.any_within(budget))
        .unwrap_or(false)
}

/// Whether keeping all or one of the lowest plans is within the budget.
fn may_fit(graph: &Graph, facts: &DeviceFacts, options: &SessionOptions, budget: Bytes) -> bool {
    one_fits(graph, facts, options, budget).unwrap_or(false)
}

fn one_fits(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    budget: Bytes,
) -> Result<bool, Error> {
    let rule = Measurements::default();
    let draft = Draft::new(graph, facts, options, Source::Measured(&rule))?;
    let whole = draft.blueprint(&Forms::new(), &draft.leanest)?;
    if whole.footprint().total() <= budget {
        return Ok(true);
    }
    let beside = whole.footprint.total().0 - whole.footprint.arena - whole.footprint.rounding;
    let floor = beside + whole.plan.programs[0].peak.persistent;
    let planner = draft.planner()?;
    let mut lowest = planner.lowest(draft.quality);
    lowest.extend(policies(&draft, &planner));
    for choice in (lowest.iter()).filter(|choice| floor + choice.height <= budget.0) {
        let blueprint = draft.blueprint(&choice.forms, &draft.leanest)?;
        if blueprint.footprint().total() <= budget {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The largest number that fits, above `low`, which does (or is 0), and below `high`, which does not: found by bisection.
pub(crate) fn largest(mut low: u32, mut high: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle
        } else {
            high = middle
        }
    }
    (low > 0).then_some(low)
}
