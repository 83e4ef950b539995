//! The input gradient, and the sums of the weight that it reads.

use crate::error::sized;
use crate::gradients::{self, GradientsParams};
use crate::pool::LANES;
use crate::select::ProductTile;
use crate::{FilterError, FilterShape, select};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, normalisation_bytes, params};

params! {
    /// Uniform of `filter/tap_sums.wgsl`.
    pub(crate) struct TapSumsParams { count: u32, inner: u32, taps: u32 }
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

impl TapSums {
    /// Weight and sums.
    pub(crate) fn sized(&self, shape: &FilterShape) -> Result<[Region; 2], FilterError> {
        Ok([
            sized("weight", self.weight, shape.weight_bytes())?,
            sized("tap sums", self.tap_sums, shape.tap_sums_bytes())?,
        ])
    }
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
    let bound = regions.sized(shape)?.to_vec();
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
    let (behind, target) = behind_map(shape, regions)?;
    product(
        shape,
        facts,
        regions.patch_averages,
        regions.weight,
        behind,
        target,
    )
}

/// What becomes of the product where the gradient is a map, and where it goes.
fn behind_map(
    shape: &FilterShape,
    regions: &InputGradient,
) -> Result<(Behind, Region), FilterError> {
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
    Ok((behind, target))
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
    let (behind, target) = behind_patches(shape, regions)?;
    product(
        shape,
        facts,
        regions.patch_averages,
        regions.weight,
        behind,
        target,
    )
}

/// What becomes of the product where the gradient stays at the resolution of patches, and where it goes.
fn behind_patches(
    shape: &FilterShape,
    regions: &PatchGradient,
) -> Result<(Behind, Region), FilterError> {
    if !shape.keeps_patches() {
        return Err(FilterError::OtherPatches);
    }
    let [y, x] = regions.stride_before;
    let mut behind = Behind {
        flags: vec!["PATCHES_ONLY"],
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
    Ok((behind, target))
}

/// Which input gradient goes together with a weight gradient, in [`gradients`](crate::gradients).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TowardsInput {
    /// One as [`input_gradient`] writes it.
    Map(InputGradient),
    /// One as [`patch_gradient`] writes it.
    Patches(PatchGradient),
}

impl TowardsInput {
    /// Launches of this gradient alone.
    pub(crate) fn launches(
        &self,
        shape: &FilterShape,
        facts: &DeviceFacts,
    ) -> Result<Vec<Launch>, FilterError> {
        match self {
            Self::Map(regions) => input_gradient(shape, facts, regions),
            Self::Patches(regions) => patch_gradient(shape, facts, regions),
        }
    }

    /// The averages it reads.
    pub(crate) fn patch_averages(&self) -> Region {
        match self {
            Self::Map(regions) => regions.patch_averages,
            Self::Patches(regions) => regions.patch_averages,
        }
    }

    /// Its part of a dense product.
    pub(crate) fn part(
        &self,
        shape: &FilterShape,
        tile: ProductTile,
    ) -> Result<InputPart, FilterError> {
        let (weight, (behind, target)) = match self {
            Self::Map(regions) => (regions.weight, behind_map(shape, regions)?),
            Self::Patches(regions) => (regions.weight, behind_patches(shape, regions)?),
        };
        InputPart::new(shape, tile, weight, behind, target)
    }
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

/// The weight that the input gradient reads.
fn sized_weight(shape: &FilterShape, weight: Region) -> Result<Region, FilterError> {
    let bytes = if shape.reads_every_tap() {
        shape.weight_bytes()
    } else {
        shape.tap_sums_bytes()
    };
    sized("weight", weight, bytes)
}

/// Taps that the input gradient reads, in y and x; from each to the next in patches; and how far before them the first is: the middle one reads the
/// patch itself.
fn taps(shape: &FilterShape) -> [[u32; 2]; 3] {
    let kernel = if shape.reads_every_tap() {
        shape.kernel
    } else {
        [1, 1]
    };
    let step = [0, 1].map(|axis| shape.tap_step(axis));
    [
        kernel,
        step,
        [0, 1].map(|axis| (kernel[axis] - 1) / 2 * step[axis]),
    ]
}

/// What the input gradient of a dense convolution adds to a launch of `filter/gradients.wgsl`.
pub(crate) struct InputPart {
    pub(crate) tile: ProductTile,
    /// The weight, what becomes of the product, and where it goes.
    pub(crate) regions: Vec<Region>,
    pub(crate) flags: Vec<&'static str>,
    low: f32,
    high: f32,
    factor: f32,
}

impl InputPart {
    fn new(
        shape: &FilterShape,
        tile: ProductTile,
        weight: Region,
        behind: Behind,
        target: Region,
    ) -> Result<Self, FilterError> {
        let mut regions = vec![sized_weight(shape, weight)?];
        regions.extend(behind.regions);
        regions.push(target);
        Ok(Self {
            tile,
            regions,
            flags: behind.flags,
            low: behind.low,
            high: behind.high,
            factor: behind.factor,
        })
    }

    /// Workgroups.
    pub(crate) fn groups(&self, shape: &FilterShape) -> u64 {
        let quad_groups = shape.input_quads() / self.tile.quads;
        u64::from(shape.patch_plane().div_ceil(self.tile.patches_of_group()))
            * u64::from(quad_groups)
    }

    pub(crate) fn fill(&self, shape: &FilterShape, params: &mut GradientsParams) {
        let [y, x] = [0, 1].map(|axis| shape.input_axis(axis));
        let [[taps_y, taps_x], [step_y, step_x], [first_y, first_x]] = taps(shape);
        *params = GradientsParams {
            pixels: shape.input_plane(),
            quad_groups: shape.input_quads() / self.tile.quads,
            taps: taps_y * taps_x,
            taps_x,
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
            low: self.low,
            high: self.high,
            factor: self.factor,
            ..*params
        };
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
    let averages = sized(
        "patch averages",
        patch_averages,
        shape.patch_averages_bytes(),
    )?;
    let patches = shape.patch_plane();
    if !shape.depthwise {
        let tile = select::product_tile(patches, shape.output_quads(), shape.input_quads(), facts);
        let part = InputPart::new(shape, tile, weight, behind, target)?;
        return Ok(vec![gradients::launch(shape, averages, None, Some(part))]);
    }
    let mut bound = vec![averages, sized_weight(shape, weight)?];
    bound.extend(behind.regions);
    bound.push(target);
    let Behind {
        low, high, factor, ..
    } = behind;
    let flags = behind.flags.iter().map(|flag| (*flag, String::new()));
    let mut flags: Vec<(&str, String)> = flags.collect();
    let [y, x] = [0, 1].map(|axis| shape.input_axis(axis));
    let [[taps_y, taps_x], [step_y, step_x], [first_y, first_x]] = taps(shape);
    let params = DepthwiseInputGradientParams {
        patches,
        pixels: shape.input_plane(),
        quads: shape.input_quads(),
        taps: taps_y * taps_x,
        taps_x,
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
    if shape.reads_every_tap() {
        flags.push(("EVERY_TAP", String::new()));
    }
    let groups = tile.groups(patches, params.quads);
    Ok(vec![Launch::new(
        "filter/depthwise_input_gradient.wgsl",
        &flags,
        &params,
        bound,
        folded_grid(groups),
    )])
}
