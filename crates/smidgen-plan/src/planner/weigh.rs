//! What forms take in bytes and time, without making the program.

use super::blocks::Blocks;
use crate::costs::Costs;
use smidgen_graph::forms::{
    Code, Extra, Form, FormError, FormPass, Forms, Outline, Run, Schedule, Stash,
};
use smidgen_graph::{Content, Operation, Program, ValueId};
use std::borrow::Cow;
use std::collections::HashMap;

/// Everything about a program, or about a part of one, that its weight depends on.
pub(crate) struct Scale<'a> {
    pub(crate) outline: Cow<'a, Outline>,
    /// By value, rounded up to the alignment; 0 for what persists.
    pub(crate) bytes: Vec<u64>,
    pub(super) alignment: u64,
    pub(super) workspaces: Vec<u64>,
    pub(super) seconds: Vec<f64>,
    /// By operation, if it runs for the second time.
    pub(super) again: Vec<f64>,
    /// What only forms ask for, by the value it is about.
    pub(super) passes: HashMap<(usize, FormPass), f64>,
    /// Of what makes a map again in slices, by that map and their number.
    pub(super) slices: HashMap<(usize, u32), f64>,
    /// How many stashes backward is linear in: what a variance is the mean over.
    pub(super) linear: usize,
    /// By value: what else it lives through, beside the time from where it is first touched here to where it is last.
    pub(super) beyond: Vec<Beyond>,
    /// Bytes of what is not touched here and stands all the time, in the forward and in the backward pass.
    pub(super) standing: [u64; 2],
    /// By operation: where its peak is noted. Forward through the blocks; then backward, where the operations of a block that come before the first that reads the
    /// map it is entered with are one station, and all others another.
    pub(super) stations: Vec<usize>,
    pub(super) blocks: usize,
}

/// What a value lives through of a stretch of the forward pass and the stretch of the backward pass that belongs to it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beyond {
    /// All that comes before.
    pub(super) start: bool,
    /// The end of the forward stretch, and the begin of the backward one.
    pub(super) middle: [bool; 2],
    /// All that follows.
    pub(super) end: bool,
}

/// What forms take.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    /// The highest sum of bytes alive, by station.
    pub(crate) peaks: Vec<u64>,
    /// Of the whole step.
    pub(crate) seconds: f64,
    /// The mean over the stashes that backward is linear in of the squared error by the squared value.
    pub(crate) variance: f64,
}

impl Weight {
    pub(crate) fn height(&self) -> u64 {
        self.peaks.iter().copied().max().unwrap_or(0)
    }

    /// The highest sums in a block: forward, backward until what it is entered with is read, and from then on.
    pub(crate) fn peaks(&self, block: usize) -> [u64; 3] {
        let blocks = self.peaks.len() / 3;
        let backward = blocks + 2 * (blocks - 1 - block);
        [block, backward, backward + 1].map(|station| self.peaks[station])
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
        let values = program.values.iter().enumerate();
        let values = values.map(|(id, value)| match value.role {
            role if role.is_persistent() => 0,
            _ => program.bytes(ValueId(id)).next_multiple_of(alignment),
        });
        let count = blocks.count();
        let mut reached = vec![false; count];
        let stations = (blocks.places.iter().enumerate()).map(|(at, &(block, backward))| {
            if !backward {
                return block;
            }
            let entry = blocks.entries[block];
            reached[block] |= entry.is_none_or(|value| outline.reads(at).contains(&value.0));
            count + 2 * (count - 1 - block) + usize::from(reached[block])
        });
        let seconds = |operation: &Operation, run: &Operation| {
            f64::from(program.runs(operation)) * costs.seconds(program, run)
        };
        // What is uploaded before the first operation, and what must hold until the last.
        let mut beyond = vec![Beyond::default(); program.values.len()];
        for id in [program.images, program.labels] {
            beyond[id.0].start = true;
        }
        for id in &program.kept {
            beyond[id.0].end = true;
        }
        let stashes = outline.stashes();
        let (mut passes, mut slices) = (HashMap::new(), HashMap::new());
        let runs = f64::from(program.micro_batches);
        for stash in stashes {
            for (count, _) in &stash.slices {
                if let Some(operation) = outline.in_slices(program, stash.value, *count) {
                    let seconds = runs * costs.seconds(program, &operation);
                    slices.insert((stash.value.0, *count), seconds);
                }
            }
            if let Some(shape) = program.value(stash.value).layout.map() {
                for pass in stash.passes() {
                    let alone = pass.alone(program, stash, shape);
                    let seconds = alone.operations.iter().map(|o| costs.seconds(&alone, o));
                    passes.insert((stash.value.0, pass), runs * seconds.sum::<f64>());
                }
            }
        }
        Self {
            alignment,
            passes,
            slices,
            linear: stashes
                .iter()
                .filter(|stash| may_be_lossy(stash))
                .count()
                .max(1),
            outline: Cow::Borrowed(outline),
            bytes: values.collect(),
            workspaces: workspaces
                .iter()
                .map(|bytes| bytes.next_multiple_of(alignment))
                .collect(),
            seconds: (program.operations.iter()).map(|o| seconds(o, o)).collect(),
            again: (program.operations.iter())
                .map(|o| seconds(o, &o.again()))
                .collect(),
            beyond,
            standing: [0; 2],
            stations: stations.collect(),
            blocks: count,
        }
    }

    /// Bytes that a stash leaves on the stack in a form.
    pub(crate) fn held(&self, value: ValueId, form: Form) -> u64 {
        let stash = self.outline.stash(value);
        // The code and the slope beside it are two values, each aligned.
        let aligned = |list: &[(Code, u64)], code: Code, slope: u64| {
            let open = list.iter().find(|(open, _)| *open == code);
            open.map_or(0, |(_, bytes)| {
                (bytes - slope).next_multiple_of(self.alignment)
            })
        };
        match form {
            Form::Whole => self.bytes[value.0],
            Form::Recomputed | Form::Sliced(_) | Form::Offloaded => 0,
            Form::Coded(code) => stash.map_or(0, |stash| aligned(&stash.codes, code, 0)),
            Form::Masked(code) => stash.map_or(0, |stash| {
                let slope = stash.activated.map_or(0, |activated| activated.slope_bytes);
                aligned(&stash.masked, code, slope) + slope.next_multiple_of(self.alignment)
            }),
        }
    }

    pub(crate) fn weigh(&self, forms: &Forms) -> Result<Weight, FormError> {
        const NEVER: usize = usize::MAX;
        let schedule = self.outline.schedule(forms)?;
        let runs = &schedule.runs;
        let values = self.bytes.len();
        let bytes_of = |value: usize| match value.checked_sub(values).map(|at| schedule.extras[at])
        {
            None => self.bytes[value],
            Some(Extra { on_host: true, .. }) => 0,
            Some(Extra {
                code: Some((_, bytes)),
                ..
            }) => bytes.next_multiple_of(self.alignment),
            Some(Extra { of, .. }) => self.bytes[of],
        };
        let mut lives = vec![(NEVER, 0); values + schedule.extras.len()];
        let mut seconds = 0.0;
        for (at, run) in runs.iter().enumerate() {
            seconds += match run {
                Run::Again(operation) => self.again[*operation],
                Run::Once(operation) => {
                    let coded = schedule.coded.get(operation).and_then(|(of, stash)| {
                        let (code, slope) = (stash.code.searched(), stash.slope.is_some());
                        let operation = *operation;
                        let pass = FormPass::Load {
                            operation,
                            code,
                            slope,
                        };
                        self.passes.get(&(*of, pass))
                    });
                    coded.copied().unwrap_or(self.seconds[*operation])
                }
                Run::Slices(at) => {
                    let of = &schedule.slices[*at];
                    self.slices[&(of.of, of.count)]
                }
                Run::Step(step) => {
                    let step = &schedule.steps[*step];
                    let known = self.passes.get(&(step.of(), step.pass()));
                    known.copied().unwrap_or(0.0)
                }
            };
            schedule.touched(&self.outline, *run, |value| {
                let (first, last) = &mut lives[value];
                *first = at.min(*first);
                *last = at;
            });
        }
        let middle = runs
            .iter()
            .position(|run| self.is_backward(*run, &schedule));
        let middle = middle.unwrap_or(runs.len());
        for ((first, last), beyond) in lives.iter_mut().zip(&self.beyond) {
            if *first == NEVER {
                continue;
            }
            if beyond.start {
                *first = 0;
            }
            if beyond.middle[1] {
                *first = middle.min(*first);
            }
            if beyond.middle[0] {
                *last = middle.saturating_sub(1).max(*last);
            }
            if beyond.end {
                *last = runs.len() - 1;
            }
        }
        let mut changes = vec![0_i64; runs.len() + 1];
        for (value, &(first, last)) in lives.iter().enumerate() {
            if first != NEVER {
                let bytes = bytes_of(value) as i64;
                changes[first] += bytes;
                changes[last + 1] -= bytes;
            }
        }
        let mut peaks = vec![0; 3 * self.blocks];
        let mut live = 0_i64;
        // What runs again or is decoded belongs to the operation it is for: the next one of the program. What is encoded belongs to the
        // one before.
        let (mut waiting, mut station) = (0, 0);
        for (at, run) in runs.iter().enumerate() {
            live += changes[at];
            let now = live as u64 + self.standing[usize::from(at >= middle)];
            match run {
                Run::Once(operation) => {
                    station = self.stations[*operation];
                    let own = now + self.workspaces[*operation];
                    peaks[station] = own.max(waiting).max(peaks[station]);
                    waiting = 0;
                }
                Run::Slices(at) => {
                    let slices = &schedule.slices[*at];
                    station = self.stations[slices.place];
                    let own = now + slices.bytes.next_multiple_of(self.alignment);
                    peaks[station] = own.max(waiting).max(peaks[station]);
                    waiting = 0;
                }
                Run::Again(operation) => waiting = waiting.max(now + self.workspaces[*operation]),
                Run::Step(step) if schedule.steps[*step].is_forward() => {
                    peaks[station] = now.max(peaks[station]);
                }
                Run::Step(_) => waiting = waiting.max(now),
            }
        }
        let variances = forms.values().map(|form| match form {
            Form::Coded(code) | Form::Masked(code) => code.variance(),
            _ => 0.0,
        });
        Ok(Weight {
            peaks,
            seconds,
            // The sum of nothing is -0.
            variance: (0.0 + variances.sum::<f64>()) / self.linear as f64,
        })
    }
}

impl Scale<'_> {
    fn is_backward(&self, run: Run, schedule: &Schedule) -> bool {
        match run {
            Run::Once(operation) => self.stations[operation] >= self.blocks,
            Run::Again(_) | Run::Slices(_) => true,
            Run::Step(step) => !schedule.steps[step].is_forward(),
        }
    }
}

fn may_be_lossy(stash: &Stash) -> bool {
    stash.content == Content::Linear || stash.activated.is_some()
}
