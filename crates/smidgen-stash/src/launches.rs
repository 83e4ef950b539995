//! Launches of the codecs.

use crate::{Bound, Codec, StashError, StashShape};
use smidgen_gpu::{Activation, Launch, Region, Source, folded_grid, normalisation_bytes, params};

params! { struct GroupedParams { quads: u32, pixels: u32, blocks: u32, all_blocks: u32, words: u32, tensor: u32, seed_word: u32 } }
params! { struct LatticeParams { quads: u32, pixels: u32, blocks: u32, all_blocks: u32, words: u32 } }
params! { struct WantedParams { step: f32, inverse: f32 } }
params! { struct MaskParams { pixels: u32, words: u32, all_words: u32 } }
params! { struct HalfParams { count: u32 } }
params! { struct PlaneParams { quads: u32, pixels: u32 } }

/// Where the random rounding of a stash gets its seed. With the same seed it rounds the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    /// Device memory that holds the seed, a u32, such as a block that is written before every step.
    pub region: Region,
    /// Which of its 32-bit words that is.
    pub word: u32,
    /// Tells tensors apart, so that no two are rounded alike.
    pub tensor: u32,
}

/// Regions of [`encode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encode {
    /// What is encoded, [`Codec::value_bytes`].
    pub values: Region,
    /// The stash, [`Codec::encoded_bytes`]; written whole.
    pub stash: Region,
    /// For codecs that [round at random](Codec::is_random).
    pub seed: Option<Seed>,
    /// [`Bound::BYTES`], for [`Codec::Lattice`]: what is wanted, and after the encoder what was reached.
    pub bound: Option<Region>,
}

/// Regions of [`decode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decode {
    /// The stash, [`Codec::encoded_bytes`].
    pub stash: Region,
    /// What comes out, [`Codec::value_bytes`].
    pub values: Region,
}

/// Regions of [`slope_backward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlopeBackward {
    /// The stash, [`Codec::encoded_bytes`].
    pub stash: Region,
    /// Gradient of the loss by the output of the activation.
    pub output_gradient: Region,
    /// Gradient by its input; may be the same region as `output_gradient`.
    pub input_gradient: Region,
}

/// A slope that is held beside a stash: [`encode_slope`] has written it, from what the values are read as behind a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldSlope {
    /// [`Codec::Mask`] of a ReLU, [`Codec::MaskSix`] of a ReLU6.
    pub codec: Codec,
    /// [`Codec::encoded_bytes`] of it.
    pub stash: Region,
}

impl HeldSlope {
    fn check(&self, shape: &StashShape) -> Result<(), StashError> {
        if !matches!(self.codec, Codec::Mask | Codec::MaskSix) {
            return Err(StashError::Unsupported {
                codec: self.codec.name(),
                what: "is no mask, which a slope beside other codes is held in",
            });
        }
        expect("slopes", self.stash, self.codec.encoded_bytes(shape))
    }

    fn define(&self) -> (&'static str, String) {
        ("SLOPES", self.codec.bits().to_string())
    }
}

fn expect(name: &'static str, region: Region, needed: u64) -> Result<(), StashError> {
    if region.size < needed {
        return Err(StashError::Region {
            region: name,
            given: region.size,
            needed,
        });
    }
    Ok(())
}

/// `stash = encode(values)`, in one launch (two for [`Codec::Lattice`]).
///
/// # Errors
/// A shape that is empty or too large, a region that is missing or too small.
pub fn encode(
    codec: Codec,
    shape: &StashShape,
    regions: &Encode,
) -> Result<Vec<Launch>, StashError> {
    shape.check()?;
    expect("values", regions.values, codec.value_bytes(shape))?;
    expect("stash", regions.stash, codec.encoded_bytes(shape))?;
    match codec {
        Codec::Half => Ok(vec![half(shape, regions)]),
        Codec::Mask | Codec::MaskSix | Codec::Taps { .. } => {
            let values = regions.values.into();
            Ok(vec![mask(codec, shape, &values, regions.stash)])
        }
        Codec::Lattice { .. } => {
            let bound = regions.bound.ok_or(StashError::Missing {
                codec: codec.name(),
                what: "a region with the wanted bound, which also receives the one reached",
            })?;
            expect("bound", bound, Bound::BYTES)?;
            Ok(lattice(codec, shape, regions, bound))
        }
        _ => {
            let seed = regions.seed.ok_or(StashError::Missing {
                codec: codec.name(),
                what: "a seed for its random rounding",
            })?;
            expect("seed", seed.region, (u64::from(seed.word) + 1) * 4)?;
            Ok(vec![grouped(codec, shape, regions, &seed)])
        }
    }
}

/// As [`encode`] with [`Codec::Lattice`], for a block of the bound that nobody has written: what is wanted comes with the launches.
///
/// # Errors
/// As [`encode`], and another codec.
pub fn encode_within(
    codec: Codec,
    shape: &StashShape,
    regions: &Encode,
    wanted: &Bound,
) -> Result<Vec<Launch>, StashError> {
    if !matches!(codec, Codec::Lattice { .. }) {
        return Err(StashError::Unsupported {
            codec: codec.name(),
            what: "keeps to no bound; the error-bounded code does",
        });
    }
    let mut launches = encode(codec, shape, regions)?;
    if let (Some(begin), Some(bound)) = (launches.first_mut(), regions.bound) {
        let params = WantedParams {
            step: wanted.step,
            inverse: wanted.inverse,
        };
        let shader = "stash/lattice_want.wgsl";
        *begin = Launch::new(shader, &[], &params, vec![bound], [1, 1, 1]);
    }
    Ok(launches)
}

/// The slope of a ReLU ([`Codec::Mask`]) or a ReLU6 ([`Codec::MaskSix`]) of what a source is read as, in one launch: of the map itself, no
/// normalised copy of it is made.
///
/// # Errors
/// Another codec, a source with another activation, a shape that is empty or too large, a region too small.
pub fn encode_slope(
    codec: Codec,
    shape: &StashShape,
    source: &Source,
    stash: Region,
) -> Result<Launch, StashError> {
    shape.check()?;
    HeldSlope { codec, stash }.check(shape)?;
    let of = match codec {
        Codec::Mask => Activation::Relu,
        _ => Activation::Relu6,
    };
    if source.activation != of {
        return Err(StashError::Unsupported {
            codec: codec.name(),
            what: "holds the slope of another activation than the source has",
        });
    }
    expect("values", source.region, codec.value_bytes(shape))?;
    Ok(mask(codec, shape, source, stash))
}

fn half(shape: &StashShape, regions: &Encode) -> Launch {
    let params = HalfParams {
        count: shape.elements() as u32,
    };
    Launch::new(
        "stash/encode_half.wgsl",
        &[],
        &params,
        vec![regions.values, regions.stash],
        folded_grid(shape.elements().div_ceil(512)),
    )
}

fn mask(codec: Codec, shape: &StashShape, values: &Source, stash: Region) -> Launch {
    let words = codec.plane_words(shape) as u32;
    let params = MaskParams {
        pixels: shape.pixels,
        words,
        all_words: shape.quads * words,
    };
    let mut defines = codec.loader_defines();
    defines.extend((values.normalisation).map(|_| ("NORMALISE", String::new())));
    let regions = [values.region].into_iter().chain(values.normalisation);
    let regions = regions.chain([stash]);
    Launch::new(
        "stash/encode_mask.wgsl",
        &defines,
        &params,
        regions.collect(),
        [words.div_ceil(256), shape.quads, 1],
    )
}

fn grouped(codec: Codec, shape: &StashShape, regions: &Encode, seed: &Seed) -> Launch {
    let blocks = codec.plane_blocks(shape) as u32;
    let params = GroupedParams {
        quads: shape.quads,
        pixels: shape.pixels,
        blocks,
        all_blocks: shape.quads * blocks,
        words: codec.plane_words(shape) as u32,
        tensor: seed.tensor,
        seed_word: seed.word,
    };
    // 64 invocations of 8 pixels.
    let blocks_a_workgroup = codec
        .group()
        .map_or(1, |group| u64::from(512 / group.pixels()));
    let mut defines = codec.loader_defines();
    defines.extend(
        codec
            .levels()
            .map(|levels| ("STASH_LEVELS", levels.to_string())),
    );
    Launch::new(
        "stash/encode_grouped.wgsl",
        &defines,
        &params,
        vec![seed.region, regions.values, regions.stash],
        folded_grid(u64::from(params.all_blocks).div_ceil(blocks_a_workgroup)),
    )
}

fn lattice(codec: Codec, shape: &StashShape, regions: &Encode, bound: Region) -> Vec<Launch> {
    let blocks = codec.plane_blocks(shape) as u32;
    let params = LatticeParams {
        quads: shape.quads,
        pixels: shape.pixels,
        blocks,
        all_blocks: shape.quads * blocks,
        words: codec.plane_words(shape) as u32,
    };
    let defines: Vec<_> = codec
        .loader_defines()
        .into_iter()
        .filter(|(name, _)| *name != "STASH_LATTICE")
        .collect();
    vec![
        Launch {
            label: "stash/lattice_begin".into(),
            shader: "stash/lattice_begin.wgsl",
            defines: Vec::new(),
            params: Vec::new(),
            fields: &[],
            regions: vec![bound],
            halves: Vec::new(),
            workgroups: [1, 1, 1],
        },
        Launch::new(
            "stash/encode_lattice.wgsl",
            &defines,
            &params,
            vec![regions.values, bound, regions.stash],
            folded_grid(u64::from(params.all_blocks).div_ceil(8)),
        ),
    ]
}

/// `values = decode(stash)`, for consumers that cannot decode as they load.
///
/// # Errors
/// A codec that holds no values, a shape that is empty or too large, a region too small.
pub fn decode(
    codec: Codec,
    shape: &StashShape,
    regions: &Decode,
) -> Result<Vec<Launch>, StashError> {
    shape.check()?;
    if matches!(codec, Codec::Mask | Codec::MaskSix) {
        return Err(StashError::Unsupported {
            codec: codec.name(),
            what: "holds no values; `slope_backward` applies it to a gradient",
        });
    }
    expect("stash", regions.stash, codec.encoded_bytes(shape))?;
    expect("values", regions.values, codec.value_bytes(shape))?;
    Ok(vec![plane_launch(
        "stash/decode.wgsl",
        &codec.loader_defines(),
        shape,
        vec![regions.stash, regions.values],
    )])
}

/// What stands behind a normalisation and a ReLU or ReLU6 of the values that a stash holds: `slope * (scale * value + shift)`, with the slope
/// that is held beside it, so that what the activation made flat stays so exactly; of a ReLU6 six where it was above. For consumers that
/// cannot decode as they load.
///
/// # Errors
/// As [`decode`], and a slope in another codec than a mask's.
pub fn decode_activated(
    codec: Codec,
    shape: &StashShape,
    regions: &Decode,
    normalisation: Region,
    slope: &HeldSlope,
) -> Result<Launch, StashError> {
    shape.check()?;
    if !codec.holds_values() {
        return Err(StashError::Unsupported {
            codec: codec.name(),
            what: "holds no values that could be normalised",
        });
    }
    slope.check(shape)?;
    expect("stash", regions.stash, codec.encoded_bytes(shape))?;
    expect("values", regions.values, codec.value_bytes(shape))?;
    let channels = shape.quads.saturating_mul(4);
    expect(
        "normalisation",
        normalisation,
        normalisation_bytes(channels),
    )?;
    let mut defines = codec.loader_defines();
    defines.push(slope.define());
    Ok(plane_launch(
        "stash/decode.wgsl",
        &defines,
        shape,
        vec![regions.stash, normalisation, slope.stash, regions.values],
    ))
}

/// A launch whose first region is the tensor that was encoded, changed to read the stash instead and to decode as it loads: no decoded copy
/// is made. Of the kernels of `smidgen-conv` those of the weight gradient can, with a normalisation, or with ReLU and ReLU6, on load; of those of
/// `smidgen-ops` the passes over a map of a normalisation's backward. Both can also take a `slope` that is held beside the stash, in place of
/// that of an activation.
///
/// # Errors
/// A codec that holds no values, a region too small, a kernel that cannot decode.
pub fn on_load(
    codec: Codec,
    shape: &StashShape,
    launch: Launch,
    stash: Region,
    slope: Option<&HeldSlope>,
) -> Result<Launch, StashError> {
    let unsupported = |what| StashError::Unsupported {
        codec: codec.name(),
        what,
    };
    if !codec.holds_values() {
        return Err(unsupported("holds no values that a kernel could load"));
    }
    expect("stash", stash, codec.encoded_bytes(shape))?;
    let mut launch = launch;
    let loader = codec.loader_defines().into_iter();
    let flags = loader.chain([("STASH", String::new())]);
    let flags = flags.chain(slope.map(HeldSlope::define));
    launch
        .defines
        .extend(flags.map(|(name, value)| (name.to_owned(), value)));
    launch.defines.sort();
    if let Some(first) = launch.regions.first_mut() {
        *first = stash;
    }
    if let Some(slope) = slope {
        slope.check(shape)?;
        launch.regions.push(slope.stash);
    }
    match launch.variant() {
        Ok(_) => Ok(launch),
        Err(_) => Err(unsupported(
            "cannot be read by this kernel as it loads; decode it first",
        )),
    }
}

/// `input_gradient = output_gradient * slope`, the slope being that of the activation whose input or output was encoded.
///
/// # Errors
/// A codec that does not hold a slope exactly, a shape that is empty or too large, a region too small.
pub fn slope_backward(
    codec: Codec,
    shape: &StashShape,
    regions: &SlopeBackward,
) -> Result<Vec<Launch>, StashError> {
    shape.check()?;
    if !codec.holds_slope() {
        return Err(StashError::Unsupported {
            codec: codec.name(),
            what: "does not tell the slope of an activation exactly; a mask, f16, the sign-magnitude code and the one for values after a ReLU do",
        });
    }
    expect("stash", regions.stash, codec.encoded_bytes(shape))?;
    expect(
        "output_gradient",
        regions.output_gradient,
        shape.value_bytes(),
    )?;
    expect(
        "input_gradient",
        regions.input_gradient,
        shape.value_bytes(),
    )?;
    let mut defines = codec.loader_defines();
    let mut bound = vec![regions.stash, regions.output_gradient];
    if regions.input_gradient == regions.output_gradient {
        defines.push(("IN_PLACE", String::new()));
    } else {
        bound.push(regions.input_gradient);
    }
    Ok(vec![plane_launch(
        "stash/slope_backward.wgsl",
        &defines,
        shape,
        bound,
    )])
}

fn plane_launch(
    shader: &'static str,
    defines: &[(&str, String)],
    shape: &StashShape,
    regions: Vec<Region>,
) -> Launch {
    let params = PlaneParams {
        quads: shape.quads,
        pixels: shape.pixels,
    };
    let grid = [shape.pixels.div_ceil(1024), shape.quads, 1];
    Launch::new(shader, defines, &params, regions, grid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<GroupedParams>("stash/encode_grouped.wgsl");
        assert_params_match::<LatticeParams>("stash/encode_lattice.wgsl");
        assert_params_match::<WantedParams>("stash/lattice_want.wgsl");
        assert_params_match::<MaskParams>("stash/encode_mask.wgsl");
        assert_params_match::<HalfParams>("stash/encode_half.wgsl");
        assert_params_match::<PlaneParams>("stash/decode.wgsl");
        assert_params_match::<PlaneParams>("stash/slope_backward.wgsl");
    }
}
