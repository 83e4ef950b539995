//! The same operation on other values.

use crate::operation::{Coded, HeldSlope, OperationKind};
use crate::program::ValueId;
use crate::source::Source;

impl OperationKind {
    /// Every value the operation names, read or written.
    pub(crate) fn values_mut(&mut self) -> Vec<&mut ValueId> {
        use OperationKind as Kind;
        match self {
            Kind::Convolution {
                input,
                weight,
                bias,
                output,
                moments,
                ..
            } => (input.values_mut())
                .chain([weight, output])
                .chain(bias)
                .chain(moments)
                .collect(),
            Kind::ConvolutionInputGradient {
                output_gradient,
                weight,
                input_gradient,
                derivative,
                ..
            } => (derivative.iter_mut())
                .flat_map(Source::values_mut)
                .chain([output_gradient, weight, input_gradient])
                .collect(),
            Kind::ConvolutionWeightGradient {
                input,
                coded,
                output_gradient,
                weight_gradient,
                bias_gradient,
                ..
            } => (input.values_mut())
                .chain(slope_of(coded))
                .chain([output_gradient, weight_gradient])
                .chain(bias_gradient)
                .collect(),
            Kind::ConvolutionBackward {
                input,
                coded,
                output_gradient,
                weight,
                weight_gradient,
                bias_gradient,
                input_gradient,
                ..
            } => (input.values_mut())
                .chain(slope_of(coded))
                .chain([output_gradient, weight, weight_gradient, input_gradient])
                .chain(bias_gradient)
                .collect(),
            Kind::FilterPatchSums {
                input,
                sums,
                counts,
                ..
            } => input.values_mut().chain([sums]).chain(counts).collect(),
            Kind::KeepSlopes { input, slopes, .. } => input.values_mut().chain([slopes]).collect(),
            Kind::FilterPatchAverages {
                output_gradient,
                averages,
                ..
            } => vec![output_gradient, averages],
            Kind::FilterWeightGradient {
                sums,
                averages,
                weight_gradient,
                ..
            } => vec![sums, averages, weight_gradient],
            Kind::FilterBiasGradient {
                averages,
                bias_gradient,
                ..
            } => vec![averages, bias_gradient],
            Kind::FilterTapSums { weight, sums, .. } => vec![weight, sums],
            Kind::FilterInputGradient {
                averages,
                weight,
                input_gradient,
                derivative,
                slopes,
                normalisation,
                ..
            } => (derivative.iter_mut())
                .flat_map(Source::values_mut)
                .chain([averages, weight, input_gradient])
                .chain(slopes)
                .chain(normalisation)
                .collect(),
            Kind::FilterPatchGradient {
                averages,
                weight,
                counts,
                normalisation,
                averages_before,
                ..
            } => ([averages, weight, averages_before].into_iter())
                .chain(counts)
                .chain(normalisation)
                .collect(),
            Kind::SlopesBackward {
                output_gradient,
                slopes,
                normalisation,
                input_gradient,
                ..
            } => ([output_gradient, input_gradient].into_iter())
                .chain(slopes)
                .chain(normalisation)
                .collect(),
            Kind::BatchNormStatistics {
                input,
                scale,
                shift,
                running_mean,
                running_variance,
                normalisation,
                ..
            } => vec![
                input,
                scale,
                shift,
                running_mean,
                running_variance,
                normalisation,
            ],
            Kind::BatchNormPrepare {
                scale,
                shift,
                running_mean,
                running_variance,
                normalisation,
                ..
            } => vec![scale, shift, running_mean, running_variance, normalisation],
            Kind::BatchNormBackward {
                output_gradient,
                input,
                coded,
                input_gradient,
                scale_gradient,
                shift_gradient,
                ..
            } => (input.values_mut())
                .chain(slope_of(coded))
                .chain([output_gradient, input_gradient])
                .chain(scale_gradient)
                .chain(shift_gradient)
                .collect(),
            Kind::Apply { input, output, .. }
            | Kind::Shortcut { input, output, .. }
            | Kind::AveragePool { input, output, .. }
            | Kind::GlobalAveragePool { input, output, .. } => {
                input.values_mut().chain([output]).collect()
            }
            Kind::ActivationBackward {
                output_gradient,
                source,
                input_gradient,
                ..
            } => (source.values_mut())
                .chain([output_gradient, input_gradient])
                .collect(),
            Kind::Add {
                left,
                right,
                output,
                ..
            } => (left.values_mut())
                .chain(right.values_mut())
                .chain([output])
                .collect(),
            Kind::Accumulate { source, target, .. } | Kind::Copy { source, target, .. } => {
                vec![source, target]
            }
            Kind::Concat { inputs, output, .. } => (inputs.iter_mut())
                .flat_map(Source::values_mut)
                .chain([output])
                .collect(),
            Kind::ConcatBackward {
                output_gradient,
                input_gradient,
                ..
            }
            | Kind::ShortcutBackward {
                output_gradient,
                input_gradient,
                ..
            } => vec![output_gradient, input_gradient],
            Kind::AveragePoolBackward {
                output_gradient,
                input_gradient,
                derivative,
                ..
            }
            | Kind::GlobalAveragePoolBackward {
                output_gradient,
                input_gradient,
                derivative,
                ..
            } => (derivative.iter_mut())
                .flat_map(Source::values_mut)
                .chain([output_gradient, input_gradient])
                .collect(),
            Kind::MaxPool {
                input,
                output,
                taps,
                ..
            } => input.values_mut().chain([output]).chain(taps).collect(),
            Kind::MaxPoolBackward {
                output_gradient,
                taps,
                input_gradient,
                derivative,
                ..
            } => (derivative.iter_mut())
                .flat_map(Source::values_mut)
                .chain([output_gradient, taps, input_gradient])
                .collect(),
            Kind::Dropout {
                control,
                input,
                output,
                ..
            } => input.values_mut().chain([control, output]).collect(),
            Kind::DropoutBackward {
                control,
                output_gradient,
                input_gradient,
                ..
            } => vec![control, output_gradient, input_gradient],
            Kind::CrossEntropy {
                logits,
                labels,
                control,
                metrics,
                logit_gradient,
                forgetting,
                rehearsal,
                ..
            } => [logits, labels, control, metrics]
                .into_iter()
                .chain(logit_gradient)
                .chain(forgetting)
                .chain(rehearsal.iter_mut().flat_map(|(memory, images, _)| {
                    [&mut memory.images, &mut memory.logits, images]
                }))
                .collect(),
            Kind::Encode {
                control,
                input,
                stash,
                slope,
                bound,
                ..
            } => (input.values_mut())
                .chain([control, stash])
                .chain(slope.iter_mut().map(stash_of))
                .chain(bound)
                .collect(),
            Kind::Decode { stash, output, .. } => vec![stash, output],
            Kind::InSlices {
                producer, readers, ..
            } => std::iter::once(producer.as_mut())
                .chain(readers)
                .flat_map(Self::values_mut)
                .collect(),
            Kind::Rehearse {
                memory,
                labels,
                images,
                ..
            } => vec![&mut memory.images, labels, images],
            Kind::ScaleLoss {
                gradient, scale, ..
            } => vec![gradient, scale],
            Kind::ClipNorm {
                gradients,
                control,
                loss_scale,
                ..
            } => (gradients.iter_mut())
                .chain([control])
                .chain(loss_scale)
                .collect(),
            Kind::Update {
                parameter,
                gradient,
                states,
                control,
                ..
            } => [parameter, gradient, control]
                .into_iter()
                .chain(states)
                .collect(),
            Kind::GrowthScores {
                input,
                coded,
                output_gradient,
                scores,
                ..
            } => (input.values_mut())
                .chain(slope_of(coded))
                .chain([output_gradient, scores])
                .collect(),
            Kind::Mutation {
                parameter,
                scores,
                states,
            } => [parameter, scores].into_iter().chain(states).collect(),
        }
    }
}

fn slope_of(coded: &mut Option<Coded>) -> impl Iterator<Item = &mut ValueId> {
    let slopes = coded.iter_mut().flat_map(|coded| &mut coded.slope);
    slopes.map(stash_of)
}

fn stash_of(slope: &mut HeldSlope) -> &mut ValueId {
    &mut slope.stash
}
