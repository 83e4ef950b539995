//! Into how many slabs maps are divided that a device cannot bind at once.

use super::draft::shape_classes;
use crate::tuning::{Measurements, Source};
use crate::{Error, kernels};
use smidgen_gpu::DeviceFacts;
use smidgen_graph::{Layout, Program, ValueId};
use smidgen_plan::Limits;

/// Divides the maps of all programs into the fewest slabs that can be bound, and into twice as many while a workspace cannot. Maps stay whole where a device
/// can bind them, and where an operation needs them whole or no division helps: what is too large is then refused by the plan.
pub(super) fn divide(
    programs: &mut [Program],
    limits: Limits,
    facts: &DeviceFacts,
) -> Result<(), Error> {
    let limit = limits.max_binding_bytes.min(limits.max_buffer_bytes);
    let batch = programs.first().map_or(1, |program| program.batch);
    // A workspace takes at most twice what its layer has: far below the limit there is nothing to ask.
    if least_count(programs, limit / 8) == 1 {
        return Ok(());
    }
    let mut count = least_count(programs, limit);
    if is_bindable(programs, limit, facts)? || !programs.iter().all(Program::divides_into_slabs) {
        return Ok(());
    }
    while count <= batch {
        set_images(programs, batch.div_ceil(count));
        if is_bindable(programs, limit, facts)? {
            return Ok(());
        }
        if count == batch {
            break;
        }
        // The last try is one image a slab.
        count = count.saturating_mul(2).min(batch);
    }
    set_images(programs, batch);
    Ok(())
}

fn set_images(programs: &mut [Program], images: u32) {
    for program in programs {
        program.slab = images;
    }
}

/// In how many slabs the largest map can be bound; more than there are images, if one image cannot.
fn least_count(programs: &[Program], limit: u64) -> u32 {
    let maps = programs.iter().flat_map(|program| {
        let shapes = program.values.iter().filter_map(|value| value.layout.map());
        // Launches are made as if all of them were f32.
        shapes.map(Layout::Map)
    });
    let images = maps.filter_map(|layout| Some(limit / layout.of_images(1)?.bytes().max(1)));
    let batch = programs.first().map_or(1, |program| program.batch);
    match images.min() {
        Some(0) => batch.saturating_add(1),
        Some(images) => batch.div_ceil(u32::try_from(images).unwrap_or(u32::MAX)),
        None => 1,
    }
}

/// Whether everything that depends on the images can be bound at once as it stands.
fn is_bindable(programs: &[Program], limit: u64, facts: &DeviceFacts) -> Result<bool, Error> {
    let of_images = |program: &Program, id: ValueId| {
        (program.value(id).layout.of_images(1)).is_none() || program.bound_bytes(id) <= limit
    };
    let maps = |program: &Program| {
        let mut ids = 0..program.values.len();
        ids.all(|id| of_images(program, ValueId(id)))
    };
    if !programs.iter().all(maps) {
        return Ok(false);
    }
    let classes: Vec<_> = (shape_classes(programs).into_iter())
        .map(|(class, _)| class)
        .collect();
    let by_rule = Source::Measured(&Measurements::default()).choose(&classes, facts, 0)?;
    for program in programs {
        let needed = kernels::workspaces(program, facts, &by_rule)?;
        if needed.iter().any(|bytes| *bytes > limit) {
            return Ok(false);
        }
    }
    Ok(true)
}
