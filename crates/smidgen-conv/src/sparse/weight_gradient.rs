//! The sampled weight gradient: live blocks only.

use super::tile;
use super::weight_strip::WeightStrip;
use super::{SparseError, SparseShape};
use crate::passes::{sized, sized_source};
use crate::select;
use crate::weight_gradient::{Share, in_shares};
use smidgen_gpu::{DeviceFacts, Launch, Region, Source, folded_grid, params};

/// What the weight gradient reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseWeightGradient {
    /// Planes of quads, `shape.convolution.input_bytes()`, and how they are read.
    pub input: Source,
    /// Planes of quads, `shape.convolution.output_bytes()`.
    pub output_gradient: Region,
    /// A word a slot, `shape.column_bytes()`.
    pub columns: Region,
    /// Live blocks in another order, as [`transpose`](super::transpose) wrote them for these columns or for more: `shape.walk_bytes()`.
    pub walk: Region,
    /// The gradient of the live blocks, `shape.value_bytes()`; written whole, zero for empty slots and for elements that stand for no
    /// weight.
    pub value_gradient: Region,
    /// `sparse_weight_gradient_workspace` bytes. With less, or none, the pixels are split into fewer shares: slower on a wide device.
    pub workspace: Option<Region>,
}

params! {
    /// Uniform of `conv/sparse_weight_gradient.wgsl`.
    pub(crate) struct SparseWeightParams {
        groups: u32, output_groups: u32, live: u32, chunks: u32, groups_of_share: u32,
        runs: u32, runs_per_split: u32, runs_per_row: u32, step_run: u32, step_row: u32, step_image: u32,
        output_height: u32, output_width: u32, output_plane: u32,
        input_height: u32, input_width: u32, input_plane: u32,
        stride_y: u32, stride_x: u32, dilation_y: u32, dilation_x: u32, padding_y: u32, padding_x: u32,
        input_channels: u32, output_channels: u32, group_inputs: u32, group_outputs: u32,
    }
}

struct Plan {
    shape: SparseShape,
    lanes: u32,
    /// Teams of so many lanes in a workgroup.
    teams: u32,
    /// Slots of a team.
    blocks: u32,
    /// Pixels of a run.
    pixels: u32,
}

impl Plan {
    fn of(shape: &SparseShape, facts: &DeviceFacts) -> Self {
        let convolution = shape.convolution.flattened();
        Self {
            shape: SparseShape {
                convolution,
                ..*shape
            },
            lanes: tile::lanes(facts),
            teams: tile::teams(facts),
            blocks: tile::blocks(shape, facts),
            pixels: tile::run(convolution.output_width(), facts),
        }
    }

    fn runs_per_row(&self) -> u32 {
        self.shape.convolution.output_width().div_ceil(self.pixels)
    }

    fn runs(&self) -> u32 {
        let shape = &self.shape.convolution;
        shape.batch * shape.output_height() * self.runs_per_row()
    }

    fn chunks(&self) -> u32 {
        self.shape.live.div_ceil(self.blocks)
    }

    /// Workgroups of one share.
    fn groups(&self) -> u64 {
        let chunks = u64::from(self.shape.output_groups()) * u64::from(self.chunks());
        chunks.div_ceil(u64::from(self.teams))
    }

    fn share(&self, room: u64, facts: &DeviceFacts) -> Share {
        let bytes = self.shape.value_bytes();
        let steps = u64::from(self.runs().div_ceil(self.lanes));
        let wanted = select::shares(self.groups(), steps, bytes, facts);
        Share::of(self.runs(), self.lanes, wanted, bytes, room)
    }

    fn launch(&self, share: &Share, input: Source, regions: Vec<Region>) -> Launch {
        let shape = &self.shape.convolution;
        let groups = self.groups() * u64::from(share.splits);
        let (runs_per_row, height) = (self.runs_per_row(), shape.output_height());
        let rows = self.lanes / runs_per_row;
        let params = SparseWeightParams {
            groups: groups as u32,
            output_groups: self.shape.output_groups(),
            live: self.shape.live,
            chunks: self.chunks(),
            groups_of_share: self.groups() as u32,
            runs: self.runs(),
            runs_per_split: share.per_split,
            runs_per_row,
            step_run: self.lanes % runs_per_row,
            step_row: rows % height,
            step_image: rows / height,
            output_height: height,
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
            input_channels: shape.input_channels,
            output_channels: shape.output_channels,
            group_inputs: shape.group_inputs(),
            group_outputs: shape.group_outputs(),
        };
        let mut defines = vec![
            ("BLOCKS", self.blocks.to_string()),
            ("LANES", self.lanes.to_string()),
            ("TEAMS", self.teams.to_string()),
            ("PIXELS", self.pixels.to_string()),
            ("QUADS", self.shape.block_quads.to_string()),
        ];
        defines.extend(input.defines());
        if shape.groups > 1 {
            defines.push(("GROUPED", String::new()));
        }
        Launch::new(
            "conv/sparse_weight_gradient.wgsl",
            &defines,
            &params,
            regions,
            folded_grid(groups),
        )
    }
}

/// Bytes of workspace that the weight gradient works fastest with; 0 where it needs none.
///
/// # Errors
/// A shape that is not valid.
pub fn sparse_weight_gradient_workspace(
    shape: &SparseShape,
    facts: &DeviceFacts,
) -> Result<u64, SparseError> {
    shape.validate()?;
    let share = match WeightStrip::of(shape, facts) {
        Some(strip) => strip.share(u64::MAX, facts),
        None => Plan::of(shape, facts).share(u64::MAX, facts),
    };
    Ok(share.workspace(shape.value_bytes()))
}

/// Launches of the gradient with respect to the values of live blocks. The shares of the pixels are summed in a fixed order.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs (a workspace may have any size).
pub fn sparse_weight_gradient(
    shape: &SparseShape,
    facts: &DeviceFacts,
    regions: &SparseWeightGradient,
) -> Result<Vec<Launch>, SparseError> {
    shape.validate()?;
    let convolution = &shape.convolution;
    let input = sized_source("input", regions.input, convolution)?;
    let output_gradient = sized(
        "output gradient",
        regions.output_gradient,
        convolution.output_bytes(),
    )?;
    let columns = sized("columns", regions.columns, shape.column_bytes())?;
    let total = sized(
        "value gradient",
        regions.value_gradient,
        shape.value_bytes(),
    )?;
    let walk = sized("walk", regions.walk, shape.walk_bytes())?;
    let room = regions.workspace.map_or(0, |workspace| workspace.size);
    if let Some(strip) = WeightStrip::of(shape, facts) {
        let share = strip.share(room, facts);
        return Ok(in_shares(&share, regions.workspace, total, &|partial| {
            let bound = [input.region, output_gradient, columns, walk].into_iter();
            let bound = bound.chain(input.normalisation).chain([partial]);
            strip.launch(&share, input, bound.collect())
        }));
    }
    let plan = Plan::of(shape, facts);
    let share = plan.share(room, facts);
    Ok(in_shares(&share, regions.workspace, total, &|partial| {
        let bound = [input.region, output_gradient, columns].into_iter();
        let bound = bound.chain(input.normalisation).chain([partial]);
        plan.launch(&share, input, bound.collect())
    }))
}
