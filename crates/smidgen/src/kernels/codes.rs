//! The codes of stashes, as the codecs of `smidgen-stash`.

use super::bind::Binder;
use crate::Error;
use smidgen_gpu::{Launch, Region};
use smidgen_graph::forms::{Code, Codes};
use smidgen_graph::{BOUND_WORDS, Coded, HeldSlope, Layout, MapShape, Slabs, Source, ValueId};
use smidgen_ops::control::Control;
use smidgen_stash::{Bits, Bound, Codec, Decode, Encode, Group, Seed, StashShape};

/// The bound that is asked for of codes that keep to one: below what matters to any network, so that each group gets the least that its bits
/// allow. As the bytes are fixed, a larger one would save nothing.
const LEAST_BOUND: f32 = 1.0 / (1u64 << 40) as f32;

const _: () = assert!(Bound::BYTES == BOUND_WORDS as u64 * 4);

/// What codes take in bytes, of maps that stand in these slabs.
pub(crate) struct StashCodes(pub(crate) Slabs);

impl Codes for StashCodes {
    fn bytes(&self, code: Code, shape: MapShape) -> Option<u64> {
        // The one error that is told of a stash would be that of the last slab.
        let bounded = matches!(code, Code::BoundedEight | Code::Bounded);
        if bounded && self.0.count() > 1 {
            return None;
        }
        stash_shape(shape)?;
        Some(self.0.bytes(|images| encoded_bytes(code, shape, images)))
    }
}

/// Bytes of so many images of a map in a code.
fn encoded_bytes(code: Code, shape: MapShape, images: u32) -> u64 {
    let shape = MapShape {
        batch: images,
        ..shape
    };
    stash_shape(shape).map_or(0, |shape| codec(code).encoded_bytes(&shape))
}

/// Where a stash stands that holds a map of this shape in a code.
fn stash_region(
    at: &Binder<'_>,
    (code, shape): (Code, MapShape),
    stash: ValueId,
) -> Result<Region, Error> {
    at.part(stash, |images| encoded_bytes(code, shape, images))
}

fn codec(code: Code) -> Codec {
    let group = Group::G64;
    let (linear, bits) = (|bits| Codec::Linear { bits, group }, Bits::Four);
    match code {
        Code::Half => Codec::Half,
        Code::Eight => linear(Bits::Eight),
        Code::Four => linear(Bits::Four),
        Code::Two => Codec::Linear {
            bits: Bits::Two,
            group: Group::G256,
        },
        Code::Rectified => Codec::Rectified { bits, group },
        Code::RectifiedTwo => Codec::Rectified {
            bits: Bits::Two,
            group: Group::G256,
        },
        Code::BoundedEight => Codec::Lattice {
            bits: Bits::Eight,
            group,
        },
        Code::Bounded => Codec::Lattice { bits, group },
        Code::Slope => Codec::Mask,
        Code::SlopeSix => Codec::MaskSix,
    }
}

/// `None` where the kernels cannot count so many pixels.
fn stash_shape(shape: MapShape) -> Option<StashShape> {
    let pixels = u32::try_from(shape.pixels()).ok()?;
    Some(StashShape::planes(shape.channels, pixels))
}

/// Of a map that a code was found for, so that it has a shape.
fn planned_shape(at: &Binder<'_>, shape: MapShape, value: ValueId) -> Result<StashShape, Error> {
    stash_shape(shape).ok_or_else(|| Error::UnknownValue {
        name: at.program.value(value).name.clone(),
    })
}

fn held_slope(
    at: &Binder<'_>,
    shape: MapShape,
    slope: &HeldSlope,
) -> Result<smidgen_stash::HeldSlope, Error> {
    Ok(smidgen_stash::HeldSlope {
        codec: codec(slope.code),
        stash: stash_region(at, (slope.code, shape), slope.stash)?,
    })
}

pub(super) fn encode(
    at: &Binder<'_>,
    (code, shape, stream): (Code, MapShape, u32),
    control: ValueId,
    input: &Source,
    (stash, slope, bound): (ValueId, Option<&HeldSlope>, Option<ValueId>),
) -> Result<Vec<Launch>, Error> {
    let seed = Seed {
        region: at.region(control)?,
        word: (std::mem::offset_of!(Control, seed) / 4) as u32,
        tensor: stream,
    };
    let regions = Encode {
        values: at.region(input.value)?,
        stash: stash_region(at, (code, shape), stash)?,
        seed: Some(seed),
        bound: bound.map(|id| at.region(id)).transpose()?,
    };
    let slope = slope
        .map(|slope| held_slope(at, shape, slope))
        .transpose()?;
    let shape = planned_shape(at, shape, input.value)?;
    let mut launches = Vec::new();
    if let Some(smidgen_stash::HeldSlope { codec, stash }) = slope {
        let source = at.source(input)?;
        launches.push(smidgen_stash::encode_slope(codec, &shape, &source, stash)?);
    }
    launches.extend(if bound.is_some() {
        let wanted = Bound::wanted(LEAST_BOUND)?;
        smidgen_stash::encode_within(codec(code), &shape, &regions, &wanted)?
    } else {
        smidgen_stash::encode(codec(code), &shape, &regions)?
    });
    Ok(launches)
}

pub(super) fn decode(
    at: &Binder<'_>,
    (code, shape): (Code, MapShape),
    stash: ValueId,
    output: ValueId,
) -> Result<Vec<Launch>, Error> {
    let regions = Decode {
        stash: stash_region(at, (code, shape), stash)?,
        values: at.region(output)?,
    };
    let shape = planned_shape(at, shape, output)?;
    Ok(smidgen_stash::decode(codec(code), &shape, &regions)?)
}

/// A source, how it is coded if it is, and the shape of what is read.
type Loaded<'a> = (&'a Source, Option<&'a Coded>, MapShape);

/// A source as kernels are asked to read it: of a stash, where its values would stand, which [`on_load`] puts loads in the place of.
pub(super) fn source(
    at: &Binder<'_>,
    (input, coded, shape): Loaded<'_>,
) -> Result<smidgen_gpu::Source, Error> {
    let mut source = at.source(input)?;
    if let Some(coded) = coded {
        source.region = stash_region(at, (coded.code, shape), input.value)?;
        source.region.size = Layout::Map(shape).bytes();
    }
    Ok(source)
}

/// The same launches; where the source is coded, those that read it decode it as they load.
pub(super) fn on_load(
    at: &Binder<'_>,
    loaded: Loaded<'_>,
    launches: Vec<Launch>,
) -> Result<Vec<Launch>, Error> {
    let (input, Some(coded), shape) = loaded else {
        return Ok(launches);
    };
    let values = source(at, loaded)?.region;
    let stash = stash_region(at, (coded.code, shape), input.value)?;
    let slope = (coded.slope.as_ref())
        .map(|slope| held_slope(at, shape, slope))
        .transpose()?;
    let shape = planned_shape(at, shape, input.value)?;
    let loads = |launch: Launch| match launch.regions.first() {
        Some(first) if *first == values => {
            smidgen_stash::on_load(codec(coded.code), &shape, launch, stash, slope.as_ref())
        }
        _ => Ok(launch),
    };
    Ok(launches.into_iter().map(loads).collect::<Result<_, _>>()?)
}
