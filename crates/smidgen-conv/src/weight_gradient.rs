//! The weight gradient and the bias gradient: shares of the pixels, then their sum in a fixed order.

use crate::passes::{sized, sized_source};
use crate::select::{self, choose};
use crate::shape::QUAD_BYTES;
use crate::strips::Strips;
use crate::weight_product::WeightProduct;
use crate::weight_tiles::WeightTiles;
use crate::winograd::Winograd;
use crate::{BlockTile, ConvolutionShape, Pass, ShapeError, Variant, gather::groups_of};
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, Source, folded_grid, params};

/// What the weight gradient reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightGradient {
    /// Planes of quads, `shape.input_bytes()`, and how they are read.
    pub input: Source,
    /// Planes of quads, `shape.output_bytes()`.
    pub output_gradient: Region,
    /// Stacks of blocks, `shape.weight_bytes()`; written whole, elements that stand for no weight exactly zero.
    pub weight_gradient: Region,
    /// `shape.bias_bytes()`, where the bias gradient is wanted.
    pub bias_gradient: Option<Region>,
    /// [`workspace`](crate::workspace) bytes. With less, or none, the pixels are split into fewer shares: slower on a wide device.
    pub workspace: Option<Region>,
}

params! {
    /// Uniform of `conv/weight_gradient.wgsl`.
    pub(crate) struct WeightParams {
        groups: u32, output_groups: u32, tap_groups: u32, slot_groups: u32,
        runs: u32, runs_per_split: u32, runs_per_row: u32, step_run: u32, step_row: u32, step_image: u32,
        output_height: u32, output_width: u32, output_plane: u32,
        input_height: u32, input_width: u32, input_plane: u32,
        stride_y: u32, dilation_y: u32, padding_y: u32, padding_x: u32, kernel_y: u32, kernel_x: u32,
        slots: u32, weights: u32,
        input_quads: u32, input_channels: u32, output_channels: u32, group_inputs: u32, group_outputs: u32,
    }
}

params! {
    /// Uniform of `conv/depthwise_weight_gradient.wgsl`.
    pub(crate) struct DepthwiseWeightParams {
        groups: u32, quads: u32,
        runs: u32, runs_per_split: u32, runs_per_row: u32, step_run: u32, step_row: u32, step_image: u32,
        output_height: u32, output_width: u32, output_plane: u32,
        input_height: u32, input_width: u32, input_plane: u32,
        stride_y: u32, dilation_y: u32, padding_y: u32, padding_x: u32, kernel_y: u32,
    }
}

params! {
    /// Uniform of `conv/bias_gradient.wgsl`.
    pub(crate) struct BiasParams { groups: u32, quads: u32, pixels: u32, pixels_per_split: u32 }
}

params! {
    /// Uniform of `conv/sum_partials.wgsl`.
    pub(crate) struct SumParams { count: u32, splits: u32 }
}

pub(crate) const BIAS_LANES: u32 = 64;

/// How the work over the pixels is shared out.
pub(crate) struct Share {
    pub(crate) per_split: u32,
    pub(crate) splits: u32,
}

impl Share {
    /// `items` taken `lanes` at a time, in `wanted` shares; no more of them than results of `bytes` fit the `room`.
    pub(crate) fn of(items: u32, lanes: u32, wanted: u32, bytes: u64, room: u64) -> Self {
        let steps = items.div_ceil(lanes);
        let splits = u64::from(wanted).min(room / bytes.max(1)).max(1) as u32;
        let per_split = steps.div_ceil(splits) * lanes;
        Self {
            per_split,
            splits: items.div_ceil(per_split),
        }
    }

    pub(crate) fn workspace(&self, bytes: u64) -> u64 {
        if self.splits > 1 {
            u64::from(self.splits) * bytes
        } else {
            0
        }
    }
}

/// Workgroups that sum one share of the pixels.
pub(crate) fn workgroups_of_share(shape: &ConvolutionShape, tile: BlockTile) -> u64 {
    Plan::of(shape, tile).groups()
}

/// Loop steps that can be shared out.
pub(crate) fn share_steps(shape: &ConvolutionShape, tile: BlockTile) -> u32 {
    Plan::of(shape, tile).runs.div_ceil(tile.lanes)
}

/// The weight gradient of one shape: its tile and runs.
struct Plan {
    shape: ConvolutionShape,
    tile: BlockTile,
    runs_per_row: u32,
    runs: u32,
}

impl Plan {
    fn of(shape: &ConvolutionShape, tile: BlockTile) -> Self {
        let shape = shape.flattened();
        let runs_per_row = shape.output_width().div_ceil(tile.pixels);
        Self {
            shape,
            tile,
            runs_per_row,
            runs: shape.batch * shape.output_height() * runs_per_row,
        }
    }

    fn output_groups(&self) -> u32 {
        self.shape.output_quads() / self.tile.output_quads
    }

    fn tap_groups(&self) -> u32 {
        self.shape.kernel[1].div_ceil(self.tile.taps)
    }

    fn slot_groups(&self) -> u32 {
        self.shape.slots() / self.tile.input_quads
    }

    /// Workgroups of one share.
    fn groups(&self) -> u64 {
        let rows = u64::from(self.shape.kernel[0]);
        if self.shape.is_depthwise() {
            return u64::from(self.shape.output_quads()) * rows;
        }
        u64::from(self.output_groups())
            * u64::from(self.tap_groups())
            * u64::from(self.slot_groups())
            * rows
    }

    fn share(&self, room: u64) -> Share {
        let tile = &self.tile;
        let bytes = self.shape.weight_bytes();
        Share::of(self.runs, tile.lanes, tile.shares, bytes, room)
    }

    /// How far apart the runs of one invocation are: in runs of a row, rows of an image, images.
    fn steps(&self) -> [u32; 3] {
        let lanes = self.tile.lanes;
        let (rows, height) = (lanes / self.runs_per_row, self.shape.output_height());
        [lanes % self.runs_per_row, rows % height, rows / height]
    }

    fn window(&self, taps: u32) -> u32 {
        (self.tile.pixels - 1) * self.shape.stride[1] + (taps - 1) * self.shape.dilation[1] + 1
    }

    /// Whether a lane has the pixels beside its run from lanes that hold them: runs of two fill the rows of the input, each with a pixel on
    /// either side. On a software device a load of a vector takes as long as a dozen multiply-adds of vectors.
    fn neighbours(&self, facts: &DeviceFacts) -> bool {
        let (shape, tile) = (&self.shape, &self.tile);
        facts.kind == DeviceKind::Software
            && select::subgroup(facts) == Some(tile.lanes)
            && shape.groups == 1
            && (tile.pixels, tile.taps, shape.padding[1]) == (2, 3, 1)
            && [shape.kernel[1], shape.stride[1], shape.dilation[1]] == [3, 1, 1]
            && shape.input_width.is_multiple_of(2)
    }

    fn launch(
        &self,
        facts: &DeviceFacts,
        share: &Share,
        input: Source,
        output_gradient: Region,
        partial: Region,
    ) -> Launch {
        let shape = &self.shape;
        let [step_run, step_row, step_image] = self.steps();
        let groups = self.groups() * u64::from(share.splits);
        let grid = folded_grid(groups);
        let regions = [input.region, output_gradient]
            .into_iter()
            .chain(input.normalisation)
            .chain([partial])
            .collect();
        let mut defines = vec![
            ("DILATION_X", shape.dilation[1].to_string()),
            ("PIXELS", self.tile.pixels.to_string()),
            ("STRIDE_X", shape.stride[1].to_string()),
        ];
        defines.extend(input.defines());
        if shape.is_depthwise() {
            defines.extend([
                ("KERNEL_X", shape.kernel[1].to_string()),
                ("WINDOW", self.window(shape.kernel[1]).to_string()),
            ]);
            let params = DepthwiseWeightParams {
                groups: groups as u32,
                quads: shape.output_quads(),
                runs: self.runs,
                runs_per_split: share.per_split,
                runs_per_row: self.runs_per_row,
                step_run,
                step_row,
                step_image,
                output_height: shape.output_height(),
                output_width: shape.output_width(),
                output_plane: shape.output_plane(),
                input_height: shape.input_height,
                input_width: shape.input_width,
                input_plane: shape.input_plane(),
                stride_y: shape.stride[0],
                dilation_y: shape.dilation[0],
                padding_y: shape.padding[0],
                padding_x: shape.padding[1],
                kernel_y: shape.kernel[0],
            };
            return Launch::new(
                "conv/depthwise_weight_gradient.wgsl",
                &defines,
                &params,
                regions,
                grid,
            );
        }
        let tile = self.tile;
        if shape.groups > 1 {
            defines.push(("GROUPED", String::new()));
        }
        if self.neighbours(facts) {
            defines.push(("NEIGHBOURS", String::new()));
        }
        defines.extend([
            ("BLOCKS", tile.blocks().to_string()),
            ("INPUT_QUADS", tile.input_quads.to_string()),
            ("LANES", tile.lanes.to_string()),
            ("OUTPUT_QUADS", tile.output_quads.to_string()),
            ("TAPS", tile.taps.to_string()),
            ("WINDOW", self.window(tile.taps).to_string()),
        ]);
        let params = WeightParams {
            groups: groups as u32,
            output_groups: self.output_groups(),
            tap_groups: self.tap_groups(),
            slot_groups: self.slot_groups(),
            runs: self.runs,
            runs_per_split: share.per_split,
            runs_per_row: self.runs_per_row,
            step_run,
            step_row,
            step_image,
            output_height: shape.output_height(),
            output_width: shape.output_width(),
            output_plane: shape.output_plane(),
            input_height: shape.input_height,
            input_width: shape.input_width,
            input_plane: shape.input_plane(),
            stride_y: shape.stride[0],
            dilation_y: shape.dilation[0],
            padding_y: shape.padding[0],
            padding_x: shape.padding[1],
            kernel_y: shape.kernel[0],
            kernel_x: shape.kernel[1],
            slots: shape.slots(),
            weights: shape.weight_vectors(),
            input_quads: shape.input_quads(),
            input_channels: shape.input_channels,
            output_channels: shape.output_channels,
            group_inputs: shape.group_inputs(),
            group_outputs: shape.group_outputs(),
        };
        Launch::new(
            "conv/weight_gradient.wgsl",
            &defines,
            &params,
            regions,
            grid,
        )
    }
}

fn bias_share(shape: &ConvolutionShape, room: u64, facts: &DeviceFacts) -> Share {
    let (pixels, bytes) = (shape.output_plane(), shape.bias_bytes());
    let steps = u64::from(pixels.div_ceil(BIAS_LANES));
    let wanted = select::shares(u64::from(shape.output_quads()), steps, bytes, facts);
    Share::of(pixels, BIAS_LANES, wanted, bytes, room)
}

/// From so many shares on, several invocations add up one result: else each would wait for one after the other.
const MANY_SHARES: u32 = 64;
const PARTS: u64 = 8;

fn sum(partial: Region, splits: u32, total: Region) -> Launch {
    let count = (total.size / QUAD_BYTES) as u32;
    let (defines, parts) = if splits >= MANY_SHARES {
        (vec![("PARTS", PARTS.to_string())], PARTS)
    } else {
        (Vec::new(), 1)
    };
    let grid = folded_grid(groups_of(u64::from(count) * parts));
    Launch::new(
        "conv/sum_partials.wgsl",
        &defines,
        &SumParams { count, splits },
        vec![partial, total],
        grid,
    )
}

/// Bytes of workspace with which a variant of a pass (the default where none is given) does all it is made for; 0 where it needs none.
/// The weight gradient's are enough with and without a bias gradient.
///
/// # Errors
/// A shape that is not valid, or a variant that does not fit it.
pub fn workspace(
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    variant: Option<Variant>,
) -> Result<u64, ShapeError> {
    Ok(match choose(variant, pass, shape, facts)? {
        Variant::Gather(_) | Variant::Tiles(_) => 0,
        Variant::Winograd(size) => Winograd::of(size, pass, shape, facts).workspace(),
        Variant::SharedBlocks(tile) => {
            let tiles = WeightTiles::of(shape, tile).ok_or(ShapeError::UnfitVariant {
                variant: Variant::SharedBlocks(tile),
                pass,
            })?;
            let bias = bias_share(shape, u64::MAX, facts);
            (tiles.share(u64::MAX).workspace(shape.weight_bytes()))
                .max(bias.workspace(shape.bias_bytes()))
        }
        Variant::Product(tile) => {
            let shape = *shape;
            let share = WeightProduct { shape, tile }.share(u64::MAX);
            let bias = bias_share(&shape, u64::MAX, facts);
            (share.workspace(shape.weight_bytes())).max(bias.workspace(shape.bias_bytes()))
        }
        Variant::Blocks(tile) => {
            let share = Plan::of(shape, tile).share(u64::MAX);
            let bias = bias_share(shape, u64::MAX, facts);
            (share.workspace(shape.weight_bytes())).max(bias.workspace(shape.bias_bytes()))
        }
        Variant::Strips(_) if pass != Pass::WeightGradient => 0,
        Variant::Strips(tile) => {
            let share = Strips { pass, shape, tile }.share(u64::MAX);
            let bias = bias_share(shape, u64::MAX, facts);
            (share.workspace(shape.weight_bytes())).max(bias.workspace(shape.bias_bytes()))
        }
    })
}

/// Launches of the gradient with respect to the weight and, where wanted, the bias.
///
/// The shares of the pixels are summed in a fixed order: the same bits every run on one device with one variant and size of workspace.
///
/// # Errors
/// A shape that is not valid, a variant that does not fit it, or a region smaller than it needs (a workspace may have any size).
pub fn weight_gradient(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    variant: Option<Variant>,
    regions: &WeightGradient,
) -> Result<Vec<Launch>, ShapeError> {
    let variant = choose(variant, Pass::WeightGradient, shape, facts)?;
    let input = sized_source("input", regions.input, shape)?;
    let output_gradient = sized(
        "output gradient",
        regions.output_gradient,
        shape.output_bytes(),
    )?;
    let weight_gradient = sized(
        "weight gradient",
        regions.weight_gradient,
        shape.weight_bytes(),
    )?;
    let room = regions.workspace.map_or(0, |workspace| workspace.size);
    let mut launches = match variant {
        Variant::Blocks(tile) => {
            let plan = Plan::of(shape, tile);
            let share = plan.share(room);
            in_shares(&share, regions.workspace, weight_gradient, &|partial| {
                plan.launch(facts, &share, input, output_gradient, partial)
            })
        }
        Variant::SharedBlocks(tile) => {
            let pass = Pass::WeightGradient;
            let tiles =
                WeightTiles::of(shape, tile).ok_or(ShapeError::UnfitVariant { variant, pass })?;
            let share = tiles.share(room);
            in_shares(&share, regions.workspace, weight_gradient, &|partial| {
                tiles.launch(&share, input, output_gradient, partial)
            })
        }
        Variant::Product(tile) => {
            let shape = *shape;
            let product = WeightProduct { shape, tile };
            let share = product.share(room);
            in_shares(&share, regions.workspace, weight_gradient, &|partial| {
                product.launch(&share, input, output_gradient, partial)
            })
        }
        Variant::Strips(tile) => {
            let pass = Pass::WeightGradient;
            let strips = Strips { pass, shape, tile };
            let share = strips.share(room);
            in_shares(&share, regions.workspace, weight_gradient, &|partial| {
                strips.backward(&share, output_gradient, Some(input), None, Some(partial))
            })
        }
        variant => {
            let pass = Pass::WeightGradient;
            return Err(ShapeError::UnfitVariant { variant, pass });
        }
    };
    if let Some(total) = regions.bias_gradient {
        launches.extend(bias_gradient(
            shape,
            facts,
            output_gradient,
            total,
            regions.workspace,
        )?);
    }
    Ok(launches)
}

/// Runs `first` into the workspace and sums it, or straight into `total` where there is one share.
pub(crate) fn in_shares(
    share: &Share,
    workspace: Option<Region>,
    total: Region,
    first: &dyn Fn(Region) -> Launch,
) -> Vec<Launch> {
    match workspace {
        Some(workspace) if share.splits > 1 => {
            // No more shares were made than fit.
            let partial = Region {
                size: u64::from(share.splits) * total.size,
                ..workspace
            };
            vec![first(partial), sum(partial, share.splits, total)]
        }
        _ => vec![first(total)],
    }
}

/// Bytes of workspace that the bias gradient works fastest with; 0 where it needs none.
///
/// # Errors
/// A shape that is not valid.
pub fn bias_gradient_workspace(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
) -> Result<u64, ShapeError> {
    shape.validate()?;
    Ok(bias_share(shape, u64::MAX, facts).workspace(shape.bias_bytes()))
}

/// Launches of the gradient with respect to the bias alone, for layers whose weight gradient is computed elsewhere: regions of
/// `shape.output_bytes()` and `shape.bias_bytes()`, and a workspace of any size.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn bias_gradient(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    output_gradient: Region,
    bias_gradient: Region,
    workspace: Option<Region>,
) -> Result<Vec<Launch>, ShapeError> {
    shape.validate()?;
    let room = workspace.map_or(0, |workspace| workspace.size);
    let output_gradient = sized("output gradient", output_gradient, shape.output_bytes())?;
    let total = sized("bias gradient", bias_gradient, shape.bias_bytes())?;
    let share = bias_share(shape, room, facts);
    let quads = shape.output_quads();
    let groups = quads * share.splits;
    let params = BiasParams {
        groups,
        quads,
        pixels: shape.output_plane(),
        pixels_per_split: share.per_split,
    };
    Ok(in_shares(&share, workspace, total, &|partial| {
        Launch::new(
            "conv/bias_gradient.wgsl",
            &[],
            &params,
            vec![output_gradient, partial],
            folded_grid(u64::from(groups)),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn neighbours_are_asked_where_their_runs_follow_each_other() {
        let facts = DeviceFacts {
            kind: DeviceKind::Software,
            subgroup_sizes: Some((8, 8)),
            ..smidgen_gpu::testing::device(false).facts().clone()
        };
        let shape = ConvolutionShape::new(2, [8, 6, 6], 8, [3; 2]).with_padding(1);
        let asked = |shape: &ConvolutionShape, facts: &DeviceFacts| {
            let tile = select::default_blocks(shape, facts, u64::MAX);
            Plan::of(shape, tile).neighbours(facts)
        };
        assert!(asked(&shape, &facts));
        let odd = ConvolutionShape {
            input_width: 7,
            ..shape
        };
        assert!(!asked(&odd, &facts));
        assert!(!asked(&shape.with_padding(0), &facts));
        let wide = DeviceFacts {
            subgroup_sizes: Some((32, 32)),
            ..facts
        };
        assert!(!asked(&shape, &wide));
    }

    #[test]
    fn the_parameters_match_their_shaders() {
        assert_params_match::<crate::gather::DirectParams>("conv/direct.wgsl");
        assert_params_match::<crate::gather::DepthwiseParams>("conv/depthwise.wgsl");
        assert_params_match::<crate::gather::PointwiseParams>("conv/pointwise.wgsl");
        assert_params_match::<WeightParams>("conv/weight_gradient.wgsl");
        assert_params_match::<DepthwiseWeightParams>("conv/depthwise_weight_gradient.wgsl");
        assert_params_match::<BiasParams>("conv/bias_gradient.wgsl");
        assert_params_match::<SumParams>("conv/sum_partials.wgsl");
    }
}
