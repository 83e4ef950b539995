use super::{Code, Stash};
use crate::attributes::Activation;
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
    /// Writes `output` from the stash: the value; or, where its slope is held, what its readers read it as.
    Decode {
        of: usize,
        stash: Encoded,
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
    /// Writes a map from a code; or what it is read as, if its slope is held.
    Decode {
        /// The code of its numbers.
        code: Code,
        /// Whether a slope is held beside them.
        slope: bool,
    },
    /// The backward pass of a normalisation, which decodes as it loads.
    Normalisation {
        /// The code of its numbers.
        code: Code,
        /// Whether a slope is held beside them.
        slope: bool,
    },
}

/// The backward pass of a normalisation that reads a stash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormalisationReader {
    /// Whether the statistics depended on the input.
    pub batch_statistics: bool,
    /// Whether the gradient of the input takes the place of that of the output.
    pub in_place: bool,
    /// Whether its scale and shift learn.
    pub learns: bool,
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
        let (Self::Encode { code, slope }
        | Self::Decode { code, slope }
        | Self::Normalisation { code, slope }) = self;
        let list = if slope { &stash.masked } else { &stash.codes };
        let all = list.iter().find(|(open, _)| *open == code);
        let activated = stash.activated.filter(|_| slope);
        let slope_bytes = activated.map_or(0, |activated| activated.slope_bytes);
        let held = all.map_or(0, |(_, bytes)| bytes - slope_bytes);
        let ids = [0, 1, 2, 3, 4, 5, 6, 7].map(ValueId);
        let [
            map,
            other,
            numbers,
            normalisation,
            control,
            slopes,
            scale,
            shift,
        ] = ids;
        let vector = Layout::Vector {
            channels: shape.channels,
        };
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
            value(words(slope_bytes), Role::Activation),
            value(vector, Role::Gradient),
            value(vector, Role::Gradient),
        ];
        let held_slope = activated.map(|activated| HeldSlope {
            code: activated.slope,
            stash: slopes,
        });
        let source = |value, activation| Source {
            value,
            normalisation: Some(normalisation),
            activation,
        };
        let kind = match self {
            Self::Encode { .. } => OperationKind::Encode {
                shape,
                code,
                stream: 0,
                control,
                input: match activated {
                    Some(activated) => source(map, activated.activation),
                    None => map.into(),
                },
                stash: numbers,
                slope: held_slope,
                bound: None,
            },
            Self::Decode { .. } => OperationKind::Decode {
                shape,
                code,
                stash: numbers,
                activated: held_slope.map(|slope| (normalisation, slope)),
                output: map,
            },
            Self::Normalisation { .. } => {
                let reader = stash.normalisation;
                let learns = reader.is_some_and(|reader| reader.learns);
                OperationKind::BatchNormBackward {
                    shape,
                    batch_statistics: reader.is_none_or(|reader| reader.batch_statistics),
                    output_gradient: map,
                    input: source(numbers, Activation::Identity),
                    coded: Some(Coded {
                        code,
                        slope: held_slope,
                    }),
                    input_gradient: match reader {
                        Some(reader) if reader.in_place => map,
                        _ => other,
                    },
                    scale_gradient: learns.then_some(scale),
                    shift_gradient: learns.then_some(shift),
                }
            }
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
        let (Self::Encode { stash, .. } | Self::Decode { stash, .. }) = *self;
        let (code, slope) = (stash.code.searched(), stash.slope.is_some());
        match self {
            Self::Encode { .. } => FormPass::Encode { code, slope },
            Self::Decode { .. } => FormPass::Decode { code, slope },
        }
    }

    /// The value of the program that it is about.
    #[must_use]
    pub fn of(&self) -> usize {
        let (Self::Encode { of, .. } | Self::Decode { of, .. }) = *self;
        of
    }

    /// The values it reads or writes, but for small ones that are held anyway.
    pub fn values(&self) -> impl Iterator<Item = usize> + use<> {
        let (map, stash) = match *self {
            Self::Encode { of, stash } => (of, stash),
            Self::Decode { stash, output, .. } => (output, stash),
        };
        std::iter::once(map).chain(stash.values())
    }
}
