use super::outline::{Outline, is_backward};
use super::{Code, Form, FormError, Forms};
use crate::operation::Phase;
use crate::program::ValueId;

/// One thing that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// An operation of the program, by its index.
    Once(usize),
    /// The same for the second time, before the backward operation that follows.
    Again(usize),
    /// The encoding of a value, after the forward operation before it.
    Encode(usize),
    /// The decoding of a value, before the backward operation that follows.
    Decode(usize),
}

/// A value that only the forms bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extra {
    /// The value of the program that it stands for.
    pub of: usize,
    /// If it is that value encoded: the code, and its bytes.
    pub code: Option<(Code, u64)>,
}

/// What runs when, under some forms. Values are numbered as in the program; the extra ones follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// In the order in which they run.
    pub runs: Vec<Run>,
    /// The values beyond the program's own.
    pub extras: Vec<Extra>,
    /// By value: what a second run writes instead of it.
    copies: Vec<Option<usize>>,
    /// By value: what the backward pass reads instead of it.
    substitutes: Vec<usize>,
    /// By value: it, encoded.
    encoded: Vec<usize>,
}

impl Schedule {
    /// Calls `visit` with every value that is read or written.
    pub fn touched(&self, outline: &Outline, run: Run, mut visit: impl FnMut(usize)) {
        match run {
            Run::Once(at) | Run::Again(at) => {
                let again = matches!(run, Run::Again(_));
                let backward = again || is_backward(outline.phases[at]);
                outline.reads[at]
                    .iter()
                    .for_each(|&value| visit(self.read(value, backward)));
                outline.writes[at]
                    .iter()
                    .for_each(|&value| visit(self.written(value, again)));
            }
            Run::Encode(value) => {
                visit(value);
                visit(self.encoded[value]);
            }
            Run::Decode(value) => {
                visit(self.encoded[value]);
                visit(self.substitutes[value]);
            }
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

    pub(super) fn encoded(&self, value: usize) -> usize {
        self.encoded[value]
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
            schedule: Schedule {
                runs: Vec::with_capacity(self.phases.len() + 2 * forms.len()),
                extras: Vec::new(),
                copies: vec![None; values],
                substitutes: (0..values).collect(),
                encoded: vec![NONE; values],
            },
        };
        // After which operation which value is encoded.
        let mut encodings: Vec<(usize, usize)> = Vec::new();
        for (value, form) in forms {
            if !self.stashed.get(value.0).copied().unwrap_or(false) {
                let value = self.names.get(value.0).cloned().unwrap_or_default();
                return Err(FormError::NoStash { value });
            }
            maker.held[value.0] = *form == Form::Whole;
            if let Form::Coded(code) = form {
                maker.encode(*value, *code)?;
                encodings.push((self.last_forward[value.0], value.0));
            }
        }
        encodings.sort_unstable();
        let mut next = 0;
        for operation in 0..self.phases.len() {
            let phase = self.phases[operation];
            if is_backward(phase) {
                for &value in &self.reads[operation] {
                    maker.make(value, false)?;
                }
            }
            maker.schedule.runs.push(Run::Once(operation));
            while let Some((_, value)) =
                encodings.get(next).filter(|(after, _)| *after == operation)
            {
                maker.schedule.runs.push(Run::Encode(*value));
                next += 1;
            }
            if phase == Phase::Update {
                for &value in &self.writes[operation] {
                    maker.updated[value] = true;
                }
            }
        }
        Ok(maker.schedule)
    }
}

const NONE: usize = usize::MAX;

struct Maker<'a> {
    outline: &'a Outline,
    /// By value: whether what the forward pass made is still there in the backward pass.
    held: Vec<bool>,
    /// By value: parameters that the optimiser has already changed in this step.
    updated: Vec<bool>,
    schedule: Schedule,
}

impl Maker<'_> {
    fn encode(&mut self, value: ValueId, code: Code) -> Result<(), FormError> {
        let stash = self.outline.stash(value);
        let bytes = stash.and_then(|stash| stash.codes.iter().find(|(open, _)| *open == code));
        let Some(&(_, bytes)) = bytes else {
            return Err(FormError::NotCodable {
                value: self.outline.names[value.0].clone(),
                code,
                reason: "backward needs of it what the code does not keep, or the code saves nothing",
            });
        };
        let code = Some((code, bytes));
        self.schedule.encoded[value.0] = self.extra(Extra { of: value.0, code });
        Ok(())
    }

    fn extra(&mut self, extra: Extra) -> usize {
        self.schedule.extras.push(extra);
        self.outline.persistent.len() + self.schedule.extras.len() - 1
    }

    /// Sees to it that the backward pass can read a value of the forward pass; `exactly` if another is to be made of it.
    fn make(&mut self, value: usize, exactly: bool) -> Result<(), FormError> {
        let outline = self.outline;
        let Some(operation) = outline.producers[value] else {
            return Ok(());
        };
        let refuse = |reason| {
            let value = outline.names[value].clone();
            Err(FormError::NotRepeatable { value, reason })
        };
        let coded = self.schedule.encoded[value] != NONE;
        if coded && exactly {
            return refuse(
                "what it is needed for is computed again, and must be made of exact numbers",
            );
        }
        if self.held[value] || self.schedule.substitutes[value] != value {
            return Ok(());
        }
        if coded {
            let code = None;
            self.schedule.substitutes[value] = self.extra(Extra { of: value, code });
            self.schedule.runs.push(Run::Decode(value));
            return Ok(());
        }
        if !outline.repeatable[operation] && !outline.stashed[value] {
            // Statistics that only a second run needs: small, and simply held for longer.
            return Ok(());
        }
        if !outline.repeatable[operation] {
            return refuse("its operation must not run twice");
        }
        for &input in &outline.reads[operation] {
            if self.updated[input] {
                return refuse("its parameters have been updated before it is needed");
            }
            self.make(input, true)?;
        }
        for &written in &outline.writes[operation] {
            let code = None;
            let copy = self.extra(Extra { of: written, code });
            self.schedule.copies[written] = Some(copy);
            if !self.held[written] {
                self.schedule.substitutes[written] = copy;
            }
        }
        self.schedule.runs.push(Run::Again(operation));
        Ok(())
    }
}
