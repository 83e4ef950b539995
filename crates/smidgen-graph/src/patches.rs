//! Where the gradients of filtered convolutions pass what stands between them: in the operation that makes them, or without ever being a map.

use crate::attributes::ConvolutionAttributes;
use crate::emitter::Emitter;
use crate::operation::{Operation, OperationKind, Phase};
use crate::program::{Layout, Role, ValueId};
use crate::shape::MapShape;

/// Has a filtered input gradient multiplied with slopes and scale by the operation that writes it; and where all that reads it are the patch
/// averages of a convolution before with the same patches, keeps it at their resolution.
///
/// The input gradient is constant over a patch. Behind slopes of 0 and 1 and a scale, its mean over the patch is that constant times the scale
/// times the share of pixels with slope 1. So the averages that follow are the same, and instead of the slopes of all pixels, their
/// counts are kept.
pub(crate) fn join(emitter: &mut Emitter) {
    let filtered: Vec<usize> = (0..emitter.operations.len())
        .filter(|at| {
            let kind = &emitter.operations[*at].kind;
            matches!(kind, OperationKind::FilterInputGradient { .. })
        })
        .collect();
    let mut gone = Vec::new();
    for at in filtered {
        gone.extend(multiply(emitter, at));
        gone.extend(stay(emitter, at, &gone));
    }
    drop_slopes(emitter, &mut gone);
    gone.sort_unstable();
    for at in gone.into_iter().rev() {
        emitter.operations.remove(at);
    }
}

/// Has the weights that are summed over their taps summed before the first micro-batch of a step, for all of them.
pub(crate) fn sum_taps_once(emitter: &mut Emitter) {
    let sums_taps = |operation: &Operation| match operation.kind {
        OperationKind::FilterTapSums { sums, .. } => Some(sums),
        _ => None,
    };
    // Sorting is stable.
    let operations = &mut emitter.operations;
    operations.sort_by_key(|operation| sums_taps(operation).is_none());
    for operation in operations {
        if let Some(sums) = sums_taps(operation) {
            operation.phase = Phase::Prepare;
            emitter.values[sums.0].role = Role::Prepared;
        }
    }
}

/// The operations behind `at` that touch a value.
fn touching(emitter: &Emitter, at: usize, value: ValueId) -> Vec<usize> {
    let behind = emitter.operations.iter().enumerate().skip(at + 1);
    let touching = behind.filter(|(_, operation)| {
        operation.reads().contains(&value) || operation.writes().contains(&value)
    });
    touching.map(|(at, _)| at).collect()
}

/// Takes what multiplies the gradient that `at` writes into it, and gives the operation that is not needed any more.
fn multiply(emitter: &mut Emitter, at: usize) -> Option<usize> {
    let OperationKind::FilterInputGradient {
        input_gradient: gradient,
        accumulate,
        derivative: None,
        ..
    } = emitter.operations[at].kind
    else {
        return None;
    };
    let behind = touching(emitter, at, gradient);
    let next = *behind.first()?;
    let OperationKind::SlopesBackward {
        output_gradient,
        slopes: by,
        normalisation: scaled,
        input_gradient: target,
        ..
    } = emitter.operations[next].kind
    else {
        return None;
    };
    // Elsewhere than in its place, nobody may want the gradient as it was, nor may it hold what others added.
    if output_gradient != gradient || target != gradient && (accumulate || behind.len() > 1) {
        return None;
    }
    if let OperationKind::FilterInputGradient {
        input_gradient,
        slopes,
        normalisation,
        ..
    } = &mut emitter.operations[at].kind
    {
        (*input_gradient, *slopes, *normalisation) = (target, by, scaled);
    }
    Some(next)
}

/// Keeps a gradient at the resolution of patches, if nothing but the averages of the convolution before reads it, and gives the operation
/// that took these.
fn stay(emitter: &mut Emitter, at: usize, gone: &[usize]) -> Option<usize> {
    let OperationKind::FilterInputGradient {
        attributes,
        shape,
        patch,
        averages,
        weight,
        input_gradient,
        accumulate: false,
        derivative: None,
        slopes,
        normalisation,
    } = emitter.operations[at].kind
    else {
        return None;
    };
    let mut behind = touching(emitter, at, input_gradient);
    behind.retain(|other| !gone.contains(other));
    let &[next] = behind.as_slice() else {
        return None;
    };
    let OperationKind::FilterPatchAverages {
        attributes: before,
        patch: patch_before,
        averages: averages_before,
        ..
    } = emitter.operations[next].kind
    else {
        return None;
    };
    if patch != patch_before || !keeps_patches(&attributes, shape) {
        return None;
    }
    let counts = match slopes {
        Some(_) => Some(counted(emitter, averages)?),
        None => None,
    };
    emitter.operations[at].kind = OperationKind::FilterPatchGradient {
        attributes,
        shape,
        patch,
        averages,
        weight,
        counts,
        normalisation,
        stride_before: before.stride,
        averages_before,
    };
    Some(next)
}

/// Whether the input of a convolution has the patches of its output.
fn keeps_patches(attributes: &ConvolutionAttributes, shape: MapShape) -> bool {
    let size = attributes.output_size([shape.height, shape.width]);
    attributes.stride == [1, 1] && size == Some([shape.height, shape.width])
}

/// The counts of slopes beside the patch sums that go with these averages; has them made where they are not.
fn counted(emitter: &mut Emitter, averages: ValueId) -> Option<ValueId> {
    let sums = emitter
        .operations
        .iter()
        .find_map(|operation| match operation.kind {
            OperationKind::FilterWeightGradient {
                sums,
                averages: read,
                ..
            } if read == averages => Some(sums),
            _ => None,
        })?;
    let made = emitter.operations.iter().position(|operation| {
        matches!(operation.kind, OperationKind::FilterPatchSums { sums: made, .. } if made == sums)
    })?;
    match emitter.operations[made].kind {
        OperationKind::FilterPatchSums {
            counts: Some(counts),
            ..
        } => return Some(counts),
        // Of a sum that has its activation in it, the slopes are not those of the input.
        OperationKind::FilterPatchSums { input, .. } if !input.activation.is_mask() => return None,
        _ => {}
    }
    let count = u32::try_from(emitter.layout(sums).bytes() / 16).ok()?;
    let name = format!("{}.slope_counts", emitter.operations[made].layer);
    let new = emitter.value(name, Layout::Words { count }, Role::Statistics);
    if let OperationKind::FilterPatchSums { counts, .. } = &mut emitter.operations[made].kind {
        *counts = Some(new);
    }
    Some(new)
}

/// Adds to `gone` what keeps slopes that nobody reads any more.
fn drop_slopes(emitter: &Emitter, gone: &mut Vec<usize>) {
    for (at, operation) in emitter.operations.iter().enumerate() {
        let OperationKind::KeepSlopes { slopes, .. } = operation.kind else {
            continue;
        };
        let readers = touching(emitter, at, slopes);
        if readers.iter().all(|reader| gone.contains(reader)) {
            gone.push(at);
        }
    }
}
