//! What the tests of operators on maps share: maps and vectors in guarded memory, and back.
#![allow(dead_code)] // Every test file uses a part of it.

use smidgen_gpu::testing::{Guarded, Outcome, relative_error};
use smidgen_gpu::{Region, Source};
use smidgen_ops::{Activation, MapShape};
use smidgen_reference::activation::Activation as Twin;
use smidgen_reference::elementwise::MapCase;
use smidgen_reference::layout::{from_quads, pad_channels, to_quads};

pub(crate) fn shape(map: &MapCase) -> MapShape {
    MapShape::new(
        map.batch as u32,
        map.channels as u32,
        map.height as u32,
        map.width as u32,
    )
}

pub(crate) fn twin(activation: Activation) -> Twin {
    match activation {
        Activation::Identity => Twin::Identity,
        Activation::Relu => Twin::Relu,
        Activation::Relu6 => Twin::Relu6,
        Activation::HardSwish => Twin::HardSwish,
        Activation::Silu => Twin::Silu,
        Activation::Gelu => Twin::Gelu,
        other => panic!("no twin of {other:?}"),
    }
}

/// Places a map given in NCHW.
pub(crate) fn place(memory: &mut Guarded, map: &MapCase, nchw: &[f32]) -> Region {
    memory.input(&to_quads(nchw, map.batch, map.channels, map.image_pixels()))
}

/// Room for a map.
pub(crate) fn room(memory: &mut Guarded, map: &MapCase) -> Region {
    memory.output(shape(map).bytes() as usize / 4)
}

/// Places a vector of one value a channel.
pub(crate) fn place_vector(memory: &mut Guarded, values: &[f32]) -> Region {
    memory.input(&pad_channels(values))
}

/// Room for a vector of one value a channel.
pub(crate) fn vector_room(memory: &mut Guarded, channels: usize) -> Region {
    memory.output(channels.next_multiple_of(4))
}

/// A map in NCHW; fails where padding is not zero.
pub(crate) fn read(outcome: &Outcome, map: &MapCase, region: Region) -> Vec<f32> {
    from_quads(
        &outcome.read(region),
        map.batch,
        map.channels,
        map.image_pixels(),
    )
}

/// A vector without its padding; fails where that is not zero.
pub(crate) fn read_vector(outcome: &Outcome, channels: usize, region: Region) -> Vec<f32> {
    let mut values: Vec<f32> = outcome.read(region);
    assert!(values[channels..].iter().all(|value| *value == 0.0));
    values.truncate(channels);
    values
}

/// Fails if the relative error is above `limit`.
#[track_caller]
pub(crate) fn assert_close(what: &str, actual: &[f32], expected: &[f64], limit: f64) {
    let error = relative_error(actual, expected);
    assert!(
        error <= limit,
        "{what}: relative error {error:.3e} above {limit:e}"
    );
}

/// A way of reading a map: through these scales and shifts, if any, and this activation.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) vectors: Option<[Vec<f32>; 2]>,
    pub(crate) activation: Activation,
}

/// Every combination of normalised or not with some activations.
pub(crate) fn reads(channels: usize) -> Vec<Read> {
    let vectors = [6, 7].map(|seed| smidgen_reference::numbers::normal(seed, channels));
    let mut reads = Vec::new();
    for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
        for vectors in [None, Some(vectors.clone())] {
            reads.push(Read {
                vectors,
                activation,
            });
        }
    }
    reads
}

impl Read {
    /// Places the normalisation; its last two vectors are for backward alone.
    pub(crate) fn source(&self, memory: &mut Guarded, region: Region) -> Source {
        let normalisation = self.vectors.as_ref().map(|[scale, shift]| {
            let (scale, shift) = (pad_channels(scale), pad_channels(shift));
            let quads = scale.chunks(4).zip(shift.chunks(4));
            let all: Vec<f32> = quads
                .flat_map(|(scale, shift)| [scale, shift, &[f32::NAN; 8]].concat())
                .collect();
            memory.input(&all)
        });
        Source {
            region,
            normalisation,
            activation: self.activation,
        }
    }

    /// What a map in NCHW is read as, and what it is before its activation.
    pub(crate) fn values(&self, map: &MapCase, nchw: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let scaled: Vec<f64> = (nchw.iter().enumerate())
            .map(|(at, value)| {
                let channel = at / map.image_pixels() % map.channels;
                self.vectors
                    .as_ref()
                    .map_or(f64::from(*value), |[scale, shift]| {
                        f64::from(scale[channel]) * f64::from(*value) + f64::from(shift[channel])
                    })
            })
            .collect();
        let read = smidgen_reference::activation::forward(twin(self.activation), &scaled);
        (read, scaled)
    }
}
