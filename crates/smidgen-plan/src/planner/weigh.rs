//! What forms take in bytes and time, without making the program.

use super::blocks::Blocks;
use crate::costs::Costs;
use smidgen_graph::Program;
use smidgen_graph::forms::{FormError, Forms, Outline};

/// Everything about a program that its weight depends on.
#[derive(Debug)]
pub(crate) struct Scale<'a> {
    pub(crate) outline: &'a Outline,
    /// By value, rounded up to the alignment; 0 for what persists.
    pub(crate) bytes: Vec<u64>,
    workspaces: Vec<u64>,
    seconds: Vec<f64>,
    /// What is uploaded before the first operation, and what must hold until the last.
    uploaded: [usize; 2],
    kept: Vec<usize>,
    /// By operation: where its peak is noted. Forward through the blocks, then backward.
    stations: Vec<usize>,
    blocks: usize,
}

/// What forms take.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    /// The highest sum of bytes alive, by station.
    pub(crate) peaks: Vec<u64>,
    /// Of the whole step.
    pub(crate) seconds: f64,
}

impl Weight {
    pub(crate) fn height(&self) -> u64 {
        self.peaks.iter().copied().max().unwrap_or(0)
    }

    /// The highest sum in both passes of the blocks `from .. to`.
    pub(crate) fn peak(&self, from: usize, to: usize) -> u64 {
        let blocks = self.peaks.len() / 2;
        let forward = &self.peaks[from..to];
        let backward = &self.peaks[2 * blocks - to..2 * blocks - from];
        forward.iter().chain(backward).copied().max().unwrap_or(0)
    }
}

impl<'a> Scale<'a> {
    pub(crate) fn new(
        program: &Program,
        outline: &'a Outline,
        workspaces: &[u64],
        alignment: u64,
        costs: &dyn Costs,
        blocks: &Blocks,
    ) -> Self {
        let values = program.values.iter().map(|value| match value.role {
            role if role.is_persistent() => 0,
            _ => value.layout.bytes().next_multiple_of(alignment),
        });
        let count = blocks.count();
        let stations = blocks.places.iter().map(|&(block, backward)| {
            if backward {
                2 * count - 1 - block
            } else {
                block
            }
        });
        let seconds = program.operations.iter();
        Self {
            outline,
            bytes: values.collect(),
            workspaces: workspaces
                .iter()
                .map(|bytes| bytes.next_multiple_of(alignment))
                .collect(),
            seconds: seconds.map(|o| costs.seconds(program, o)).collect(),
            uploaded: [program.images.0, program.labels.0],
            kept: program.kept.iter().map(|id| id.0).collect(),
            stations: stations.collect(),
            blocks: count,
        }
    }

    pub(crate) fn weigh(&self, forms: &Forms) -> Result<Weight, FormError> {
        const NEVER: usize = usize::MAX;
        let schedule = self.outline.schedule(forms)?;
        let entries = &schedule.entries;
        let mut lives = vec![(NEVER, 0); self.bytes.len() + schedule.repeated.len()];
        let mut seconds = 0.0;
        for (at, entry) in entries.iter().enumerate() {
            seconds += self.seconds[entry.operation];
            let touched = schedule.reads(self.outline, *entry);
            for value in touched.chain(schedule.writes(self.outline, *entry)) {
                let (first, last) = &mut lives[value];
                *first = at.min(*first);
                *last = at;
            }
        }
        for value in self.uploaded {
            if lives[value].0 != NEVER {
                lives[value].0 = 0;
            }
        }
        for &value in &self.kept {
            lives[value].1 = entries.len() - 1;
        }
        let mut changes = vec![0_i64; entries.len() + 1];
        for (value, &(first, last)) in lives.iter().enumerate() {
            if first != NEVER {
                let own = value.checked_sub(self.bytes.len());
                let bytes = self.bytes[own.map_or(value, |copy| schedule.repeated[copy])] as i64;
                changes[first] += bytes;
                changes[last + 1] -= bytes;
            }
        }
        let mut peaks = vec![0; 2 * self.blocks];
        let mut live = 0_i64;
        // What runs again belongs to the operation it runs for: the next one that does not.
        let mut waiting = 0;
        for (at, entry) in entries.iter().enumerate() {
            live += changes[at];
            let now = live as u64 + self.workspaces[entry.operation];
            waiting = waiting.max(now);
            if !entry.again {
                let station = &mut peaks[self.stations[entry.operation]];
                *station = waiting.max(*station);
                waiting = 0;
            }
        }
        Ok(Weight { peaks, seconds })
    }
}
