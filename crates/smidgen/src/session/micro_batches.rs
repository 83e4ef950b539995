//! Batches in parts, whose gradients are summed before the one update of a step.

use super::fitting::is_met;
use super::{Blueprint, Growth, Plans, SessionOptions};
use crate::{Bytes, Error};
use serde::Serialize;
use smidgen_gpu::DeviceFacts;
use smidgen_graph::Graph;

/// What a step takes that computes its batch in parts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MicroBatchPoint {
    /// Images of a part.
    pub images: u32,
    /// The least budget that any plan needs.
    pub least: Bytes,
    /// Predicted seconds of a step of the fastest plan, all parts together; under a budget, of the fastest within it, or of the smallest.
    pub seconds: f64,
}

impl SessionOptions {
    /// How often a step runs, and on how many images each time.
    pub(crate) fn parts(&self) -> Result<(u32, u32), Error> {
        let batch = self.batch;
        if batch == 0 {
            return Err(Error::EmptyBatch);
        }
        let training = self.training.as_ref();
        let planned = |plan: &super::PlanFile| plan.micro_batch();
        let micro_batch = training.and_then(|training| {
            (training.micro_batch).or_else(|| training.plan.as_ref().and_then(planned))
        });
        match micro_batch {
            None => Ok((1, batch)),
            Some(images) if images > 0 && batch.is_multiple_of(images) => {
                Ok((batch / images, images))
            }
            Some(images) => Err(Error::MicroBatch { images, batch }),
        }
    }

    /// Whether nothing says yet how it is divided, and it can be: a memory to rehearse from cannot, and growth by gradients.
    fn may_be_divided(&self) -> bool {
        self.training.as_ref().is_some_and(|training| {
            training.micro_batch.is_none()
                && training.plan.is_none()
                && training.examples.rehearsal.is_none()
                && training.growth == Growth::Random
        })
    }

    /// The same with another batch, in one piece, under a budget.
    pub(super) fn of_batch(&self, batch: u32, budget: Bytes) -> Self {
        let mut options = Self {
            batch,
            budget: Some(budget),
            ..self.clone()
        };
        if let Some(training) = &mut options.training {
            training.micro_batch = None;
        }
        options
    }

    /// The same with a step in parts of `images`.
    fn in_parts_of(&self, images: u32) -> Self {
        let mut options = self.clone();
        if let Some(training) = &mut options.training {
            training.micro_batch = Some(images);
        }
        options
    }

    /// Sizes of the parts that a batch can be computed in, largest first, each at most half of the one before.
    fn part_sizes(&self) -> Vec<u32> {
        let mut sizes = vec![self.batch];
        for images in (1..=self.batch / 2).rev() {
            let last = sizes[sizes.len() - 1];
            if self.batch.is_multiple_of(images) && images <= last / 2 {
                sizes.push(images);
            }
        }
        sizes.remove(0);
        sizes
    }
}

/// The images of a micro-batch, the most at which the step fits the budget (and every tensor the device), where it does not in one piece;
/// `None` where it does, or where no division helps. What [`Training::micro_batch`](super::Training::micro_batch) takes.
///
/// The gradient of the mean loss over the whole batch is the same, but for rounding, unless the network
/// [uses statistics of batches](Graph::uses_statistics_of_batches): these are then of a micro-batch.
///
/// # Errors
/// Options that name a micro-batch which does not make up the batch.
pub fn micro_batch_within(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
) -> Result<Option<u32>, Error> {
    options.parts()?;
    if !options.may_be_divided() || is_planned(graph, facts, options) {
        return Ok(None);
    }
    Ok(parts_within(graph, facts, options))
}

/// The same where the batch is known not to fit in one piece.
pub(super) fn parts_within(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
) -> Option<u32> {
    let sizes = options.may_be_divided().then(|| options.part_sizes())?;
    (sizes.into_iter()).find(|images| is_planned(graph, facts, &options.in_parts_of(*images)))
}

fn is_planned(graph: &Graph, facts: &DeviceFacts, options: &SessionOptions) -> bool {
    match options.budget {
        None => Blueprint::new(graph, facts, options).is_ok(),
        Some(budget) => is_met(graph, facts, options, budget),
    }
}

/// What computing the batch in parts takes, from large parts to small ones.
///
/// # Errors
/// As [`micro_batch_within`], or a network that cannot be planned.
pub fn micro_batch_points(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
) -> Result<Vec<MicroBatchPoint>, Error> {
    options.parts()?;
    if !options.may_be_divided() {
        return Ok(Vec::new());
    }
    let mut points = Vec::new();
    for images in options.part_sizes() {
        // A batch norm cannot learn from a single pixel.
        let Ok(plans) = Plans::new(graph, facts, &options.in_parts_of(images)) else {
            continue;
        };
        let table = plans.points()?;
        let within = |budget: Bytes| table.iter().find(|point| point.bytes <= budget);
        let fastest = match options.budget {
            Some(budget) => within(budget).or(table.last()),
            None => table.first(),
        };
        if let (Some(fastest), Some(least)) = (fastest, table.last()) {
            points.push(MicroBatchPoint {
                images,
                least: least.bytes,
                seconds: fastest.seconds,
            });
        }
    }
    Ok(points)
}
