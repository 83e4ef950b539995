//! Backward passes that are nothing but a multiplication need one bit of each number.

use crate::attributes::Activation;
use crate::emitter::Emitter;
use crate::operation::{Operation, OperationKind, Phase};
use crate::program::{Layout, Role, ValueId};
use crate::source::Source;
use std::collections::HashMap;

/// Replaces the backward pass of activations with a slope of 0 or 1, and of frozen batch norms with fixed statistics before them, by one that
/// reads kept bits, where nothing else of the backward pass needs the value itself.
pub(crate) fn keep(emitter: &mut Emitter) {
    let multiplications: Vec<(usize, Factors)> = (emitter.operations.iter().enumerate())
        .filter_map(|(at, operation)| Some((at, factors(operation)?)))
        .collect();
    let mut kept: HashMap<Source, ValueId> = HashMap::new();
    for (at, Factors { source, scaled }) in multiplications.iter().copied() {
        let needed_whole = (emitter.operations.iter().enumerate()).any(|(other, operation)| {
            operation.phase != Phase::Forward
                && operation.reads().contains(&source.value)
                && !multiplications.iter().any(|(known, _)| *known == other)
        });
        let (
            &OperationKind::ActivationBackward {
                shape,
                output_gradient,
                input_gradient,
                ..
            }
            | &OperationKind::BatchNormBackward {
                shape,
                output_gradient,
                input_gradient,
                ..
            },
            false,
        ) = (&emitter.operations[at].kind, needed_whole)
        else {
            continue;
        };
        let slopes = (source.activation != Activation::Identity).then(|| {
            *kept.entry(source).or_insert_with(|| {
                let words = u64::from(shape.channels.div_ceil(4)) * shape.pixels().div_ceil(8);
                let name = format!("slopes of {}", emitter.name(source.value));
                let layout = Layout::Words {
                    count: words as u32,
                };
                emitter.value(name, layout, Role::Statistics)
            })
        });
        emitter.operations[at].kind = OperationKind::SlopesBackward {
            shape,
            output_gradient,
            slopes,
            normalisation: source.normalisation.filter(|_| scaled),
            input_gradient,
        };
    }
    let mut kept: Vec<(Source, ValueId)> = kept.into_iter().collect();
    kept.sort_by_key(|(_, slopes)| *slopes);
    for (source, slopes) in kept {
        insert(emitter, source, slopes);
    }
}

/// What an operation multiplies a gradient with, if that is all it does.
#[derive(Debug, Clone, Copy)]
struct Factors {
    /// The slope of its activation.
    source: Source,
    /// And the scale of its normalisation.
    scaled: bool,
}

fn factors(operation: &Operation) -> Option<Factors> {
    let (source, scaled) = match operation.kind {
        OperationKind::ActivationBackward { source, .. } => (source, false),
        OperationKind::BatchNormBackward {
            batch_statistics: false,
            scale_gradient: None,
            shift_gradient: None,
            input,
            ..
        } => (input, true),
        _ => return None,
    };
    let activation = source.activation;
    (activation == Activation::Identity || activation.is_mask())
        .then_some(Factors { source, scaled })
}

/// The bits are kept as soon as there is what they are of.
fn insert(emitter: &mut Emitter, source: Source, slopes: ValueId) {
    let made = |operation: &Operation| {
        let written = operation.writes();
        operation.phase == Phase::Forward && source.values().any(|id| written.contains(&id))
    };
    let Some(last) = emitter.operations.iter().rposition(made) else {
        return;
    };
    let Layout::Map(shape) = emitter.layout(source.value) else {
        return;
    };
    let operation = Operation {
        layer: emitter.operations[last].layer.clone(),
        phase: Phase::Forward,
        kind: OperationKind::KeepSlopes {
            shape,
            input: source,
            slopes,
        },
    };
    emitter.operations.insert(last + 1, operation);
}
