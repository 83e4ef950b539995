use super::outline::{Outline, is_backward};
use super::schedule::{Run, Schedule};
use super::{Extra, FormError, Forms};
use crate::operation::{Operation, OperationKind, Phase};
use crate::program::{Layout, Program, Value, ValueId};

impl Outline {
    /// The program in which stashes are held in these forms. `program` is the one this outline was made of.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub fn apply(&self, program: &Program, forms: &Forms) -> Result<Program, FormError> {
        let schedule = self.schedule(forms)?;
        let mut values = program.values.clone();
        values.extend(schedule.extras.iter().map(|extra| {
            let value = &program.values[extra.of];
            match extra.code {
                Some((code, bytes)) => Value {
                    name: format!("{} in {code}", value.name),
                    layout: Layout::Words {
                        count: (bytes / 4) as u32,
                    },
                    role: value.role,
                },
                None => Value {
                    name: format!("{} again", value.name),
                    ..value.clone()
                },
            }
        }));
        let operations = schedule.runs.iter().filter_map(|run| match *run {
            Run::Once(at) | Run::Again(at) => Some(self.renamed(program, &schedule, at, *run)),
            Run::Encode(value) | Run::Decode(value) => self.codec(program, &schedule, value, *run),
        });
        Ok(Program {
            operations: operations.collect(),
            values,
            ..program.clone()
        })
    }

    /// An operation of the program on the values that the schedule gives it.
    fn renamed(&self, program: &Program, schedule: &Schedule, at: usize, run: Run) -> Operation {
        let operation = &program.operations[at];
        let again = matches!(run, Run::Again(_));
        let backward = again || is_backward(operation.phase);
        let mut kind = operation.kind.clone();
        for id in kind.values_mut() {
            *id = ValueId(if self.writes[at].contains(&id.0) {
                schedule.written(id.0, again)
            } else {
                schedule.read(id.0, backward)
            });
        }
        Operation {
            layer: operation.layer.clone(),
            phase: if again {
                Phase::Backward
            } else {
                operation.phase
            },
            kind,
        }
    }

    /// The encoding or decoding of a value; `None` if it has no code, which a schedule does not ask for.
    fn codec(
        &self,
        program: &Program,
        schedule: &Schedule,
        value: usize,
        run: Run,
    ) -> Option<Operation> {
        let Layout::Map(shape) = program.values[value].layout else {
            return None;
        };
        let stash = schedule.encoded(value);
        let Extra { code, .. } = schedule.extras.get(stash - program.values.len())?;
        let (code, _) = (*code)?;
        let stash = ValueId(stash);
        let kind = if matches!(run, Run::Encode(_)) {
            OperationKind::Encode {
                shape,
                code,
                stream: value as u32,
                control: program.control,
                input: ValueId(value),
                stash,
            }
        } else {
            let output = ValueId(schedule.read(value, true));
            OperationKind::Decode {
                shape,
                code,
                stash,
                output,
            }
        };
        let producer = self.producers[value]?;
        Some(Operation {
            layer: program.operations[producer].layer.clone(),
            phase: if matches!(run, Run::Encode(_)) {
                Phase::Forward
            } else {
                Phase::Backward
            },
            kind,
        })
    }
}
