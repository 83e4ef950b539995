mod calendar;
mod evaluation;
mod event;
mod options;
mod pace;
mod recipe;

use crate::{Error, Progress, STEPS_IN_FLIGHT, Session, StepOptions, checkpoint};
use calendar::Calendar;
pub use calendar::Remaining;
use evaluation::check_data;
pub use evaluation::evaluate;
pub use event::{End, Event, Summary};
pub use options::{Checkpoints, TrainerOptions};
use pace::Pace;
pub use recipe::Recipe;
use smidgen_data::{Batch, Dataset, Epoch, Loader};
use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Trains a network on a data set: epochs, learning rate, evaluation, checkpoints.
///
/// ```no_run
/// use smidgen::{Trainer, TrainerOptions};
/// # fn example(mut session: smidgen::Session) -> Result<(), smidgen::Error> {
/// let shapes: smidgen::data::DataSource = "shapes".parse()?;
/// let mut trainer = Trainer::new(&mut session, shapes.open(smidgen::data::Split::Train)?, None, TrainerOptions::default())?;
/// let summary = trainer.run(|event| { println!("{event:?}"); std::ops::ControlFlow::Continue(()) })?;
/// # Ok(())
/// # }
/// ```
pub struct Trainer<'s> {
    session: &'s mut Session,
    train: Loader,
    test: Option<Loader>,
    options: TrainerOptions,
    progress: Progress,
    underway: VecDeque<(u64, f64)>,
    pace: Pace,
    recipes: Vec<Box<dyn Recipe>>,
    calendar: Calendar,
    /// The examples that are left, where some were removed.
    kept: Option<Vec<u32>>,
    /// What the checkpoint holds, so that none is written twice.
    saved: Option<Progress>,
}

impl<'s> Trainer<'s> {
    /// A run from the start, on `train`, evaluated on `test` after every epoch.
    ///
    /// # Errors
    /// Data that does not fit the network, or a training set smaller than a batch.
    pub fn new(
        session: &'s mut Session,
        train: Arc<dyn Dataset>,
        test: Option<Arc<dyn Dataset>>,
        options: TrainerOptions,
    ) -> Result<Self, Error> {
        check_data(session, train.as_ref())?;
        let counted = session.examples().counted as usize;
        if counted > 0 && counted != train.len() {
            return Err(Error::ExampleCount {
                counted,
                examples: train.len(),
            });
        }
        let batch = session.batch() as usize;
        let calendar = Calendar::new(u64::from(options.epochs), train.len(), batch, &[]);
        let normalization = &options.normalization;
        let train = Loader::training(
            train,
            batch,
            normalization.clone(),
            options.augment,
            options.seed,
        )?;
        let test = test
            .map(|test| {
                check_data(session, test.as_ref())?;
                Ok::<_, Error>(Loader::evaluation(test, batch, normalization.clone())?)
            })
            .transpose()?;
        let run = options
            .checkpoints
            .as_ref()
            .map_or(serde_json::Value::Null, |checkpoints| {
                checkpoints.run.clone()
            });
        let progress = Progress {
            model: session.graph().name().to_owned(),
            step: 0,
            run,
            best: None,
            evaluation: None,
        };
        Ok(Self {
            session,
            train,
            test,
            options,
            progress,
            underway: VecDeque::new(),
            pace: Pace::default(),
            recipes: Vec::new(),
            calendar,
            kept: None,
            saved: None,
        })
    }

    /// The same run with a recipe, which acts after those it has.
    ///
    /// # Errors
    /// Recipes that would leave fewer examples than a batch has, or that cannot act on this session.
    pub fn with_recipe(mut self, recipe: impl Recipe + 'static) -> Result<Self, Error> {
        recipe.check(self.session)?;
        self.recipes.push(Box::new(recipe));
        let examples = self.train.dataset().len();
        let removals = self.recipes.iter().map(|recipe| recipe.removals(examples));
        let mut removals = removals.collect::<Vec<_>>().concat();
        removals.sort_by_key(|remaining| (remaining.epoch, usize::MAX - remaining.examples));
        let (epochs, batch) = (
            u64::from(self.options.epochs),
            self.session.batch() as usize,
        );
        if let Some(fewest) = removals.iter().map(|remaining| remaining.examples).min()
            && fewest < batch
        {
            return Err(Error::TooFewExamples { fewest, batch });
        }
        self.calendar = Calendar::new(epochs, examples, batch, &removals);
        Ok(self)
    }

    /// Goes on from the checkpoint of the options' path, and tells how many steps are done.
    ///
    /// # Errors
    /// No checkpoint, a damaged one, or one of another network or run.
    pub fn resume(&mut self) -> Result<u64, Error> {
        let Some(checkpoints) = &self.options.checkpoints else {
            return Ok(0);
        };
        let path = checkpoints.path.clone();
        let noted = checkpoint::progress(&path)?;
        if noted.run != checkpoints.run {
            let what = format!(
                "it was written by a run with other settings: {}",
                differences(&noted.run, &checkpoints.run)
            );
            return Err(Error::Checkpoint { path, what });
        }
        self.progress = checkpoint::load(self.session, &path)?;
        self.saved = Some(self.progress.clone());
        Ok(self.progress.step)
    }

    /// Steps of the whole run.
    #[must_use]
    pub fn steps(&self) -> u64 {
        let all = self.calendar.steps();
        self.options.steps.map_or(all, |steps| steps.min(all))
    }

    /// How far the run has come.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Trains to the end, or until `on_event` breaks: then the step under way is finished and a checkpoint written.
    ///
    /// # Errors
    /// A loss that is not finite (with the step and layer), damaged data, a failed device, a checkpoint that cannot be written.
    pub fn run(
        &mut self,
        mut on_event: impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<Summary, Error> {
        let steps = self.steps();
        let end = loop {
            // Comes first, so that a run that was interrupted before an evaluation makes up for it.
            if self.is_evaluation_due() && self.evaluate(&mut on_event)?.is_break() {
                break End::Interrupted;
            }
            if self.progress.step >= steps {
                break End::Finished;
            }
            if self.is_out_of_patience() {
                break End::Stopped;
            }
            let at_start_of_epoch = self.calendar.begins_epoch(self.progress.step);
            let saved = at_start_of_epoch && self.progress.step > 0;
            if saved && self.save(&mut on_event)?.is_break() {
                break End::Interrupted;
            }
            if self.train_epoch(&mut on_event)?.is_break() {
                break End::Interrupted;
            }
        };
        let _ = self.drain(&mut on_event)?;
        let _ = self.save(&mut on_event)?;
        Ok(Summary {
            end,
            steps: self.progress.step,
            evaluation: self.progress.evaluation.map(|(_, metrics)| metrics),
        })
    }

    /// Trains to the end of the epoch or of the run.
    fn train_epoch(
        &mut self,
        on_event: &mut impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let steps = self.steps();
        let (epoch, first) = self.calendar.at(self.progress.step);
        for recipe in self.recipes.iter_mut().filter(|_| first == 0) {
            recipe.before_epoch(self.session, epoch)?;
        }
        self.note_removed()?;
        let every = self
            .options
            .checkpoints
            .as_ref()
            .map(|checkpoints| checkpoints.every.max(1));
        for batch in self.batches(epoch, first) {
            let batch = batch?;
            let flow = self.step(&batch, on_event)?;
            self.train.recycle(batch);
            if flow.is_break() {
                return Ok(flow);
            }
            let step = self.progress.step;
            if step == steps {
                break;
            }
            // The one at the end of an epoch waits for the evaluation.
            let due = every.is_some_and(|every| step.is_multiple_of(every));
            if due && !self.calendar.begins_epoch(step) && self.save(on_event)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let flow = self.drain(on_event)?;
        checkpoint::check_finite(self.session, self.progress.step)?;
        let bounds = self.session.bounds()?;
        if flow.is_break() || bounds.is_empty() {
            return Ok(flow);
        }
        let step = self.progress.step;
        Ok(on_event(&Event::Bounds { step, bounds }))
    }

    /// The batches of an epoch from one on, of the examples that are left.
    fn batches(&self, epoch: u64, first: u64) -> Epoch {
        match &self.kept {
            Some(kept) => self.train.epoch_of(kept, epoch, first as usize),
            None => self.train.epoch(epoch, first as usize),
        }
    }

    /// Looks which examples are left, as the records on the device say, which a checkpoint holds too.
    fn note_removed(&mut self) -> Result<(), Error> {
        if self.session.examples().counted == 0 {
            return Ok(());
        }
        let records = self.session.example_records()?;
        let kept = (0_u32..).zip(records);
        let kept = kept.filter(|(_, record)| !record.is_removed());
        let kept: Vec<u32> = kept.map(|(example, _)| example).collect();
        let all = kept.len() == self.train.dataset().len();
        self.kept = (!all).then_some(kept);
        Ok(())
    }

    /// What a session wants to know of the pictures of a batch.
    fn words(&self, batch: &Batch) -> Vec<u32> {
        if self.session.examples().counted > 0 {
            batch.words()
        } else {
            batch.labels.clone()
        }
    }

    fn step(
        &mut self,
        batch: &Batch,
        on_event: &mut impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let options = self.step_options(self.progress.step);
        self.pace.start();
        let words = self.words(batch);
        self.session.train_step(&batch.images, &words, &options)?;
        self.underway
            .push_back((self.progress.step, self.learning_rate(self.progress.step)));
        self.progress.step += 1;
        if self.session.pending() == STEPS_IN_FLIGHT {
            self.report_oldest(on_event)
        } else {
            Ok(ControlFlow::Continue(()))
        }
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let [position, per_epoch] = self.calendar.position(step);
        // A run that ends before its epochs do has its schedule end there too.
        let [end, _] = self.calendar.position(self.steps());
        let factor = self.options.schedule.factor(position, end, per_epoch);
        self.options.learning_rate * factor
    }

    fn step_options(&self, step: u64) -> StepOptions {
        StepOptions {
            step,
            learning_rate: self.learning_rate(step) as f32,
            // Dropout draws from the seed of the run and the number of the step: the same after a resume.
            seed: (self.options.seed as u32).wrapping_mul(0x9e37_79b9)
                ^ (step as u32).wrapping_mul(0x85eb_ca6b),
        }
    }

    fn report_oldest(
        &mut self,
        on_event: &mut impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let (Some(metrics), Some((step, learning_rate))) =
            (self.session.metrics()?, self.underway.pop_front())
        else {
            return Ok(ControlFlow::Continue(()));
        };
        if !metrics.loss_sum.is_finite() {
            return Err(self.not_finite(step)?);
        }
        if metrics.halted {
            // The loss is fine, so it was the clipping after the loss of the step before.
            return Err(Error::GradientNotFinite {
                step: step.saturating_sub(1),
            });
        }
        let images_per_second = self.pace.tick(metrics.images);
        Ok(on_event(&Event::Step {
            step,
            epoch: self.calendar.at(step).0 as u32,
            steps: self.steps(),
            loss: metrics.loss(),
            accuracy: metrics.accuracy(),
            learning_rate,
            images_per_second,
        }))
    }

    fn drain(
        &mut self,
        on_event: &mut impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let mut flow = ControlFlow::Continue(());
        while self.session.pending() > 0 {
            if self.report_oldest(on_event)?.is_break() {
                flow = ControlFlow::Break(());
            }
        }
        Ok(flow)
    }

    /// Saves after all steps have reported: a checkpoint never holds what a bad step left.
    fn save(
        &mut self,
        on_event: &mut impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let Some(path) = self
            .options
            .checkpoints
            .as_ref()
            .map(|checkpoints| checkpoints.path.clone())
        else {
            return Ok(ControlFlow::Continue(()));
        };
        let flow = self.drain(on_event)?;
        if self.saved.as_ref() == Some(&self.progress) {
            return Ok(flow);
        }
        checkpoint::save(self.session, &self.progress, &path)?;
        self.saved = Some(self.progress.clone());
        self.pace = Pace::default();
        let event = on_event(&Event::Checkpoint {
            step: self.progress.step,
            path,
        });
        Ok(if flow.is_break() { flow } else { event })
    }

    fn is_evaluation_due(&self) -> bool {
        let step = self.progress.step;
        let done = self.progress.evaluation.map(|(step, _)| step);
        let at_end = self.calendar.begins_epoch(step) || step == self.steps();
        self.test.is_some() && step > 0 && at_end && done != Some(step)
    }

    /// Evaluates on the test set; a caller that breaks before its end leaves the evaluation due.
    fn evaluate(
        &mut self,
        on_event: &mut impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let Some(test) = &self.test else {
            return Ok(ControlFlow::Continue(()));
        };
        self.pace = Pace::default();
        let of = test.dataset().len() as u64;
        let metrics = evaluate(self.session, test, |images| {
            on_event(&Event::Evaluating { images, of })
        })?;
        let Some(metrics) = metrics else {
            return Ok(ControlFlow::Break(()));
        };
        self.note_best(metrics.accuracy());
        self.progress.evaluation = Some((self.progress.step, metrics));
        Ok(on_event(&Event::evaluation(self.progress.step, &metrics)))
    }

    fn note_best(&mut self, accuracy: f64) {
        self.progress.best = Some(match self.progress.best {
            Some((best, since)) if accuracy <= best => (best, since + 1),
            _ => (accuracy, 0),
        });
    }

    fn is_out_of_patience(&self) -> bool {
        matches!((self.progress.best, self.options.patience), (Some((_, since)), Some(patience)) if since >= patience)
    }

    /// Looks for the first bad number of a step whose loss was not finite. The optimiser has changed nothing since.
    fn not_finite(&mut self, step: u64) -> Result<Error, Error> {
        while self.session.metrics()?.is_some() {}
        if let Some(name) = self.broken_parameter()? {
            let layer = name.rsplit_once('.').map_or("", |(layer, _)| layer);
            let place =
                format!("layer `{layer}` (`{name}`), where the update of an earlier step left it");
            return Ok(Error::NotFinite { step, place });
        }
        let options = self.step_options(step);
        let (epoch, within) = self.calendar.at(step);
        let batch = self.batches(epoch, within).next().transpose()?;
        let found = match batch {
            Some(batch) => {
                let words = self.words(&batch);
                self.session
                    .find_non_finite(&batch.images, &words, &options)?
            }
            None => None,
        };
        let place = found.map_or_else(
            || "the loss itself".to_owned(),
            |(layer, value)| format!("layer `{layer}` (`{value}`)"),
        );
        Ok(Error::NotFinite { step, place })
    }

    /// The parameter that an update broke first: gradients come from the last layer to the first.
    fn broken_parameter(&mut self) -> Result<Option<String>, Error> {
        let weights = self.session.weights()?;
        let parameters = self.session.graph().parameters().iter().rev();
        Ok(parameters
            .map(|parameter| &parameter.name)
            .find(|name| {
                weights
                    .tensors
                    .get(*name)
                    .is_some_and(checkpoint::is_not_finite)
            })
            .cloned())
    }
}

/// The settings that differ, as `name OLD instead of NEW`; all of them if they are no objects.
fn differences(noted: &serde_json::Value, run: &serde_json::Value) -> String {
    let (Some(noted), Some(run)) = (noted.as_object(), run.as_object()) else {
        return format!("{noted} instead of {run}");
    };
    let absent = serde_json::Value::Null;
    let names: BTreeSet<&String> = noted.keys().chain(run.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .map(|name| {
            let value =
                |settings: &serde_json::Map<_, _>| settings.get(name).unwrap_or(&absent).clone();
            (name, value(noted), value(run))
        })
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{name} {old} instead of {new}"))
        .collect();
    differing.join(", ")
}
