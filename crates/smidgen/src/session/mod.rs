//! A network on a device.

mod blueprint;
mod bounds;
mod compiled;
mod diagnosis;
mod draft;
mod examples;
mod fitting;
mod growth;
mod guarded;
mod host;
mod loss_scale;
mod memory;
mod micro_batches;
mod options;
mod plan_file;
mod plans;
mod race;
mod remedies;
mod roofline;
mod settle;
mod slabs;
mod sparse;
mod state;

pub use blueprint::Blueprint;
pub use bounds::StashBound;
pub(crate) use fitting::largest;
pub use fitting::largest_batch;
pub use host::HostTime;
pub use micro_batches::{MicroBatchPoint, micro_batch_points, micro_batch_within};
pub use options::{Growth, SessionOptions, StepOptions, Training};
pub use plan_file::PlanFile;
pub use plans::{PlanPoint, Plans, StashPoint, WholePlan};
pub use race::RaceTime;
pub use remedies::Remedy;
pub(crate) use settle::{Settled, settle};
pub use sparse::{MASK_SUFFIX, MaskReport};

use crate::tuning::{Choices, Tuning, TuningReport};
use crate::{Bytes, Error, Footprint, Metrics};
use compiled::Compiled;
use growth::Growing;
use host::Stopwatch;
use memory::{ARENA, Batch, Memory, metrics_bytes};
use smidgen_gpu::{
    ALLOCATOR_BLOCK_BYTES, Device, Held, ReadbackRing, Sequence, Timeline, bytemuck, wgpu,
};
use smidgen_graph::forms::Forms;
use smidgen_graph::{Graph, Optimizer, Program};
use smidgen_ops::control::Control;
use smidgen_plan::Plan;
use std::time::Duration;

/// How many steps may be under way before the host must read the metrics of the oldest.
pub const STEPS_IN_FLIGHT: usize = 3;

/// A network on a device: its programs, its plan and its one arena.
///
/// All memory is reserved while the session is built; afterwards nothing is.
#[derive(Debug)]
pub struct Session {
    memory: Memory,
    metrics: ReadbackRing,
    training: Option<(Training, Compiled)>,
    evaluation: Compiled,
    graph: Graph,
    plan: Plan,
    footprint: Footprint,
    forms: Forms,
    stashes: usize,
    choices: Choices,
    tuning: TuningReport,
    host: HostTime,
    /// Changes the masks of sparse layers, at random.
    mutation: Option<Sequence>,
    /// Changes them by gradients, in place of a step.
    growth: Option<Growing>,
    /// Whether an evaluation may have halted the device, which concerns only training.
    evaluated: bool,
}

impl Session {
    /// Plans, checks the budget, reserves, compiles, and fills the parameters from `graph`'s initialisation with `seed`. Kernels are
    /// chosen by the rule of the device's class: the same every time.
    ///
    /// # Errors
    /// A budget below what is needed (with the least that would do), a network or batch the device cannot hold, no memory.
    pub fn new(
        device: Device,
        graph: &Graph,
        options: &SessionOptions,
        seed: u64,
    ) -> Result<Self, Error> {
        Self::tuned(device, graph, options, seed, &Tuning::Off, |_, _| {})
    }

    /// The same with kernels chosen as `tuning` says. `on_progress` hears of how many measurements are done, of how many.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn tuned(
        device: Device,
        graph: &Graph,
        options: &SessionOptions,
        seed: u64,
        tuning: &Tuning,
        mut on_progress: impl FnMut(usize, usize),
    ) -> Result<Self, Error> {
        let settled = settle(&device, graph, options, tuning, false, &mut on_progress)?;
        Self::settled(device, graph, options, seed, settled)
    }

    /// Runs a blueprint that was made of the same graph and options, for the same device.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn planned(
        device: Device,
        graph: &Graph,
        options: &SessionOptions,
        seed: u64,
        blueprint: Blueprint,
    ) -> Result<Self, Error> {
        let settled = Settled {
            blueprint,
            report: TuningReport::default(),
            plans: None,
        };
        options.limit(&device);
        Self::settled(device, graph, options, seed, settled)
    }

    /// Reserves, compiles and fills what was settled on this device.
    pub(crate) fn settled(
        device: Device,
        graph: &Graph,
        options: &SessionOptions,
        seed: u64,
        settled: Settled,
    ) -> Result<Self, Error> {
        let Settled {
            blueprint,
            mut report,
            ..
        } = settled;
        let Blueprint {
            programs,
            plan,
            launches,
            mutations,
            footprint,
            staging_bytes,
            forms,
            stashes,
            choices,
        } = blueprint;
        // Before the arena is there, while there is room for what compiles; evaluation compiles its own when it comes.
        device.compile_ahead(&launches[0].concat(), None)?;
        let memory = Memory::new(device, &plan, staging_bytes)?;
        let parts = programs.into_iter().zip(&plan.programs).zip(launches);
        let mut compiled = parts
            .map(|((program, plan), launches)| {
                Compiled::new(
                    &memory.device,
                    &memory.arena,
                    program,
                    plan.clone(),
                    launches,
                )
            })
            .collect::<Result<Vec<_>, _>>()?;
        let buffers: Vec<&wgpu::Buffer> = memory.arena.iter().collect();
        let mutation = (!mutations.is_empty())
            .then(|| Sequence::prepare(&memory.device, &mutations, &buffers))
            .transpose()?;
        let metrics = compiled
            .first()
            .map_or(Metrics::BYTES, |compiled| metrics_bytes(&compiled.program));
        let metrics = ReadbackRing::new(&memory.device, metrics, STEPS_IN_FLIGHT)?;
        if let [training, _, ..] = compiled.as_slice() {
            let mut ledger = memory.device.ledger();
            for stash in crate::profile::stashes(&training.program, &training.plan) {
                ledger.hold(Held {
                    within: ARENA.into(),
                    label: stash.name,
                    offset: stash.offset,
                    bytes: stash.bytes,
                });
            }
        }
        memory.device.ledger().seal();
        if let Err(error) = memory.device.save_pipelines() {
            let note = format!("compiled kernels cannot be kept for the next time: {error}");
            report.notes.push(note);
        }

        let growth = (compiled.len() > growth::GROWTH)
            .then(|| compiled.pop())
            .flatten();
        let growth = growth.map(Growing::new);
        let evaluation = compiled.pop().ok_or(Error::EmptyBatch)?;
        let training = options.training.clone().zip(compiled.pop());
        let mut session = Self {
            memory,
            metrics,
            training,
            evaluation,
            graph: graph.clone(),
            plan,
            footprint,
            forms,
            stashes,
            choices,
            tuning: report,
            host: HostTime::default(),
            mutation,
            growth,
            evaluated: false,
        };
        session.memory.clear();
        session.reset_control()?;
        session.load(&graph.initialize(seed))?;
        session.begin_loss_scale()?;
        session.check_allocator(options.budget)?;
        Ok(session)
    }

    fn reset_control(&mut self) -> Result<(), Error> {
        let control = self.evaluation.place(self.evaluation.program.control)?;
        self.memory
            .write(control, bytemuck::bytes_of(&Control::default()))
    }

    /// Compares what wgpu's allocator really reserved, where it tells, with the budget.
    fn check_allocator(&self, budget: Option<Bytes>) -> Result<(), Error> {
        let report = self.device().wgpu().generate_allocator_report();
        // At most what buffers in the host's memory take, each alone or in a block: where there are any, the check is so much less strict.
        let on_host = self.plan.host_buffers().into_iter();
        let on_host = on_host.map(|bytes| bytes.max(ALLOCATOR_BLOCK_BYTES) + (64 << 10));
        let reserved = report.map_or(0, |report| report.total_reserved_bytes);
        let reserved = reserved.saturating_sub(on_host.sum());
        match budget {
            Some(budget) if reserved > budget.0 => Err(Error::AllocatorOverBudget {
                reserved: Bytes(reserved),
                budget,
            }),
            _ => Ok(()),
        }
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.memory.device
    }

    /// The network.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Where every tensor stands.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The form of every stash that is not whole; its values are those of the program in which all are.
    #[must_use]
    pub fn forms(&self) -> &Forms {
        &self.forms
    }

    /// How many values of the forward pass the backward pass needs again.
    #[must_use]
    pub fn stashes(&self) -> usize {
        self.stashes
    }

    /// What was predicted before anything was reserved.
    #[must_use]
    pub fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// Which variant of a kernel computes what. To be written down where results are to be repeated bit for bit.
    #[must_use]
    pub fn choices(&self) -> &Choices {
        &self.choices
    }

    /// What was measured for the choice.
    #[must_use]
    pub fn tuning(&self) -> &TuningReport {
        &self.tuning
    }

    /// What the host has spent on submitting so far.
    #[must_use]
    pub fn host_time(&self) -> HostTime {
        self.host
    }

    /// Images of a step.
    #[must_use]
    pub fn batch(&self) -> u32 {
        self.evaluation.program.batch * self.micro_batches()
    }

    /// How often a step runs, each time on an equal part of its images.
    #[must_use]
    pub fn micro_batches(&self) -> u32 {
        self.main_program().micro_batches
    }

    /// The first part of a batch.
    fn in_parts<'a>(&self, images: &'a [f32], labels: &'a [u32]) -> Batch<'a> {
        Batch {
            images,
            labels,
            part: 0,
            parts: self.micro_batches() as usize,
        }
    }

    /// The training program, or that of evaluation in a session that does not train.
    #[must_use]
    pub fn main_program(&self) -> &Program {
        &self.program().program
    }

    fn program(&self) -> &Compiled {
        self.training
            .as_ref()
            .map_or(&self.evaluation, |(_, compiled)| compiled)
    }

    /// Submits one training step: upload, forward, loss, backward, update. `images` are planes of quads, `labels` one a picture; where
    /// forgetting is counted, the number of every picture's example follows (see [`Batch::words`](smidgen_data::Batch::words)).
    /// Its metrics arrive later: see [`metrics`](Self::metrics). Where masks are to change by gradients, the step changes them in place of the
    /// parameters (see [`mutate`](Self::mutate)).
    ///
    /// # Errors
    /// The session cannot train, the batch has another size, [`STEPS_IN_FLIGHT`] results are unread, or the device failed.
    pub fn train_step(
        &mut self,
        images: &[f32],
        labels: &[u32],
        options: &StepOptions,
    ) -> Result<(), Error> {
        if self.evaluated {
            self.reset_control()?;
            self.evaluated = false;
        }
        let batch = self.in_parts(images, labels);
        let Some((training, compiled)) = &self.training else {
            return Err(Error::NotTraining);
        };
        let growing = self.growth.as_mut().filter(|growth| growth.is_due);
        let compiled = growing.as_ref().map_or(compiled, |growth| &growth.compiled);
        let control = control(training, options, batch);
        submit(
            &mut self.memory,
            &mut self.metrics,
            &mut self.host,
            compiled,
            batch,
            control,
        )?;
        if let Some(growth) = growing {
            growth.is_due = false;
            self.compute_all_gradients()?;
        }
        Ok(())
    }

    /// As [`train_step`](Self::train_step), but waits, and returns the seconds of each operation of the training program instead of the
    /// metrics. Of several micro-batches the first runs, and counts for all. `timeline` needs room for all launches, and to have been made before the session, which reserves nothing later.
    ///
    /// # Errors
    /// As [`train_step`](Self::train_step).
    pub fn time_step(
        &mut self,
        timeline: &Timeline,
        images: &[f32],
        labels: &[u32],
        options: &StepOptions,
    ) -> Result<Vec<f64>, Error> {
        let batch = self.in_parts(images, labels);
        let Some((training, compiled)) = &self.training else {
            return Err(Error::NotTraining);
        };
        let mut encoder = self.memory.encoder();
        let control = control(training, options, batch);
        self.memory.zero(&mut encoder, &compiled.sums);
        self.memory
            .upload(&mut encoder, compiled, batch, &control)?;
        self.memory.submit(encoder);
        let timings = timeline.measure(&self.memory.device, &compiled.sequence)?;
        let operations = compiled.program.operations.iter().zip(&compiled.launches);
        let seconds = operations.map(|(operation, launches)| {
            let timings = timings.get(launches.clone()).unwrap_or_default();
            let seconds = timings.iter().map(|timing| timing.time.as_secs_f64());
            f64::from(compiled.program.runs(operation)) * seconds.sum::<f64>()
        });
        Ok(seconds.collect())
    }

    /// Submits the evaluation of one batch; labels of `u32::MAX` are left out of the counts.
    ///
    /// # Errors
    /// As [`train_step`](Self::train_step).
    pub fn evaluate_batch(&mut self, images: &[f32], labels: &[u32]) -> Result<(), Error> {
        self.evaluated = true;
        let batch = self.in_parts(images, labels);
        submit(
            &mut self.memory,
            &mut self.metrics,
            &mut self.host,
            &self.evaluation,
            batch,
            Control::default(),
        )
    }

    /// Results submitted and not yet read.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.metrics.pending()
    }

    /// Waits for the oldest unread result; `None` if all are read.
    ///
    /// # Errors
    /// The device failed.
    pub fn metrics(&mut self) -> Result<Option<Metrics>, Error> {
        Ok(self
            .metrics
            .oldest(&self.memory.device, Metrics::from_bytes)?)
    }
}

/// What the host tells the device before a training step.
fn control(training: &Training, options: &StepOptions, batch: Batch<'_>) -> Control {
    let betas = match training.optimizer {
        Optimizer::Adam { beta1, beta2, .. } => (f64::from(beta1), f64::from(beta2)),
        Optimizer::Sgd { .. } => (0.0, 0.0),
    };
    let (first_correction, second_correction) = Control::corrections(betas, options.step + 1);
    Control {
        learning_rate: options.learning_rate,
        first_correction,
        second_correction,
        seed: options.seed,
        samples: batch.samples(training.examples.words() as usize),
        ..Control::default()
    }
}

/// Uploads a batch part by part, runs a program on each and asks for its metrics. The device begins with the first part of the launches
/// while the host records the next.
fn submit(
    memory: &mut Memory,
    metrics: &mut ReadbackRing,
    host: &mut HostTime,
    compiled: &Compiled,
    batch: Batch<'_>,
    control: Control,
) -> Result<(), Error> {
    if metrics.is_full() {
        return Err(Error::UnreadMetrics);
    }
    let mut time = Duration::ZERO;
    for batch in batch.parts() {
        // Waiting for the device is not the host's work.
        memory.wait_for_staging()?;
        let start = Stopwatch::start();
        let mut encoder = memory.encoder();
        if batch.is_first() {
            memory.zero(&mut encoder, &compiled.sums);
        }
        memory.upload(&mut encoder, compiled, batch, &batch.control(control))?;
        let submissions = compiled.submissions(&batch);
        let mut uploaded = false;
        for (at, part) in submissions.iter().enumerate() {
            compiled.sequence.record_range(
                &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()),
                part.clone(),
            );
            if at + 1 < submissions.len() {
                let done = std::mem::replace(&mut encoder, memory.encoder());
                if uploaded {
                    memory.device.queue().submit([done.finish()]);
                } else {
                    memory.submit(done);
                }
                uploaded = true;
            }
        }
        let (buffer, offset) = memory.locate(compiled.place(compiled.program.metrics)?);
        let to = batch.part as u64 * Metrics::BYTES;
        metrics.download(&mut encoder, buffer, offset, to, Metrics::BYTES)?;
        let submission = if uploaded {
            memory.device.queue().submit([encoder.finish()])
        } else {
            memory.submit(encoder)
        };
        if batch.is_last() {
            metrics.submitted(submission);
        }
        time += start.elapsed();
    }
    host.add(time);
    Ok(memory.device.check()?)
}
