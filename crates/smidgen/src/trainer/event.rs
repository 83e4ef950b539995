//! What a run tells.

use crate::{Metrics, StashBound};
use serde::Serialize;
use std::path::PathBuf;

/// What a run tells while it goes on.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step is done.
    Step {
        /// Its number, from 0.
        step: u64,
        /// Its epoch, from 0.
        epoch: u32,
        /// Steps of the whole run.
        steps: u64,
        /// Mean loss of the batch.
        loss: f64,
        /// Share of the batch classified rightly, 0 to 1.
        accuracy: f64,
        /// Learning rate of the step.
        learning_rate: f64,
        /// Images a second over the last steps.
        images_per_second: f64,
    },
    /// The errors that error-bounded codes reached in the last step of an epoch; told where the plan has any.
    Bounds {
        /// Steps done.
        step: u64,
        /// Of every stash in such a code.
        bounds: Vec<StashBound>,
    },
    /// The test set was evaluated.
    Evaluation {
        /// Steps done.
        step: u64,
        /// Mean loss.
        loss: f64,
        /// Share classified rightly, 0 to 1.
        accuracy: f64,
        /// Share with the label among the first five, 0 to 1.
        top5_accuracy: f64,
        /// Images evaluated.
        images: u64,
    },
    /// A batch of the test set was evaluated; told so that a caller can show it, or break.
    Evaluating {
        /// Images evaluated so far.
        images: u64,
        /// Images of the test set.
        of: u64,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Steps done.
        step: u64,
        /// The file.
        path: PathBuf,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Why it ended.
    pub end: End,
    /// Steps done, those of the run it went on from included.
    pub steps: u64,
    /// The last evaluation.
    pub evaluation: Option<Metrics>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All steps are done.
    Finished,
    /// The accuracy did not get better for too long.
    Stopped,
    /// The caller asked for it.
    Interrupted,
}

impl Event {
    /// The evaluation after `step` steps.
    pub(super) fn evaluation(step: u64, metrics: &Metrics) -> Self {
        Self::Evaluation {
            step,
            loss: metrics.loss(),
            accuracy: metrics.accuracy(),
            top5_accuracy: metrics.top5_accuracy(),
            images: metrics.images,
        }
    }
}
