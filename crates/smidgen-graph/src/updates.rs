//! The gradients of parameters, and what the optimiser does with them.

use crate::differentiate::Backward;
use crate::operation::{OperationKind, Phase};
use crate::program::{Layout, Role, ValueId};
use crate::shape::MapShape;

/// A parameter whose gradient is complete.
pub(crate) struct Complete {
    layer: String,
    parameter: ValueId,
    pub(crate) gradient: ValueId,
}

impl Backward<'_> {
    pub(crate) fn parameter_gradient(&mut self, parameter: ValueId) -> ValueId {
        let name = format!("gradient of {}", self.emitter.name(parameter));
        let layout = self.emitter.layout(parameter).of_gradient();
        self.emitter.value(name, layout, Role::ParameterGradient)
    }

    /// Notes the trained ones of these parameters as complete, and updates weights unless all gradients are to be summed or clipped first.
    pub(crate) fn complete(&mut self, layer: &str, pairs: &[(ValueId, ValueId)]) {
        for &(parameter, gradient) in pairs {
            if self.wanted(parameter) {
                let small = matches!(self.emitter.layout(parameter), Layout::Vector { .. });
                if self.at_once && small {
                    self.small.push(self.parameters.len());
                } else if self.at_once {
                    self.update(layer, parameter, gradient);
                }
                let gradient = if self.sums {
                    self.sum(layer, gradient)
                } else {
                    gradient
                };
                let layer = layer.to_owned();
                self.parameters.push(Complete {
                    layer,
                    parameter,
                    gradient,
                });
            }
        }
    }

    /// Adds the gradient of a micro-batch to those before it. The sum has its name.
    fn sum(&mut self, layer: &str, gradient: ValueId) -> ValueId {
        let part = format!("part of {}", self.emitter.name(gradient));
        let name = self.emitter.rename(gradient, part);
        let layout = self.emitter.layout(gradient);
        let sum = self.emitter.value(name, layout, Role::GradientSum);
        // As a map of one row, for those who add quad by quad.
        let quads = layout.bytes().div_ceil(16) as u32;
        let shape = MapShape::new(1, 4, 1, quads);
        let kind = OperationKind::Accumulate {
            shape,
            source: gradient,
            target: sum,
        };
        self.emitter.push(layer, Phase::Backward, kind);
        sum
    }

    fn update(&mut self, layer: &str, parameter: ValueId, gradient: ValueId) {
        // That of the parameter, or of one of its taps.
        let layout = self.emitter.layout(gradient);
        let kinds: &[&str] = match self.optimizer.states() {
            0 => &[],
            1 => &["momentum"],
            _ => &["first moment", "second moment"],
        };
        let mut states = Vec::new();
        for kind in kinds {
            let name = format!("{kind} of {}", self.emitter.name(parameter));
            states.push(self.emitter.value(name, layout, Role::OptimizerState));
        }
        let (optimizer, control) = (self.optimizer, self.control);
        let kind = OperationKind::Update {
            optimizer,
            parameter,
            gradient,
            states,
            control,
        };
        self.emitter.push(layer, Phase::Update, kind);
    }

    pub(crate) fn clip(&mut self, max_norm: f32) {
        let gradients = self
            .parameters
            .iter()
            .map(|complete| complete.gradient)
            .collect();
        let control = self.control;
        let kind = OperationKind::ClipNorm {
            max_norm,
            gradients,
            control,
            loss_scale: None,
        };
        self.emitter.push("clip", Phase::Update, kind);
    }

    /// Updates the parameters that have waited: small ones for each other, or all for their sums or for the clipping.
    pub(crate) fn update_rest(&mut self) {
        let waiting = if self.at_once {
            std::mem::take(&mut self.small)
        } else {
            (0..self.parameters.len()).collect()
        };
        waiting
            .into_iter()
            .for_each(|index| self.update_complete(index));
    }

    fn update_complete(&mut self, index: usize) {
        let Complete {
            layer,
            parameter,
            gradient,
        } = &self.parameters[index];
        let (layer, parameter, gradient) = (layer.clone(), *parameter, *gradient);
        self.update(&layer, parameter, gradient);
    }
}
