//! A program in the making.

use crate::operation::{Operation, OperationKind, Phase};
use crate::program::{Layout, Role, Value, ValueId};
use crate::shape::MapShape;
use crate::source::Source;
use std::collections::{HashMap, HashSet};

#[derive(Debug, Default)]
pub(crate) struct Emitter {
    pub(crate) values: Vec<Value>,
    pub(crate) operations: Vec<Operation>,
    /// What a gradient is wanted of.
    requires: HashSet<Source>,
    /// What was computed forward, in its order.
    pub(crate) tape: Vec<Taped>,
    /// Whether backward passes that are nothing but a multiplication keep slopes.
    pub(crate) keeps_slopes: bool,
    /// By output: how the backward pass of a convolution is filtered.
    pub(crate) filtered: HashMap<ValueId, Filtered>,
    names: HashSet<String>,
}

/// A filter of the backward pass of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filtered {
    pub(crate) patch: u32,
    /// The patch sums of the input.
    pub(crate) sums: ValueId,
}

impl Emitter {
    /// A new value; where the name is taken, a number makes it another.
    pub(crate) fn value(&mut self, name: impl Into<String>, layout: Layout, role: Role) -> ValueId {
        let base = name.into();
        let mut name = base.clone();
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{base} ({number})");
            number += 1;
        }
        self.values.push(Value { name, layout, role });
        ValueId(self.values.len() - 1)
    }

    /// Gives away the name of a value, which is called otherwise from now on.
    pub(crate) fn rename(&mut self, id: ValueId, name: String) -> String {
        self.names.insert(name.clone());
        let before = std::mem::replace(&mut self.values[id.0].name, name);
        self.names.remove(&before);
        before
    }

    pub(crate) fn push(&mut self, layer: &str, phase: Phase, kind: OperationKind) {
        self.operations.push(Operation {
            layer: layer.to_owned(),
            phase,
            kind,
        });
    }

    pub(crate) fn name(&self, id: ValueId) -> &str {
        &self.values[id.0].name
    }

    pub(crate) fn layout(&self, id: ValueId) -> Layout {
        self.values[id.0].layout
    }

    pub(crate) fn requires(&self, source: impl Into<Source>) -> bool {
        self.requires.contains(&source.into())
    }

    pub(crate) fn require(&mut self, source: impl Into<Source>) {
        self.requires.insert(source.into());
    }

    /// Pushes an operation of the forward pass. A gradient of what it writes is wanted where one of what it reads is.
    pub(crate) fn forward(&mut self, layer: &str, reads: &[Source], kind: OperationKind) {
        self.push(layer, Phase::Forward, kind);
        let at = self.operations.len() - 1;
        self.tape.push(Taped::Operation(at));
        if reads.iter().any(|source| self.requires(*source)) {
            for id in self.operations[at].writes() {
                self.require(id);
            }
        }
    }

    /// The moments of a map, which the convolution that makes it is asked for; `None` if none does.
    pub(crate) fn moments(&mut self, shape: MapShape, map: ValueId) -> Option<ValueId> {
        let made = |operation: &Operation| matches!(operation.kind, OperationKind::Convolution { output, .. } if output == map);
        let at = self.operations.iter().rposition(made)?;
        if let OperationKind::Convolution {
            moments: Some(known),
            ..
        } = self.operations[at].kind
        {
            return Some(known);
        }
        let name = format!("{}.moments", self.name(map));
        let new = self.value(name, Layout::Moments(shape), Role::Statistics);
        if let OperationKind::Convolution { moments, .. } = &mut self.operations[at].kind {
            *moments = Some(new);
        }
        Some(new)
    }

    /// Whether the normalisation of a source was made from the statistics of the batch.
    pub(crate) fn batch_statistics(&self, source: Source) -> bool {
        self.operations
            .iter()
            .any(|operation| match operation.kind {
                OperationKind::BatchNormStatistics { normalisation, .. } => {
                    source.normalisation == Some(normalisation)
                }
                _ => false,
            })
    }

    /// Notes that what was read as `input` is from now on read as `output`, and returns that. `reads` are the parameters of the change.
    pub(crate) fn view(
        &mut self,
        layer: &str,
        shape: MapShape,
        input: Source,
        output: Source,
        reads: &[ValueId],
    ) -> Source {
        if self.requires(input) || reads.iter().any(|id| self.requires(*id)) {
            self.require(output);
        }
        self.tape.push(Taped::View {
            layer: layer.to_owned(),
            shape,
            input,
            output,
            parameters: reads.to_vec(),
        });
        output
    }
}

/// A step of the forward pass as the backward pass sees it.
#[derive(Debug, Clone)]
pub(crate) enum Taped {
    /// An operation, by its index.
    Operation(usize),
    /// A change of how a value is read, which takes no operation.
    View {
        layer: String,
        shape: MapShape,
        input: Source,
        output: Source,
        /// Scale and shift of a batch norm.
        parameters: Vec<ValueId>,
    },
}
