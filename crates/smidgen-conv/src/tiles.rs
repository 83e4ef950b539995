//! Launches of the tiles in workgroup memory: the forward pass and the input gradient as implicit matrix products, for GPUs.

use crate::gather::Gather;
use crate::geometry::Axis;
use crate::passes::{extents, gathers};
use crate::select::{dividing, target_quads};
use crate::{ConvolutionShape, Pass, SharedTile};
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, folded_grid, params};

params! {
    /// Uniform of `conv/tiles.wgsl`.
    pub(crate) struct TileParams {
        groups: u32, position_groups: u32, quad_groups: u32, target_quads: u32,
        pixels: u32,
        images: u32, source_quads: u32, source_height: u32, source_width: u32, source_plane: u32,
        stride_y: u32, stride_x: u32, dilation_y: u32, origin_y: i32, origin_x: i32,
        target_height: u32, target_width: u32, target_plane: u32,
        scale_y: u32, scale_x: u32, offset_y: u32, offset_x: u32,
        taps: u32, slots: u32, taps_y: u32, tap_first: i32, tap_step_y: i32, tap_step_x: i32,
    }
}

/// Bytes of workgroup memory that every device has.
pub(crate) const PORTABLE_BYTES: u32 = 16 << 10;
pub(crate) const VECTOR_BYTES: u32 = 16;

impl SharedTile {
    pub(crate) fn lanes(self) -> u32 {
        self.tile_lanes() * self.depth_lanes
    }

    /// Invocations that together compute all pixels by all quads of a workgroup.
    fn tile_lanes(self) -> u32 {
        self.pixel_lanes * self.quad_lanes
    }

    /// Pixels of a workgroup.
    pub(crate) fn all_pixels(self) -> u32 {
        self.pixel_lanes * self.pixels
    }

    /// Target quads of a workgroup.
    pub(crate) fn all_quads(self) -> u32 {
        self.quad_lanes * self.quads
    }

    /// `vec4`s of the weights of a row of `taps` taps.
    fn row_of_weights(self, taps: u32) -> u32 {
        // As in the shader: two more than there are quads.
        taps * self.depth * 4 * (self.all_quads() + 2)
    }
}

/// The map that patches are cut from: an image begins with the padding before it and is as long as lets what lies behind its end fall on
/// padding of the next row or image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PatchMap {
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    /// Pixels of a run that holds all that some target pixels in a row see.
    pub(crate) patch: u32,
}

/// Pixels of a row of the map that patches are cut from, or rows of an image.
fn extent(axis: &Axis) -> u64 {
    let before = u64::from(axis.origin.min(0).unsigned_abs());
    let last = u64::from(axis.targets - 1) * u64::from(axis.stride);
    let span = last + u64::from(axis.taps - 1) * u64::from(axis.dilation) + 1;
    // A target further on never begins before this one.
    span.saturating_sub(before)
        .max(span.min(before + u64::from(axis.source)))
        .max(last + 1)
}

impl PatchMap {
    /// For so many neighbouring target pixels, beginning at a multiple of their number; `None` where there are no taps, or where the map is
    /// larger than a kernel can index.
    pub(crate) fn of(images: u32, y: &Axis, x: &Axis, pixels: u32) -> Option<Self> {
        if y.taps == 0 || x.taps == 0 {
            return None;
        }
        let (rows, columns) = (extent(y), extent(x));
        let whole = u64::from(images + 1)
            .checked_mul(rows)?
            .checked_mul(columns)?;
        let [count_y, count_x, pixels] = [y.targets, x.targets, pixels].map(u64::from);
        let last = pixels - 1;
        // Rows and images that a run of pixels may end behind the one it begins in.
        let row_ends = if pixels % count_x == 0 {
            last / count_x
        } else {
            last.div_ceil(count_x)
        };
        let image = count_y * count_x;
        let image_ends = if pixels % image == 0 {
            last / image
        } else if image % pixels == 0 {
            0
        } else {
            last.div_ceil(image)
        };
        let (row_step, column_step) = (u64::from(y.stride) * columns, u64::from(x.stride));
        // The last pixel stands `row_ends` rows further down (or as few as there can be) and so much further on.
        let run = [last / count_x, row_ends].map(|ends| {
            i128::from(ends * row_step)
                + i128::from(column_step) * (i128::from(last) - i128::from(ends * count_x))
        });
        let between = rows.saturating_sub(count_y * u64::from(y.stride)) * columns;
        let reach = u64::from(y.taps - 1) * u64::from(y.dilation) * columns
            + u64::from(x.taps - 1) * u64::from(x.dilation);
        let run = u64::try_from(run[0].max(run[1])).ok()?;
        let patch = run + image_ends * between + reach + 1;
        (whole + patch < 1 << 31).then_some(Self {
            rows: rows as u32,
            columns: columns as u32,
            // Odd, so that neighbouring quads stand in different banks.
            patch: patch as u32 | 1,
        })
    }
}

/// Rows of taps whose weights are held at a time, and `vec4`s held in all: of the rows as many as fit what every device has.
fn held(tile: SharedTile, map: &PatchMap, taps: [u32; 2], moments: bool) -> (u32, u32) {
    let row = tile.row_of_weights(taps[1]);
    let patch = tile.depth * map.patch;
    let room =
        (tile.depth_lanes * PORTABLE_BYTES / VECTOR_BYTES).saturating_sub(patch) / row.max(1);
    let most = room.clamp(1, taps[0]);
    // No more than as many steps need.
    let rows = taps[0].div_ceil(taps[0].div_ceil(most));
    let added_up = (tile.depth_lanes - 1) * tile.tile_lanes() * tile.quads;
    let held = patch.saturating_add(rows.saturating_mul(row)).max(added_up);
    (
        rows,
        if moments {
            held.max(2 * tile.tile_lanes() * tile.quads)
        } else {
            held
        },
    )
}

/// Whether a tile can compute a pass of a (valid) shape on a device.
pub(crate) fn fits(
    tile: SharedTile,
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
) -> bool {
    let sides = [tile.pixel_lanes, tile.quad_lanes];
    let source_quads = if pass == Pass::InputGradient {
        shape.output_quads()
    } else {
        shape.input_quads()
    };
    pass != Pass::WeightGradient
        && shape.groups == 1
        && [1, 2, 4, 8].contains(&tile.pixels)
        && (1..=4).contains(&tile.quads)
        && sides
            .iter()
            .all(|lanes| lanes.is_power_of_two() && *lanes <= 256)
        && tile.pixel_lanes >= 8
        && (1..=8).contains(&tile.depth_lanes)
        && (32..=facts.max_invocations.min(256)).contains(&tile.lanes())
        && (1..=8).contains(&tile.depth)
        && source_quads.is_multiple_of(tile.depth)
        && tile.depth.is_multiple_of(tile.depth_lanes)
        && gathers(pass, &shape.flattened()).iter().all(|[y, x]| {
            y.taps * x.taps == 0
                || PatchMap::of(shape.flattened().batch, y, x, tile.all_pixels()).is_some_and(
                    |map| {
                        let (_, vectors) = held(tile, &map, [y.taps, x.taps], true);
                        vectors.saturating_mul(VECTOR_BYTES) <= facts.workgroup_memory_bytes
                    },
                )
        })
}

/// A tile of so many invocations, as far as there are target quads for them, of which so many share the source quads.
fn tile_of(
    pass: Pass,
    shape: &ConvolutionShape,
    (pixels, quads, lanes, depth_lanes): (u32, u32, u32, u32),
) -> SharedTile {
    let target_quads = target_quads(pass, shape);
    let source_quads = if pass == Pass::InputGradient {
        shape.output_quads()
    } else {
        shape.input_quads()
    };
    let quads = quads.min(target_quads);
    let one_tap = shape.taps() == 1;
    let lanes = lanes / depth_lanes;
    // At least 64 pixels a workgroup, so that it can take moments. Where there are several taps, pixels that share a patch load the least.
    let wide = if one_tap { 8 } else { 4 };
    let most_lanes = (lanes * pixels / 64).min((wide / depth_lanes).max(2));
    let quad_lanes = target_quads
        .div_ceil(quads)
        .next_power_of_two()
        .min(most_lanes);
    // One tap makes few products of what is held.
    let most_depth = if one_tap { 4 } else { depth_lanes };
    SharedTile {
        pixels,
        quads,
        pixel_lanes: lanes / quad_lanes,
        quad_lanes,
        depth_lanes,
        depth: dividing(source_quads, most_depth),
    }
}

/// Workgroups of a discrete GPU that keep it busy; with fewer, smaller tiles pay, and lanes that share the source quads.
const BUSY_GROUPS: u64 = 256;

/// Tiles of [`tile_of`], each for fewer pixels and target quads than the one before, with the workgroups that it pays with.
const SIZES: [((u32, u32, u32, u32), u64); 4] = [
    ((8, 2, 128, 1), BUSY_GROUPS),
    ((4, 2, 128, 1), BUSY_GROUPS),
    ((4, 2, 128, 2), BUSY_GROUPS / 4 * 3),
    ((4, 2, 128, 4), BUSY_GROUPS / 4),
];

/// The rule where it is a tile: on a discrete GPU, for dense kernels of several taps and stride 1, with channels and pixels enough.
pub(crate) fn default(
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
) -> Option<SharedTile> {
    let quads = shape.input_quads().min(shape.output_quads());
    if facts.kind != DeviceKind::Discrete
        || shape.groups > 1
        || shape.taps() == 1
        || shape.stride != [1, 1]
        || quads < 4
    {
        return None;
    }
    let pixels = if pass == Pass::InputGradient {
        shape.input_plane()
    } else {
        shape.output_plane()
    };
    let groups = |tile: SharedTile| {
        u64::from(pixels.div_ceil(tile.all_pixels()))
            * u64::from(target_quads(pass, shape).div_ceil(tile.all_quads()))
    };
    SIZES
        .map(|(size, least)| (tile_of(pass, shape, size), least))
        .into_iter()
        .find(|(tile, least)| groups(*tile) >= *least && fits(*tile, pass, shape, facts))
        .map(|(tile, _)| tile)
}

/// The tiles that are worth measuring: none on a software device, where workgroup memory is as far away as any other.
pub(crate) fn candidates(
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
) -> Vec<SharedTile> {
    if facts.kind == DeviceKind::Software || shape.groups > 1 {
        return Vec::new();
    }
    [
        (8, 2, 128, 1),
        (4, 2, 128, 1),
        (4, 4, 128, 1),
        (8, 2, 128, 2),
        (4, 2, 128, 2),
        (4, 2, 128, 4),
    ]
    .map(|size| tile_of(pass, shape, size))
    .into()
}

impl Gather<'_> {
    /// The same in workgroup memory. Targets that no tap reaches are left to the kernel that holds nothing.
    pub(crate) fn shared(&self, tile: SharedTile, y: Axis, x: Axis) -> Option<Launch> {
        if y.taps * x.taps == 0 {
            return self.taps(y, x);
        }
        self.tiled(tile, y, x, None)
    }

    /// So many matrix products of the sizes of the shape, one behind the other in every region.
    pub(crate) fn products(&self, tile: SharedTile, positions: u32) -> Option<Launch> {
        let [y, x] = extents(self.shape).map(Axis::forward);
        self.tiled(tile, y, x, Some(positions))
    }

    fn tiled(&self, tile: SharedTile, y: Axis, x: Axis, positions: Option<u32>) -> Option<Launch> {
        let shape = self.shape;
        let map = PatchMap::of(shape.batch, &y, &x, tile.all_pixels())?;
        let mut defines = self.flags(false);
        defines.extend(positions.map(|_| ("POSITIONS", String::new())));
        if tile.depth_lanes > 1 {
            defines.push(("AHEAD", String::new()));
        }
        // Where a tap is a step from every pixel anyway, one kernel serves maps of all sizes.
        let endless = shape.batch * y.targets == 1 && y.taps * x.taps == 1;
        let across = |pixels: u32| if endless { u32::MAX } else { pixels };
        let moments = defines.iter().any(|(name, _)| *name == "MOMENTS");
        let (tap_rows, held) = held(tile, &map, [y.taps, x.taps], moments);
        let (source_quads, target_quads) = (self.source_quads(), self.target_quads());
        let weights = tap_rows * x.taps * tile.depth * 4 * tile.all_quads();
        defines.extend(
            [
                ("COLUMNS", across(map.columns)),
                ("COUNT_X", across(x.targets)),
                ("COUNT_Y", y.targets),
                ("DEPTH", tile.depth),
                ("DEPTH_LANES", tile.depth_lanes),
                ("DILATION_X", x.dilation),
                ("HELD", held),
                ("LANES", tile.lanes()),
                ("PATCH", map.patch),
                ("PATCH_LOADS", map.patch.div_ceil(tile.lanes())),
                ("PIXEL_LANES", tile.pixel_lanes),
                ("QUADS", tile.quads),
                ("QUAD_LANES", tile.quad_lanes),
                ("ROWS", map.rows),
                ("TAPS_X", x.taps),
                ("TAP_ROWS", tap_rows),
                ("TILE", tile.pixels),
                ("WEIGHT_LOADS", weights.div_ceil(tile.lanes())),
            ]
            .map(|(name, value)| (name, value.to_string())),
        );
        let pixels = shape.batch * y.targets * x.targets;
        let quad_groups = target_quads.div_ceil(tile.all_quads());
        let position_groups = pixels.div_ceil(tile.all_pixels()) * quad_groups;
        let groups = u64::from(position_groups) * u64::from(positions.unwrap_or(1));
        let kernel_x = shape.kernel[1] as i32;
        let params = TileParams {
            groups: groups as u32,
            position_groups,
            quad_groups,
            target_quads,
            pixels,
            images: shape.batch,
            source_quads,
            source_height: y.source,
            source_width: x.source,
            source_plane: shape.batch * y.source * x.source,
            stride_y: y.stride,
            stride_x: x.stride,
            dilation_y: y.dilation,
            origin_y: y.origin,
            origin_x: x.origin,
            target_height: y.target,
            target_width: x.target,
            target_plane: shape.batch * y.target * x.target,
            scale_y: y.scale,
            scale_x: x.scale,
            offset_y: y.offset,
            offset_x: x.offset,
            taps: shape.taps(),
            slots: shape.slots(),
            taps_y: y.taps,
            tap_first: y.tap_first * kernel_x + x.tap_first,
            tap_step_y: y.tap_step * kernel_x,
            tap_step_x: x.tap_step,
        };
        Some(Launch::new(
            "conv/tiles.wgsl",
            &defines,
            &params,
            self.regions.clone(),
            folded_grid(groups),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn the_parameters_match_their_shader() {
        assert_params_match::<TileParams>("conv/tiles.wgsl");
    }

    /// Every tap of every pixel of every run reads what it should, and inside of its patch.
    #[test]
    fn a_patch_holds_what_its_pixels_see() {
        for (height, width, kernel, stride, padding, dilation) in [
            (8, 8, 3, 1, 1, 1),
            (7, 5, 3, 1, 1, 1),
            (9, 11, 3, 2, 1, 1),
            (3, 2, 5, 1, 2, 1),
            (11, 12, 3, 2, 2, 2),
            (10, 11, 2, 3, 0, 1),
            (1, 1, 3, 1, 1, 1),
            (6, 40, 1, 1, 0, 1),
            (5, 6, 3, 1, 9, 2),
            (23, 21, 7, 1, 0, 1),
        ] {
            let shape = ConvolutionShape::new(3, [4, height, width], 4, [kernel; 2]);
            let shape = shape
                .with_stride(stride)
                .with_padding(padding)
                .with_dilation(dilation);
            for pass in [Pass::Forward, Pass::InputGradient] {
                for [y, x] in gathers(pass, &shape.flattened()) {
                    for pixels in [8, 16, 64] {
                        check(shape.batch, &y, &x, pixels);
                    }
                }
            }
        }
    }

    fn check(images: u32, y: &Axis, x: &Axis, pixels: u32) {
        let Some(map) = PatchMap::of(images, y, x, pixels) else {
            assert_eq!(y.taps * x.taps, 0);
            return;
        };
        let place = |at: u32, height: u32, width: u32| {
            [at / width / height, at / width % height, at % width]
        };
        let first_tap = |pixel: u32| {
            let [image, row, column] = place(pixel, y.targets, x.targets);
            (image * map.rows + row * y.stride) * map.columns + column * x.stride
        };
        let inside = |[row, column]: [i64; 2]| {
            (0..i64::from(y.source)).contains(&row) && (0..i64::from(x.source)).contains(&column)
        };
        for pixel in 0..images * y.targets * x.targets {
            let begin = first_tap(pixel / pixels * pixels);
            let [image, row, column] = place(pixel, y.targets, x.targets);
            for tap_y in 0..y.taps {
                for tap_x in 0..x.taps {
                    let at =
                        first_tap(pixel) + tap_y * y.dilation * map.columns + tap_x * x.dilation;
                    assert!(at - begin < map.patch, "{pixels} pixels, {y:?}, {x:?}");
                    let [found_image, found_row, found_column] = place(at, map.rows, map.columns);
                    let found = [
                        i64::from(found_row) + i64::from(y.origin),
                        i64::from(found_column) + i64::from(x.origin),
                    ];
                    let expected = [
                        i64::from(row * y.stride + tap_y * y.dilation) + i64::from(y.origin),
                        i64::from(column * x.stride + tap_x * x.dilation) + i64::from(x.origin),
                    ];
                    if inside(expected) {
                        assert_eq!((found_image, found), (image, expected), "{y:?}, {x:?}");
                    } else {
                        assert!(found_image >= images || !inside(found), "{y:?}, {x:?}");
                    }
                }
            }
        }
    }
}
