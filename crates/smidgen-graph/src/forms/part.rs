//! A stretch of a program by itself.

use super::outline::{Outline, Stash};
use super::slices::Moved;
use crate::program::ValueId;
use std::collections::BTreeMap;

impl Outline {
    /// These operations and the values they touch by themselves, numbered anew in the same order, and which values these are. What is made elsewhere is
    /// there. Of stashes, forms can be asked for whose readers are all among the operations.
    #[must_use]
    pub fn part(&self, operations: &[usize]) -> (Self, Vec<ValueId>) {
        let touched = |at: &usize| self.reads[*at].iter().chain(&self.writes[*at]);
        let mut values: Vec<usize> = operations.iter().flat_map(touched).copied().collect();
        values.sort_unstable();
        values.dedup();
        let value = |id: usize| values.binary_search(&id).ok();
        let operation = |at: usize| operations.binary_search(&at).ok();
        let ids = |list: &Vec<usize>| list.iter().copied().filter_map(value).collect::<Vec<_>>();
        let every = |list: &[usize]| -> Option<Vec<usize>> {
            list.iter().map(|at| operation(*at)).collect()
        };
        let stash = |at: usize| {
            let stash = &self.stashes[self.positions[at]?];
            Some(Stash {
                value: ValueId(value(at)?),
                producer: stash.producer.and_then(operation),
                ..stash.clone()
            })
        };
        let stashes: Vec<Stash> = values.iter().filter_map(|at| stash(*at)).collect();
        let mut positions = vec![None; values.len()];
        for (at, stash) in stashes.iter().enumerate() {
            positions[stash.value.0] = Some(at);
        }
        let moved = self.moved.iter().filter_map(|(of, moved)| {
            let moved = Moved {
                readers: every(&moved.readers)?,
                later: every(&moved.later)?,
            };
            Some((value(*of)?, moved))
        });
        let by_operation = operations.iter().copied();
        let by_value = values.iter().copied();
        let outline = Self {
            reads: by_operation
                .clone()
                .map(|at| ids(&self.reads[at]))
                .collect(),
            writes: by_operation
                .clone()
                .map(|at| ids(&self.writes[at]))
                .collect(),
            loads: (by_operation.clone())
                .map(|at| self.loads[at].and_then(value))
                .collect(),
            phases: by_operation.clone().map(|at| self.phases[at]).collect(),
            repeatable: by_operation.map(|at| self.repeatable[at]).collect(),
            producers: (by_value.clone())
                .map(|id| self.producers[id].and_then(operation))
                .collect(),
            persistent: by_value.clone().map(|id| self.persistent[id]).collect(),
            moments: by_value.clone().map(|id| self.moments[id]).collect(),
            stashed: by_value.clone().map(|id| self.stashed[id]).collect(),
            last_forward: (by_value.clone())
                .map(|id| operation(self.last_forward[id]).unwrap_or(0))
                .collect(),
            names: by_value.map(|id| self.names[id].clone()).collect(),
            moved: moved.collect::<BTreeMap<_, _>>(),
            positions,
            stashes,
        };
        (outline, values.into_iter().map(ValueId).collect())
    }
}
