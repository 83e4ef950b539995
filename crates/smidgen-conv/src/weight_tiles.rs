//! Launches of the weight gradient as tiles in workgroup memory, for GPUs.

use crate::geometry::Axis;
use crate::passes::extents;
use crate::select::{self, row_tile};
use crate::tiles::{PatchMap, VECTOR_BYTES};
use crate::weight_gradient::Share;
use crate::{ConvolutionShape, SharedBlockTile};
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, Source, folded_grid, params};

params! {
    /// Uniform of `conv/weight_tiles.wgsl`.
    pub(crate) struct WeightTileParams {
        groups: u32, output_groups: u32, input_groups: u32, output_quads: u32, slots: u32,
        runs: u32, runs_per_split: u32,
        output_width: u32, output_plane: u32,
        images: u32, source_height: u32, source_width: u32, source_plane: u32,
        stride_y: u32, dilation_y: u32, origin_y: i32, origin_x: i32, kernel_y: u32, kernel_x: u32,
        weights: u32,
    }
}

/// More shares take longer to add up than to compute.
pub(crate) const MOST_SHARES: u32 = 1024;

impl SharedBlockTile {
    /// Output quads of a workgroup.
    fn outputs(self) -> u32 {
        self.output_lanes * self.output_quads
    }

    /// Input quads of a workgroup.
    fn inputs(self) -> u32 {
        self.input_lanes * self.input_quads
    }

    /// Pixels that are held at a time.
    fn all_pixels(self) -> u32 {
        self.runs * self.pixels
    }
}

/// The weight gradient of one shape by one tile.
pub(crate) struct WeightTiles {
    shape: ConvolutionShape,
    tile: SharedBlockTile,
    y: Axis,
    x: Axis,
    runs_per_row: u32,
    map: PatchMap,
}

impl WeightTiles {
    /// `None` where the map of patches is larger than a kernel can index.
    pub(crate) fn of(shape: &ConvolutionShape, tile: SharedBlockTile) -> Option<Self> {
        let shape = shape.flattened();
        let [y, x] = extents(&shape).map(Axis::forward);
        let runs_per_row = x.targets.div_ceil(tile.pixels);
        // Whole runs, and whole groups of taps.
        let x = Axis {
            targets: runs_per_row * tile.pixels,
            taps: x.taps.next_multiple_of(tile.taps),
            ..x
        };
        let map = PatchMap::of(shape.batch, &y, &x, tile.all_pixels())?;
        Some(Self {
            shape,
            tile,
            y,
            x,
            runs_per_row,
            map,
        })
    }

    fn tap_lanes(&self) -> u32 {
        self.y.taps * (self.x.taps / self.tile.taps)
    }

    fn block_lanes(&self) -> u32 {
        self.tile.output_lanes * self.tile.input_lanes * self.tap_lanes()
    }

    fn lanes(&self) -> u32 {
        self.block_lanes() * self.tile.pixel_lanes
    }

    /// `vec4`s in workgroup memory.
    fn held(&self) -> u32 {
        let tile = self.tile;
        // As in the shader: one more than there are pixels.
        let loaded = tile.outputs() * (tile.all_pixels() + 1) + tile.inputs() * self.map.patch;
        loaded.max(4 * self.block_lanes() * (tile.pixel_lanes - 1))
    }

    fn runs(&self) -> u32 {
        self.shape.batch * self.y.targets * self.runs_per_row
    }

    /// Loop steps that can be shared out.
    pub(crate) fn steps(&self) -> u32 {
        self.runs().div_ceil(self.tile.runs)
    }

    /// Output and input quads, in groups of those of a workgroup.
    fn sides(&self) -> [u32; 2] {
        [
            self.shape.output_quads().div_ceil(self.tile.outputs()),
            self.shape.slots().div_ceil(self.tile.inputs()),
        ]
    }

    /// Workgroups of one share.
    pub(crate) fn groups(&self) -> u64 {
        self.sides().into_iter().map(u64::from).product()
    }

    pub(crate) fn share(&self, room: u64) -> Share {
        let (tile, bytes) = (self.tile, self.shape.weight_bytes());
        Share::of(self.runs(), tile.runs, tile.shares, bytes, room)
    }

    /// Whether a device can compute it.
    pub(crate) fn fits(&self, facts: &DeviceFacts) -> bool {
        self.lanes() <= facts.max_invocations.min(256)
            && self.tile.runs <= self.lanes()
            && (self.held() * VECTOR_BYTES + self.tile.runs * 4) <= facts.workgroup_memory_bytes
    }

    pub(crate) fn launch(
        &self,
        share: &Share,
        input: Source,
        output_gradient: Region,
        partial: Region,
    ) -> Launch {
        let (shape, tile, lanes) = (&self.shape, self.tile, self.lanes());
        let [output_groups, input_groups] = self.sides();
        let groups = self.groups() * u64::from(share.splits);
        let window = (tile.pixels - 1) * self.x.stride + (tile.taps - 1) * self.x.dilation + 1;
        // As in the forward pass.
        let endless = shape.batch * shape.output_height() * shape.taps() == 1;
        let across = |pixels: u32| if endless { u32::MAX } else { pixels };
        let mut defines: Vec<(&str, String)> = [
            ("COLUMNS", across(self.map.columns)),
            ("DILATION_X", self.x.dilation),
            (
                "GRADIENT_LOADS",
                (tile.outputs() * tile.all_pixels()).div_ceil(lanes),
            ),
            ("HELD", self.held()),
            ("INPUT_LANES", tile.input_lanes),
            ("INPUT_QUADS", tile.input_quads),
            ("LANES", lanes),
            ("OUTPUT_HEIGHT", shape.output_height()),
            ("OUTPUT_LANES", tile.output_lanes),
            ("OUTPUT_QUADS", tile.output_quads),
            ("PATCH", self.map.patch),
            (
                "PATCH_LOADS",
                (tile.inputs() * self.map.patch).div_ceil(lanes),
            ),
            ("PIXELS", tile.pixels),
            ("PIXEL_LANES", tile.pixel_lanes),
            ("ROWS", self.map.rows),
            ("RUNS", tile.runs),
            ("RUNS_PER_ROW", across(self.runs_per_row)),
            ("STRIDE_X", self.x.stride),
            ("TAPS", tile.taps),
            ("TAP_LANES", self.tap_lanes()),
            ("WINDOW", window),
        ]
        .map(|(name, value)| (name, value.to_string()))
        .into();
        defines.extend(input.defines());
        let regions = [input.region, output_gradient]
            .into_iter()
            .chain(input.normalisation)
            .chain([partial])
            .collect();
        let params = WeightTileParams {
            groups: groups as u32,
            output_groups,
            input_groups,
            output_quads: shape.output_quads(),
            slots: shape.slots(),
            runs: self.runs(),
            runs_per_split: share.per_split,
            output_width: shape.output_width(),
            output_plane: shape.output_plane(),
            images: shape.batch,
            source_height: shape.input_height,
            source_width: shape.input_width,
            source_plane: shape.input_plane(),
            stride_y: self.y.stride,
            dilation_y: self.y.dilation,
            origin_y: self.y.origin,
            origin_x: self.x.origin,
            kernel_y: shape.kernel[0],
            kernel_x: shape.kernel[1],
            weights: shape.weight_vectors(),
        };
        Launch::new(
            "conv/weight_tiles.wgsl",
            &defines,
            &params,
            regions,
            folded_grid(groups),
        )
    }
}

/// Invocations of a workgroup.
const LANES: u32 = 192;
/// Workgroups that keep a discrete GPU busy: one share more than it runs at once, and most of it waits for that.
const BUSY_GROUPS: f64 = 256.0;

/// A tile of so many output quads and pixels an invocation, and `factor` times as many shares as the rule says, within the room.
fn tile_of(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    (output_quads, most_pixels, factor): (u32, u32, f64),
    room: u64,
) -> Option<SharedBlockTile> {
    let [kernel_y, kernel_x] = shape.kernel;
    let taps = kernel_x.div_ceil(kernel_x.div_ceil(3));
    let tap_lanes = kernel_y * kernel_x.div_ceil(taps);
    let width = shape.flattened().output_width();
    let pixels = row_tile(width, most_pixels);
    let output_quads = shape.output_quads().min(output_quads);
    let input_quads = if taps == 1 { shape.slots().min(2) } else { 1 };
    let lanes = |quads: u32, most: u32| quads.clamp(1, most.clamp(1, 8));
    let output_lanes = lanes(shape.output_quads() / output_quads, LANES / tap_lanes);
    let input_lanes = lanes(
        shape.slots() / input_quads,
        LANES / (2 * output_lanes * tap_lanes),
    );
    let pixel_lanes = lanes(LANES / (output_lanes * input_lanes * tap_lanes), 8);
    // The more are held at a time, the less of the patches overlaps; whole rows, or parts of long ones.
    let held_pixels = match (width.is_multiple_of(14), pixel_lanes) {
        (true, _) if width > 28 || taps == 1 => 28,
        (true, _) => 56,
        (false, 8) if taps > 1 => 128,
        (false, _) => 64,
    };
    let mut tile = SharedBlockTile {
        output_quads,
        taps,
        input_quads,
        pixels,
        output_lanes,
        input_lanes,
        pixel_lanes,
        runs: (held_pixels / pixels).min(64),
        shares: 1,
    };
    while tile.runs > 8 && !fits(tile, shape, facts) {
        tile.runs /= 2;
    }
    let tiles = WeightTiles::of(shape, tile)?;
    let bytes = shape.weight_bytes().max(1);
    let wanted = BUSY_GROUPS * factor / tiles.groups() as f64;
    // A share should be a few steps long.
    let most = u64::from(tiles.steps() / 2)
        .min(select::MOST_SHARE_BYTES / bytes)
        .min(room / bytes)
        .clamp(1, u64::from(MOST_SHARES));
    Some(SharedBlockTile {
        shares: (wanted as u64).clamp(1, most) as u32,
        ..tile
    })
}

/// The rule where it is a tile: on a discrete GPU, for dense kernels of stride 1 with channels and pixels enough. In any room, so that it is
/// the same in every budget.
pub(crate) fn default(shape: &ConvolutionShape, facts: &DeviceFacts) -> Option<SharedBlockTile> {
    let quads = shape.slots().min(shape.output_quads());
    let few = facts.kind != DeviceKind::Discrete
        || shape.groups > 1
        || shape.stride != [1, 1]
        || quads < 4
        || shape.output_plane() < 1024;
    let tile = tile_of(shape, facts, (2, 2, 1.0), u64::MAX).filter(|_| !few)?;
    fits(tile, shape, facts).then_some(tile)
}

/// The tiles that are worth measuring: none on a software device, where workgroup memory is as far away as any other.
pub(crate) fn candidates(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    room: u64,
) -> Vec<SharedBlockTile> {
    if facts.kind == DeviceKind::Software || shape.groups > 1 {
        return Vec::new();
    }
    [(2, 2, 1.0), (1, 4, 1.0), (2, 4, 1.0), (2, 2, 2.0)]
        .into_iter()
        .filter_map(|size| tile_of(shape, facts, size, room))
        .collect()
}

/// Whether a tile can compute the weight gradient of a (valid) shape on a device.
pub(crate) fn fits(tile: SharedBlockTile, shape: &ConvolutionShape, facts: &DeviceFacts) -> bool {
    let lanes = [tile.output_lanes, tile.input_lanes, tile.pixel_lanes];
    shape.groups == 1
        && [1, 2, 4, 7, 8].contains(&tile.pixels)
        && (1..=4).contains(&tile.output_quads)
        && (1..=4).contains(&tile.input_quads)
        && (1..=shape.kernel[1].min(8)).contains(&tile.taps)
        && tile.output_quads * tile.input_quads * tile.taps <= 12
        && lanes.iter().all(|lanes| (1..=64).contains(lanes))
        && (1..=64).contains(&tile.runs)
        && (1..=MOST_SHARES).contains(&tile.shares)
        && WeightTiles::of(shape, tile).is_some_and(|tiles| tiles.fits(facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn the_parameters_match_their_shader() {
        assert_params_match::<WeightTileParams>("conv/weight_tiles.wgsl");
    }
}
