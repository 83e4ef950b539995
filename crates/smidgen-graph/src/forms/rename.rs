//! The same operation on other values.

use crate::operation::OperationKind;
use crate::program::ValueId;

impl OperationKind {
    /// Every value the operation names, read or written.
    pub(super) fn values_mut(&mut self) -> Vec<&mut ValueId> {
        use OperationKind as Kind;
        match self {
            Kind::Convolution {
                input,
                weight,
                bias,
                output,
                ..
            } => [input, weight, output].into_iter().chain(bias).collect(),
            Kind::ConvolutionInputGradient {
                output_gradient,
                weight,
                input_gradient,
                ..
            } => vec![output_gradient, weight, input_gradient],
            Kind::ConvolutionWeightGradient {
                input,
                output_gradient,
                weight_gradient,
                bias_gradient,
                ..
            } => [input, output_gradient, weight_gradient]
                .into_iter()
                .chain(bias_gradient)
                .collect(),
            Kind::BatchNormStatistics {
                input,
                mean,
                inverse_deviation,
                running_mean,
                running_variance,
                ..
            } => vec![
                input,
                mean,
                inverse_deviation,
                running_mean,
                running_variance,
            ],
            Kind::BatchNormPrepare {
                running_mean,
                running_variance,
                mean,
                inverse_deviation,
                ..
            } => vec![running_mean, running_variance, mean, inverse_deviation],
            Kind::BatchNormApply {
                input,
                mean,
                inverse_deviation,
                scale,
                shift,
                output,
                ..
            } => vec![input, mean, inverse_deviation, scale, shift, output],
            Kind::BatchNormBackward {
                gradient,
                input,
                mean,
                inverse_deviation,
                scale,
                shift,
                scale_gradient,
                shift_gradient,
                ..
            } => [gradient, input, mean, inverse_deviation, scale, shift]
                .into_iter()
                .chain(scale_gradient)
                .chain(shift_gradient)
                .collect(),
            Kind::Activation { input, output, .. }
            | Kind::Shortcut { input, output, .. }
            | Kind::AveragePool { input, output, .. }
            | Kind::GlobalAveragePool { input, output, .. } => vec![input, output],
            Kind::ActivationBackward {
                gradient, source, ..
            } => vec![gradient, source],
            Kind::Add {
                left,
                right,
                output,
                ..
            } => vec![left, right, output],
            Kind::Accumulate { source, target, .. } | Kind::Copy { source, target, .. } => {
                vec![source, target]
            }
            Kind::Concat { inputs, output, .. } => inputs.iter_mut().chain([output]).collect(),
            Kind::ConcatBackward {
                output_gradient,
                input_gradient,
                ..
            }
            | Kind::ShortcutBackward {
                output_gradient,
                input_gradient,
                ..
            }
            | Kind::AveragePoolBackward {
                output_gradient,
                input_gradient,
                ..
            }
            | Kind::GlobalAveragePoolBackward {
                output_gradient,
                input_gradient,
                ..
            } => vec![output_gradient, input_gradient],
            Kind::MaxPool {
                input,
                output,
                indices,
                ..
            } => [input, output].into_iter().chain(indices).collect(),
            Kind::MaxPoolBackward {
                output_gradient,
                indices,
                input_gradient,
                ..
            } => vec![output_gradient, indices, input_gradient],
            Kind::Dropout {
                control,
                input,
                output,
                ..
            } => vec![control, input, output],
            Kind::DropoutBackward {
                control, gradient, ..
            } => vec![control, gradient],
            Kind::CrossEntropy {
                logits,
                labels,
                control,
                metrics,
                logit_gradient,
                ..
            } => [logits, labels, control, metrics]
                .into_iter()
                .chain(logit_gradient)
                .collect(),
            Kind::ClipNorm {
                gradients, control, ..
            } => gradients.iter_mut().chain([control]).collect(),
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
        }
    }
}
