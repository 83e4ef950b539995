//! What happens to gradients once they are complete: clipping and the optimiser.

use super::bind::{Binder, WORKSPACE_ALIGNMENT, split};
use crate::Error;
use smidgen_gpu::{DeviceFacts, Launch, Region};
use smidgen_graph::{Layout, Operation, OperationKind, Optimizer, Program, ValueId};
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
    (control, loss_scale): (ValueId, Option<ValueId>),
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let mut norm = at.needed_workspace(operation)?;
    let slots = split(&mut norm, clip_slots(at.program, gradients));
    let values = gradients
        .iter()
        .map(|id| Ok((at.region(*id)?, words(at.program, *id))))
        .collect::<Result<Vec<_>, Error>>()?;
    let mut launches = clip::sums_of_squares(&values, facts, slots)?;
    let slot_count = values.iter().map(|(_, count)| clip::slots(*count)).sum();
    let regions = clip::ClipRegions {
        slots,
        norm: Region { size: 4, ..norm },
        control: at.region(control)?,
        loss_scale: loss_scale.map(|id| at.region(id)).transpose()?,
    };
    launches.push(clip::clip(max_norm, slot_count, facts, &regions)?);
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

/// An update as the program has it, but for the optimiser.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update<'p> {
    pub(super) parameter: ValueId,
    pub(super) gradient: ValueId,
    pub(super) states: &'p [ValueId],
    pub(super) control: ValueId,
}

/// The update at an operation and those that follow at once, by the same optimiser: what can be launched together.
pub(super) fn updates_from(
    operations: &[Operation],
    first: usize,
) -> Option<(Optimizer, Vec<Update<'_>>)> {
    let update = |operation| match operation {
        &Operation {
            kind:
                OperationKind::Update {
                    optimizer,
                    parameter,
                    gradient,
                    ref states,
                    control,
                },
            ..
        } => Some((
            optimizer,
            Update {
                parameter,
                gradient,
                states,
                control,
            },
        )),
        _ => None,
    };
    let (optimizer, _) = update(&operations[first])?;
    let updates = (operations[first..].iter())
        .map_while(|operation| update(operation).filter(|(other, _)| *other == optimizer))
        .map(|(_, update)| update)
        .collect();
    Some((optimizer, updates))
}

impl Update<'_> {
    /// Numbers that are learned: of a sparse weight, only the values.
    fn count(&self, program: &Program) -> u32 {
        match program.value(self.parameter).layout {
            Layout::SparseWeight(..) => words(program, self.gradient),
            _ => words(program, self.parameter),
        }
    }
}

pub(super) fn update_launches(
    at: &Binder<'_>,
    optimizer: Optimizer,
    updates: &[Update<'_>],
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let (mut launches, program) = (Vec::new(), at.program);
    match optimizer {
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
            let mut plain = Vec::with_capacity(updates.len());
            for update in updates {
                let state = update.states.first();
                let regions = optimizer::SgdRegions {
                    parameter: at.trained(update.parameter)?,
                    gradient: at.region(update.gradient)?,
                    momentum: state.map(|id| at.region(*id)).transpose()?,
                    control: at.region(update.control)?,
                };
                match pairs_of(program, update.parameter, update.gradient) {
                    Some(pairs) => launches.push(pairs::sgd(&options, facts, &regions, pairs)?),
                    None => plain.push((regions, update.count(program))),
                }
            }
            match plain.as_slice() {
                [(regions, count)] => {
                    launches.push(optimizer::sgd(&options, facts, regions, *count)?);
                }
                plain => launches.extend(optimizer::sgd_all(&options, facts, plain)?),
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
            let mut plain = Vec::with_capacity(updates.len());
            for update in updates {
                let &[mean, square] = update.states else {
                    return Err(Error::UnknownValue {
                        name: "the two moments of Adam".into(),
                    });
                };
                let regions = optimizer::AdamRegions {
                    parameter: at.trained(update.parameter)?,
                    gradient: at.region(update.gradient)?,
                    mean: at.region(mean)?,
                    square: at.region(square)?,
                    control: at.region(update.control)?,
                };
                match pairs_of(program, update.parameter, update.gradient) {
                    Some(pairs) => launches.push(pairs::adam(&options, facts, &regions, pairs)?),
                    None => plain.push((regions, update.count(program))),
                }
            }
            match plain.as_slice() {
                [(regions, count)] => {
                    launches.push(optimizer::adam(&options, facts, regions, *count)?);
                }
                plain => launches.extend(optimizer::adam_all(&options, facts, plain)?),
            }
        }
    }
    Ok(launches)
}
