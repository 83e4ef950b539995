use super::{Code, Stash};
use crate::operation::{Coded, HeldSlope, Operation, OperationKind, Phase};
use crate::program::{CONTROL_WORDS, Layout, Program, Role, Value, ValueId};
use crate::shape::MapShape;
use crate::source::Source;

/// What only the forms ask for. Values are numbered as in a [`Schedule`](super::Schedule).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Fields are values; `of` is the value of the program that all this is about.
pub enum Step {
    /// Writes the stash, and the slope beside it if there is one, from the value.
    Encode { of: usize, stash: Encoded },
    /// Writes `output` from the stash.
    Decode {
        of: usize,
        stash: Encoded,
        output: usize,
    },
    /// Copies the value to the host's memory.
    Send { of: usize, host: usize },
    /// Copies it back to `output`.
    Fetch {
        of: usize,
        host: usize,
        output: usize,
    },
}

/// What is left of a value that is held in a code. Values are numbered as in a [`Schedule`](super::Schedule).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// The code.
    pub code: Code,
    /// Where its numbers are held.
    pub stash: usize,
    /// A code for the slope of the activation that it is read through, and where that is held.
    pub slope: Option<(Code, usize)>,
}

impl Encoded {
    /// Where it is held.
    pub fn values(&self) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(self.stash).chain(self.slope.map(|(_, stash)| stash))
    }

    pub(super) fn held_slope(&self) -> Option<HeldSlope> {
        self.slope.map(|(code, stash)| HeldSlope {
            code,
            stash: ValueId(stash),
        })
    }
}

/// What a step does, whatever it does it to: what its time depends on, beside the shape of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FormPass {
    /// Writes a map in a code, and the slope of what it is read as if that is held.
    Encode {
        /// The code of its numbers.
        code: Code,
        /// Whether a slope is held beside them.
        slope: bool,
    },
    /// Writes a map from a code.
    Decode {
        /// The code of its numbers.
        code: Code,
    },
    /// Copies a map to the host's memory.
    Send,
    /// Copies a map from there.
    Fetch,
    /// An operation of the program, by its index, which decodes as it loads.
    Load {
        /// The operation.
        operation: usize,
        /// The code of its numbers.
        code: Code,
        /// Whether a slope is held beside them.
        slope: bool,
    },
}

impl FormPass {
    /// A program of this pass alone, about a stash of `program` of this shape: what its time can be asked of.
    #[must_use]
    pub fn alone(self, program: &Program, stash: &Stash, shape: MapShape) -> Program {
        let layout = program.value(stash.value).layout;
        let (code, slope) = match self {
            Self::Encode { code, slope } | Self::Load { code, slope, .. } => (Some(code), slope),
            Self::Decode { code } => (Some(code), false),
            Self::Send | Self::Fetch => (None, false),
        };
        let list = if slope { &stash.masked } else { &stash.codes };
        let all = list.iter().find(|(open, _)| Some(*open) == code);
        let activated = stash.activated.filter(|_| slope);
        let slope_bytes = activated.map_or(0, |activated| activated.slope_bytes);
        let held = all.map_or(0, |(_, bytes)| bytes - slope_bytes);
        // Of an operation of the program, its values; what more there is to it follows.
        let mut alone = match self {
            Self::Load { operation, .. } => program.alone(&program.operations[operation]),
            _ => Program {
                values: Vec::new(),
                operations: Vec::new(),
                micro_batches: 1,
                batch: program.batch,
                kept: Vec::new(),
                ..*program
            },
        };
        let mut value = |layout, role| {
            alone.values.push(Value {
                name: String::new(),
                layout,
                role,
            });
            ValueId(alone.values.len() - 1)
        };
        let words = |bytes: u64| Layout::Words {
            count: (bytes / 4) as u32,
        };
        let numbers = value(words(held), Role::Activation);
        let held_slope = activated.map(|activated| HeldSlope {
            code: activated.slope,
            stash: value(words(slope_bytes), Role::Activation),
        });
        let operation = match self {
            Self::Load { code, .. } => {
                let mut operation = alone.operations.remove(0);
                let slope = held_slope;
                operation.kind.decode(numbers, Coded { code, slope });
                operation
            }
            Self::Encode { code, .. } => {
                let control = Layout::Words {
                    count: CONTROL_WORDS,
                };
                let channels = shape.channels;
                let map = value(layout, Role::Activation);
                let kind = OperationKind::Encode {
                    shape,
                    code,
                    stream: 0,
                    control: value(control, Role::Control),
                    input: match activated {
                        Some(activated) => Source {
                            value: map,
                            normalisation: Some(value(
                                Layout::Normalisation { channels },
                                Role::Statistics,
                            )),
                            activation: activated.activation,
                        },
                        None => map.into(),
                    },
                    stash: numbers,
                    slope: held_slope,
                    bound: None,
                };
                backward(kind)
            }
            Self::Decode { code } => backward(OperationKind::Decode {
                shape,
                code,
                stash: numbers,
                output: value(layout, Role::Activation),
            }),
            Self::Send | Self::Fetch => {
                let [map, host] =
                    [Role::Activation, Role::Offloaded].map(|role| value(layout, role));
                let [source, target] = match self {
                    Self::Send => [map, host],
                    _ => [host, map],
                };
                backward(OperationKind::Copy {
                    shape,
                    source,
                    target,
                })
            }
        };
        alone.alone(&operation)
    }
}

fn backward(kind: OperationKind) -> Operation {
    Operation {
        layer: String::new(),
        phase: Phase::Backward,
        kind,
    }
}

impl Step {
    /// What it does.
    #[must_use]
    pub fn pass(&self) -> FormPass {
        match self {
            Self::Encode { stash, .. } => FormPass::Encode {
                code: stash.code.searched(),
                slope: stash.slope.is_some(),
            },
            Self::Decode { stash, .. } => FormPass::Decode {
                code: stash.code.searched(),
            },
            Self::Send { .. } => FormPass::Send,
            Self::Fetch { .. } => FormPass::Fetch,
        }
    }

    /// The value of the program that it is about.
    #[must_use]
    pub fn of(&self) -> usize {
        let (Self::Encode { of, .. }
        | Self::Decode { of, .. }
        | Self::Send { of, .. }
        | Self::Fetch { of, .. }) = *self;
        of
    }

    /// Whether it makes a stash, after the last use in the forward pass.
    #[must_use]
    pub fn is_forward(&self) -> bool {
        matches!(self, Self::Encode { .. } | Self::Send { .. })
    }

    /// The values it reads or writes, but for small ones that are held anyway.
    pub fn values(&self) -> impl Iterator<Item = usize> + use<> {
        let (map, stash, host) = match *self {
            Self::Encode { of, stash } => (of, Some(stash), None),
            Self::Decode { stash, output, .. } => (output, Some(stash), None),
            Self::Send { of, host } => (of, None, Some(host)),
            Self::Fetch { host, output, .. } => (output, None, Some(host)),
        };
        let held = stash.into_iter().flat_map(|stash| stash.values());
        std::iter::once(map).chain(held).chain(host)
    }
}
