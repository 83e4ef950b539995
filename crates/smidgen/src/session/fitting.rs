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
    pub(super) fn may_fit(&self, count: u32) -> bool {
        (self.about)(count)
            .is_some_and(|(graph, options)| may_fit(&graph, self.facts, &options, self.budget))
    }

    pub(super) fn fits(&self, count: u32) -> bool {
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

/// Whether a session is planned within the budget.
pub(super) fn fits(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    budget: Bytes,
) -> bool {
    let plans = Plans::new(graph, facts, options);
    plans
        .and_then(|plans| plans.seconds_within(budget))
        .is_ok_and(|seconds| seconds.is_some())
}

/// Whether keeping all or one of the lowest plans is within the budget.
pub(super) fn may_fit(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    budget: Bytes,
) -> bool {
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
