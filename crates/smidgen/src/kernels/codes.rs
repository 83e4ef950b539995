//! The codes of stashes, as the codecs of `smidgen-stash`.

use super::bind::Binder;
use crate::Error;
use smidgen_gpu::Launch;
use smidgen_graph::forms::{Code, Codes};
use smidgen_graph::{MapShape, ValueId};
use smidgen_ops::control::Control;
use smidgen_stash::{Bits, Codec, Decode, Encode, Group, Seed, SlopeBackward, StashShape};

/// What codes take in bytes.
pub(crate) struct StashCodes;

impl Codes for StashCodes {
    fn bytes(&self, code: Code, shape: MapShape) -> Option<u64> {
        Some(codec(code).encoded_bytes(&stash_shape(shape)?))
    }
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

pub(super) fn encode(
    at: &Binder<'_>,
    (code, shape, stream): (Code, MapShape, u32),
    control: ValueId,
    input: ValueId,
    stash: ValueId,
) -> Result<Vec<Launch>, Error> {
    let seed = Seed {
        region: at.region(control)?,
        word: (std::mem::offset_of!(Control, seed) / 4) as u32,
        tensor: stream,
    };
    let regions = Encode {
        values: at.region(input)?,
        stash: at.region(stash)?,
        seed: Some(seed),
        bound: None,
    };
    let shape = planned_shape(at, shape, input)?;
    Ok(smidgen_stash::encode(codec(code), &shape, &regions)?)
}

pub(super) fn decode(
    at: &Binder<'_>,
    (code, shape): (Code, MapShape),
    stash: ValueId,
    output: ValueId,
) -> Result<Vec<Launch>, Error> {
    let regions = Decode {
        stash: at.region(stash)?,
        values: at.region(output)?,
    };
    let shape = planned_shape(at, shape, output)?;
    Ok(smidgen_stash::decode(codec(code), &shape, &regions)?)
}

pub(super) fn slope(
    at: &Binder<'_>,
    (code, values, shape): (Code, bool, MapShape),
    stash: ValueId,
    target: ValueId,
) -> Result<Vec<Launch>, Error> {
    let region = at.region(target)?;
    let regions = SlopeBackward {
        stash: at.region(stash)?,
        output_gradient: region,
        input_gradient: region,
    };
    let shape = planned_shape(at, shape, target)?;
    // Of a ReLU, what stands behind it is the value times the slope, as with a gradient.
    if values && code == Code::SlopeSix {
        let stash = at.region(stash)?;
        return Ok(smidgen_stash::saturate(codec(code), &shape, stash, region)?);
    }
    Ok(smidgen_stash::slope_backward(
        codec(code),
        &shape,
        &regions,
    )?)
}
