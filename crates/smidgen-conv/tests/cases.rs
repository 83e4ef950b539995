//! Every case of the table, and random shapes, against the double-precision twin.

use proptest::prelude::*;
use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, WeightGradient, forward, input_gradient, pack_weight,
    unpack_weight, weight_gradient, weight_gradient_workspace,
};
use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_gpu::{DeviceFacts, DeviceKind};
use smidgen_reference::convolution::{self as twin, Case};
use smidgen_reference::layout::{from_quads, pad_channels, to_quads, widen};
use smidgen_reference::numbers::normal;
use std::collections::HashSet;

const TOLERANCE: f64 = 1e-5;

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

/// The facts of the device under test, as if it were of another kind, so that the tiles meant for that kind run too.
fn facts_as(kind: DeviceKind) -> DeviceFacts {
    DeviceFacts {
        kind,
        ..device(false).facts().clone()
    }
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

fn assert_close(case: &Case, what: &str, actual: &[f32], expected: &[f64]) {
    let error = relative_error(actual, expected);
    assert!(
        error <= TOLERANCE,
        "{}: {what} is off by {error:e}; {case:?}",
        case.name
    );
}

/// Checks all passes of one case; `plain` without bias and with a fresh input gradient, else with bias and accumulating. (Each variant is a
/// kernel of its own, and compiling them is what takes the time.)
fn check(case: &Case, facts: &DeviceFacts, plain: bool) {
    let (shape, data) = (shape_of(case), Data::of(case));
    let [input_pixels, output_pixels] = [
        case.input[1] * case.input[2],
        case.output_size().iter().product(),
    ];
    let input_quads = |values: &[f32]| to_quads(values, case.batch, case.input[0], input_pixels);
    let output_quads =
        |values: &[f32]| to_quads(values, case.batch, case.output_channels, output_pixels);
    let mut memory = Guarded::new();
    let input = memory.input(&input_quads(&data.input));
    let weight = memory.input(&pack_weight(&shape, &data.weight).unwrap());
    let bias = memory.input(&pad_channels(&data.bias));
    let output_gradient = memory.input(&output_quads(&data.output_gradient));
    let by_input = if plain {
        memory.output(shape.input_bytes() as usize / 4)
    } else {
        memory.input(&input_quads(&data.before))
    };
    let output = memory.output(shape.output_bytes() as usize / 4);
    let by_weight = memory.output(shape.weight_bytes() as usize / 4);
    let by_weight_alone = memory.output(shape.weight_bytes() as usize / 4);
    let by_bias = memory.output(shape.bias_bytes() as usize / 4);
    let workspace_bytes = weight_gradient_workspace(&shape, facts);
    let workspace = (workspace_bytes > 0).then(|| memory.output(workspace_bytes as usize / 4));
    let mut launches = forward(
        &shape,
        facts,
        &Forward {
            input,
            weight,
            bias: (!plain).then_some(bias),
            output,
        },
    );
    launches.extend(input_gradient(
        &shape,
        facts,
        &InputGradient {
            output_gradient,
            weight,
            input_gradient: by_input,
            accumulate: !plain,
        },
    ));
    launches.extend(weight_gradient(
        &shape,
        facts,
        &WeightGradient {
            input,
            output_gradient,
            weight_gradient: by_weight,
            bias_gradient: Some(by_bias),
            workspace,
        },
    ));
    launches.extend(weight_gradient(
        &shape,
        facts,
        &WeightGradient {
            input,
            output_gradient,
            weight_gradient: by_weight_alone,
            bias_gradient: None,
            workspace: None,
        },
    ));
    let outcome = memory.run(&launches).unwrap();

    let [x, w, b, dy] =
        [&data.input, &data.weight, &data.bias, &data.output_gradient].map(|values| widen(values));
    let y = from_quads(
        &outcome.read(output),
        case.batch,
        case.output_channels,
        output_pixels,
    );
    let bias: &[f64] = if plain { &[] } else { &b };
    assert_close(case, "output", &y, &twin::forward(case, &x, &w, bias));
    let dx = from_quads(
        &outcome.read(by_input),
        case.batch,
        case.input[0],
        input_pixels,
    );
    let mut expected = twin::input_gradient(case, &dy, &w);
    if !plain {
        expected
            .iter_mut()
            .zip(&data.before)
            .for_each(|(sum, before)| *sum += f64::from(*before));
    }
    assert_close(case, "input gradient", &dx, &expected);
    let expected = twin::weight_gradient(case, &x, &dy);
    for region in [by_weight, by_weight_alone] {
        let blocks: Vec<f32> = outcome.read(region);
        let plain = unpack_weight(&shape, &blocks).unwrap();
        assert_close(case, "weight gradient", &plain, &expected);
        assert_eq!(
            pack_weight(&shape, &plain).unwrap(),
            blocks,
            "{}: the gradient of an element that is no weight is not zero",
            case.name
        );
    }
    let bias_gradient: Vec<f32> = outcome.read(by_bias);
    let (real, padding) = bias_gradient.split_at(case.output_channels);
    assert_close(case, "bias gradient", real, &twin::bias_gradient(case, &dy));
    assert!(padding.iter().all(|value| *value == 0.0));
}

#[test]
fn every_case_agrees_with_its_twin() {
    let mut names = HashSet::new();
    for (at, case) in twin::cases().iter().enumerate() {
        assert!(names.insert(case.name), "two cases are named {}", case.name);
        check(case, device(false).facts(), at % 2 == 0);
    }
}

#[test]
fn every_case_agrees_with_its_twin_in_the_tiles_for_other_devices() {
    let chosen = [
        "3x3",
        "1x1, many pixels",
        "3 channels a group",
        "depthwise, stride 2",
        "linear",
    ];
    let cases: Vec<_> = twin::cases()
        .into_iter()
        .filter(|case| chosen.contains(&case.name))
        .collect();
    assert_eq!(cases.len(), chosen.len());
    for case in cases {
        check(&case, &facts_as(DeviceKind::Discrete), true);
    }
}

#[test]
fn a_sum_over_many_shares_agrees_and_repeats_bit_for_bit() {
    let case = Case::new("many pixels", 8, [6, 24, 25], 5, [3, 3]).padding(1, 1);
    let facts = facts_as(DeviceKind::Discrete);
    let shape = shape_of(&case);
    assert!(weight_gradient_workspace(&shape, &facts) > 4 * shape.weight_bytes());
    check(&case, &facts, false);
    let data = Data::of(&case);
    let run = || {
        let mut memory = Guarded::new();
        let input = memory.input(&to_quads(&data.input, 8, 6, 24 * 25));
        let output_gradient = memory.input(&to_quads(&data.output_gradient, 8, 5, 24 * 25));
        let by_weight = memory.output(shape.weight_bytes() as usize / 4);
        let workspace = memory.output(weight_gradient_workspace(&shape, &facts) as usize / 4);
        let launches = weight_gradient(
            &shape,
            &facts,
            &WeightGradient {
                input,
                output_gradient,
                weight_gradient: by_weight,
                bias_gradient: None,
                workspace: Some(workspace),
            },
        );
        memory.run(&launches).unwrap().read::<u32>(by_weight)
    };
    assert_eq!(run(), run());
}

fn any_case() -> impl Strategy<Value = Case> {
    // Few values in x, where each is a kernel of its own to compile; more in y, where they are parameters.
    (
        (1..4_usize, [1..10_usize, 1..10], [1..6_usize, 1..4]),
        ([1..4_usize, 1..3], [0..4_usize, 0..3], [1..4_usize, 1..3]),
        (1..4_usize, 1..7_usize, 1..7_usize, 0..4_usize),
    )
        .prop_map(
            |((batch, size, kernel), (stride, padding, dilation), channels)| {
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
                    input: [inputs * groups, size[0], size[1]],
                    output_channels: outputs * groups,
                    kernel,
                    stride,
                    padding,
                    dilation,
                    groups,
                }
            },
        )
        .prop_filter("the kernel must fit", |case| {
            shape_of(case).validate().is_ok()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_shapes_agree_with_their_twin(case in any_case()) {
        check(&case, device(false).facts(), case.batch % 2 == 0);
    }
}
