//! A program in the making.

use crate::operation::{Operation, OperationKind, Phase};
use crate::program::{Layout, Role, Value, ValueId};
use std::collections::HashSet;

#[derive(Debug, Default)]
pub(crate) struct Emitter {
    pub(crate) values: Vec<Value>,
    pub(crate) operations: Vec<Operation>,
    /// Whether a gradient with respect to the value is wanted, by [`ValueId`].
    requires: Vec<bool>,
    names: HashSet<String>,
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
        self.requires.push(false);
        ValueId(self.values.len() - 1)
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

    pub(crate) fn requires(&self, id: ValueId) -> bool {
        self.requires[id.0]
    }

    pub(crate) fn require(&mut self, id: ValueId) {
        self.requires[id.0] = true;
    }

    /// Pushes an operation of the forward pass. A gradient of what it writes is wanted where one of what it reads is.
    pub(crate) fn forward(&mut self, layer: &str, kind: OperationKind) {
        self.push(layer, Phase::Forward, kind);
        let operation = &self.operations[self.operations.len() - 1];
        if operation.reads().iter().any(|id| self.requires[id.0]) {
            for id in operation.writes() {
                self.requires[id.0] = true;
            }
        }
    }
}
