//! Who holds which gradient: one tensor may be that of several values, until somebody wants to change it.

use crate::emitter::Emitter;
use crate::operation::{OperationKind, Phase};
use crate::program::{Layout, Role, ValueId};
use crate::source::Source;
use std::collections::HashMap;

#[derive(Debug, Default)]
pub(crate) struct Gradients {
    /// What has come together so far of the gradient of a value.
    of: HashMap<Source, ValueId>,
    /// Of how many values a tensor is the gradient. While an operation reads it, one more.
    holders: HashMap<ValueId, usize>,
}

impl Gradients {
    /// The complete gradient of a value, which holds it no longer.
    pub(crate) fn take(&mut self, value: impl Into<Source>) -> Option<ValueId> {
        let gradient = self.of.remove(&value.into())?;
        self.release(gradient);
        Some(gradient)
    }

    /// Where an operation may write what it makes of a taken gradient, element by element: in its place, unless others still hold it.
    pub(crate) fn successor(&mut self, emitter: &mut Emitter, gradient: ValueId) -> ValueId {
        if self.held(gradient) == 0 {
            gradient
        } else {
            let (name, layout) = (emitter.name(gradient).to_owned(), emitter.layout(gradient));
            emitter.value(name, layout, Role::Gradient)
        }
    }

    /// Has a taken gradient multiplied with the derivative of the activation of `source` by the operation that completed it, if that can
    /// and nobody wants the gradient without.
    pub(crate) fn fold(&self, emitter: &mut Emitter, gradient: ValueId, source: Source) -> bool {
        if self.held(gradient) > 0 {
            return false;
        }
        let compares = source.activation.is_mask() && source.normalisation.is_none();
        let last = emitter.operations.iter_mut().rev().find(|operation| {
            operation.writes().contains(&gradient) || operation.reads().contains(&gradient)
        });
        match last.map(|operation| &mut operation.kind) {
            Some(
                OperationKind::ConvolutionInputGradient {
                    input_gradient,
                    derivative: derivative @ None,
                    ..
                }
                | OperationKind::MaxPoolBackward {
                    input_gradient,
                    derivative: derivative @ None,
                    ..
                }
                | OperationKind::AveragePoolBackward {
                    input_gradient,
                    derivative: derivative @ None,
                    ..
                }
                | OperationKind::GlobalAveragePoolBackward {
                    input_gradient,
                    derivative: derivative @ None,
                    ..
                },
            ) if *input_gradient == gradient => {
                *derivative = Some(source);
                true
            }
            Some(OperationKind::FilterInputGradient {
                input_gradient,
                derivative: derivative @ None,
                ..
            }) if *input_gradient == gradient && compares => {
                *derivative = Some(source);
                true
            }
            _ => false,
        }
    }

    /// A tensor for the gradient of a value, not yet handed to it.
    pub(crate) fn fresh(&mut self, emitter: &mut Emitter, value: Source) -> ValueId {
        let name = format!("gradient of {}", emitter.name(value.value));
        let layout = emitter.layout(value.value);
        emitter.value(name, layout, Role::Gradient)
    }

    /// Adds to the gradient of a value what an operation gave; the operation does not need it again.
    pub(crate) fn hand(
        &mut self,
        emitter: &mut Emitter,
        layer: &str,
        value: Source,
        gradient: ValueId,
    ) {
        let Some(&present) = self.of.get(&value) else {
            self.hold(value, gradient);
            return;
        };
        if present != gradient && self.held(present) == 1 {
            accumulate(emitter, layer, gradient, present);
            return;
        }
        self.release(present);
        let (source, target) = if self.held(gradient) == 0 && present != gradient {
            (present, gradient)
        } else {
            (gradient, copy(emitter, layer, present))
        };
        accumulate(emitter, layer, source, target);
        self.hold(value, target);
    }

    /// As [`hand`](Self::hand), but the gradient's content is needed again.
    pub(crate) fn hand_and_keep(
        &mut self,
        emitter: &mut Emitter,
        layer: &str,
        value: Source,
        gradient: ValueId,
    ) {
        *self.holders.entry(gradient).or_default() += 1;
        self.hand(emitter, layer, value, gradient);
        self.release(gradient);
    }

    /// Where an operation that reads `reading` is to write its contribution to the gradient of a value, and whether it is to add.
    pub(crate) fn target(
        &mut self,
        emitter: &mut Emitter,
        layer: &str,
        value: Source,
        reading: ValueId,
    ) -> (ValueId, bool) {
        let Some(&present) = self.of.get(&value) else {
            let fresh = self.fresh(emitter, value);
            self.hold(value, fresh);
            return (fresh, false);
        };
        if present != reading && self.held(present) == 1 {
            return (present, true);
        }
        self.release(present);
        let own = copy(emitter, layer, present);
        self.hold(value, own);
        (own, true)
    }

    fn hold(&mut self, value: Source, gradient: ValueId) {
        self.of.insert(value, gradient);
        *self.holders.entry(gradient).or_default() += 1;
    }

    fn release(&mut self, gradient: ValueId) {
        if let Some(holders) = self.holders.get_mut(&gradient) {
            *holders -= 1;
        }
    }

    fn held(&self, gradient: ValueId) -> usize {
        self.holders.get(&gradient).copied().unwrap_or(0)
    }
}

fn copy(emitter: &mut Emitter, layer: &str, source: ValueId) -> ValueId {
    let layout = emitter.layout(source);
    let target = emitter.value(emitter.name(source).to_owned(), layout, Role::Gradient);
    if let Layout::Map(shape) = layout {
        let kind = OperationKind::Copy {
            shape,
            source,
            target,
        };
        emitter.push(layer, Phase::Backward, kind);
    }
    target
}

fn accumulate(emitter: &mut Emitter, layer: &str, source: ValueId, target: ValueId) {
    if let Layout::Map(shape) = emitter.layout(target) {
        let kind = OperationKind::Accumulate {
            shape,
            source,
            target,
        };
        emitter.push(layer, Phase::Backward, kind);
    }
}
