//! A few blocks of a program by themselves: what forms take in the midst of them, without looking at all the others.

use super::blocks::Blocks;
use super::weigh::{Beyond, Scale, Weight};
use smidgen_graph::ValueId;
use smidgen_graph::forms::{FormError, FormPass, Forms};
use std::borrow::Cow;

/// A block with those before and behind it.
pub(super) struct Part {
    scale: Scale<'static>,
    /// Its values, as the program numbers them.
    values: Vec<ValueId>,
}

/// By value of a program whose stashes are all whole: the first and the last operation that it lives at.
pub(super) fn lives(scale: &Scale<'_>) -> Vec<Option<(usize, usize)>> {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; scale.bytes.len()];
    let operations = scale.stations.len();
    for at in 0..operations {
        for &value in (scale.outline.reads(at).iter()).chain(scale.outline.writes(at)) {
            lives[value].get_or_insert((at, at)).1 = at;
        }
    }
    for (life, beyond) in lives.iter_mut().zip(&scale.beyond) {
        if let Some((first, last)) = life {
            if beyond.start {
                *first = 0;
            }
            if beyond.end {
                *last = operations - 1;
            }
        }
    }
    lives
}

impl Part {
    /// `lives` are those of the [program](lives).
    pub(super) fn new(
        whole: &Scale<'_>,
        blocks: &Blocks,
        block: usize,
        lives: &[Option<(usize, usize)>],
    ) -> Self {
        let near = block.saturating_sub(1)..=block + 1;
        let operations: Vec<usize> = (0..blocks.places.len())
            .filter(|at| near.contains(&blocks.places[*at].0))
            .collect();
        let (outline, values) = whole.outline.part(&operations);
        let ends = |backward: bool| {
            let mut stretch =
                (operations.iter().copied()).filter(|at| blocks.places[*at].1 == backward);
            let first = stretch.next().unwrap_or(0);
            (first, stretch.next_back().unwrap_or(first))
        };
        let ((start, forward), (backward, end)) = (ends(false), ends(true));
        let between = |at: usize| forward < at && at < backward;
        let beyond = |id: &ValueId| {
            lives[id.0].map_or_else(Beyond::default, |(first, last)| Beyond {
                start: first < start || whole.beyond[id.0].start,
                middle: [between(last), between(first)],
                end: last > end || whole.beyond[id.0].end,
            })
        };
        let mut standing = [0; 2];
        for (at, life) in lives.iter().enumerate() {
            let (Some((first, last)), Err(_)) = (life, values.binary_search(&ValueId(at))) else {
                continue;
            };
            if *first < start && *last > forward {
                standing[0] += whole.bytes[at];
            }
            if *first < backward && *last > end {
                standing[1] += whole.bytes[at];
            }
        }
        let of = |list: &[f64]| operations.iter().map(|at| list[*at]).collect();
        let local = |id: usize| values.binary_search(&ValueId(id)).ok();
        let of_part = |pass: FormPass| match pass {
            FormPass::Load {
                operation,
                code,
                slope,
            } => Some(FormPass::Load {
                operation: operations.binary_search(&operation).ok()?,
                code,
                slope,
            }),
            other => Some(other),
        };
        let passes = (whole.passes.iter())
            .filter_map(|((of, pass), seconds)| Some(((local(*of)?, of_part(*pass)?), *seconds)));
        let slices = (whole.slices.iter())
            .filter_map(|((of, count), seconds)| Some(((local(*of)?, *count), *seconds)));
        let scale = Scale {
            outline: Cow::Owned(outline),
            bytes: values.iter().map(|id| whole.bytes[id.0]).collect(),
            alignment: whole.alignment,
            workspaces: operations.iter().map(|at| whole.workspaces[*at]).collect(),
            seconds: of(&whole.seconds),
            again: of(&whole.again),
            passes: passes.collect(),
            slices: slices.collect(),
            linear: whole.linear,
            beyond: values.iter().map(beyond).collect(),
            standing,
            stations: operations.iter().map(|at| whole.stations[*at]).collect(),
            blocks: whole.blocks,
        };
        Self { scale, values }
    }

    /// What forms of stashes of its middle block, and of the map that this is entered with, take: [peaks](Weight::peaks) of that block as they are in the whole
    /// program, and seconds without those of the other blocks.
    pub(super) fn weigh(&self, forms: &Forms) -> Result<Weight, FormError> {
        let local = |(value, form): (&ValueId, &_)| {
            let at = self.values.binary_search(value).ok()?;
            Some((ValueId(at), *form))
        };
        self.scale.weigh(&forms.iter().filter_map(local).collect())
    }
}
