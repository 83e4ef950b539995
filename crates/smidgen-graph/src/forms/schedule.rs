use super::outline::{Outline, is_backward};
use super::{Code, Encoded, Form, FormError, Forms, Slices, Step};
use crate::operation::Phase;
use crate::program::ValueId;
use std::collections::BTreeMap;

/// One thing that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// An operation of the program, by its index.
    Once(usize),
    /// The same for the second time, before the backward operation that follows.
    Again(usize),
    /// What makes a map again in slices, by its index, with all that reads it.
    Slices(usize),
    /// What only the forms ask for, by its index: after the forward operation before it, or before the backward operation behind it.
    Step(usize),
}

/// A value that only the forms bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extra {
    /// The value of the program that it stands for.
    pub of: usize,
    /// If it is that value encoded: the code, and its bytes.
    pub code: Option<(Code, u64)>,
    /// Whether it stands in the host's memory.
    pub on_host: bool,
}

/// What runs when, under some forms. Values are numbered as in the program; the extra ones follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// In the order in which they run.
    pub runs: Vec<Run>,
    /// The values beyond the program's own.
    pub extras: Vec<Extra>,
    /// What the runs call by index.
    pub steps: Vec<Step>,
    /// Likewise.
    pub slices: Vec<Slices>,
    /// By value: what a second run writes instead of it.
    copies: Vec<Option<usize>>,
    /// By value: what the backward pass reads instead of it.
    substitutes: Vec<usize>,
    /// By operation that decodes as it loads: what, and where it is held.
    pub coded: BTreeMap<usize, (usize, Encoded)>,
}

impl Schedule {
    /// Calls `visit` with every value that is read or written.
    pub fn touched(&self, outline: &Outline, run: Run, mut visit: impl FnMut(usize)) {
        match run {
            Run::Once(at) | Run::Again(at) => {
                let again = matches!(run, Run::Again(_));
                let backward = again || is_backward(outline.phases[at]);
                let coded = self.coded.get(&at);
                for &value in &outline.reads[at] {
                    if coded.is_none_or(|(of, _)| *of != value) {
                        visit(self.read(value, backward));
                    }
                }
                if let Some((_, stash)) = coded {
                    stash.values().for_each(&mut visit);
                }
                for &value in &outline.writes[at] {
                    if !(again && outline.moments[value]) {
                        visit(self.written(value, again));
                    }
                }
            }
            Run::Slices(at) => {
                let of = self.slices[at].of;
                let (Some(moved), Some(producer)) = (outline.moved.get(&of), outline.producers[of])
                else {
                    return;
                };
                for &value in &outline.reads[producer] {
                    visit(self.read(value, true));
                }
                for &reader in &moved.readers {
                    let reads = outline.reads[reader].iter();
                    for &value in reads.filter(|value| **value != of) {
                        visit(self.read(value, true));
                    }
                    for &value in &outline.writes[reader] {
                        visit(self.written(value, false));
                    }
                }
            }
            Run::Step(at) => self.steps[at].values().for_each(visit),
        }
    }

    pub(super) fn read(&self, value: usize, backward: bool) -> usize {
        if backward {
            self.substitutes[value]
        } else {
            value
        }
    }

    pub(super) fn written(&self, value: usize, again: bool) -> usize {
        self.copies[value].filter(|_| again).unwrap_or(value)
    }
}

impl Outline {
    /// What runs when, if stashes are held in these forms. An operation that runs again does so just before the first backward operation
    /// that reads its result, or that needs it to make another one.
    ///
    /// # Errors
    /// A form for what is no stash, a value that cannot be computed again, or a code that would lose what backward needs.
    pub fn schedule(&self, forms: &Forms) -> Result<Schedule, FormError> {
        let values = self.persistent.len();
        let mut maker = Maker {
            outline: self,
            held: self.stashed.clone(),
            updated: vec![false; values],
            encoded: BTreeMap::new(),
            offloaded: BTreeMap::new(),
            schedule: Schedule {
                runs: Vec::with_capacity(self.phases.len() + 2 * forms.len()),
                extras: Vec::new(),
                steps: Vec::new(),
                slices: Vec::new(),
                copies: vec![None; values],
                substitutes: (0..values).collect(),
                coded: BTreeMap::new(),
            },
        };
        // By operation: whether it runs elsewhere; and where the last reader of a map in slices stands.
        let mut elsewhere = vec![false; self.phases.len()];
        let mut sliced: BTreeMap<usize, Slices> = BTreeMap::new();
        // After which operation which value is encoded.
        let mut encodings: Vec<(usize, ValueId)> = Vec::new();
        for (&value, form) in forms {
            if !self.stashed.get(value.0).copied().unwrap_or(false) {
                let value = self.names.get(value.0).cloned().unwrap_or_default();
                return Err(FormError::NoStash { value });
            }
            if *form == Form::Recomputed && self.producers[value.0].is_none() {
                return Err(FormError::NotRepeatable {
                    value: self.names[value.0].clone(),
                    reason: "no operation makes it",
                });
            }
            maker.held[value.0] = *form == Form::Whole;
            if let Form::Sliced(count) = *form {
                let slices = self.sliced(value, count)?;
                let moved = &self.moved[&value.0];
                for &at in moved.readers.iter().chain(&moved.later) {
                    elsewhere[at] = true;
                }
                sliced.insert(slices.place, slices);
            }
            if *form == Form::Offloaded {
                maker.offload(value)?;
                encodings.push((self.last_forward[value.0], value));
            }
            if let Form::Coded(code) | Form::Masked(code) = *form {
                let masked = matches!(form, Form::Masked(_));
                maker.reserve(value, code, masked)?;
                encodings.push((self.last_forward[value.0], value));
            }
        }
        encodings.sort_unstable();
        let mut encodings = encodings.into_iter().peekable();
        for (operation, elsewhere) in elsewhere.into_iter().enumerate() {
            if let Some(slices) = sliced.get(&operation) {
                maker.slices(*slices)?;
            }
            if elsewhere {
                continue;
            }
            maker.once(operation)?;
            while let Some((_, value)) = encodings.next_if(|(after, _)| *after == operation) {
                maker.encode(value.0);
            }
        }
        Ok(maker.schedule)
    }
}

struct Maker<'a> {
    outline: &'a Outline,
    /// By value: whether what the forward pass made is still there in the backward pass.
    held: Vec<bool>,
    /// By value: parameters that the optimiser has already changed in this step.
    updated: Vec<bool>,
    encoded: BTreeMap<usize, Encoded>,
    /// Where values stand in the host's memory.
    offloaded: BTreeMap<usize, usize>,
    schedule: Schedule,
}

impl Maker<'_> {
    fn extra(&mut self, of: usize, code: Option<(Code, u64)>) -> usize {
        self.schedule.extras.push(Extra {
            of,
            code,
            on_host: false,
        });
        self.outline.persistent.len() + self.schedule.extras.len() - 1
    }

    /// An operation of the program in its place.
    fn once(&mut self, operation: usize) -> Result<(), FormError> {
        let outline = self.outline;
        let phase = outline.phases[operation];
        if is_backward(phase) {
            for &value in &outline.reads[operation] {
                self.make(value, Some(operation))?;
            }
        }
        self.schedule.runs.push(Run::Once(operation));
        if phase == Phase::Update {
            for &value in &outline.writes[operation] {
                self.updated[value] = true;
            }
        }
        Ok(())
    }

    /// A map in slices with those who read it, and what waits for these.
    fn slices(&mut self, slices: Slices) -> Result<(), FormError> {
        let outline = self.outline;
        let (Some(moved), Some(producer)) =
            (outline.moved.get(&slices.of), outline.producers[slices.of])
        else {
            return Ok(());
        };
        self.inputs(slices.of, producer)?;
        for &reader in &moved.readers {
            let reads = outline.reads[reader].iter();
            for &value in reads.filter(|value| **value != slices.of) {
                self.make(value, Some(reader))?;
            }
        }
        self.schedule
            .runs
            .push(Run::Slices(self.schedule.slices.len()));
        self.schedule.slices.push(slices);
        moved.later.iter().try_for_each(|at| self.once(*at))
    }

    /// Sees to it that the operation that makes a value can run again.
    fn inputs(&mut self, value: usize, operation: usize) -> Result<(), FormError> {
        for &input in &self.outline.reads[operation] {
            if self.updated[input] {
                return Err(FormError::NotRepeatable {
                    value: self.outline.names[value].clone(),
                    reason: "its parameters have been updated before it is needed",
                });
            }
            self.make(input, None)?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step) {
        self.schedule
            .runs
            .push(Run::Step(self.schedule.steps.len()));
        self.schedule.steps.push(step);
    }

    /// Numbers for a value in a code, and for the slope beside it.
    fn reserve(&mut self, value: ValueId, code: Code, masked: bool) -> Result<(), FormError> {
        let stash = self.outline.stash(value);
        let list = stash.map(|stash| if masked { &stash.masked } else { &stash.codes });
        let open = list.and_then(|list| list.iter().find(|(open, _)| *open == code));
        let Some(&(_, bytes)) = open else {
            return Err(FormError::NotCodable {
                value: self.outline.names[value.0].clone(),
                code,
                reason: "backward needs of it what the code does not keep, or the code saves nothing",
            });
        };
        let activated = stash.and_then(|stash| stash.activated.as_ref());
        let slope_bytes = activated.map_or(0, |activated| activated.slope_bytes);
        let own = if masked { bytes - slope_bytes } else { bytes };
        let stash = self.extra(value.0, Some((code, own)));
        let slope_code = activated.map_or(Code::Slope, |activated| activated.slope);
        let slope = masked.then(|| self.extra(value.0, Some((slope_code, slope_bytes))));
        let slope = slope.map(|stash| (slope_code, stash));
        let encoded = Encoded { code, stash, slope };
        self.encoded.insert(value.0, encoded);
        Ok(())
    }

    /// A number for a value in the host's memory.
    fn offload(&mut self, value: ValueId) -> Result<(), FormError> {
        let stash = self.outline.stash(value);
        if !stash.is_some_and(|stash| stash.offloadable) {
            return Err(FormError::NotOffloadable {
                value: self.outline.names[value.0].clone(),
                reason: "no host budget was named, or it has no room for it",
            });
        }
        let host = self.extra(value.0, None);
        if let Some(extra) = self.schedule.extras.last_mut() {
            extra.on_host = true;
        }
        self.offloaded.insert(value.0, host);
        Ok(())
    }

    fn encode(&mut self, of: usize) {
        if let Some(&stash) = self.encoded.get(&of) {
            self.step(Step::Encode { of, stash });
        } else if let Some(&host) = self.offloaded.get(&of) {
            self.step(Step::Send { of, host });
        }
    }

    /// Sees to it that the backward operation `reader` can read a value of the forward pass, or, if there is none, that another can be made of it.
    fn make(&mut self, value: usize, reader: Option<usize>) -> Result<(), FormError> {
        let outline = self.outline;
        let refuse = |reason| {
            let value = outline.names[value].clone();
            Err(FormError::NotRepeatable { value, reason })
        };
        if let Some(&encoded) = self.encoded.get(&value) {
            return match reader {
                Some(reader) => {
                    self.decode(value, encoded, reader);
                    Ok(())
                }
                None => refuse(
                    "what it is needed for is computed again, and must be made of exact numbers",
                ),
            };
        }
        if let Some(&host) = self.offloaded.get(&value) {
            if self.schedule.substitutes[value] == value {
                let output = self.extra(value, None);
                self.schedule.substitutes[value] = output;
                self.step(Step::Fetch {
                    of: value,
                    host,
                    output,
                });
            }
            return Ok(());
        }
        let Some(operation) = outline.producers[value] else {
            return Ok(());
        };
        if self.held[value] || self.schedule.substitutes[value] != value {
            return Ok(());
        }
        if !outline.repeatable[operation] && !outline.stashed[value] {
            // Statistics that only a second run needs: small, and simply held for longer.
            return Ok(());
        }
        if !outline.repeatable[operation] {
            return refuse("its operation must not run twice");
        }
        self.inputs(value, operation)?;
        let writes = outline.writes[operation].iter();
        for &written in writes.filter(|value| !outline.moments[**value]) {
            let copy = self.extra(written, None);
            self.schedule.copies[written] = Some(copy);
            if !self.held[written] {
                self.schedule.substitutes[written] = copy;
            }
        }
        self.schedule.runs.push(Run::Again(operation));
        Ok(())
    }

    /// Sees to it that one of its readers can read a value in a code: those that can decode as they load, for the others it is decoded once.
    fn decode(&mut self, of: usize, stash: Encoded, reader: usize) {
        if self.outline.loads[reader] == Some(of) {
            self.schedule.coded.insert(reader, (of, stash));
        } else if self.schedule.substitutes[of] == of {
            let output = self.extra(of, None);
            self.schedule.substitutes[of] = output;
            self.step(Step::Decode { of, stash, output });
        }
    }
}
