//! Launches of the forward pass, the input gradient, and the transposed list.

use super::strip::{self, Strip};
use super::tile::GatherTile;
use super::{SparseError, SparseShape};
use crate::gather::groups_of;
use crate::geometry::Axis;
use crate::passes::{extents, sized, sized_source};
use smidgen_gpu::{DeviceFacts, Launch, Region, Source, folded_grid, moments_bytes, params};

/// What the forward pass reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseForward {
    /// Planes of quads, `shape.convolution.input_bytes()`, and how they are read.
    pub input: Source,
    /// A word a slot, `shape.column_bytes()`.
    pub columns: Region,
    /// Live blocks, `shape.value_bytes()`.
    pub values: Region,
    /// Live blocks in another order, as [`transpose`] wrote them: `shape.walk_bytes()`.
    pub walk: Region,
    /// One value an output channel, padded with zeros to a multiple of four.
    pub bias: Option<Region>,
    /// Planes of quads, `shape.convolution.output_bytes()`; written whole.
    pub output: Region,
}

/// What the input gradient reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseInputGradient {
    /// Planes of quads, `shape.convolution.output_bytes()`.
    pub output_gradient: Region,
    /// A word a slot, `shape.column_bytes()`.
    pub columns: Region,
    /// Live blocks, `shape.value_bytes()`.
    pub values: Region,
    /// The transposed list, as [`transpose`] wrote it: `shape.start_bytes()`.
    pub starts: Region,
    /// The transposed list: `shape.entry_bytes()`.
    pub entries: Region,
    /// Live blocks in another order, as [`transpose`] wrote them: `shape.walk_bytes()`.
    pub walk: Region,
    /// Planes of quads, `shape.convolution.input_bytes()`; written whole.
    pub input_gradient: Region,
    /// Add to what `input_gradient` holds instead of replacing it.
    pub accumulate: bool,
    /// Then multiply with the derivative of this activation, where it was (for ReLU and ReLU6 the region may hold what it gave): the
    /// gradient that is written is one in front of the activation. `shape.convolution.input_bytes()`.
    pub derivative: Option<Source>,
}

/// What [`transpose`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transpose {
    /// A word a slot, `shape.column_bytes()`.
    pub columns: Region,
    /// Where the entries of each input quad begin: `shape.start_bytes()`.
    pub starts: Region,
    /// Slots by input quad: `shape.entry_bytes()`.
    pub entries: Region,
    /// Slots by what they read, for spans of output quads and then for spans of input quads: `shape.walk_bytes()`.
    pub walk: Region,
}

params! {
    /// Uniform of `conv/sparse_gather.wgsl`.
    pub(crate) struct SparseGatherParams {
        pixels: u32, count_y: u32, count_x: u32, target_groups: u32, live: u32,
        source_height: u32, source_width: u32, source_plane: u32,
        stride_y: u32, stride_x: u32, dilation_y: u32, dilation_x: u32, origin_y: i32, origin_x: i32,
        target_height: u32, target_width: u32, target_plane: u32,
        scale_y: u32, scale_x: u32, offset_y: u32, offset_x: u32,
        taps_y: u32, taps_x: u32, last_y: u32, last_x: u32, step_y: u32, step_x: u32,
    }
}

params! {
    /// Uniform of `conv/sparse_transpose.wgsl`.
    pub(crate) struct TransposeParams { input_quads: u32, blocks: u32 }
}

/// Which pass, and what it reads and writes.
struct Gather<'g> {
    shape: &'g SparseShape,
    facts: &'g DeviceFacts,
    transposed: bool,
    accumulate: bool,
    bias: bool,
    /// How the source is read, or what is done to what is written.
    source: Vec<(&'static str, String)>,
    regions: Vec<Region>,
    /// What the kernel of strips binds.
    strip_regions: Vec<Region>,
}

impl Gather<'_> {
    fn launch(&self, y: Axis, x: Axis) -> Option<Launch> {
        let is_sum = self.accumulate && self.source.is_empty();
        if is_sum && y.taps * x.taps == 0 {
            return None;
        }
        let shape = &self.shape.convolution;
        let pixels = shape.batch * y.targets * x.targets;
        let target_groups = if self.transposed {
            shape.input_quads()
        } else {
            self.shape.output_groups()
        };
        let target_quads = if self.transposed {
            target_groups
        } else {
            shape.output_quads()
        };
        let strip = Strip::of(self.shape, target_quads, [&y, &x], self.facts);
        let mut defines: Vec<_> = [
            ("ACCUMULATE", self.accumulate),
            ("BIAS", self.bias),
            ("TRANSPOSED", self.transposed),
        ]
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| (name, String::new()))
        .chain(self.source.iter().cloned())
        .collect();
        if let Some(strip) = strip {
            let regions = self.strip_regions.clone();
            return Some(strip.launch(self.shape, target_quads, [&y, &x], defines, regions));
        }
        if shape.is_pointwise() {
            defines.push(("POINTWISE", String::new()));
        }
        let tile = GatherTile::of(pixels, self.shape.block_quads, self.facts);
        defines.extend(tile.defines());
        let params = SparseGatherParams {
            pixels,
            count_y: y.targets,
            count_x: x.targets,
            target_groups,
            live: self.shape.live,
            source_height: y.source,
            source_width: x.source,
            source_plane: shape.batch * y.source * x.source,
            stride_y: y.stride,
            stride_x: x.stride,
            dilation_y: y.dilation,
            dilation_x: x.dilation,
            origin_y: y.origin,
            origin_x: x.origin,
            target_height: y.target,
            target_width: x.target,
            target_plane: shape.batch * y.target * x.target,
            scale_y: y.scale,
            scale_x: x.scale,
            offset_y: y.offset,
            offset_x: x.offset,
            taps_y: y.taps,
            taps_x: x.taps,
            last_y: y.tap_first as u32,
            last_x: x.tap_first as u32,
            step_y: y.tap_step.unsigned_abs(),
            step_x: x.tap_step.unsigned_abs(),
        };
        let tiles = u64::from(pixels).div_ceil(u64::from(tile.pixels));
        let grid = folded_grid(groups_of(tiles) * u64::from(target_groups));
        Some(Launch::new(
            "conv/sparse_gather.wgsl",
            &defines,
            &params,
            self.regions.clone(),
            grid,
        ))
    }
}

/// Launches of `output = convolution(input, weight) + bias` over live blocks.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn sparse_forward(
    shape: &SparseShape,
    facts: &DeviceFacts,
    regions: &SparseForward,
) -> Result<Vec<Launch>, SparseError> {
    launches(shape, facts, regions, None)
}

/// The same, and of every workgroup's pixels the mean and the squared deviations, while they are in registers: what the statistics of a
/// normalisation are merged from. `moments` is of [`moments_bytes`] bytes.
///
/// # Errors
/// As [`sparse_forward`].
pub fn sparse_forward_with_moments(
    shape: &SparseShape,
    facts: &DeviceFacts,
    regions: &SparseForward,
    moments: Region,
) -> Result<Vec<Launch>, SparseError> {
    let convolution = &shape.convolution;
    shape.validate()?;
    let pixels = u64::from(convolution.output_plane());
    let bytes = moments_bytes(convolution.output_channels, pixels);
    let moments = sized("moments", moments, bytes)?;
    launches(shape, facts, regions, Some(moments))
}

fn launches(
    shape: &SparseShape,
    facts: &DeviceFacts,
    regions: &SparseForward,
    moments: Option<Region>,
) -> Result<Vec<Launch>, SparseError> {
    shape.validate()?;
    let convolution = &shape.convolution;
    let input = sized_source("input", regions.input, convolution)?;
    let read = [
        input.region,
        sized("columns", regions.columns, shape.column_bytes())?,
        sized("values", regions.values, shape.value_bytes())?,
    ];
    let walk = sized("walk", regions.walk, shape.walk_bytes())?;
    let bias = regions.bias;
    let bias = bias.map(|bias| sized("bias", bias, convolution.bias_bytes()));
    let output = sized("output", regions.output, convolution.output_bytes())?;
    let rest: Vec<_> = (bias.transpose()?.into_iter())
        .chain(input.normalisation)
        .chain([output])
        .chain(moments)
        .collect();
    let flag = moments.map(|_| ("MOMENTS", String::new()));
    let gather = Gather {
        shape,
        facts,
        transposed: false,
        accumulate: false,
        bias: regions.bias.is_some(),
        source: input.defines().chain(flag).collect(),
        regions: [&read, rest.as_slice()].concat(),
        strip_regions: [&read, [walk].as_slice(), &rest].concat(),
    };
    let [y, x] = extents(convolution).map(Axis::forward);
    Ok(gather.launch(y, x).into_iter().collect())
}

/// Launches of the gradient with respect to the input: one for every residue of a pixel modulo the stride.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn sparse_input_gradient(
    shape: &SparseShape,
    facts: &DeviceFacts,
    regions: &SparseInputGradient,
) -> Result<Vec<Launch>, SparseError> {
    shape.validate()?;
    let convolution = &shape.convolution;
    let output_gradient = sized(
        "output gradient",
        regions.output_gradient,
        convolution.output_bytes(),
    )?;
    let columns = sized("columns", regions.columns, shape.column_bytes())?;
    let values = sized("values", regions.values, shape.value_bytes())?;
    let starts = sized("starts", regions.starts, shape.start_bytes())?;
    let entries = sized("entries", regions.entries, shape.entry_bytes())?;
    let walk = sized("walk", regions.walk, shape.walk_bytes())?;
    let input_gradient = sized(
        "input gradient",
        regions.input_gradient,
        convolution.input_bytes(),
    )?;
    let derivative = (regions.derivative)
        .map(|source| sized_source("derivative", source, convolution))
        .transpose()?;
    let mut source = Vec::new();
    let mut rest = Vec::new();
    if let Some(derivative) = derivative {
        source.push(("DERIVATIVE", String::new()));
        source.extend(derivative.defines());
        rest.extend(derivative.normalisation);
        rest.push(derivative.region);
    }
    rest.push(input_gradient);
    let read = [output_gradient, columns, values];
    let gather = Gather {
        shape,
        facts,
        transposed: true,
        accumulate: regions.accumulate,
        bias: false,
        source,
        regions: [&read, [starts, entries].as_slice(), &rest].concat(),
        strip_regions: [&read, [walk, starts].as_slice(), &rest].concat(),
    };
    let [along_y, along_x] = extents(convolution).map(Axis::input_gradient);
    Ok(along_y
        .iter()
        .flat_map(|y| along_x.iter().filter_map(|x| gather.launch(*y, *x)))
        .collect())
}

/// The launches that list the live blocks by input quad and in the order in which strips walk them; needed whenever columns have changed.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn transpose(shape: &SparseShape, regions: &Transpose) -> Result<Vec<Launch>, SparseError> {
    shape.validate()?;
    let input_quads = shape.convolution.input_quads();
    let params = TransposeParams {
        input_quads,
        blocks: shape.blocks(),
    };
    let transposed = Launch::new(
        "conv/sparse_transpose.wgsl",
        &[],
        &params,
        vec![
            sized("columns", regions.columns, shape.column_bytes())?,
            sized("starts", regions.starts, shape.start_bytes())?,
            sized("entries", regions.entries, shape.entry_bytes())?,
        ],
        folded_grid(groups_of(u64::from(input_quads) + 1)),
    );
    let walks = strip::walks(shape, regions.columns, regions.walk)?;
    Ok([transposed].into_iter().chain(walks).collect())
}
