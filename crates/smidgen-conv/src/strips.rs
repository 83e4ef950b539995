//! Launches of the depthwise gradients that walk down strips: either, or both in one dispatch that reads the output gradient once.

use crate::select::row_tile;
use crate::weight_gradient::Share;
use crate::{ConvolutionShape, Pass, StripTile, select};
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, Source, folded_grid, params};

params! {
    /// Uniform of `conv/depthwise_backward.wgsl`.
    pub(crate) struct DepthwiseBackwardParams {
        groups: u32, quads: u32,
        strips: u32, strips_per_split: u32, strips_per_row: u32, bands: u32, rows: u32, first_y: u32, first_x: u32,
        output_height: u32, output_width: u32, output_plane: u32,
        input_height: u32, input_width: u32, input_plane: u32,
        padding_y: u32, padding_x: u32,
    }
}

/// Taps whose sums an invocation can hold; a 7x7 kernel has more.
const MOST_TAPS: u32 = 25;

/// Whether strips can compute this pass of a (valid) shape.
pub(crate) fn can(pass: Pass, shape: &ConvolutionShape) -> bool {
    pass != Pass::Forward
        && shape.is_depthwise()
        && shape.dilation == [1, 1]
        && shape.taps() <= MOST_TAPS
        && shape.stride.iter().all(|stride| *stride <= 2)
}

pub(crate) fn fits(
    tile: StripTile,
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
) -> bool {
    can(pass, shape)
        && [1, 2, 4, 8].contains(&tile.pixels)
        && tile.rows >= 1
        && tile.lanes.is_power_of_two()
        && (4..=facts.max_invocations.min(64)).contains(&tile.lanes)
        && shape.taps() * 16 * tile.lanes <= facts.workgroup_memory_bytes.min(16 << 10)
        && (1..=256).contains(&tile.shares)
}

/// Cells of the input, one `stride` wide, from that of the first pixel to that of the last; and the first.
fn cells(shape: &ConvolutionShape, axis: usize) -> (u32, u32) {
    let extent = [shape.input_height, shape.input_width][axis];
    let (padding, stride) = (shape.padding[axis], shape.stride[axis]);
    let first = padding / stride;
    ((padding + extent - 1) / stride - first + 1, first)
}

/// The tile to take where nothing is measured.
pub(crate) fn default(shape: &ConvolutionShape, facts: &DeviceFacts) -> StripTile {
    with(shape, facts, 4, 1.0, 1.0)
}

/// A tile of at most `pixels`, with `rows` times as many rows and `shares` times as many shares as the rule says.
pub(crate) fn with(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    pixels: u32,
    rows: f64,
    shares: f64,
) -> StripTile {
    let [(height, _), (width, _)] = [0, 1].map(|axis| cells(shape, axis));
    let software = facts.kind == DeviceKind::Software;
    let pixels = row_tile(width, pixels);
    // A strip that is long reads few rows twice; there have to be enough of them to keep the device busy.
    let invocations: u64 = match facts.kind {
        DeviceKind::Software => 128,
        DeviceKind::Integrated => 1 << 14,
        DeviceKind::Discrete | DeviceKind::Virtual => 1 << 16,
    };
    let columns =
        u64::from(shape.input_quads()) * u64::from(shape.batch) * u64::from(width.div_ceil(pixels));
    let bands = invocations.div_ceil(columns).max(1) as f64 / rows;
    let bands = (bands as u32).clamp(1, height.div_ceil(4));
    let tile = StripTile {
        pixels,
        rows: height.div_ceil(bands),
        // A software device runs a few at a time anyway.
        lanes: if software { 8 } else { 32 },
        shares: 1,
    };
    let strips = Strips { shape, tile };
    let steps = strips.count().div_ceil(tile.lanes);
    let bytes = shape.weight_bytes();
    let quads = u64::from(shape.input_quads());
    let wanted = f64::from(select::shares(quads, u64::from(steps), bytes, facts)) * shares;
    let shares = (wanted as u32).clamp(1, 256);
    StripTile {
        // Shares of whole steps: as many as are left with something to do.
        shares: steps.div_ceil(steps.div_ceil(shares).max(1)).max(1),
        ..tile
    }
}

/// What the input gradient reads and writes.
pub(crate) struct ByInput {
    pub(crate) weight: Region,
    pub(crate) input_gradient: Region,
    pub(crate) accumulate: bool,
    /// Whether to multiply with the derivative of the activation of the source.
    pub(crate) derivative: bool,
}

/// The strips of one shape.
pub(crate) struct Strips<'s> {
    pub(crate) shape: &'s ConvolutionShape,
    pub(crate) tile: StripTile,
}

impl Strips<'_> {
    fn per_row(&self) -> u32 {
        cells(self.shape, 1).0.div_ceil(self.tile.pixels)
    }

    fn bands(&self) -> u32 {
        cells(self.shape, 0).0.div_ceil(self.tile.rows)
    }

    fn count(&self) -> u32 {
        self.shape.batch * self.bands() * self.per_row()
    }

    /// How the strips are shared out where the results of so many shares fit the room.
    pub(crate) fn share(&self, room: u64) -> Share {
        let (tile, bytes) = (self.tile, self.shape.weight_bytes());
        Share::of(self.count(), tile.lanes, tile.shares, bytes, room)
    }

    /// The input gradient, the weight gradient (a partial sum for each share) or both.
    pub(crate) fn launch(
        &self,
        share: &Share,
        output_gradient: Region,
        source: Option<Source>,
        by_input: Option<&ByInput>,
        partial: Option<Region>,
    ) -> Launch {
        let (shape, tile) = (self.shape, self.tile);
        let [held_y, held_x] =
            [0, 1].map(|axis| shape.kernel[axis].div_ceil(shape.stride[axis]) - 1);
        let mut defines = vec![
            ("COLUMNS", (tile.pixels * shape.stride[1]).to_string()),
            ("HELD_X", held_x.to_string()),
            ("HELD_Y", held_y.to_string()),
            ("KERNEL_X", shape.kernel[1].to_string()),
            ("KERNEL_Y", shape.kernel[0].to_string()),
            ("LANES", tile.lanes.to_string()),
            ("STRIDE_X", shape.stride[1].to_string()),
            ("STRIDE_Y", shape.stride[0].to_string()),
            ("TAPS", shape.taps().to_string()),
            ("TILE", tile.pixels.to_string()),
            ("WINDOW", (tile.pixels + held_x).to_string()),
        ];
        let mut flag = |name, given: bool| {
            if given {
                defines.push((name, String::new()));
            }
        };
        flag("BY_INPUT", by_input.is_some());
        flag("BY_WEIGHT", partial.is_some());
        flag("ACCUMULATE", by_input.is_some_and(|by| by.accumulate));
        flag("DERIVATIVE", by_input.is_some_and(|by| by.derivative));
        flag("SOURCE", source.is_some());
        let mut regions = vec![output_gradient];
        regions.extend(by_input.map(|by| by.weight));
        if let Some(source) = source {
            defines.extend(source.defines());
            regions.extend(source.normalisation);
            regions.push(source.region);
        }
        regions.extend(by_input.map(|by| by.input_gradient));
        regions.extend(partial);
        let quads = shape.input_quads();
        let groups = quads * share.splits;
        let [(_, first_y), (_, first_x)] = [0, 1].map(|axis| cells(shape, axis));
        let params = DepthwiseBackwardParams {
            groups,
            quads,
            strips: self.count(),
            strips_per_split: share.per_split,
            strips_per_row: self.per_row(),
            bands: self.bands(),
            rows: tile.rows,
            first_y,
            first_x,
            output_height: shape.output_height(),
            output_width: shape.output_width(),
            output_plane: shape.output_plane(),
            input_height: shape.input_height,
            input_width: shape.input_width,
            input_plane: shape.input_plane(),
            padding_y: shape.padding[0],
            padding_x: shape.padding[1],
        };
        Launch::new(
            "conv/depthwise_backward.wgsl",
            &defines,
            &params,
            regions,
            folded_grid(u64::from(groups)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn the_parameters_match_their_shader() {
        assert_params_match::<DepthwiseBackwardParams>("conv/depthwise_backward.wgsl");
    }

    #[test]
    fn cells_hold_every_pixel() {
        for (extent, padding, stride, expected) in [
            (9, 1, 1, (9, 1)),
            (9, 1, 2, (5, 0)),
            (8, 0, 2, (4, 0)),
            (8, 1, 2, (5, 0)),
            (1, 3, 2, (1, 1)),
        ] {
            let shape = ConvolutionShape::new(1, [8, extent, 4], 8, [3, 3]);
            let shape = shape.with_padding(padding).with_stride(stride);
            assert_eq!(cells(&shape, 0), expected, "{extent} {padding} {stride}");
        }
    }
}
