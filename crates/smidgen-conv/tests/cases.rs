//! Every case of the table, and random shapes, against the double-precision twin.

use proptest::prelude::*;
use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, Variant, WeightGradient, backward, candidates,
    fits, forward, fuses, input_gradient, pack_weight, unpack_weight, weight_gradient, workspace,
};
use smidgen_gpu::testing::{Guarded, device, error_beside, relative_error};
use smidgen_gpu::{Activation, DeviceFacts, DeviceKind, Source};
use smidgen_reference::activation::{self, Activation as Twin};
use smidgen_reference::convolution::{self as twin, Case};
use smidgen_reference::layout::{from_quads, pad_channels, to_quads, widen};
use smidgen_reference::numbers::normal;
use smidgen_reference::stash::{from_half, half};
use std::collections::HashSet;

const TOLERANCE: f64 = 1e-5;
/// Beside the sum of the terms' absolute values, where maps are rounded to the 11 bits of f16 as they are read and written.
const TOLERANCE_IN_HALVES: f64 = 1e-3;
/// In random cases, beside the sum of the terms' absolute values: a single output may be a sum that cancels.
const TOLERANCE_OF_TERMS: f64 = 2e-6;

fn shape_of(case: &Case) -> ConvolutionShape {
    let pair = |values: [usize; 2]| values.map(|value| value as u32);
    ConvolutionShape {
        batch: case.batch as u32,
        input_channels: case.input[0] as u32,
        input_height: case.input[1] as u32,
        input_width: case.input[2] as u32,
        output_channels: case.output_channels as u32,
        kernel: pair(case.kernel),
        stride: pair(case.stride),
        padding: pair(case.padding),
        dilation: pair(case.dilation),
        groups: case.groups as u32,
    }
}

/// The kernels for software devices whose subgroups share weights (as far as this device's can).
fn sharing() -> DeviceFacts {
    DeviceFacts {
        kind: DeviceKind::Software,
        ..device(false).facts().clone()
    }
}

/// The kernels for devices of another kind, in which every invocation loads its own weights.
fn alone(kind: DeviceKind) -> DeviceFacts {
    DeviceFacts {
        kind,
        subgroup_sizes: None,
        ..device(false).facts().clone()
    }
}

/// Which kernels of a case run. Each variant is a kernel of its own, and compiling them is what takes the time.
#[derive(Debug, Clone, Copy)]
struct Mode {
    /// Without bias and with a fresh input gradient; else with bias and accumulating.
    plain: bool,
    /// The weight gradient, too.
    weights: bool,
    /// Compiled once more with run-time checks, to compare.
    checked: bool,
    /// Of the three passes; by default the device's.
    variants: [Option<Variant>; 3],
    /// How the input is read.
    read: Read,
}

/// How the input is read.
#[derive(Debug, Clone, Copy)]
struct Read {
    normalised: bool,
    activation: Activation,
}

impl Read {
    const PLAIN: Self = Self::of(false, Activation::Identity);

    const fn of(normalised: bool, activation: Activation) -> Self {
        Self {
            normalised,
            activation,
        }
    }

    /// Each way in turn.
    fn turn(at: usize) -> Self {
        [
            Self::of(true, Activation::Relu),
            Self::PLAIN,
            Self::of(false, Activation::Relu6),
            Self::of(true, Activation::Silu),
            Self::of(true, Activation::Identity),
        ][at % 5]
    }

    /// What the kernels compute with, of the values of an input.
    fn values(self, case: &Case, input: &[f32], vectors: &[Vec<f32>; 2]) -> Vec<f64> {
        activation::forward(self.twin(), &self.scaled(case, input, vectors))
    }

    /// The same before the activation.
    fn scaled(self, case: &Case, input: &[f32], vectors: &[Vec<f32>; 2]) -> Vec<f64> {
        let plane = case.input[1] * case.input[2];
        let scaled = input.iter().enumerate().map(|(at, value)| {
            let channel = at / plane % case.input[0];
            if self.normalised {
                let [scale, shift] = vectors.each_ref().map(|all| f64::from(all[channel]));
                scale * f64::from(*value) + shift
            } else {
                f64::from(*value)
            }
        });
        scaled.collect()
    }

    fn twin(self) -> Twin {
        match self.activation {
            Activation::Relu => Twin::Relu,
            Activation::Relu6 => Twin::Relu6,
            Activation::Silu => Twin::Silu,
            _ => Twin::Identity,
        }
    }
}

/// Scale, shift and two vectors that no convolution reads, a quad at a time.
fn normalisation([scale, shift]: &[Vec<f32>; 2]) -> Vec<f32> {
    let (scale, shift) = (pad_channels(scale), pad_channels(shift));
    (scale.chunks(4).zip(shift.chunks(4)))
        .flat_map(|(scale, shift)| [scale, shift, &[f32::NAN; 4], &[f32::NAN; 4]].concat())
        .collect()
}

struct Data {
    input: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    output_gradient: Vec<f32>,
    /// What the input gradient is added to where it accumulates.
    before: Vec<f32>,
}

impl Data {
    fn of(case: &Case) -> Self {
        Self {
            input: normal(1, case.input_len()),
            weight: normal(2, case.weight_len()),
            bias: normal(3, case.output_channels),
            output_gradient: normal(4, case.output_len()),
            before: normal(5, case.input_len()),
        }
    }
}

fn assert_close(
    (case, halves): (&Case, bool),
    what: &str,
    actual: &[f32],
    expected: &[f64],
    terms: &[f64],
) {
    let (error, tolerance) = if halves {
        (error_beside(actual, expected, terms), TOLERANCE_IN_HALVES)
    } else if case.name == "random" {
        (error_beside(actual, expected, terms), TOLERANCE_OF_TERMS)
    } else {
        (relative_error(actual, expected), TOLERANCE)
    };
    assert!(
        error <= tolerance,
        "{}: {what} is off by {error:e}; {case:?}",
        case.name
    );
}

/// Checks all passes of one case and names the shaders that ran.
fn check(case: &Case, facts: &DeviceFacts, mode: Mode) -> HashSet<&'static str> {
    check_held(case, facts, mode, false)
}

/// The same, with maps and their gradients held in f16 or not.
fn check_held(case: &Case, facts: &DeviceFacts, mode: Mode, halves: bool) -> HashSet<&'static str> {
    let (shape, mut data) = (shape_of(case), Data::of(case));
    if halves {
        // Or a slope might be another one.
        let round = |value: &mut f32| *value = from_half(half(*value));
        data.input.iter_mut().for_each(round);
    }
    let [input_pixels, output_pixels] = [
        case.input[1] * case.input[2],
        case.output_size().iter().product(),
    ];
    let input_quads = |values: &[f32]| to_quads(values, case.batch, case.input[0], input_pixels);
    let output_quads =
        |values: &[f32]| to_quads(values, case.batch, case.output_channels, output_pixels);
    let mut memory = Guarded::new();
    let input = memory.input(&input_quads(&data.input));
    let vectors = [6, 7].map(|seed| normal(seed, case.input[0]));
    let source = Source {
        region: input,
        normalisation: (mode.read.normalised).then(|| memory.input(&normalisation(&vectors))),
        activation: mode.read.activation,
    };
    let weight = memory.input(&pack_weight(&shape, &data.weight).unwrap());
    let bias = memory.input(&pad_channels(&data.bias));
    let output_gradient = memory.input(&output_quads(&data.output_gradient));
    let by_input = if mode.plain {
        memory.output(shape.input_bytes() as usize / 4)
    } else {
        memory.input(&input_quads(&data.before))
    };
    let output = memory.output(shape.output_bytes() as usize / 4);
    let by_weight = memory.output(shape.weight_bytes() as usize / 4);
    let by_weight_alone = memory.output(shape.weight_bytes() as usize / 4);
    let by_bias = memory.output(shape.bias_bytes() as usize / 4);
    let [forward_variant, input_variant, weight_variant] = mode.variants;
    let [forward_workspace, input_workspace, workspace] = [
        (Pass::Forward, forward_variant),
        (Pass::InputGradient, input_variant),
        (Pass::WeightGradient, weight_variant),
    ]
    .map(|(pass, variant)| {
        let bytes = workspace(pass, &shape, facts, variant).unwrap();
        (bytes > 0).then(|| memory.output(bytes as usize / 4))
    });
    let mut launches = forward(
        &shape,
        facts,
        forward_variant,
        &Forward {
            input: source,
            weight,
            bias: (!mode.plain).then_some(bias),
            output,
            workspace: forward_workspace,
        },
    )
    .unwrap();
    let input_regions = InputGradient {
        output_gradient,
        weight,
        input_gradient: by_input,
        accumulate: !mode.plain,
        derivative: (mode.read.activation != Activation::Identity).then_some(source),
        workspace: input_workspace,
    };
    launches.extend(input_gradient(&shape, facts, input_variant, &input_regions).unwrap());
    if mode.weights {
        for (weight_gradient, bias_gradient, workspace) in [
            (by_weight, Some(by_bias), workspace),
            (by_weight_alone, None, None),
        ] {
            let regions = WeightGradient {
                input: source,
                output_gradient,
                weight_gradient,
                bias_gradient,
                workspace,
            };
            launches.extend(
                smidgen_conv::weight_gradient(&shape, facts, weight_variant, &regions).unwrap(),
            );
        }
    }
    let both = [input_variant, weight_variant];
    let fused = mode.weights && fuses(&shape, facts, both).unwrap();
    let fused = fused.then(|| {
        let by_both = if mode.plain {
            memory.output(shape.input_bytes() as usize / 4)
        } else {
            memory.input(&input_quads(&data.before))
        };
        let weight_regions = WeightGradient {
            input: source,
            output_gradient,
            weight_gradient: memory.output(shape.weight_bytes() as usize / 4),
            bias_gradient: Some(memory.output(shape.bias_bytes() as usize / 4)),
            workspace,
        };
        let input_regions = InputGradient {
            input_gradient: by_both,
            ..input_regions
        };
        let fused = backward(&shape, facts, both, &input_regions, &weight_regions).unwrap();
        let gradients = fused.iter().filter(|launch| {
            !["conv/sum_partials.wgsl", "conv/bias_gradient.wgsl"].contains(&launch.shader)
        });
        assert_eq!(gradients.count(), 1);
        launches.extend(fused);
        (by_both, weight_regions)
    });
    let outcome = if halves {
        let by_both = fused.iter().map(|(by_both, _)| *by_both);
        let maps = [input, output, output_gradient, by_input].into_iter();
        let maps: Vec<_> = maps.chain(by_both).collect();
        memory.run_in_halves(&launches, &maps).unwrap()
    } else if mode.checked {
        memory.run(&launches).unwrap()
    } else {
        memory.run_unchecked(&launches).unwrap()
    };

    let x = mode.read.values(case, &data.input, &vectors);
    let [w, b, dy] = [&data.weight, &data.bias, &data.output_gradient].map(|values| widen(values));
    let y = from_quads(
        &outcome.read(output),
        case.batch,
        case.output_channels,
        output_pixels,
    );
    let absolute = |values: &[f64]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
    let [x_size, w_size, dy_size] = [&x, &w, &dy].map(|values| absolute(values));
    let bias: &[f64] = if mode.plain { &[] } else { &b };
    let terms = twin::forward(case, &x_size, &w_size, &absolute(bias));
    let expected = twin::forward(case, &x, &w, bias);
    assert_close((case, halves), "output", &y, &expected, &terms);
    let dx = from_quads(
        &outcome.read(by_input),
        case.batch,
        case.input[0],
        input_pixels,
    );
    let terms = twin::input_gradient(case, &dy_size, &w_size);
    let mut expected = twin::input_gradient(case, &dy, &w);
    if !mode.plain {
        expected
            .iter_mut()
            .zip(&data.before)
            .for_each(|(sum, before)| *sum += f64::from(*before));
    }
    if mode.read.activation != Activation::Identity {
        let scaled = mode.read.scaled(case, &data.input, &vectors);
        expected = activation::backward(mode.read.twin(), &scaled, &expected);
    }
    assert_close((case, halves), "input gradient", &dx, &expected, &terms);
    if mode.weights {
        let expected = twin::weight_gradient(case, &x, &dy);
        let terms = twin::weight_gradient(case, &x_size, &dy_size);
        for region in [by_weight, by_weight_alone] {
            let blocks: Vec<f32> = outcome.read(region);
            let plain = unpack_weight(&shape, &blocks).unwrap();
            assert_close((case, halves), "weight gradient", &plain, &expected, &terms);
            assert_eq!(
                pack_weight(&shape, &plain).unwrap(),
                blocks,
                "{}: the gradient of an element that is no weight is not zero",
                case.name
            );
        }
        if let Some((by_both, regions)) = fused {
            for (apart, together) in [
                (by_input, by_both),
                (by_weight, regions.weight_gradient),
                (by_bias, regions.bias_gradient.unwrap()),
            ] {
                let bits = |region| outcome.read::<u32>(region);
                assert!(
                    bits(apart) == bits(together),
                    "{}: not the same bits when fused",
                    case.name
                );
            }
        }
        let bias_gradient: Vec<f32> = outcome.read(by_bias);
        let (real, padding) = bias_gradient.split_at(case.output_channels);
        let [expected, terms] = [&dy, &dy_size].map(|dy| twin::bias_gradient(case, dy));
        assert_close((case, halves), "bias gradient", real, &expected, &terms);
        assert!(padding.iter().all(|value| *value == 0.0));
    }
    launches.iter().map(|launch| launch.shader).collect()
}

#[test]
fn cases_have_names_of_their_own() {
    let cases = twin::cases();
    let names: HashSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len());
}

#[test]
fn every_case_agrees_with_its_twin_where_subgroups_share_weights() {
    let facts = sharing();
    let also_checked = ["1x1, many pixels", "groups of unequal quads"];
    let mut checked = HashSet::new();
    for (at, case) in twin::cases().iter().enumerate() {
        let mode = Mode {
            plain: at % 2 == 0,
            weights: true,
            checked: also_checked.contains(&case.name),
            variants: [None; 3],
            read: Read::turn(at),
        };
        let shaders = check(case, &facts, mode);
        if mode.checked {
            checked.extend(shaders);
        }
    }
    assert!(checked.is_superset(&HashSet::from(["conv/direct.wgsl", "conv/pointwise.wgsl"])));
}

#[test]
fn every_case_agrees_with_its_twin_where_each_invocation_loads_its_weights() {
    // The tiles for GPUs and those for software devices without subgroups take turns.
    let facts = [DeviceKind::Discrete, DeviceKind::Software].map(alone);
    // In the weight gradient only the number of invocations differs from the test above, which few cases show.
    let few = [
        "3x3, odd channels, no padding",
        "1x1, many pixels",
        "depthwise",
        "depthwise 5x5, dilated",
    ];
    let mut checked = HashSet::new();
    for (at, case) in twin::cases().iter().enumerate() {
        let facts = if few.contains(&case.name) {
            &facts[0]
        } else {
            &facts[at / 2 % 2]
        };
        let mode = Mode {
            plain: at % 2 == 1,
            weights: few.contains(&case.name),
            checked: few.contains(&case.name),
            variants: [None; 3],
            read: Read::turn(at + 2),
        };
        let shaders = check(case, facts, mode);
        if mode.checked {
            checked.extend(shaders);
        }
    }
    let all: HashSet<_> = smidgen_shaders::VARIANTS
        .iter()
        .map(|variant| variant.file)
        // Sparse kernels, those of listed pixels, Winograd's, tiles in workgroup memory, the forward pass by strips and the product of lanes
        // with a quad each have tests of their own.
        .filter(|file| {
            file.starts_with("conv/")
                && !file.starts_with("conv/sparse_")
                && !file.starts_with("conv/list")
                && *file != "conv/clear_unmarked.wgsl"
                && !file.starts_with("conv/winograd_")
                && !file.ends_with("tiles.wgsl")
                && *file != "conv/depthwise_forward.wgsl"
                && *file != "conv/weight_product.wgsl"
        })
        .collect();
    assert_eq!(checked, all, "kernels that ran with run-time checks");
}

#[test]
fn a_sum_over_many_shares_agrees_and_repeats_bit_for_bit() {
    let case = Case::new("many pixels", 8, [6, 24, 25], 5, [3, 3]).padding(1, 1);
    let facts = alone(DeviceKind::Discrete);
    let shape = shape_of(&case);
    let workspace_bytes = workspace(Pass::WeightGradient, &shape, &facts, None).unwrap();
    assert!(workspace_bytes > 4 * shape.weight_bytes());
    let data = Data::of(&case);
    let run = || {
        let mut memory = Guarded::new();
        let input = memory.input(&to_quads(&data.input, 8, 6, 24 * 25));
        let output_gradient = memory.input(&to_quads(&data.output_gradient, 8, 5, 24 * 25));
        let by_weight = memory.output(shape.weight_bytes() as usize / 4);
        let workspace = memory.output(workspace_bytes as usize / 4);
        let regions = WeightGradient {
            input: input.into(),
            output_gradient,
            weight_gradient: by_weight,
            bias_gradient: None,
            workspace: Some(workspace),
        };
        let launches = weight_gradient(&shape, &facts, None, &regions).unwrap();
        memory.run(&launches).unwrap().read::<f32>(by_weight)
    };
    let blocks = run();
    let expected = twin::weight_gradient(&case, &widen(&data.input), &widen(&data.output_gradient));
    let found = unpack_weight(&shape, &blocks).unwrap();
    assert_close(
        (&case, false),
        "weight gradient",
        &found,
        &expected,
        &expected,
    );
    let bits = |values: Vec<f32>| -> Vec<u32> { values.into_iter().map(f32::to_bits).collect() };
    assert_eq!(bits(run()), bits(blocks));
}

#[test]
fn every_candidate_agrees_with_its_twin() {
    let case = Case::new("all candidates", 2, [8, 7, 10], 16, [3, 3]).padding(1, 1);
    // The first ones run in the tests above; where one pass has fewer candidates than another, its default runs again.
    for facts in [sharing(), alone(DeviceKind::Discrete)] {
        let of = |pass| {
            let mut found = candidates(pass, &shape_of(&case), &facts, u64::MAX).unwrap();
            // These have tests of their own, by smaller tiles: large ones take a software device long to compile.
            found.retain(|way| !matches!(way, Variant::Tiles(_) | Variant::SharedBlocks(_)));
            found
        };
        let passes = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient].map(of);
        let most = passes.iter().map(Vec::len).max().unwrap();
        for at in 1..most {
            let mode = Mode {
                plain: true,
                weights: true,
                checked: false,
                variants: [0, 1, 2].map(|pass: usize| passes[pass].get(at).copied()),
                read: Read::of(true, Activation::Relu),
            };
            check(&case, &facts, mode);
        }
    }
}

#[test]
fn tiles_of_eight_by_two_quads_agree_with_their_twin() {
    // The default of 1x1 layers that are too large for the table.
    let case = Case::new("1x1, large tiles", 3, [16, 9, 11], 32, [1, 1]);
    let variant: Variant = "blocks 8x1x2 pixels 1 lanes 8 shares 2".parse().unwrap();
    for checked in [true, false] {
        let mode = Mode {
            plain: checked,
            weights: true,
            checked,
            variants: [None, None, Some(variant)],
            read: Read::of(!checked, Activation::Relu),
        };
        check(&case, &sharing(), mode);
    }
}

#[test]
fn lanes_with_a_quad_each_agree_with_their_twin() {
    let eight = |(least, most): (u32, u32)| (least..=most).contains(&8);
    if !sharing().subgroup_sizes.is_some_and(eight) {
        smidgen_reference::golden::say_skipped("these tiles are for subgroups of eight lanes");
        return;
    }
    // More quads than lanes, fewer, and as many; pixels that do not come in eights.
    for (turn, (channels, outputs, texts)) in [
        (
            36,
            20,
            [
                "product 4 lanes 8 inputs shares 2",
                "product 3 lanes 8 outputs shares 1",
            ],
        ),
        (
            12,
            68,
            [
                "product 6 lanes 8 outputs shares 3",
                "product 1 lanes 8 inputs shares 1",
            ],
        ),
        (
            32,
            32,
            [
                "product 4 lanes 8 inputs shares 1",
                "product 4 lanes 8 outputs shares 2",
            ],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let case = Case::new("1x1, a quad a lane", 3, [channels, 5, 7], outputs, [1, 1]);
        for (checked, text) in [true, false].into_iter().zip(texts) {
            let mode = Mode {
                plain: checked,
                weights: true,
                checked,
                variants: [None, None, Some(text.parse().unwrap())],
                read: Read::turn(turn),
            };
            check(&case, &sharing(), mode);
        }
    }
}

#[test]
fn lanes_that_see_what_their_neighbours_load_agree_with_their_twin() {
    // Rows of one run, of a few, of as many as there are lanes, and of more.
    for (turn, [batch, height, width]) in [[5, 4, 2], [3, 5, 6], [2, 3, 16], [2, 3, 36]]
        .into_iter()
        .enumerate()
    {
        let case = Case::new("3x3, rows of runs", batch, [12, height, width], 8, [3, 3]);
        let mode = Mode {
            plain: turn % 2 == 0,
            weights: true,
            checked: turn == 3,
            variants: [None; 3],
            read: Read::turn(turn + 1),
        };
        check(&case.padding(1, 1), &sharing(), mode);
    }
}

#[test]
fn every_way_to_a_depthwise_pass_agrees_with_its_twin() {
    let mut cases: Vec<Case> = twin::cases()
        .into_iter()
        .filter(|case| shape_of(case).is_depthwise())
        .collect();
    cases.push(
        Case::new("many strips", 3, [9, 22, 19], 9, [3, 3])
            .padding(1, 1)
            .groups(9),
    );
    cases.push(
        Case::new("5x4, stride 2 and 1", 2, [6, 11, 10], 6, [5, 4])
            .stride(2, 1)
            .padding(3, 2)
            .groups(6),
    );
    let mut shaders = HashSet::new();
    for (at, case) in cases.iter().enumerate() {
        let facts = [sharing(), alone(DeviceKind::Discrete)][at % 2].clone();
        let of = |pass| candidates(pass, &shape_of(case), &facts, u64::MAX).unwrap();
        let [ahead, by_input, by_weight] =
            [Pass::Forward, Pass::InputGradient, Pass::WeightGradient].map(of);
        let strips = by_input
            .iter()
            .filter(|variant| by_weight.contains(variant))
            .map(|variant| [*variant; 2]);
        let plain = by_input
            .iter()
            .zip(by_weight.iter().rev())
            .rfind(|(input, weight)| !by_weight.contains(input) && !by_input.contains(weight));
        let ways = strips.chain(plain.map(|(input, weight)| [*input, *weight]));
        for (turn, [input, weight]) in ways.enumerate() {
            let mode = Mode {
                plain: turn % 2 == 0,
                weights: true,
                checked: turn % 3 == 0,
                variants: [Some(ahead[turn % ahead.len()]), Some(input), Some(weight)],
                read: Read::turn(at + turn),
            };
            let ran = check(case, &facts, mode);
            if mode.checked {
                shaders.extend(ran);
            }
        }
    }
    assert!(shaders.is_superset(&HashSet::from([
        "conv/depthwise_forward.wgsl",
        "conv/depthwise_backward.wgsl"
    ])));
}

/// A tile in workgroup memory for each of the three passes, as far as one fits: a small one, for many are compiled.
fn shared(case: &Case, at: usize) -> [Option<Variant>; 3] {
    let facts = alone(DeviceKind::Discrete);
    let tiles = [
        "tiles 2x2 lanes 16x4 depth",
        "tiles 4x2 lanes 16x2 depth",
        "tiles 1x1 lanes 32x4 depth",
        "tiles 2x4 lanes 16x8 depth",
        "tiles 2x2 lanes 32x1 depth",
        "tiles 4x1 lanes 64x4 depth",
    ];
    let gathering = |pass, turn: usize| {
        let depths = [[1, 2, 3, 4], [4, 2, 3, 1], [2, 1, 4, 3]][turn % 3];
        depths.iter().find_map(|depth| {
            let text = format!("{} {depth}", tiles[turn % tiles.len()]);
            let variant: Variant = text.parse().unwrap();
            fits(variant, pass, &shape_of(case), &facts).then_some(variant)
        })
    };
    let summing = [
        "shared-blocks 1x3x1 pixels 2 lanes 2x4x4 runs 8 shares 2",
        "shared-blocks 2x2x1 pixels 2 lanes 4x2x2 runs 16 shares 1",
        "shared-blocks 1x1x2 pixels 4 lanes 8x2x1 runs 4 shares 3",
        "shared-blocks 2x1x1 pixels 1 lanes 4x4x2 runs 10 shares 2",
        "shared-blocks 1x1x1 pixels 7 lanes 2x3x1 runs 4 shares 1",
        "shared-blocks 1x1x1 pixels 1 lanes 1x1x2 runs 8 shares 1",
    ];
    let summing = (0..summing.len()).find_map(|turn| {
        let variant: Variant = summing[(at + turn) % summing.len()].parse().unwrap();
        fits(variant, Pass::WeightGradient, &shape_of(case), &facts).then_some(variant)
    });
    [
        gathering(Pass::Forward, at),
        gathering(Pass::InputGradient, at + 1),
        summing,
    ]
}

#[test]
fn every_case_agrees_with_its_twin_by_tiles_in_workgroup_memory() {
    let facts = alone(DeviceKind::Discrete);
    let (mut computed, mut checked) = (0, HashSet::new());
    for (at, case) in twin::cases().iter().enumerate() {
        let variants = shared(case, at);
        if shape_of(case).groups > 1 {
            assert_eq!(variants, [None; 3]);
            continue;
        }
        assert!(variants.iter().all(Option::is_some), "{case:?}");
        computed += 1;
        let mode = Mode {
            plain: at % 2 == 0,
            weights: true,
            checked: true,
            variants,
            read: Read::turn(at),
        };
        checked.extend(check(case, &facts, mode));
    }
    assert!(computed > 15);
    assert!(checked.is_superset(&HashSet::from([
        "conv/tiles.wgsl",
        "conv/weight_tiles.wgsl"
    ])));
}

#[test]
fn the_largest_tiles_agree_with_their_twin() {
    // The rule on discrete GPUs; more pixels and channels than a workgroup has, of either map.
    let case = Case::new("3x3, large tiles", 2, [36, 10, 9], 68, [3, 3]).padding(1, 1);
    let variants = [
        "tiles 8x2 lanes 32x4 depth 1",
        "tiles 8x2 lanes 16x8 depth 1",
        "shared-blocks 2x3x1 pixels 2 lanes 8x4x2 runs 14 shares 2",
    ];
    let mode = Mode {
        plain: false,
        weights: true,
        checked: true,
        variants: variants.map(|text| Some(text.parse().unwrap())),
        read: Read::of(true, Activation::Relu),
    };
    check(&case, &alone(DeviceKind::Discrete), mode);
}

#[test]
fn lanes_that_share_the_source_quads_agree_with_their_twin() {
    let case = Case::new("3x3, few pixels", 2, [16, 7, 10], 24, [3, 3]).padding(1, 1);
    for (turn, variants) in [
        [
            "tiles 8x1 lanes 8x2x2 depth 2",
            "tiles 2x2 lanes 8x2x2 depth 6",
        ],
        [
            "tiles 4x2 lanes 8x2x4 depth 4",
            "tiles 1x1 lanes 16x4x3 depth 3",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let [forward, input_gradient] = variants.map(|text| Some(text.parse().unwrap()));
        let mode = Mode {
            plain: turn == 1,
            weights: false,
            checked: turn == 0,
            variants: [forward, input_gradient, None],
            read: Read::of(true, Activation::Relu),
        };
        check(&case, &alone(DeviceKind::Discrete), mode);
    }
}

/// Every family of kernels, as devices of either kind run it.
#[test]
fn maps_in_halves_agree_with_the_twin() {
    for (at, case) in twin::cases().iter().step_by(2).enumerate() {
        let facts = match at % 3 {
            0 => sharing(),
            1 => alone(DeviceKind::Integrated),
            _ => alone(DeviceKind::Discrete),
        };
        let mode = Mode {
            plain: at % 2 == 1,
            weights: true,
            checked: true,
            variants: [None; 3],
            read: Read::turn(at),
        };
        check_held(case, &facts, mode, true);
    }
    let case = Case::new("halves by Winograd", 2, [8, 9, 10], 8, [3, 3]).padding(1, 1);
    for size in [2, 4] {
        check_held(&case, &sharing(), winograd(size, size as usize / 2), true);
    }
}

/// Forward and input gradient by Winograd's method.
fn winograd(size: u32, at: usize) -> Mode {
    Mode {
        plain: at.is_multiple_of(2),
        weights: false,
        checked: true,
        variants: [
            Some(Variant::Winograd(size)),
            Some(Variant::Winograd(size)),
            None,
        ],
        read: [Read::of(true, Activation::Relu), Read::PLAIN][at % 2],
    }
}

#[test]
fn every_case_that_winograd_can_compute_agrees_with_its_twin() {
    let mut cases = twin::cases();
    cases.push(Case::new("several slabs", 6, [20, 27, 26], 9, [3, 3]).padding(1, 1));
    // Weights of more than a mebibyte are transformed in chunks.
    cases.push(Case::new("chunks", 5, [128, 7, 8], 128, [3, 3]).padding(1, 1));
    let mut shaders = HashSet::new();
    let mut computed = 0;
    for case in &cases {
        for (facts, size) in [(sharing(), 4), (alone(DeviceKind::Discrete), 2)] {
            let passes = [Pass::Forward, Pass::InputGradient];
            if passes
                .iter()
                .all(|pass| fits(Variant::Winograd(size), *pass, &shape_of(case), &facts))
            {
                shaders.extend(check(case, &facts, winograd(size, computed / 2)));
                computed += 1;
            }
        }
    }
    assert!(computed >= 6, "{computed} cases");
    let all =
        ["weight", "input", "product", "output"].map(|part| format!("conv/winograd_{part}.wgsl"));
    assert!(
        all.iter().all(|shader| shaders.contains(shader.as_str())),
        "{shaders:?}"
    );
}

#[test]
fn the_error_of_winograd_is_as_documented() {
    let case = Case::new("error", 2, [64, 16, 16], 64, [3, 3]).padding(1, 1);
    let (shape, data, facts) = (shape_of(&case), Data::of(&case), sharing());
    let [x, w] = [&data.input, &data.weight].map(|values| widen(values));
    let expected = twin::forward(&case, &x, &w, &[]);
    let errors = ["subgroup-8 4x4", "winograd 2", "winograd 4"].map(|variant| {
        let mut memory = Guarded::new();
        let variant =
            Some(variant.parse().unwrap()).filter(|v| fits(*v, Pass::Forward, &shape, &facts));
        let bytes = workspace(Pass::Forward, &shape, &facts, variant).unwrap();
        let regions = Forward {
            input: memory.input(&to_quads(&data.input, 2, 64, 256)).into(),
            weight: memory.input(&pack_weight(&shape, &data.weight).unwrap()),
            bias: None,
            output: memory.output(shape.output_bytes() as usize / 4),
            workspace: (bytes > 0).then(|| memory.output(bytes as usize / 4)),
        };
        let launches = forward(&shape, &facts, variant, &regions).unwrap();
        let found = memory
            .run_unchecked(&launches)
            .unwrap()
            .read(regions.output);
        relative_error(&from_quads(&found, 2, 64, 256), &expected)
    });
    let most = [1e-6, 6e-7, 4e-6];
    assert!(
        errors.iter().zip(most).all(|(error, most)| *error <= most),
        "{errors:?}"
    );
}

/// A row: columns of the input, kernel, stride, padding, dilation. Each is a kernel of its own to compile, so these are few; all
/// else is a parameter and takes any value.
const ROWS: [[usize; 5]; 2] = [[7, 3, 1, 1, 1], [9, 2, 2, 1, 2]];

fn any_case() -> impl Strategy<Value = Case> {
    (
        (1..4_usize, 1..10_usize, 0..ROWS.len()),
        (1..6_usize, 1..4_usize, 0..4_usize, 1..4_usize),
        (1..4_usize, 1..7_usize, 1..7_usize, 0..4_usize),
    )
        .prop_map(|((batch, height, row), y, channels)| {
            let (kernel_y, stride_y, padding_y, dilation_y) = y;
            let [width, kernel_x, stride_x, padding_x, dilation_x] = ROWS[row];
            let (groups, inputs, outputs, kind) = channels;
            // One in four is depthwise.
            let (groups, inputs, outputs) = if kind == 0 {
                (inputs + outputs, 1, 1)
            } else {
                (groups, inputs, outputs)
            };
            Case {
                name: "random",
                batch,
                input: [inputs * groups, height, width],
                output_channels: outputs * groups,
                kernel: [kernel_y, kernel_x],
                stride: [stride_y, stride_x],
                padding: [padding_y, padding_x],
                dilation: [dilation_y, dilation_x],
                groups,
            }
        })
        .prop_filter("the kernel must fit", |case| {
            shape_of(case).validate().is_ok()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_shapes_agree_with_their_twin(case in any_case()) {
        let mode = Mode { plain: case.stride[1] == 1, weights: true, checked: true, variants: [None; 3], read: Read::of(case.stride[1] == 1, Activation::Relu) };
        check(&case, &alone(DeviceKind::Discrete), mode);
    }

    #[test]
    fn random_shapes_agree_with_their_twin_by_tiles(case in any_case(), at in 0..6_usize) {
        prop_assume!(case.groups == 1);
        let variants = shared(&case, at);
        prop_assert!(variants.iter().all(Option::is_some));
        let mode = Mode { plain: case.stride[1] == 1, weights: true, checked: false, variants, read: Read::of(case.stride[1] == 1, Activation::Relu) };
        check(&case, &alone(DeviceKind::Discrete), mode);
    }

    #[test]
    fn random_3x3_shapes_agree_with_their_twin_by_winograd(
        (batch, height, width) in (1..4_usize, 1..12_usize, 1..12_usize),
        (inputs, outputs, padding_y, padding_x) in (1..21_usize, 1..21_usize, 0..4_usize, 0..4_usize),
        large: bool,
    ) {
        let case = Case {
            padding: [padding_y, padding_x],
            ..Case::new("random", batch, [inputs, height, width], outputs, [3, 3])
        };
        prop_assume!(shape_of(&case).validate().is_ok());
        check(&case, &alone(DeviceKind::Discrete), winograd(if large { 4 } else { 2 }, inputs));
    }
}
