//! The training step that changes the masks of sparse layers instead of parameters.

use crate::operation::{Operation, OperationKind};
use crate::program::{Layout, Program, Role, Value, ValueId};
use std::collections::HashMap;

impl Program {
    /// The step in which this one changes its masks by gradients, as RigL does (Evci et al., "Rigging the Lottery: Making All Tickets
    /// Winners", ICML 2020): the same up to the gradients, but where this one takes the gradient of the live blocks of a sparse weight,
    /// that scores all blocks, and where this one updates the weight, that prunes and grows. Nothing else is updated. Stashes are held as
    /// here, so what the step needs beyond this one is the dense gradient of one layer at a time, and its scores.
    #[must_use]
    pub fn growing(&self) -> Self {
        let mut values = self.values.clone();
        // By the gradient of the live blocks: what stands for it.
        let mut scored: HashMap<ValueId, ValueId> = HashMap::new();
        let operations = self.operations.iter().filter_map(|operation| {
            let kind = match &operation.kind {
                &OperationKind::ConvolutionWeightGradient {
                    attributes,
                    shape,
                    input,
                    coded,
                    output_gradient,
                    weight_gradient,
                    ..
                } => {
                    let gradient = self.value(weight_gradient);
                    let Layout::SparseValues(_, blocks) = gradient.layout else {
                        return None;
                    };
                    values.push(Value {
                        name: format!("scores of {}", gradient.name),
                        layout: Layout::Words {
                            count: blocks.candidates(&attributes),
                        },
                        role: Role::ParameterGradient,
                    });
                    let scores = ValueId(values.len() - 1);
                    scored.insert(weight_gradient, scores);
                    OperationKind::GrowthScores {
                        attributes,
                        shape,
                        blocks,
                        input,
                        coded,
                        output_gradient,
                        scores,
                    }
                }
                OperationKind::Update {
                    parameter,
                    gradient,
                    states,
                    ..
                } => OperationKind::Mutation {
                    parameter: *parameter,
                    scores: *scored.get(gradient)?,
                    states: states.clone(),
                },
                OperationKind::ClipNorm { .. } => return None,
                other => other.clone(),
            };
            Some(Operation {
                kind,
                ..operation.clone()
            })
        });
        Self {
            operations: operations.collect(),
            values,
            ..self.clone()
        }
    }
}
