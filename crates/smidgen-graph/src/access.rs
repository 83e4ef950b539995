//! What operations read, write and must have again.

use crate::operation::{Coded, Content, Operation, OperationKind};
use crate::program::ValueId;
use crate::source::Source;

impl Operation {
    /// The values it reads; those that it changes in place are in [`writes`](Self::writes) too.
    #[must_use]
    pub fn reads(&self) -> Vec<ValueId> {
        self.kind.reads()
    }

    /// The values it writes, wholly or in place.
    #[must_use]
    pub fn writes(&self) -> Vec<ValueId> {
        self.kind.writes()
    }

    /// The values of the forward pass that a backward operation must have again, and what it needs of each. Parameters hold
    /// from step to step and are not among them.
    #[must_use]
    pub fn needs(&self) -> Vec<(ValueId, Content)> {
        self.kind.needs()
    }
}

impl OperationKind {
    /// As [`Operation::reads`].
    pub(crate) fn reads(&self) -> Vec<ValueId> {
        use OperationKind as Kind;
        let with = |base: &[ValueId], more: Option<ValueId>| {
            base.iter().copied().chain(more).collect::<Vec<_>>()
        };
        match self {
            Kind::Convolution {
                input,
                weight,
                bias,
                ..
            } => reading(&[*input], &[Some(*weight), *bias]),
            Kind::ConvolutionInputGradient {
                output_gradient,
                weight,
                input_gradient,
                accumulate,
                derivative,
                ..
            } => reading(
                derivative.as_slice(),
                &[
                    Some(*output_gradient),
                    Some(*weight),
                    accumulate.then_some(*input_gradient),
                ],
            ),
            Kind::ConvolutionWeightGradient {
                input,
                coded,
                output_gradient,
                ..
            }
            | Kind::GrowthScores {
                input,
                coded,
                output_gradient,
                ..
            }
            | Kind::BatchNormBackward {
                input,
                coded,
                output_gradient,
                ..
            } => reading(&[*input], &[Some(*output_gradient), slope_of(coded)]),
            Kind::ConvolutionBackward {
                input,
                coded,
                output_gradient,
                weight,
                input_gradient,
                accumulate,
                ..
            } => reading(
                &[*input],
                &[
                    slope_of(coded),
                    Some(*output_gradient),
                    Some(*weight),
                    accumulate.then_some(*input_gradient),
                ],
            ),
            Kind::FilterPatchSums { input, .. } | Kind::KeepSlopes { input, .. } => {
                reading(&[*input], &[])
            }
            Kind::FilterPatchAverages {
                output_gradient, ..
            } => vec![*output_gradient],
            Kind::FilterWeightGradient { sums, averages, .. } => vec![*sums, *averages],
            Kind::FilterBiasGradient { averages, .. } => vec![*averages],
            Kind::FilterTapSums { weight, .. } => vec![*weight],
            Kind::FilterInputGradient {
                averages,
                weight,
                input_gradient,
                accumulate,
                derivative,
                slopes,
                normalisation,
                ..
            } => reading(
                derivative.as_slice(),
                &[
                    Some(*averages),
                    Some(*weight),
                    accumulate.then_some(*input_gradient),
                    *slopes,
                    *normalisation,
                ],
            ),
            Kind::FilterPatchGradient {
                averages,
                weight,
                counts,
                normalisation,
                ..
            } => reading(
                &[],
                &[Some(*averages), Some(*weight), *counts, *normalisation],
            ),
            Kind::SlopesBackward {
                output_gradient,
                slopes,
                normalisation,
                ..
            } => reading(&[], &[Some(*output_gradient), *slopes, *normalisation]),
            Kind::BatchNormStatistics {
                input,
                scale,
                shift,
                running_mean,
                running_variance,
                ..
            } => vec![*input, *scale, *shift, *running_mean, *running_variance],
            Kind::BatchNormPrepare {
                scale,
                shift,
                running_mean,
                running_variance,
                ..
            } => vec![*scale, *shift, *running_mean, *running_variance],
            Kind::Apply { input, .. }
            | Kind::Shortcut { input, .. }
            | Kind::MaxPool { input, .. }
            | Kind::AveragePool { input, .. }
            | Kind::GlobalAveragePool { input, .. } => reading(&[*input], &[]),
            Kind::ActivationBackward {
                output_gradient,
                source,
                ..
            } => reading(&[*source], &[Some(*output_gradient)]),
            Kind::Add { left, right, .. } => reading(&[*left, *right], &[]),
            Kind::Accumulate { source, target, .. } => vec![*source, *target],
            Kind::Copy { source, .. } => vec![*source],
            Kind::Concat { inputs, .. } => reading(inputs, &[]),
            Kind::ShortcutBackward {
                output_gradient,
                input_gradient,
                accumulate,
                ..
            } => with(&[*output_gradient], accumulate.then_some(*input_gradient)),
            Kind::MaxPoolBackward {
                output_gradient,
                taps,
                derivative,
                ..
            } => reading(
                derivative.as_slice(),
                &[Some(*output_gradient), Some(*taps)],
            ),
            Kind::ConcatBackward {
                output_gradient, ..
            } => vec![*output_gradient],
            Kind::AveragePoolBackward {
                output_gradient,
                derivative,
                ..
            }
            | Kind::GlobalAveragePoolBackward {
                output_gradient,
                derivative,
                ..
            } => reading(derivative.as_slice(), &[Some(*output_gradient)]),
            Kind::Dropout { control, input, .. } => reading(&[*input], &[Some(*control)]),
            Kind::DropoutBackward {
                control,
                output_gradient,
                ..
            } => vec![*control, *output_gradient],
            Kind::Encode { control, input, .. } => reading(&[*input], &[Some(*control)]),
            Kind::Decode { stash, .. } => vec![*stash],
            Kind::InSlices {
                producer, readers, ..
            } => around(producer, readers, Self::reads),
            Kind::CrossEntropy {
                logits,
                labels,
                control,
                forgetting,
                rehearsal,
                ..
            } => {
                let mut all = with(&[*logits, *labels, *control], *forgetting);
                if let Some((memory, images, _)) = rehearsal {
                    all.extend([memory.images, memory.logits, *images]);
                }
                all
            }
            Kind::Rehearse {
                memory,
                labels,
                images,
                ..
            } => vec![memory.images, *labels, *images],
            Kind::ScaleLoss {
                gradient, scale, ..
            } => vec![*gradient, *scale],
            Kind::ClipNorm {
                gradients,
                control,
                loss_scale,
                ..
            } => {
                let mut all = with(gradients, Some(*control));
                all.extend(loss_scale);
                all
            }
            Kind::Update {
                parameter,
                gradient,
                states,
                control,
                ..
            } => {
                let mut all = vec![*parameter, *gradient];
                all.extend(states);
                all.push(*control);
                all
            }
            Kind::Mutation {
                parameter,
                scores,
                states,
            } => [&[*parameter, *scores], states.as_slice()].concat(),
        }
    }

    /// As [`Operation::writes`].
    pub(crate) fn writes(&self) -> Vec<ValueId> {
        use OperationKind as Kind;
        let with = |base: &[ValueId], more: &[Option<ValueId>]| {
            base.iter()
                .copied()
                .chain(more.iter().copied().flatten())
                .collect::<Vec<_>>()
        };
        match self {
            Kind::Convolution {
                output, moments, ..
            } => with(&[*output], &[*moments]),
            Kind::Apply { output, .. }
            | Kind::Add { output, .. }
            | Kind::Concat { output, .. }
            | Kind::Shortcut { output, .. }
            | Kind::AveragePool { output, .. }
            | Kind::GlobalAveragePool { output, .. }
            | Kind::Dropout { output, .. }
            | Kind::Decode { output, .. } => vec![*output],
            Kind::Encode {
                stash,
                slope,
                bound,
                ..
            } => with(&[*stash], &[slope.map(|slope| slope.stash), *bound]),
            Kind::InSlices {
                producer, readers, ..
            } => around(producer, readers, Self::writes),
            Kind::ConvolutionInputGradient { input_gradient, .. }
            | Kind::ActivationBackward { input_gradient, .. }
            | Kind::DropoutBackward { input_gradient, .. }
            | Kind::ConcatBackward { input_gradient, .. }
            | Kind::ShortcutBackward { input_gradient, .. }
            | Kind::MaxPoolBackward { input_gradient, .. }
            | Kind::AveragePoolBackward { input_gradient, .. }
            | Kind::GlobalAveragePoolBackward { input_gradient, .. } => vec![*input_gradient],
            Kind::ConvolutionWeightGradient {
                weight_gradient,
                bias_gradient,
                ..
            } => with(&[*weight_gradient], &[*bias_gradient]),
            Kind::ConvolutionBackward {
                weight_gradient,
                bias_gradient,
                input_gradient,
                ..
            } => with(&[*weight_gradient, *input_gradient], &[*bias_gradient]),
            Kind::FilterPatchSums { sums, counts, .. } => with(&[*sums], &[*counts]),
            Kind::FilterPatchAverages { averages, .. } => vec![*averages],
            Kind::FilterWeightGradient {
                weight_gradient, ..
            } => vec![*weight_gradient],
            Kind::FilterBiasGradient { bias_gradient, .. } => vec![*bias_gradient],
            Kind::FilterTapSums { sums, .. } => vec![*sums],
            Kind::FilterInputGradient { input_gradient, .. } => vec![*input_gradient],
            Kind::FilterPatchGradient {
                averages_before, ..
            } => vec![*averages_before],
            Kind::KeepSlopes { slopes, .. } => vec![*slopes],
            Kind::SlopesBackward { input_gradient, .. } => vec![*input_gradient],
            Kind::BatchNormStatistics {
                running_mean,
                running_variance,
                normalisation,
                ..
            } => vec![*running_mean, *running_variance, *normalisation],
            Kind::BatchNormPrepare { normalisation, .. } => vec![*normalisation],
            Kind::BatchNormBackward {
                input_gradient,
                scale_gradient,
                shift_gradient,
                ..
            } => with(&[*input_gradient], &[*scale_gradient, *shift_gradient]),
            Kind::Accumulate { target, .. } | Kind::Copy { target, .. } => vec![*target],
            Kind::MaxPool { output, taps, .. } => with(&[*output], &[*taps]),
            Kind::CrossEntropy {
                control,
                metrics,
                logit_gradient,
                forgetting,
                rehearsal,
                ..
            } => {
                let memory = rehearsal.map(|(memory, ..)| memory);
                let (images, logits) = (memory.map(|m| m.images), memory.map(|m| m.logits));
                with(
                    &[*metrics, *control],
                    &[*logit_gradient, *forgetting, images, logits],
                )
            }
            Kind::Rehearse { images, .. } => vec![*images],
            Kind::ScaleLoss { gradient, .. } => vec![*gradient],
            Kind::ClipNorm {
                control,
                loss_scale,
                ..
            } => with(&[*control], &[*loss_scale]),
            Kind::GrowthScores { scores, .. } => vec![*scores],
            Kind::Update {
                parameter, states, ..
            }
            | Kind::Mutation {
                parameter, states, ..
            } => {
                let mut all = vec![*parameter];
                all.extend(states);
                all
            }
        }
    }

    /// As [`Operation::needs`].
    fn needs(&self) -> Vec<(ValueId, Content)> {
        use OperationKind as Kind;
        match self {
            Kind::ConvolutionWeightGradient { input, .. }
            | Kind::ConvolutionBackward { input, .. }
            | Kind::GrowthScores { input, .. }
            | Kind::BatchNormBackward { input, .. } => input.needs(),
            Kind::ActivationBackward { source, .. } => derivative_needs(source),
            Kind::ConvolutionInputGradient { derivative, .. }
            | Kind::AveragePoolBackward { derivative, .. }
            | Kind::GlobalAveragePoolBackward { derivative, .. } => {
                derivative.iter().flat_map(derivative_needs).collect()
            }
            Kind::FilterWeightGradient { sums, .. } => vec![(*sums, Content::Linear)],
            Kind::SlopesBackward {
                slopes,
                normalisation,
                ..
            }
            | Kind::FilterPatchGradient {
                counts: slopes,
                normalisation,
                ..
            } => (slopes.iter().chain(normalisation))
                .map(|id| (*id, Content::Exact))
                .collect(),
            Kind::FilterInputGradient {
                derivative,
                slopes,
                normalisation,
                ..
            } => (derivative.iter().flat_map(derivative_needs))
                .chain(
                    slopes
                        .iter()
                        .chain(normalisation)
                        .map(|id| (*id, Content::Exact)),
                )
                .collect(),
            Kind::MaxPoolBackward {
                taps, derivative, ..
            } => (derivative.iter().flat_map(derivative_needs))
                .chain([(*taps, Content::Exact)])
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Where the slope is held that an operation reads beside a stash.
fn slope_of(coded: &Option<Coded>) -> Option<ValueId> {
    Some(coded.as_ref()?.slope?.stash)
}

/// What an operation in slices touches, each once: what the producer writes stands nowhere.
fn around(
    producer: &OperationKind,
    readers: &[OperationKind],
    touched: impl Fn(&OperationKind) -> Vec<ValueId>,
) -> Vec<ValueId> {
    let sliced = producer.writes();
    let mut all: Vec<ValueId> = Vec::new();
    for id in std::iter::once(producer).chain(readers).flat_map(touched) {
        if !sliced.contains(&id) && !all.contains(&id) {
            all.push(id);
        }
    }
    all
}

/// What the derivative of an activation needs.
fn derivative_needs(source: &Source) -> Vec<(ValueId, Content)> {
    if source.activation.is_mask() && source.normalisation.is_none() {
        vec![(source.value, Content::Mask)]
    } else {
        source.needs()
    }
}

/// The values of `sources`, each once, and `more`.
fn reading(sources: &[Source], more: &[Option<ValueId>]) -> Vec<ValueId> {
    let mut all: Vec<ValueId> = Vec::new();
    for id in sources
        .iter()
        .flat_map(Source::values)
        .chain(more.iter().copied().flatten())
    {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    all
}
