//! One operation taken out of its program.

use crate::operation::{Operation, OperationKind};
use crate::program::{Program, Value, ValueId};

impl Program {
    /// A program of nothing but `operation`, without names and with values of its own, in the order in which it names them. Two operations
    /// that do the same to values of the same layouts give the same program: what their time depends on, and what it can be measured with.
    #[must_use]
    pub fn alone(&self, operation: &Operation) -> Self {
        let mut kind = operation.kind.clone();
        if let OperationKind::Encode { stream, .. } | OperationKind::Dropout { stream, .. } =
            &mut kind
        {
            *stream = 0;
        }
        let mut known: Vec<ValueId> = Vec::new();
        for id in kind.values_mut() {
            let at = known.iter().position(|other| other == id);
            let at = at.unwrap_or_else(|| {
                known.push(*id);
                known.len() - 1
            });
            *id = ValueId(at);
        }
        let values = known.iter().map(|id| Value {
            name: String::new(),
            ..self.value(*id).clone()
        });
        let none = ValueId(0);
        Self {
            batch: self.batch,
            slab: self.slab,
            micro_batches: 1,
            values: values.collect(),
            operations: vec![Operation {
                layer: String::new(),
                phase: operation.phase,
                kind,
            }],
            images: none,
            labels: none,
            logits: none,
            control: none,
            metrics: none,
            kept: Vec::new(),
        }
    }
}
