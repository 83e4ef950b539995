//! A way to compute a pass, as a value: it can be compared, written down and read again.

use std::fmt;
use std::str::FromStr;

/// A pass of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pass {
    /// The output from the input and the weight.
    Forward,
    /// The gradient with respect to the input.
    InputGradient,
    /// The gradient with respect to the weight, and to the bias where wanted.
    WeightGradient,
}

impl fmt::Display for Pass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Forward => "forward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
        })
    }
}

/// One way to compute a pass. Its text, such as `subgroup-8 4x4`, stays the same from version to version and is what is written down; a
/// variant that a later version lacks is refused by [`fits`](crate::fits) or when it is read, never taken for another.
///
/// Two variants of one pass may differ in the order of their sums, and so in the last bits of their results.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Variant {
    /// Forward and input gradient: an invocation gathers all that its targets are the sum of. `direct 4x2`, `subgroup-8 4x4`.
    Gather(GatherTile),
    /// Forward and input gradient, for GPUs: a workgroup keeps the source and the weights of its targets in workgroup memory.
    /// `tiles 8x2 lanes 16x8 depth 1`.
    Tiles(SharedTile),
    /// Forward and input gradient of 3x3 kernels of stride 1: Winograd's F(2x2, 3x3) or F(4x4, 3x3), by the side of the tile of targets.
    /// `winograd 4`.
    Winograd(u32),
    /// Weight gradient: a workgroup sums some blocks over its share of the pixels. `blocks 2x3x2 pixels 4 lanes 8 shares 16`.
    Blocks(BlockTile),
    /// Weight gradient, for GPUs: a workgroup keeps the pixels of its share in workgroup memory.
    /// `shared-blocks 2x3x1 pixels 4 lanes 8x4x1 runs 8 shares 16`.
    SharedBlocks(SharedBlockTile),
    /// Weight gradient of 1x1 kernels of stride 1, for software devices: the lanes of a subgroup have a quad of the input (or the output) each
    /// and share those of the other side. `product 4 lanes 8 inputs shares 1`.
    Product(ProductTile),
    /// All passes of a depthwise convolution: an invocation walks down strips of the output, or of the input for the gradients. Where both
    /// gradients take the same one, they are computed in one dispatch. `strips 4x14 lanes 8 shares 2`.
    Strips(StripTile),
}

/// What an invocation of a gathering kernel computes, and how it comes by its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatherTile {
    /// Neighbouring pixels.
    pub pixels: u32,
    /// Target quads; a divisor of the number there are.
    pub quads: u32,
    /// The size of the subgroup whose lanes load the weights together; `None` where each invocation loads all it needs.
    pub subgroup: Option<u32>,
}

/// What a workgroup computes from workgroup memory, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedTile {
    /// Pixels of an invocation.
    pub pixels: u32,
    /// Target quads of an invocation.
    pub quads: u32,
    /// Invocations that share target quads and compute neighbouring pixels; a power of two.
    pub pixel_lanes: u32,
    /// Invocations that share pixels and compute other target quads; a power of two.
    pub quad_lanes: u32,
    /// Invocations that share pixels and target quads and take other source quads; a divisor of `depth`.
    pub depth_lanes: u32,
    /// Source quads that are held at a time; a divisor of the number there are.
    pub depth: u32,
}

/// What a workgroup of the weight gradient sums, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockTile {
    /// Output quads; a divisor of the number there are.
    pub output_quads: u32,
    /// Taps of a row of the kernel.
    pub taps: u32,
    /// Input quads; a divisor of the number an output quad has.
    pub input_quads: u32,
    /// Neighbouring pixels that an invocation takes at a time.
    pub pixels: u32,
    /// Invocations of the workgroup.
    pub lanes: u32,
    /// Shares of the pixels, each summed apart where the workspace has room for their results.
    pub shares: u32,
}

/// What a workgroup of the weight gradient sums from workgroup memory, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedBlockTile {
    /// Output quads of an invocation.
    pub output_quads: u32,
    /// Taps of a row of the kernel, of an invocation; other invocations of the workgroup have the other taps.
    pub taps: u32,
    /// Input quads of an invocation.
    pub input_quads: u32,
    /// Neighbouring pixels that an invocation takes at a time, a run.
    pub pixels: u32,
    /// Invocations with other output quads.
    pub output_lanes: u32,
    /// Invocations with other input quads.
    pub input_lanes: u32,
    /// Invocations with other runs.
    pub pixel_lanes: u32,
    /// Runs that are held at a time.
    pub runs: u32,
    /// Shares of the pixels, each summed apart where the workspace has room for their results.
    pub shares: u32,
}

/// What a subgroup sums of the weight gradient of a 1x1 kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductTile {
    /// Quads of the side that the lanes share.
    pub quads: u32,
    /// The size of the device's subgroups; so many quads of the other side, and so many pixels at a time.
    pub lanes: u32,
    /// Whether a lane has an output quad of its own, and else an input quad.
    pub by_output: bool,
    /// Shares of the pixels, each summed apart where the workspace has room for their results.
    pub shares: u32,
}

/// What an invocation of a depthwise pass walks down, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StripTile {
    /// Pixels of the output, or cells (one stride by one stride of input pixels) side by side.
    pub pixels: u32,
    /// Cells one below the other.
    pub rows: u32,
    /// Invocations of a workgroup.
    pub lanes: u32,
    /// Shares of the strips, each summed apart where the workspace has room for their results.
    pub shares: u32,
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gather(tile) => {
                match tile.subgroup {
                    Some(size) => write!(formatter, "subgroup-{size}")?,
                    None => formatter.write_str("direct")?,
                }
                write!(formatter, " {}x{}", tile.pixels, tile.quads)
            }
            Self::Tiles(tile) => {
                let lanes = [tile.pixel_lanes, tile.quad_lanes];
                write!(formatter, "tiles {}x{} ", tile.pixels, tile.quads)?;
                write!(formatter, "lanes {}x{}", lanes[0], lanes[1])?;
                if tile.depth_lanes > 1 {
                    write!(formatter, "x{}", tile.depth_lanes)?;
                }
                write!(formatter, " depth {}", tile.depth)
            }
            Self::Winograd(size) => write!(formatter, "winograd {size}"),
            Self::Blocks(tile) => write!(
                formatter,
                "blocks {}x{}x{} pixels {} lanes {} shares {}",
                tile.output_quads,
                tile.taps,
                tile.input_quads,
                tile.pixels,
                tile.lanes,
                tile.shares
            ),
            Self::SharedBlocks(tile) => write!(
                formatter,
                "shared-blocks {}x{}x{} pixels {} lanes {}x{}x{} runs {} shares {}",
                tile.output_quads,
                tile.taps,
                tile.input_quads,
                tile.pixels,
                tile.output_lanes,
                tile.input_lanes,
                tile.pixel_lanes,
                tile.runs,
                tile.shares
            ),
            Self::Product(tile) => {
                let side = if tile.by_output { "outputs" } else { "inputs" };
                write!(
                    formatter,
                    "product {} lanes {} {side} shares {}",
                    tile.quads, tile.lanes, tile.shares
                )
            }
            Self::Strips(tile) => write!(
                formatter,
                "strips {}x{} lanes {} shares {}",
                tile.pixels, tile.rows, tile.lanes, tile.shares
            ),
        }
    }
}

/// A text that names no variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no variant of a kernel that this version knows, such as `subgroup-8 4x4`")]
pub struct ParseVariantError(String);

impl FromStr for Variant {
    type Err = ParseVariantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = parse(text);
        // One text, one variant: `direct 04x2` is none.
        let exact = parsed.filter(|variant| variant.to_string() == text);
        exact.ok_or_else(|| ParseVariantError(text.into()))
    }
}

fn parse(text: &str) -> Option<Variant> {
    let (family, rest) = text.split_once(' ')?;
    if family == "blocks" {
        let words: Vec<&str> = rest.split(' ').collect();
        let [size, "pixels", pixels, "lanes", lanes, "shares", shares] = words[..] else {
            return None;
        };
        let [output_quads, taps, input_quads] = sizes(size)?;
        return Some(Variant::Blocks(BlockTile {
            output_quads,
            taps,
            input_quads,
            pixels: pixels.parse().ok()?,
            lanes: lanes.parse().ok()?,
            shares: shares.parse().ok()?,
        }));
    }
    if family == "shared-blocks" {
        let words: Vec<&str> = rest.split(' ').collect();
        let [
            size,
            "pixels",
            pixels,
            "lanes",
            lanes,
            "runs",
            runs,
            "shares",
            shares,
        ] = words[..]
        else {
            return None;
        };
        let ([output_quads, taps, input_quads], [output_lanes, input_lanes, pixel_lanes]) =
            (sizes(size)?, sizes(lanes)?);
        return Some(Variant::SharedBlocks(SharedBlockTile {
            output_quads,
            taps,
            input_quads,
            pixels: pixels.parse().ok()?,
            output_lanes,
            input_lanes,
            pixel_lanes,
            runs: runs.parse().ok()?,
            shares: shares.parse().ok()?,
        }));
    }
    if family == "tiles" {
        let words: Vec<&str> = rest.split(' ').collect();
        let [size, "lanes", lanes, "depth", depth] = words[..] else {
            return None;
        };
        let [pixels, quads] = sizes(size)?;
        let [pixel_lanes, quad_lanes, depth_lanes] =
            sizes(lanes).or_else(|| sizes::<2>(lanes).map(|[pixel, quad]| [pixel, quad, 1]))?;
        return Some(Variant::Tiles(SharedTile {
            pixels,
            quads,
            pixel_lanes,
            quad_lanes,
            depth_lanes,
            depth: depth.parse().ok()?,
        }));
    }
    if family == "product" {
        let words: Vec<&str> = rest.split(' ').collect();
        let [quads, "lanes", lanes, side, "shares", shares] = words[..] else {
            return None;
        };
        return Some(Variant::Product(ProductTile {
            quads: quads.parse().ok()?,
            lanes: lanes.parse().ok()?,
            // A text that says neither is told apart by being written again.
            by_output: side == "outputs",
            shares: shares.parse().ok()?,
        }));
    }
    if family == "strips" {
        let words: Vec<&str> = rest.split(' ').collect();
        let [size, "lanes", lanes, "shares", shares] = words[..] else {
            return None;
        };
        let [pixels, rows] = sizes(size)?;
        return Some(Variant::Strips(StripTile {
            pixels,
            rows,
            lanes: lanes.parse().ok()?,
            shares: shares.parse().ok()?,
        }));
    }
    if family == "winograd" {
        return Some(Variant::Winograd(rest.parse().ok()?));
    }
    let subgroup = match family.strip_prefix("subgroup-") {
        Some(size) => Some(size.parse().ok()?),
        None if family == "direct" => None,
        None => return None,
    };
    let [pixels, quads] = sizes(rest)?;
    Some(Variant::Gather(GatherTile {
        pixels,
        quads,
        subgroup,
    }))
}

/// The numbers of `4x2`, each at least 1.
fn sizes<const N: usize>(text: &str) -> Option<[u32; N]> {
    let sizes: Option<Vec<u32>> = text.split('x').map(|size| size.parse().ok()).collect();
    sizes?.try_into().ok()
}

impl From<Variant> for String {
    fn from(variant: Variant) -> Self {
        variant.to_string()
    }
}

impl TryFrom<String> for Variant {
    type Error = ParseVariantError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATHER: GatherTile = GatherTile {
        pixels: 4,
        quads: 2,
        subgroup: None,
    };
    const BLOCKS: BlockTile = BlockTile {
        output_quads: 2,
        taps: 3,
        input_quads: 1,
        pixels: 4,
        lanes: 32,
        shares: 16,
    };

    #[test]
    fn a_variant_is_written_in_words_and_read_again() {
        let shared = GatherTile {
            subgroup: Some(8),
            ..GATHER
        };
        for (variant, text) in [
            (Variant::Gather(GATHER), "direct 4x2"),
            (Variant::Gather(shared), "subgroup-8 4x2"),
            (Variant::Winograd(4), "winograd 4"),
            (
                Variant::Tiles(SharedTile {
                    pixels: 8,
                    quads: 2,
                    pixel_lanes: 16,
                    quad_lanes: 4,
                    depth_lanes: 1,
                    depth: 1,
                }),
                "tiles 8x2 lanes 16x4 depth 1",
            ),
            (
                Variant::Tiles(SharedTile {
                    pixels: 4,
                    quads: 2,
                    pixel_lanes: 8,
                    quad_lanes: 4,
                    depth_lanes: 2,
                    depth: 4,
                }),
                "tiles 4x2 lanes 8x4x2 depth 4",
            ),
            (
                Variant::SharedBlocks(SharedBlockTile {
                    output_quads: 2,
                    taps: 3,
                    input_quads: 1,
                    pixels: 4,
                    output_lanes: 8,
                    input_lanes: 4,
                    pixel_lanes: 2,
                    runs: 8,
                    shares: 16,
                }),
                "shared-blocks 2x3x1 pixels 4 lanes 8x4x2 runs 8 shares 16",
            ),
            (
                Variant::Product(ProductTile {
                    quads: 4,
                    lanes: 8,
                    by_output: true,
                    shares: 2,
                }),
                "product 4 lanes 8 outputs shares 2",
            ),
            (
                Variant::Strips(StripTile {
                    pixels: 4,
                    rows: 14,
                    lanes: 8,
                    shares: 2,
                }),
                "strips 4x14 lanes 8 shares 2",
            ),
            (
                Variant::Blocks(BLOCKS),
                "blocks 2x3x1 pixels 4 lanes 32 shares 16",
            ),
        ] {
            assert_eq!(variant.to_string(), text);
            assert_eq!(text.parse(), Ok(variant));
            let json = serde_json::to_string(&variant).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Variant>(&json).unwrap(), variant);
        }
    }

    #[test]
    fn any_other_text_is_refused() {
        for text in [
            "",
            "direct",
            "direct 4",
            "direct 4x2x1",
            "direct 04x2",
            "direct  4x2",
            "subgroup- 4x2",
            "subgroup 4x2",
            "winograd",
            "winograd 04",
            "tiles 8x2 lanes 16x4",
            "tiles 8x2 lanes 16 depth 1",
            "tiles 8x2 lanes 16x4x1 depth 1",
            "shared-blocks 2x3x1 pixels 4 lanes 8x4x2 runs 8",
            "product 4 lanes 8 shares 2",
            "product 4 lanes 8 both shares 2",
            "strips 4x14",
            "strips 4x14 lanes 8",
            "strips 4x14 lanes 08 shares 1",
            "blocks 2x3x1",
            "blocks 2x3x1 pixels 4 lanes 32 shares",
            "blocks 2x3x1 pixels 4 lanes 32 shares 16 ",
        ] {
            let error = text.parse::<Variant>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
