//! What to change where no plan fits a budget.

use super::SessionOptions;
use super::fitting::{Question, is_met};
use super::micro_batches::parts_within;
use crate::Bytes;
use smidgen_gpu::DeviceFacts;
use smidgen_graph::Graph;
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
/// parts, a smaller batch, biased gradients, layers that do not learn.
pub(super) fn remedies(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    budget: Bytes,
) -> Vec<Remedy> {
    let limited = SessionOptions {
        budget: Some(budget),
        ..options.clone()
    };
    let mut found = Vec::new();
    let few = graph.trained_convolutions().len() <= FEW;
    if let Some(training) = options.training.as_ref().filter(|_| few) {
        let mut better = QUALITIES
            .into_iter()
            .filter(|quality| *quality > training.quality);
        let fitting = better.find(|quality| {
            let mut options = limited.clone();
            if let Some(training) = &mut options.training {
                training.quality = *quality;
            }
            is_met(graph, facts, &options, budget)
        });
        found.extend(fitting.map(Remedy::Quality));
    }
    let parts = parts_within(graph, facts, &limited);
    found.extend(parts.map(Remedy::MicroBatch));
    let largest = |about: &dyn Fn(u32) -> Option<(Graph, SessionOptions)>, high| {
        let question = Question {
            about,
            facts,
            budget,
        };
        question.largest(0, high)
    };
    let of_batch = |batch| Some((graph.clone(), limited.of_batch(batch, budget)));
    found.extend(largest(&of_batch, options.batch).map(Remedy::Batch));
    if few && options.training.is_some() {
        let count = graph.trained_convolutions().len() as u32;
        // Searched for by how many of them stay exact, and one more, as none is an answer.
        let filtering = |kept: u32| {
            let mut graph = graph.clone();
            let filters = graph.filter_last((count + 1 - kept) as usize, PATCH);
            (filters.is_ok() && graph.check_filters().is_ok()).then(|| (graph, limited.clone()))
        };
        if graph.filters().next().is_none() {
            let kept = largest(&filtering, count + 1);
            found.extend(kept.map(|kept| Remedy::FilterLast((count + 1 - kept) as usize)));
        }
        let training = |convolutions: u32| {
            let mut graph = graph.clone();
            let frozen = graph.train_last(convolutions as usize);
            frozen.is_ok().then(|| (graph, limited.clone()))
        };
        let trained = largest(&training, count);
        found.extend(trained.map(|convolutions| Remedy::TrainLast(convolutions as usize)));
    }
    found
}
