//! The input gradient, and the sums of the weight that it reads.

use crate::error::sized;
use crate::pool::LANES;
use crate::{FilterError, FilterShape, select};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

params! {
    /// Uniform of `filter/tap_sums.wgsl`.
    pub(crate) struct TapSumsParams { count: u32, inner: u32, taps: u32 }
}

params! {
    /// Uniform of `filter/input_gradient.wgsl`.
    pub(crate) struct InputGradientParams {
        patches: u32, pixels: u32, quad_groups: u32, output_quads: u32, slots: u32, taps: u32, taps_x: u32,
        step_y: u32, step_x: u32, first_y: u32, first_x: u32, patches_y: u32, patches_x: u32, height: u32, width: u32,
        window_y: u32, window_x: u32, offset_y: i32, offset_x: i32, low: f32, high: f32,
    }
}

params! {
    /// Uniform of `filter/depthwise_input_gradient.wgsl`.
    pub(crate) struct DepthwiseInputGradientParams {
        patches: u32, pixels: u32, quads: u32, taps: u32, taps_x: u32,
        step_y: u32, step_x: u32, first_y: u32, first_x: u32, patches_y: u32, patches_x: u32, height: u32, width: u32,
        window_y: u32, window_x: u32, offset_y: i32, offset_x: i32, low: f32, high: f32,
    }
}

/// What [`tap_sums`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapSums {
    /// Stacks of blocks, `shape.weight_bytes()`.
    pub weight: Region,
    /// Blocks of one tap, `shape.tap_sums_bytes()`. They hold until the weight changes.
    pub tap_sums: Region,
}

/// The derivative of a piecewise linear layer before the convolution: 1 where its output lies strictly between two bounds, else 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mask {
    /// The output of that layer, which is the input of the convolution: planes of quads, `shape.input_bytes()`.
    pub value: Region,
    /// 0 for a ReLU.
    pub low: f32,
    /// Infinity for a ReLU, 6 for a ReLU6.
    pub high: f32,
}

impl Mask {
    /// That of a ReLU.
    #[must_use]
    pub fn relu(value: Region) -> Self {
        let high = f32::INFINITY;
        Self {
            value,
            low: 0.0,
            high,
        }
    }

    /// That of a ReLU6.
    #[must_use]
    pub fn relu6(value: Region) -> Self {
        Self {
            value,
            low: 0.0,
            high: 6.0,
        }
    }
}

/// What [`input_gradient`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputGradient {
    /// Planes of quads, `shape.patch_averages_bytes()`.
    pub patch_averages: Region,
    /// The sums of the weight over its taps, `shape.tap_sums_bytes()`; where `shape.reads_every_tap()`, the weight itself.
    pub weight: Region,
    /// Planes of quads, `shape.input_bytes()`; written whole, padding channels zero.
    pub input_gradient: Region,
    /// Add to what `input_gradient` holds instead of replacing it.
    pub accumulate: bool,
    /// Multiply the result (after adding) by the derivative of the layer before.
    pub mask: Option<Mask>,
}

/// Launches of the sums of the weight over its taps.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn tap_sums(shape: &FilterShape, regions: &TapSums) -> Result<Vec<Launch>, FilterError> {
    shape.validate()?;
    let bound = vec![
        sized("weight", regions.weight, shape.weight_bytes())?,
        sized("tap sums", regions.tap_sums, shape.tap_sums_bytes())?,
    ];
    let params = TapSumsParams {
        count: shape.pair_vectors(),
        inner: shape.tap_vectors(),
        taps: shape.taps(),
    };
    let grid = folded_grid(u64::from(params.count).div_ceil(LANES));
    Ok(vec![Launch::new(
        "filter/tap_sums.wgsl",
        &[],
        &params,
        bound,
        grid,
    )])
}

/// Launches of the gradient with respect to the input: a product at patch resolution, each patch written to all of its pixels.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn input_gradient(
    shape: &FilterShape,
    facts: &DeviceFacts,
    regions: &InputGradient,
) -> Result<Vec<Launch>, FilterError> {
    shape.validate()?;
    let every_tap = shape.reads_every_tap();
    let weight_bytes = if every_tap {
        shape.weight_bytes()
    } else {
        shape.tap_sums_bytes()
    };
    let mut bound = vec![
        sized(
            "patch averages",
            regions.patch_averages,
            shape.patch_averages_bytes(),
        )?,
        sized("weight", regions.weight, weight_bytes)?,
    ];
    let mut flags = Vec::new();
    if let Some(mask) = regions.mask {
        flags.push(("MASK", String::new()));
        bound.push(sized("mask", mask.value, shape.input_bytes())?);
    }
    if regions.accumulate {
        flags.push(("ACCUMULATE", String::new()));
    }
    bound.push(sized(
        "input gradient",
        regions.input_gradient,
        shape.input_bytes(),
    )?);
    let (low, high) = regions
        .mask
        .map_or((0.0, 0.0), |mask| (mask.low, mask.high));
    let [y, x] = [0, 1].map(|axis| shape.input_axis(axis));
    let [kernel_y, kernel_x] = if every_tap { shape.kernel } else { [1, 1] };
    let [step_y, step_x] = [0, 1].map(|axis| shape.tap_step(axis));
    // The middle tap reads the patch itself.
    let (first_y, first_x) = ((kernel_y - 1) / 2 * step_y, (kernel_x - 1) / 2 * step_x);
    let patches = shape.patch_plane();
    if shape.depthwise {
        let params = DepthwiseInputGradientParams {
            patches,
            pixels: shape.input_plane(),
            quads: shape.input_quads(),
            taps: kernel_y * kernel_x,
            taps_x: kernel_x,
            step_y,
            step_x,
            first_y,
            first_x,
            patches_y: y.patches,
            patches_x: x.patches,
            height: y.extent,
            width: x.extent,
            window_y: y.window,
            window_x: x.window,
            offset_y: y.offset,
            offset_x: x.offset,
            low,
            high,
        };
        let groups = u64::from(patches).div_ceil(LANES) * u64::from(params.quads);
        return Ok(vec![Launch::new(
            "filter/depthwise_input_gradient.wgsl",
            &flags,
            &params,
            bound,
            folded_grid(groups),
        )]);
    }
    let tile = select::product_tile(patches, shape.input_quads(), facts);
    let params = InputGradientParams {
        patches,
        pixels: shape.input_plane(),
        quad_groups: shape.input_quads() / tile.quads,
        output_quads: shape.output_quads(),
        slots: shape.input_quads(),
        taps: kernel_y * kernel_x,
        taps_x: kernel_x,
        step_y,
        step_x,
        first_y,
        first_x,
        patches_y: y.patches,
        patches_x: x.patches,
        height: y.extent,
        width: x.extent,
        window_y: y.window,
        window_x: x.window,
        offset_y: y.offset,
        offset_x: x.offset,
        low,
        high,
    };
    flags.extend(tile.defines());
    let groups = u64::from(patches).div_ceil(LANES * u64::from(tile.patches))
        * u64::from(params.quad_groups);
    Ok(vec![Launch::new(
        "filter/input_gradient.wgsl",
        &flags,
        &params,
        bound,
        folded_grid(groups),
    )])
}
