//! The backward pass, and the updates within it.

use crate::attributes::Activation;
use crate::emitter::{Emitter, Filtered, Taped};
use crate::filter::{FilterState, reads_tap_sums};
use crate::gradients::Gradients;
use crate::operation::{Operation, OperationKind, Optimizer, Phase};
use crate::program::{Layout, Role, ValueId};
use crate::shape::MapShape;
use crate::source::Source;
use crate::updates::Complete;

/// Emits the backward pass of the forward pass and the updates of all trainable parameters, and returns the
/// gradients of those. `logits` is the output with its gradient.
pub(crate) fn differentiate(
    emitter: &mut Emitter,
    (logits, logit_gradient): (ValueId, ValueId),
    control: ValueId,
    optimizer: Optimizer,
    clip_norm: Option<f32>,
    filter_state: FilterState,
    sums: bool,
) -> Vec<ValueId> {
    let mut gradients = Gradients::default();
    gradients.hand(emitter, "loss", logits.into(), logit_gradient);
    let mut backward = Backward {
        emitter,
        gradients,
        control,
        optimizer,
        at_once: clip_norm.is_none() && !sums,
        sums,
        filter_state,
        parameters: Vec::new(),
        small: Vec::new(),
    };
    for step in std::mem::take(&mut backward.emitter.tape).iter().rev() {
        match step {
            Taped::Operation(at) => {
                let operation = backward.emitter.operations[*at].clone();
                backward.operation(&operation);
            }
            Taped::View { .. } => backward.view(step),
        }
    }
    if let Some(max_norm) = clip_norm {
        backward.clip(max_norm);
    }
    backward.update_rest();
    backward
        .parameters
        .into_iter()
        .map(|parameter| parameter.gradient)
        .collect()
}

pub(crate) struct Backward<'emitter> {
    pub(crate) emitter: &'emitter mut Emitter,
    gradients: Gradients,
    pub(crate) control: ValueId,
    pub(crate) optimizer: Optimizer,
    /// Whether the weight of a layer is updated as soon as its gradient is complete.
    pub(crate) at_once: bool,
    /// Whether gradients are added to those of other micro-batches before any update.
    pub(crate) sums: bool,
    /// Those of one number a channel, which wait for each other: together they are few bytes, and few launches.
    pub(crate) small: Vec<usize>,
    filter_state: FilterState,
    pub(crate) parameters: Vec<Complete>,
}

impl Backward<'_> {
    fn operation(&mut self, operation: &Operation) {
        use OperationKind as Kind;
        let layer = operation.layer.as_str();
        match &operation.kind {
            Kind::Convolution { output, .. } => {
                if let Some(gradient) = self.gradients.take(*output) {
                    self.convolution(operation, gradient);
                }
            }
            &Kind::Apply { input, output, .. } => {
                if let Some(gradient) = self.gradients.take(output) {
                    self.hand(layer, &[input], gradient);
                }
            }
            &Kind::Add {
                shape,
                activation,
                left,
                right,
                output,
            } => {
                let Some(mut gradient) = self.gradients.take(output) else {
                    return;
                };
                if activation != Activation::Identity {
                    let source = Source {
                        activation,
                        ..output.into()
                    };
                    gradient = self.activation(layer, shape, gradient, source);
                }
                self.hand(layer, &[left, right], gradient);
            }
            Kind::Concat {
                shape,
                inputs,
                output,
            } => {
                let Some(gradient) = self.gradients.take(*output) else {
                    return;
                };
                self.concat(layer, *shape, inputs, gradient);
            }
            &Kind::Shortcut {
                shape,
                stride,
                output_channels,
                channel_offset,
                input,
                output,
            } => {
                let Some(output_gradient) = self.gradients.take(output) else {
                    return;
                };
                let (input_gradient, accumulate) =
                    self.gradients
                        .target(self.emitter, layer, input, output_gradient);
                self.push(
                    layer,
                    Kind::ShortcutBackward {
                        shape,
                        stride,
                        output_channels,
                        channel_offset,
                        output_gradient,
                        input_gradient,
                        accumulate,
                    },
                );
            }
            &Kind::MaxPool {
                shape,
                attributes,
                input,
                output,
                taps: Some(taps),
            } => {
                self.through(layer, input, output, |output_gradient, input_gradient| {
                    Kind::MaxPoolBackward {
                        shape,
                        attributes,
                        output_gradient,
                        taps,
                        input_gradient,
                        derivative: None,
                    }
                });
            }
            &Kind::AveragePool {
                shape,
                attributes,
                input,
                output,
            } => {
                self.through(layer, input, output, |output_gradient, input_gradient| {
                    Kind::AveragePoolBackward {
                        shape,
                        attributes,
                        output_gradient,
                        input_gradient,
                        derivative: None,
                    }
                });
            }
            &Kind::GlobalAveragePool {
                shape,
                input,
                output,
            } => {
                self.through(layer, input, output, |output_gradient, input_gradient| {
                    Kind::GlobalAveragePoolBackward {
                        shape,
                        output_gradient,
                        input_gradient,
                        derivative: None,
                    }
                });
            }
            &Kind::Dropout {
                shape,
                probability,
                stream,
                control,
                input,
                output,
            } => {
                let Some(output_gradient) = self.gradients.take(output) else {
                    return;
                };
                let input_gradient = self.gradients.successor(self.emitter, output_gradient);
                self.push(
                    layer,
                    Kind::DropoutBackward {
                        shape,
                        probability,
                        stream,
                        control,
                        output_gradient,
                        input_gradient,
                    },
                );
                self.hand(layer, &[input], input_gradient);
            }
            _ => {}
        }
    }

    /// The weight's gradient before the input's, so that the stashed input is free before the input's gradient is made; the
    /// updates after both, because the input's gradient reads the weight.
    fn convolution(&mut self, operation: &Operation, output_gradient: ValueId) {
        let &OperationKind::Convolution {
            attributes,
            shape,
            input,
            weight,
            bias,
            output,
            ..
        } = &operation.kind
        else {
            return;
        };
        let layer = operation.layer.as_str();
        if let Some(&filtered) = self.emitter.filtered.get(&output) {
            self.filtered_convolution(operation, filtered, output_gradient);
            return;
        }
        let trained: Vec<ValueId> = [Some(weight), bias]
            .into_iter()
            .flatten()
            .filter(|&id| self.wanted(id))
            .collect();
        let mut complete = Vec::new();
        if !trained.is_empty() {
            let weight_gradient = self.parameter_gradient(weight);
            let bias_gradient = bias
                .filter(|&bias| self.wanted(bias))
                .map(|bias| self.parameter_gradient(bias));
            complete.push((weight, weight_gradient));
            complete.extend(bias.zip(bias_gradient));
            let kind = OperationKind::ConvolutionWeightGradient {
                attributes,
                shape,
                input,
                coded: None,
                output_gradient,
                weight_gradient,
                bias_gradient,
            };
            self.push(layer, kind);
        }
        if self.wanted(input) {
            let (input_gradient, accumulate) =
                self.gradients
                    .target(self.emitter, layer, input, output_gradient);
            let kind = OperationKind::ConvolutionInputGradient {
                attributes,
                shape,
                output_gradient,
                weight,
                input_gradient,
                accumulate,
                derivative: None,
            };
            self.push(layer, kind);
        }
        self.complete(layer, &complete);
    }

    /// The same at the resolution of patches. The weight is trained: lowering sees to it.
    fn filtered_convolution(
        &mut self,
        operation: &Operation,
        Filtered { patch, sums }: Filtered,
        output_gradient: ValueId,
    ) {
        let &OperationKind::Convolution {
            attributes,
            shape,
            input,
            weight,
            bias,
            ..
        } = &operation.kind
        else {
            return;
        };
        let layer = operation.layer.as_str();
        let (Layout::Map(patches), Layout::Map(output)) = (
            self.emitter.layout(sums),
            self.emitter.layout(output_gradient),
        ) else {
            return;
        };
        let name = format!("patches of {}", self.emitter.name(output_gradient));
        let layout = Layout::Map(patches.with_channels(output.channels));
        let averages = self.emitter.value(name, layout, Role::Gradient);
        let kind = OperationKind::FilterPatchAverages {
            attributes,
            shape,
            patch,
            output_gradient,
            averages,
        };
        self.push(layer, kind);
        // Directly behind the averages, and the weight gradient directly before the input gradient: each two can be one launch.
        let wanted = self.wanted(input);
        let summed = if wanted && reads_tap_sums(&attributes, patch) {
            let name = format!("{} over its taps", self.emitter.name(weight));
            let layout = Layout::Weight(attributes.of_one_tap());
            let sums = self.emitter.value(name, layout, Role::Statistics);
            let kind = OperationKind::FilterTapSums {
                attributes,
                shape,
                patch,
                weight,
                sums,
            };
            self.push(layer, kind);
            sums
        } else {
            weight
        };
        let weight_gradient = match self.filter_state {
            FilterState::Pair => {
                let pairs = Layout::Weight(attributes.of_one_tap());
                let name = format!("gradient of {}", self.emitter.name(weight));
                self.emitter.value(name, pairs, Role::ParameterGradient)
            }
            FilterState::Tap => self.parameter_gradient(weight),
        };
        let mut complete = vec![(weight, weight_gradient)];
        if let Some(bias) = bias.filter(|&bias| self.wanted(bias)) {
            let bias_gradient = self.parameter_gradient(bias);
            let kind = OperationKind::FilterBiasGradient {
                attributes,
                shape,
                patch,
                averages,
                bias_gradient,
            };
            self.push(layer, kind);
            complete.push((bias, bias_gradient));
        }
        let kind = OperationKind::FilterWeightGradient {
            attributes,
            shape,
            patch,
            sums,
            averages,
            weight_gradient,
        };
        self.push(layer, kind);
        if wanted {
            let (input_gradient, accumulate) =
                self.gradients
                    .target(self.emitter, layer, input, output_gradient);
            let kind = OperationKind::FilterInputGradient {
                attributes,
                shape,
                patch,
                averages,
                weight: summed,
                input_gradient,
                accumulate,
                derivative: None,
                slopes: None,
                normalisation: None,
            };
            self.push(layer, kind);
        }
        self.complete(layer, &complete);
    }

    fn view(&mut self, step: &Taped) {
        let Taped::View {
            layer,
            shape,
            input,
            output,
            parameters,
        } = step
        else {
            return;
        };
        let Some(output_gradient) = self.gradients.take(*output) else {
            return;
        };
        let &[scale, shift] = parameters.as_slice() else {
            let gradient = self.activation(layer, *shape, output_gradient, *output);
            self.hand(layer, &[*input], gradient);
            return;
        };
        let input_gradient = self.gradients.successor(self.emitter, output_gradient);
        let trained = self.wanted(scale) || self.wanted(shift);
        let gradients = trained.then(|| {
            (
                self.parameter_gradient(scale),
                self.parameter_gradient(shift),
            )
        });
        let kind = OperationKind::BatchNormBackward {
            shape: *shape,
            batch_statistics: self.emitter.batch_statistics(*output),
            output_gradient,
            input: *output,
            coded: None,
            input_gradient,
            scale_gradient: gradients.map(|(scale, _)| scale),
            shift_gradient: gradients.map(|(_, shift)| shift),
        };
        self.push(layer, kind);
        self.hand(layer, &[*input], input_gradient);
        if let Some((scale_gradient, shift_gradient)) = gradients {
            self.complete(layer, &[(scale, scale_gradient), (shift, shift_gradient)]);
        }
    }

    fn concat(
        &mut self,
        layer: &str,
        shape: MapShape,
        inputs: &[Source],
        output_gradient: ValueId,
    ) {
        let mut channel_offset = 0;
        for &input in inputs {
            let Layout::Map(part) = self.emitter.layout(input.value) else {
                continue;
            };
            if self.wanted(input) {
                let input_gradient = self.gradients.fresh(self.emitter, input);
                let kind = OperationKind::ConcatBackward {
                    shape,
                    channel_offset,
                    channels: part.channels,
                    output_gradient,
                    input_gradient,
                };
                self.push(layer, kind);
                self.gradients
                    .hand(self.emitter, layer, input, input_gradient);
            }
            channel_offset += part.channels;
        }
    }

    /// An operation that writes the gradient of its input anew from that of its output.
    fn through(
        &mut self,
        layer: &str,
        input: Source,
        output: ValueId,
        kind: impl FnOnce(ValueId, ValueId) -> OperationKind,
    ) {
        if let Some(output_gradient) = self.gradients.take(output) {
            let input_gradient = self.gradients.fresh(self.emitter, input);
            self.push(layer, kind(output_gradient, input_gradient));
            self.gradients
                .hand(self.emitter, layer, input, input_gradient);
        }
    }

    /// The gradient in front of an activation from that behind it: by the operation that completed this if possible, else in a pass.
    fn activation(
        &mut self,
        layer: &str,
        shape: MapShape,
        output_gradient: ValueId,
        source: Source,
    ) -> ValueId {
        // Kept slopes take a pass of their own.
        let folds = !self.emitter.keeps_slopes;
        if folds && self.gradients.fold(self.emitter, output_gradient, source) {
            return output_gradient;
        }
        let input_gradient = self.gradients.successor(self.emitter, output_gradient);
        let kind = OperationKind::ActivationBackward {
            shape,
            output_gradient,
            source,
            input_gradient,
        };
        self.push(layer, kind);
        input_gradient
    }

    /// Hands one gradient to all of the inputs that want one.
    fn hand(&mut self, layer: &str, inputs: &[Source], gradient: ValueId) {
        let wanting: Vec<Source> = inputs
            .iter()
            .copied()
            .filter(|&id| self.wanted(id))
            .collect();
        if let Some((&last, others)) = wanting.split_last() {
            for &input in others {
                self.gradients
                    .hand_and_keep(self.emitter, layer, input, gradient);
            }
            self.gradients.hand(self.emitter, layer, last, gradient);
        }
    }

    pub(crate) fn wanted(&self, source: impl Into<Source>) -> bool {
        self.emitter.requires(source)
    }

    fn push(&mut self, layer: &str, kind: OperationKind) {
        self.emitter.push(layer, Phase::Backward, kind);
    }
}
