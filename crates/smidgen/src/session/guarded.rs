//! A step that shows a tensor read after its memory was given away, or written beside its place.

use super::compiled::Compiled;
use super::memory::Memory;
use super::{Session, StepOptions, control};
use crate::Error;
use smidgen_plan::{Place, Placement, placements};

/// A NaN that no kernel writes, and two in f16.
const POISON: u32 = 0x7fc1_7ead;

/// Bytes are overwritten and compared in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;

impl Session {
    /// One training step, one operation at a time. Before it, all memory that does not persist is filled with NaN; after every
    /// operation, so is what no later one may read; after the step, what belongs to no tensor must still hold what it was filled
    /// with. The result is that of [`train_step`](Self::train_step), or the plan is wrong. Slow: for tests and for reports of errors.
    ///
    /// # Errors
    /// As `train_step`; and memory that belongs to no tensor was written.
    pub fn train_step_guarded(
        &mut self,
        images: &[f32],
        labels: &[u32],
        options: &StepOptions,
    ) -> Result<(), Error> {
        let batch = self.in_parts(images, labels);
        let Some((training, compiled)) = &self.training else {
            return Err(Error::NotTraining);
        };
        let due = self.growth.as_mut().filter(|growth| growth.is_due);
        let compiled = match due {
            Some(growth) => {
                growth.is_due = false;
                &growth.compiled
            }
            None => compiled,
        };
        let control = control(training, options, batch);
        let memory = &mut self.memory;
        let cut = self.plan.limits.max_buffer_bytes;
        let persistent = compiled.plan.peak.persistent;
        let all = Place {
            offset: persistent,
            bytes: self.plan.arena_bytes - persistent,
        };
        poison(memory, all, cut)?;
        let lives = placements(&compiled.program);
        let steps = batch.parts().flat_map(|batch| {
            let operations = compiled.operations(&batch);
            let first = operations.start;
            operations.map(move |at| (batch, at, at == first))
        });
        for (batch, at, begins) in steps {
            if begins {
                let mut encoder = memory.encoder();
                if batch.is_first() {
                    memory.zero(&mut encoder, &compiled.sums);
                }
                memory.upload(&mut encoder, compiled, batch, &batch.control(control))?;
                memory.submit(encoder);
            }
            let launches = &compiled.launches[at];
            let sequence = &compiled.sequence;
            (memory.device).run(|pass| sequence.record_range(pass, launches.clone()))?;
            for (life, place) in lives.iter().zip(&compiled.plan.values) {
                if let (Placement::Stash(life) | Placement::Transient(life), Some(place)) =
                    (life, place)
                    && life.last == at
                    && at + 1 < compiled.launches.len()
                {
                    poison(memory, *place, cut)?;
                }
            }
            if let Some(place) = compiled.plan.workspaces[at] {
                poison(memory, place, cut)?;
            }
        }
        for gap in gaps(compiled, all) {
            for piece in pieces(gap, cut) {
                if memory.read(piece)?.iter().any(|word| *word != POISON) {
                    return Err(Error::Overrun {
                        offset: piece.offset,
                    });
                }
            }
        }
        Ok(())
    }
}

fn poison(memory: &mut Memory, place: Place, cut: u64) -> Result<(), Error> {
    for piece in pieces(place, cut) {
        let words = vec![POISON; (piece.bytes / 4) as usize];
        memory.write(piece, smidgen_gpu::bytemuck::cast_slice(&words))?;
    }
    Ok(())
}

/// A place in pieces, none of which goes across a cut of the arena.
fn pieces(place: Place, cut: u64) -> impl Iterator<Item = Place> {
    let end = place.offset + place.bytes;
    let mut offset = place.offset;
    std::iter::from_fn(move || {
        let next = end
            .min((offset / PIECE_BYTES + 1) * PIECE_BYTES)
            .min((offset / cut + 1) * cut);
        let bytes = next - offset;
        let piece = Place { offset, bytes };
        offset = next;
        (bytes > 0).then_some(piece)
    })
}

/// What of `all` belongs to no value and no workspace at any time: the padding between them.
fn gaps(compiled: &Compiled, all: Place) -> Vec<Place> {
    let values = compiled.plan.values.iter().flatten();
    let mut places: Vec<Place> = (values.chain(compiled.plan.workspaces.iter().flatten()))
        .copied()
        .filter(|place| (all.offset..all.offset + all.bytes).contains(&place.offset))
        .collect();
    places.sort_by_key(|place| place.offset);
    let (mut gaps, mut at) = (Vec::new(), all.offset);
    let end = Place {
        offset: all.offset + all.bytes,
        bytes: 0,
    };
    for place in places.into_iter().chain([end]) {
        if place.offset > at {
            let bytes = place.offset - at;
            gaps.push(Place { offset: at, bytes });
        }
        at = at.max(place.offset + place.bytes);
    }
    gaps
}
