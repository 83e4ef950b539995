//! Launches of the kernel that computes strips of pixels for a span of target quads, and of the lists that it walks.

use super::{EMPTY, SparseError, SparseShape, column_parts};
use crate::gather::groups_of;
use crate::geometry::Axis;
use crate::passes::sized;
use crate::select;
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, folded_grid, params};

/// Target quads of a span: what is loaded for one serves them all, and the sums of all stay in registers (or close to them).
const SPAN: u32 = 16;
/// Pixels that a workgroup takes at least: what the statistics of a map have room for.
const GROUP_PIXELS: u32 = 64;

params! {
    /// Uniform of `conv/sparse_strip.wgsl`.
    pub(crate) struct StripParams {
        pixels: u32, count_y: u32, count_x: u32, target_quads: u32, spans: u32, live: u32, pieces: u32,
        dilation_y: u32, dilation_x: u32, origin_y: i32, origin_x: i32,
        target_height: u32, target_width: u32, target_plane: u32,
        scale_y: u32, scale_x: u32, offset_y: u32, offset_x: u32,
        taps_y: u32, taps_x: u32, last_y: u32, last_x: u32, step_y: u32, step_x: u32,
    }
}

params! {
    /// Uniform of `conv/sparse_walk.wgsl`.
    pub(crate) struct WalkParams { bins: u32, source_quads: u32, rows: u32, live: u32, pieces: u32 }
}

/// A pass by strips.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strip {
    pub(super) subgroup: u32,
    pub(super) span: u32,
    /// Vectors of pixels of a strip.
    pub(super) tile: u32,
    /// One tap, which reads a strip as it is.
    pub(super) pointwise: bool,
    /// Output quads of a block, which is computed as so many pieces of four by four.
    block_quads: u32,
}

impl Strip {
    /// For a device where lanes share what they have loaded at no cost but pay dearly for every load; `None` where taps are no constant
    /// distance apart in memory, or reach further than a subgroup.
    pub(super) fn of(
        shape: &SparseShape,
        target_quads: u32,
        [y, x]: [&Axis; 2],
        facts: &DeviceFacts,
    ) -> Option<Self> {
        let subgroup = select::subgroup(facts).filter(|size| *size <= 16)?;
        let aligned = y.stride == 1
            && x.stride == 1
            && y.source == y.targets
            && x.source == x.targets
            && x.taps.saturating_sub(1) * x.dilation <= subgroup;
        let fits = facts.kind == DeviceKind::Software && aligned;
        let pixels = shape.convolution.batch * y.targets * x.targets;
        fits.then(|| Self {
            subgroup,
            span: target_quads.next_power_of_two().clamp(4, SPAN),
            tile: match pixels {
                0..=64 => 1,
                65..=256 => 2,
                257..=1024 => 4,
                _ => 8,
            },
            pointwise: shape.convolution.is_pointwise(),
            block_quads: shape.block_quads,
        })
    }

    /// Of either kernel.
    pub(super) fn defines(self) -> Vec<(&'static str, String)> {
        let mut defines = vec![
            ("BLOCK_QUADS", self.block_quads.to_string()),
            ("SUBGROUP", self.subgroup.to_string()),
            ("SPAN", self.span.to_string()),
            ("TILE", self.tile.to_string()),
            ("FOURS", (self.span / 4).to_string()),
            ("PARTS", (self.tile + 1).to_string()),
        ];
        if self.pointwise {
            defines.push(("POINTWISE", String::new()));
        }
        defines
    }

    pub(super) fn launch(
        self,
        shape: &SparseShape,
        target_quads: u32,
        [y, x]: [&Axis; 2],
        mut defines: Vec<(&'static str, String)>,
        regions: Vec<Region>,
    ) -> Launch {
        let lanes = self.subgroup.max(GROUP_PIXELS / self.tile);
        defines.extend(self.defines());
        defines.extend([
            ("LANES", lanes.to_string()),
            ("UNIT", (self.subgroup / 4).to_string()),
        ]);
        if defines.iter().any(|(name, _)| *name == "MOMENTS") {
            // Quads whose moments stand in the workgroup's memory together.
            defines.push(("QUADS", "4".to_owned()));
        }
        let batch = shape.convolution.batch;
        let params = StripParams {
            pixels: batch * y.targets * x.targets,
            count_y: y.targets,
            count_x: x.targets,
            target_quads,
            spans: target_quads.div_ceil(self.span),
            live: shape.live,
            pieces: shape.pieces(),
            dilation_y: y.dilation,
            dilation_x: x.dilation,
            origin_y: y.origin,
            origin_x: x.origin,
            target_height: y.target,
            target_width: x.target,
            target_plane: batch * y.target * x.target,
            scale_y: y.scale,
            scale_x: x.scale,
            offset_y: y.offset,
            offset_x: x.offset,
            taps_y: y.taps,
            taps_x: x.taps,
            last_y: y.tap_first as u32,
            last_x: x.tap_first as u32,
            step_y: y.tap_step.unsigned_abs(),
            step_x: x.tap_step.unsigned_abs(),
        };
        let groups = params.pixels.div_ceil(lanes * self.tile);
        let grid = folded_grid(u64::from(groups) * u64::from(params.spans));
        Launch::new("conv/sparse_strip.wgsl", &defines, &params, regions, grid)
    }
}

/// The launches that list the live blocks of every span, forward and transposed.
pub(super) fn walks(
    shape: &SparseShape,
    columns: Region,
    walk: Region,
) -> Result<[Launch; 2], SparseError> {
    let convolution = &shape.convolution;
    let regions = vec![
        sized("columns", columns, shape.column_bytes())?,
        sized("walk", walk, shape.walk_bytes())?,
    ];
    let [inputs, outputs] = [convolution.input_quads(), convolution.output_quads()];
    let list = |targets: u32, source_quads: u32, transposed: bool| {
        let params = WalkParams {
            bins: targets.div_ceil(SPAN) * source_quads * convolution.kernel[0],
            source_quads,
            rows: convolution.kernel[0],
            live: shape.live,
            pieces: shape.pieces(),
        };
        let mut defines = vec![
            ("BLOCK_QUADS", shape.block_quads.to_string()),
            ("SPAN", SPAN.to_string()),
        ];
        if transposed {
            defines.push(("TRANSPOSED", String::new()));
        }
        Launch::new(
            "conv/sparse_walk.wgsl",
            &defines,
            &params,
            regions.clone(),
            folded_grid(groups_of(u64::from(params.bins))),
        )
    };
    Ok([list(outputs, inputs, false), list(inputs, outputs, true)])
}

impl SparseShape {
    /// What [`transpose`](super::transpose) writes, made on the host: starts, entries, and the lists that kernels walk.
    #[must_use]
    pub fn lists(&self, columns: &[u32]) -> [Vec<u32>; 3] {
        let live: Vec<u32> = (0..columns.len() as u32)
            .filter(|block| columns[*block as usize] != EMPTY)
            .collect();
        let parts = |block: &u32| column_parts(columns[*block as usize]);
        let mut entries = live.clone();
        entries.sort_by_key(|block| (parts(block)[0], *block));
        let starts = (0..=self.convolution.input_quads())
            .map(|quad| entries.partition_point(|block| parts(block)[0] < quad) as u32)
            .collect();
        let quads = self.block_quads;
        let pieces = live
            .iter()
            .flat_map(|block| block * quads..(block + 1) * quads);
        let piece_parts = |piece: &u32| parts(&(piece / quads));
        let output = |piece: &u32| piece / quads / self.live * quads + piece % quads;
        let mut forward: Vec<u32> = pieces.collect();
        let mut transposed = forward.clone();
        forward.sort_by_key(|piece| {
            let [quad, row, _] = piece_parts(piece);
            (output(piece) / SPAN, quad, row, *piece)
        });
        transposed.sort_by_key(|piece| {
            let [quad, row, _] = piece_parts(piece);
            (quad / SPAN, output(piece), row, *piece)
        });
        // A span's part begins where its slots do.
        let mut walk = Vec::with_capacity(2 * self.pieces() as usize);
        let mut rest = forward.into_iter().peekable();
        let outputs = self.convolution.output_quads();
        for span in 0..outputs.div_ceil(SPAN) {
            while let Some(piece) = rest.next_if(|piece| output(piece) / SPAN == span) {
                walk.push(piece);
            }
            walk.resize(
                (((span + 1) * SPAN).min(outputs) * self.live) as usize,
                EMPTY,
            );
        }
        walk.extend(transposed);
        walk.resize(2 * self.pieces() as usize, EMPTY);
        entries.resize(columns.len(), EMPTY);
        [starts, entries, walk]
    }
}
