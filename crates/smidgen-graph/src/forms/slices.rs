//! Maps that are made again a slice of their channels at a time.

use super::FormError;
use super::outline::{Outline, is_backward};
use crate::operation::{Operation, OperationKind};
use crate::program::{Layout, Program, ValueId};
use std::collections::HashSet;

/// The numbers of slices that are tried.
const COUNTS: [u32; 4] = [2, 4, 8, 24];

/// Where a map can be made again in slices: what this moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    /// The backward operations that read the map, each a channel for itself. They run together, where the last of them stands.
    pub(super) readers: Vec<usize>,
    /// What stands between them and uses what they write. It runs behind them.
    pub(super) later: Vec<usize>,
}

impl Moved {
    fn first(&self) -> usize {
        self.readers[0]
    }

    pub(super) fn last(&self) -> usize {
        self.readers[self.readers.len() - 1]
    }
}

/// A map that is made again in slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slices {
    /// The map.
    pub of: usize,
    /// How many.
    pub count: u32,
    /// Workspace of the operation.
    pub bytes: u64,
    /// The operation of the program in whose place it runs.
    pub place: usize,
}

impl Outline {
    /// The same outline with slices opened to what can be made again in them. `program` is the one this outline was made of; `workspace` tells the
    /// bytes that an operation [in slices](OperationKind::InSlices) needs for itself, or that the kernels cannot do it to the same bits.
    #[must_use]
    pub fn with_slices(
        mut self,
        program: &Program,
        workspace: &dyn Fn(&OperationKind) -> Option<u64>,
    ) -> Self {
        for at in 0..self.stashes.len() {
            let value = self.stashes[at].value;
            let Some(moved) = self.movable(program, value) else {
                continue;
            };
            let apart =
                |other: &Moved| other.last() < moved.first() || moved.last() < other.first();
            if !self.moved.values().all(apart) {
                continue;
            }
            self.moved.insert(value.0, moved);
            let open = |slices: u32| {
                let operation = self.in_slices(program, value, slices)?;
                Some((slices, workspace(&operation.kind)?))
            };
            let slices: Vec<(u32, u64)> = COUNTS.into_iter().filter_map(open).collect();
            if slices.is_empty() {
                self.moved.remove(&value.0);
            }
            self.stashes[at].slices = slices;
        }
        self
    }

    /// The operation that makes a map again in so many slices for those who read it in the backward pass; `None` where that cannot be.
    #[must_use]
    pub fn in_slices(&self, program: &Program, value: ValueId, slices: u32) -> Option<Operation> {
        let shape = program.value(value).layout.map()?;
        let moved = self.moved.get(&value.0)?;
        if slices == 0 || shape.channels % (4 * slices) != 0 {
            return None;
        }
        let kind = |at: usize| program.operations[at].kind.clone();
        Some(in_slices(
            slices,
            program.operations[self.producers[value.0]?].again().kind,
            moved.readers.iter().map(|at| kind(*at)).collect(),
            &program.operations[moved.last()],
        ))
    }

    /// What a form asks for, if that is open.
    pub(super) fn sliced(&self, value: ValueId, count: u32) -> Result<Slices, FormError> {
        let open = self.stash(value).map_or(&[][..], |stash| &stash.slices);
        let found = open.iter().find(|(slices, _)| *slices == count);
        match (found, self.moved.get(&value.0)) {
            (Some((_, bytes)), Some(moved)) => Ok(Slices {
                of: value.0,
                count,
                bytes: *bytes,
                place: moved.last(),
            }),
            _ => Err(FormError::NotSliceable {
                value: self.names[value.0].clone(),
                slices: count,
                open: if open.is_empty() {
                    "what reads it needs it whole".into()
                } else {
                    let counts = open.iter().map(|(slices, _)| slices.to_string());
                    let counts: Vec<String> = counts.collect();
                    format!("its channels divide into {}", counts.join(" or "))
                },
            }),
        }
    }

    /// What would move if this map was made again in slices; `None` where a reader needs other channels too, or is in the way of the others.
    fn movable(&self, program: &Program, value: ValueId) -> Option<Moved> {
        let producer = &program.operations[self.producers[value.0]?].kind;
        let OperationKind::Convolution {
            attributes, weight, ..
        } = producer
        else {
            return None;
        };
        let dense = matches!(program.value(*weight).layout, Layout::Weight(_));
        if attributes.groups > 1 || !dense {
            return None;
        }
        let backward = (0..program.operations.len()).filter(|at| is_backward(self.phases[*at]));
        let readers: Vec<usize> = backward
            .filter(|at| self.reads[*at].contains(&value.0))
            .collect();
        let by_channel = |at: &usize| is_by_channel(&program.operations[*at].kind, value);
        if readers.is_empty() || !readers.iter().all(by_channel) {
            return None;
        }
        let mut moved = Moved {
            later: Vec::new(),
            readers,
        };
        // What those that move touch, and what they write.
        let [mut touched, mut written, mut written_later] = <[HashSet<usize>; 3]>::default();
        for at in moved.first()..=moved.last() {
            let (reads, writes) = (&self.reads[at], &self.writes[at]);
            let mut own = reads.iter().chain(writes);
            let reader = moved.readers.contains(&at);
            if reader {
                if own.any(|id| written_later.contains(id)) {
                    return None;
                }
            } else if own.any(|id| written.contains(id)) {
                moved.later.push(at);
                written_later.extend(writes);
            } else {
                if writes.iter().any(|id| touched.contains(id)) {
                    return None;
                }
                continue;
            }
            touched.extend(reads.iter().chain(writes));
            written.extend(writes);
        }
        Some(moved)
    }
}

/// The operation in slices of these, in the place of `last`.
pub(super) fn in_slices(
    slices: u32,
    producer: OperationKind,
    readers: Vec<OperationKind>,
    last: &Operation,
) -> Operation {
    Operation {
        kind: OperationKind::InSlices {
            slices,
            producer: Box::new(producer),
            readers,
        },
        ..last.clone()
    }
}

/// Whether an operation reads of a map nothing but the channel that it computes with.
fn is_by_channel(kind: &OperationKind, value: ValueId) -> bool {
    match kind {
        OperationKind::BatchNormBackward {
            input,
            output_gradient,
            ..
        } => input.value == value && input.normalisation.is_some() && *output_gradient != value,
        OperationKind::ConvolutionWeightGradient {
            attributes,
            input,
            output_gradient,
            bias_gradient,
            ..
        } => {
            input.value == value
                && *output_gradient != value
                && attributes.is_depthwise()
                && attributes.input_channels == attributes.output_channels
                && bias_gradient.is_none()
        }
        _ => false,
    }
}
