//! Weight and input gradient of dense convolutions: one kernel for either and for both in one dispatch.

use crate::error::sized;
use crate::input_gradient::InputPart;
use crate::select::{BlockTile, ProductTile};
use crate::weight_gradient::{WeightPart, unsplit, weight_gradient};
use crate::{FilterError, FilterShape, TowardsInput, WeightGradient, select};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

params! {
    /// Uniform of `filter/gradients.wgsl`.
    #[derive(Default)]
    pub(crate) struct GradientsParams {
        patches: u32, input_quads: u32, output_quads: u32, weight_groups: u32, output_groups: u32, input_groups: u32,
        patches_per_split: u32, weight_taps: u32, weights: u32, pixels: u32, quad_groups: u32, taps: u32, taps_x: u32,
        step_y: u32, step_x: u32, first_y: u32, first_x: u32, patches_y: u32, patches_x: u32, height: u32, width: u32,
        window_y: u32, window_x: u32, offset_y: i32, offset_x: i32, low: f32, high: f32, factor: f32,
    }
}

/// Launches of the gradients with respect to weight and input, in one dispatch where that is faster than one after the other: where so few patches
/// are left that a launch takes as long as what it computes.
///
/// # Errors
/// A shape that is not valid, a region smaller than it needs, or averages that are not the same.
pub fn gradients(
    shape: &FilterShape,
    facts: &DeviceFacts,
    by_weight: &WeightGradient,
    by_input: &TowardsInput,
) -> Result<Vec<Launch>, FilterError> {
    shape.validate()?;
    let averages = by_weight.patch_averages;
    if averages != by_input.patch_averages() {
        return Err(FilterError::OtherAverages);
    }
    let Some((block, product)) = tiles(shape, facts) else {
        let mut launches = weight_gradient(shape, facts, by_weight)?;
        launches.extend(by_input.launches(shape, facts)?);
        return Ok(launches);
    };
    let averages = sized("patch averages", averages, shape.patch_averages_bytes())?;
    let by_weight = by_weight.part(shape, block)?;
    let by_input = by_input.part(shape, product)?;
    Ok(vec![launch(
        shape,
        averages,
        Some(by_weight),
        Some(by_input),
    )])
}

/// The tiles of both gradients, where one dispatch computes them.
fn tiles(shape: &FilterShape, facts: &DeviceFacts) -> Option<(BlockTile, ProductTile)> {
    if shape.depthwise {
        return None;
    }
    let patches = shape.patch_plane();
    let block = unsplit(shape, facts)?;
    let product = select::product_tile(patches, shape.output_quads(), shape.input_quads(), facts);
    select::together(patches, block, product, facts).then_some((block, product))
}

/// One or both, by tiles of equal workgroups.
pub(crate) fn launch(
    shape: &FilterShape,
    averages: Region,
    by_weight: Option<WeightPart>,
    by_input: Option<InputPart>,
) -> Launch {
    let mut params = GradientsParams {
        patches: shape.patch_plane(),
        input_quads: shape.input_quads(),
        output_quads: shape.output_quads(),
        ..GradientsParams::default()
    };
    let (mut regions, mut defines, mut groups) = (vec![averages], Vec::new(), 0);
    if let Some(part) = &by_weight {
        part.fill(shape, &mut params);
        regions.extend(part.regions);
        defines.extend(part.tile.defines());
        groups += part.groups;
    }
    if let Some(part) = &by_input {
        part.fill(shape, &mut params);
        regions.extend(&part.regions);
        defines.extend(part.tile.defines());
        defines.extend(part.flags.iter().map(|flag| (*flag, String::new())));
        groups += part.groups(shape);
    }
    // Workgroups are as large for both, and shared by the same subgroup.
    defines.sort_by_key(|(name, _)| *name);
    defines.dedup();
    let launch = Launch::new(
        "filter/gradients.wgsl",
        &defines,
        &params,
        regions,
        folded_grid(groups),
    );
    launch.labelled(match (by_weight, by_input) {
        (Some(_), Some(_)) => "filter/gradients",
        (Some(_), None) => "filter/weight_gradient",
        _ => "filter/input_gradient",
    })
}
