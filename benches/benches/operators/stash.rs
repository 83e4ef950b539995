//! Codecs of stashes, beside a plain copy; and the weight gradient from a stash, beside that from the values.

use criterion::{Criterion, Throughput};
use smidgen_benches::{Memory, device, large_map, map_shape, measure};
use smidgen_conv::{ConvolutionShape, Pass, WeightGradient, weight_gradient, workspace};
use smidgen_ops::elementwise;
use smidgen_stash::{
    Bits, Bound, Codec, Decode, Encode, Group, Seed, SlopeBackward, StashShape, decode, encode,
    on_load, slope_backward,
};

const CASE: &str = "32x16x32x32";

fn named_codecs() -> Vec<(&'static str, Codec)> {
    let group = Group::G64;
    let linear = |bits| Codec::Linear { bits, group };
    let bits = Bits::Four;
    vec![
        ("f16", Codec::Half),
        ("8 bits", linear(Bits::Eight)),
        ("4 bits", linear(Bits::Four)),
        ("2 bits", linear(Bits::Two)),
        ("4 bits sign-magnitude", Codec::SignMagnitude { group }),
        (
            "4 bits after a ReLU",
            Codec::Rectified {
                bits: Bits::Four,
                group,
            },
        ),
        ("4 bits error-bounded", Codec::Lattice { bits, group }),
        ("mask", Codec::Mask),
    ]
}

/// Throughput counts the f32 values once and what is held once.
pub(crate) fn codecs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stash");
    let map = map_shape(&large_map());
    let shape = StashShape::planes(map.channels, map.pixels());
    let mut memory = Memory::new();
    let values = memory.values(shape.value_bytes());
    let copied = memory.values(shape.value_bytes());
    let seed = Seed {
        region: memory.words(&[1]),
        word: 0,
        tensor: 0,
    };
    // A bound that no test can refuse.
    let bound = Bound::wanted(0.1).unwrap_or_else(|error| panic!("{error}"));
    let bound = memory.words(smidgen_gpu::bytemuck::cast_slice(&[bound]));
    let bytes = |held| Throughput::Bytes(shape.value_bytes() + held);
    let copy = elementwise::copy(shape.value_bytes(), values, copied);
    let size = shape.value_bytes();
    measure(&mut group, "copy", CASE, bytes(size), &memory, copy);
    for (name, codec) in named_codecs() {
        let held = codec.encoded_bytes(&shape);
        let stash = memory.values(held);
        let regions = Encode {
            values,
            stash,
            seed: Some(seed),
            bound: Some(bound),
        };
        let launches = encode(codec, &shape, &regions);
        let name_of = |what| format!("{what} {name}");
        measure(
            &mut group,
            &name_of("encode"),
            CASE,
            bytes(held),
            &memory,
            launches,
        );
        if codec.holds_values() {
            let regions = Decode {
                stash,
                values: copied,
            };
            let launches = decode(codec, &shape, &regions);
            measure(
                &mut group,
                &name_of("decode"),
                CASE,
                bytes(held),
                &memory,
                launches,
            );
        } else {
            let regions = SlopeBackward {
                stash,
                output_gradient: values,
                input_gradient: copied,
            };
            let launches = slope_backward(codec, &shape, &regions);
            let moved = Throughput::Bytes(2 * shape.value_bytes() + held);
            measure(
                &mut group,
                &name_of("backward by"),
                CASE,
                moved,
                &memory,
                launches,
            );
        }
    }
}

/// The weight gradient of a 3x3 convolution of that map: from the values, from a decoded copy (decoding counted), decoding on load.
pub(crate) fn weight_gradients(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stash");
    let facts = device().facts();
    let map = map_shape(&large_map());
    let shape = StashShape::planes(map.channels, map.pixels());
    let convolution =
        ConvolutionShape::new(map.batch, [map.channels, map.height, map.width], 16, [3, 3])
            .with_padding(1);
    let work = Throughput::Elements(2 * convolution.multiply_adds());
    let mut memory = Memory::new();
    let values = memory.values(shape.value_bytes());
    let room = workspace(Pass::WeightGradient, &convolution, facts, None).unwrap_or(0);
    let regions = WeightGradient {
        input: values.into(),
        output_gradient: memory.values(convolution.output_bytes()),
        weight_gradient: memory.values(convolution.weight_bytes()),
        bias_gradient: None,
        workspace: (room > 0).then(|| memory.values(room)),
    };
    let plain = weight_gradient(&convolution, facts, None, &regions);
    let plain = plain.unwrap_or_else(|error| panic!("{error}"));
    measure(
        &mut group,
        "weight gradient",
        CASE,
        work.clone(),
        &memory,
        plain.clone(),
    );
    for (name, codec) in named_codecs() {
        if !codec.holds_values() {
            continue;
        }
        let stash = memory.values(codec.encoded_bytes(&shape));
        let fused: Result<Vec<_>, _> = plain
            .iter()
            .map(|launch| match launch.regions[0] == values {
                true => on_load(codec, &shape, launch.clone(), stash, None),
                false => Ok(launch.clone()),
            })
            .collect();
        let on_load_name = format!("weight gradient, {name} on load");
        measure(
            &mut group,
            &on_load_name,
            CASE,
            work.clone(),
            &memory,
            fused,
        );
        let apart = decode(codec, &shape, &Decode { stash, values });
        let apart = apart.map(|launches| [launches, plain.clone()].concat());
        let apart_name = format!("weight gradient, {name} decoded before");
        measure(&mut group, &apart_name, CASE, work.clone(), &memory, apart);
    }
}
