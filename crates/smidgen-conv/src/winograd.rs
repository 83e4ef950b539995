//! Launches of Winograd's minimal filtering: 3x3 kernels of stride 1, forward and input gradient.
//!
//! Slabs of tiles are transformed, multiplied with the transformed weights position by position, and transformed back, in a workspace whose
//! size does not grow with the batch. Large weights are transformed in chunks of target quads, each when it is needed.

use crate::gather::{Gather, groups_of};
use crate::select::{dividing, subgroup, target_quads};
use crate::shape::QUAD_BYTES;
use crate::{ConvolutionShape, GatherTile, Pass, SharedTile};
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, Source, folded_grid, params};

params! {
    /// Uniform of `conv/winograd_weight.wgsl`.
    pub(crate) struct WinogradWeightParams { rows: u32, first_quad: u32, source_quads: u32, slots: u32 }
}

params! {
    /// Uniform of `conv/winograd_input.wgsl`.
    pub(crate) struct WinogradInputParams {
        stride: u32, first_tile: u32, tiles: u32, tiles_y: u32, tiles_x: u32, quads: u32,
        source_height: u32, source_width: u32, source_plane: u32, origin_y: i32, origin_x: i32,
    }
}

params! {
    /// Uniform of `conv/winograd_product.wgsl`.
    pub(crate) struct WinogradProductParams {
        groups: u32, stride: u32, tile_groups: u32, quad_groups: u32, source_quads: u32,
    }
}

params! {
    /// Uniform of `conv/winograd_output.wgsl`.
    pub(crate) struct WinogradOutputParams {
        stride: u32, first_tile: u32, tiles: u32, tiles_y: u32, tiles_x: u32, quads: u32, first_quad: u32,
        target_height: u32, target_width: u32, target_plane: u32,
    }
}

/// The transformed source and the product of a slab take about so much at most. More would save a few launches only.
const MOST_SLAB_BYTES: u64 = 5 << 20;
/// A discrete GPU needs larger ones, or each launch would leave most of it idle.
const MOST_DISCRETE_BYTES: u64 = 32 << 20;
/// A chunk of the transformed weight takes so much, or as much as the weight itself or a map.
const CHUNK_BYTES: u64 = 1 << 20;

/// Regions begin on a multiple of this, the most that a device may ask for.
const ALIGNMENT: u64 = 256;

/// Whether the method can compute this pass of a (valid) shape.
pub(crate) fn fits(size: u32, pass: Pass, shape: &ConvolutionShape) -> bool {
    [2, 4].contains(&size)
        && pass != Pass::WeightGradient
        && shape.kernel == [3, 3]
        && shape.stride == [1, 1]
        && shape.dilation == [1, 1]
        && shape.groups == 1
}

/// What a pass is bound to.
pub(crate) struct Bound {
    pub(crate) source: Source,
    pub(crate) weight: Region,
    pub(crate) bias: Option<Region>,
    pub(crate) destination: Region,
    /// [`Winograd::workspace`] bytes.
    pub(crate) workspace: Region,
    pub(crate) accumulate: bool,
    /// The activation whose derivative the result is multiplied with.
    pub(crate) derivative: Option<Source>,
}

/// One pass of one shape.
pub(crate) struct Winograd {
    size: u32,
    transposed: bool,
    slots: u32,
    batch: u32,
    /// Height and width.
    source: [u32; 2],
    target: [u32; 2],
    origin: [i32; 2],
    source_quads: u32,
    target_quads: u32,
    /// Target quads of a chunk, a divisor of them all.
    chunk: u32,
    /// Tiles of a slab: a multiple of those of a workgroup, `tile` for each of its `lanes`.
    slab: u32,
    tile: u32,
    lanes: u32,
    subgroup: Option<u32>,
    /// The tile in workgroup memory by which a GPU computes the products.
    shared: Option<SharedTile>,
}

impl Winograd {
    pub(crate) fn of(size: u32, pass: Pass, shape: &ConvolutionShape, facts: &DeviceFacts) -> Self {
        let transposed = pass == Pass::InputGradient;
        let input = [shape.input_height, shape.input_width];
        let output = [shape.output_height(), shape.output_width()];
        let (source, target) = if transposed {
            (output, input)
        } else {
            (input, output)
        };
        let mut this = Self {
            size,
            transposed,
            slots: shape.slots(),
            batch: shape.batch,
            source,
            target,
            // The input gradient takes the taps in reverse.
            origin: shape.padding.map(|padding| {
                if transposed {
                    padding as i32 - 2
                } else {
                    -(padding as i32)
                }
            }),
            source_quads: if transposed {
                shape.output_quads()
            } else {
                shape.input_quads()
            },
            target_quads: target_quads(pass, shape),
            chunk: 0,
            slab: 0,
            tile: 0,
            // A software device runs a subgroup at a time, and small workgroups leave few tiles over.
            lanes: if facts.kind == DeviceKind::Software {
                16
            } else {
                64
            },
            subgroup: subgroup(facts).filter(|_| facts.kind == DeviceKind::Software),
            shared: None,
        };
        let (weight, maps) = (
            shape.weight_bytes(),
            shape.input_bytes() + shape.output_bytes(),
        );
        let quad = this.weight_bytes(1);
        let most_quads =
            (weight.max(maps / 2).max(CHUNK_BYTES) / quad).clamp(1, u64::from(this.target_quads));
        this.chunk = dividing(this.target_quads, most_quads as u32);
        this.tile = this.tiles().div_ceil(this.lanes).clamp(1, 4);
        // Maps of few tiles make small slabs: the workspace should not dwarf what the layer has anyway.
        let most_bytes = if facts.kind == DeviceKind::Discrete {
            MOST_DISCRETE_BYTES
        } else {
            MOST_SLAB_BYTES
        };
        let room = ((maps + weight) / 4 * 5).min(most_bytes);
        let unit = this.lanes * this.tile;
        let tile_bytes = this.map_bytes(this.source_quads, 1) + this.map_bytes(this.chunk, 1);
        let fitting = (room / (tile_bytes * u64::from(unit))).max(1) as u32;
        let units = this.tiles().div_ceil(unit);
        // Slabs of one size, so that none is mostly empty.
        this.slab = units.div_ceil(units.div_ceil(fitting)) * unit;
        let shared = this.shared_tile();
        // Where it is not filled, smaller ones are faster.
        let filled = this.slab >= 2 * shared.all_pixels();
        this.shared = (facts.kind != DeviceKind::Software && filled).then_some(shared);
        this
    }

    fn shared_tile(&self) -> SharedTile {
        let quad_lanes = match self.chunk {
            0..=4 => 2,
            5..=8 => 4,
            _ => 8,
        };
        SharedTile {
            pixels: 8,
            quads: 2,
            pixel_lanes: 128 / quad_lanes,
            quad_lanes,
            depth_lanes: 1,
            depth: dividing(self.source_quads, 4),
        }
    }

    fn positions(&self) -> u32 {
        (self.size + 2) * (self.size + 2)
    }

    fn tiles_of(&self) -> [u32; 2] {
        self.target.map(|extent| extent.div_ceil(self.size))
    }

    fn tiles(&self) -> u32 {
        let [rows, columns] = self.tiles_of();
        self.batch * rows * columns
    }

    /// `vec4`s of one position of a transformed weight of so many target quads.
    fn weight_rows(&self, quads: u32) -> u32 {
        quads * self.source_quads * 4
    }

    fn weight_bytes(&self, quads: u32) -> u64 {
        u64::from(self.positions()) * u64::from(self.weight_rows(quads)) * QUAD_BYTES
    }

    fn map_bytes(&self, quads: u32, tiles: u32) -> u64 {
        u64::from(self.positions()) * u64::from(quads) * u64::from(tiles) * QUAD_BYTES
    }

    /// The transformed weight of a chunk, and the transformed source and the product of a slab, each from an aligned place on.
    fn parts(&self) -> [u64; 3] {
        [
            self.weight_bytes(self.chunk),
            self.map_bytes(self.source_quads, self.slab),
            self.map_bytes(self.chunk, self.slab),
        ]
        .map(|bytes| bytes.next_multiple_of(ALIGNMENT))
    }

    /// Bytes that [`launches`](Self::launches) needs.
    pub(crate) fn workspace(&self) -> u64 {
        self.parts().iter().sum()
    }

    /// Whether it is worth measuring: the workspace is small against what the layer has anyway, and there are channels enough for the
    /// products to outweigh the transforms.
    pub(crate) fn may_pay(&self, shape: &ConvolutionShape) -> bool {
        let held = shape.input_bytes() + shape.output_bytes() + shape.weight_bytes();
        self.source_quads.min(self.target_quads) >= 4 && self.workspace() <= 2 * held
    }

    /// Whether it is the rule on a software device: by what was measured there, in products of a quad by a quad at one position. One
    /// takes 1.4 times as long as one of the direct kernel (which reads each pixel for three taps), a transform as long as 4, and
    /// transforming a weight as long as 6 products.
    pub(crate) fn pays(&self, shape: &ConvolutionShape) -> bool {
        let [source, target] = [self.source_quads, self.target_quads].map(u64::from);
        let slabs = u64::from(self.tiles().div_ceil(self.slab));
        let tiles = slabs * u64::from(self.slab);
        let weights = if self.chunk < self.target_quads {
            slabs
        } else {
            1
        };
        let products = (tiles + 6 * weights) * source * target;
        let cost = u64::from(self.positions()) * (14 * products + 40 * tiles * (source + target));
        let [height, width] = self.target.map(u64::from);
        let direct = 90 * u64::from(self.batch) * height * width * source * target;
        cost <= direct && self.may_pay(shape)
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut defines = vec![
            ("ALPHA", (self.size + 2).to_string()),
            ("SIZE", self.size.to_string()),
        ];
        if self.size == 4 {
            defines.push(("LARGE", String::new()));
        }
        defines
    }

    /// The whole pass: slab after slab, and chunk after chunk of each.
    pub(crate) fn launches(&self, bound: &Bound) -> Vec<Launch> {
        let mut front = bound.workspace.offset;
        let [weight, transformed, product] = self.parts().map(|size| {
            let region = Region {
                offset: front,
                size,
                ..bound.workspace
            };
            front += size;
            region
        });
        let chunks = (0..self.target_quads).step_by(self.chunk as usize);
        let mut launches = Vec::new();
        for first_tile in (0..self.tiles()).step_by(self.slab as usize) {
            launches.push(self.input(bound, transformed, first_tile));
            for first_quad in chunks.clone() {
                // A weight in one chunk stays for all slabs.
                if first_tile == 0 || self.chunk < self.target_quads {
                    launches.push(self.weight(bound, weight, first_quad));
                }
                launches.push(self.product(weight, transformed, product));
                launches.push(self.output(bound, product, first_tile, first_quad));
            }
        }
        launches
    }

    fn weight(&self, bound: &Bound, weight: Region, first_quad: u32) -> Launch {
        let mut defines = self.defines();
        if self.transposed {
            defines.push(("TRANSPOSED", String::new()));
        }
        let params = WinogradWeightParams {
            rows: self.weight_rows(self.chunk),
            first_quad,
            source_quads: self.source_quads,
            slots: self.slots,
        };
        let grid = folded_grid(groups_of(u64::from(params.rows)));
        let regions = vec![bound.weight, weight];
        Launch::new(
            "conv/winograd_weight.wgsl",
            &defines,
            &params,
            regions,
            grid,
        )
    }

    fn input(&self, bound: &Bound, transformed: Region, first_tile: u32) -> Launch {
        let mut defines = self.defines();
        defines.extend(bound.source.defines());
        let [tiles_y, tiles_x] = self.tiles_of();
        let [source_height, source_width] = self.source;
        let params = WinogradInputParams {
            stride: self.slab,
            first_tile,
            tiles: self.tiles(),
            tiles_y,
            tiles_x,
            quads: self.source_quads,
            source_height,
            source_width,
            source_plane: self.batch * source_height * source_width,
            origin_y: self.origin[0],
            origin_x: self.origin[1],
        };
        let mut regions = vec![bound.source.region];
        regions.extend(bound.source.normalisation);
        regions.push(transformed);
        let grid = self.slab_grid(self.source_quads);
        Launch::new("conv/winograd_input.wgsl", &defines, &params, regions, grid)
    }

    fn product(&self, weight: Region, transformed: Region, product: Region) -> Launch {
        let by_tiles = self.shared.and_then(|tile| {
            let [source, target] = [self.source_quads, self.chunk].map(|quads| quads * 4);
            let gather = Gather {
                shape: &ConvolutionShape::new(1, [source, 1, self.slab], target, [1, 1]),
                // Every tile is reached by its one tap.
                tile: GatherTile {
                    pixels: 1,
                    quads: 1,
                    subgroup: None,
                },
                transposed: false,
                accumulate: false,
                bias: false,
                source: Vec::new(),
                regions: vec![transformed, weight, product],
            };
            gather.products(tile, self.positions())
        });
        if let Some(launch) = by_tiles {
            return launch;
        }
        let most_quads = if self.subgroup.is_some() { 4 } else { 2 };
        let quads = dividing(self.chunk, most_quads);
        let mut defines = vec![
            ("LANES", self.lanes.to_string()),
            ("QUADS", quads.to_string()),
            ("TILE", self.tile.to_string()),
        ];
        if let Some(size) = self.subgroup {
            defines.push(("SUBGROUP", size.to_string()));
            defines.push(("LOADS", (quads * 4).div_ceil(size).to_string()));
        }
        let tile_groups = self.slab / (self.lanes * self.tile);
        let quad_groups = self.chunk / quads;
        let all = u64::from(self.positions()) * u64::from(tile_groups) * u64::from(quad_groups);
        let params = WinogradProductParams {
            groups: all as u32,
            stride: self.slab,
            tile_groups,
            quad_groups,
            source_quads: self.source_quads,
        };
        let regions = vec![transformed, weight, product];
        Launch::new(
            "conv/winograd_product.wgsl",
            &defines,
            &params,
            regions,
            folded_grid(all),
        )
    }

    fn output(&self, bound: &Bound, product: Region, first_tile: u32, first_quad: u32) -> Launch {
        let mut defines = self.defines();
        if bound.accumulate {
            defines.push(("ACCUMULATE", String::new()));
        }
        let mut regions = vec![product];
        if let Some(bias) = bound.bias {
            defines.push(("BIAS", String::new()));
            regions.push(bias);
        }
        if let Some(derivative) = bound.derivative {
            defines.push(("DERIVATIVE", String::new()));
            defines.extend(derivative.defines());
            regions.extend(derivative.normalisation);
            regions.push(derivative.region);
        }
        regions.push(bound.destination);
        let [tiles_y, tiles_x] = self.tiles_of();
        let [target_height, target_width] = self.target;
        let params = WinogradOutputParams {
            stride: self.slab,
            first_tile,
            tiles: self.tiles(),
            tiles_y,
            tiles_x,
            quads: self.chunk,
            first_quad,
            target_height,
            target_width,
            target_plane: self.batch * target_height * target_width,
        };
        let grid = self.slab_grid(self.chunk);
        Launch::new(
            "conv/winograd_output.wgsl",
            &defines,
            &params,
            regions,
            grid,
        )
    }

    fn slab_grid(&self, quads: u32) -> [u32; 3] {
        folded_grid(groups_of(u64::from(self.slab) * u64::from(quads)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn the_parameters_match_their_shaders() {
        assert_params_match::<WinogradWeightParams>("conv/winograd_weight.wgsl");
        assert_params_match::<WinogradInputParams>("conv/winograd_input.wgsl");
        assert_params_match::<WinogradProductParams>("conv/winograd_product.wgsl");
        assert_params_match::<WinogradOutputParams>("conv/winograd_output.wgsl");
    }
}
