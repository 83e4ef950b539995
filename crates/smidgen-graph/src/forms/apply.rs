use super::outline::{Outline, is_backward};
use super::{FormError, Forms};
use crate::operation::{Operation, Phase};
use crate::program::{Program, Value, ValueId};

impl Outline {
    /// The program in which stashes are held in these forms. `program` is the one this outline was made of.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub fn apply(&self, program: &Program, forms: &Forms) -> Result<Program, FormError> {
        let schedule = self.schedule(forms)?;
        let mut values = program.values.clone();
        values.extend(schedule.repeated.iter().map(|&value| Value {
            name: format!("{} again", program.values[value].name),
            ..program.values[value].clone()
        }));
        let operations = schedule.entries.iter().map(|entry| {
            let operation = &program.operations[entry.operation];
            let mut kind = operation.kind.clone();
            let backward = entry.again || is_backward(operation.phase);
            for id in kind.values_mut() {
                let written = self.writes[entry.operation].contains(&id.0);
                *id = ValueId(if written {
                    schedule.written(id.0, entry.again)
                } else {
                    schedule.read(id.0, backward)
                });
            }
            Operation {
                layer: operation.layer.clone(),
                phase: if entry.again {
                    Phase::Backward
                } else {
                    operation.phase
                },
                kind,
            }
        });
        Ok(Program {
            operations: operations.collect(),
            values,
            ..program.clone()
        })
    }
}
