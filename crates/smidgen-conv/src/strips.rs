//! Launches of the depthwise passes that walk down strips: the forward pass, either gradient, or both in one dispatch that reads the output
//! gradient once.

use crate::select::row_tile;
use crate::weight_gradient::Share;
use crate::{ConvolutionShape, Pass, StripTile, select};
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, Source, folded_grid, params};

params! {
    /// Uniform of `conv/depthwise_forward.wgsl` and `conv/depthwise_backward.wgsl`.
    pub(crate) struct StripParams {
        groups: u32, quads: u32,
        strips: u32, strips_per_split: u32, strips_per_row: u32, bands: u32, rows: u32, first_y: u32, first_x: u32,
        output_height: u32, output_width: u32, output_plane: u32,
        input_height: u32, input_width: u32, input_plane: u32,
        padding_y: u32, padding_x: u32,
    }
}

/// Taps whose weights or sums an invocation can hold; a 7x7 kernel has more.
const MOST_TAPS: u32 = 25;

/// Whether strips can compute the passes of a (valid) shape.
pub(crate) fn can(shape: &ConvolutionShape) -> bool {
    shape.is_depthwise()
        && shape.dilation == [1, 1]
        && shape.taps() <= MOST_TAPS
        && shape.stride.iter().all(|stride| *stride <= 2)
}

pub(crate) fn fits(tile: StripTile, shape: &ConvolutionShape, facts: &DeviceFacts) -> bool {
    can(shape)
        && [1, 2, 4, 8].contains(&tile.pixels)
        && tile.rows >= 1
        && tile.lanes.is_power_of_two()
        && (4..=facts.max_invocations.min(64)).contains(&tile.lanes)
        && shape.taps() * 16 * tile.lanes <= facts.workgroup_memory_bytes.min(16 << 10)
        && (1..=256).contains(&tile.shares)
}

/// What the strips of a pass are cut from, along an axis: pixels of the output, or cells of the input, one `stride` wide, from that of the
/// first pixel to that of the last; and the first.
fn cells(pass: Pass, shape: &ConvolutionShape, axis: usize) -> (u32, u32) {
    if pass == Pass::Forward {
        return ([shape.output_height(), shape.output_width()][axis], 0);
    }
    let extent = [shape.input_height, shape.input_width][axis];
    let (padding, stride) = (shape.padding[axis], shape.stride[axis]);
    let first = padding / stride;
    ((padding + extent - 1) / stride - first + 1, first)
}

/// The tile to take where nothing is measured.
pub(crate) fn default(pass: Pass, shape: &ConvolutionShape, facts: &DeviceFacts) -> StripTile {
    // Where a strip's pixels lie two apart in the gradient of the output, a software device has fewer of them in registers.
    let apart = shape.stride[1] > 1 && pass != Pass::Forward;
    let pixels = if apart && facts.kind == DeviceKind::Software {
        2
    } else {
        4
    };
    with(pass, shape, facts, pixels, 1.0, 1.0)
}

/// A tile of at most `pixels`, with `rows` times as many rows and `shares` times as many shares as the rule says.
pub(crate) fn with(
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    pixels: u32,
    rows: f64,
    shares: f64,
) -> StripTile {
    let [(height, _), (width, _)] = [0, 1].map(|axis| cells(pass, shape, axis));
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
    let strips = Strips { pass, shape, tile };
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
    /// The forward pass, or either gradient: theirs are the same.
    pub(crate) pass: Pass,
    pub(crate) shape: &'s ConvolutionShape,
    pub(crate) tile: StripTile,
}

impl Strips<'_> {
    fn per_row(&self) -> u32 {
        cells(self.pass, self.shape, 1).0.div_ceil(self.tile.pixels)
    }

    fn bands(&self) -> u32 {
        cells(self.pass, self.shape, 0).0.div_ceil(self.tile.rows)
    }

    fn count(&self) -> u32 {
        self.shape.batch * self.bands() * self.per_row()
    }

    /// How the strips are shared out where the results of so many shares fit the room.
    pub(crate) fn share(&self, room: u64) -> Share {
        let (tile, bytes) = (self.tile, self.shape.weight_bytes());
        Share::of(self.count(), tile.lanes, tile.shares, bytes, room)
    }

    /// Workgroups that share all strips of a quad.
    pub(crate) fn splits(&self) -> u32 {
        self.share(u64::MAX).splits
    }

    /// The forward pass. `regions` are its input, weight, bias and normalisation if any, output, and moments if they are taken.
    pub(crate) fn forward(
        &self,
        flags: Vec<(&'static str, String)>,
        regions: Vec<Region>,
    ) -> Launch {
        let (shape, tile) = (self.shape, self.tile);
        let kept = shape.kernel[0].saturating_sub(shape.stride[0]);
        let window = (tile.pixels - 1) * shape.stride[1] + shape.kernel[1];
        let mut defines = flags;
        defines.extend(self.defines(window));
        defines.push(("KEPT", kept.to_string()));
        self.dispatch(
            "conv/depthwise_forward.wgsl",
            &defines,
            regions,
            &self.share(u64::MAX),
        )
    }

    /// What both shaders are told.
    fn defines(&self, window: u32) -> [(&'static str, String); 8] {
        let (shape, tile) = (self.shape, self.tile);
        [
            ("KERNEL_X", shape.kernel[1]),
            ("KERNEL_Y", shape.kernel[0]),
            ("LANES", tile.lanes),
            ("STRIDE_X", shape.stride[1]),
            ("STRIDE_Y", shape.stride[0]),
            ("TAPS", shape.taps()),
            ("TILE", tile.pixels),
            ("WINDOW", window),
        ]
        .map(|(name, value)| (name, value.to_string()))
    }

    fn dispatch(
        &self,
        shader: &'static str,
        defines: &[(&'static str, String)],
        regions: Vec<Region>,
        share: &Share,
    ) -> Launch {
        let (shape, tile) = (self.shape, self.tile);
        let quads = shape.input_quads();
        let groups = quads * share.splits;
        let [(_, first_y), (_, first_x)] = [0, 1].map(|axis| cells(self.pass, shape, axis));
        let params = StripParams {
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
            shader,
            defines,
            &params,
            regions,
            folded_grid(u64::from(groups)),
        )
    }

    /// The input gradient, the weight gradient (a partial sum for each share) or both.
    pub(crate) fn backward(
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
        ];
        defines.extend(self.defines(tile.pixels + held_x));
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
        let mut regions: Vec<Region> = source.iter().map(|source| source.region).collect();
        regions.push(output_gradient);
        regions.extend(by_input.map(|by| by.weight));
        if let Some(source) = source {
            defines.extend(source.defines());
            regions.extend(source.normalisation);
        }
        regions.extend(by_input.map(|by| by.input_gradient));
        regions.extend(partial);
        self.dispatch("conv/depthwise_backward.wgsl", &defines, regions, share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn the_parameters_match_their_shader() {
        assert_params_match::<StripParams>("conv/depthwise_forward.wgsl");
        assert_params_match::<StripParams>("conv/depthwise_backward.wgsl");
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
            assert_eq!(
                cells(Pass::InputGradient, &shape, 0),
                expected,
                "{extent} {padding} {stride}"
            );
        }
    }
}
