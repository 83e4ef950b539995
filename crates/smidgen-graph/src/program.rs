//! A training step as one fixed list of operations over values: what the planner places and the host executes.

use crate::attributes::ConvolutionAttributes;
use crate::operation::{Operation, Phase};
use crate::shape::MapShape;
use crate::sparsity::SparseBlocks;
use serde::{Deserialize, Serialize};

/// 32-bit words of the control block.
pub const CONTROL_WORDS: u32 = 8;

/// 32-bit words of the metrics.
pub const METRICS_WORDS: u32 = 8;

/// 32-bit words in which an encoder tells the error it reached.
pub const BOUND_WORDS: u32 = 8;

/// The name of the value that counts the forgetting of examples.
pub const FORGETTING: &str = "forgetting of examples";

/// Index of a value in [`Program::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub usize);

/// How the numbers of a value stand in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Planes of quads: `ceil(C/4)` planes of `N*H*W` quads, f32.
    Map(MapShape),
    /// The same in f16: half the bytes.
    HalfMap(MapShape),
    /// So many bits an element of a map, in words of pixels that are 64 apart: the tap of a window that its maximum was found at.
    Taps {
        /// Of the map of maxima.
        shape: MapShape,
        /// Bits of a tap.
        bits: u32,
    },
    /// One f32 a channel, padded to a multiple of four.
    Vector {
        /// Channels, before padding.
        channels: u32,
    },
    /// Scale, shift, mean and inverse deviation: four f32 a channel, padded likewise; four vectors a quad.
    Normalisation {
        /// Channels, before padding.
        channels: u32,
    },
    /// What the statistics of a map are merged from, as its producer leaves it: mean and squared deviations of some pixels at a time.
    Moments(MapShape),
    /// The weight of a convolution in stacks of 4x4 blocks (or quads, where it is depthwise), f32.
    Weight(ConvolutionAttributes),
    /// The weight of a sparse convolution: values of live blocks, and what tells where they stand (see [`SparseBlocks::parts`]).
    SparseWeight(ConvolutionAttributes, SparseBlocks),
    /// A number for every value of a sparse weight: its gradient, or a state of its optimiser.
    SparseValues(ConvolutionAttributes, SparseBlocks),
    /// 32-bit words without further structure.
    Words {
        /// How many.
        count: u32,
    },
}

impl Layout {
    /// Multiply-adds of one output pixel of a convolution that has this weight, or weight gradient.
    #[must_use]
    pub fn multiply_adds_per_pixel(&self, attributes: &ConvolutionAttributes) -> u64 {
        match self {
            Self::SparseWeight(_, blocks) | Self::SparseValues(_, blocks) => {
                blocks.multiply_adds_per_pixel(attributes)
            }
            _ => attributes.multiply_adds_per_pixel(),
        }
    }

    /// The shape of a map, in whichever numbers.
    #[must_use]
    pub fn map(&self) -> Option<MapShape> {
        match self {
            Self::Map(shape) | Self::HalfMap(shape) => Some(*shape),
            _ => None,
        }
    }

    /// Bytes of a value of this layout, padding of channels included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let padded = |channels: u32| u64::from(channels).next_multiple_of(4);
        let map = |shape: &MapShape| padded(shape.channels).saturating_mul(shape.pixels());
        match self {
            Self::Map(shape) => map(shape).saturating_mul(4),
            Self::HalfMap(shape) => map(shape).saturating_mul(2),
            Self::Taps { shape, bits } => {
                let block = 64 * 8 / u64::from(*bits);
                let words = shape.pixels() / block * 64 + (shape.pixels() % block).min(64);
                padded(shape.channels).saturating_mul(words)
            }
            Self::Vector { channels } => padded(*channels) * 4,
            Self::Normalisation { channels } => padded(*channels) * 16,
            // At most three vectors a quad for every 64 pixels, and one before all.
            Self::Moments(shape) => (padded(shape.channels) * 12)
                .saturating_mul(shape.pixels().div_ceil(64))
                .saturating_add(16),
            Self::Weight(attributes) => attributes.weight_elements().saturating_mul(4),
            Self::SparseWeight(attributes, blocks) => blocks.weight_bytes(attributes),
            Self::SparseValues(attributes, blocks) => blocks.value_bytes(attributes),
            Self::Words { count } => u64::from(*count) * 4,
        }
    }

    /// The layout of the gradient of a parameter of this layout, and of its optimiser's state.
    #[must_use]
    pub fn of_gradient(self) -> Self {
        match self {
            Self::SparseWeight(attributes, blocks) => Self::SparseValues(attributes, blocks),
            other => other,
        }
    }
}

/// What a value is for; it decides how long its memory must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Learned by the optimiser, or frozen. Holds from step to step.
    Parameter,
    /// Momentum and the like. Holds from step to step.
    OptimizerState,
    /// Running statistics of a normalisation. Holds from step to step.
    Running,
    /// The control block: learning rate, seed, whether training was halted. Holds from step to step.
    Control,
    /// Loss and counts of the step, and the errors that codes reached, read by the host at its end. Holds from step to step.
    Metrics,
    /// The pictures of the batch, uploaded before the first operation.
    Images,
    /// The labels of the batch, uploaded before the first operation.
    Labels,
    /// What is kept of single training examples. Holds from step to step.
    Examples,
    /// Made in the forward pass.
    Activation,
    /// Normalisations, taps of maxima and other small things the forward pass leaves for the backward pass.
    Statistics,
    /// A stash in the host's memory: no bytes of the device.
    Offloaded,
    /// Made of parameters before the first micro-batch of a step. Holds to the last.
    Prepared,
    /// The gradient of an activation.
    Gradient,
    /// The gradient of a parameter.
    ParameterGradient,
    /// The gradient of a parameter, summed over the micro-batches of a step. Holds from one to the next; zero before the first.
    GradientSum,
}

impl Role {
    /// Whether the value holds from step to step, so that its memory is never shared.
    #[must_use]
    pub fn is_persistent(self) -> bool {
        matches!(
            self,
            Self::Parameter
                | Self::OptimizerState
                | Self::Running
                | Self::Control
                | Self::Metrics
                | Self::Examples
                | Self::Prepared
                | Self::GradientSum
        )
    }
}

/// A tensor of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// Unique; a parameter has its PyTorch name (`layer1.0.conv1.weight`), its gradient `gradient of ...`.
    pub name: String,
    /// How it stands in memory.
    pub layout: Layout,
    /// What it is for.
    pub role: Role,
}

/// Values and, in the order they run, operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Images in a batch, or in a micro-batch.
    pub batch: u32,
    /// Images of a slab: maps stand in memory as so many images at a time, one range behind the other, each laid out as a map of its own. As many as the
    /// batch where a device can bind a whole map.
    pub slab: u32,
    /// How often a step runs what stands between preparation and updates, each time on other images.
    pub micro_batches: u32,
    /// Every value, by [`ValueId`].
    pub values: Vec<Value>,
    /// In the order in which they run.
    pub operations: Vec<Operation>,
    /// The pictures.
    pub images: ValueId,
    /// The labels.
    pub labels: ValueId,
    /// What the network says of the pictures.
    pub logits: ValueId,
    /// The control block.
    pub control: ValueId,
    /// Loss and counts.
    pub metrics: ValueId,
    /// Values that must hold until the end of the step, whoever reads them last (kept parameter gradients).
    pub kept: Vec<ValueId>,
}

impl Program {
    /// A value by its id.
    ///
    /// # Panics
    /// If the id is of another program.
    #[must_use]
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The first operation that every micro-batch runs: before it, a step prepares what they all read.
    #[must_use]
    pub fn first_of_part(&self) -> usize {
        let prepared = self.operations.iter();
        let prepared = prepared.take_while(|operation| operation.phase == Phase::Prepare);
        prepared.count()
    }

    /// The first of the updates with which a step ends. Where it runs several micro-batches, all updates stand there.
    #[must_use]
    pub fn first_update(&self) -> usize {
        let updates = (self.operations.iter()).rev();
        let updates = updates.take_while(|operation| operation.phase == Phase::Update);
        self.operations.len() - updates.count()
    }

    /// How often a step runs an operation.
    #[must_use]
    pub fn runs(&self, operation: &Operation) -> u32 {
        match operation.phase {
            Phase::Prepare | Phase::Update => 1,
            _ => self.micro_batches,
        }
    }

    /// A value by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values
            .iter()
            .position(|value| value.name == name)
            .map(ValueId)
    }
}
