//! Tensors that the codecs are tested on, and their twins.
#![allow(dead_code)] // Every test file uses a part of it.

use smidgen_reference::numbers::normal;
use smidgen_reference::stash::{Code, Stash};
use smidgen_stash::{Bits, Bound, Codec, Group, StashShape};

/// Values of a tensor, by name.
pub(crate) type Named = (&'static str, Vec<f32>);

/// A tensor of every kind that a codec could stumble over.
pub(crate) fn tensors(shape: &StashShape) -> Vec<Named> {
    let count = shape.elements() as usize * 4;
    let plain = normal(11, count);
    let map = |change: &dyn Fn(usize, f32) -> f32| -> Vec<f32> {
        plain
            .iter()
            .enumerate()
            .map(|(at, value)| change(at, *value))
            .collect()
    };
    vec![
        ("normal", plain.clone()),
        ("after a ReLU", map(&|_, value| value.max(0.0))),
        (
            "after a ReLU6",
            map(&|_, value| (4.0 * value).clamp(0.0, 6.0)),
        ),
        ("all zero", map(&|_, _| 0.0)),
        ("all equal", map(&|_, _| 0.3)),
        ("all below zero", map(&|_, value| -value.abs() - 0.1)),
        ("far from zero", map(&|_, value| 1000.0 + value)),
        ("tiny", map(&|_, value| value * 1e-20)),
        ("huge", map(&|_, value| value * 1e25)),
        (
            "one outlier",
            map(&|at, value| if at % 97 == 5 { 1e4 } else { value }),
        ),
        (
            "too small to count",
            map(&|at, value| value * if at % 2 == 0 { 1e-33 } else { 1.0 }),
        ),
        ("integers", map(&|_, value| (value * 10.0).round())),
        (
            "a padded lane",
            map(&|at, value| if at % 4 == 3 { 0.0 } else { value }),
        ),
        (
            "not finite",
            map(&|at, value| match at % 1000 {
                7 => f32::NAN,
                333 => f32::INFINITY,
                500 => f32::NEG_INFINITY,
                700 => 3e38,
                _ => value,
            }),
        ),
    ]
}

/// The twin of a codec of groups; the bound is only for the error-bounded one.
pub(crate) fn twin(codec: Codec, shape: &StashShape, seed: u32, bound: &Bound) -> Stash {
    let (code, bits, group) = match codec {
        Codec::Linear { bits, group } => (Code::Linear, bits, group),
        Codec::SignMagnitude { group } => (Code::SignMagnitude, Bits::Four, group),
        Codec::Rectified { bits, group } => (Code::Rectified, bits, group),
        Codec::Lattice { bits, group } => {
            let Bound { step, inverse, .. } = *bound;
            (Code::Lattice { step, inverse }, bits, group)
        }
        other => panic!("{other:?} has no groups"),
    };
    Stash {
        code,
        bits: bits.count(),
        group: group.pixels() as usize,
        quads: shape.quads as usize,
        pixels: shape.pixels as usize,
        seed,
        tensor: 3,
    }
}

/// Every codec of groups; all widths at one size of groups, and the other size once.
pub(crate) fn grouped_codecs() -> Vec<Codec> {
    let group = Group::G64;
    let mut codecs: Vec<Codec> = Bits::ALL
        .iter()
        .flat_map(|bits| {
            let bits = *bits;
            [
                Codec::Linear { bits, group },
                Codec::Lattice { bits, group },
            ]
        })
        .collect();
    codecs.extend([
        Codec::SignMagnitude { group },
        Codec::Rectified {
            bits: Bits::Four,
            group,
        },
        Codec::Rectified {
            bits: Bits::Two,
            group,
        },
        Codec::Linear {
            bits: Bits::Four,
            group: Group::G256,
        },
    ]);
    codecs
}

/// Equal bit for bit, except that any NaN equals any other and zeros equal each other.
#[track_caller]
pub(crate) fn assert_same(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (at, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!(
            actual == expected || (actual.is_nan() && expected.is_nan()),
            "{what}: value {at} is {actual:e}, the twin has {expected:e}"
        );
    }
}
