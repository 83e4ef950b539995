use crate::kernels;
use crate::{Bytes, Error, Footprint, Metrics};
use smidgen_gpu::wgpu;
use smidgen_gpu::{Device, DeviceFacts, Launch, ReadbackRing, Sequence, StagingRing};
use smidgen_graph::{
    Graph, Layout, Lowering, Mode, Optimizer, Phase, Program, Role, Tensor, ValueId, Weights,
};
use smidgen_ops::control::Control;
use smidgen_plan::{Limits, Place, Plan, ProgramPlan};
use std::ops::Range;

/// How many steps may be under way before the host must read the metrics of the oldest.
pub const STEPS_IN_FLIGHT: usize = 3;
const STAGING_BUFFERS: usize = 2;
/// Parameters travel in pieces of this size, so that reading a checkpoint needs no memory of the size of the network.
const TRANSFER_BYTES: u64 = 256 << 10;

/// What a session is made for.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionOptions {
    /// Images in a batch.
    pub batch: u32,
    /// How to train; `None` for a session that only evaluates.
    pub training: Option<Training>,
    /// Bytes the session may reserve on the device, everything counted; `None` for no limit.
    pub budget: Option<Bytes>,
}

/// How the parameters are updated.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// The optimiser and its constants; the learning rate is given with every step.
    pub optimizer: Optimizer,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f32,
    /// The global norm gradients are clipped to.
    pub clip_norm: Option<f32>,
    /// Keep every parameter gradient until the end of the step, so that [`Session::read`] can see it; costs their bytes.
    pub keep_gradients: bool,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::Sgd {
                momentum: 0.9,
                nesterov: false,
                weight_decay: 1e-4,
            },
            label_smoothing: 0.0,
            clip_norm: None,
            keep_gradients: false,
        }
    }
}

/// What differs from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    /// Number of the step, from 0.
    pub step: u64,
    /// Step size of the optimiser.
    pub learning_rate: f32,
    /// Seed of dropout in this step.
    pub seed: u32,
}

/// A network on a device: its programs, its plan and its one arena.
///
/// All memory is reserved while the session is built; afterwards nothing is.
#[derive(Debug)]
pub struct Session {
    device: Device,
    plan: Plan,
    footprint: Footprint,
    arena: Vec<wgpu::Buffer>,
    training: Option<(Training, Compiled)>,
    evaluation: Compiled,
    staging: StagingRing,
    metrics: ReadbackRing,
    transfer: ReadbackRing,
    graph: Graph,
}

/// A program with its launches bound to the arena.
#[derive(Debug)]
struct Compiled {
    program: Program,
    plan: ProgramPlan,
    sequence: Sequence,
    /// The launches of each operation.
    launches: Vec<Range<usize>>,
}

/// A session before anything is reserved: what it will run and what it will need.
#[derive(Debug)]
pub struct Blueprint {
    programs: Vec<Program>,
    plan: Plan,
    launches: Vec<Vec<Vec<Launch>>>,
    footprint: Footprint,
    staging_bytes: u64,
}

impl Blueprint {
    /// Plans `graph` for a device of which only the facts are needed.
    ///
    /// # Errors
    /// A network that cannot be lowered, a batch of 0, or a tensor larger than the device binds.
    pub fn new(
        graph: &Graph,
        facts: &DeviceFacts,
        options: &SessionOptions,
    ) -> Result<Self, Error> {
        if options.batch == 0 {
            return Err(Error::EmptyBatch);
        }
        let mut modes = vec![Mode::Evaluate];
        if let Some(training) = &options.training {
            modes.insert(
                0,
                Mode::Train {
                    optimizer: training.optimizer,
                    label_smoothing: training.label_smoothing,
                    clip_norm: training.clip_norm,
                    keep_gradients: training.keep_gradients,
                },
            );
        }
        let programs = modes
            .into_iter()
            .map(|mode| {
                graph.lower(&Lowering {
                    batch: options.batch,
                    mode,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let limits = Limits {
            alignment: facts.storage_alignment.max(256),
            max_binding_bytes: facts.max_binding_bytes,
            max_buffer_bytes: facts.max_buffer_bytes / 256 * 256,
        };
        let workspaces = programs
            .iter()
            .map(|program| kernels::workspaces(program, facts))
            .collect::<Result<Vec<_>, _>>()?;
        let plan = Plan::new(&programs.iter().collect::<Vec<_>>(), &workspaces, limits)?;
        let launches = programs
            .iter()
            .zip(&plan.programs)
            .map(|(program, places)| kernels::launches(program, places, limits, facts))
            .collect::<Result<Vec<_>, _>>()?;
        let uniforms: Vec<u64> = launches
            .iter()
            .map(|list| Sequence::uniform_bytes(&list.concat(), facts.uniform_alignment))
            .collect();
        let staging_bytes = Upload::of(&programs[0]).bytes().max(TRANSFER_BYTES);
        let readback = [
            vec![Metrics::BYTES; STEPS_IN_FLIGHT],
            vec![TRANSFER_BYTES; STAGING_BUFFERS],
        ]
        .concat();
        let footprint = Footprint::new(
            facts,
            &plan.buffers(),
            &uniforms,
            &[staging_bytes; STAGING_BUFFERS],
            &readback,
        );
        Ok(Self {
            programs,
            plan,
            launches,
            footprint,
            staging_bytes,
        })
    }

    /// Every byte the session will reserve.
    #[must_use]
    pub fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// Where every tensor will stand.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Refuses a budget that is too small, naming the least that would do and the batch that would fit.
    fn check_budget(
        &self,
        graph: &Graph,
        facts: &DeviceFacts,
        options: &SessionOptions,
    ) -> Result<(), Error> {
        let least = self.footprint.total();
        let Some(budget) = options.budget.filter(|budget| *budget < least) else {
            return Ok(());
        };
        let peak = &self.plan.programs[0].peak;
        let operation = self.programs[0]
            .operations
            .get(peak.operation)
            .map_or_else(String::new, |o| o.layer.clone());
        let fits = |batch: &u32| {
            let smaller = SessionOptions {
                batch: *batch,
                budget: None,
                ..options.clone()
            };
            Self::new(graph, facts, &smaller)
                .is_ok_and(|blueprint| blueprint.footprint.total() <= budget)
        };
        // The footprint grows with the batch: the largest that fits is found by bisection.
        let (mut low, mut high) = (0, options.batch);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(&middle) {
                low = middle
            } else {
                high = middle
            }
        }
        Err(Error::BudgetTooSmall {
            budget,
            least,
            batch: options.batch,
            operation,
            fitting_batch: (low > 0).then_some(low),
        })
    }
}

impl Session {
    /// Plans, checks the budget, reserves, compiles, and fills the parameters from `graph`'s initialisation with `seed`.
    ///
    /// # Errors
    /// A budget below what is needed (with the least that would do), a network or batch the device cannot hold, no memory.
    pub fn new(
        device: Device,
        graph: &Graph,
        options: &SessionOptions,
        seed: u64,
    ) -> Result<Self, Error> {
        let blueprint = Blueprint::new(graph, device.facts(), options)?;
        blueprint.check_budget(graph, device.facts(), options)?;
        if let Some(budget) = options.budget {
            device.ledger().limit_to(budget.0);
        }
        let Blueprint {
            programs,
            plan,
            launches,
            footprint,
            staging_bytes,
        } = blueprint;
        let arena = plan
            .buffers()
            .iter()
            .map(|bytes| device.storage_buffer("arena", *bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let buffers: Vec<&wgpu::Buffer> = arena.iter().collect();
        let mut compiled = Vec::new();
        for ((program, plan), launches) in programs.into_iter().zip(&plan.programs).zip(launches) {
            let mut end = 0;
            let ranges = launches
                .iter()
                .map(|list| {
                    let start = end;
                    end += list.len();
                    start..end
                })
                .collect();
            let sequence = Sequence::prepare(&device, &launches.concat(), &buffers)?;
            compiled.push(Compiled {
                program,
                plan: plan.clone(),
                sequence,
                launches: ranges,
            });
        }
        let staging = StagingRing::new(&device, staging_bytes, STAGING_BUFFERS)?;
        let metrics = ReadbackRing::new(&device, Metrics::BYTES, STEPS_IN_FLIGHT)?;
        let transfer = ReadbackRing::new(&device, TRANSFER_BYTES, STAGING_BUFFERS)?;
        device.ledger().seal();

        let evaluation = compiled.pop().ok_or(Error::EmptyBatch)?;
        let training = options.training.clone().zip(compiled.pop());
        let mut session = Self {
            device,
            plan,
            footprint,
            arena,
            training,
            evaluation,
            staging,
            metrics,
            transfer,
            graph: graph.clone(),
        };
        session.clear()?;
        session.load(&graph.initialize(seed))?;
        if let Some(budget) = options.budget
            && let Some(report) = session.device.wgpu().generate_allocator_report()
            && report.total_reserved_bytes > budget.0
        {
            let (reserved, budget) = (Bytes(report.total_reserved_bytes), budget);
            return Err(Error::AllocatorOverBudget { reserved, budget });
        }
        Ok(session)
    }

    /// Zeroes the arena and resets the control block.
    fn clear(&mut self) -> Result<(), Error> {
        let mut encoder = self
            .device
            .wgpu()
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for buffer in &self.arena {
            encoder.clear_buffer(buffer, 0, None);
        }
        self.device.queue().submit([encoder.finish()]);
        let (program, control) = (&self.evaluation, self.evaluation.program.control);
        let place = program.place(control)?;
        self.write_words(place, smidgen_gpu::bytemuck::bytes_of(&Control::default()))
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
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

    /// What was predicted before anything was reserved.
    #[must_use]
    pub fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// Images in a batch.
    #[must_use]
    pub fn batch(&self) -> u32 {
        self.evaluation.program.batch
    }

    fn program(&self) -> &Compiled {
        self.training
            .as_ref()
            .map_or(&self.evaluation, |(_, compiled)| compiled)
    }

    /// Submits one training step: upload, forward, loss, backward, update. `images` are planes of quads, `labels` one a picture.
    /// Its metrics arrive later: see [`metrics`](Self::metrics).
    ///
    /// # Errors
    /// The session cannot train, the batch has another size, [`STEPS_IN_FLIGHT`] results are unread, or the device failed.
    pub fn train_step(
        &mut self,
        images: &[f32],
        labels: &[u32],
        options: &StepOptions,
    ) -> Result<(), Error> {
        let Some((training, compiled)) = &self.training else {
            return Err(Error::NotTraining);
        };
        let betas = match training.optimizer {
            Optimizer::Adam { beta1, beta2, .. } => (f64::from(beta1), f64::from(beta2)),
            Optimizer::Sgd { .. } => (0.0, 0.0),
        };
        let (first_correction, second_correction) = Control::corrections(betas, options.step + 1);
        let control = Control {
            learning_rate: options.learning_rate,
            first_correction,
            second_correction,
            seed: options.seed,
            ..Control::default()
        };
        submit(
            &self.device,
            &self.arena,
            &self.plan,
            compiled,
            &mut self.staging,
            &mut self.metrics,
            (images, labels),
            &control,
        )
    }

    /// Submits the evaluation of one batch; labels of `u32::MAX` are left out of the counts.
    ///
    /// # Errors
    /// As [`train_step`](Self::train_step).
    pub fn evaluate_batch(&mut self, images: &[f32], labels: &[u32]) -> Result<(), Error> {
        let control = Control::default();
        let compiled = &self.evaluation;
        submit(
            &self.device,
            &self.arena,
            &self.plan,
            compiled,
            &mut self.staging,
            &mut self.metrics,
            (images, labels),
            &control,
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
        Ok(self.metrics.oldest(&self.device, Metrics::from_bytes)?)
    }

    /// The training program, or that of evaluation in a session that does not train.
    #[must_use]
    pub fn main_program(&self) -> &Program {
        &self.program().program
    }

    /// The numbers of a value, by name, in PyTorch's order (weights as `[out, in / groups, height, width]`, maps as NCHW).
    ///
    /// What a value that is not persistent holds after a step is only defined while its memory is not reused: the logits, and
    /// parameter gradients that were kept.
    ///
    /// # Errors
    /// An unknown name, or the device failed.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let compiled = self.program();
        let id = compiled
            .program
            .find(name)
            .ok_or_else(|| Error::UnknownValue { name: name.into() })?;
        let (layout, place) = (compiled.program.value(id).layout, compiled.place(id)?);
        let words = self.read_words(place)?;
        kernels::unpack(&layout, &words)
    }

    /// Sets a value that holds from step to step, in PyTorch's order.
    ///
    /// # Errors
    /// An unknown name, a wrong number of elements, or the device failed.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<(), Error> {
        let compiled = self.program();
        let id = compiled
            .program
            .find(name)
            .filter(|id| compiled.program.value(*id).role.is_persistent())
            .ok_or_else(|| Error::UnknownValue { name: name.into() })?;
        let (layout, place) = (compiled.program.value(id).layout, compiled.place(id)?);
        let words = kernels::pack(name, &layout, values)?;
        self.write_words(place, smidgen_gpu::bytemuck::cast_slice(&words))
    }

    /// Sets parameters and running statistics, after checking that they are those of the network.
    ///
    /// # Errors
    /// A missing, unknown or misshapen tensor: then nothing is changed. Or the device failed.
    pub fn load(&mut self, weights: &Weights) -> Result<(), Error> {
        weights.check(&self.graph)?;
        for name in self.tensor_names() {
            if let Some(tensor) = weights.tensors.get(&name) {
                self.write(&name, &tensor.values)?;
            }
        }
        Ok(())
    }

    /// Parameters and running statistics under PyTorch's names.
    ///
    /// # Errors
    /// The device failed.
    pub fn weights(&mut self) -> Result<Weights, Error> {
        let mut weights = Weights::default();
        for name in self.tensor_names() {
            let values = self.read(&name)?;
            let parameter = self
                .graph
                .parameters()
                .iter()
                .find(|parameter| parameter.name == name);
            let shape =
                parameter.map_or_else(|| vec![values.len()], |parameter| parameter.shape.clone());
            weights.tensors.insert(name, Tensor { shape, values });
        }
        Ok(weights)
    }

    fn tensor_names(&self) -> Vec<String> {
        let parameters = self
            .graph
            .parameters()
            .iter()
            .map(|parameter| parameter.name.clone());
        parameters
            .chain(
                self.graph
                    .buffers()
                    .iter()
                    .map(|buffer| buffer.name.clone()),
            )
            .collect()
    }

    /// Names of the optimiser's state.
    #[must_use]
    pub fn state_names(&self) -> Vec<String> {
        let values = &self.main_program().values;
        values
            .iter()
            .filter(|value| value.role == Role::OptimizerState)
            .map(|value| value.name.clone())
            .collect()
    }

    /// Runs forward and loss of the training program on a batch, one operation at a time, and tells the layer and the value that
    /// first held a number that is not finite; `None` if there is none. Slow: for finding out why a loss was NaN.
    ///
    /// # Errors
    /// The device failed.
    pub fn find_non_finite(
        &mut self,
        images: &[f32],
        labels: &[u32],
        options: &StepOptions,
    ) -> Result<Option<(String, String)>, Error> {
        let compiled = self.program();
        let mut checks: Vec<(String, String, Place)> = Vec::new();
        for (at, value) in compiled.program.values.iter().enumerate() {
            if value.role == Role::Parameter {
                let layer = value.name.rsplit_once('.').map_or("", |(layer, _)| layer);
                checks.push((
                    layer.to_owned(),
                    value.name.clone(),
                    compiled.place(ValueId(at))?,
                ));
            }
        }
        for (layer, name, place) in checks {
            if !self.is_finite(place)? {
                return Ok(Some((layer, name)));
            }
        }
        self.upload_only(images, labels, options)?;
        let images = self.program().program.images;
        let place = self.program().place(images)?;
        if !self.is_finite(place)? {
            return Ok(Some(("the data".into(), "images".into())));
        }
        for at in 0..self.program().launches.len() {
            let compiled = self.program();
            let operation = &compiled.program.operations[at];
            if matches!(operation.phase, Phase::Backward | Phase::Update) {
                break;
            }
            let range = compiled.launches[at].clone();
            self.device
                .run(|pass| compiled.sequence.record_range(pass, range))?;
            let layer = operation.layer.clone();
            let written: Vec<(String, Place)> = operation
                .writes()
                .into_iter()
                .map(|id| (id, compiled.program.value(id)))
                .filter(|(_, value)| {
                    matches!(value.layout, Layout::Map(_) | Layout::Vector { .. })
                        && value.role != Role::Running
                })
                .map(|(id, value)| Ok((value.name.clone(), compiled.place(id)?)))
                .collect::<Result<_, Error>>()?;
            for (name, place) in written {
                if !self.is_finite(place)? {
                    return Ok(Some((layer, name)));
                }
            }
        }
        Ok(None)
    }

    fn upload_only(
        &mut self,
        images: &[f32],
        labels: &[u32],
        options: &StepOptions,
    ) -> Result<(), Error> {
        let control = Control {
            seed: options.seed,
            ..Control::default()
        };
        let compiled = self
            .training
            .as_ref()
            .map_or(&self.evaluation, |(_, compiled)| compiled);
        let mut encoder = self
            .device
            .wgpu()
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        upload(
            &self.device,
            &self.arena,
            &self.plan,
            compiled,
            &mut self.staging,
            &mut encoder,
            (images, labels),
            &control,
        )?;
        self.device.queue().submit([encoder.finish()]);
        self.staging.submitted();
        Ok(self.device.wait()?)
    }

    fn is_finite(&mut self, place: Place) -> Result<bool, Error> {
        Ok(self
            .read_words(place)?
            .iter()
            .all(|word| f32::from_bits(*word).is_finite()))
    }

    fn read_words(&mut self, place: Place) -> Result<Vec<u32>, Error> {
        let (buffer, offset) = locate(&self.plan, place);
        let mut words = Vec::with_capacity((place.bytes / 4) as usize);
        let mut at = 0;
        while at < place.bytes {
            let bytes = (place.bytes - at).min(TRANSFER_BYTES);
            let mut encoder = self
                .device
                .wgpu()
                .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.transfer
                .download(&mut encoder, &self.arena[buffer], offset + at, bytes)?;
            self.device.queue().submit([encoder.finish()]);
            self.transfer.submitted();
            self.transfer.oldest(&self.device, |view| {
                words.extend(
                    view[..bytes as usize]
                        .chunks_exact(4)
                        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
                );
            })?;
            at += bytes;
        }
        Ok(words)
    }

    fn write_words(&mut self, place: Place, contents: &[u8]) -> Result<(), Error> {
        let (buffer, offset) = locate(&self.plan, place);
        for (at, piece) in contents.chunks(TRANSFER_BYTES as usize).enumerate() {
            let mut encoder = self
                .device
                .wgpu()
                .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let to = offset + at as u64 * TRANSFER_BYTES;
            let copies = [(0, &self.arena[buffer], to, piece.len() as u64)];
            self.staging
                .upload(&self.device, &mut encoder, &copies, |view| {
                    view.slice(..piece.len()).copy_from_slice(piece);
                })?;
            self.device.queue().submit([encoder.finish()]);
            self.staging.submitted();
        }
        Ok(self.device.check()?)
    }
}

impl Compiled {
    fn place(&self, id: ValueId) -> Result<Place, Error> {
        self.plan.values[id.0].ok_or_else(|| Error::UnknownValue {
            name: self.program.value(id).name.clone(),
        })
    }
}

/// The buffer of the arena that a place lies in, and its offset there.
fn locate(plan: &Plan, place: Place) -> (usize, u64) {
    let buffer = plan.limits.max_buffer_bytes;
    ((place.offset / buffer) as usize, place.offset % buffer)
}

/// What is sent to the device before a step, one part after the other.
struct Upload {
    images: u64,
    labels: u64,
}

impl Upload {
    fn of(program: &Program) -> Self {
        let bytes = |id| program.value(id).layout.bytes();
        Self {
            images: bytes(program.images),
            labels: bytes(program.labels),
        }
    }

    fn bytes(&self) -> u64 {
        self.images + self.labels + Control::HOST_BYTES
    }
}

#[allow(clippy::too_many_arguments)] // The parts of a session that are borrowed apart.
fn upload(
    device: &Device,
    arena: &[wgpu::Buffer],
    plan: &Plan,
    compiled: &Compiled,
    staging: &mut StagingRing,
    encoder: &mut wgpu::CommandEncoder,
    (images, labels): (&[f32], &[u32]),
    control: &Control,
) -> Result<(), Error> {
    let sizes = Upload::of(&compiled.program);
    let (images, labels): (&[u8], &[u8]) = (
        smidgen_gpu::bytemuck::cast_slice(images),
        smidgen_gpu::bytemuck::cast_slice(labels),
    );
    if images.len() as u64 != sizes.images || labels.len() as u64 != sizes.labels {
        return Err(Error::BatchSize {
            images: images.len() as u64 / 4,
            expected: sizes.images / 4,
        });
    }
    let control = &smidgen_gpu::bytemuck::bytes_of(control)[..Control::HOST_BYTES as usize];
    let parts = [
        (compiled.program.images, images),
        (compiled.program.labels, labels),
        (compiled.program.control, control),
    ];
    let (mut copies, mut from) = (Vec::with_capacity(parts.len()), 0);
    for (id, part) in parts {
        // A value that nothing reads has no place, and is not sent.
        if let Some(place) = compiled.plan.values[id.0] {
            let (buffer, offset) = locate(plan, place);
            copies.push((from, &arena[buffer], offset, part.len() as u64));
        }
        from += part.len() as u64;
    }
    staging.upload(device, encoder, &copies, |view| {
        let mut at = 0;
        for (_, part) in parts {
            view.slice(at..at + part.len()).copy_from_slice(part);
            at += part.len();
        }
    })?;
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The parts of a session that are borrowed apart.
fn submit(
    device: &Device,
    arena: &[wgpu::Buffer],
    plan: &Plan,
    compiled: &Compiled,
    staging: &mut StagingRing,
    metrics: &mut ReadbackRing,
    batch: (&[f32], &[u32]),
    control: &Control,
) -> Result<(), Error> {
    if metrics.is_full() {
        return Err(Error::UnreadMetrics);
    }
    let mut encoder = device
        .wgpu()
        .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    upload(
        device,
        arena,
        plan,
        compiled,
        staging,
        &mut encoder,
        batch,
        control,
    )?;
    compiled
        .sequence
        .record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
    let (buffer, offset) = locate(plan, compiled.place(compiled.program.metrics)?);
    metrics.download(&mut encoder, &arena[buffer], offset, Metrics::BYTES)?;
    device.queue().submit([encoder.finish()]);
    staging.submitted();
    metrics.submitted();
    Ok(device.check()?)
}
