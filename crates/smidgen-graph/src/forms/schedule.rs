use super::outline::{Outline, is_backward};
use super::{Form, FormError, Forms};
use crate::operation::Phase;

/// One operation of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its index in the program the outline is of.
    pub operation: usize,
    /// Whether it runs for the second time, before the backward operation that follows.
    pub again: bool,
}

/// What runs when, under some forms. Values are numbered as in the program; those made a second time follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// In the order in which they run.
    pub entries: Vec<Entry>,
    /// The value that each number beyond the program's own stands for.
    pub repeated: Vec<usize>,
    /// By value: what a second run writes instead of it.
    copies: Vec<Option<usize>>,
    /// By value: what the backward pass reads instead of it.
    substitutes: Vec<usize>,
}

impl Schedule {
    /// The values that an entry reads.
    pub fn reads<'a>(
        &'a self,
        outline: &'a Outline,
        entry: Entry,
    ) -> impl Iterator<Item = usize> + 'a {
        let backward = entry.again || is_backward(outline.phases[entry.operation]);
        outline.reads[entry.operation]
            .iter()
            .map(move |&value| self.read(value, backward))
    }

    /// The values that an entry writes.
    pub fn writes<'a>(
        &'a self,
        outline: &'a Outline,
        entry: Entry,
    ) -> impl Iterator<Item = usize> + 'a {
        outline.writes[entry.operation]
            .iter()
            .map(move |&value| self.written(value, entry.again))
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
    /// What runs when, if stashes are held in these forms: an operation that runs again does so just before the first backward
    /// operation that reads its result, or that needs it to make another one.
    ///
    /// # Errors
    /// A form for what is no stash, or a value that cannot be computed again.
    pub fn schedule(&self, forms: &Forms) -> Result<Schedule, FormError> {
        let values = self.persistent.len();
        let mut maker = Maker {
            outline: self,
            held: self.stashed.clone(),
            updated: vec![false; values],
            schedule: Schedule {
                entries: Vec::with_capacity(self.phases.len() + 2 * forms.len()),
                repeated: Vec::new(),
                copies: vec![None; values],
                substitutes: (0..values).collect(),
            },
        };
        for (value, form) in forms {
            if !self.stashed.get(value.0).copied().unwrap_or(false) {
                let value = self.names.get(value.0).cloned().unwrap_or_default();
                return Err(FormError::NoStash { value });
            }
            maker.held[value.0] = *form == Form::Whole;
        }
        for operation in 0..self.phases.len() {
            let phase = self.phases[operation];
            if is_backward(phase) {
                for &value in &self.reads[operation] {
                    maker.make(value)?;
                }
            }
            maker.schedule.entries.push(Entry {
                operation,
                again: false,
            });
            if phase == Phase::Update {
                for &value in &self.writes[operation] {
                    maker.updated[value] = true;
                }
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
    schedule: Schedule,
}

impl Maker<'_> {
    /// Sees to it that the backward pass can read a value of the forward pass.
    fn make(&mut self, value: usize) -> Result<(), FormError> {
        let outline = self.outline;
        let Some(operation) = outline.producers[value] else {
            return Ok(());
        };
        if self.held[value] || self.schedule.substitutes[value] != value {
            return Ok(());
        }
        let refuse = |reason| {
            let value = outline.names[value].clone();
            Err(FormError::NotRepeatable { value, reason })
        };
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
            self.make(input)?;
        }
        for &written in &outline.writes[operation] {
            let copy = self.outline.persistent.len() + self.schedule.repeated.len();
            self.schedule.repeated.push(written);
            self.schedule.copies[written] = Some(copy);
            if !self.held[written] {
                self.schedule.substitutes[written] = copy;
            }
        }
        let again = Entry {
            operation,
            again: true,
        };
        self.schedule.entries.push(again);
        Ok(())
    }
}
