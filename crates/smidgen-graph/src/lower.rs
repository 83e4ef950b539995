//! From a graph to a program.

use crate::attributes::{Activation, ConvolutionAttributes};
use crate::differentiate::differentiate;
use crate::emitter::{Emitter, Filtered};
use crate::error::GraphError;
use crate::filter::{FilterState, patch_sums_shape};
use crate::graph::{Graph, Layer, Node};
use crate::operation::{OperationKind, Optimizer, Phase, RehearsalMemory};
use crate::patches;
use crate::program::{CONTROL_WORDS, FORGETTING, Layout, METRICS_WORDS, Program, Role, ValueId};
use crate::shape::MapShape;
use crate::slopes;
use crate::source::Source;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// No value may be larger, so that sums of bytes stay far from overflowing.
const LARGEST_VALUE: u64 = 1 << 44;

/// What a program is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lowering {
    /// Images in a batch.
    pub batch: u32,
    /// Whether it learns.
    pub mode: Mode,
}

/// What a training program keeps of single examples. The labels of a step then hold, after the class of every picture, the number of
/// every picture's example.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ExampleMemory {
    /// Examples whose forgetting is counted, four bytes each, in the value [`FORGETTING`](crate::FORGETTING); 0 for none.
    pub counted: u32,
    /// Examples that are held to be learned from again.
    pub rehearsal: Option<Rehearsal>,
}

impl ExampleMemory {
    /// Words of the labels for every picture.
    #[must_use]
    pub fn words(&self) -> u32 {
        match self.rehearsal {
            Some(_) => 4,
            None => 1 + u32::from(self.counted > 0),
        }
    }
}

/// A memory of pictures and logits to rehearse from (DER++, Buzzega et al., NeurIPS 2020). A third of the pictures of a batch are new, the
/// rest come from the memory: the second third is to be answered as it was, the last to be classified. The labels of a step then hold four
/// words for every picture, in planes: class, example, slot and range of classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Pictures that it holds: a byte a channel (of four), and the logits, on the device.
    pub slots: u32,
    /// Weight of the squared distance from the logits that were kept.
    pub distillation: f32,
    /// Weight of the cross entropy of what is classified again.
    pub repetition: f32,
    /// By channel, what a number of a picture is multiplied by, and what is then added, to be from 0 to 1: deviation and mean of the
    /// normalisation.
    pub to_bytes: [[f32; 4]; 2],
}

/// Whether a program learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Forward, loss, backward and update. Batch norm uses the statistics of the batch, that of frozen layers too.
    Train {
        /// Updates each trainable parameter.
        optimizer: Optimizer,
        /// Share of the target spread over all classes.
        label_smoothing: f32,
        /// The largest norm that all gradients together may have. All of them are then held until the end of the step.
        clip_norm: Option<f32>,
        /// Whether the gradients of parameters can be read after the step.
        keep_gradients: bool,
        /// How gradient and state of filtered weights are held.
        filter_state: FilterState,
        /// What is kept of single training examples.
        examples: ExampleMemory,
        /// Batches whose gradients are summed before one update: the program then computes one of them, and adds. Above 0.
        micro_batches: u32,
    },
    /// Forward and loss. Batch norm uses the running statistics, and nothing is dropped.
    Evaluate,
}

impl Graph {
    /// The program of a step.
    ///
    /// # Errors
    /// If the batch is empty or beyond reason, there is nothing to train, or a batch norm has but one pixel to learn from.
    pub fn lower(&self, lowering: &Lowering) -> Result<Program, GraphError> {
        if lowering.batch == 0 {
            return Err(GraphError::EmptyBatch);
        }
        let training = matches!(lowering.mode, Mode::Train { .. });
        if training && !self.parameters.iter().any(|parameter| parameter.trainable) {
            return Err(GraphError::NothingTrainable {
                network: self.name.clone(),
            });
        }
        if training {
            self.check_filters()?;
        }
        if let Mode::Train {
            examples,
            optimizer,
            clip_norm,
            filter_state,
            micro_batches,
            ..
        } = &lowering.mode
        {
            self.check_rehearsal(lowering.batch, examples)?;
            let against = FilterState::against_pairs(optimizer, *clip_norm);
            if let (FilterState::Pair, false, Some(why)) =
                (filter_state, self.filters.is_empty(), against)
            {
                return Err(GraphError::PairState { why });
            }
            if *micro_batches == 0 {
                return Err(GraphError::EmptyBatch);
            }
            if *micro_batches > 1 && examples.rehearsal.is_some() {
                return Err(GraphError::RehearsalInParts);
            }
        }
        for node in &self.nodes {
            let bytes = Layout::Map(shape(node, lowering.batch)).bytes();
            if bytes > LARGEST_VALUE {
                let layer = node.name.clone();
                return Err(GraphError::TooLarge { layer, bytes });
            }
            let single = shape(node, lowering.batch).pixels() == 1;
            if training && single && self.uses_batch_statistics(&node.layer) {
                return Err(GraphError::DoesNotFit {
                    layer: node.name.clone(),
                    problem: "a batch norm cannot learn from a single pixel: use a batch of 2 or larger pictures".to_owned(),
                });
            }
        }
        Ok(Forward::new(self, lowering.batch, &lowering.mode).finish(&lowering.mode))
    }
}

impl Graph {
    fn check_rehearsal(&self, batch: u32, examples: &ExampleMemory) -> Result<(), GraphError> {
        let Some(rehearsal) = examples.rehearsal else {
            return Ok(());
        };
        let channels = shape(&self.nodes[0], batch).channels;
        if batch.is_multiple_of(3) && channels <= 4 && rehearsal.slots > 0 {
            return Ok(());
        }
        Err(GraphError::DoesNotFit {
            layer: "rehearsal".to_owned(),
            problem: format!(
                "a batch of {batch} pictures of {channels} channels and a memory of {} slots: use a batch that is a multiple of 3, at most 4 \
                 channels, and at least one slot",
                rehearsal.slots
            ),
        })
    }

    /// Whether training computes statistics of a batch, so that what a picture brings depends on those it stands among: then the gradient of a
    /// batch is not the sum of those of its parts.
    #[must_use]
    pub fn uses_statistics_of_batches(&self) -> bool {
        self.nodes
            .iter()
            .any(|node| self.uses_batch_statistics(&node.layer))
    }

    /// Whether a layer, while training, normalises by the statistics of the batch.
    fn uses_batch_statistics(&self, layer: &Layer) -> bool {
        let Layer::BatchNorm { scale, shift, .. } = layer else {
            return false;
        };
        !self.frozen_statistics
            || [scale, shift]
                .iter()
                .any(|id| self.parameters[id.0].trainable)
    }
}

/// The forward pass, layer by layer.
struct Forward<'graph> {
    graph: &'graph Graph,
    batch: u32,
    training: bool,
    /// In how many parts a step computes its batch.
    parts: u32,
    emitter: Emitter,
    control: ValueId,
    metrics: ValueId,
    images: ValueId,
    labels: ValueId,
    forgetting: Option<ValueId>,
    rehearsal: Option<RehearsalMemory>,
    parameters: Vec<ValueId>,
    buffers: Vec<ValueId>,
    /// What each node returned.
    results: Vec<Source>,
    dropouts: u32,
    /// Patch sums there are, by what was summed, their map, the stride and the patch.
    patch_sums: HashMap<(Source, MapShape, [u32; 2], u32), ValueId>,
}

/// The share of a running average that a part of a batch takes, so that all parts together take what the batch would: averages over as many pictures as ever.
fn of_part(momentum: f32, parts: u32) -> f32 {
    match parts {
        1 => momentum,
        _ => 1.0 - (1.0 - momentum).powf(1.0 / parts as f32),
    }
}

impl<'graph> Forward<'graph> {
    fn new(graph: &'graph Graph, batch: u32, mode: &Mode) -> Self {
        let (training, examples, parts) = match mode {
            Mode::Train {
                examples,
                micro_batches,
                ..
            } => (true, *examples, *micro_batches),
            Mode::Evaluate => (false, ExampleMemory::default(), 1),
        };
        let mut emitter = Emitter::default();
        let words = |count| Layout::Words { count };
        let control = emitter.value("control", words(CONTROL_WORDS), Role::Control);
        let metrics = emitter.value("metrics", words(METRICS_WORDS), Role::Metrics);
        let images = Layout::Map(shape(&graph.nodes[0], batch));
        let images = emitter.value("images", images, Role::Images);
        let labels = words(batch.saturating_mul(examples.words()));
        let labels = emitter.value("labels", labels, Role::Labels);
        let forgetting = (examples.counted > 0)
            .then(|| emitter.value(FORGETTING, words(examples.counted), Role::Examples));
        let rehearsal = examples.rehearsal.map(|options| {
            let input = shape(&graph.nodes[0], batch);
            let output = &graph.nodes[graph.output.0];
            let classes = shape(output, batch).channels.next_multiple_of(4);
            let pixels = input.height * input.width;
            let slots = |count: u32| words(options.slots.saturating_mul(count));
            RehearsalMemory {
                options,
                images: emitter.value("rehearsed pictures", slots(pixels), Role::Examples),
                logits: emitter.value("rehearsed logits", slots(classes), Role::Examples),
            }
        });
        if let Some(memory) = rehearsal {
            let kind = OperationKind::Rehearse {
                shape: shape(&graph.nodes[0], batch),
                classes: shape(&graph.nodes[graph.output.0], batch).channels,
                memory,
                labels,
                images,
            };
            emitter.push("rehearsal", Phase::Forward, kind);
        }
        let mut parameters = Vec::new();
        for parameter in &graph.parameters {
            let id = emitter.value(&parameter.name, parameter.layout, Role::Parameter);
            if training && parameter.trainable {
                emitter.require(id);
            }
            parameters.push(id);
        }
        let mut buffers = Vec::new();
        for buffer in &graph.buffers {
            let channels = buffer.channels;
            buffers.push(emitter.value(&buffer.name, Layout::Vector { channels }, Role::Running));
        }
        Self {
            graph,
            batch,
            training,
            parts,
            emitter,
            control,
            metrics,
            images,
            labels,
            forgetting,
            rehearsal,
            parameters,
            buffers,
            results: Vec::with_capacity(graph.nodes.len()),
            dropouts: 0,
            patch_sums: HashMap::new(),
        }
    }

    fn finish(mut self, mode: &Mode) -> Program {
        for (index, fusion) in self.fusions().into_iter().enumerate() {
            let result = match fusion {
                // Nobody but the activation that follows asks for the result.
                Fusion::IntoNext => self.images.into(),
                Fusion::Applies(activation) => {
                    let previous = self.graph.nodes[index].inputs[0].0;
                    self.layer(previous, index, activation)
                }
                Fusion::None => self.layer(index, index, Activation::Identity),
            };
            self.results.push(result);
        }
        let output = &self.graph.nodes[self.graph.output.0];
        let logits = self.results[self.graph.output.0];
        let logits = self
            .plain(&output.name, shape(output, self.batch), logits)
            .value;
        let kept = match *mode {
            Mode::Evaluate => {
                self.loss(logits, 0.0, None);
                Vec::new()
            }
            Mode::Train {
                optimizer,
                label_smoothing,
                clip_norm,
                keep_gradients,
                filter_state,
                examples: _,
                micro_batches,
            } => {
                let name = format!("gradient of {}", self.emitter.name(logits));
                let layout = self.emitter.layout(logits);
                let gradient = self.emitter.value(name, layout, Role::Gradient);
                self.loss(logits, label_smoothing, Some(gradient));
                let (emitter, output) = (&mut self.emitter, (logits, gradient));
                emitter.keeps_slopes = self.graph.frozen_statistics;
                let gradients = differentiate(
                    emitter,
                    output,
                    self.control,
                    optimizer,
                    clip_norm,
                    filter_state,
                    micro_batches > 1,
                );
                if self.graph.frozen_statistics {
                    slopes::keep(emitter);
                }
                patches::join(emitter);
                if micro_batches > 1 {
                    patches::sum_taps_once(emitter);
                }
                if keep_gradients {
                    gradients
                } else {
                    Vec::new()
                }
            }
        };
        Program {
            batch: self.batch,
            slab: self.batch,
            micro_batches: match *mode {
                Mode::Train { micro_batches, .. } => micro_batches,
                Mode::Evaluate => 1,
            },
            values: self.emitter.values,
            operations: self.emitter.operations,
            images: self.images,
            labels: self.labels,
            logits,
            control: self.control,
            metrics: self.metrics,
            kept,
        }
    }

    fn loss(&mut self, logits: ValueId, label_smoothing: f32, logit_gradient: Option<ValueId>) {
        let input = shape(&self.graph.nodes[0], self.batch);
        let kind = OperationKind::CrossEntropy {
            shape: shape(&self.graph.nodes[self.graph.output.0], self.batch),
            label_smoothing,
            logits,
            labels: self.labels,
            control: self.control,
            metrics: self.metrics,
            logit_gradient,
            forgetting: self.forgetting,
            rehearsal: self.rehearsal.map(|memory| (memory, self.images, input)),
        };
        self.emitter.push("loss", Phase::Loss, kind);
    }

    /// Which batch norms and additions apply the activation that follows them, and nobody else, themselves.
    fn fusions(&self) -> Vec<Fusion> {
        let consumers = self.graph.consumers();
        let mut fusions = vec![Fusion::None; self.graph.nodes.len()];
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let Layer::Activation(activation) = node.layer else {
                continue;
            };
            let previous = node.inputs[0].0;
            let fits = match self.graph.nodes[previous].layer {
                Layer::BatchNorm { .. } => true,
                // The sum itself is not held, so backward must follow from the output.
                Layer::Add => activation.is_mask(),
                _ => false,
            };
            if fits && consumers[previous] == 1 {
                fusions[previous] = Fusion::IntoNext;
                fusions[index] = Fusion::Applies(activation);
            }
        }
        fusions
    }

    /// Emits a layer; its result is called after `named`, which is the activation it applies, if any.
    fn layer(&mut self, index: usize, named: usize, activation: Activation) -> Source {
        let graph = self.graph;
        let node = &graph.nodes[index];
        let mut inputs: Vec<Source> = node
            .inputs
            .iter()
            .map(|input| self.results[input.0])
            .collect();
        let output_shape = shape(node, self.batch);
        let Some(&input) = inputs.first() else {
            return self.images.into();
        };
        let shape = shape(&graph.nodes[node.inputs[0].0], self.batch);
        match &node.layer {
            Layer::Input | Layer::Flatten => return input,
            Layer::Dropout { probability } if *probability <= 0.0 || !self.training => {
                return input;
            }
            Layer::BatchNorm { scale, shift, .. } => {
                let input = self.plain(&node.name, shape, input);
                let parameters = [scale, shift].map(|id| self.parameters[id.0]);
                let output = Source {
                    normalisation: Some(self.statistics(node, shape, input.value, parameters)),
                    activation,
                    ..input
                };
                return self
                    .emitter
                    .view(&node.name, shape, input, output, &parameters);
            }
            Layer::Activation(activation) => {
                let input = if input.activation == Activation::Identity {
                    input
                } else {
                    self.plain(&node.name, shape, input)
                };
                let output = Source {
                    activation: *activation,
                    ..input
                };
                return self.emitter.view(&node.name, shape, input, output, &[]);
            }
            Layer::Add => self.summable(&node.name, shape, activation, &mut inputs),
            _ => {}
        }
        let layout = Layout::Map(output_shape);
        let output = self
            .emitter
            .value(&graph.nodes[named].name, layout, Role::Activation);
        let mut reads = inputs.clone();
        let kind = match &node.layer {
            Layer::Input | Layer::Flatten | Layer::BatchNorm { .. } | Layer::Activation(_) => {
                return input;
            }
            Layer::Convolution {
                attributes,
                weight,
                bias,
            } => {
                let weight = self.parameters[weight.0];
                let bias = bias.map(|bias| self.parameters[bias.0]);
                reads.push(weight.into());
                reads.extend(bias.map(Source::from));
                OperationKind::Convolution {
                    attributes: *attributes,
                    shape,
                    input,
                    weight,
                    bias,
                    output,
                    moments: None,
                }
            }
            Layer::Add => OperationKind::Add {
                shape,
                activation,
                left: inputs[0],
                right: inputs[1],
                output,
            },
            Layer::Concat => OperationKind::Concat {
                shape: output_shape,
                inputs,
                output,
            },
            Layer::Shortcut {
                stride,
                channel_offset,
            } => OperationKind::Shortcut {
                shape,
                stride: *stride,
                output_channels: output_shape.channels,
                channel_offset: *channel_offset,
                input,
                output,
            },
            Layer::MaxPool(attributes) => {
                let name = format!("{}.taps", node.name);
                let bits = attributes.tap_bits();
                let taps = self.emitter.requires(input).then(|| {
                    self.emitter.value(
                        name,
                        Layout::Taps {
                            shape: output_shape,
                            bits,
                        },
                        Role::Statistics,
                    )
                });
                OperationKind::MaxPool {
                    shape,
                    attributes: *attributes,
                    input,
                    output,
                    taps,
                }
            }
            Layer::AveragePool(attributes) => OperationKind::AveragePool {
                shape,
                attributes: *attributes,
                input,
                output,
            },
            Layer::GlobalAveragePool => OperationKind::GlobalAveragePool {
                shape,
                input,
                output,
            },
            Layer::Dropout { probability } => {
                let stream = self.dropouts;
                self.dropouts += 1;
                let (probability, control) = (*probability, self.control);
                OperationKind::Dropout {
                    shape,
                    probability,
                    stream,
                    control,
                    input,
                    output,
                }
            }
        };
        if let OperationKind::Convolution { attributes, .. } = kind
            && let Some(&patch) = self.graph.filters.get(&index).filter(|_| self.training)
        {
            self.filter(&node.name, &attributes, shape, patch, input, output);
        }
        self.emitter.forward(&node.name, &reads, kind);
        output.into()
    }

    /// Emits the patch sums that the filtered backward pass of a convolution needs instead of its input. Convolutions beside each other on
    /// one input share them.
    fn filter(
        &mut self,
        layer: &str,
        attributes: &ConvolutionAttributes,
        shape: MapShape,
        patch: u32,
        input: Source,
        output: ValueId,
    ) {
        let Some(patches) = patch_sums_shape(attributes, shape, patch) else {
            return;
        };
        let key = (input, patches, attributes.stride, patch);
        let sums = match self.patch_sums.get(&key) {
            Some(&sums) => sums,
            None => {
                let name = format!("{layer}.patch_sums");
                let layout = Layout::Map(patches);
                let sums = self.emitter.value(name, layout, Role::Activation);
                let kind = OperationKind::FilterPatchSums {
                    attributes: *attributes,
                    shape,
                    patch,
                    input,
                    sums,
                    counts: None,
                };
                self.emitter.push(layer, Phase::Forward, kind);
                self.patch_sums.insert(key, sums);
                sums
            }
        };
        self.emitter
            .filtered
            .insert(output, Filtered { patch, sums });
    }

    /// What `input` is read as, as a value that stands in memory; emits what writes it where there is none.
    fn plain(&mut self, layer: &str, shape: MapShape, input: Source) -> Source {
        if input.is_plain() {
            return input;
        }
        let name = format!("{layer}.input");
        let output = self
            .emitter
            .value(name, Layout::Map(shape), Role::Activation);
        let kind = OperationKind::Apply {
            shape,
            input,
            output,
        };
        self.emitter.forward(layer, &[input], kind);
        output.into()
    }

    /// Terms as an addition can read them: of one value only in one way, and all that is activated in one way.
    fn summable(
        &mut self,
        layer: &str,
        shape: MapShape,
        activation: Activation,
        terms: &mut [Source],
    ) {
        let mut kind = activation;
        for at in 0..terms.len() {
            let other_way = terms[..at]
                .iter()
                .any(|term| term.value == terms[at].value && *term != terms[at]);
            let own = terms[at].activation;
            let clash = own != Activation::Identity && kind != Activation::Identity && own != kind;
            if other_way || clash {
                terms[at] = self.plain(layer, shape, terms[at]);
            } else if kind == Activation::Identity {
                kind = own;
            }
        }
    }

    /// Emits what gives a batch norm its normalisation.
    fn statistics(
        &mut self,
        node: &Node,
        shape: MapShape,
        input: ValueId,
        [scale, shift]: [ValueId; 2],
    ) -> ValueId {
        let channels = shape.channels;
        let normalisation = self.emitter.value(
            format!("{}.normalisation", node.name),
            Layout::Normalisation { channels },
            Role::Statistics,
        );
        if let Layer::BatchNorm {
            epsilon,
            momentum,
            running_mean,
            running_variance,
            ..
        } = node.layer
        {
            let running_mean = self.buffers[running_mean.0];
            let running_variance = self.buffers[running_variance.0];
            let kind = if self.training && self.graph.uses_batch_statistics(&node.layer) {
                let input = self.emitter.moments(shape, input).unwrap_or(input);
                OperationKind::BatchNormStatistics {
                    shape,
                    epsilon,
                    momentum: of_part(momentum, self.parts),
                    input,
                    scale,
                    shift,
                    running_mean,
                    running_variance,
                    normalisation,
                }
            } else {
                OperationKind::BatchNormPrepare {
                    channels,
                    epsilon,
                    scale,
                    shift,
                    running_mean,
                    running_variance,
                    normalisation,
                }
            };
            self.emitter.push(&node.name, Phase::Forward, kind);
        }
        normalisation
    }
}

/// Whether a layer is emitted together with a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fusion {
    None,
    IntoNext,
    /// The layer before applies this activation.
    Applies(Activation),
}

fn shape(node: &Node, batch: u32) -> MapShape {
    let [channels, height, width] = node.shape;
    MapShape::new(batch, channels, height, width)
}
