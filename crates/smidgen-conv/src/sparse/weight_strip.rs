//! The weight gradient by strips of pixels, for all live blocks of a span of output quads at once.

use super::SparseShape;
use super::strip::Strip;
use crate::geometry::Axis;
use crate::passes::extents;
use crate::select;
use crate::weight_gradient::Share;
use smidgen_gpu::{DeviceFacts, Launch, Region, Source, folded_grid, params};

params! {
    /// Uniform of `conv/sparse_weight_strip.wgsl`.
    pub(crate) struct WeightStripParams {
        groups: u32, spans: u32, pixels: u32, count_y: u32, count_x: u32,
        strips: u32, strips_per_split: u32, output_quads: u32, live: u32, pieces: u32,
        dilation_y: u32, dilation_x: u32, origin_y: i32, origin_x: i32,
        input_channels: u32, output_channels: u32, group_inputs: u32, group_outputs: u32,
    }
}

/// A weight gradient by strips.
pub(super) struct WeightStrip {
    shape: SparseShape,
    strip: Strip,
    axes: [Axis; 2],
}

impl WeightStrip {
    /// Where the forward pass goes by strips too, and there are blocks enough for what is loaded.
    pub(super) fn of(shape: &SparseShape, facts: &DeviceFacts) -> Option<Self> {
        let axes = extents(&shape.convolution).map(Axis::forward);
        let [y, x] = &axes;
        let quads = shape.convolution.output_quads();
        // Its lanes add up two blocks at a time, each in a half of eight.
        let strip = Strip::of(shape, quads, [y, x], facts).filter(|strip| strip.subgroup >= 8)?;
        // A strip is loaded for every output quad of a span and, with most blocks in use, for every input quad and row of taps; the other
        // kernel loads one for every block.
        let outputs = u64::from(quads.min(strip.span));
        let loads = outputs + u64::from(shape.convolution.slots() * shape.convolution.kernel[0]);
        let pays = outputs * u64::from(shape.live) >= 2 * loads;
        pays.then_some(Self {
            shape: *shape,
            strip,
            axes,
        })
    }

    fn strips(&self) -> u32 {
        let pixels = self.strip.subgroup * self.strip.tile;
        self.shape.convolution.output_plane().div_ceil(pixels)
    }

    fn spans(&self) -> u32 {
        self.shape
            .convolution
            .output_quads()
            .div_ceil(self.strip.span)
    }

    pub(super) fn share(&self, room: u64, facts: &DeviceFacts) -> Share {
        let bytes = self.shape.value_bytes();
        let (spans, strips) = (self.spans(), self.strips());
        // A span is as much work as some workgroups of other kernels.
        let wanted = select::shares(2 * u64::from(spans), u64::from(strips), bytes, facts);
        Share::of(strips, 1, wanted, bytes, room)
    }

    pub(super) fn launch(&self, share: &Share, input: Source, regions: Vec<Region>) -> Launch {
        let (shape, strip) = (&self.shape.convolution, &self.strip);
        let [y, x] = &self.axes;
        let groups = self.spans() * share.splits;
        let params = WeightStripParams {
            groups,
            spans: self.spans(),
            pixels: shape.output_plane(),
            count_y: y.targets,
            count_x: x.targets,
            strips: self.strips(),
            strips_per_split: share.per_split,
            output_quads: shape.output_quads(),
            live: self.shape.live,
            pieces: self.shape.pieces(),
            dilation_y: y.dilation,
            dilation_x: x.dilation,
            origin_y: y.origin,
            origin_x: x.origin,
            input_channels: shape.input_channels,
            output_channels: shape.output_channels,
            group_inputs: shape.group_inputs(),
            group_outputs: shape.group_outputs(),
        };
        let mut defines = strip.defines();
        defines.extend(input.defines());
        if shape.groups > 1 {
            defines.push(("GROUPED", String::new()));
        }
        Launch::new(
            "conv/sparse_weight_strip.wgsl",
            &defines,
            &params,
            regions,
            folded_grid(u64::from(groups)),
        )
    }
}
