//! What happens to gradients once they are complete: clipping and the optimiser.

use super::bind::{Binder, WORKSPACE_ALIGNMENT, split};
use crate::Error;
use smidgen_gpu::{DeviceFacts, Launch, Region};
use smidgen_graph::{Layout, Optimizer, Program, ValueId};
use smidgen_ops::pairs::Pairs;
use smidgen_ops::{clip, optimizer, pairs};

pub(super) fn clip_slots(program: &Program, gradients: &[ValueId]) -> u64 {
    gradients
        .iter()
        .map(|id| u64::from(clip::slots(words(program, *id))) * 4)
        .sum::<u64>()
        .next_multiple_of(WORKSPACE_ALIGNMENT)
}

fn words(program: &Program, id: ValueId) -> u32 {
    (program.value(id).layout.bytes() / 4) as u32
}

pub(super) fn clip_launches(
    at: &Binder<'_>,
    operation: usize,
    max_norm: f32,
    gradients: &[ValueId],
    control: ValueId,
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let mut norm = at.needed_workspace(operation)?;
    let slots = split(&mut norm, clip_slots(at.program, gradients));
    let (mut launches, mut first_slot) = (Vec::with_capacity(gradients.len() + 1), 0);
    for id in gradients {
        let count = words(at.program, *id);
        launches.push(clip::sum_of_squares(
            count,
            first_slot,
            facts,
            at.region(*id)?,
            slots,
        )?);
        first_slot += clip::slots(count);
    }
    let regions = clip::ClipRegions {
        slots,
        norm: Region { size: 4, ..norm },
        control: at.region(control)?,
    };
    launches.push(clip::clip(max_norm, first_slot, facts, &regions)?);
    Ok(launches)
}

/// How a weight stands beside a gradient that is held once for all of its taps; `None` where it is held for each.
fn pairs_of(program: &Program, parameter: ValueId, gradient: ValueId) -> Option<Pairs> {
    let (Layout::Weight(weight), Layout::Weight(pair)) = (
        program.value(parameter).layout,
        program.value(gradient).layout,
    ) else {
        return None;
    };
    let count = words(program, gradient) / 4;
    (weight != pair).then(|| Pairs {
        count,
        inner: count / weight.output_channels.div_ceil(4),
        taps: weight.taps() as u32,
    })
}

pub(super) fn update_launches(
    at: &Binder<'_>,
    optimizer: Optimizer,
    (parameter, gradient, states, control): (ValueId, ValueId, &[ValueId], ValueId),
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    // Of a sparse weight, only the values are learned.
    let count = match at.program.value(parameter).layout {
        Layout::SparseWeight(..) => words(at.program, gradient),
        _ => words(at.program, parameter),
    };
    let pairs = pairs_of(at.program, parameter, gradient);
    let (parameter, gradient, control) = (
        at.trained(parameter)?,
        at.region(gradient)?,
        at.region(control)?,
    );
    let state = |index: usize| states.get(index).map(|id| at.region(*id)).transpose();
    let launch = match optimizer {
        Optimizer::Sgd {
            momentum,
            nesterov,
            weight_decay,
        } => {
            let options = optimizer::SgdOptions {
                momentum,
                nesterov,
                weight_decay,
            };
            let regions = optimizer::SgdRegions {
                parameter,
                gradient,
                momentum: state(0)?,
                control,
            };
            match pairs {
                Some(pairs) => pairs::sgd(&options, facts, &regions, pairs)?,
                None => optimizer::sgd(&options, facts, &regions, count)?,
            }
        }
        Optimizer::Adam {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            decoupled,
        } => {
            let decay = if decoupled {
                optimizer::AdamDecay::Decoupled
            } else {
                optimizer::AdamDecay::Gradient
            };
            let betas = (f64::from(beta1), f64::from(beta2));
            let options = optimizer::AdamOptions {
                betas,
                epsilon,
                weight_decay,
                decay,
            };
            let (Some(mean), Some(square)) = (state(0)?, state(1)?) else {
                return Err(Error::UnknownValue {
                    name: "the two moments of Adam".into(),
                });
            };
            let regions = optimizer::AdamRegions {
                parameter,
                gradient,
                mean,
                square,
                control,
            };
            match pairs {
                Some(pairs) => pairs::adam(&options, facts, &regions, pairs)?,
                None => optimizer::adam(&options, facts, &regions, count)?,
            }
        }
    };
    Ok(vec![launch])
}
