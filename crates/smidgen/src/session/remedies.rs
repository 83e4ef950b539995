//! What to change where no plan fits a budget.

use super::draft::Draft;
use super::plans::{Plans, fits, largest};
use super::{SessionOptions, micro_batch_within};
use crate::Bytes;
use crate::tuning::{Measurements, Source};
use smidgen_gpu::DeviceFacts;
use smidgen_graph::Graph;
use smidgen_graph::forms::Forms;
use std::fmt;

/// Qualities worth asking for: about that of 8, 4 and 2 bits.
const QUALITIES: [f64; 3] = [1e-4, 0.02, 0.6];
/// Trained convolutions up to which more than a smaller batch is proposed: planning a deeper network anew for each proposal takes minutes.
const FEW: usize = 24;
/// Rows and columns of the patches that are proposed.
const PATCH: u32 = 2;

/// A change with which a budget would be met.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Remedy {
    /// Stashes in fewer bits: the least [quality](super::Training::quality) of those tried.
    Quality(f64),
    /// The largest [micro-batch](super::Training::micro_batch) with which the batch fits.
    MicroBatch(u32),
    /// The largest batch.
    Batch(u32),
    /// Filtered gradients of the last convolutions, as few as a bisection finds, by patches of 2.
    FilterLast(usize),
    /// Training only the last convolutions and what follows them, the most.
    TrainLast(usize),
}

impl fmt::Display for Remedy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quality(quality) => write!(formatter, "a quality of {quality}"),
            Self::MicroBatch(images) => write!(formatter, "micro-batches of {images}"),
            Self::Batch(images) => write!(formatter, "a batch of {images}"),
            Self::FilterLast(count) => {
                write!(
                    formatter,
                    "filtered gradients of the last {count} convolutions"
                )
            }
            Self::TrainLast(count) => write!(formatter, "training the last {count} convolutions"),
        }
    }
}

/// What would meet a budget that no plan meets, each change by itself; for deep networks only the same batch in parts and a smaller batch. What costs the least comes first: noise that is zero on the mean, the same batch in
/// parts, a smaller batch, biased gradients, layers that do not learn. `smallest` are the forms of the plan that needs the least.
pub(super) fn remedies(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    budget: Bytes,
    smallest: &Forms,
) -> Vec<Remedy> {
    let mut found = Vec::new();
    let few = graph.trained_convolutions().len() <= FEW;
    if let Some(training) = options.training.as_ref().filter(|_| few) {
        let better = QUALITIES
            .into_iter()
            .filter(|quality| *quality > training.quality);
        let mut fitting = better.filter(|quality| {
            let mut options = options.clone();
            if let Some(training) = &mut options.training {
                training.quality = *quality;
            }
            meets(graph, facts, &options, budget)
        });
        found.extend(fitting.next().map(Remedy::Quality));
    }
    let limited = SessionOptions {
        budget: Some(budget),
        ..options.clone()
    };
    let parts = micro_batch_within(graph, facts, &limited).unwrap_or_default();
    found.extend(parts.map(Remedy::MicroBatch));
    let planned = |batch| fits(graph, facts, options, batch, budget);
    let batch = largest(0, options.batch, |batch| {
        fits_in(graph, facts, options, (batch, budget), smallest) || planned(batch)
    });
    let batch = match batch {
        Some(found) if !planned(found) => largest(0, found, planned),
        found => found,
    };
    found.extend(batch.map(Remedy::Batch));
    if few && options.training.is_some() {
        found.extend(filtered(graph, facts, options, budget).map(Remedy::FilterLast));
        found.extend(trained(graph, facts, options, budget).map(Remedy::TrainLast));
    }
    found
}

/// Whether a batch fits with stashes held in these forms, which takes no planning.
fn fits_in(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    (batch, budget): (u32, Bytes),
    forms: &Forms,
) -> bool {
    let mut options = SessionOptions {
        batch,
        budget: Some(budget),
        ..options.clone()
    };
    if let Some(training) = &mut options.training {
        training.micro_batch = None;
    }
    let rule = Measurements::default();
    let blueprint = Draft::new(graph, facts, &options, Source::Measured(&rule))
        .and_then(|draft| draft.blueprint(forms, &draft.leanest));
    blueprint.is_ok_and(|blueprint| blueprint.footprint().total() <= budget)
}

fn meets(graph: &Graph, facts: &DeviceFacts, options: &SessionOptions, budget: Bytes) -> bool {
    let least = Plans::new(graph, facts, options).and_then(|plans| plans.least());
    least.is_ok_and(|least| least.footprint().total() <= budget)
}

/// A few convolutions at the end whose filtered gradients meet the budget.
fn filtered(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    budget: Bytes,
) -> Option<usize> {
    let count = graph.trained_convolutions().len() as u32;
    let exact = |kept: u32| {
        let mut graph = graph.clone();
        let filters = graph.filter_last((count - kept) as usize, PATCH);
        filters.is_ok() && graph.check_filters().is_ok() && meets(&graph, facts, options, budget)
    };
    // Searched for by how many of them stay exact.
    let none = graph.filters().next().is_none();
    let kept = (none && count > 0 && exact(0)).then(|| largest(0, count, exact).unwrap_or(0));
    kept.map(|kept| (count - kept) as usize)
}

/// The most convolutions that can be trained within the budget.
fn trained(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    budget: Bytes,
) -> Option<usize> {
    let count = graph.trained_convolutions().len() as u32;
    let last = |convolutions: u32| {
        let mut graph = graph.clone();
        let frozen = graph.train_last(convolutions as usize);
        frozen.is_ok() && meets(&graph, facts, options, budget)
    };
    largest(0, count, last).map(|convolutions| convolutions as usize)
}
