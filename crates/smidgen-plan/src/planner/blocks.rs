//! Where a program is cut into blocks.

use smidgen_graph::forms::Outline;
use smidgen_graph::{OperationKind, Phase, Program, ValueId};
use std::collections::HashMap;

/// Consecutive stretches of the forward pass with a single map between one and the next, and the stretches of the backward pass
/// that belong to them.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// By block: the map it is entered with; `None` for the first.
    pub(crate) entries: Vec<Option<ValueId>>,
    /// By operation: its block, and whether it is of the backward pass.
    pub(crate) places: Vec<(usize, bool)>,
}

impl Blocks {
    pub(crate) fn new(program: &Program, outline: &Outline) -> Self {
        let operations = &program.operations;
        let forward = operations
            .iter()
            .take_while(|operation| matches!(operation.phase, Phase::Prepare | Phase::Forward))
            .count();
        // By value: the last operation of the forward pass (or loss) that reads it.
        let mut last_reads: HashMap<usize, usize> = HashMap::new();
        for (at, operation) in operations.iter().enumerate() {
            if matches!(operation.phase, Phase::Forward | Phase::Loss) {
                last_reads.extend(outline.reads(at).iter().map(|&value| (value, at)));
            }
        }
        let is_map = |value: usize| {
            program.values[value].layout.map().is_some() && value != program.images.0
        };
        let mut entries = vec![None];
        let mut places = vec![(0, false); operations.len()];
        let mut open: Vec<usize> = Vec::new();
        for at in 0..forward {
            open.retain(|value| last_reads.get(value).is_some_and(|last| *last >= at));
            let starts = matches!(operations[at].kind, OperationKind::Convolution { .. });
            if let (true, &[single]) = (starts, open.as_slice()) {
                entries.push(Some(ValueId(single)));
            }
            places[at].0 = entries.len() - 1;
            open.extend(outline.writes(at).iter().filter(|value| is_map(**value)));
        }
        // A backward operation belongs to the block of its layer. Backward runs through the blocks in reverse.
        let names = operations[..forward].iter().zip(&places);
        let layers: HashMap<&str, usize> = names
            .map(|(operation, place)| (operation.layer.as_str(), place.0))
            .collect();
        let mut current = entries.len() - 1;
        for (at, operation) in operations.iter().enumerate().skip(forward) {
            if operation.phase == Phase::Loss {
                places[at] = (current, false);
                continue;
            }
            let own = layers.get(operation.layer.as_str()).copied();
            current = current.min(own.unwrap_or(current));
            places[at] = (current, true);
        }
        Self { entries, places }
    }

    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }
}
