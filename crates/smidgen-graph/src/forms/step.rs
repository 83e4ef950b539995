use super::{Code, Stash};
use crate::attributes::Activation;
use crate::operation::{Operation, OperationKind, Phase};
use crate::program::{CONTROL_WORDS, Layout, Program, Role, Value, ValueId};
use crate::shape::MapShape;
use crate::source::Source;

/// What only the forms ask for. Values are numbered as in a [`Schedule`](super::Schedule).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Fields are values; `of` is the value of the program that all this is about.
pub enum Step {
    /// Writes `stash`: `input` in a code.
    Encode {
        of: usize,
        code: Code,
        input: usize,
        stash: usize,
    },
    /// Writes `output` from `stash`.
    Decode {
        of: usize,
        code: Code,
        stash: usize,
        output: usize,
    },
    /// Writes `output`: `input`, normalised as the readers of the value do, and `activated` as they do or not.
    Apply {
        of: usize,
        input: usize,
        activated: bool,
        output: usize,
    },
    /// Multiplies `target`, in place, with the slope in `stash`, a `code` for slopes; or, where it is `values`, makes of what stands before
    /// the activation what stands behind it.
    Slope {
        of: usize,
        code: Code,
        stash: usize,
        values: bool,
        target: usize,
    },
}

/// What a step does, whatever it does it to: what its time depends on, beside the shape of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FormPass {
    /// Writes a map in a code.
    Encode(Code),
    /// Writes a map from a code.
    Decode(Code),
    /// Normalises a map, with the activation behind it or without.
    Apply {
        /// Whether with the activation.
        activated: bool,
    },
    /// Multiplies a map, in place, with a slope; or makes of values before an activation those behind it.
    Slope {
        /// Whether they are values.
        values: bool,
    },
}

impl FormPass {
    /// A program of this pass alone, about a stash of this shape: what its time can be asked of.
    #[must_use]
    pub fn alone(self, stash: &Stash, shape: MapShape) -> Program {
        let value = |layout, role| Value {
            name: String::new(),
            layout,
            role,
        };
        let words = |bytes: u64| Layout::Words {
            count: (bytes / 4) as u32,
        };
        let held = stash.passes().into_iter().find(|(pass, _)| *pass == self);
        let held = held.map_or(0, |(_, bytes)| bytes);
        let [map, other, code, normalisation, control] = [0, 1, 2, 3, 4].map(ValueId);
        let values = vec![
            value(Layout::Map(shape), Role::Activation),
            value(Layout::Map(shape), Role::Activation),
            value(words(held), Role::Activation),
            value(
                Layout::Normalisation {
                    channels: shape.channels,
                },
                Role::Statistics,
            ),
            value(
                Layout::Words {
                    count: CONTROL_WORDS,
                },
                Role::Control,
            ),
        ];
        let kind = match self {
            Self::Encode(code_of_map) => OperationKind::Encode {
                shape,
                code: code_of_map,
                stream: 0,
                control,
                input: map,
                stash: code,
            },
            Self::Decode(code_of_map) => OperationKind::Decode {
                shape,
                code: code_of_map,
                stash: code,
                output: map,
            },
            Self::Apply { activated } => OperationKind::Apply {
                shape,
                input: Source {
                    value: map,
                    normalisation: Some(normalisation),
                    activation: stash
                        .activated
                        .filter(|_| activated)
                        .map_or(Activation::Identity, |read_as| read_as.activation),
                },
                output: other,
            },
            Self::Slope { values } => OperationKind::Slope {
                shape,
                code: stash.activated.map_or(Code::Slope, |read_as| read_as.slope),
                values,
                stash: code,
                target: map,
            },
        };
        let operation = Operation {
            layer: String::new(),
            phase: Phase::Backward,
            kind,
        };
        let program = Program {
            micro_batches: 1,
            batch: shape.batch,
            values,
            operations: Vec::new(),
            images: map,
            labels: map,
            logits: map,
            control,
            metrics: map,
            kept: Vec::new(),
        };
        program.alone(&operation)
    }
}

impl Step {
    /// What it does.
    #[must_use]
    pub fn pass(&self) -> FormPass {
        match *self {
            Self::Encode { code, .. } => FormPass::Encode(code),
            Self::Decode { code, .. } => FormPass::Decode(code),
            Self::Apply { activated, .. } => FormPass::Apply { activated },
            Self::Slope { values, .. } => FormPass::Slope { values },
        }
    }

    /// The value of the program that it is about.
    #[must_use]
    pub fn of(&self) -> usize {
        match *self {
            Self::Encode { of, .. }
            | Self::Decode { of, .. }
            | Self::Apply { of, .. }
            | Self::Slope { of, .. } => of,
        }
    }

    /// The values it reads or writes, but for small ones that are held anyway.
    #[must_use]
    pub fn values(&self) -> [usize; 2] {
        match *self {
            Self::Encode { input, stash, .. } => [input, stash],
            Self::Decode { stash, output, .. } => [stash, output],
            Self::Apply { input, output, .. } => [input, output],
            Self::Slope { stash, target, .. } => [stash, target],
        }
    }
}
