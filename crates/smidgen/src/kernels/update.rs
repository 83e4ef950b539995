//! What happens to gradients once they are complete: clipping and the optimiser.

use super::bind::{Binder, WORKSPACE_ALIGNMENT, split};
use crate::Error;
use smidgen_gpu::{DeviceFacts, Launch, Region};
use smidgen_graph::{Optimizer, Program, ValueId};
use smidgen_ops::{clip, optimizer};

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

pub(super) fn update_launches(
    at: &Binder<'_>,
    optimizer: Optimizer,
    (parameter, gradient, states, control): (ValueId, ValueId, &[ValueId], ValueId),
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let count = words(at.program, parameter);
    let (parameter, gradient, control) = (
        at.region(parameter)?,
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
            optimizer::sgd(
                &options,
                facts,
                &optimizer::SgdRegions {
                    parameter,
                    gradient,
                    momentum: state(0)?,
                    control,
                },
                count,
            )?
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
            optimizer::adam(
                &options,
                facts,
                &optimizer::AdamRegions {
                    parameter,
                    gradient,
                    mean,
                    square,
                    control,
                },
                count,
            )?
        }
    };
    Ok(vec![launch])
}
