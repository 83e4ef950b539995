//! Every encoder against its twin, bit for bit, and every decoder; in NaN-filled memory between guard words, checked and unchecked.

mod inputs;

use inputs::{assert_same, grouped_codecs, tensors, twin};
use smidgen_gpu::testing::Guarded;
use smidgen_gpu::{Activation, Launch, Region, Source};
use smidgen_reference::numbers::{below, normal};
use smidgen_reference::stash as reference;
use smidgen_stash::{
    Bits, Bound, Codec, Decode, Encode, Group, HeldSlope, Seed, SlopeBackward, StashError,
    StashShape, decode, decode_activated, encode, encode_slope, encode_within, slope_backward,
};

const SEED: u32 = 0xdead_beef;
const BOUND: f32 = 0.02;

/// One pixel, part of a word, part of a group, groups and a part, more groups than a workgroup takes.
const SHAPES: [[u32; 2]; 6] = [[1, 1], [5, 3], [12, 63], [4, 65], [9, 200], [3, 1111]];

/// Launches and memory of all cases, run together so that kernels are compiled side by side.
#[derive(Default)]
struct Bench {
    memory: Guarded,
    launches: Vec<Launch>,
}

impl Bench {
    fn new() -> Self {
        Self {
            memory: Guarded::new(),
            launches: Vec::new(),
        }
    }

    /// Encodes `values` and decodes them again, where the codec can.
    fn round_trip<T: smidgen_gpu::bytemuck::Pod>(
        &mut self,
        codec: Codec,
        shape: &StashShape,
        values: &[T],
    ) -> [Region; 3] {
        // The seed is the second word, as in a block with other things.
        let seed = self.memory.input(&[0, SEED]);
        let bound = self.memory.input(&[Bound::wanted(BOUND).unwrap()]);
        let values = self.memory.input(values);
        let stash = self.memory.output(codec.encoded_bytes(shape) as usize / 4);
        let regions = Encode {
            values,
            stash,
            seed: Some(Seed {
                region: seed,
                word: 1,
                tensor: 3,
            }),
            bound: Some(bound),
        };
        self.launches
            .extend(encode(codec, shape, &regions).unwrap());
        let decoded = if matches!(codec, Codec::Mask | Codec::MaskSix) {
            stash
        } else {
            let values = self.memory.output(codec.value_bytes(shape) as usize / 4);
            let launches = decode(codec, shape, &Decode { stash, values }).unwrap();
            self.launches.extend(launches);
            values
        };
        [stash, decoded, bound]
    }

    fn slopes(&mut self, codec: Codec, shape: &StashShape, stash: Region) -> [Region; 2] {
        let gradient = normal(5, shape.elements() as usize * 4);
        let [kept, replaced] = [(); 2].map(|()| self.memory.input(&gradient));
        let apart = self.memory.output(gradient.len());
        for (output_gradient, input_gradient) in [(kept, apart), (replaced, replaced)] {
            let regions = SlopeBackward {
                stash,
                output_gradient,
                input_gradient,
            };
            let launches = slope_backward(codec, shape, &regions).unwrap();
            self.launches.extend(launches);
        }
        [apart, replaced]
    }
}

#[test]
fn codes_of_groups_are_those_of_the_twin_bit_for_bit() {
    let mut bench = Bench::new();
    let mut cases = Vec::new();
    for shape in SHAPES.map(|[channels, pixels]| StashShape::planes(channels, pixels)) {
        for codec in grouped_codecs() {
            for (name, values) in tensors(&shape) {
                let regions = bench.round_trip(codec, &shape, &values);
                cases.push((codec, shape, name, values, regions));
            }
        }
    }
    let outcome = bench.memory.run(&bench.launches).unwrap();
    let wanted = Bound::wanted(BOUND).unwrap();
    for (codec, shape, name, values, [stash, decoded, bound]) in cases {
        let what = format!("{codec:?} of {name}, {shape:?}");
        let twin = twin(codec, &shape, SEED, &wanted);
        let (words, counts) = twin.encode_and_count(&values);
        assert_eq!(outcome.read::<u32>(stash), words, "{what}");
        assert_same(&what, &outcome.read(decoded), &twin.decode(&words));
        if let Codec::Lattice { .. } = codec {
            let found = outcome.read::<Bound>(bound)[0];
            let expected = Bound {
                raised: counts.raised,
                raised_groups: counts.raised_groups,
                nonzero: counts.nonzero,
                ..wanted
            };
            assert_eq!(found, expected, "{what}");
        }
    }
}

#[test]
fn a_bound_may_come_with_the_launches_into_a_block_that_holds_anything() {
    let (shape, group) = (StashShape::planes(9, 200), Group::G64);
    // As little as the bits allow: every group has the least power of two that fits.
    let wanted = Bound::wanted(2.0_f32.powi(-40)).unwrap();
    let values = normal(7, shape.elements() as usize * 4);
    for bits in [Bits::Four, Bits::Eight] {
        let codec = Codec::Lattice { bits, group };
        let mut memory = Guarded::new();
        let words = |codec: Codec| codec.encoded_bytes(&shape) as usize / 4;
        let regions = Encode {
            values: memory.input(&values),
            stash: memory.output(words(codec)),
            seed: None,
            bound: Some(memory.output(Bound::BYTES as usize / 4)),
        };
        let launches = encode_within(codec, &shape, &regions, &wanted).unwrap();
        let outcome = memory.run(&launches).unwrap();
        let (words, counts) = twin(codec, &shape, SEED, &wanted).encode_and_count(&values);
        assert_eq!(outcome.read::<u32>(regions.stash), words);
        let found = outcome.read::<Bound>(regions.bound.unwrap())[0];
        let expected = Bound {
            raised: counts.raised,
            raised_groups: counts.raised_groups,
            nonzero: counts.nonzero,
            ..wanted
        };
        assert_eq!(found, expected);
        let refused = encode_within(Codec::Half, &shape, &regions, &wanted);
        assert!(matches!(refused, Err(StashError::Unsupported { .. })));
    }
}

#[test]
fn halves_are_rounded_as_the_twin_rounds_them() {
    let mut bench = Bench::new();
    let mut cases = Vec::new();
    for shape in SHAPES.map(|[channels, pixels]| StashShape::planes(channels, pixels)) {
        for (name, values) in tensors(&shape) {
            let regions = bench.round_trip(Codec::Half, &shape, &values);
            cases.push((shape, name, values, regions));
        }
    }
    let outcome = bench.memory.run(&bench.launches).unwrap();
    for (shape, name, values, [stash, decoded, _]) in cases {
        let what = format!("{name}, {shape:?}");
        let halves: Vec<u16> = values.iter().map(|value| reference::half(*value)).collect();
        let words: Vec<u32> = outcome.read(stash);
        let found = words
            .iter()
            .flat_map(|word| [*word as u16, (word >> 16) as u16]);
        assert!(
            found.take(halves.len()).eq(halves.iter().copied()),
            "{what}"
        );
        let expected: Vec<f32> = halves
            .iter()
            .map(|half| reference::from_half(*half))
            .collect();
        assert_same(&what, &outcome.read(decoded), &expected);
    }
}

#[test]
fn masks_and_taps_are_exact() {
    let mut bench = Bench::new();
    let (mut masks, mut taps) = (Vec::new(), Vec::new());
    for shape in SHAPES.map(|[channels, pixels]| StashShape::planes(channels, pixels)) {
        for codec in [Codec::Mask, Codec::MaskSix] {
            for (name, values) in tensors(&shape) {
                let [stash, ..] = bench.round_trip(codec, &shape, &values);
                let slopes = bench.slopes(codec, &shape, stash);
                masks.push((codec, shape, name, values, stash, slopes));
            }
        }
        for codec in [
            Codec::taps([2, 2]),
            Codec::taps([3, 3]),
            Codec::taps([7, 7]),
        ] {
            let Codec::Taps { bits } = codec else {
                unreachable!()
            };
            let codes = below(2, 1 << bits.count(), shape.elements() as usize * 4);
            let bytes: Vec<u32> = codes
                .chunks_exact(4)
                .map(|quad| quad[0] | quad[1] << 8 | quad[2] << 16 | quad[3] << 24)
                .collect();
            let [stash, decoded, _] = bench.round_trip(codec, &shape, &bytes);
            taps.push((bits, shape, codes, bytes, stash, decoded));
        }
    }
    let outcome = bench.memory.run(&bench.launches).unwrap();
    for (codec, shape, name, values, stash, slopes) in masks {
        let what = format!("{codec:?} of {name}, {shape:?}");
        let state = |value: f32| match codec {
            Codec::MaskSix => u32::from(value > 0.0) + u32::from(value >= 6.0),
            _ => u32::from(value > 0.0),
        };
        let bits = if codec == Codec::Mask { 1 } else { 2 };
        let states: Vec<u32> = values.iter().map(|value| state(*value)).collect();
        let words = reference::pack(&states, bits, shape.pixels as usize);
        assert_eq!(outcome.read::<u32>(stash), words, "{what}");
        let gradient = normal(5, values.len());
        let pairs = gradient.iter().zip(&states);
        let expected: Vec<f32> = pairs
            .map(|(gradient, state)| if *state == 1 { *gradient } else { 0.0 })
            .collect();
        for slope in slopes {
            assert_same(&what, &outcome.read(slope), &expected);
        }
    }
    for (bits, shape, codes, bytes, stash, decoded) in taps {
        let words = reference::pack(&codes, bits.count(), shape.pixels as usize);
        assert_eq!(
            outcome.read::<u32>(stash),
            words,
            "taps of {bits:?}, {shape:?}"
        );
        assert_eq!(
            outcome.read::<u32>(decoded),
            bytes,
            "taps of {bits:?}, {shape:?}"
        );
    }
}

#[test]
fn codes_that_hold_the_slope_of_a_relu_hold_it_exactly() {
    let mut bench = Bench::new();
    let mut cases = Vec::new();
    let shape = StashShape::planes(9, 200);
    let codecs = [grouped_codecs(), vec![Codec::Half]].concat();
    for codec in codecs.into_iter().filter(|codec| codec.holds_slope()) {
        for (name, values) in tensors(&shape) {
            let [stash, ..] = bench.round_trip(codec, &shape, &values);
            let slopes = bench.slopes(codec, &shape, stash);
            cases.push((codec, name, values, slopes));
        }
    }
    assert_eq!(cases.len(), 4 * tensors(&shape).len());
    let outcome = bench.memory.run(&bench.launches).unwrap();
    for (codec, name, values, slopes) in cases {
        let gradient = normal(5, values.len());
        let pairs = gradient.iter().zip(&values);
        let expected: Vec<f32> = pairs
            .map(|(gradient, value)| if *value > 0.0 { *gradient } else { 0.0 })
            .collect();
        for slope in slopes {
            assert_same(
                &format!("{codec:?} of {name}"),
                &outcome.read(slope),
                &expected,
            );
        }
    }
}

/// Codes with a slope beside them: where they stand, and the normalisation between.
struct Sloped {
    codec: Codec,
    slope: HeldSlope,
    values: Vec<f32>,
    decoded: Region,
    behind: Region,
}

#[test]
fn what_an_activation_made_flat_stays_flat() {
    let group = smidgen_stash::Group::G64;
    let linear = |bits| Codec::Linear { bits, group };
    let mut bench = Bench::new();
    let mut cases = Vec::new();
    for shape in SHAPES.map(|[channels, pixels]| StashShape::planes(channels, pixels)) {
        let values = normal(7, shape.elements() as usize * 4);
        // Scale, shift, mean and inverse deviation of a quad; nothing is rounded when it is applied.
        let normalisation: Vec<f32> = (0..shape.quads)
            .flat_map(|_| [[4.0; 4], [2.0; 4], [0.0; 4], [1.0; 4]].concat())
            .collect();
        let normalisation = bench.memory.input(&normalisation);
        for codec in [linear(Bits::Four), linear(Bits::Two), Codec::Half] {
            for (mask, activation) in [
                (Codec::Mask, Activation::Relu),
                (Codec::MaskSix, Activation::Relu6),
            ] {
                let [stash, decoded, _] = bench.round_trip(codec, &shape, &values);
                let source = Source {
                    region: bench.memory.input(&values),
                    normalisation: Some(normalisation),
                    activation,
                };
                let slope = HeldSlope {
                    codec: mask,
                    stash: bench.memory.output(mask.encoded_bytes(&shape) as usize / 4),
                };
                let behind = bench.memory.output(values.len());
                let regions = Decode {
                    stash,
                    values: behind,
                };
                bench.launches.extend([
                    encode_slope(mask, &shape, &source, slope.stash).unwrap(),
                    decode_activated(codec, &shape, &regions, normalisation, &slope).unwrap(),
                ]);
                cases.push((
                    shape,
                    Sloped {
                        codec,
                        slope,
                        values: values.clone(),
                        decoded,
                        behind,
                    },
                ));
            }
        }
    }
    let outcome = bench.memory.run(&bench.launches).unwrap();
    for (shape, case) in cases {
        let Sloped {
            codec,
            slope,
            values,
            decoded,
            behind,
        } = case;
        let what = format!("{codec:?} and {:?}, {shape:?}", slope.codec);
        let six = slope.codec == Codec::MaskSix;
        let states: Vec<u32> = (values.iter())
            .map(|value| 4.0f32.mul_add(*value, 2.0))
            .map(|value| u32::from(value > 0.0) + u32::from(six && value >= 6.0))
            .collect();
        let words = reference::pack(&states, 1 + u32::from(six), shape.pixels as usize);
        assert_eq!(outcome.read::<u32>(slope.stash), words, "{what}");
        let decoded: Vec<f32> = outcome.read(decoded);
        let expected: Vec<f32> = (decoded.iter().zip(&states))
            .map(|(value, state)| (4.0f32.mul_add(*value, 2.0), *state))
            .map(|(value, state)| match state {
                0 => 0.0,
                1 if six => value.clamp(0.0, 6.0),
                1 => value,
                _ => 6.0,
            })
            .collect();
        assert_same(&what, &outcome.read(behind), &expected);
    }
}

#[test]
fn the_published_example_of_an_error_bounded_code_comes_out() {
    let shape = StashShape::planes(4, 2);
    let values = [0.0, 0.013, -0.027, 0.5, 0.0099, -0.0101, 0.0, 0.0_f32];
    let bits = Bits::Eight;
    let group = smidgen_stash::Group::G64;
    let codec = Codec::Lattice { bits, group };
    let bound = Bound::wanted(0.01).unwrap();
    let twin = twin(codec, &shape, 0, &bound);
    let mut memory = Guarded::new();
    let stash = memory.output(codec.encoded_bytes(&shape) as usize / 4);
    let decoded = memory.output(values.len());
    let regions = Encode {
        values: memory.input(&values),
        stash,
        seed: None,
        bound: Some(memory.input(&[bound])),
    };
    let mut launches = encode(codec, &shape, &regions).unwrap();
    let values_region = Decode {
        stash,
        values: decoded,
    };
    launches.extend(decode(codec, &shape, &values_region).unwrap());
    let outcome = memory.run(&launches).unwrap();
    let words: Vec<u32> = outcome.read(stash);
    // Lanes with something below zero have their zero at 128.
    let signed = |at: usize| values[at % 4] < 0.0 || values[at % 4 + 4] < 0.0;
    let codes = twin.codes(&words).into_iter().enumerate();
    let codes: Vec<i32> = codes
        .map(|(at, code)| code as i32 - if signed(at) { 128 } else { 0 })
        .collect();
    assert_eq!(codes, [0, 1, -1, 25, 0, -1, 0, 0]);
    let errors = [0.0, 0.7, 0.7, 0.0, 0.99, 0.99, 0.0, 0.0];
    let decoded: Vec<f32> = outcome.read(decoded);
    for (at, expected) in errors.iter().enumerate() {
        let error = f64::from(values[at] - decoded[at]).abs() / 0.01;
        assert!((error - expected).abs() < 0.01, "value {at}: {error}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = StashShape::planes(4, 64);
    let region = |bytes| Region::whole(0, bytes);
    let group = smidgen_stash::Group::G64;
    let four = Codec::SignMagnitude { group };
    let full = Encode {
        values: region(1024),
        stash: region(four.encoded_bytes(&shape)),
        seed: None,
        bound: None,
    };
    let message = |codec, regions| encode(codec, &shape, &regions).unwrap_err().to_string();
    assert!(message(four, full).contains("needs a seed"));
    let lattice = Codec::Lattice {
        bits: Bits::Two,
        group,
    };
    assert!(message(lattice, full).contains("wanted bound"));
    let small = Encode {
        stash: region(full.stash.size - 4),
        ..full
    };
    assert!(message(four, small).contains("`stash` has 140 bytes"));
    let masked = Decode {
        stash: region(1024),
        values: region(1024),
    };
    let refused = decode(Codec::Mask, &shape, &masked).unwrap_err();
    assert!(refused.to_string().contains("holds no values"));
    let gradient = SlopeBackward {
        stash: region(1024),
        output_gradient: region(1024),
        input_gradient: region(1024),
    };
    let refused = slope_backward(lattice, &shape, &gradient).unwrap_err();
    assert!(refused.to_string().contains("slope"));
    let source = region(1024).into();
    let refused = encode_slope(Codec::Mask, &shape, &source, region(1024)).unwrap_err();
    assert!(refused.to_string().contains("another activation"));
    let refused = encode_slope(four, &shape, &source, region(1024)).unwrap_err();
    assert!(refused.to_string().contains("is no mask"));
    assert!(StashShape::flat(6).is_err());
    let nothing = StashShape::planes(0, 5);
    let refused = encode(Codec::Mask, &nothing, &full).unwrap_err();
    assert!(refused.to_string().contains("at least one"));
}
