//! The forward pass and the input gradient at listed pixels.

use super::{ListedError, ListedShape, PixelList};
use crate::gather::groups_of;
use crate::passes::{sized, sized_source};
use crate::select;
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, Source, folded_grid, params};

/// What becomes of a map around the pixels that are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// Zero: the map is written whole.
    Zero,
    /// What stands there stays, and what is computed replaces it.
    Kept,
    /// What stands there stays, and what is computed is added to it: a residual connection.
    Added,
}

/// What the forward pass reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedForward {
    /// Planes of quads, `shape.convolution.input_bytes()`, and how they are read.
    pub input: Source,
    /// Stacks of blocks, `shape.convolution.weight_bytes()`.
    pub weight: Region,
    /// One value an output channel, padded with zeros to a multiple of four.
    pub bias: Option<Region>,
    /// The output pixels to compute, as [`list_pixels`](super::list_pixels) wrote them.
    pub list: PixelList,
    /// Planes of quads, `shape.convolution.output_bytes()`.
    pub output: Region,
    /// What becomes of the other pixels.
    pub base: Base,
}

/// What the input gradient reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedInputGradient {
    /// Planes of quads, `shape.convolution.output_bytes()`, of which the listed pixels are read.
    pub output_gradient: Region,
    /// Stacks of blocks, `shape.convolution.weight_bytes()`.
    pub weight: Region,
    /// The output pixels that were computed.
    pub list: PixelList,
    /// The input pixels that these read, as [`list_reached`](super::list_reached) wrote them.
    pub reached: PixelList,
    /// Planes of quads, `shape.convolution.input_bytes()`.
    pub input_gradient: Region,
    /// What becomes of the pixels that no listed pixel reads, whose gradient is zero.
    pub base: Base,
}

params! {
    /// Uniform of `conv/listed_gather.wgsl`.
    pub(crate) struct ListedParams {
        quad_groups: u32, source_quads: u32, source_height: u32, source_width: u32, source_plane: u32,
        target_height: u32, target_width: u32, target_plane: u32,
        input_quads: u32, taps_y: u32, taps_x: u32,
        stride_y: u32, stride_x: u32, dilation_y: u32, dilation_x: u32, padding_y: u32, padding_x: u32,
    }
}

params! {
    /// Uniform of `conv/clear_unmarked.wgsl`.
    pub(crate) struct ClearParams { pixels: u32, quads: u32 }
}

/// One side of a convolution.
struct Map {
    quads: u32,
    height: u32,
    width: u32,
    plane: u32,
}

/// A gather at the pixels of a list.
struct Gather<'g> {
    shape: &'g ListedShape,
    transposed: bool,
    /// Of the pixels that are computed.
    list: PixelList,
    /// The most of them.
    capacity: u32,
    base: Base,
    /// How the source is read.
    defines: Vec<(&'static str, String)>,
    /// Inputs, but for the list, which is the third.
    regions: Vec<Region>,
    target: Region,
}

impl Gather<'_> {
    fn launches(self, facts: &DeviceFacts) -> Vec<Launch> {
        let shape = &self.shape.convolution;
        let input = Map {
            quads: shape.input_quads(),
            height: shape.input_height,
            width: shape.input_width,
            plane: shape.input_plane(),
        };
        let output = Map {
            quads: shape.output_quads(),
            height: shape.output_height(),
            width: shape.output_width(),
            plane: shape.output_plane(),
        };
        let [source, target] = if self.transposed {
            [output, input]
        } else {
            [input, output]
        };
        let subgroup = select::subgroup(facts).filter(|_| facts.kind == DeviceKind::Software);
        // Pixels of an invocation: as many as still fill a few workgroups.
        let (pixels, most_quads) = match (self.capacity, subgroup) {
            (0..=128, _) => (1, 4),
            (_, None) => (2, 2),
            (129..=512, _) => (2, 4),
            _ => (4, 4),
        };
        let quads = select::dividing(target.quads, most_quads);
        let mut defines = self.defines;
        defines.extend([("QUADS", quads.to_string()), ("TILE", pixels.to_string())]);
        if let Some(size) = subgroup {
            defines.push(("SUBGROUP", size.to_string()));
            defines.push(("LOADS", (quads * 4).div_ceil(size).to_string()));
        }
        for (name, given) in [
            ("ACCUMULATE", self.base == Base::Added),
            ("TRANSPOSED", self.transposed),
        ] {
            if given {
                defines.push((name, String::new()));
            }
        }
        let params = ListedParams {
            quad_groups: target.quads / quads,
            source_quads: source.quads,
            source_height: source.height,
            source_width: source.width,
            source_plane: source.plane,
            target_height: target.height,
            target_width: target.width,
            target_plane: target.plane,
            input_quads: shape.input_quads(),
            taps_y: shape.kernel[0],
            taps_x: shape.kernel[1],
            stride_y: shape.stride[0],
            stride_x: shape.stride[1],
            dilation_y: shape.dilation[0],
            dilation_x: shape.dilation[1],
            padding_y: shape.padding[0],
            padding_x: shape.padding[1],
        };
        let mut regions = self.regions;
        regions.insert(2, self.list.entries);
        regions.push(self.target);
        let groups = groups_of(u64::from(self.capacity.div_ceil(pixels)));
        let grid = folded_grid(groups * u64::from(params.quad_groups));
        let gather = Launch::new("conv/listed_gather.wgsl", &defines, &params, regions, grid);
        let clear = (self.base == Base::Zero).then(|| {
            let params = ClearParams {
                pixels: target.plane,
                quads: target.quads,
            };
            let grid = folded_grid(groups_of(u64::from(target.plane) * u64::from(target.quads)));
            let regions = vec![self.list.marks, self.target];
            Launch::new("conv/clear_unmarked.wgsl", &[], &params, regions, grid)
        });
        clear.into_iter().chain([gather]).collect()
    }
}

/// Launches of `output = convolution(input, weight) + bias` at the listed pixels.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn listed_forward(
    shape: &ListedShape,
    facts: &DeviceFacts,
    regions: &ListedForward,
) -> Result<Vec<Launch>, ListedError> {
    shape.validate()?;
    let convolution = &shape.convolution;
    let input = sized_source("input", regions.input, convolution)?;
    let bias = (regions.bias)
        .map(|bias| sized("bias", bias, convolution.bias_bytes()))
        .transpose()?;
    let weight = sized("weight", regions.weight, convolution.weight_bytes())?;
    let flag = bias.map(|_| ("BIAS", String::new()));
    let gather = Gather {
        shape,
        transposed: false,
        list: (regions.list).sized(convolution.output_plane(), shape.capacity)?,
        capacity: shape.capacity,
        base: regions.base,
        defines: input.defines().chain(flag).collect(),
        regions: [input.region, weight]
            .into_iter()
            .chain(bias)
            .chain(input.normalisation)
            .collect(),
        target: sized("output", regions.output, convolution.output_bytes())?,
    };
    Ok(gather.launches(facts))
}

/// Launches of the gradient with respect to the input, at the input pixels that listed pixels read.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn listed_input_gradient(
    shape: &ListedShape,
    facts: &DeviceFacts,
    regions: &ListedInputGradient,
) -> Result<Vec<Launch>, ListedError> {
    shape.validate()?;
    let convolution = &shape.convolution;
    let gradient = sized(
        "output gradient",
        regions.output_gradient,
        convolution.output_bytes(),
    )?;
    let weight = sized("weight", regions.weight, convolution.weight_bytes())?;
    let list = (regions.list).sized(convolution.output_plane(), shape.capacity)?;
    let gather = Gather {
        shape,
        transposed: true,
        list: (regions.reached).sized(convolution.input_plane(), shape.reached())?,
        capacity: shape.reached(),
        base: regions.base,
        defines: Vec::new(),
        regions: vec![gradient, weight, list.marks],
        target: sized(
            "input gradient",
            regions.input_gradient,
            convolution.input_bytes(),
        )?,
    };
    Ok(gather.launches(facts))
}
