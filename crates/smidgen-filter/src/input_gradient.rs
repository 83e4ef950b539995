//! The input gradient, and the sums of the weight that it reads.

use crate::error::sized;
use crate::pool::LANES;
use crate::{FilterError, FilterShape, select};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, normalisation_bytes, params};

params! {
    /// Uniform of `filter/tap_sums.wgsl`.
    pub(crate) struct TapSumsParams { count: u32, inner: u32, taps: u32 }
}

params! {
    /// Uniform of `filter/input_gradient.wgsl`.
    pub(crate) struct InputGradientParams {
        patches: u32, pixels: u32, quad_groups: u32, output_quads: u32, slots: u32, taps: u32, taps_x: u32,
        step_y: u32, step_x: u32, first_y: u32, first_x: u32, patches_y: u32, patches_x: u32, height: u32, width: u32,
        window_y: u32, window_x: u32, offset_y: i32, offset_x: i32, low: f32, high: f32, factor: f32,
    }
}

params! {
    /// Uniform of `filter/depthwise_input_gradient.wgsl`.
    pub(crate) struct DepthwiseInputGradientParams {
        patches: u32, pixels: u32, quads: u32, taps: u32, taps_x: u32,
        step_y: u32, step_x: u32, first_y: u32, first_x: u32, patches_y: u32, patches_x: u32, height: u32, width: u32,
        window_y: u32, window_x: u32, offset_y: i32, offset_x: i32, low: f32, high: f32, factor: f32,
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

/// The derivative of a piecewise linear layer before the convolution: 1 or 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mask {
    /// 1 where the output of that layer lies strictly between two bounds.
    Between {
        /// The output of that layer, which is the input of the convolution: planes of quads, `shape.input_bytes()`.
        value: Region,
        /// 0 for a ReLU.
        low: f32,
        /// Infinity for a ReLU, 6 for a ReLU6.
        high: f32,
    },
    /// Where a bit is set: a word for eight neighbouring pixels of a quad, four bits each, one plane of ceil(pixels / 8) words a quad
    /// (`smidgen_ops::slopes::keep` writes them), `shape.slopes_bytes()`.
    Bits(Region),
}

impl Mask {
    /// That of a ReLU.
    #[must_use]
    pub fn relu(value: Region) -> Self {
        let (low, high) = (0.0, f32::INFINITY);
        Self::Between { value, low, high }
    }

    /// That of a ReLU6.
    #[must_use]
    pub fn relu6(value: Region) -> Self {
        let (low, high) = (0.0, 6.0);
        Self::Between { value, low, high }
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
    /// And by the scale of a normalisation before that: four vectors a quad, of which the first is read.
    pub normalisation: Option<Region>,
}

/// What [`patch_gradient`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchGradient {
    /// Planes of quads, `shape.patch_averages_bytes()`.
    pub patch_averages: Region,
    /// As for [`InputGradient`].
    pub weight: Region,
    /// Where an activation of slopes 0 and 1 stands between the layers: the counts that [`patch_sums`](crate::patch_sums) made of it,
    /// `shape.slope_counts_bytes()`.
    pub slope_counts: Option<Region>,
    /// The normalisation between the layers, if there is one, by statistics that are constant: only its scale is read.
    pub normalisation: Option<Region>,
    /// Strides of the layer before: its averages are divided by them.
    pub stride_before: [u32; 2],
    /// The patch averages of the layer before: planes of quads, `shape.patch_sums_bytes()`.
    pub averages_before: Region,
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
    let mut behind = Behind::default();
    match regions.mask {
        Some(Mask::Between { value, low, high }) => {
            behind.flags.push("MASK");
            let value = sized("mask", value, shape.input_bytes())?;
            behind.regions.push(value);
            (behind.low, behind.high) = (low, high);
        }
        Some(Mask::Bits(bits)) => {
            behind.flags.push("SLOPES");
            behind
                .regions
                .push(sized("mask", bits, shape.slopes_bytes())?);
        }
        None => {}
    }
    behind.scale(shape, regions.normalisation)?;
    if regions.accumulate {
        behind.flags.push("ACCUMULATE");
    }
    let target = sized(
        "input gradient",
        regions.input_gradient,
        shape.input_bytes(),
    )?;
    product(
        shape,
        facts,
        regions.patch_averages,
        regions.weight,
        behind,
        target,
    )
}

/// Launches of the patch averages of the layer before, from those of this one, where both are filtered by the same patches
/// ([`FilterShape::keeps_patches`]): the gradient of the input is constant over a patch, and so its mean behind a ReLU is that constant times the
/// share of pixels that the ReLU lets pass. It is the same as upsampling, masking and averaging, but for rounding.
///
/// # Errors
/// A shape that is not valid or whose input has other patches than its output, or a region smaller than it needs.
pub fn patch_gradient(
    shape: &FilterShape,
    facts: &DeviceFacts,
    regions: &PatchGradient,
) -> Result<Vec<Launch>, FilterError> {
    shape.validate()?;
    if !shape.keeps_patches() {
        return Err(FilterError::OtherPatches);
    }
    let [y, x] = regions.stride_before;
    let mut behind = Behind {
        flags: vec!["PATCHES"],
        factor: 1.0 / (y as f32 * x as f32),
        ..Behind::default()
    };
    if let Some(counts) = regions.slope_counts {
        behind.flags.push("SLOPES");
        let counts = sized("slope counts", counts, shape.slope_counts_bytes())?;
        behind.regions.push(counts);
    }
    behind.scale(shape, regions.normalisation)?;
    let target = sized(
        "averages before",
        regions.averages_before,
        shape.patch_sums_bytes(),
    )?;
    product(
        shape,
        facts,
        regions.patch_averages,
        regions.weight,
        behind,
        target,
    )
}

/// What becomes of the product.
#[derive(Default)]
struct Behind {
    flags: Vec<&'static str>,
    /// Mask, slopes or counts, and normalisation.
    regions: Vec<Region>,
    low: f32,
    high: f32,
    factor: f32,
}

impl Behind {
    fn scale(
        &mut self,
        shape: &FilterShape,
        normalisation: Option<Region>,
    ) -> Result<(), FilterError> {
        if let Some(normalisation) = normalisation {
            self.flags.push("SCALE");
            let needed = normalisation_bytes(shape.input_channels);
            self.regions
                .push(sized("normalisation", normalisation, needed)?);
        }
        Ok(())
    }
}

fn product(
    shape: &FilterShape,
    facts: &DeviceFacts,
    patch_averages: Region,
    weight: Region,
    behind: Behind,
    target: Region,
) -> Result<Vec<Launch>, FilterError> {
    let every_tap = shape.reads_every_tap();
    let weight_bytes = if every_tap {
        shape.weight_bytes()
    } else {
        shape.tap_sums_bytes()
    };
    let averages = sized(
        "patch averages",
        patch_averages,
        shape.patch_averages_bytes(),
    )?;
    let mut bound = vec![averages, sized("weight", weight, weight_bytes)?];
    bound.extend(behind.regions);
    bound.push(target);
    let Behind {
        low, high, factor, ..
    } = behind;
    let flags = behind.flags.iter().map(|flag| (*flag, String::new()));
    let mut flags: Vec<(&str, String)> = flags.collect();
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
            factor,
        };
        let tile = select::plane_tile(patches, params.quads, facts);
        flags.extend(tile.defines());
        if every_tap {
            flags.push(("EVERY_TAP", String::new()));
        }
        let groups = tile.groups(patches, params.quads);
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
        factor,
    };
    flags.extend(tile.defines());
    let groups =
        u64::from(patches.div_ceil(tile.lanes * tile.patches)) * u64::from(params.quad_groups);
    Ok(vec![Launch::new(
        "filter/input_gradient.wgsl",
        &flags,
        &params,
        bound,
        folded_grid(groups),
    )])
}
