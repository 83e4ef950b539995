//! The gradients with respect to weight and bias, summed over listed pixels.

use super::{ListedError, ListedShape, PixelList};
use crate::BlockTile;
use crate::passes::{sized, sized_source};
use crate::select::{self, default_blocks};
use crate::weight_gradient::{BIAS_LANES, BiasParams, Share, in_shares};
use smidgen_gpu::{DeviceFacts, Launch, Region, Source, folded_grid, params};

/// What the weight gradient reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedWeightGradient {
    /// Planes of quads, `shape.convolution.input_bytes()`, and how they are read.
    pub input: Source,
    /// Planes of quads, `shape.convolution.output_bytes()`, of which the listed pixels are read.
    pub output_gradient: Region,
    /// The output pixels that were computed.
    pub list: PixelList,
    /// Stacks of blocks, `shape.convolution.weight_bytes()`; written whole.
    pub weight_gradient: Region,
    /// `shape.convolution.bias_bytes()`, where the bias gradient is wanted.
    pub bias_gradient: Option<Region>,
    /// [`listed_weight_gradient_workspace`] bytes. With less, or none, the list is split into fewer shares: slower on a wide device.
    pub workspace: Option<Region>,
}

params! {
    /// Uniform of `conv/listed_weight_gradient.wgsl`.
    pub(crate) struct ListedWeightParams {
        groups: u32, output_groups: u32, tap_groups: u32, slot_groups: u32, splits: u32,
        output_height: u32, output_width: u32, output_plane: u32, input_height: u32, input_width: u32, input_plane: u32,
        stride_y: u32, stride_x: u32, dilation_y: u32, dilation_x: u32, padding_y: u32, padding_x: u32,
        kernel_y: u32, kernel_x: u32, input_quads: u32, vectors: u32,
    }
}

struct Plan<'p> {
    shape: &'p ListedShape,
    facts: &'p DeviceFacts,
    tile: BlockTile,
}

impl<'p> Plan<'p> {
    fn of(shape: &'p ListedShape, facts: &'p DeviceFacts) -> Self {
        // The pixels and shares of this tile are those of a whole map, and are not used.
        let tile = default_blocks(&shape.convolution, facts, 0);
        Self { shape, facts, tile }
    }

    /// Output quads, taps of a row and input quads, in tiles.
    fn counts(&self) -> [u32; 3] {
        let (shape, tile) = (&self.shape.convolution, &self.tile);
        [
            shape.output_quads() / tile.output_quads,
            shape.kernel[1].div_ceil(tile.taps),
            shape.input_quads() / tile.input_quads,
        ]
    }

    /// Workgroups of one share.
    fn groups(&self) -> u64 {
        let counts = self.counts().into_iter().map(u64::from);
        counts.product::<u64>() * u64::from(self.shape.convolution.kernel[0])
    }

    fn share(&self, groups: u64, lanes: u32, bytes: u64, room: u64) -> Share {
        let capacity = self.shape.capacity;
        let steps = u64::from(capacity.div_ceil(lanes));
        let wanted = select::shares(groups, steps, bytes, self.facts);
        Share::of(capacity, lanes, wanted, bytes, room)
    }

    fn weight_share(&self, room: u64) -> Share {
        let bytes = self.shape.convolution.weight_bytes();
        self.share(self.groups(), self.tile.lanes, bytes, room)
    }

    fn bias_share(&self, room: u64) -> Share {
        let shape = &self.shape.convolution;
        let groups = u64::from(shape.output_quads());
        self.share(groups, BIAS_LANES, shape.bias_bytes(), room)
    }

    fn launch(&self, share: &Share, input: Source, regions: Vec<Region>) -> Launch {
        let (shape, tile) = (&self.shape.convolution, &self.tile);
        let [output_groups, tap_groups, slot_groups] = self.counts();
        let groups = self.groups() * u64::from(share.splits);
        let params = ListedWeightParams {
            groups: groups as u32,
            output_groups,
            tap_groups,
            slot_groups,
            splits: share.splits,
            output_height: shape.output_height(),
            output_width: shape.output_width(),
            output_plane: shape.output_plane(),
            input_height: shape.input_height,
            input_width: shape.input_width,
            input_plane: shape.input_plane(),
            stride_y: shape.stride[0],
            stride_x: shape.stride[1],
            dilation_y: shape.dilation[0],
            dilation_x: shape.dilation[1],
            padding_y: shape.padding[0],
            padding_x: shape.padding[1],
            kernel_y: shape.kernel[0],
            kernel_x: shape.kernel[1],
            input_quads: shape.input_quads(),
            vectors: shape.weight_vectors(),
        };
        let mut defines = vec![
            ("BLOCKS", tile.blocks().to_string()),
            ("INPUT_QUADS", tile.input_quads.to_string()),
            ("LANES", tile.lanes.to_string()),
            ("OUTPUT_QUADS", tile.output_quads.to_string()),
            ("TAPS", tile.taps.to_string()),
        ];
        defines.extend(input.defines());
        Launch::new(
            "conv/listed_weight_gradient.wgsl",
            &defines,
            &params,
            regions,
            folded_grid(groups),
        )
    }
}

/// Bytes of workspace that the weight gradient works fastest with, with and without a bias gradient; 0 where it needs none.
///
/// # Errors
/// A shape that is not valid.
pub fn listed_weight_gradient_workspace(
    shape: &ListedShape,
    facts: &DeviceFacts,
) -> Result<u64, ListedError> {
    shape.validate()?;
    let plan = Plan::of(shape, facts);
    let weight = plan.weight_share(u64::MAX);
    let bias = plan.bias_share(u64::MAX);
    let convolution = &shape.convolution;
    Ok(
        (weight.workspace(convolution.weight_bytes()))
            .max(bias.workspace(convolution.bias_bytes())),
    )
}

/// Launches of the gradient with respect to the weight and, where wanted, the bias: sums over the listed pixels, in a fixed order.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs (a workspace may have any size).
pub fn listed_weight_gradient(
    shape: &ListedShape,
    facts: &DeviceFacts,
    regions: &ListedWeightGradient,
) -> Result<Vec<Launch>, ListedError> {
    shape.validate()?;
    let convolution = &shape.convolution;
    let input = sized_source("input", regions.input, convolution)?;
    let output_gradient = sized(
        "output gradient",
        regions.output_gradient,
        convolution.output_bytes(),
    )?;
    let list = (regions.list).sized(convolution.output_plane(), shape.capacity)?;
    let total = sized(
        "weight gradient",
        regions.weight_gradient,
        convolution.weight_bytes(),
    )?;
    let (plan, workspace) = (Plan::of(shape, facts), regions.workspace);
    let room = workspace.map_or(0, |workspace| workspace.size);
    let share = plan.weight_share(room);
    let mut launches = in_shares(&share, workspace, total, &|partial| {
        let read = [output_gradient, list.entries, input.region].into_iter();
        let bound = read.chain(input.normalisation).chain([partial]);
        plan.launch(&share, input, bound.collect())
    });
    if let Some(total) = regions.bias_gradient {
        let total = sized("bias gradient", total, convolution.bias_bytes())?;
        let share = plan.bias_share(room);
        let quads = convolution.output_quads();
        let params = BiasParams {
            groups: quads * share.splits,
            quads,
            pixels: convolution.output_plane(),
            pixels_per_split: share.per_split,
        };
        launches.extend(in_shares(&share, workspace, total, &|partial| {
            Launch::new(
                "conv/bias_gradient.wgsl",
                &[("LISTED", String::new())],
                &params,
                vec![output_gradient, list.entries, partial],
                folded_grid(u64::from(params.groups)),
            )
        }));
    }
    Ok(launches)
}
