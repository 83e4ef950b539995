//! Launches of the kernels that gather: the forward pass and the input gradient.

use crate::geometry::Axis;
use crate::{ConvolutionShape, GatherTile};
use smidgen_gpu::{Launch, Region, folded_grid, params};

params! {
    /// Uniform of `conv/direct.wgsl`.
    pub(crate) struct DirectParams {
        items: u32, tiles: u32, count_y: u32, count_x: u32, quad_groups: u32,
        source_quads: u32, source_height: u32, source_width: u32, source_plane: u32,
        stride_y: u32, dilation_y: u32, origin_y: i32, origin_x: i32,
        target_height: u32, target_width: u32, target_plane: u32,
        scale_y: u32, scale_x: u32, offset_y: u32, offset_x: u32,
        taps: u32, slots: u32, taps_y: u32,
        tap_first: i32, tap_step_y: i32, tap_step_x: i32,
        group_inputs: u32, group_outputs: u32,
    }
}

params! {
    /// Uniform of `conv/depthwise.wgsl`.
    pub(crate) struct DepthwiseParams {
        items: u32, tiles: u32, count_y: u32, count_x: u32, quads: u32,
        source_height: u32, source_width: u32, source_plane: u32,
        stride_y: u32, dilation_y: u32, origin_y: i32, origin_x: i32,
        target_height: u32, target_width: u32, target_plane: u32,
        scale_y: u32, scale_x: u32, offset_y: u32, offset_x: u32,
        taps: u32, taps_y: u32,
        tap_first: i32, tap_step_y: i32, tap_step_x: i32,
    }
}

params! {
    /// Uniform of `conv/pointwise.wgsl`.
    pub(crate) struct PointwiseParams { pixels: u32, quad_groups: u32, source_quads: u32, slots: u32 }
}

/// Which pass, and what it reads and writes.
pub(crate) struct Gather<'g> {
    pub(crate) shape: &'g ConvolutionShape,
    pub(crate) tile: GatherTile,
    /// The input gradient: quads change roles, blocks are transposed.
    pub(crate) transposed: bool,
    pub(crate) accumulate: bool,
    pub(crate) bias: bool,
    /// How the source is read, or what is done to the gradient behind the sum.
    pub(crate) source: Vec<(&'static str, String)>,
    /// Inputs, then the output.
    pub(crate) regions: Vec<Region>,
}

const LANES: u64 = 64;

/// Workgroups of 64 for this many invocations.
pub(crate) fn groups_of(invocations: u64) -> u64 {
    invocations.div_ceil(LANES)
}

impl Gather<'_> {
    pub(crate) fn source_quads(&self) -> u32 {
        if self.transposed {
            self.shape.output_quads()
        } else {
            self.shape.input_quads()
        }
    }

    pub(crate) fn target_quads(&self) -> u32 {
        if self.transposed {
            self.shape.input_quads()
        } else {
            self.shape.output_quads()
        }
    }

    pub(crate) fn flags(&self, depthwise: bool) -> Vec<(&'static str, String)> {
        let grouped = self.shape.groups > 1 && !depthwise;
        [
            ("ACCUMULATE", self.accumulate),
            ("BIAS", self.bias),
            ("GROUPED", grouped),
            // One weight a channel has nothing to transpose.
            ("TRANSPOSED", self.transposed && !depthwise),
        ]
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| (name, String::new()))
        .chain(self.source.iter().cloned())
        .collect()
    }

    /// A matrix product over the pixels.
    pub(crate) fn pointwise(&self) -> Launch {
        let pixels = self.shape.input_plane();
        let tile = self.tile;
        let params = PointwiseParams {
            pixels,
            quad_groups: self.target_quads() / tile.quads,
            source_quads: self.source_quads(),
            slots: self.shape.slots(),
        };
        let mut defines = self.flags(false);
        defines.extend(tile.defines());
        let groups = u64::from(pixels).div_ceil(LANES * u64::from(tile.pixels))
            * u64::from(params.quad_groups);
        Launch::new(
            "conv/pointwise.wgsl",
            &defines,
            &params,
            self.regions.clone(),
            folded_grid(groups),
        )
    }

    /// Any kernel; `None` where there is nothing to add to.
    pub(crate) fn taps(&self, y: Axis, x: Axis) -> Option<Launch> {
        let is_sum = self.accumulate && self.source.is_empty();
        if is_sum && y.taps * x.taps == 0 {
            return None;
        }
        let shape = self.shape;
        let depthwise = shape.is_depthwise();
        let tile = self.tile;
        let tiles = x.targets.div_ceil(tile.pixels);
        let items = shape.batch * y.targets * tiles;
        let window = (tile.pixels - 1) * x.stride + x.taps.saturating_sub(1) * x.dilation + 1;
        let mut defines = self.flags(depthwise);
        defines.extend([
            ("DILATION_X", x.dilation.to_string()),
            ("STRIDE_X", x.stride.to_string()),
            ("TAPS_X", x.taps.to_string()),
            ("WINDOW", window.to_string()),
        ]);
        let kernel_x = shape.kernel[1] as i32;
        let (tap_first, tap_step_y) = (y.tap_first * kernel_x + x.tap_first, y.tap_step * kernel_x);
        let source_plane = shape.batch * y.source * x.source;
        let target_plane = shape.batch * y.target * x.target;
        if depthwise {
            defines.push(("TILE", tile.pixels.to_string()));
            let quads = shape.input_quads();
            let params = DepthwiseParams {
                items,
                tiles,
                count_y: y.targets,
                count_x: x.targets,
                quads,
                source_height: y.source,
                source_width: x.source,
                source_plane,
                stride_y: y.stride,
                dilation_y: y.dilation,
                origin_y: y.origin,
                origin_x: x.origin,
                target_height: y.target,
                target_width: x.target,
                target_plane,
                scale_y: y.scale,
                scale_x: x.scale,
                offset_y: y.offset,
                offset_x: x.offset,
                taps: shape.taps(),
                taps_y: y.taps,
                tap_first,
                tap_step_y,
                tap_step_x: x.tap_step,
            };
            let grid = folded_grid(groups_of(u64::from(items)) * u64::from(quads));
            return Some(Launch::new(
                "conv/depthwise.wgsl",
                &defines,
                &params,
                self.regions.clone(),
                grid,
            ));
        }
        defines.extend(tile.defines());
        let quad_groups = self.target_quads() / tile.quads;
        let params = DirectParams {
            items,
            tiles,
            count_y: y.targets,
            count_x: x.targets,
            quad_groups,
            source_quads: self.source_quads(),
            source_height: y.source,
            source_width: x.source,
            source_plane,
            stride_y: y.stride,
            dilation_y: y.dilation,
            origin_y: y.origin,
            origin_x: x.origin,
            target_height: y.target,
            target_width: x.target,
            target_plane,
            scale_y: y.scale,
            scale_x: x.scale,
            offset_y: y.offset,
            offset_x: x.offset,
            taps: shape.taps(),
            slots: shape.slots(),
            taps_y: y.taps,
            tap_first,
            tap_step_y,
            tap_step_x: x.tap_step,
            group_inputs: shape.group_inputs(),
            group_outputs: shape.group_outputs(),
        };
        let grid = folded_grid(groups_of(u64::from(items)) * u64::from(quad_groups));
        Some(Launch::new(
            "conv/direct.wgsl",
            &defines,
            &params,
            self.regions.clone(),
            grid,
        ))
    }
}
