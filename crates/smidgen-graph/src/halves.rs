//! Maps in f16.

use crate::operation::{Operation, OperationKind, Phase};
use crate::program::{Layout, Program, Role, Value, ValueId};
use std::collections::HashSet;

/// The name of the value that holds the loss scale: what the gradient of the loss is multiplied by, the steps since it last changed, the steps that were
/// skipped so far, and what it was in the step before. Four f32.
pub const LOSS_SCALE: &str = "loss scale";

/// The largest norm of gradients that are not to be clipped: none is larger.
pub const UNCLIPPED: f32 = 1e30;

impl Program {
    /// The same program with its maps, and their gradients, in f16: half the bytes, a rounding for each number that is written. Pictures, logits, the gradient of
    /// these and the sums of filtered layers stay as they are. Where it trains, the gradient of the loss is multiplied by a scale that
    /// [`ClipNorm`](OperationKind::ClipNorm) divides by again, so that small gradients stay numbers of f16: the program has to have been lowered with a `clip_norm`, be it
    /// [`UNCLIPPED`].
    #[must_use]
    pub fn in_halves(mut self) -> Self {
        let whole: HashSet<ValueId> = (self.operations.iter())
            .flat_map(|operation| exempt(&operation.kind))
            .collect();
        for (at, value) in self.values.iter_mut().enumerate() {
            if let (Layout::Map(shape), Role::Activation | Role::Gradient) =
                (value.layout, value.role)
                && !whole.contains(&ValueId(at))
            {
                value.layout = Layout::HalfMap(shape);
            }
        }
        let loss = (self.operations.iter()).position(|operation| {
            matches!(
                operation.kind,
                OperationKind::CrossEntropy {
                    logit_gradient: Some(_),
                    ..
                }
            )
        });
        let Some(loss) = loss else {
            return self;
        };
        self.values.push(Value {
            name: LOSS_SCALE.to_owned(),
            layout: Layout::Words { count: 4 },
            role: Role::OptimizerState,
        });
        let scale = ValueId(self.values.len() - 1);
        for operation in &mut self.operations {
            if let OperationKind::ClipNorm { loss_scale, .. } = &mut operation.kind {
                *loss_scale = Some(scale);
            }
        }
        if let OperationKind::CrossEntropy {
            shape,
            logit_gradient: Some(gradient),
            ..
        } = self.operations[loss].kind
        {
            let scaled = Operation {
                layer: self.operations[loss].layer.clone(),
                phase: Phase::Backward,
                kind: OperationKind::ScaleLoss {
                    shape,
                    gradient,
                    scale,
                },
            };
            self.operations.insert(loss + 1, scaled);
        }
        self
    }
}

/// Maps of an operation that stay f32: they are small, and exactness there is worth more than bytes.
fn exempt(kind: &OperationKind) -> Vec<ValueId> {
    match kind {
        OperationKind::CrossEntropy {
            logits,
            logit_gradient,
            ..
        } => std::iter::once(*logits).chain(*logit_gradient).collect(),
        OperationKind::FilterPatchSums { sums, .. } => vec![*sums],
        OperationKind::FilterPatchAverages { averages, .. } => vec![*averages],
        OperationKind::FilterPatchGradient {
            averages_before, ..
        } => vec![*averages_before],
        _ => Vec::new(),
    }
}
