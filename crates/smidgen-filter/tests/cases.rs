//! Every case of the table, and random shapes, against the double-precision twin.

use proptest::prelude::*;
use smidgen_filter::{
    BiasGradient, FilterError, FilterShape, InputGradient, Mask, PatchAverages, PatchGradient,
    PatchSums, TapSums, Taps, TowardsInput, WeightGradient, averages_and_tap_sums, bias_gradient,
    gradients, input_gradient, patch_averages, patch_gradient, patch_sums, tap_sums,
    weight_gradient, weight_gradient_workspace,
};
use smidgen_gpu::testing::{Guarded, device, error_beside, relative_error};
use smidgen_gpu::{Activation, DeviceFacts, DeviceKind, Region, Source};
use smidgen_reference::convolution::{self, Case};
use smidgen_reference::gradient_filter::{self as twin, FilterCase};
use smidgen_reference::layout::{from_quads, to_quads, widen};
use smidgen_reference::numbers::normal;
use std::collections::HashSet;

const TOLERANCE: f64 = 1e-5;
/// In random cases, beside the sum of the terms' absolute values: a single output may be a sum that cancels.
const TOLERANCE_OF_TERMS: f64 = 1e-6;

/// Runs where patches are many, in a test of its own.
const SUM_OF_SHARES: &str = "filter/spread_taps.wgsl";

fn shape_of(case: &FilterCase) -> FilterShape {
    let pair = |values: [usize; 2]| values.map(|value| value as u32);
    let convolution = &case.convolution;
    FilterShape {
        batch: convolution.batch as u32,
        input_channels: convolution.input[0] as u32,
        input_height: convolution.input[1] as u32,
        input_width: convolution.input[2] as u32,
        output_channels: convolution.output_channels as u32,
        kernel: pair(convolution.kernel),
        stride: pair(convolution.stride),
        padding: pair(convolution.padding),
        dilation: pair(convolution.dilation),
        depthwise: convolution.groups > 1,
        patch: case.patch as u32,
    }
}

fn facts(kind: DeviceKind, share: bool) -> DeviceFacts {
    let mut facts = DeviceFacts {
        kind,
        ..device(false).facts().clone()
    };
    if !share {
        facts.subgroup_sizes = None;
    }
    facts
}

/// Where each weight stands in the blocks.
fn positions(shape: &FilterShape, taps: usize) -> Vec<usize> {
    let inputs = if shape.depthwise {
        1
    } else {
        shape.input_channels as usize
    };
    let quads = inputs.div_ceil(4);
    let mut positions = Vec::new();
    for output in 0..shape.output_channels as usize {
        for input in 0..inputs {
            for tap in 0..taps {
                positions.push(if shape.depthwise {
                    (output / 4 * taps + tap) * 4 + output % 4
                } else {
                    ((output / 4 * taps + tap) * quads + input / 4) * 16
                        + input % 4 * 4
                        + output % 4
                });
            }
        }
    }
    positions
}

fn pack(shape: &FilterShape, taps: usize, bytes: u64, plain: &[f32]) -> Vec<f32> {
    let mut blocks = vec![0.0; bytes as usize / 4];
    for (position, value) in positions(shape, taps).into_iter().zip(plain) {
        blocks[position] = *value;
    }
    blocks
}

fn unpack(shape: &FilterShape, taps: usize, blocks: &[f32]) -> Vec<f32> {
    let plain: Vec<f32> = positions(shape, taps)
        .iter()
        .map(|at| blocks[*at])
        .collect();
    let bytes = blocks.len() as u64 * 4;
    assert_eq!(
        pack(shape, taps, bytes, &plain),
        blocks,
        "what stands for no weight is not zero"
    );
    plain
}

/// Checks everything about one case, in one of four ways, and names the shaders that ran.
fn check(
    case: &FilterCase,
    facts: &DeviceFacts,
    way: usize,
    checked: bool,
) -> HashSet<&'static str> {
    let convolution = &case.convolution;
    let (accumulate, masked) = (way % 2 == 1, way / 2 % 2 == 1);
    let shape = shape_of(case);
    let taps = convolution.kernel[0] * convolution.kernel[1];
    let x = normal(1, convolution.input_len());
    let w = normal(2, convolution.weight_len());
    let dy = normal(3, convolution.output_len());
    let before = normal(4, convolution.input_len());
    let batch = convolution.batch;
    let [inputs, height, width] = convolution.input;
    let outputs = convolution.output_channels;
    let output_pixels: usize = convolution.output_size().iter().product();
    let patches = case.patches()[0] * case.patches()[1];

    let mut memory = Guarded::new();
    let words = |bytes: u64| bytes as usize / 4;
    let input = memory.input(&to_quads(&x, batch, inputs, height * width));
    let weight = memory.input(&pack(&shape, taps, shape.weight_bytes(), &w));
    let output_gradient = memory.input(&to_quads(&dy, batch, outputs, output_pixels));
    let sums = memory.output(words(shape.patch_sums_bytes()));
    let averages = memory.output(words(shape.patch_averages_bytes()));
    let summed_weight = memory.output(words(shape.tap_sums_bytes()));
    let by_input = if accumulate {
        memory.input(&to_quads(&before, batch, inputs, height * width))
    } else {
        memory.output(words(shape.input_bytes()))
    };
    let by_weight = memory.output(words(shape.weight_bytes()));
    let by_pair = memory.output(words(shape.tap_sums_bytes()));
    let by_bias = memory.output(words(shape.bias_bytes()));
    // What is computed together goes to places of its own.
    let [averages_beside, sums_beside] = [shape.patch_averages_bytes(), shape.tap_sums_bytes()]
        .map(|bytes| memory.output(words(bytes)));
    let by_weight_beside = memory.output(words(shape.weight_bytes()));
    let by_input_beside = if accumulate {
        memory.input(&to_quads(&before, batch, inputs, height * width))
    } else {
        memory.output(words(shape.input_bytes()))
    };
    let workspace_bytes = weight_gradient_workspace(&shape, facts).unwrap();
    let workspace = (workspace_bytes > 0).then(|| memory.output(words(workspace_bytes)));

    let mut launches = patch_sums(
        &shape,
        facts,
        &PatchSums {
            input: input.into(),
            patch_sums: sums,
            slope_counts: None,
        },
    )
    .unwrap();
    let regions = PatchAverages {
        output_gradient,
        patch_averages: averages,
    };
    launches.extend(patch_averages(&shape, facts, &regions).unwrap());
    let regions = TapSums {
        weight,
        tap_sums: summed_weight,
    };
    launches.extend(tap_sums(&shape, &regions).unwrap());
    let toward_input = |input_gradient: Region, [averages, sums]: [Region; 2]| InputGradient {
        patch_averages: averages,
        weight: if shape.reads_every_tap() {
            weight
        } else {
            sums
        },
        input_gradient,
        accumulate,
        mask: masked.then(|| Mask::relu(input)),
        normalisation: None,
    };
    let regions = toward_input(by_input, [averages, summed_weight]);
    launches.extend(input_gradient(&shape, facts, &regions).unwrap());
    let by_averages = PatchAverages {
        output_gradient,
        patch_averages: averages_beside,
    };
    let by_taps = TapSums {
        weight,
        tap_sums: sums_beside,
    };
    launches.extend(averages_and_tap_sums(&shape, facts, &by_averages, &by_taps).unwrap());
    let regions = WeightGradient {
        patch_sums: sums,
        patch_averages: averages_beside,
        weight_gradient: by_weight_beside,
        taps: Taps::Every,
        workspace: None,
    };
    let both = toward_input(by_input_beside, [averages_beside, sums_beside]);
    launches.extend(gradients(&shape, facts, &regions, &TowardsInput::Map(both)).unwrap());
    for (target, taps, workspace) in [
        (by_weight, Taps::Every, workspace),
        (by_pair, Taps::Once, None),
    ] {
        let regions = WeightGradient {
            patch_sums: sums,
            patch_averages: averages,
            weight_gradient: target,
            taps,
            workspace,
        };
        launches.extend(weight_gradient(&shape, facts, &regions).unwrap());
    }
    let regions = BiasGradient {
        patch_averages: averages,
        bias_gradient: by_bias,
    };
    launches.extend(bias_gradient(&shape, facts, &regions).unwrap());
    let outcome = if checked {
        memory.run(&launches).unwrap()
    } else {
        memory.run_unchecked(&launches).unwrap()
    };

    let close = |what: &str, found: &[f32], expected: &[f64], terms: &[f64]| {
        let (error, tolerance) = if convolution.name == "random" {
            (error_beside(found, expected, terms), TOLERANCE_OF_TERMS)
        } else {
            (relative_error(found, expected), TOLERANCE)
        };
        assert!(
            error <= tolerance,
            "{}: {what} is off by {error:e}; {case:?}",
            convolution.name
        );
    };
    for (what, alone, beside) in [
        ("patch averages", averages, averages_beside),
        ("tap sums", summed_weight, sums_beside),
    ] {
        let [alone, beside] = [alone, beside].map(|region| outcome.read::<f32>(region));
        assert_eq!(alone, beside, "{}: {what}", convolution.name);
    }
    for (what, alone, beside) in [
        ("weight gradient", by_weight, by_weight_beside),
        ("input gradient", by_input, by_input_beside),
    ] {
        let [alone, beside] = [alone, beside].map(|region| outcome.read::<f32>(region));
        let alone = widen(&alone);
        close(&format!("{what} beside the other"), &beside, &alone, &alone);
    }
    let [x, w, dy] = [&x, &w, &dy].map(|values| widen(values));
    let absolute = |values: &[f64]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
    let [x_size, w_size, dy_size] = [&x, &w, &dy].map(|values| absolute(values));
    let found = from_quads(&outcome.read(sums), batch, inputs, patches);
    close(
        "patch sums",
        &found,
        &twin::patch_sums(case, &x),
        &twin::patch_sums(case, &x_size),
    );
    let density = 1.0 / (convolution.stride[0] * convolution.stride[1]) as f64;
    let found = from_quads(&outcome.read(averages), batch, outputs, patches);
    let expected: Vec<f64> = twin::patch_averages(case, &dy)
        .iter()
        .map(|average| average * density)
        .collect();
    close(
        "patch averages",
        &found,
        &expected,
        &twin::patch_averages(case, &dy_size),
    );
    let found = unpack(&shape, 1, &outcome.read::<f32>(summed_weight));
    close(
        "tap sums",
        &found,
        &twin::tap_sums(case, &w),
        &twin::tap_sums(case, &w_size),
    );
    let found = from_quads(&outcome.read(by_input), batch, inputs, height * width);
    let expected: Vec<f64> = twin::input_gradient(case, &dy, &w)
        .iter()
        .enumerate()
        .map(|(at, value)| {
            let sum = if accumulate {
                value + f64::from(before[at])
            } else {
                *value
            };
            if masked && x[at] <= 0.0 { 0.0 } else { sum }
        })
        .collect();
    let terms = twin::input_gradient(case, &dy_size, &w_size);
    close("input gradient", &found, &expected, &terms);
    let expected = twin::weight_gradient(case, &x, &dy);
    let found = unpack(&shape, taps, &outcome.read::<f32>(by_weight));
    let terms = twin::weight_gradient(case, &x_size, &dy_size);
    close("weight gradient", &found, &expected, &terms);
    let found = unpack(&shape, 1, &outcome.read::<f32>(by_pair));
    let once: Vec<f64> = expected.iter().step_by(taps).copied().collect();
    let terms: Vec<f64> = terms.iter().step_by(taps).copied().collect();
    close("weight gradient of a pair", &found, &once, &terms);
    let found: Vec<f32> = outcome.read(by_bias);
    let expected = convolution::bias_gradient(convolution, &dy);
    let terms = convolution::bias_gradient(convolution, &dy_size);
    close("bias gradient", &found[..outputs], &expected, &terms);
    assert!(found[outputs..].iter().all(|value| *value == 0.0));
    launches.iter().map(|launch| launch.shader).collect()
}

#[test]
fn every_case_agrees_with_its_twin_where_subgroups_share_weights() {
    let facts = facts(DeviceKind::Software, true);
    for (at, case) in twin::cases().iter().enumerate() {
        check(case, &facts, at, false);
    }
}

#[test]
fn every_case_agrees_with_its_twin_on_other_devices_checked_and_unchecked() {
    let [discrete, software, sharing] = [
        facts(DeviceKind::Discrete, false),
        facts(DeviceKind::Software, false),
        facts(DeviceKind::Software, true),
    ];
    // Each variant is compiled anew with checks, so few are.
    let also_checked = ["7x7 by 2", "1x1, many patches", "depthwise"];
    let needs_lanes = "input quads for lanes";
    // The lanes that have an input quad each: as many as a subgroup of this device, if that is always the same.
    let lanes = match sharing.subgroup_sizes {
        Some((least, most)) if least == most && (4..=64).contains(&most) => Some(most as usize),
        _ => None,
    };
    let mut ran = HashSet::new();
    for (at, case) in twin::cases().iter_mut().enumerate() {
        let name = case.convolution.name;
        if let (true, Some(lanes)) = (name == needs_lanes, lanes) {
            // And one more, for which a second workgroup is left.
            case.convolution.input[0] = 4 * lanes + 4;
        }
        let case = &*case;
        let checked = name == needs_lanes || also_checked.contains(&name);
        let facts = match (name == needs_lanes, !checked && at % 3 == 2) {
            (true, _) => &sharing,
            (false, true) => &software,
            (false, false) => &discrete,
        };
        let shaders = check(case, facts, at + 2, checked);
        if checked {
            ran.extend(shaders);
        }
    }
    let all: HashSet<_> = smidgen_shaders::VARIANTS
        .iter()
        .map(|variant| variant.file)
        .filter(|file| file.starts_with("filter/") && *file != SUM_OF_SHARES)
        .collect();
    assert_eq!(ran, all, "kernels that ran with run-time checks");
}

#[test]
fn the_published_constants_hold_on_the_device() {
    let shape = FilterShape::new(1, [1, 4, 4], 1, [3, 3], 2).with_padding(1);
    let x: Vec<f32> = (0..16).map(|value| value as f32).collect();
    let dy: Vec<f32> = x.iter().map(|x| (x - 7.5) / 4.0).collect();
    let w: Vec<f32> = (1..=9).map(|value| value as f32).collect();
    let facts = device(false).facts();
    let mut memory = Guarded::new();
    let input = memory.input(&to_quads(&x, 1, 1, 16));
    let output_gradient = memory.input(&to_quads(&dy, 1, 1, 16));
    let weight = memory.input(&pack(&shape, 9, shape.weight_bytes(), &w));
    let sums = memory.output(16);
    let averages = memory.output(16);
    let summed = memory.output(16);
    let by_input = memory.output(64);
    let by_weight = memory.output(9 * 16);
    let regions = PatchSums {
        input: input.into(),
        patch_sums: sums,
        slope_counts: None,
    };
    let mut launches = patch_sums(&shape, facts, &regions).unwrap();
    let regions = PatchAverages {
        output_gradient,
        patch_averages: averages,
    };
    launches.extend(patch_averages(&shape, facts, &regions).unwrap());
    let regions = TapSums {
        weight,
        tap_sums: summed,
    };
    launches.extend(tap_sums(&shape, &regions).unwrap());
    let regions = InputGradient {
        patch_averages: averages,
        weight: summed,
        input_gradient: by_input,
        accumulate: false,
        mask: None,
        normalisation: None,
    };
    launches.extend(input_gradient(&shape, facts, &regions).unwrap());
    let regions = WeightGradient {
        patch_sums: sums,
        patch_averages: averages,
        weight_gradient: by_weight,
        taps: Taps::Every,
        workspace: None,
    };
    launches.extend(weight_gradient(&shape, facts, &regions).unwrap());
    let outcome = memory.run(&launches).unwrap();
    let map = |region, pixels| from_quads(&outcome.read(region), 1, 1, pixels);
    assert_eq!(map(sums, 4), [10.0, 18.0, 42.0, 50.0]);
    assert_eq!(map(averages, 4), [-1.25, -0.75, 0.75, 1.25]);
    assert_eq!(unpack(&shape, 1, &outcome.read::<f32>(summed)), [45.0]);
    let [a, b, c, d] = [-56.25, -33.75, 33.75, 56.25];
    assert_eq!(
        map(by_input, 16),
        [a, a, b, b, a, a, b, b, c, c, d, d, c, c, d, d]
    );
    assert_eq!(
        unpack(&shape, 9, &outcome.read::<f32>(by_weight)),
        [68.0; 9]
    );
}

#[test]
fn a_sum_over_many_shares_agrees_and_repeats_bit_for_bit() {
    let convolution = Case::new("many patches", 16, [6, 48, 50], 5, [3, 3]).padding(1, 1);
    let case = FilterCase::new(convolution, 2);
    let facts = facts(DeviceKind::Discrete, false);
    let shape = shape_of(&case);
    let workspace_bytes = weight_gradient_workspace(&shape, &facts).unwrap();
    assert!(workspace_bytes > 4 * shape.tap_sums_bytes());
    assert!(check(&case, &facts, 0, true).contains(SUM_OF_SHARES));
    let patches = case.patches()[0] * case.patches()[1];
    let x = normal(1, 16 * 6 * patches);
    let dy = normal(2, 16 * 5 * patches);
    let run = || {
        let mut memory = Guarded::new();
        let regions = WeightGradient {
            patch_sums: memory.input(&to_quads(&x, 16, 6, patches)),
            patch_averages: memory.input(&to_quads(&dy, 16, 5, patches)),
            weight_gradient: memory.output(shape.weight_bytes() as usize / 4),
            taps: Taps::Every,
            workspace: Some(memory.output(workspace_bytes as usize / 4)),
        };
        let launches = weight_gradient(&shape, &facts, &regions).unwrap();
        let outcome = memory.run_unchecked(&launches).unwrap();
        let values: Vec<f32> = outcome.read(regions.weight_gradient);
        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn many_channels_take_larger_tiles_on_a_gpu() {
    let convolution = Case::new("many channels", 1, [128, 24, 24], 128, [1, 1]);
    let facts = facts(DeviceKind::Discrete, false);
    check(&FilterCase::new(convolution, 2), &facts, 0, false);
}

#[test]
fn patch_sums_read_their_input_through_normalisation_and_activation() {
    let convolution = Case::new("normalised", 2, [6, 7, 5], 4, [3, 3]).padding(1, 1);
    let case = FilterCase::new(convolution, 2);
    let shape = shape_of(&case);
    let x = normal(1, convolution.input_len());
    let (scale, shift) = (normal(2, 6), normal(3, 6));
    // Four vectors a quad: scale, shift, and two that are not read here.
    let normalisation: Vec<f32> = (0..2)
        .flat_map(|quad| {
            let vector = |values: &[f32]| -> Vec<f32> {
                let at = |lane: usize| values.get(quad * 4 + lane).copied().unwrap_or(0.0);
                (0..4).map(at).collect()
            };
            [vector(&scale), vector(&shift), vec![1.0; 8]].concat()
        })
        .collect();
    let activated: Vec<f64> = x
        .iter()
        .enumerate()
        .map(|(at, x)| {
            let channel = at / 35 % 6;
            (f64::from(*x) * f64::from(scale[channel]) + f64::from(shift[channel])).max(0.0)
        })
        .collect();
    let mut memory = Guarded::new();
    let regions = PatchSums {
        input: Source {
            region: memory.input(&to_quads(&x, 2, 6, 35)),
            normalisation: Some(memory.input(&normalisation)),
            activation: Activation::Relu,
        },
        patch_sums: memory.output(shape.patch_sums_bytes() as usize / 4),
        slope_counts: None,
    };
    let outcome = memory
        .run(&patch_sums(&shape, device(false).facts(), &regions).unwrap())
        .unwrap();
    let found = from_quads(&outcome.read(regions.patch_sums), 2, 6, 12);
    let error = relative_error(&found, &twin::patch_sums(&case, &activated));
    assert!(error <= TOLERANCE, "off by {error:e}");
}

/// Kept slopes and a scale behind the product, as maps and at the resolution of patches, against the twin's map that is masked, scaled and
/// averaged.
#[test]
fn gradients_pass_what_stands_between_layers() {
    let cases = [
        Case::new("dense", 2, [6, 7, 5], 5, [3, 3]).padding(1, 1),
        Case::new("spread", 2, [6, 9, 8], 8, [3, 3])
            .padding(4, 4)
            .dilation(4, 4),
        Case::new("depthwise", 2, [6, 7, 5], 6, [3, 3])
            .padding(1, 1)
            .groups(6),
    ];
    for (convolution, patch, checked) in [
        (cases[0], 2, true),
        (cases[0], 3, false),
        (cases[1], 2, true),
        (cases[2], 2, true),
        (cases[2], 4, false),
    ] {
        let case = FilterCase::new(convolution, patch);
        let (shape, facts) = (shape_of(&case), facts(DeviceKind::Software, !checked));
        let [inputs, height, width] = convolution.input;
        let (batch, pixels) = (convolution.batch, height * width);
        let taps = convolution.kernel[0] * convolution.kernel[1];
        let patches = case.patches()[0] * case.patches()[1];
        let x = normal(1, convolution.input_len());
        let w = normal(2, convolution.weight_len());
        let dy = normal(3, convolution.output_len());
        let scale = normal(4, inputs);
        let normalisation: Vec<f32> = (0..inputs.div_ceil(4))
            .flat_map(|quad| {
                let at = |lane: usize| scale.get(quad * 4 + lane).copied().unwrap_or(0.0);
                let scale: Vec<f32> = (0..4).map(at).collect();
                [scale, vec![1.0; 12]].concat()
            })
            .collect();
        let quads = to_quads(&x, batch, inputs, pixels);
        let plane = batch * pixels;
        let words = plane.div_ceil(8);
        let mut bits = vec![0_u32; inputs.div_ceil(4) * words];
        for (at, value) in quads.iter().enumerate() {
            let (quad, pixel, lane) = (at / 4 / plane, at / 4 % plane, at % 4);
            let bit = pixel % 8 * 4 + lane;
            bits[quad * words + pixel / 8] |= u32::from(*value > 0.0) << bit;
        }
        let mut memory = Guarded::new();
        let weight = memory.input(&pack(&shape, taps, shape.weight_bytes(), &w));
        let normalisation = Some(memory.input(&normalisation));
        let bits = memory.input(&bits);
        assert_eq!(bits.size, shape.slopes_bytes());
        let output = |memory: &mut Guarded, bytes: u64| memory.output(bytes as usize / 4);
        let sums = PatchSums {
            input: Source {
                region: memory.input(&quads),
                normalisation: None,
                activation: Activation::Relu,
            },
            patch_sums: output(&mut memory, shape.patch_sums_bytes()),
            slope_counts: Some(output(&mut memory, shape.slope_counts_bytes())),
        };
        let output_pixels: usize = convolution.output_size().iter().product();
        let outputs = convolution.output_channels;
        let averages = PatchAverages {
            output_gradient: memory.input(&to_quads(&dy, batch, outputs, output_pixels)),
            patch_averages: output(&mut memory, shape.patch_averages_bytes()),
        };
        let summed = output(&mut memory, shape.tap_sums_bytes());
        let read = if shape.reads_every_tap() {
            weight
        } else {
            summed
        };
        let map = InputGradient {
            patch_averages: averages.patch_averages,
            weight: read,
            input_gradient: output(&mut memory, shape.input_bytes()),
            accumulate: false,
            mask: Some(Mask::Bits(bits)),
            normalisation,
        };
        let by_patch = |slope_counts, averages_before| PatchGradient {
            patch_averages: averages.patch_averages,
            weight: read,
            slope_counts,
            normalisation,
            stride_before: [2, 1],
            averages_before,
        };
        let through = output(&mut memory, shape.patch_sums_bytes());
        let past = output(&mut memory, shape.patch_sums_bytes());
        // The same in one dispatch with the weight gradient.
        let map_beside = InputGradient {
            input_gradient: output(&mut memory, shape.input_bytes()),
            ..map
        };
        let beside = by_patch(
            sums.slope_counts,
            output(&mut memory, shape.patch_sums_bytes()),
        );
        let by_weight = [0; 2].map(|_| output(&mut memory, shape.weight_bytes()));
        let with_weight = |weight_gradient, by_input| {
            let by_weight = WeightGradient {
                patch_sums: sums.patch_sums,
                patch_averages: averages.patch_averages,
                weight_gradient,
                taps: Taps::Every,
                workspace: None,
            };
            let facts = self::facts(DeviceKind::Discrete, false);
            gradients(&shape, &facts, &by_weight, &by_input).unwrap()
        };
        let launches = [
            patch_sums(&shape, &facts, &sums).unwrap(),
            patch_averages(&shape, &facts, &averages).unwrap(),
            tap_sums(
                &shape,
                &TapSums {
                    weight,
                    tap_sums: summed,
                },
            )
            .unwrap(),
            input_gradient(&shape, &facts, &map).unwrap(),
            patch_gradient(&shape, &facts, &by_patch(sums.slope_counts, through)).unwrap(),
            patch_gradient(&shape, &facts, &by_patch(None, past)).unwrap(),
            with_weight(by_weight[0], TowardsInput::Map(map_beside)),
            with_weight(by_weight[1], TowardsInput::Patches(beside)),
        ]
        .concat();
        let outcome = if checked {
            memory.run(&launches).unwrap()
        } else {
            memory.run_unchecked(&launches).unwrap()
        };
        let [wide_x, w, dy] = [&x, &w, &dy].map(|values| widen(values));
        let plain: Vec<f64> = (twin::input_gradient(&case, &dy, &w).iter().enumerate())
            .map(|(at, value)| value * f64::from(scale[at / pixels % inputs]))
            .collect();
        let masked: Vec<f64> = (plain.iter().zip(&wide_x))
            .map(|(value, x)| if *x > 0.0 { *value } else { 0.0 })
            .collect();
        let close = |what: &str, found: &[f32], expected: &[f64]| {
            let error = relative_error(found, expected);
            let name = convolution.name;
            assert!(
                error <= TOLERANCE,
                "{name} by {patch}: {what} is off by {error:e}"
            );
        };
        let found = from_quads(&outcome.read(map.input_gradient), batch, inputs, pixels);
        close("the map", &found, &masked);
        let found = from_quads(
            &outcome.read(map_beside.input_gradient),
            batch,
            inputs,
            pixels,
        );
        close("the map beside a weight gradient", &found, &masked);
        let by_pixels = twin::weight_gradient(
            &case,
            &wide_x.iter().map(|x| x.max(0.0)).collect::<Vec<_>>(),
            &dy,
        );
        for region in by_weight {
            let found = unpack(&shape, taps, &outcome.read::<f32>(region));
            close("the weight gradient", &found, &by_pixels);
        }
        let ones = twin::patch_sums(&case, &vec![1.0; plain.len()]);
        let averaged = |map: &[f64]| -> Vec<f64> {
            let sums = twin::patch_sums(&case, map);
            (sums.iter().zip(&ones))
                .map(|(sum, pixels)| 0.5 * sum / pixels)
                .collect()
        };
        let found = from_quads(&outcome.read(through), batch, inputs, patches);
        close("the average behind slopes", &found, &averaged(&masked));
        let found = from_quads(&outcome.read(past), batch, inputs, patches);
        close("the average", &found, &averaged(&plain));
        let rectified: Vec<f64> = wide_x.iter().map(|x| x.max(0.0)).collect();
        let found = from_quads(&outcome.read(sums.patch_sums), batch, inputs, patches);
        close("patch sums", &found, &twin::patch_sums(&case, &rectified));
    }
    let strided = FilterShape::new(1, [4, 8, 8], 4, [3, 3], 2)
        .with_padding(1)
        .with_stride(2);
    let some = Region::whole(0, 1 << 20);
    let regions = PatchGradient {
        patch_averages: some,
        weight: some,
        slope_counts: None,
        normalisation: None,
        stride_before: [1, 1],
        averages_before: some,
    };
    let facts = facts(DeviceKind::Discrete, false);
    assert!(matches!(
        patch_gradient(&strided, &facts, &regions),
        Err(FilterError::OtherPatches)
    ));
}

fn any_case() -> impl Strategy<Value = FilterCase> {
    (
        (1..4_usize, 1..14_usize, 1..14_usize, 1..9_usize),
        (1..6_usize, 1..3_usize, 0..4_usize, 1..6_usize),
        (1..6_usize, 1..3_usize, 0..4_usize, 1..6_usize),
        (1..10_usize, 1..10_usize, 0..3_usize),
    )
        .prop_map(|((batch, height, width, patch), y, x, channels)| {
            let (inputs, outputs, kind) = channels;
            // One in three is depthwise.
            let (outputs, groups) = if kind == 0 && inputs > 1 {
                (inputs, inputs)
            } else {
                (outputs, 1)
            };
            let convolution = Case {
                name: "random",
                batch,
                input: [inputs, height, width],
                output_channels: outputs,
                kernel: [y.0, x.0],
                stride: [y.1, x.1],
                padding: [y.2, x.2],
                dilation: [y.3, x.3],
                groups,
            };
            FilterCase::new(convolution, patch)
        })
        .prop_filter("the kernel must fit", |case| {
            let fits = |axis: usize| {
                let c = &case.convolution;
                c.dilation[axis] * (c.kernel[axis] - 1) < c.input[axis + 1] + 2 * c.padding[axis]
            };
            fits(0) && fits(1)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_shapes_agree_with_their_twin(case in any_case(), way in 0..4_usize) {
        check(&case, &facts(DeviceKind::Discrete, false), way, false);
    }
}
