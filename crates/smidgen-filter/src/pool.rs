//! From maps to patches: sums of the input, averages of the output gradient.

use crate::axis::Axis;
use crate::error::sized;
use crate::{FilterError, FilterShape, TapSums, select};
use smidgen_gpu::{DeviceFacts, Launch, Region, Source, folded_grid, normalisation_bytes, params};

params! {
    /// Uniform of `filter/patch_pool.wgsl`.
    pub(crate) struct PoolParams {
        patches: u32, pixels: u32, quads: u32, height: u32, width: u32, patches_y: u32, patches_x: u32,
        window_y: u32, window_x: u32, offset_y: i32, offset_x: i32, factor: f32,
        pool_groups: u32, count: u32, inner: u32, taps: u32,
    }
}

/// What [`patch_sums`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchSums {
    /// Planes of quads, `shape.input_bytes()`, read through a normalisation and an activation where there are any.
    pub input: Source,
    /// Planes of quads, `shape.patch_sums_bytes()`.
    pub patch_sums: Region,
    /// `shape.slope_counts_bytes()`, for [`patch_gradient`](crate::patch_gradient): of how many pixels of a patch the activation of the input (a ReLU or ReLU6)
    /// has slope 1 rather than 0.
    pub slope_counts: Option<Region>,
}

/// What [`patch_averages`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchAverages {
    /// Planes of quads, `shape.output_bytes()`.
    pub output_gradient: Region,
    /// Planes of quads, `shape.patch_averages_bytes()`.
    pub patch_averages: Region,
}

pub(crate) const LANES: u64 = 64;

/// Rows of the largest window whose loops are unrolled.
const LARGEST_UNROLLED: u32 = 4;

/// Launches of the sums of the input over each patch: all that the weight gradient needs of it.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn patch_sums(
    shape: &FilterShape,
    facts: &DeviceFacts,
    regions: &PatchSums,
) -> Result<Vec<Launch>, FilterError> {
    shape.validate()?;
    let mut source = regions.input;
    source.region = sized("input", source.region, shape.input_bytes())?;
    if let Some(normalisation) = source.normalisation.as_mut() {
        let needed = normalisation_bytes(shape.input_channels);
        *normalisation = sized("normalisation", *normalisation, needed)?;
    }
    let pooled = sized("patch sums", regions.patch_sums, shape.patch_sums_bytes())?;
    let counts = (regions.slope_counts)
        .map(|counts| sized("slope counts", counts, shape.slope_counts_bytes()))
        .transpose()?;
    let axes = [0, 1].map(|axis| shape.input_axis(axis));
    // A count stands in a byte.
    let fit = axes.iter().all(Axis::covers) && axes[0].window * axes[1].window <= 255;
    if counts.is_some() && !fit {
        return Err(FilterError::SlopeCounts);
    }
    Ok(vec![pool(
        shape,
        facts,
        [shape.input_quads(), shape.input_plane()],
        axes,
        None,
        &source,
        Beside {
            pooled,
            counts,
            tap_sums: None,
        },
    )])
}

/// Launches of the averages of the output gradient over the pixels of each patch, divided by the strides: an input pixel stands for
/// one output pixel in `stride_y * stride_x`, so a gradient that is the same everywhere keeps the size that the exact pass gives it.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn patch_averages(
    shape: &FilterShape,
    facts: &DeviceFacts,
    regions: &PatchAverages,
) -> Result<Vec<Launch>, FilterError> {
    shape.validate()?;
    Ok(vec![averages(shape, facts, regions, None)?])
}

/// Launches of [`patch_averages`] and [`tap_sums`](crate::tap_sums), which are independent of each other, in one dispatch.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn averages_and_tap_sums(
    shape: &FilterShape,
    facts: &DeviceFacts,
    regions: &PatchAverages,
    tap_sums: &TapSums,
) -> Result<Vec<Launch>, FilterError> {
    shape.validate()?;
    Ok(vec![averages(shape, facts, regions, Some(tap_sums))?])
}

fn averages(
    shape: &FilterShape,
    facts: &DeviceFacts,
    regions: &PatchAverages,
    tap_sums: Option<&TapSums>,
) -> Result<Launch, FilterError> {
    let source = sized(
        "output gradient",
        regions.output_gradient,
        shape.output_bytes(),
    )?;
    let pooled = sized(
        "patch averages",
        regions.patch_averages,
        shape.patch_averages_bytes(),
    )?;
    let tap_sums = tap_sums.map(|regions| regions.sized(shape)).transpose()?;
    Ok(pool(
        shape,
        facts,
        [shape.output_quads(), shape.output_plane()],
        [0, 1].map(|axis| shape.output_axis(axis)),
        Some(shape.density()),
        &source.into(),
        Beside {
            pooled,
            counts: None,
            tap_sums,
        },
    ))
}

/// What a launch writes, and what it sums besides.
struct Beside {
    pooled: Region,
    counts: Option<Region>,
    /// Weight and sums.
    tap_sums: Option<[Region; 2]>,
}

/// Averages times a factor, or sums without one; and the counts of slopes.
fn pool(
    shape: &FilterShape,
    facts: &DeviceFacts,
    [quads, pixels]: [u32; 2],
    [y, x]: [Axis; 2],
    average: Option<f32>,
    source: &Source,
    beside: Beside,
) -> Launch {
    let tile = select::plane_tile(shape.patch_plane(), quads, facts);
    let groups = tile.groups(shape.patch_plane(), quads);
    let params = PoolParams {
        patches: shape.patch_plane(),
        pixels,
        quads,
        height: y.extent,
        width: x.extent,
        patches_y: y.patches,
        patches_x: x.patches,
        window_y: y.window,
        window_x: x.window,
        offset_y: y.offset,
        offset_x: x.offset,
        factor: average.unwrap_or(1.0),
        pool_groups: groups as u32,
        count: shape.pair_vectors(),
        inner: shape.tap_vectors(),
        taps: shape.taps(),
    };
    let mut defines: Vec<_> = source.defines().collect();
    if average.is_some() {
        defines.push(("AVERAGE", String::new()));
    }
    if beside.counts.is_some() {
        defines.push(("COUNTS", String::new()));
    }
    if y.window == x.window && y.window <= LARGEST_UNROLLED && y.covers() && x.covers() {
        defines.push(("WINDOW", y.window.to_string()));
    }
    let mut summing = 0;
    if beside.tap_sums.is_some() {
        defines.push(("TAP_SUMS", String::new()));
        summing = u64::from(params.count).div_ceil(u64::from(tile.lanes()));
    }
    defines.extend(tile.defines());
    Launch::new(
        "filter/patch_pool.wgsl",
        &defines,
        &params,
        [source.region]
            .into_iter()
            .chain(source.normalisation)
            .chain([beside.pooled])
            .chain(beside.counts)
            .chain(beside.tap_sums.into_iter().flatten())
            .collect(),
        folded_grid(groups + summing),
    )
}
