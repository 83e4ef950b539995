use super::outline::{Outline, is_backward};
use super::schedule::{Run, Schedule};
use super::slices::in_slices;
use super::{FormError, Forms, Step};
use crate::operation::{Coded, Operation, OperationKind, Phase};
use crate::program::{BOUND_WORDS, Layout, Program, Role, Value, ValueId};
use crate::source::Source;

impl Outline {
    /// The program in which stashes are held in these forms. `program` is the one this outline was made of.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub fn apply(&self, program: &Program, forms: &Forms) -> Result<Program, FormError> {
        let schedule = self.schedule(forms)?;
        let mut values = program.values.clone();
        let mut again = vec![0; program.values.len()];
        for extra in &schedule.extras {
            let value = &program.values[extra.of];
            let (name, layout) = match extra.code {
                Some((code, bytes)) => {
                    let count = (bytes / 4) as u32;
                    (format!("{} in {code}", value.name), Layout::Words { count })
                }
                None if extra.on_host => (format!("{} on the host", value.name), value.layout),
                None => {
                    again[extra.of] += 1;
                    let number = again[extra.of];
                    let name = match number {
                        1 => format!("{} again", value.name),
                        _ => format!("{} again ({number})", value.name),
                    };
                    (name, value.layout)
                }
            };
            // What stands for the pictures is not uploaded.
            let role = match value.role {
                _ if extra.on_host => Role::Offloaded,
                Role::Images => Role::Activation,
                role => role,
            };
            values.push(Value { name, layout, role });
        }
        let mut operations = Vec::with_capacity(schedule.runs.len());
        for run in &schedule.runs {
            match *run {
                Run::Once(at) => operations.push(self.renamed(program, &schedule, at, false)),
                Run::Again(at) => operations.push(self.renamed(program, &schedule, at, true)),
                Run::Slices(at) => operations.extend(self.sliced_run(program, &schedule, at)),
                Run::Step(at) => {
                    let step = schedule.steps[at];
                    let bound = bound(program, step).map(|value| {
                        values.push(value);
                        ValueId(values.len() - 1)
                    });
                    let before = operations.last().map_or(Phase::Forward, |o| o.phase);
                    operations.extend(self.added(program, (step, bound), before));
                }
            }
        }
        Ok(Program {
            operations,
            values,
            ..program.clone()
        })
    }

    /// An operation of the program on the values that the schedule gives it.
    fn renamed(&self, program: &Program, schedule: &Schedule, at: usize, again: bool) -> Operation {
        let operation = &program.operations[at];
        let backward = again || is_backward(operation.phase);
        let mut kind = if again {
            operation.again().kind
        } else {
            operation.kind.clone()
        };
        for id in kind.values_mut() {
            *id = ValueId(if self.writes[at].contains(&id.0) {
                schedule.written(id.0, again)
            } else {
                schedule.read(id.0, backward)
            });
        }
        if let Some((_, stash)) = schedule.coded.get(&at) {
            kind.decode(
                ValueId(stash.stash),
                Coded {
                    code: stash.code,
                    slope: stash.held_slope(),
                },
            );
        }
        let phase = if again {
            Phase::Backward
        } else {
            operation.phase
        };
        Operation {
            layer: operation.layer.clone(),
            phase,
            kind,
        }
    }

    /// What makes a map again in slices, on the values that the schedule gives it.
    fn sliced_run(&self, program: &Program, schedule: &Schedule, at: usize) -> Option<Operation> {
        let slices = schedule.slices[at];
        let kind = |at: usize, again: bool| self.renamed(program, schedule, at, again).kind;
        let readers = &self.moved.get(&slices.of)?.readers;
        Some(in_slices(
            slices.count,
            kind(self.producers[slices.of]?, true),
            readers.iter().map(|at| kind(*at, false)).collect(),
            &program.operations[slices.place],
        ))
    }

    /// A step of the schedule as an operation. It belongs to the pass of the operation before it: what encodes follows a forward operation
    /// (or the loss), all else is of the backward pass.
    fn added(
        &self,
        program: &Program,
        (step, bound): (Step, Option<ValueId>),
        before: Phase,
    ) -> Option<Operation> {
        let of = step.of();
        let shape = program.values[of].layout.map()?;
        let read_as = self.stash(ValueId(of))?.activated;
        let kind = match step {
            Step::Encode { stash, .. } => OperationKind::Encode {
                shape,
                code: stash.code,
                stream: of as u32,
                control: program.control,
                input: match (stash.slope, read_as) {
                    (Some(_), Some(read_as)) => Source {
                        value: ValueId(of),
                        normalisation: Some(read_as.normalisation),
                        activation: read_as.activation,
                    },
                    _ => ValueId(of).into(),
                },
                stash: ValueId(stash.stash),
                slope: stash.held_slope(),
                bound,
            },
            Step::Decode { stash, output, .. } => OperationKind::Decode {
                shape,
                code: stash.code,
                stash: ValueId(stash.stash),
                output: ValueId(output),
            },
            Step::Send { of, host } => OperationKind::Copy {
                shape,
                source: ValueId(of),
                target: ValueId(host),
            },
            Step::Fetch { host, output, .. } => OperationKind::Copy {
                shape,
                source: ValueId(host),
                target: ValueId(output),
            },
        };
        // The pictures have no layer: they belong to the first that reads them.
        let reads = |at: &usize| self.reads[*at].contains(&of);
        let producer = self.producers[of].or_else(|| (0..self.reads.len()).find(reads))?;
        Some(Operation {
            layer: program.operations[producer].layer.clone(),
            phase: if step.is_forward() && !is_backward(before) {
                before
            } else {
                Phase::Backward
            },
            kind,
        })
    }
}

/// What an encoder that keeps to a bound tells of it; the host may read it at any time, so it holds from step to step.
fn bound(program: &Program, step: Step) -> Option<Value> {
    match step {
        Step::Encode { of, stash } if stash.code.is_bounded() => Some(Value {
            name: format!("bound of {}", program.values[of].name),
            layout: Layout::Words { count: BOUND_WORDS },
            role: Role::Metrics,
        }),
        _ => None,
    }
}
