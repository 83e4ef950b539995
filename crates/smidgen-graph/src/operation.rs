//! What a step does, one operation at a time.

use crate::attributes::{Activation, ConvolutionAttributes, PoolAttributes};
use crate::forms::Code;
use crate::lower::Rehearsal;
use crate::program::ValueId;
use crate::shape::MapShape;
use crate::source::Source;
use crate::sparsity::SparseBlocks;
use serde::{Deserialize, Serialize};

/// Which part of the step an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// What every part of a step reads, made once before the first.
    Prepare,
    /// From the images to the logits.
    Forward,
    /// Loss, counts and the gradient of the logits.
    Loss,
    /// From the gradient of the logits back.
    Backward,
    /// Clipping and the optimiser.
    Update,
}

/// What of a forward value a backward operation must have again; the less, the cheaper it can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Content {
    /// The numbers, and backward is linear in them: a lossy form is safe.
    Linear,
    /// The numbers exactly.
    Exact,
    /// Only whether each number is above zero (for ReLU6: and below six).
    Mask,
}

/// The values of a memory to rehearse from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RehearsalMemory {
    /// Sizes and weights.
    pub options: Rehearsal,
    /// Pictures.
    pub images: ValueId,
    /// Logits.
    pub logits: ValueId,
}

/// An optimiser's update of one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// Stochastic gradient descent as in PyTorch.
    Sgd {
        /// 0 for none; then there is no state.
        momentum: f32,
        /// Look ahead along the momentum.
        nesterov: bool,
        /// Added to the gradient, times the parameter.
        weight_decay: f32,
    },
    /// Adam (`decoupled: false`) or AdamW (`decoupled: true`) as in PyTorch.
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
        /// L2 penalty, or the decoupled decay.
        weight_decay: f32,
        /// Whether the decay is decoupled from the gradient (AdamW).
        decoupled: bool,
    },
}

impl Optimizer {
    /// Whether it can update the taps of a weight from one gradient for all of them, with one state: not where the decay, which differs
    /// from tap to tap, enters the moments. SGD's decay is taken from the weight itself there.
    #[must_use]
    pub fn takes_pairs(&self) -> bool {
        match self {
            Self::Sgd { .. } => true,
            Self::Adam {
                weight_decay,
                decoupled,
                ..
            } => *decoupled || *weight_decay == 0.0,
        }
    }

    /// How many values of state each parameter needs, each of the size of the parameter.
    #[must_use]
    pub fn states(&self) -> usize {
        match self {
            Self::Sgd { momentum, .. } => usize::from(*momentum != 0.0),
            Self::Adam { .. } => 2,
        }
    }
}

impl Operation {
    /// The same as it runs for the second time in a step: a convolution leaves no moments of its output, the statistics were taken in the
    /// forward pass.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut operation = self.clone();
        if let OperationKind::Convolution { moments, .. } = &mut operation.kind {
            *moments = None;
        }
        operation
    }
}

/// A slope of an activation, held as it was before any code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSlope {
    /// A code for slopes.
    pub code: Code,
    /// Where it is held.
    pub stash: ValueId,
}

/// How a stash is held that an operation decodes as it loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coded {
    /// The code of its numbers.
    pub code: Code,
    /// The slope of the activation that they are read through, if that is held beside them.
    pub slope: Option<HeldSlope>,
}

impl OperationKind {
    /// What of the forward pass the operation reads and can decode as it loads.
    #[must_use]
    pub fn decodes(&self) -> Option<ValueId> {
        match self {
            Self::ConvolutionWeightGradient {
                input,
                output_gradient,
                ..
            }
            | Self::BatchNormBackward {
                input,
                output_gradient,
                ..
            } => Some(input.value).filter(|value| value != output_gradient),
            _ => None,
        }
    }

    /// Has the operation decode a stash as it loads, in the place of [what it can](Self::decodes).
    pub(crate) fn decode(&mut self, stash: ValueId, how: Coded) {
        if let Self::ConvolutionWeightGradient { input, coded, .. }
        | Self::BatchNormBackward { input, coded, .. } = self
        {
            input.value = stash;
            // What is behind the activation is told by the slope.
            if how.slope.is_some() {
                input.activation = Activation::Identity;
            }
            *coded = Some(how);
        }
    }
}

/// One operation. Fields named as values are read, unless the variant's text says that they are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // Fields are named for what they are; shapes follow from the layouts of the values.
pub enum OperationKind {
    /// Writes `output`, and the `moments` of it where a batch norm follows. `shape` is the input's, as in the two gradients.
    Convolution {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        input: Source,
        weight: ValueId,
        bias: Option<ValueId>,
        output: ValueId,
        moments: Option<ValueId>,
    },
    /// Writes `input_gradient`, or adds to it; then multiplies it with the derivative of the activation of `derivative`, as in
    /// [`ActivationBackward`](Self::ActivationBackward).
    ConvolutionInputGradient {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        output_gradient: ValueId,
        weight: ValueId,
        input_gradient: ValueId,
        accumulate: bool,
        derivative: Option<Source>,
    },
    /// Writes `weight_gradient` and `bias_gradient`. Where it is `coded`, here and in the next, the value of `input` is a stash that is decoded as it is
    /// loaded.
    ConvolutionWeightGradient {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        input: Source,
        coded: Option<Coded>,
        output_gradient: ValueId,
        weight_gradient: ValueId,
        bias_gradient: Option<ValueId>,
    },
    /// The weight gradient and the input gradient of one convolution, as [`Program::fused`](crate::Program::fused) makes it of the two: with
    /// `derivative`, that of the activation of `input`.
    ConvolutionBackward {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        input: Source,
        coded: Option<Coded>,
        output_gradient: ValueId,
        weight: ValueId,
        weight_gradient: ValueId,
        bias_gradient: Option<ValueId>,
        input_gradient: ValueId,
        accumulate: bool,
        derivative: bool,
    },
    /// Writes `sums`: what `input` is read as, summed over the patches of a convolution's filtered backward pass. Here and in the other
    /// operations of a filter `shape` is the convolution's input.
    FilterPatchSums {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        patch: u32,
        input: Source,
        sums: ValueId,
        /// Of how many pixels of a patch the activation of `input` has slope 1: a byte a channel.
        counts: Option<ValueId>,
    },
    /// Writes `averages`: `output_gradient` averaged over the patches.
    FilterPatchAverages {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        patch: u32,
        output_gradient: ValueId,
        averages: ValueId,
    },
    /// Writes `weight_gradient`, once for all taps where it has the layout of a single one.
    FilterWeightGradient {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        patch: u32,
        sums: ValueId,
        averages: ValueId,
        weight_gradient: ValueId,
    },
    /// Writes `bias_gradient`, which is exact.
    FilterBiasGradient {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        patch: u32,
        averages: ValueId,
        bias_gradient: ValueId,
    },
    /// Writes `sums`: the weight summed over its taps, in the layout of a single one.
    FilterTapSums {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        patch: u32,
        weight: ValueId,
        sums: ValueId,
    },
    /// Writes `input_gradient`, or adds to it; here and in the next, `weight` is the sums over its taps unless it has but one, or is dilated so
    /// far that taps reach different patches. Then multiplies it with the `derivative` of an activation, as
    /// [`ConvolutionInputGradient`](Self::ConvolutionInputGradient) does, or with `slopes` and the scale of a `normalisation`, as
    /// [`SlopesBackward`](Self::SlopesBackward) does.
    FilterInputGradient {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        patch: u32,
        averages: ValueId,
        weight: ValueId,
        input_gradient: ValueId,
        accumulate: bool,
        derivative: Option<Source>,
        slopes: Option<ValueId>,
        normalisation: Option<ValueId>,
    },
    /// Writes `averages_before`, the patch averages of the filtered convolution before, with its strides: the input gradient at the resolution of patches, multiplied with the
    /// share of pixels that `counts` says and with the scale of a `normalisation`.
    FilterPatchGradient {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        patch: u32,
        averages: ValueId,
        weight: ValueId,
        counts: Option<ValueId>,
        normalisation: Option<ValueId>,
        stride_before: [u32; 2],
        averages_before: ValueId,
    },
    /// Writes `slopes`: one bit an element of what `input` is read as, whether the activation has slope 1 there rather than 0.
    KeepSlopes {
        shape: MapShape,
        input: Source,
        slopes: ValueId,
    },
    /// Writes `input_gradient`, which may take the place of `output_gradient`: that multiplied with the slopes of an activation and with the
    /// scale of a `normalisation` before it, as far as there are any: the backward pass of a batch norm by running statistics that is frozen, or of an activation alone.
    SlopesBackward {
        shape: MapShape,
        output_gradient: ValueId,
        slopes: Option<ValueId>,
        normalisation: Option<ValueId>,
        input_gradient: ValueId,
    },
    /// Writes the `normalisation` of a batch norm by the statistics of the batch, updates the running statistics. `input` is what is normalised,
    /// or its moments.
    BatchNormStatistics {
        shape: MapShape,
        epsilon: f32,
        momentum: f32,
        input: ValueId,
        scale: ValueId,
        shift: ValueId,
        running_mean: ValueId,
        running_variance: ValueId,
        normalisation: ValueId,
    },
    /// Writes the `normalisation` of a batch norm by the running statistics.
    BatchNormPrepare {
        channels: u32,
        epsilon: f32,
        scale: ValueId,
        shift: ValueId,
        running_mean: ValueId,
        running_variance: ValueId,
        normalisation: ValueId,
    },
    /// Writes `input_gradient`, the gradient of the value of `input`, which may take the place of `output_gradient`, that of what `input`
    /// is read as: a batch norm and the activation behind it. Writes `scale_gradient` and `shift_gradient`, both or neither (neither: frozen). `batch_statistics` tells whether
    /// the statistics depended on the input (training). Where it is `coded`, the value of `input` is a stash that is decoded as it is loaded.
    BatchNormBackward {
        shape: MapShape,
        batch_statistics: bool,
        output_gradient: ValueId,
        input: Source,
        coded: Option<Coded>,
        input_gradient: ValueId,
        scale_gradient: Option<ValueId>,
        shift_gradient: Option<ValueId>,
    },
    /// Writes what `input` is read as, for a reader that takes values as they stand.
    Apply {
        shape: MapShape,
        input: Source,
        output: ValueId,
    },
    /// Writes `input_gradient`, which may take the place of `output_gradient`: that multiplied with the derivative of the activation of
    /// `source`, before which the value of `source` stands (or behind which: for ReLU and ReLU6 this gives the same).
    ActivationBackward {
        shape: MapShape,
        output_gradient: ValueId,
        source: Source,
        input_gradient: ValueId,
    },
    /// Writes `output = activation(left + right)`.
    Add {
        shape: MapShape,
        activation: Activation,
        left: Source,
        right: Source,
        output: ValueId,
    },
    /// `target += source`.
    Accumulate {
        shape: MapShape,
        source: ValueId,
        target: ValueId,
    },
    /// Writes `target = source`.
    Copy {
        shape: MapShape,
        source: ValueId,
        target: ValueId,
    },
    /// Writes `output`: the inputs one after the other along the channels. `shape` is the output's.
    Concat {
        shape: MapShape,
        inputs: Vec<Source>,
        output: ValueId,
    },
    /// Writes `input_gradient`: the channels of `output_gradient` from `channel_offset` on. `shape` is the output's.
    ConcatBackward {
        shape: MapShape,
        channel_offset: u32,
        channels: u32,
        output_gradient: ValueId,
        input_gradient: ValueId,
    },
    /// Writes `output`: every `stride`-th pixel, `channel_offset` zero channels before, the rest behind. `shape` is the input's.
    Shortcut {
        shape: MapShape,
        stride: u32,
        output_channels: u32,
        channel_offset: u32,
        input: Source,
        output: ValueId,
    },
    /// Writes `input_gradient`, or adds to it. `shape` is the input's.
    ShortcutBackward {
        shape: MapShape,
        stride: u32,
        output_channels: u32,
        channel_offset: u32,
        output_gradient: ValueId,
        input_gradient: ValueId,
        accumulate: bool,
    },
    /// Writes `output` and `taps` (the latter only where backward follows). `shape` is the input's.
    MaxPool {
        shape: MapShape,
        attributes: PoolAttributes,
        input: Source,
        output: ValueId,
        taps: Option<ValueId>,
    },
    /// Writes `input_gradient`. `shape` is the input's.
    MaxPoolBackward {
        shape: MapShape,
        attributes: PoolAttributes,
        output_gradient: ValueId,
        taps: ValueId,
        input_gradient: ValueId,
        derivative: Option<Source>,
    },
    /// Writes `output`. `shape` is the input's.
    AveragePool {
        shape: MapShape,
        attributes: PoolAttributes,
        input: Source,
        output: ValueId,
    },
    /// Writes `input_gradient`. `shape` is the input's.
    AveragePoolBackward {
        shape: MapShape,
        attributes: PoolAttributes,
        output_gradient: ValueId,
        input_gradient: ValueId,
        derivative: Option<Source>,
    },
    /// Writes `output`, one pixel an image. `shape` is the input's.
    GlobalAveragePool {
        shape: MapShape,
        input: Source,
        output: ValueId,
    },
    /// Writes `input_gradient`. `shape` is the input's.
    GlobalAveragePoolBackward {
        shape: MapShape,
        output_gradient: ValueId,
        input_gradient: ValueId,
        derivative: Option<Source>,
    },
    /// Writes `output`. Kept elements follow from the seed in the control block, `stream` and the element's index.
    Dropout {
        shape: MapShape,
        probability: f32,
        stream: u32,
        control: ValueId,
        input: Source,
        output: ValueId,
    },
    /// Writes `input_gradient`, which may take the place of `output_gradient`.
    DropoutBackward {
        shape: MapShape,
        probability: f32,
        stream: u32,
        control: ValueId,
        output_gradient: ValueId,
        input_gradient: ValueId,
    },
    /// Writes `stash`: the value of `input` in a code; the `slope` of what `input` is read as; and `bound`, the error that a code reached which keeps
    /// to one. Random rounding follows from the seed in the control block, `stream` and the element's index.
    Encode {
        shape: MapShape,
        code: Code,
        stream: u32,
        control: ValueId,
        input: Source,
        stash: ValueId,
        slope: Option<HeldSlope>,
        bound: Option<ValueId>,
    },
    /// Writes `output` from `stash`.
    Decode {
        shape: MapShape,
        code: Code,
        stash: ValueId,
        output: ValueId,
    },
    /// What `producer`, a convolution, would write runs through memory in so many slices of its channels: for one slice after the other, the
    /// producer makes it and the `readers` compute with it. They are what needs a channel of a map for nothing but that channel: the backward
    /// pass of a normalisation, the weight gradient of a depthwise convolution. The output of the producer stands nowhere as a whole.
    InSlices {
        slices: u32,
        producer: Box<OperationKind>,
        readers: Vec<OperationKind>,
    },
    /// Writes `metrics` and, where training, `logit_gradient`; sets `halted` in the control block if the loss is not finite. Counts in
    /// `forgetting`, where there is one.
    CrossEntropy {
        shape: MapShape,
        label_smoothing: f32,
        logits: ValueId,
        labels: ValueId,
        control: ValueId,
        metrics: ValueId,
        logit_gradient: Option<ValueId>,
        forgetting: Option<ValueId>,
        /// Where it rehearses: the memory, the pictures and their shape. New samples then take their slots.
        rehearsal: Option<(RehearsalMemory, ValueId, MapShape)>,
    },
    /// Writes the pictures of the batch that come from a memory to their places in `images`.
    Rehearse {
        shape: MapShape,
        classes: u32,
        memory: RehearsalMemory,
        labels: ValueId,
        images: ValueId,
    },
    /// Multiplies the gradient of the logits by the first number of `scale`, in place.
    ScaleLoss {
        shape: MapShape,
        gradient: ValueId,
        scale: ValueId,
    },
    /// Writes the gradient scale of the control block such that the norm of all `gradients` is at most `max_norm`. Where these are multiplied by a loss
    /// scale, divides by it; gradients that are not finite then halve it, and the step is skipped.
    ClipNorm {
        max_norm: f32,
        gradients: Vec<ValueId>,
        control: ValueId,
        loss_scale: Option<ValueId>,
    },
    /// Updates `parameter` and `states`.
    Update {
        optimizer: Optimizer,
        parameter: ValueId,
        gradient: ValueId,
        states: Vec<ValueId>,
        control: ValueId,
    },
    /// Writes `scores`: for every block that a sparse weight would have if it were dense, the norm of its gradient. `coded` as in
    /// [`ConvolutionWeightGradient`](Self::ConvolutionWeightGradient).
    GrowthScores {
        attributes: ConvolutionAttributes,
        shape: MapShape,
        blocks: SparseBlocks,
        input: Source,
        coded: Option<Coded>,
        output_gradient: ValueId,
        scores: ValueId,
    },
    /// Changes which blocks of `parameter` are live, as the order says that stands with it: those of the highest of `scores` grow. What is
    /// pruned is gone from `states` too.
    Mutation {
        parameter: ValueId,
        scores: ValueId,
        states: Vec<ValueId>,
    },
}

/// An operation in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Name of the layer it belongs to.
    pub layer: String,
    /// Which part of the step.
    pub phase: Phase,
    /// What it does.
    pub kind: OperationKind,
}
