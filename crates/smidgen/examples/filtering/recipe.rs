//! How much is trained, and how.

use serde::Serialize;
use smidgen::data::{Augment, Normalization};
use smidgen::{Optimizer, Schedule, TrainerOptions, Training};

/// How a network is trained: SGD, a rate that rises over half an epoch and falls along a cosine, pictures shifted and mirrored at random.
#[derive(Serialize)]
pub(crate) struct Recipe {
    pub(crate) pictures: usize,
    pub(crate) epochs: u32,
    pub(crate) batch: u32,
    pub(crate) learning_rate: f64,
    pub(crate) momentum: f32,
    pub(crate) weight_decay: f32,
    pub(crate) clip_norm: Option<f32>,
}

impl Recipe {
    pub(crate) fn training(&self) -> Training {
        Training {
            optimizer: Optimizer::Sgd {
                momentum: self.momentum,
                nesterov: false,
                weight_decay: self.weight_decay,
            },
            clip_norm: self.clip_norm,
            ..Training::default()
        }
    }

    pub(crate) fn trainer(&self, seed: u64, normalization: Normalization) -> TrainerOptions {
        TrainerOptions {
            epochs: self.epochs,
            learning_rate: self.learning_rate,
            schedule: Schedule::Cosine { warm_up: 0.5 },
            seed,
            augment: Augment {
                crop: true,
                flip: true,
            },
            normalization,
            ..TrainerOptions::default()
        }
    }
}

/// How much is run.
#[derive(Serialize)]
pub(crate) struct Size {
    pub(crate) pretraining: Recipe,
    pub(crate) tuning: Recipe,
    /// Test pictures, at most.
    pub(crate) tested: usize,
    /// Of fine-tuning.
    pub(crate) seeds: &'static [u64],
}

pub(crate) const WHOLE: Size = Size {
    pretraining: Recipe {
        pictures: 6000,
        epochs: 6,
        batch: 50,
        learning_rate: 0.1,
        momentum: 0.9,
        weight_decay: 5e-4,
        clip_norm: None,
    },
    tuning: Recipe {
        pictures: 4000,
        epochs: 3,
        batch: 25,
        learning_rate: 0.05,
        momentum: 0.9,
        weight_decay: 1e-4,
        clip_norm: Some(5.0),
    },
    tested: 1200,
    seeds: &[1, 2, 3],
};

pub(crate) const QUICK: Size = Size {
    pretraining: Recipe {
        pictures: 200,
        epochs: 1,
        ..WHOLE.pretraining
    },
    tuning: Recipe {
        pictures: 100,
        epochs: 1,
        ..WHOLE.tuning
    },
    tested: 100,
    seeds: &[1],
};
