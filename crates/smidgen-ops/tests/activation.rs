//! Activations against their twins and PyTorch.

mod maps;

use maps::{assert_close, place, read, room, shape, twin};
use smidgen_gpu::testing::{Guarded, relative_error};
use smidgen_gpu::{Region, Source};
use smidgen_ops::Activation;
use smidgen_ops::activation::{self, Backward};
use smidgen_reference::activation as reference;
use smidgen_reference::elementwise::{MapCase, cases};
use smidgen_reference::golden::Golden;
use smidgen_reference::layout::widen;
use smidgen_reference::numbers::normal;

/// Output and input gradient of an activation.
fn run(
    map: &MapCase,
    activation: Activation,
    input: &[f32],
    output_gradient: &[f32],
    in_place: bool,
) -> [Vec<f32>; 2] {
    let shape = shape(map);
    let mut memory = Guarded::new();
    let value = place(&mut memory, map, input);
    let input = place(&mut memory, map, input);
    let output = room(&mut memory, map);
    let output_gradient = place(&mut memory, map, output_gradient);
    let input_gradient = if in_place {
        output_gradient
    } else {
        room(&mut memory, map)
    };
    let through = |region: Region| Source {
        activation,
        ..region.into()
    };
    let mut launches = activation::apply(&shape, &through(input), output).unwrap();
    let backward = Backward {
        value: through(value),
        output_gradient,
        input_gradient,
    };
    launches.extend(activation::backward(&shape, &backward).unwrap());
    let outcome = memory.run(&launches).unwrap();
    [
        read(&outcome, map, output),
        read(&outcome, map, input_gradient),
    ]
}

#[test]
fn every_case_agrees_with_the_twin() {
    for map in cases() {
        for activation in Activation::ALL {
            for in_place in [false, true] {
                let name = format!("{} {activation:?}", map.name);
                let input: Vec<f32> = normal(1, map.count()).iter().map(|x| 4.0 * x).collect();
                let output_gradient = normal(2, map.count());
                let [output, gradient] = run(&map, activation, &input, &output_gradient, in_place);
                let (x, g) = (widen(&input), widen(&output_gradient));
                assert_close(
                    &name,
                    &output,
                    &reference::forward(twin(activation), &x),
                    1e-6,
                );
                let expected = reference::backward(twin(activation), &x, &g);
                assert_close(&name, &gradient, &expected, 1e-6);
            }
        }
    }
}

#[test]
fn gelu_is_exact_to_the_precision_of_f32() {
    let map = MapCase::new("from -8 to 8", [1, 4, 1, 4001]);
    let input: Vec<f32> = (0..map.count())
        .map(|at| at as f32 / 1000.0 - 8.0)
        .collect();
    let ones = vec![1.0; map.count()];
    let [output, gradient] = run(&map, Activation::Gelu, &input, &ones, false);
    for (at, x) in input.iter().enumerate() {
        let x = f64::from(*x);
        let error = f64::from(output[at]) - reference::Activation::Gelu.value(x);
        assert!(error.abs() < 2e-7 * x.abs().max(1.0), "{x}: {error:e}");
        let error = f64::from(gradient[at]) - reference::Activation::Gelu.derivative(x);
        assert!(error.abs() < 1e-6, "{x}: {error:e}");
    }
}

#[test]
fn a_nan_is_not_swallowed() {
    let map = MapCase::new("not a number", [1, 4, 1, 2]);
    let input = [1.0, f32::NAN, -1.0, f32::NAN, 0.0, 7.0, f32::NAN, -7.0];
    for activation in Activation::ALL {
        let [output, _] = run(&map, activation, &input, &[1.0; 8], false);
        for (input, output) in input.iter().zip(&output) {
            assert_eq!(input.is_nan(), output.is_nan(), "{activation:?} of {input}");
        }
    }
}

/// ReLU and ReLU6 compare bits: every kind of number, at the ends of its range.
#[test]
fn bits_are_compared_as_numbers_are() {
    let map = MapCase::new("ends of ranges", [1, 4, 1, 8]);
    let (tiny, six) = (f32::from_bits(1), 6.0_f32);
    let positive = [0.0, tiny, f32::MIN_POSITIVE, 1.0, six.next_down(), six];
    let larger = [six.next_up(), 7.0, f32::MAX, f32::INFINITY];
    let numbers = positive.into_iter().chain(larger);
    let mut input: Vec<f32> = numbers.flat_map(|number| [number, -number]).collect();
    // Quiet and signalling, of either sign.
    let nans = [
        0x7f80_0001,
        0xff80_0001,
        0x7fc0_0000,
        0xffc0_0000,
        0x7fff_ffff,
        u32::MAX,
    ];
    input.extend(nans.map(f32::from_bits));
    input.resize(map.count(), -2.0);
    for (activation, most) in [(Activation::Relu, f32::INFINITY), (Activation::Relu6, six)] {
        let [output, _] = run(&map, activation, &input, &vec![1.0; input.len()], false);
        for (input, output) in input.iter().zip(output) {
            let expected = if *input < 0.0 { 0.0 } else { input.min(most) };
            let same = if input.is_nan() {
                output.is_nan()
            } else {
                // Devices may take a denormal number for zero.
                output == expected || (*input == tiny && output == 0.0)
            };
            assert!(same, "{activation:?} of {input}: {output}");
        }
    }
}

#[test]
fn extreme_values_stay_finite() {
    let map = MapCase::new("extremes", [1, 4, 1, 2]);
    let input = [1e30, -1e30, 200.0, -200.0, 1e5, -1e5, 88.0, -88.0];
    for activation in Activation::ALL {
        for values in run(&map, activation, &input, &[1.0; 8], false) {
            assert!(
                values.iter().all(|value| value.is_finite()),
                "{activation:?}: {values:?}"
            );
        }
    }
}

#[test]
fn the_output_of_relu_and_relu6_tells_the_derivative() {
    let map = MapCase::new("kinks", [1, 5, 3, 7]);
    let mut input: Vec<f32> = normal(1, map.count()).iter().map(|x| 5.0 * x).collect();
    (input[0], input[1], input[2]) = (0.0, 6.0, -0.0);
    let output_gradient = normal(2, map.count());
    for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
        let mut memory = Guarded::new();
        let value = place(&mut memory, &map, &input);
        let output = room(&mut memory, &map);
        let gradient = place(&mut memory, &map, &output_gradient);
        let through = |region: Region| Source {
            activation,
            ..region.into()
        };
        let mut launches = activation::apply(&shape(&map), &through(value), output).unwrap();
        let backward = Backward {
            value: through(output),
            output_gradient: gradient,
            input_gradient: gradient,
        };
        assert!(activation.derivative_from_output());
        launches.extend(activation::backward(&shape(&map), &backward).unwrap());
        let outcome = memory.run(&launches).unwrap();
        let expected =
            reference::backward(twin(activation), &widen(&input), &widen(&output_gradient));
        assert_eq!(
            relative_error(&read(&outcome, &map, gradient), &expected),
            0.0
        );
    }
    assert!(!Activation::Gelu.derivative_from_output());
}

#[test]
fn golden_cases_agree_with_pytorch() {
    let Some(golden) = Golden::open("operators.safetensors") else {
        return;
    };
    let mut seen = 0;
    for case in golden.cases() {
        let (activation, factor) = match case["op"].as_str().unwrap() {
            "relu6_of_4x" => (Activation::Relu6, 4.0),
            "gelu" => (Activation::Gelu, 1.0),
            "silu" => (Activation::Silu, 1.0),
            "hardswish_of_3x" => (Activation::HardSwish, 3.0),
            _ => continue,
        };
        seen += 1;
        let name = case["name"].as_str().unwrap();
        let tensor = |part: &str| golden.tensor(&format!("{name}.{part}")).unwrap();
        let (mut sizes, input) = tensor("x");
        sizes.resize(4, 1);
        let map = MapCase::new("golden", sizes.try_into().unwrap());
        let scaled: Vec<f32> = input.iter().map(|x| factor * x).collect();
        let [output, gradient] = run(&map, activation, &scaled, &tensor("dy").1, false);
        assert_close(name, &output, &widen(&tensor("y").1), 1e-5);
        let gradient: Vec<f32> = gradient.iter().map(|g| factor * g).collect();
        assert_close(name, &gradient, &widen(&tensor("dx").1), 1e-5);
    }
    assert_eq!(seen, 4);
}
