//! The weight gradient, one matrix product over the patches, and the bias gradient.

use crate::error::sized;
use crate::gradients::{self, GradientsParams};
use crate::pool::LANES;
use crate::select::{self, BlockTile};
use crate::{FilterError, FilterShape};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

params! {
    /// Uniform of `filter/depthwise_weight_gradient.wgsl`.
    pub(crate) struct DepthwiseWeightParams { quads: u32, patches: u32, taps: u32 }
}

params! {
    /// Uniform of `filter/spread_taps.wgsl`.
    pub(crate) struct SpreadParams { count: u32, inner: u32, taps: u32, splits: u32 }
}

params! {
    /// Uniform of `filter/bias_gradient.wgsl`.
    pub(crate) struct BiasParams {
        quads: u32, patches: u32, height: u32, width: u32, patches_y: u32, patches_x: u32,
        window_y: u32, window_x: u32, offset_y: i32, offset_x: i32, factor: f32,
    }
}

/// How a weight gradient is held, which is the same at every tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taps {
    /// Written to every tap: `shape.weight_bytes()`, as an exact one.
    Every,
    /// Once for all taps: `shape.tap_sums_bytes()`.
    Once,
}

/// What [`weight_gradient`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightGradient {
    /// Planes of quads, `shape.patch_sums_bytes()`.
    pub patch_sums: Region,
    /// Planes of quads, `shape.patch_averages_bytes()`.
    pub patch_averages: Region,
    /// Stacks of blocks; written whole, elements that stand for no weight exactly zero.
    pub weight_gradient: Region,
    /// How `weight_gradient` is held.
    pub taps: Taps,
    /// `weight_gradient_workspace` bytes. With less, or none, the patches are split into fewer shares: slower on a wide device.
    pub workspace: Option<Region>,
}

impl WeightGradient {
    /// Patch sums and gradient, and at how many taps it is held.
    fn sized(&self, shape: &FilterShape) -> Result<([Region; 2], u32), FilterError> {
        let patch_sums = sized("patch sums", self.patch_sums, shape.patch_sums_bytes())?;
        let (bytes, taps) = match self.taps {
            Taps::Every => (shape.weight_bytes(), shape.taps()),
            Taps::Once => (shape.tap_sums_bytes(), 1),
        };
        let gradient = sized("weight gradient", self.weight_gradient, bytes)?;
        Ok(([patch_sums, gradient], taps))
    }

    /// Its part of a dense product, all patches in one share.
    pub(crate) fn part(
        &self,
        shape: &FilterShape,
        tile: BlockTile,
    ) -> Result<WeightPart, FilterError> {
        let (regions, taps) = self.sized(shape)?;
        Ok(WeightPart {
            tile,
            regions,
            taps,
            per_split: shape.patch_plane().next_multiple_of(tile.step()),
            groups: groups_of_share(shape, tile),
        })
    }
}

/// What the weight gradient of a dense convolution adds to a launch of `filter/gradients.wgsl`.
pub(crate) struct WeightPart {
    pub(crate) tile: BlockTile,
    /// Patch sums and gradient.
    pub(crate) regions: [Region; 2],
    taps: u32,
    per_split: u32,
    /// Workgroups.
    pub(crate) groups: u64,
}

impl WeightPart {
    pub(crate) fn fill(&self, shape: &FilterShape, params: &mut GradientsParams) {
        *params = GradientsParams {
            weight_groups: self.groups as u32,
            output_groups: shape.output_quads() / self.tile.output_quads,
            input_groups: shape.input_quads().div_ceil(self.tile.input_quads),
            patches_per_split: self.per_split,
            weight_taps: self.taps,
            weights: shape.pair_vectors(),
            ..*params
        };
    }
}

/// Workgroups of a share of the patches.
fn groups_of_share(shape: &FilterShape, tile: BlockTile) -> u64 {
    u64::from(shape.output_quads() / tile.output_quads)
        * u64::from(shape.input_quads().div_ceil(tile.input_quads))
}

/// What [`bias_gradient`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BiasGradient {
    /// Planes of quads, `shape.patch_averages_bytes()`.
    pub patch_averages: Region,
    /// `shape.bias_bytes()`.
    pub bias_gradient: Region,
}

/// How the patches of a dense weight gradient are shared out.
struct Share {
    tile: BlockTile,
    per_split: u32,
    splits: u32,
    /// Workgroups of one share.
    groups: u64,
}

impl Share {
    /// No more shares than results fit the `room`.
    fn of(shape: &FilterShape, room: u64, facts: &DeviceFacts) -> Self {
        let patches = shape.patch_plane();
        let tile = select::block_tile(patches, shape.output_quads(), shape.input_quads(), facts);
        let groups = groups_of_share(shape, tile);
        let bytes = shape.tap_sums_bytes();
        let step = tile.step();
        let steps = patches.div_ceil(step);
        let wanted = select::splits(patches, groups, u64::from(steps), bytes, facts);
        let splits = u64::from(wanted).min(room / bytes.max(1)).max(1) as u32;
        let per_split = steps.div_ceil(splits) * step;
        Self {
            tile,
            per_split,
            splits: patches.div_ceil(per_split),
            groups,
        }
    }
}

/// The tile of a dense weight gradient whose patches are not split into shares, however much room there is.
pub(crate) fn unsplit(shape: &FilterShape, facts: &DeviceFacts) -> Option<BlockTile> {
    let share = Share::of(shape, u64::MAX, facts);
    (share.splits == 1).then_some(share.tile)
}

/// Bytes of workspace that the weight gradient works fastest with; 0 where it needs none.
///
/// # Errors
/// A shape that is not valid.
pub fn weight_gradient_workspace(
    shape: &FilterShape,
    facts: &DeviceFacts,
) -> Result<u64, FilterError> {
    shape.validate()?;
    if shape.depthwise {
        return Ok(0);
    }
    let splits = Share::of(shape, u64::MAX, facts).splits;
    Ok(if splits > 1 {
        u64::from(splits) * shape.tap_sums_bytes()
    } else {
        0
    })
}

/// Launches of the gradient with respect to the weight.
///
/// The shares of the patches are summed in a fixed order: the same bits every run on one device with one size of workspace.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs (a workspace may have any size).
pub fn weight_gradient(
    shape: &FilterShape,
    facts: &DeviceFacts,
    regions: &WeightGradient,
) -> Result<Vec<Launch>, FilterError> {
    shape.validate()?;
    let ([patch_sums, gradient], taps) = regions.sized(shape)?;
    let averages = sized(
        "patch averages",
        regions.patch_averages,
        shape.patch_averages_bytes(),
    )?;
    if shape.depthwise {
        let params = DepthwiseWeightParams {
            quads: shape.input_quads(),
            patches: shape.patch_plane(),
            taps,
        };
        return Ok(vec![Launch::new(
            "filter/depthwise_weight_gradient.wgsl",
            &[select::lanes_of_sums(facts)],
            &params,
            vec![patch_sums, averages, gradient],
            folded_grid(u64::from(params.quads)),
        )]);
    }
    let room = regions.workspace.map_or(0, |workspace| workspace.size);
    let share = Share::of(shape, room, facts);
    let product = |target: Region, taps: u32| {
        let part = WeightPart {
            tile: share.tile,
            regions: [patch_sums, target],
            taps,
            per_split: share.per_split,
            groups: share.groups * u64::from(share.splits),
        };
        gradients::launch(shape, averages, Some(part), None)
    };
    Ok(match regions.workspace {
        Some(workspace) if share.splits > 1 => {
            // No more shares were made than fit.
            let partial = Region {
                size: u64::from(share.splits) * shape.tap_sums_bytes(),
                ..workspace
            };
            let params = SpreadParams {
                count: shape.pair_vectors(),
                inner: shape.tap_vectors(),
                taps,
                splits: share.splits,
            };
            let spread = Launch::new(
                "filter/spread_taps.wgsl",
                &[],
                &params,
                vec![partial, gradient],
                folded_grid(u64::from(params.count).div_ceil(LANES)),
            );
            vec![product(partial, 1), spread]
        }
        _ => vec![product(gradient, taps)],
    })
}

/// Launches of the gradient with respect to the bias. It is exact: averages over a patch tell the sum over its pixels.
///
/// # Errors
/// A shape that is not valid, or a region smaller than it needs.
pub fn bias_gradient(
    shape: &FilterShape,
    facts: &DeviceFacts,
    regions: &BiasGradient,
) -> Result<Vec<Launch>, FilterError> {
    shape.validate()?;
    let bound = vec![
        sized(
            "patch averages",
            regions.patch_averages,
            shape.patch_averages_bytes(),
        )?,
        sized("bias gradient", regions.bias_gradient, shape.bias_bytes())?,
    ];
    let [y, x] = [0, 1].map(|axis| shape.output_axis(axis));
    let params = BiasParams {
        quads: shape.output_quads(),
        patches: shape.patch_plane(),
        height: y.extent,
        width: x.extent,
        patches_y: y.patches,
        patches_x: x.patches,
        window_y: y.window,
        window_x: x.window,
        offset_y: y.offset,
        offset_x: x.offset,
        factor: 1.0 / shape.density(),
    };
    Ok(vec![Launch::new(
        "filter/bias_gradient.wgsl",
        &[select::lanes_of_sums(facts)],
        &params,
        bound,
        folded_grid(u64::from(params.quads)),
    )])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input_gradient::{DepthwiseInputGradientParams, TapSumsParams};
    use crate::pool::PoolParams;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn the_parameters_match_their_shaders() {
        assert_params_match::<PoolParams>("filter/patch_pool.wgsl");
        assert_params_match::<TapSumsParams>("filter/tap_sums.wgsl");
        assert_params_match::<DepthwiseInputGradientParams>("filter/depthwise_input_gradient.wgsl");
        assert_params_match::<GradientsParams>("filter/gradients.wgsl");
        assert_params_match::<DepthwiseWeightParams>("filter/depthwise_weight_gradient.wgsl");
        assert_params_match::<SpreadParams>("filter/spread_taps.wgsl");
        assert_params_match::<BiasParams>("filter/bias_gradient.wgsl");
    }
}
