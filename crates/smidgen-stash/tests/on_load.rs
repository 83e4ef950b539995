//! A consumer that decodes as it loads computes what it computes from a decoded copy, bit for bit.

use smidgen_conv::sparse::{
    SparseShape, SparseWeightGradient, sparse_weight_gradient, sparse_weight_gradient_workspace,
};
use smidgen_conv::{
    ConvolutionShape, Pass, Variant, WeightGradient, candidates, weight_gradient, workspace,
};
use smidgen_gpu::testing::{Guarded, device};
use smidgen_gpu::{Activation, DeviceFacts, DeviceKind, Launch, Region, Source};
use smidgen_ops::MapShape;
use smidgen_ops::batch_norm::{Backward, StatisticsKind, backward, backward_workspace};
use smidgen_reference::numbers::normal;
use smidgen_stash::{
    Bits, Bound, Codec, Decode, Encode, Group, HeldSlope, Seed, SlopeBackward, StashShape, decode,
    decode_activated, encode, encode_slope, on_load, slope_backward,
};

/// How the input of a convolution is coded, and read.
#[derive(Debug, Clone, Copy)]
struct Form {
    codec: Codec,
    /// Whether a normalisation is applied.
    normalise: bool,
    activation: Activation,
    /// What the slope of the activation is held in beside the codes, if it is.
    mask: Option<Codec>,
}

/// The kernel that takes the weight gradient.
#[derive(Debug, Clone, Copy)]
enum Kernel {
    /// One of the dense ones, or the rule's.
    Dense(Option<Variant>),
    /// That of live blocks.
    Sparse(SparseShape),
}

/// Launches of the weight gradient from a decoded copy, and from the stash itself, and where they leave it.
fn both(
    memory: &mut Guarded,
    form: Form,
    shape: &ConvolutionShape,
    kernel: Kernel,
) -> (Vec<Launch>, [Region; 2]) {
    let Form { codec, mask, .. } = form;
    let quads = shape.input_channels.div_ceil(4);
    let stash_shape = StashShape {
        quads,
        pixels: shape.input_bytes() as u32 / 16 / quads,
    };
    let count = shape.input_bytes() as usize / 4;
    let values = memory.input(&normal(1, count));
    let stash = memory.output(codec.encoded_bytes(&stash_shape) as usize / 4);
    let copy = memory.output(count);
    let output_gradient = memory.input(&normal(2, shape.output_bytes() as usize / 4));
    let normalisation = memory.input(&normal(3, quads as usize * 16));
    let seed = Seed {
        region: memory.input(&[5_u32]),
        word: 0,
        tensor: 1,
    };
    let bound = memory.input(&[Bound::wanted(0.01).unwrap()]);
    let regions = Encode {
        values,
        stash,
        seed: Some(seed),
        bound: Some(bound),
    };
    let mut launches = encode(codec, &stash_shape, &regions).unwrap();
    let source = |region, activation| Source {
        region,
        normalisation: form.normalise.then_some(normalisation),
        activation,
    };
    let slope = mask.map(|mask| {
        let slope = HeldSlope {
            codec: mask,
            stash: memory.output(mask.encoded_bytes(&stash_shape) as usize / 4),
        };
        let source = source(values, form.activation);
        launches.push(encode_slope(mask, &stash_shape, &source, slope.stash).unwrap());
        slope
    });
    let regions = Decode {
        stash,
        values: copy,
    };
    let inputs = match &slope {
        Some(slope) => {
            let behind =
                decode_activated(codec, &stash_shape, &regions, normalisation, slope).unwrap();
            launches.push(behind);
            [copy.into(), source(copy, Activation::Identity)]
        }
        None => {
            launches.extend(decode(codec, &stash_shape, &regions).unwrap());
            [source(copy, form.activation); 2]
        }
    };
    let bytes = match &kernel {
        Kernel::Dense(_) => shape.weight_bytes(),
        Kernel::Sparse(sparse) => sparse.value_bytes(),
    };
    let outputs = [(); 2].map(|()| memory.output(bytes as usize / 4));
    let facts = device(true).facts();
    let mut gradient = |input: Source, weight_gradient_region: Region| match &kernel {
        Kernel::Sparse(shape) => {
            let bytes = sparse_weight_gradient_workspace(shape, facts).unwrap();
            let columns = shape.choose(|group, column| f64::from(column % (3 + group)));
            let [_, _, walk] = shape.lists(&columns);
            let regions = SparseWeightGradient {
                input,
                output_gradient,
                columns: memory.input(&columns),
                walk: memory.input(&walk),
                value_gradient: weight_gradient_region,
                workspace: (bytes > 0).then(|| memory.output(bytes as usize / 4)),
            };
            sparse_weight_gradient(shape, facts, &regions).unwrap()
        }
        Kernel::Dense(variant) => {
            let bytes = workspace(Pass::WeightGradient, shape, facts, *variant).unwrap();
            let workspace = (bytes > 0).then(|| memory.output(bytes as usize / 4));
            let regions = WeightGradient {
                input,
                output_gradient,
                weight_gradient: weight_gradient_region,
                bias_gradient: None,
                workspace,
            };
            weight_gradient(shape, facts, *variant, &regions).unwrap()
        }
    };
    launches.extend(gradient(inputs[0], outputs[0]));
    let fused = gradient(inputs[1], outputs[1]);
    launches.extend(fused.into_iter().map(|launch| {
        if launch.regions[0] == copy {
            on_load(codec, &stash_shape, launch, stash, slope.as_ref()).unwrap()
        } else {
            launch
        }
    }));
    (launches, outputs)
}

fn assert_same_from_copy_and_stash(of: impl IntoIterator<Item = (ConvolutionShape, Kernel, Form)>) {
    let (mut memory, mut launches, mut cases) = (Guarded::new(), Vec::new(), Vec::new());
    for (shape, kernel, form) in of {
        let (more, places) = both(&mut memory, form, &shape, kernel);
        launches.extend(more);
        cases.push((form, kernel, places));
    }
    let outcome = memory.run(&launches).unwrap();
    for (form, kernel, places) in cases {
        let [copy, stash] = places.map(|place| outcome.read::<f32>(place));
        assert_eq!(copy, stash, "{form:?}, {kernel:?}");
        assert!(copy.iter().any(|value| *value != 0.0));
    }
}

const GROUP: Group = Group::G64;
const LINEAR: Codec = Codec::Linear {
    bits: Bits::Four,
    group: GROUP,
};

#[test]
fn a_weight_gradient_from_the_stash_is_that_from_a_decoded_copy() {
    let shape = ConvolutionShape::new(2, [6, 9, 11], 5, [3, 3]).with_padding(1);
    let bits = Bits::Four;
    let plain = |codec, activation| Form {
        codec,
        normalise: false,
        activation,
        mask: None,
    };
    let group = GROUP;
    let forms = [
        plain(Codec::Half, Activation::Identity),
        plain(LINEAR, Activation::Identity),
        plain(Codec::Rectified { bits, group }, Activation::Identity),
        plain(Codec::Lattice { bits, group }, Activation::Identity),
        // What is held is the input of a ReLU, which the loader applies as well.
        plain(Codec::SignMagnitude { group }, Activation::Relu),
    ];
    // Few blocks, and many, which strips of pixels serve.
    let [few, many] = [0.1, 0.8].map(|density| SparseShape::with_density(shape, density).unwrap());
    let kernels = [
        Kernel::Dense(None),
        Kernel::Sparse(few),
        Kernel::Sparse(many),
    ];
    assert_same_from_copy_and_stash(
        (forms.iter()).flat_map(|form| kernels.map(|kernel| (shape, kernel, *form))),
    );
}

#[test]
fn every_kernel_decodes_behind_normalisations_and_held_slopes() {
    let two = Codec::Linear {
        bits: Bits::Two,
        group: Group::G256,
    };
    let behind = |codec, activation, mask| Form {
        codec,
        normalise: true,
        activation,
        mask,
    };
    let forms = [
        behind(LINEAR, Activation::Identity, None),
        behind(LINEAR, Activation::Relu, Some(Codec::Mask)),
        behind(two, Activation::Relu6, Some(Codec::MaskSix)),
        behind(Codec::Half, Activation::Relu, Some(Codec::Mask)),
    ];
    let shape = |channels, outputs, kernel| {
        ConvolutionShape::new(2, [channels, 10, 12], outputs, [kernel; 2]).with_padding(kernel / 2)
    };
    let depthwise = shape(8, 8, 3).with_groups(8);
    let pass = Pass::WeightGradient;
    // What GPUs are given; a software device can run it too.
    let facts = DeviceFacts {
        kind: DeviceKind::Discrete,
        ..device(true).facts().clone()
    };
    let find = |shape: &ConvolutionShape, wanted: fn(&Variant) -> bool| {
        let found = candidates(pass, shape, &facts, 1 << 20).unwrap();
        let found = found.into_iter().find(wanted);
        assert!(found.is_some(), "{shape:?}");
        (*shape, Kernel::Dense(found))
    };
    let shared = |variant: &Variant| matches!(variant, Variant::SharedBlocks(_));
    let blocks = |variant: &Variant| matches!(variant, Variant::Blocks(_));
    // By the rule where no subgroups share.
    let product = |shape: ConvolutionShape| {
        let found = candidates(pass, &shape, device(true).facts(), 1 << 20).unwrap();
        let product = |variant: &Variant| matches!(variant, Variant::Product(_));
        (shape, Kernel::Dense(found.into_iter().find(product)))
    };
    let by_rule = |shape: ConvolutionShape| (shape, Kernel::Dense(None));
    let [few, many] =
        [0.1, 0.8].map(|density| SparseShape::with_density(shape(8, 8, 3), density).unwrap());
    let kernels = [
        by_rule(shape(6, 5, 3)),
        by_rule(shape(8, 8, 3).with_stride(2)),
        by_rule(shape(6, 12, 1)),
        by_rule(shape(16, 16, 3).with_groups(2)),
        by_rule(depthwise),
        by_rule(depthwise.with_stride(2)),
        find(&depthwise, blocks),
        find(&shape(16, 16, 3), shared),
        find(&shape(16, 16, 3).with_stride(2), shared),
        product(shape(36, 8, 1)),
        (shape(8, 8, 3), Kernel::Sparse(few)),
        (shape(8, 8, 3), Kernel::Sparse(many)),
    ];
    // Each kernel with two of the forms: every one takes long to compile.
    let cases = kernels.into_iter().enumerate().flat_map(|(at, of)| {
        let form = move |other: usize| (of.0, of.1, forms[(at + other) % forms.len()]);
        [form(0), form(1)]
    });
    assert_same_from_copy_and_stash(cases);
}

/// Launches of the backward pass of a normalisation from a decoded copy, behind a gradient that a held slope has been applied to, and of that
/// which does both as it loads; and what each leaves: gradients by the input, the scale and the shift.
fn normalisations(
    memory: &mut Guarded,
    (codec, mask): (Codec, Option<(Codec, Activation)>),
    shape: &MapShape,
    in_place: bool,
) -> (Vec<Launch>, [[Region; 3]; 2]) {
    let stash_shape = StashShape::planes(shape.channels, shape.pixels());
    let count = stash_shape.elements() as usize * 4;
    let values = memory.input(&normal(1, count));
    let stash = memory.output(codec.encoded_bytes(&stash_shape) as usize / 4);
    let copy = memory.output(count);
    let seed = Seed {
        region: memory.input(&[5_u32]),
        word: 0,
        tensor: 1,
    };
    let regions = Encode {
        values,
        stash,
        seed: Some(seed),
        bound: Some(memory.input(&[Bound::wanted(0.01).unwrap()])),
    };
    let mut launches = encode(codec, &stash_shape, &regions).unwrap();
    let regions = Decode {
        stash,
        values: copy,
    };
    launches.extend(decode(codec, &stash_shape, &regions).unwrap());
    let normalisation = memory.input(&normal(3, stash_shape.quads as usize * 16));
    let slope = mask.map(|(mask, activation)| {
        let slope = HeldSlope {
            codec: mask,
            stash: memory.output(mask.encoded_bytes(&stash_shape) as usize / 4),
        };
        let source = Source {
            region: values,
            normalisation: Some(normalisation),
            activation,
        };
        launches.push(encode_slope(mask, &stash_shape, &source, slope.stash).unwrap());
        slope
    });
    let facts = device(true).facts();
    let leaves = [false, true].map(|fused| {
        let output_gradient = memory.input(&normal(2, count));
        let vector = 4 * stash_shape.quads as usize;
        let regions = Backward {
            input: copy,
            normalisation,
            output_gradient,
            workspace: memory.output(backward_workspace(shape, facts) as usize / 4),
            gamma_gradient: memory.output(vector),
            beta_gradient: memory.output(vector),
            input_gradient: if in_place {
                output_gradient
            } else {
                memory.output(count)
            },
        };
        if let (false, Some(slope)) = (fused, slope) {
            let regions = SlopeBackward {
                stash: slope.stash,
                output_gradient,
                input_gradient: output_gradient,
            };
            launches.extend(slope_backward(slope.codec, &stash_shape, &regions).unwrap());
        }
        let kind = StatisticsKind::Batch;
        let made = backward(shape, facts, Activation::Identity, kind, &regions).unwrap();
        launches.extend(made.into_iter().map(|launch| {
            if fused && launch.regions[0] == copy {
                on_load(codec, &stash_shape, launch, stash, slope.as_ref()).unwrap()
            } else {
                launch
            }
        }));
        [
            regions.input_gradient,
            regions.gamma_gradient,
            regions.beta_gradient,
        ]
    });
    (launches, leaves)
}

#[test]
fn a_normalisation_passes_gradients_back_from_the_stash_as_from_a_decoded_copy() {
    let (group, bits) = (Group::G64, Bits::Four);
    let linear = Codec::Linear { bits, group };
    let two = Codec::Linear {
        bits: Bits::Two,
        group: Group::G256,
    };
    let relu = Some((Codec::Mask, Activation::Relu));
    let six = Some((Codec::MaskSix, Activation::Relu6));
    let forms = [
        (Codec::Half, None),
        (Codec::Half, relu),
        (linear, None),
        (linear, relu),
        (linear, six),
        (two, relu),
        (Codec::Rectified { bits, group }, None),
        (Codec::SignMagnitude { group }, None),
        (Codec::Lattice { bits, group }, None),
    ];
    let (mut memory, mut launches, mut cases) = (Guarded::new(), Vec::new(), Vec::new());
    for shape in [
        MapShape::new(2, 6, 9, 11),
        MapShape::new(1, 3, 1, 1),
        MapShape::new(3, 8, 20, 23),
    ] {
        for form in forms {
            for in_place in [false, true] {
                let (more, leaves) = normalisations(&mut memory, form, &shape, in_place);
                launches.extend(more);
                cases.push((form, shape, leaves));
            }
        }
    }
    let outcome = memory.run(&launches).unwrap();
    for (form, shape, [apart, fused]) in cases {
        for (apart, fused) in apart.into_iter().zip(fused) {
            let [apart, fused] = [apart, fused].map(|place| outcome.read::<f32>(place));
            assert_eq!(apart, fused, "{form:?}, {shape:?}");
            assert!(apart.iter().all(|value| value.is_finite()), "{form:?}");
        }
    }
}

#[test]
fn a_kernel_that_cannot_decode_is_refused() {
    let group = Group::G64;
    let shape = StashShape::planes(4, 64);
    let region = Region::whole(0, 4096);
    let regions = Decode {
        stash: region,
        values: region,
    };
    let launch = decode(Codec::Half, &shape, &regions).unwrap().remove(0);
    let codec = Codec::Rectified {
        bits: Bits::Four,
        group,
    };
    let refused = on_load(codec, &shape, launch.clone(), region, None).unwrap_err();
    assert!(refused.to_string().contains("decode it first"));
    let refused = on_load(Codec::Mask, &shape, launch, region, None).unwrap_err();
    assert!(refused.to_string().contains("no values"));
}
