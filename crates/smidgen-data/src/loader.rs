//! Batches of an epoch, made ahead of need on worker threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::batch::place_image;
use crate::preprocess::View;
use crate::{Augment, Batch, DataError, Dataset, IGNORE_LABEL, Normalization, epoch_order};

/// More threads than this seldom help: batches are then made faster than they are used.
const MOST_WORKERS: usize = 8;

/// Turns a data set into batches, epoch after epoch.
///
/// Dropping an [`Epoch`] early, after an error or at the end of a run, stops its threads.
pub struct Loader {
    recipe: Arc<Recipe>,
    batches: usize,
}

impl Loader {
    /// For training: shuffled anew each epoch, augmented, and without a last batch that is not full.
    pub fn training(
        dataset: Arc<dyn Dataset>,
        batch: usize,
        normalization: Normalization,
        augment: Augment,
        seed: u64,
    ) -> Result<Self, DataError> {
        let pictures = dataset.len();
        let shuffle = Some(Shuffle { augment, seed });
        let recipe = Recipe::new(dataset, batch, normalization, shuffle)?;
        if pictures < batch {
            return Err(DataError::BatchTooLarge { pictures, batch });
        }
        Ok(Self {
            recipe: Arc::new(recipe),
            batches: pictures / batch,
        })
    }

    /// For evaluation: every picture once, in order, unchanged. The last batch may have fewer pictures.
    pub fn evaluation(
        dataset: Arc<dyn Dataset>,
        batch: usize,
        normalization: Normalization,
    ) -> Result<Self, DataError> {
        let pictures = dataset.len();
        let recipe = Recipe::new(dataset, batch, normalization, None)?;
        Ok(Self {
            recipe: Arc::new(recipe),
            batches: pictures.div_ceil(batch),
        })
    }

    /// How many batches an epoch has.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.recipe.dataset
    }

    /// The batches of `epoch` from number `first_batch` on, in order.
    ///
    /// They are the same whatever came before, so a run can be resumed in the middle of an epoch. An evaluation
    /// has the same batches in every epoch.
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> Epoch {
        let len = self.recipe.dataset.len();
        let order = self.recipe.order(epoch, len);
        Epoch::start(&self.recipe, epoch, order, first_batch..self.batches)
    }

    /// The batches of an epoch of training over these pictures alone, in an order that depends on the seed, the epoch and how many there are.
    /// A number that is no picture of the data set is an error of its batch.
    pub fn epoch_of(&self, pictures: &[u32], epoch: u64, first_batch: usize) -> Epoch {
        let order = match self.recipe.order(epoch, pictures.len()) {
            Some(order) => order.iter().map(|at| pictures[*at as usize]).collect(),
            None => pictures.to_vec(),
        };
        let batches = pictures.len() / self.recipe.batch;
        let first_batch = first_batch.min(batches);
        Epoch::start(&self.recipe, epoch, Some(order), first_batch..batches)
    }

    /// Takes back the memory of a batch that is no longer needed, to be used for another.
    pub fn recycle(&self, batch: Batch) {
        self.recipe.spare_buffers().push(batch.images);
    }
}

#[derive(Clone, Copy)]
struct Shuffle {
    augment: Augment,
    seed: u64,
}

/// How batches are made; shared by the threads of all epochs.
struct Recipe {
    dataset: Arc<dyn Dataset>,
    batch: usize,
    table: Vec<[f32; 256]>,
    shuffle: Option<Shuffle>,
    spare: Mutex<Vec<Vec<f32>>>,
}

impl Recipe {
    fn new(
        dataset: Arc<dyn Dataset>,
        batch: usize,
        normalization: Normalization,
        shuffle: Option<Shuffle>,
    ) -> Result<Self, DataError> {
        if batch == 0 {
            return Err(DataError::EmptyBatch);
        }
        let channels = dataset.image_shape().channels;
        let table = normalization.table();
        if table.len() != channels {
            return Err(DataError::ChannelMismatch {
                normalized: table.len(),
                channels,
            });
        }
        Ok(Self {
            dataset,
            batch,
            table,
            shuffle,
            spare: Mutex::new(Vec::new()),
        })
    }

    /// The order in which an epoch visits so many pictures; `None` for that of the data set.
    fn order(&self, epoch: u64, len: usize) -> Option<Vec<u32>> {
        let shuffle = self.shuffle?;
        Some(epoch_order(shuffle.seed, epoch, len))
    }

    fn spare_buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<f32>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a batch, or nothing if it is no longer wanted.
    fn make(&self, job: &Job, index: usize) -> Result<Option<Batch>, DataError> {
        let shape = self.dataset.image_shape();
        let first = index * self.batch;
        let len = job.order.as_ref().map_or(self.dataset.len(), Vec::len);
        let count = self.batch.min(len - first);
        let mut images = self.spare_buffers().pop().unwrap_or_default();
        images.clear();
        images.resize(shape.quads() * self.batch * shape.pixels() * 4, 0.0);
        let mut labels = vec![IGNORE_LABEL; self.batch];
        let mut examples = labels.clone();
        let mut decoded = vec![0; shape.bytes()];
        for place in 0..count {
            if job.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let (picture, view) = match (&job.order, self.shuffle) {
                (Some(order), Some(Shuffle { augment, seed })) => {
                    let picture = order[first + place] as usize;
                    (picture, View::draw(augment, seed, job.epoch, picture))
                }
                (Some(order), None) => (order[first + place] as usize, View::default()),
                _ => (first + place, View::default()),
            };
            self.dataset.decode(picture, &mut decoded)?;
            labels[place] = self.dataset.label(picture);
            examples[place] = picture as u32;
            place_image(
                &mut images,
                self.batch,
                place,
                shape,
                &decoded,
                view,
                &self.table,
            );
        }
        Ok(Some(Batch {
            images,
            labels,
            examples,
            count,
            index,
        }))
    }
}

/// What the threads of one epoch share besides the recipe.
struct Job {
    epoch: u64,
    order: Option<Vec<u32>>,
    stop: AtomicBool,
}

type Made = (usize, Result<Batch, DataError>);

/// The batches of one epoch: an iterator that ends after the last batch or the first error.
pub struct Epoch {
    job: Arc<Job>,
    /// Batches to be made. As many are asked for at the start as may lie ready; each one taken asks for another.
    wanted: Option<Sender<usize>>,
    made: Receiver<Made>,
    /// Made before its turn.
    early: BTreeMap<usize, Result<Batch, DataError>>,
    next: usize,
    next_wanted: usize,
    end: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Epoch {
    fn start(
        recipe: &Arc<Recipe>,
        epoch: u64,
        order: Option<Vec<u32>>,
        batches: std::ops::Range<usize>,
    ) -> Self {
        let remaining = batches.len();
        let job = Arc::new(Job {
            epoch,
            order,
            stop: AtomicBool::new(false),
        });
        let (wanted, to_make) = unbounded();
        let (finished, made) = unbounded();
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let workers = workers.min(MOST_WORKERS).min(remaining);
        let mut threads = Vec::new();
        for number in 0..workers {
            let recipe = Arc::clone(recipe);
            let job = Arc::clone(&job);
            let (inbox, outbox) = (to_make.clone(), finished.clone());
            let started = thread::Builder::new()
                .name(format!("smidgen-data-{number}"))
                .spawn(move || work(&recipe, &job, &inbox, &outbox));
            match started {
                Ok(thread) => threads.push(thread),
                // One thread is enough; none is an error that the consumer must see.
                Err(_) if !threads.is_empty() => break,
                Err(error) => {
                    let reason = error.to_string();
                    let _ = finished.send((batches.start, Err(DataError::Worker { reason })));
                    break;
                }
            }
        }
        let mut started = Self {
            job,
            wanted: Some(wanted),
            made,
            early: BTreeMap::new(),
            next: batches.start,
            next_wanted: batches.start,
            end: batches.end,
            threads,
        };
        // One batch more than is in the making lies ready while the consumer is busy.
        for _ in 0..=workers {
            started.want_another();
        }
        started
    }

    fn want_another(&mut self) {
        if let Some(wanted) = &self.wanted
            && self.next_wanted < self.end
            && wanted.send(self.next_wanted).is_ok()
        {
            self.next_wanted += 1;
        }
    }

    fn stop(&mut self) {
        self.job.stop.store(true, Ordering::Relaxed);
        self.wanted = None;
        for thread in self.threads.drain(..) {
            // A panic has been turned into an error already.
            let _ = thread.join();
        }
        self.next = self.end;
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let batch = loop {
            if let Some(batch) = self.early.remove(&self.next) {
                break batch;
            }
            match self.made.recv() {
                Ok((index, batch)) => {
                    self.early.insert(index, batch);
                }
                Err(_) => {
                    let reason = "all worker threads ended".to_owned();
                    break Err(DataError::Worker { reason });
                }
            }
        };
        self.next += 1;
        if batch.is_ok() {
            self.want_another();
        } else {
            self.stop();
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.end.saturating_sub(self.next)))
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A worker's life: makes what is wanted until nobody wants anything.
fn work(recipe: &Recipe, job: &Job, to_make: &Receiver<usize>, finished: &Sender<Made>) {
    for index in to_make {
        // A panicking data set must not leave the consumer waiting for a batch that never comes.
        let batch = catch_unwind(AssertUnwindSafe(|| recipe.make(job, index)))
            .unwrap_or_else(|panic| Err(worker_error(panic.as_ref())));
        let sent = match batch {
            Ok(Some(batch)) => finished.send((index, Ok(batch))),
            Ok(None) => return,
            Err(error) => finished.send((index, Err(error))),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn worker_error(panic: &(dyn std::any::Any + Send)) -> DataError {
    let reason = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned());
    DataError::Worker { reason }
}
