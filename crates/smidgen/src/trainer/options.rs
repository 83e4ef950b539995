use crate::Schedule;
use smidgen_data::{Augment, Normalization};
use std::path::PathBuf;

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerOptions {
    /// Passes over the training set.
    pub epochs: u32,
    /// Stop after so many steps in all, if that comes before the end of the epochs.
    pub steps: Option<u64>,
    /// Base learning rate.
    pub learning_rate: f64,
    /// How the rate goes over the run.
    pub schedule: Schedule,
    /// Of the order of the images, their augmentation and dropout.
    pub seed: u64,
    /// What is done to the images at random.
    pub augment: Augment,
    /// What is done to every image.
    pub normalization: Normalization,
    /// Where and how often to save.
    pub checkpoints: Option<Checkpoints>,
    /// Stop after so many evaluations without a better accuracy.
    pub patience: Option<u32>,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        Self {
            epochs: 1,
            steps: None,
            learning_rate: 0.1,
            schedule: Schedule::Cosine { warm_up: 0.0 },
            seed: 0,
            augment: Augment::default(),
            normalization: Normalization::colour(),
            checkpoints: None,
            patience: None,
        }
    }
}

/// Where and how often to save a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoints {
    /// The file that is replaced.
    pub path: PathBuf,
    /// Steps between two checkpoints; one is written at the end of every epoch and of the run in any case.
    pub every: u64,
    /// What must be the same for the run to go on bit for bit.
    pub run: serde_json::Value,
}
