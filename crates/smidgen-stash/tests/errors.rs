//! What the codes lose: bounds on the error of every value, rounding without bias, and the deviation of weight gradients.
//! On the twins, which `twins.rs` compares with the kernels bit for bit.

mod inputs;

use inputs::{grouped_codecs, tensors, twin};
use proptest::prelude::*;
use smidgen_reference::convolution::{Case, weight_gradient};
use smidgen_reference::layout::{from_quads, to_quads, widen};
use smidgen_reference::numbers::normal;
use smidgen_reference::stash::{Code, Stash, predicted_deviation};
use smidgen_stash::{Bits, Bound, Codec, Group, StashShape};

const BOUND: f32 = 0.02;

fn bound() -> Bound {
    Bound::wanted(BOUND).unwrap()
}

/// The step of the group that each value is in (of its side, for the sign-magnitude code).
fn steps(twin: &Stash, words: &[u32], values: &[f32]) -> Vec<f32> {
    let blocks = twin.pixels.div_ceil(twin.group);
    let step = |at: usize| {
        let (element, lane) = (at / 4, at % 4);
        let (quad, pixel) = (element / twin.pixels, element % twin.pixels);
        let header = words[(quad * blocks + pixel / twin.group) * 4 + lane];
        let above = twin.code == Code::SignMagnitude && values[at] > 0.0;
        f32::from_bits(if above {
            header & 0xffff_0000
        } else {
            header << 16
        })
    };
    (0..values.len()).map(step).collect()
}

/// Fails where a value is further from the original than its codec says.
fn check(codec: Codec, shape: &StashShape, seed: u32, values: &[f32]) {
    let twin = twin(codec, shape, seed, &bound());
    let (words, counts) = twin.encode_and_count(values);
    assert_eq!(words.len() as u64 * 4, codec.encoded_bytes(shape));
    let decoded = twin.decode(&words);
    let reached = Bound {
        raised: counts.raised,
        ..bound()
    }
    .achieved();
    let steps = match codec {
        Codec::Lattice { .. } => vec![0.0; values.len()],
        _ => steps(&twin, &words, values),
    };
    let zeros_kept = !matches!(codec, Codec::Linear { .. });
    for (at, value) in values.iter().enumerate() {
        let rectified = matches!(codec, Codec::Rectified { .. });
        let value = if rectified { value.max(0.0) } else { *value };
        if decoded[at].is_nan() {
            continue; // Which groups these are, `only_groups_that_hold...` says.
        }
        let error = (f64::from(value) - f64::from(decoded[at])).abs();
        let limit = match codec {
            Codec::Lattice { .. } => reached,
            // A group that spans less than 2^-90 has no step; the last addition of the decoder rounds.
            _ => f64::from(steps[at]) * 1.000_001 + 1e-27 + f64::from(value).abs() * 1.2e-7,
        };
        assert!(
            error <= limit,
            "{codec:?}: {value:e} came back as {:e}, off by more than {limit:e}",
            decoded[at]
        );
        assert!(!zeros_kept || value != 0.0 || decoded[at] == 0.0);
    }
}

#[test]
fn no_value_is_further_off_than_its_codec_says() {
    for shape in [StashShape::planes(5, 3), StashShape::planes(9, 200)] {
        for codec in grouped_codecs() {
            for (_, values) in tensors(&shape) {
                check(codec, &shape, 9, &values);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_random_value_is_further_off_than_its_codec_says(
        channels in 1_u32..9,
        pixels in 1_u32..150,
        seed: u32,
        scale in -60_i32..60,
        spread in 0_i32..30,
        at in 0_usize..9,
    ) {
        let shape = StashShape::planes(channels, pixels);
        let count = shape.elements() as usize * 4;
        let powers = normal(u64::from(seed), count);
        let values: Vec<f32> = normal(u64::from(seed) + 1, count)
            .iter()
            .zip(powers)
            .map(|(value, power)| value * 2.0_f32.powf(scale as f32 + power * spread as f32 / 4.0))
            .collect();
        check(grouped_codecs()[at], &shape, seed, &values);
    }
}

#[test]
fn only_groups_that_hold_something_not_finite_are_lost_and_they_are_lost_whole() {
    let shape = StashShape::planes(4, 130);
    for codec in grouped_codecs() {
        let group = match codec {
            Codec::Linear { group, .. } => group,
            _ => Group::G64,
        };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
            let mut values = normal(1, 130 * 4);
            values[70 * 4 + 2] = bad;
            let twin = twin(codec, &shape, 0, &bound());
            let (words, counts) = twin.encode_and_count(&values);
            for (at, value) in twin.decode(&words).iter().enumerate() {
                let size = group.pixels() as usize;
                let hit = at % 4 == 2 && at / 4 / size == 70 / size;
                assert_eq!(value.is_nan(), hit, "{codec:?}, {bad}, value {at}");
            }
            assert!(!matches!(codec, Codec::Lattice { .. }) || counts.raised == 127);
        }
    }
}

#[test]
fn what_a_bound_in_a_fixed_slot_costs_beside_random_codes_of_its_width() {
    let (shape, group) = (StashShape::planes(16, 4096), Group::G64);
    let least = Bound::wanted(2.0_f32.powi(-40)).unwrap();
    let signed = normal(11, shape.elements() as usize * 4);
    let rectified: Vec<f32> = signed.iter().map(|value| value.max(0.0)).collect();
    // The mean square of the error over that of the values.
    let error = |codec: Codec, values: &[f32]| {
        let twin = twin(codec, &shape, 5, &least);
        let (words, _) = twin.encode_and_count(values);
        let off = twin.decode(&words).into_iter().zip(values);
        let off: f64 = off
            .map(|(found, value)| f64::from(found - value).powi(2))
            .sum();
        off / widen(values).iter().map(|value| value.powi(2)).sum::<f64>()
    };
    for bits in [Bits::Eight, Bits::Four] {
        let bounded = Codec::Lattice { bits, group };
        let [linear, coarser] = [group, Group::G256].map(|group| Codec::Linear { bits, group });
        // The coarser groups have the bytes of the bounded code to a thousandth.
        let [held, other] = [bounded, coarser].map(|codec| codec.encoded_bytes(&shape) as f64);
        assert!((held / other - 1.0).abs() < 1e-3);
        for (values, least, most) in [(&signed, 1.3, 1.45), (&rectified, 1.05, 1.25)] {
            let found = [bounded, linear, coarser].map(|codec| error(codec, values));
            let ratio = found[0] / found[1];
            assert!(least < ratio && ratio < most, "{bits:?}: {found:?}");
            assert!(found[0] < found[2], "{bits:?}: {found:?}");
        }
    }
}

#[test]
fn a_group_that_does_not_fit_raises_its_own_bound_and_no_other() {
    let shape = StashShape::planes(4, 128);
    let bits = Bits::Four;
    let group = Group::G64;
    let codec = Codec::Lattice { bits, group };
    // Up to 15 steps of nearly 0.04 fit without a sign.
    let mut values: Vec<f32> = normal(3, 512)
        .iter()
        .map(|value| value.abs().min(0.59))
        .collect();
    let twin = twin(codec, &shape, 0, &bound());
    assert_eq!(twin.encode_and_count(&values).1.raised, 0);
    values[64 * 4] = 4.0;
    let (words, counts) = twin.encode_and_count(&values);
    assert_eq!((counts.raised, counts.raised_groups), (3, 1));
    let decoded = twin.decode(&words);
    for (at, (value, decoded)) in values.iter().zip(&decoded).enumerate() {
        let limit = if at >= 256 && at % 4 == 0 {
            8.0 * BOUND
        } else {
            BOUND
        };
        assert!((value - decoded).abs() <= limit);
    }
}

/// A convolution whose weight gradient is taken with decoded inputs.
struct Layer {
    case: Case,
    shape: StashShape,
    input: Vec<f32>,
    gradient: Vec<f64>,
}

impl Layer {
    fn new(input: impl Fn(f32) -> f32) -> Self {
        let case = Case::new("stash", 4, [8, 12, 12], 8, [3, 3]).padding(1, 1);
        let input = normal(21, 4 * 8 * 144).into_iter().map(input).collect();
        let gradient = widen(&normal(22, 4 * 8 * 144));
        Self {
            case,
            shape: StashShape::planes(8, 4 * 144),
            input,
            gradient,
        }
    }

    fn exact(&self) -> Vec<f64> {
        weight_gradient(&self.case, &widen(&self.input), &self.gradient)
    }

    /// The weight gradient with what a codec gives back.
    fn lossy(&self, codec: Codec, seed: u32, bound: &Bound) -> Vec<f64> {
        let quads = to_quads(&self.input, 4, 8, 144);
        let twin = twin(codec, &self.shape, seed, bound);
        let decoded = from_quads(&twin.decode(&twin.encode(&quads)), 4, 8, 144);
        weight_gradient(&self.case, &widen(&decoded), &self.gradient)
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn the_mean_of_lossy_weight_gradients_approaches_the_exact_one_as_one_over_the_root_of_the_seeds() {
    let group = Group::G64;
    let linear = |bits| Codec::Linear { bits, group };
    for (codec, layer) in [
        (linear(Bits::Two), Layer::new(|value| value)),
        (linear(Bits::Four), Layer::new(|value| value)),
        (linear(Bits::Eight), Layer::new(|value| value)),
        (Codec::SignMagnitude { group }, Layer::new(|value| value)),
        (
            Codec::Rectified {
                bits: Bits::Four,
                group,
            },
            Layer::new(|value| value.max(0.0)),
        ),
    ] {
        let exact = layer.exact();
        let error = |sum: &[f64], seeds: f64| {
            norm(
                sum.iter()
                    .zip(&exact)
                    .map(|(sum, exact)| sum / seeds - exact),
            )
        };
        let mut sum = vec![0.0; exact.len()];
        let mut alone = 0.0;
        for seed in 0..16 {
            let gradient = layer.lossy(codec, seed, &bound());
            alone += error(&gradient, 1.0).powi(2) / 16.0;
            sum.iter_mut()
                .zip(gradient)
                .for_each(|(sum, gradient)| *sum += gradient);
        }
        let ratio = error(&sum, 16.0) / alone.sqrt();
        // 1/4 if the seeds are independent and unbiased; 576 weights give this ratio a deviation of 3 %.
        assert!((0.21..0.29).contains(&ratio), "{codec:?}: {ratio}");
        assert!(alone.sqrt() < norm(exact.iter().copied()), "{codec:?}");
    }
}

#[test]
fn the_deviation_of_weight_gradients_is_the_predicted_one() {
    let bits = Bits::Eight;
    let group = Group::G64;
    let codec = Codec::Lattice { bits, group };
    for wanted in [0.02, 0.05, 0.1] {
        let bound = Bound::wanted(wanted).unwrap();
        let layer = Layer::new(|value| value.max(0.0));
        let quads = to_quads(&layer.input, 4, 8, 144);
        let counts = twin(codec, &layer.shape, 0, &bound)
            .encode_and_count(&quads)
            .1;
        assert_eq!(counts.raised, 0, "the bound must hold as it is");
        let share = f64::from(counts.nonzero) / layer.input.len() as f64;
        let lossy = layer.lossy(codec, 0, &bound);
        let errors: Vec<f64> = lossy
            .iter()
            .zip(layer.exact())
            .map(|(a, b)| a - b)
            .collect();
        // Of the taps that miss no pixel at the border, one a filter; all output channels together, each by its own prediction.
        let ratios = (0..8 * 8).map(|filter| {
            let channel = filter / 8;
            let planes = (0..4).map(|image| &layer.gradient[(image * 8 + channel) * 144..][..144]);
            let gradient = norm(planes.flatten().copied());
            errors[filter * 9 + 4] / predicted_deviation(bound.asked(), share, gradient)
        });
        let ratio = norm(ratios) / 8.0;
        assert!((ratio - 1.0).abs() < 0.1, "bound {wanted}: {ratio}");
    }
}
