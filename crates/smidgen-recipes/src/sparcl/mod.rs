//! SparCL: sparse continual learning (Wang et al., "SparCL: Sparse Continual Learning on the Edge", NeurIPS 2022) with the replay of DER++
//! (Buzzega et al., "Dark Experience for General Continual Learning", NeurIPS 2020), on live blocks that are really all there is.
//!
//! Tasks come one after another. A memory on the device holds some pictures in bytes, with the logits they had; every batch learns a third
//! of new pictures, keeps the logits of another third as they were, and classifies the last third again. On top of that:
//! - **Task-aware dynamic masking**: a task begins with some blocks more; then, before each epoch, the least important blocks go and as
//!   many grow. Importance is the norm of the weight plus a factor times that of the gradient of the whole loss.
//! - **Dynamic data removal**: examples of the task that were forgotten least are left out, in stages.
//! - **Dynamic gradient masking**: every so many steps the gradients of all live blocks are computed; in between only those of the blocks
//!   where they were largest. The weight gradient skips the others.
//!
//! Kept from the authors' code: the loss and its weights, the logits of other tasks left out of the softmax of new pictures, plain SGD without
//! momentum or decay, one term of importance with the factor 0.5. Different: blocks instead of single weights, with the same number in every
//! output group; the gradient of importance is of a step in which no gradient was masked; all three parts of a batch pass together, so
//! they share the statistics of batch norms; the memory is used from the second step of the first task on, as DER++ does.

mod masks;
mod reservoir;

use crate::removal::{Choice, remove};
use reservoir::Reservoir;
use smidgen::data::{Augment, Batch, Dataset, IGNORE_LABEL, Loader, Normalization};
use smidgen::{
    Error, ExampleMemory, Graph, NO_SLOT, Optimizer, Rehearsal, Session, SparseLayer, StepOptions,
    Training, class_range,
};
use std::ops::Range;
use std::sync::Arc;

/// How the masks of sparse layers change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Masking {
    /// The density that masks come back to.
    pub density: f64,
    /// Of all blocks, how many a task begins with beyond that, and how many change before an epoch; 0.01 as published.
    pub share: f64,
    /// Factor of the norm of the gradient; 0.5 as published.
    pub alpha: f64,
}

impl Masking {
    /// The largest density of any stage: what there must be slots for.
    #[must_use]
    pub fn most(&self) -> f64 {
        (self.density + self.share).min(1.0)
    }
}

/// Which examples of a task are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DataRemoval {
    /// The share of a task's examples that is gone at the end of its stages: 0.3 as published.
    pub share: f64,
    /// Which go.
    pub choice: Choice,
}

/// Which gradients are computed between two steps that compute all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientMask {
    /// The share of live blocks: 0.8 as published.
    pub share: f64,
    /// Steps from one choice to the next: 30 as published.
    pub interval: u64,
    /// Which.
    pub pick: Pick,
}

/// How blocks are picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Those of the largest gradient.
    Largest,
    /// Any: the control.
    Random,
}

/// What SparCL is to do; each part can be left out.
#[derive(Debug, Clone, PartialEq)]
pub struct SparclOptions {
    /// Slots of the memory; `None` for no replay, which is plain fine-tuning.
    pub memory: Option<u32>,
    /// Weights of the distance from the logits that were kept and of the repeated cross entropy: 0.1 and 0.5 as published.
    pub weights: [f32; 2],
    /// Task-aware dynamic masking; `None` for a mask that stays, or a dense network.
    pub masking: Option<Masking>,
    /// Dynamic data removal.
    pub removal: Option<DataRemoval>,
    /// Dynamic gradient masking.
    pub gradient: Option<GradientMask>,
    /// New pictures of a batch.
    pub batch: u32,
    /// Passes over the pictures of a task.
    pub epochs: u32,
    /// Learning rate, the same throughout: 0.03 as published.
    pub learning_rate: f32,
    /// What is done to every picture.
    pub normalization: Normalization,
    /// Of the order of the pictures, what grows and what the memory holds.
    pub seed: u64,
}

impl SparclOptions {
    /// Pictures of a batch of the session: with a memory, three times as many as are new.
    #[must_use]
    pub fn session_batch(&self) -> u32 {
        (self.batch).saturating_mul(if self.memory.is_some() { 3 } else { 1 })
    }

    /// How the session has to train, on so many examples in all.
    #[must_use]
    pub fn training(&self, examples: u32) -> Training {
        let Normalization { mean, deviation } = &self.normalization;
        let padded = |values: &[f32], fill: f32| {
            std::array::from_fn(|channel| values.get(channel).copied().unwrap_or(fill))
        };
        let rehearsal = self.memory.map(|slots| Rehearsal {
            slots,
            distillation: self.weights[0],
            repetition: self.weights[1],
            to_bytes: [padded(deviation, 1.0), padded(mean, 0.0)],
        });
        Training {
            optimizer: Optimizer::Sgd {
                momentum: 0.0,
                nesterov: false,
                weight_decay: 0.0,
            },
            keep_gradients: self.masking.is_some() || self.gradient.is_some(),
            examples: ExampleMemory {
                counted: if self.removal.is_some() { examples } else { 0 },
                rehearsal,
            },
            ..Training::default()
        }
    }
}

/// What a task took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskReport {
    /// Steps.
    pub steps: u64,
    /// Gradients of blocks that were computed, and that would have been without a mask.
    pub gradients: [u64; 2],
}

/// Learns tasks one after another.
pub struct Sparcl<'s> {
    session: &'s mut Session,
    layers: Vec<SparseLayer>,
    options: SparclOptions,
    reservoir: Reservoir,
    loader: Loader,
    step: u64,
    epoch: u64,
    /// Gradients of blocks that a step with a mask computes, and those that one without does.
    chosen: [u64; 2],
}

const NAME: &str = "sparcl";

fn wrong(what: String) -> Error {
    Error::Recipe { name: NAME, what }
}

impl<'s> Sparcl<'s> {
    /// For a session made with [`SparclOptions::session_batch`] and [`SparclOptions::training`], and for all the pictures of all tasks.
    ///
    /// # Errors
    /// A session that was made otherwise, a share that is none, or slots for less than the masks grow to.
    pub fn new(
        session: &'s mut Session,
        graph: &Graph,
        train: Arc<dyn Dataset>,
        options: SparclOptions,
    ) -> Result<Self, Error> {
        let layers = graph.sparse_layers();
        let expected = options.training(train.len() as u32).examples;
        if session.batch() != options.session_batch() || session.examples() != expected {
            return Err(wrong(
                "the session was made for another batch or memory; use `session_batch` and `training` of the options".into(),
            ));
        }
        let shares = [
            options.masking.map(|masking| masking.density),
            options.masking.map(|masking| masking.share),
            options.removal.map(|removal| removal.share),
            options.gradient.map(|gradient| gradient.share),
        ];
        if let Some(share) = shares
            .into_iter()
            .flatten()
            .find(|s| !(0.0..=1.0).contains(s))
        {
            return Err(wrong(format!("a share of {share} is not from 0 to 1")));
        }
        if let Some(masking) = options.masking {
            if masking.density == 0.0 {
                return Err(wrong(
                    "a density of 0 is outside (0, 1]; give the share of weights that stay, such as 0.1".into(),
                ));
            }
            if !masking.alpha.is_finite() {
                return Err(wrong(format!(
                    "a factor of {} of the gradient is not finite; give one such as 0.5",
                    masking.alpha
                )));
            }
        }
        if options
            .gradient
            .is_some_and(|gradient| gradient.interval == 0)
        {
            return Err(wrong(
                "gradients chosen every 0 steps; give at least 1".into(),
            ));
        }
        if options.masking.is_some() && options.epochs < 2 {
            return Err(wrong(
                "masks come back to their density before the last epoch of a task; give at least two epochs".into(),
            ));
        }
        if layers.is_empty() && (options.masking.is_some() || options.gradient.is_some()) {
            return Err(wrong("the network has no sparse layers to mask".into()));
        }
        if let Some(masking) = options.masking {
            for layer in &layers {
                let most = f64::from(layer.candidates) * (masking.most() * layer.share).min(1.0);
                if most.round() > f64::from(layer.blocks.slots) {
                    return Err(wrong(format!(
                        "`{}` grows to {most:.0} blocks an output group, which has slots for {}; plan for a largest density of {}",
                        layer.name,
                        layer.blocks.slots,
                        masking.most()
                    )));
                }
            }
        }
        let loader = Loader::training(
            train,
            options.batch as usize,
            options.normalization.clone(),
            Augment::default(),
            options.seed,
        )?;
        Ok(Self {
            session,
            layers,
            reservoir: Reservoir::new(options.memory.unwrap_or(0), options.seed),
            loader,
            options,
            step: 0,
            epoch: 0,
            chosen: [0, 0],
        })
    }

    /// The session, to be evaluated between tasks.
    pub fn session(&mut self) -> &mut Session {
        self.session
    }

    /// Learns the pictures with these numbers, which are of these classes.
    ///
    /// # Errors
    /// Fewer pictures than a batch, classes that the network does not have, damaged data, a loss that is not finite, or the device failed.
    pub fn learn(&mut self, pictures: &[u32], classes: Range<u16>) -> Result<TaskReport, Error> {
        if u32::from(classes.end) > self.session.graph().classes() || classes.is_empty() {
            return Err(wrong(format!("the network has no classes {classes:?}")));
        }
        let examples = self.loader.dataset().len();
        if let Some(beyond) = pictures.iter().find(|at| **at as usize >= examples) {
            return Err(wrong(format!(
                "there is no picture {beyond}; the data set has {examples}"
            )));
        }
        let mut report = TaskReport::default();
        let mut left = pictures.to_vec();
        for epoch in 0..self.options.epochs {
            if left.len() < self.options.batch as usize {
                return Err(wrong(format!(
                    "{} pictures are left of a task, fewer than a batch of {}",
                    left.len(),
                    self.options.batch
                )));
            }
            self.mask(epoch)?;
            let batches = left.len() as u64 / u64::from(self.options.batch);
            for (at, batch) in self.loader.epoch_of(&left, self.epoch, 0).enumerate() {
                let (batch, last) = (batch?, at as u64 + 1 == batches);
                self.step(&batch, &classes, last, &mut report)?;
                self.loader.recycle(batch);
            }
            self.epoch += 1;
            self.remove(epoch, pictures.len(), &mut left)?;
        }
        Ok(report)
    }

    /// Task-aware dynamic masking before an epoch of a task.
    fn mask(&mut self, epoch: u32) -> Result<(), Error> {
        // Before the first step there is no gradient to tell what is important; all slots are filled.
        let Some(masking) = self.options.masking.filter(|_| self.step > 0) else {
            return Ok(());
        };
        let last = self.options.epochs.div_ceil(10).max(1);
        let Masking { density, share, .. } = masking;
        let [keep, live] = if epoch == 0 {
            [density, masking.most()]
        } else if epoch + last >= self.options.epochs {
            [density, density]
        } else {
            [(density - share).max(0.0), density]
        };
        for (at, layer) in self.layers.iter().enumerate() {
            let counts = [layer.live(keep), layer.live(live)];
            let seed = self.options.seed ^ (self.epoch << 16 | at as u64);
            masks::mutate(self.session, layer, counts, masking.alpha, seed)?;
        }
        Ok(())
    }

    /// Dynamic data removal after an epoch of a task: in equal parts after each of the first two fifths of its epochs, as published.
    fn remove(&mut self, epoch: u32, all: usize, left: &mut Vec<u32>) -> Result<(), Error> {
        let stages = (self.options.epochs * 2).div_ceil(5);
        let Some(removal) = self.options.removal.filter(|_| epoch < stages) else {
            return Ok(());
        };
        let gone = |stages_done: u32| {
            (all as f64 * removal.share * f64::from(stages_done) / f64::from(stages)).round()
                as usize
        };
        let mut records = self.session.example_records()?;
        let mut own: Vec<_> = left
            .iter()
            .map(|picture| records[*picture as usize])
            .collect();
        let seed = self.options.seed ^ self.epoch << 32;
        remove(
            &mut own,
            gone(epoch + 1) - gone(epoch),
            removal.choice,
            seed,
        );
        for (picture, record) in left.iter().zip(&own) {
            records[*picture as usize] = *record;
        }
        self.session.set_example_records(&records)?;
        let mut own = own.iter();
        left.retain(|_| own.next().is_some_and(|record| !record.is_removed()));
        Ok(())
    }

    fn step(
        &mut self,
        batch: &Batch,
        classes: &Range<u16>,
        last_of_epoch: bool,
        report: &mut TaskReport,
    ) -> Result<(), Error> {
        // The last step of an epoch tells what is important, so it masks no gradient.
        let whole = (self.options.gradient)
            .map(|gradient| last_of_epoch || self.step.is_multiple_of(gradient.interval));
        if whole == Some(true) {
            for layer in &self.layers {
                self.session.choose_gradients(&layer.name, |_| true)?;
            }
        }
        let options = StepOptions {
            step: self.step,
            learning_rate: self.options.learning_rate,
            seed: self.step as u32,
        };
        let (images, words) = self.upload(batch, classes);
        self.session.train_step(&images, &words, &options)?;
        let metrics = self.session.metrics()?;
        if metrics.is_none_or(|metrics| !metrics.loss_sum.is_finite()) {
            let place = "the loss itself".to_owned();
            return Err(Error::NotFinite {
                step: self.step,
                place,
            });
        }
        self.count_gradients(whole, report)?;
        self.step += 1;
        report.steps += 1;
        Ok(())
    }

    /// Counts the gradients of a step, and chooses those of the next ones after a step that had all.
    fn count_gradients(
        &mut self,
        whole: Option<bool>,
        report: &mut TaskReport,
    ) -> Result<(), Error> {
        let Some(gradient) = self.options.gradient else {
            return Ok(());
        };
        if whole == Some(true) {
            let mut chosen = [0, 0];
            for (at, layer) in self.layers.iter().enumerate() {
                let seed = self.options.seed ^ (self.step << 8 | at as u64);
                let counts = masks::choose_gradients(self.session, layer, &gradient, seed)?;
                chosen = [chosen[0] + counts[0], chosen[1] + counts[1]];
            }
            self.chosen = chosen;
        }
        let [chosen, all] = self.chosen;
        report.gradients[0] += if whole == Some(true) { all } else { chosen };
        report.gradients[1] += all;
        Ok(())
    }

    /// A batch as the session wants it: new pictures, and where it rehearses, room for as many more twice.
    fn upload(&mut self, batch: &Batch, classes: &Range<u16>) -> (Vec<f32>, Vec<u32>) {
        let fresh = batch.labels.len();
        if self.options.memory.is_none() {
            let counted = self.session.examples().counted > 0;
            let words = if counted {
                batch.words()
            } else {
                batch.labels.clone()
            };
            return (batch.images.clone(), words);
        }
        // The first pictures of every plane are new. Places for others hold the new ones too, so that batch norms see pictures while the
        // memory is empty.
        let planes = self.session.graph().input_shape()[0].div_ceil(4) as usize;
        let mut images = Vec::with_capacity(batch.images.len() * 3);
        for plane in batch.images.chunks_exact(batch.images.len() / planes) {
            (0..3).for_each(|_| images.extend_from_slice(plane));
        }
        let everything = 0..self.session.graph().classes() as u16;
        let mut labels = batch.labels.clone();
        let mut slots = vec![NO_SLOT; fresh];
        let mut ranges = vec![class_range(classes.clone()); fresh];
        for _ in 0..2 * fresh {
            let (slot, label) = self.reservoir.draw().unwrap_or((NO_SLOT, IGNORE_LABEL));
            labels.push(label);
            slots.push(slot);
            ranges.push(class_range(everything.clone()));
        }
        let mut taken = Vec::new();
        for (slot, label) in slots.iter_mut().zip(&batch.labels) {
            *slot = self.reservoir.offer(*label, &mut taken).unwrap_or(NO_SLOT);
        }
        let mut examples = batch.examples.clone();
        examples.resize(3 * fresh, IGNORE_LABEL);
        (images, [labels, examples, slots, ranges].concat())
    }
}
