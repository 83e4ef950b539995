//! The choice of variants: pure functions of pass, shape and device, apart from the launches.

use crate::weight_gradient::{share_steps, workgroups_of_share};
use crate::winograd::{self, Winograd};
use crate::{
    BlockTile, ConvolutionShape, GatherTile, Pass, ShapeError, Variant, strips, tiles,
    weight_product, weight_tiles,
};
use smidgen_gpu::{DeviceFacts, DeviceKind};

/// The variants of a pass that are worth measuring on a device. The first is the one to take where nothing is measured: a rule that gives
/// the same answer every time and in every budget, so its workspace is part of the operation. The others are those that need no more than
/// `room` bytes of workspace.
///
/// # Errors
/// A shape that is not valid.
pub fn candidates(
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    room: u64,
) -> Result<Vec<Variant>, ShapeError> {
    let default = choose(None, pass, shape, facts)?;
    let others: Vec<Variant> = if pass == Pass::WeightGradient {
        let tiles = block_tiles(shape, facts, room).into_iter();
        let shared = weight_tiles::candidates(shape, facts, room).into_iter();
        let products = weight_product::candidates(shape, facts, room).into_iter();
        strip_tiles(pass, shape, facts)
            .chain(shared.map(Variant::SharedBlocks))
            .chain(products.map(Variant::Product))
            .chain(tiles.map(Variant::Blocks))
            .collect()
    } else {
        let mut tiles = gather_tiles(pass, shape, facts);
        if matches!(default, Variant::Winograd(_)) {
            // Where it is the default it is mostly twice as fast as any of them; one is there in case that it is not.
            tiles.truncate(1);
        }
        let sizes = [4, 2].into_iter().filter(|size| {
            winograd::fits(*size, pass, shape) && {
                let method = Winograd::of(*size, pass, shape, facts);
                method.may_pay(shape) && method.workspace() <= room
            }
        });
        let shared = tiles::candidates(pass, shape, facts).into_iter();
        strip_tiles(pass, shape, facts)
            .chain(shared.map(Variant::Tiles))
            .chain(tiles.into_iter().map(Variant::Gather))
            .chain(sizes.map(Variant::Winograd))
            .collect()
    };
    let mut met = std::collections::HashSet::new();
    let mut candidates = vec![default];
    candidates.extend(others);
    candidates.retain(|variant| met.insert(*variant) && fits(*variant, pass, shape, facts));
    Ok(candidates)
}

/// Whether `variant` can compute this pass of a (valid) shape on a device. A variant that was written down elsewhere may not.
#[must_use]
pub fn fits(variant: Variant, pass: Pass, shape: &ConvolutionShape, facts: &DeviceFacts) -> bool {
    let tiled = |pixels: u32| [1, 2, 4, 8].contains(&pixels);
    match (variant, pass) {
        (Variant::Gather(tile), Pass::Forward | Pass::InputGradient) => {
            tiled(tile.pixels)
                && (1..=8).contains(&tile.quads)
                && tile.pixels * tile.quads <= 32
                && target_quads(pass, shape).is_multiple_of(tile.quads)
                && (shape.groups == 1 || tile.quads == 1)
                && (tile.subgroup.is_none()
                    || !shape.is_depthwise() && tile.subgroup == subgroup(facts))
        }
        (Variant::Tiles(tile), _) => tiles::fits(tile, pass, shape, facts),
        (Variant::SharedBlocks(tile), Pass::WeightGradient) => {
            weight_tiles::fits(tile, shape, facts)
        }
        (Variant::Product(tile), Pass::WeightGradient) => weight_product::fits(tile, shape, facts),
        (Variant::Strips(tile), _) => strips::fits(tile, shape, facts),
        (Variant::Winograd(size), _) => winograd::fits(size, pass, shape),
        (Variant::Blocks(tile), Pass::WeightGradient) => {
            let counted = (1..=256).contains(&tile.shares) && tiled(tile.pixels);
            if shape.is_depthwise() {
                return counted && tile == depthwise_blocks(shape, tile.pixels, tile.shares);
            }
            let sides = [tile.output_quads, tile.input_quads];
            counted
                && (1..=shape.kernel[1].min(8)).contains(&tile.taps)
                && sides.iter().all(|quads| (1..=8).contains(quads))
                && shape.output_quads().is_multiple_of(tile.output_quads)
                && shape.slots().is_multiple_of(tile.input_quads)
                && (shape.groups == 1 || sides == [1, 1])
                && tile.lanes.is_power_of_two()
                && (4..=facts.max_invocations.min(256)).contains(&tile.lanes)
                && tile.blocks() * 4 * 16 * tile.lanes <= facts.workgroup_memory_bytes.min(16 << 10)
        }
        _ => false,
    }
}

/// The given variant, or the default where none is given.
pub(crate) fn choose(
    given: Option<Variant>,
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
) -> Result<Variant, ShapeError> {
    shape.validate()?;
    let Some(variant) = given else {
        let software = facts.kind == DeviceKind::Software;
        if strips::can(shape) && (software || pass != Pass::Forward) {
            return Ok(Variant::Strips(strips::default(pass, shape, facts)));
        }
        return Ok(match pass {
            Pass::WeightGradient => {
                if let Some(tile) = weight_tiles::default(shape, facts) {
                    Variant::SharedBlocks(tile)
                } else if let Some(tile) = weight_product::default(shape, facts) {
                    Variant::Product(tile)
                } else {
                    Variant::Blocks(default_blocks(shape, facts, u64::MAX))
                }
            }
            _ => {
                if software
                    && winograd::fits(4, pass, shape)
                    && Winograd::of(4, pass, shape, facts).pays(shape)
                {
                    Variant::Winograd(4)
                } else if let Some(tile) = tiles::default(pass, shape, facts) {
                    Variant::Tiles(tile)
                } else {
                    Variant::Gather(default_gather(pass, shape, facts))
                }
            }
        });
    };
    if fits(variant, pass, shape, facts) {
        Ok(variant)
    } else {
        Err(ShapeError::UnfitVariant { variant, pass })
    }
}

/// The variant that computes a part of the output channels of `whole` to the same bits as the given variant (or the default) computes all of them;
/// of a depthwise layer, which has these channels on either side, that of its weight gradient too. `None` where none does.
///
/// # Errors
/// A shape that is not valid, or a variant that does not fit it.
pub fn variant_of_part(
    given: Option<Variant>,
    pass: Pass,
    (whole, part): (&ConvolutionShape, &ConvolutionShape),
    facts: &DeviceFacts,
) -> Result<Option<Variant>, ShapeError> {
    part.validate()?;
    let variant = match choose(given, pass, whole, facts)? {
        // Which quads an invocation takes together changes nothing in the sum of any.
        Variant::Gather(tile) => Variant::Gather(GatherTile {
            quads: dividing(target_quads(pass, part), tile.quads),
            ..tile
        }),
        variant => variant,
    };
    let same = match pass {
        // Winograd's products of another number of channels are tiled in another way.
        Pass::Forward => !matches!(variant, Variant::Winograd(_)),
        Pass::WeightGradient => part.is_depthwise(),
        Pass::InputGradient => false,
    };
    Ok(Some(variant).filter(|variant| same && fits(*variant, pass, part, facts)))
}

impl GatherTile {
    /// The defines of this tile.
    pub(crate) fn defines(self) -> Vec<(&'static str, String)> {
        let mut defines = vec![
            ("QUADS", self.quads.to_string()),
            ("TILE", self.pixels.to_string()),
        ];
        if let Some(size) = self.subgroup {
            defines.push(("SUBGROUP", size.to_string()));
            defines.push(("LOADS", (self.quads * 4).div_ceil(size).to_string()));
        }
        defines
    }
}

impl BlockTile {
    /// Blocks that the workgroup sums.
    pub(crate) fn blocks(self) -> u32 {
        self.output_quads * self.taps * self.input_quads
    }
}

/// Neighbouring pixels of a row that one invocation takes: as many, up to `most`, as waste little of the row.
pub(crate) fn row_tile(count: u32, most: u32) -> u32 {
    [8, 4, 2]
        .into_iter()
        .filter(|tile| *tile <= most)
        .find(|tile| count.next_multiple_of(*tile) * 3 <= count * 4)
        .unwrap_or(1)
}

/// The largest divisor of `quads` up to `most`, so that no quad is left over.
pub(crate) fn dividing(quads: u32, most: u32) -> u32 {
    (1..=most)
        .rev()
        .find(|size| quads.is_multiple_of(*size))
        .unwrap_or(1)
}

/// The size of a device's subgroups, where all have the same.
pub(crate) fn subgroup(facts: &DeviceFacts) -> Option<u32> {
    facts
        .subgroup_sizes
        .filter(|(least, most)| least == most && (4..=64).contains(most))
        .map(|(_, most)| most)
}

/// Quads that a gathering pass computes.
pub(crate) fn target_quads(pass: Pass, shape: &ConvolutionShape) -> u32 {
    if pass == Pass::InputGradient {
        shape.input_quads()
    } else {
        shape.output_quads()
    }
}

/// What the tiles of a gathering pass have to cover.
struct Targets {
    /// Pixels side by side: of a row, or of all for a matrix product.
    pixels: u32,
    quads: u32,
    /// Rows of pixels, of all images.
    rows: u32,
    /// Whether this is a product over pixels, whose tiles stride.
    product: bool,
}

fn targets(pass: Pass, shape: &ConvolutionShape) -> Targets {
    let flat = shape.flattened();
    let pixels = if pass == Pass::InputGradient {
        // Of the first residue of the stride; the others have as many, or one less.
        flat.input_width.div_ceil(flat.stride[1])
    } else {
        flat.output_width()
    };
    let quads = if shape.groups > 1 {
        1
    } else {
        target_quads(pass, shape)
    };
    let height = if pass == Pass::InputGradient {
        flat.input_height.div_ceil(flat.stride[0])
    } else {
        flat.output_height()
    };
    Targets {
        pixels,
        quads,
        rows: flat.batch * height,
        product: shape.is_pointwise() && shape.groups == 1,
    }
}

impl Targets {
    /// As much of a tile of `pixels` by `quads` as wastes little.
    fn tile(&self, pixels: u32, quads: u32, subgroup: Option<u32>) -> GatherTile {
        let pixels = if self.product {
            // As many as still fill a workgroup.
            match self.pixels {
                0..=64 => 1,
                65..=128 => pixels.min(2),
                _ => pixels.min(4),
            }
        } else {
            // No larger than leaves a workgroup filled.
            let mut tile = row_tile(self.pixels, pixels);
            while tile > 1 && self.rows * self.pixels.div_ceil(tile) < 64 {
                tile /= 2;
            }
            tile
        };
        GatherTile {
            pixels,
            quads: dividing(self.quads, quads),
            subgroup,
        }
    }
}

/// Where a subgroup shares the weights, a large tile pays; where a software device cannot share them, each weight should meet the most
/// pixels; a GPU wants more, smaller invocations.
pub(crate) fn default_gather(
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
) -> GatherTile {
    let targets = targets(pass, shape);
    let software = facts.kind == DeviceKind::Software;
    if shape.is_depthwise() {
        return targets.tile(if software { 4 } else { 2 }, 1, None);
    }
    // A software device pays dearly for every load, even of one address by all lanes; a GPU broadcasts such a load by itself.
    if let Some(size) = subgroup(facts).filter(|_| software) {
        return targets.tile(4, 4, Some(size));
    }
    let most = if software { 8 } else { 4 };
    let tile = targets.tile(most, 1, None);
    let most_quads = match (software, targets.product) {
        (true, true) => (8 / tile.pixels).min(4),
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => (8 / tile.pixels).min(2),
    };
    targets.tile(most, most_quads, None)
}

/// The default and what may beat it.
fn gather_tiles(pass: Pass, shape: &ConvolutionShape, facts: &DeviceFacts) -> Vec<GatherTile> {
    let targets = targets(pass, shape);
    let mut tiles = vec![default_gather(pass, shape, facts)];
    if shape.is_depthwise() {
        tiles.extend([8, 4, 2].map(|pixels| targets.tile(pixels, 1, None)));
        return tiles;
    }
    let software = facts.kind == DeviceKind::Software;
    if let Some(size) = subgroup(facts) {
        let sizes: &[_] = if software {
            &[(8, 2), (4, 2), (2, 4), (4, 4)]
        } else {
            &[(4, 4), (4, 2), (2, 4)]
        };
        tiles.extend(sizes.iter().map(|(p, q)| targets.tile(*p, *q, Some(size))));
    }
    // On a software device whose subgroups share, they lose by several times.
    if !software {
        tiles.extend([(2, 2), (2, 4)].map(|(p, q)| targets.tile(p, q, None)));
    } else if subgroup(facts).is_none() {
        tiles.extend([(8, 1), (4, 1), (2, 2), (2, 4)].map(|(p, q)| targets.tile(p, q, None)));
    }
    tiles
}

/// The default and what may beat it. Their results of shares are small, and are not made to depend on the room: the same run in another
/// budget should give the same bits where nothing is measured.
fn strip_tiles(
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
) -> impl Iterator<Item = Variant> {
    let sizes: &[(u32, f64, f64)] = if strips::can(shape) {
        &[
            (4, 1.0, 1.0),
            (8, 1.0, 1.0),
            (2, 1.0, 1.0),
            (4, 0.5, 1.0),
            (4, 2.0, 1.0),
            (4, 1.0, 4.0),
        ]
    } else {
        &[]
    };
    let tile = move |(pixels, rows, shares): &(u32, f64, f64)| {
        Variant::Strips(strips::with(pass, shape, facts, *pixels, *rows, *shares))
    };
    sizes.iter().map(tile).collect::<Vec<_>>().into_iter()
}

fn depthwise_blocks(shape: &ConvolutionShape, pixels: u32, shares: u32) -> BlockTile {
    BlockTile {
        output_quads: 1,
        taps: shape.kernel[1],
        input_quads: 1,
        pixels,
        lanes: 64,
        shares,
    }
}

pub(crate) fn default_blocks(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    room: u64,
) -> BlockTile {
    let software = facts.kind == DeviceKind::Software;
    let row = shape.kernel[1];
    let grouped = shape.groups > 1;
    let taps = row.div_ceil(row.div_ceil(3));
    // Where workgroup memory is plain memory, larger tiles pay: each loaded value meets more of the others.
    let large = taps == 1 || software;
    // A software device has few registers: it wants many blocks of few pixels. A 1x1 kernel, whose pixels meet in no window, spends most of its
    // time on loads, unless it has as many blocks as only much work is worth compiling for.
    let (outputs, most) = match (software && !grouped, taps) {
        (false, _) => (2, 4),
        (true, 1) if shape.multiply_adds() >= WORTH_COMPILING => (8, 1),
        (true, 1) => (4, 2),
        (true, _) => (2, 2),
    };
    let pixels = row_tile(shape.flattened().output_width(), most);
    let tile = BlockTile {
        output_quads: if grouped {
            1
        } else {
            dividing(shape.output_quads(), outputs)
        },
        taps,
        input_quads: if grouped || !large {
            1
        } else {
            dividing(shape.slots(), 2)
        },
        pixels,
        // A software device runs a few at a time anyway, and fewer need less memory to be summed in.
        lanes: if software { 8 } else { 32 },
        shares: 1,
    };
    let tile = if shape.is_depthwise() {
        depthwise_blocks(shape, pixels, 1)
    } else {
        tile
    };
    shared(tile, 1.0, shape, facts, room)
}

/// Multiply-adds of a pass from which on a kernel that compiles for two seconds pays within a thousand steps.
const WORTH_COMPILING: u64 = 64 << 20;

/// The tile with `factor` times as many shares as the rule of [`shares`] says, within the room.
fn shared(
    tile: BlockTile,
    factor: f64,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    room: u64,
) -> BlockTile {
    let (groups, steps) = (workgroups_of_share(shape, tile), share_steps(shape, tile));
    let bytes = shape.weight_bytes();
    let wanted = f64::from(shares(groups, u64::from(steps), bytes, facts)) * factor;
    let most = room.min(MOST_SHARE_BYTES) / bytes.max(1);
    let shares = (wanted as u64).min(most).clamp(1, 256) as u32;
    BlockTile {
        // Shares of whole steps: as many as are left with something to do.
        shares: steps.div_ceil(steps.div_ceil(shares).max(1)).max(1),
        ..tile
    }
}

/// The default and what may beat it.
fn block_tiles(shape: &ConvolutionShape, facts: &DeviceFacts, room: u64) -> Vec<BlockTile> {
    let default = default_blocks(shape, facts, room);
    let with = |tile, factor| shared(tile, factor, shape, facts, room);
    let pixels = |most| row_tile(shape.flattened().output_width(), most);
    let mut tiles = vec![default];
    let software = facts.kind == DeviceKind::Software;
    if !shape.is_depthwise() && shape.groups == 1 {
        // On software devices the others lost wherever they were measured, and the larger ones cost a second each to compile.
        let sides: &[_] = if software {
            &[(2, 2), (4, 1)]
        } else {
            &[(2, 2), (1, 2), (2, 1), (4, 1)]
        };
        tiles.extend(sides.iter().map(|(outputs, inputs)| {
            let tile = BlockTile {
                output_quads: dividing(shape.output_quads(), *outputs),
                input_quads: dividing(shape.slots(), *inputs),
                ..default
            };
            with(tile, 1.0)
        }));
    }
    let widths: &[_] = if software { &[4] } else { &[8, 2] };
    tiles.extend(widths.iter().map(|most| {
        let tile = BlockTile {
            pixels: pixels(*most),
            ..default
        };
        with(tile, 1.0)
    }));
    tiles.extend([0.25, 4.0].map(|factor| with(default, factor)));
    tiles
}

/// The results of all shares take no more than this.
pub(crate) const MOST_SHARE_BYTES: u64 = 32 << 20;

/// Into how many shares of the pixels a sum is split, so that the device has enough workgroups: `groups` workgroups work on each
/// share, `steps` is the number of loop steps that can be shared out, `bytes` what one share's result takes.
pub(crate) fn shares(groups: u64, steps: u64, bytes: u64, facts: &DeviceFacts) -> u32 {
    // A share's result has to be written and summed, so a share should be a few steps long.
    let (wanted_groups, steps_of_share) = match facts.kind {
        DeviceKind::Software => (16, 8),
        DeviceKind::Integrated => (256, 4),
        DeviceKind::Discrete | DeviceKind::Virtual => (1024, 2),
    };
    let wanted = wanted_groups / groups.max(1);
    let most = (steps / steps_of_share).min(MOST_SHARE_BYTES / bytes.max(1));
    wanted.min(most).clamp(1, 256) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [DeviceKind; 3] = [
        DeviceKind::Software,
        DeviceKind::Integrated,
        DeviceKind::Discrete,
    ];
    const PASSES: [Pass; 3] = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];

    fn facts(kind: DeviceKind, subgroup_sizes: Option<(u32, u32)>) -> DeviceFacts {
        DeviceFacts {
            name: String::new(),
            driver: String::new(),
            backend: String::new(),
            kind,
            max_buffer_bytes: 1 << 28,
            max_binding_bytes: 1 << 27,
            storage_alignment: 256,
            uniform_alignment: 256,
            workgroup_memory_bytes: 16 << 10,
            max_invocations: 256,
            subgroup_sizes,
            timestamps: false,
            half_precision: false,
            host_memory: false,
        }
    }

    /// Dense, strided, grouped, depthwise, pointwise and odd ones.
    fn shapes() -> Vec<ConvolutionShape> {
        let mut shapes = vec![
            ConvolutionShape::linear(5, 7, 9),
            ConvolutionShape::linear(512, 512, 512),
            ConvolutionShape::new(2, [64, 28, 28], 384, [1, 1]),
            ConvolutionShape::new(2, [24, 9, 9], 24, [3, 3]).with_groups(24),
            ConvolutionShape::new(2, [24, 9, 9], 12, [3, 3]).with_groups(3),
        ];
        for kernel in [1, 2, 3, 5, 7, 11] {
            for channels in [1, 4, 8, 20, 64] {
                for width in [11, 16, 31] {
                    let mut shape =
                        ConvolutionShape::new(1, [channels, 16, width], channels, [kernel; 2]);
                    shapes.push(shape);
                    shape.stride = [2, 2];
                    shapes.push(shape);
                }
            }
        }
        shapes
    }

    #[test]
    fn a_row_is_tiled_with_little_waste() {
        for (count, tile) in [
            (1, 1),
            (2, 2),
            (3, 4),
            (5, 2),
            (6, 8),
            (7, 8),
            (9, 4),
            (10, 4),
            (32, 8),
        ] {
            assert_eq!(row_tile(count, 8), tile, "{count}");
        }
    }

    #[test]
    fn every_pass_has_candidates_of_its_own_and_the_first_is_the_default() {
        for shape in shapes() {
            for kind in KINDS {
                for sizes in [None, Some((8, 8)), Some((32, 32)), Some((8, 32))] {
                    let facts = facts(kind, sizes);
                    for pass in PASSES {
                        let found = candidates(pass, &shape, &facts, u64::MAX).unwrap();
                        let default = choose(None, pass, &shape, &facts).unwrap();
                        assert_eq!(found.first(), Some(&default), "{pass}, {shape:?}");
                        assert!(found.len() <= 12, "{pass}, {shape:?}: {found:?}");
                        for variant in &found {
                            assert_eq!(choose(Some(*variant), pass, &shape, &facts), Ok(*variant));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_part_of_the_channels_is_summed_as_the_whole() {
        let wide = ConvolutionShape::new(8, [16, 28, 28], 96, [1, 1]);
        let depthwise = ConvolutionShape::new(8, [96, 28, 28], 96, [3, 3]).with_groups(96);
        for kind in KINDS {
            for sizes in [None, Some((8, 8)), Some((32, 32))] {
                let facts = facts(kind, sizes);
                for slices in [2, 4, 8, 24] {
                    let channels = 96 / slices;
                    let part = ConvolutionShape {
                        output_channels: channels,
                        ..wide
                    };
                    for given in candidates(Pass::Forward, &wide, &facts, u64::MAX).unwrap() {
                        let shapes = (&wide, &part);
                        let found = variant_of_part(Some(given), Pass::Forward, shapes, &facts);
                        match (given, found.unwrap()) {
                            (Variant::Winograd(_), None) => {}
                            (Variant::Gather(whole), Some(Variant::Gather(tile))) => {
                                let quads = tile.quads;
                                assert_eq!(GatherTile { quads, ..whole }, tile);
                            }
                            (given, found) => assert_eq!(Some(given), found),
                        }
                    }
                    let part = ConvolutionShape {
                        input_channels: channels,
                        output_channels: channels,
                        groups: channels,
                        ..depthwise
                    };
                    let pass = Pass::WeightGradient;
                    for given in candidates(pass, &depthwise, &facts, u64::MAX).unwrap() {
                        let shapes = (&depthwise, &part);
                        let found = variant_of_part(Some(given), pass, shapes, &facts);
                        assert_eq!(found, Ok(Some(given)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_variant_that_does_not_fit_is_refused() {
        let shape = ConvolutionShape::new(1, [8, 9, 9], 12, [3, 3]);
        let facts = facts(DeviceKind::Discrete, Some((32, 32)));
        for (text, pass, good) in [
            ("direct 4x3", Pass::Forward, true),
            ("direct 4x2", Pass::Forward, false),
            ("direct 4x2", Pass::InputGradient, true),
            ("direct 3x1", Pass::Forward, false),
            ("direct 4x0", Pass::Forward, false),
            ("direct 4x1", Pass::WeightGradient, false),
            ("subgroup-32 4x1", Pass::Forward, true),
            ("subgroup-8 4x1", Pass::Forward, false),
            (
                "blocks 3x3x2 pixels 4 lanes 8 shares 4",
                Pass::WeightGradient,
                true,
            ),
            (
                "blocks 3x3x2 pixels 4 lanes 8 shares 4",
                Pass::Forward,
                false,
            ),
            ("winograd 2", Pass::Forward, true),
            ("winograd 4", Pass::InputGradient, true),
            ("winograd 3", Pass::Forward, false),
            (
                "tiles 4x2 lanes 256x256x4294967295 depth 1",
                Pass::Forward,
                false,
            ),
            (
                "shared-blocks 4294967295x3x1 pixels 4294967295 lanes 4294967295x4294967295x2 runs 16 shares 1",
                Pass::WeightGradient,
                false,
            ),
            (
                "product 4294967295 lanes 8 inputs shares 4294967295",
                Pass::WeightGradient,
                false,
            ),
            ("winograd 4", Pass::WeightGradient, false),
            (
                "blocks 2x3x2 pixels 4 lanes 8 shares 4",
                Pass::WeightGradient,
                false,
            ),
            (
                "blocks 3x3x2 pixels 4 lanes 256 shares 4",
                Pass::WeightGradient,
                false,
            ),
            (
                "blocks 3x4x2 pixels 4 lanes 8 shares 4",
                Pass::WeightGradient,
                false,
            ),
            (
                "blocks 3x3x2 pixels 4 lanes 8 shares 0",
                Pass::WeightGradient,
                false,
            ),
        ] {
            let variant = text.parse().unwrap();
            let chosen = choose(Some(variant), pass, &shape, &facts);
            assert_eq!(chosen.is_ok(), good, "{text}, {pass}");
            if let Err(error) = chosen {
                assert!(error.to_string().contains(text), "{error}");
            }
        }
    }

    #[test]
    fn subgroups_share_only_where_all_have_one_size() {
        let shape = ConvolutionShape::new(32, [16, 32, 32], 16, [5, 5]).with_padding(2);
        let first = |sizes| {
            let facts = facts(DeviceKind::Software, sizes);
            candidates(Pass::Forward, &shape, &facts, 0).unwrap()[0].to_string()
        };
        assert_eq!(first(Some((8, 8))), "subgroup-8 4x4");
        assert_eq!(first(Some((8, 16))), "direct 8x1");
        assert_eq!(first(None), "direct 8x1");
    }

    #[test]
    fn winograd_is_the_rule_where_it_pays_on_a_software_device() {
        let shape = ConvolutionShape::new(8, [64, 56, 56], 64, [3, 3]).with_padding(1);
        let software = facts(DeviceKind::Software, Some((8, 8)));
        let discrete = facts(DeviceKind::Discrete, Some((32, 32)));
        let is_winograd = |variant: &Variant| matches!(variant, Variant::Winograd(_));
        for pass in [Pass::Forward, Pass::InputGradient] {
            let found = |shape, facts, room| candidates(pass, &shape, facts, room).unwrap();
            // In any room: the same bits in every budget.
            for room in [0, u64::MAX] {
                assert_eq!(found(shape, &software, room)[0], Variant::Winograd(4));
            }
            let ample = found(shape, &discrete, u64::MAX);
            assert!(!is_winograd(&ample[0]));
            assert!(ample.contains(&Variant::Winograd(2)) && ample.contains(&Variant::Winograd(4)));
            assert!(!found(shape, &discrete, 1 << 10).iter().any(is_winograd));
            // Strided, too few channels, tiles that are mostly outside of the map.
            let few = ConvolutionShape::new(32, [8, 32, 32], 8, [3, 3]).with_padding(1);
            let tiny = ConvolutionShape::new(8, [256, 2, 2], 256, [3, 3]).with_padding(1);
            for other in [shape.with_stride(2), few, tiny] {
                assert!(!is_winograd(&found(other, &software, 0)[0]));
            }
        }
    }

    #[test]
    fn the_workspace_of_the_rule_is_small_against_its_layer() {
        let facts = facts(DeviceKind::Software, Some((8, 8)));
        for batch in [1, 2, 8, 32, 128] {
            for (channels, side) in [(16, 32), (32, 16), (64, 8), (64, 56), (256, 14), (512, 7)] {
                let map = [channels, side, side];
                let shape = ConvolutionShape::new(batch, map, channels, [3, 3]).with_padding(1);
                let held = shape.input_bytes() + shape.output_bytes() + shape.weight_bytes();
                for pass in PASSES {
                    let needed = crate::workspace(pass, &shape, &facts, None).unwrap();
                    assert!(needed <= 2 * held, "{pass}, {shape:?}: {needed}");
                }
            }
        }
    }

    #[test]
    fn less_room_leaves_the_rule_and_what_needs_less() {
        let shape = ConvolutionShape::new(32, [16, 32, 32], 16, [3, 3]).with_padding(1);
        let facts = facts(DeviceKind::Discrete, None);
        let found = |room| candidates(Pass::WeightGradient, &shape, &facts, room).unwrap();
        let shares = |room| {
            found(room).into_iter().map(|variant| match variant {
                Variant::Blocks(tile) => tile.shares,
                Variant::SharedBlocks(tile) => tile.shares,
                other => panic!("{other}"),
            })
        };
        for room in [0, u64::MAX] {
            assert_eq!(found(room)[0], found(1 << 20)[0]);
        }
        assert!(shares(0).skip(1).all(|shares| shares == 1));
        assert!(
            shares(4 * shape.weight_bytes())
                .skip(1)
                .all(|shares| shares <= 4)
        );
        assert!(shares(u64::MAX).any(|shares| shares > 16));
    }

    #[test]
    fn a_wide_device_gets_more_shares_within_bounds() {
        let of = |kind| shares(24, 4096, 1 << 16, &facts(kind, None));
        assert_eq!(of(DeviceKind::Software), 1);
        assert!(of(DeviceKind::Discrete) > of(DeviceKind::Integrated));
        let discrete = facts(DeviceKind::Discrete, None);
        assert_eq!(shares(1, 1, 1 << 16, &discrete), 1);
        assert!(u64::from(shares(1, 1 << 20, 1 << 22, &discrete)) << 22 <= 32 << 20);
    }
}
