//! Batch norm against its twin and PyTorch.

mod maps;

use maps::{assert_close, place, place_vector, read, read_vector, room, shape, twin, vector_room};
use smidgen_gpu::testing::{Guarded, Outcome, device};
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, Source, normalisation_bytes};
use smidgen_ops::batch_norm::{self, StatisticsKind};
use smidgen_ops::{Activation, MapShape, activation};
use smidgen_reference::batch_norm as reference;
use smidgen_reference::elementwise::MapCase;
use smidgen_reference::golden::Golden;
use smidgen_reference::layout::widen;
use smidgen_reference::numbers::normal;

/// The inputs of a layer.
struct Inputs {
    input: Vec<f32>,
    output_gradient: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    running_mean: Vec<f32>,
    running_variance: Vec<f32>,
    epsilon: f32,
    momentum: f32,
}

impl Inputs {
    fn random(map: &MapCase) -> Self {
        Self {
            input: normal(1, map.count())
                .iter()
                .map(|x| 2.0 * x + 1.0)
                .collect(),
            output_gradient: normal(2, map.count()),
            gamma: normal(3, map.channels),
            beta: normal(4, map.channels),
            running_mean: normal(5, map.channels),
            running_variance: normal(6, map.channels)
                .iter()
                .map(|x| x * x + 0.5)
                .collect(),
            epsilon: 1e-5,
            momentum: 0.1,
        }
    }
}

/// Where a whole forward and backward stand.
struct Layer {
    memory: Guarded,
    launches: Vec<Launch>,
    running_mean: Region,
    running_variance: Region,
    normalisation: Region,
    output: Region,
    gamma_gradient: Region,
    beta_gradient: Region,
    input_gradient: Region,
}

impl Layer {
    fn new(
        map: &MapCase,
        facts: &DeviceFacts,
        inputs: &Inputs,
        applied: Activation,
        kind: StatisticsKind,
        in_place: bool,
    ) -> Self {
        let shape = shape(map);
        let mut memory = Guarded::new();
        let input = place(&mut memory, map, &inputs.input);
        let running_mean = place_vector(&mut memory, &inputs.running_mean);
        let running_variance = place_vector(&mut memory, &inputs.running_variance);
        let gamma = place_vector(&mut memory, &inputs.gamma);
        let beta = place_vector(&mut memory, &inputs.beta);
        let bytes = normalisation_bytes(map.channels as u32);
        let normalisation = memory.output(bytes as usize / 4);
        let (epsilon, momentum) = (inputs.epsilon, inputs.momentum);
        let mut launches = match kind {
            StatisticsKind::Batch => {
                let bytes = batch_norm::statistics_workspace(&shape, facts);
                let workspace = memory.output(bytes as usize / 4);
                let regions = batch_norm::Statistics {
                    input,
                    running_mean,
                    running_variance,
                    gamma,
                    beta,
                    normalisation,
                    epsilon,
                    momentum,
                };
                batch_norm::statistics(&shape, facts, &regions, workspace).unwrap()
            }
            StatisticsKind::Constant => {
                let regions = batch_norm::PrepareEval {
                    running_mean,
                    running_variance,
                    gamma,
                    beta,
                    normalisation,
                    epsilon,
                };
                batch_norm::prepare_eval(&shape, &regions).unwrap()
            }
        };
        let output = room(&mut memory, map);
        let source = Source {
            region: input,
            normalisation: Some(normalisation),
            activation: applied,
        };
        launches.extend(activation::apply(&shape, &source, output).unwrap());
        let output_gradient = place(&mut memory, map, &inputs.output_gradient);
        let input_gradient = if in_place {
            output_gradient
        } else {
            room(&mut memory, map)
        };
        let bytes = batch_norm::backward_workspace(&shape, facts);
        let backward = batch_norm::Backward {
            input,
            normalisation,
            output_gradient,
            workspace: memory.output(bytes as usize / 4),
            gamma_gradient: vector_room(&mut memory, map.channels),
            beta_gradient: vector_room(&mut memory, map.channels),
            input_gradient,
        };
        launches.extend(batch_norm::backward(&shape, facts, applied, kind, &backward).unwrap());
        Self {
            memory,
            launches,
            running_mean,
            running_variance,
            normalisation,
            output,
            gamma_gradient: backward.gamma_gradient,
            beta_gradient: backward.beta_gradient,
            input_gradient,
        }
    }

    fn run(&self) -> Outcome {
        self.memory.run(&self.launches).unwrap()
    }

    /// One of the four vectors of the normalisation: scale, shift, mean, inverse deviation.
    fn vector(&self, outcome: &Outcome, channels: usize, which: usize) -> Vec<f32> {
        let all: Vec<f32> = outcome.read(self.normalisation);
        let mut vector: Vec<f32> = (all.chunks(16))
            .flat_map(|quad| quad[which * 4..][..4].to_vec())
            .collect();
        assert!(vector[channels..].iter().all(|value| *value == 0.0));
        vector.truncate(channels);
        vector
    }
}

fn compare_with_twin(
    map: &MapCase,
    facts: &DeviceFacts,
    activation: Activation,
    kind: StatisticsKind,
    in_place: bool,
) {
    let name = format!("{} {activation:?} {kind:?}", map.name);
    let inputs = Inputs::random(map);
    let layer = Layer::new(map, facts, &inputs, activation, kind, in_place);
    let outcome = layer.run();

    let (input, output_gradient) = (widen(&inputs.input), widen(&inputs.output_gradient));
    let twin_layer = reference::Layer {
        gamma: widen(&inputs.gamma),
        beta: widen(&inputs.beta),
        epsilon: f64::from(inputs.epsilon),
        activation: twin(activation),
    };
    let before = reference::Statistics {
        mean: widen(&inputs.running_mean),
        variance: widen(&inputs.running_variance),
    };
    let of_batch = kind == StatisticsKind::Batch;
    let (used, after) = if of_batch {
        let batch = reference::statistics(map, &input);
        let after = reference::running(map, &batch, &before, f64::from(inputs.momentum));
        (batch, after)
    } else {
        (before.clone(), before)
    };
    // One pixel has variance 0, which multiplies rounding errors of the value and the mean by 1 / sqrt(epsilon).
    let limit = if of_batch && shape(map).pixels() == 1 {
        1e-3
    } else {
        1e-5
    };
    let close = |what: &str, actual: Vec<f32>, expected: &[f64]| {
        assert_close(&format!("{name} {what}"), &actual, expected, limit);
    };
    let vector = |region| read_vector(&outcome, map.channels, region);
    let inverse: Vec<f64> = used
        .variance
        .iter()
        .map(|variance| 1.0 / (variance + twin_layer.epsilon).sqrt())
        .collect();
    let [mean, inverse_deviation] = [2, 3].map(|at| layer.vector(&outcome, map.channels, at));
    close("mean", mean, &used.mean);
    close("inverse deviation", inverse_deviation, &inverse);
    close("running mean", vector(layer.running_mean), &after.mean);
    close(
        "running variance",
        vector(layer.running_variance),
        &after.variance,
    );
    let output = reference::apply(map, &twin_layer, &used, &input);
    close("output", read(&outcome, map, layer.output), &output);
    let gradients =
        reference::backward(map, &twin_layer, &used, of_batch, &input, &output_gradient);
    close(
        "gamma gradient",
        vector(layer.gamma_gradient),
        &gradients.gamma,
    );
    close(
        "beta gradient",
        vector(layer.beta_gradient),
        &gradients.beta,
    );
    close(
        "input gradient",
        read(&outcome, map, layer.input_gradient),
        &gradients.input,
    );
}

#[test]
fn every_case_agrees_with_the_twin() {
    let facts = device(false).facts();
    for map in reference::cases() {
        for kind in [StatisticsKind::Batch, StatisticsKind::Constant] {
            compare_with_twin(&map, facts, Activation::Relu, kind, true);
            compare_with_twin(&map, facts, Activation::Identity, kind, false);
        }
    }
}

#[test]
fn every_activation_agrees_with_the_twin() {
    let facts = device(false).facts();
    let map = reference::cases()[4];
    for activation in Activation::ALL {
        for in_place in [false, true] {
            compare_with_twin(&map, facts, activation, StatisticsKind::Batch, in_place);
        }
    }
}

#[test]
fn the_slicing_of_another_kind_of_device_gives_the_same() {
    let mut facts = device(false).facts().clone();
    facts.kind = match facts.kind {
        DeviceKind::Software => DeviceKind::Discrete,
        _ => DeviceKind::Software,
    };
    let map = *reference::cases().last().unwrap();
    assert_ne!(
        batch_norm::statistics_workspace(&shape(&map), &facts),
        batch_norm::statistics_workspace(&shape(&map), device(false).facts()),
    );
    compare_with_twin(&map, &facts, Activation::Relu6, StatisticsKind::Batch, true);
}

#[test]
fn statistics_survive_a_large_mean_and_a_wild_first_value() {
    let facts = device(false).facts();
    let map = MapCase::new("mean 1000, deviation 0.1", [16, 5, 32, 32]);
    let mut inputs = Inputs::random(&map);
    inputs.input = normal(7, map.count())
        .iter()
        .map(|x| 1000.0 + 0.1 * x)
        .collect();
    inputs.input[map.at(0, 1, 0, 0)] = -1000.0;
    let layer = Layer::new(
        &map,
        facts,
        &inputs,
        Activation::Identity,
        StatisticsKind::Batch,
        true,
    );
    let outcome = layer.run();
    let expected = reference::statistics(&map, &widen(&inputs.input));
    let [means, inverses] = [2, 3].map(|at| layer.vector(&outcome, map.channels, at));
    for channel in 0..map.channels {
        let inverse = 1.0 / (expected.variance[channel] + f64::from(inputs.epsilon)).sqrt();
        assert!(
            (f64::from(inverses[channel]) / inverse - 1.0).abs() < 1e-3,
            "channel {channel}"
        );
        assert!(
            (f64::from(means[channel]) - expected.mean[channel]).abs() < 1e-3,
            "channel {channel}"
        );
    }
    // Readers take scale * x + shift, where scale * mean cancels: what is read is as exact as the largest of these three numbers.
    let read = read(&outcome, &map, layer.output);
    for channel in 0..map.channels {
        let mean = expected.mean[channel];
        let variance = expected.variance[channel] + f64::from(inputs.epsilon);
        let scale = f64::from(inputs.gamma[channel]) / variance.sqrt();
        let limit = 4.0 * f64::from(f32::EPSILON) * scale.abs() * mean.abs();
        for image in 0..map.batch {
            let at = map.at(image, channel, 3, 5);
            let x = f64::from(inputs.input[at]);
            let exact = scale * (x - mean) + f64::from(inputs.beta[channel]);
            let error = (f64::from(read[at]) - exact).abs();
            assert!(
                error <= limit,
                "channel {channel}: {error:e} above {limit:e}"
            );
        }
    }
}

#[test]
fn a_constant_channel_gives_finite_numbers() {
    let facts = device(false).facts();
    let map = MapCase::new("constant", [4, 3, 16, 17]);
    let mut inputs = Inputs::random(&map);
    inputs.input.fill(0.3);
    let layer = Layer::new(
        &map,
        facts,
        &inputs,
        Activation::Gelu,
        StatisticsKind::Batch,
        true,
    );
    let outcome = layer.run();
    for region in [
        layer.normalisation,
        layer.gamma_gradient,
        layer.output,
        layer.input_gradient,
    ] {
        assert!(
            outcome
                .read::<f32>(region)
                .iter()
                .all(|value| value.is_finite())
        );
    }
    let means = layer.vector(&outcome, map.channels, 2);
    assert!(means.iter().all(|mean| *mean == 0.3));
}

#[test]
fn golden_cases_agree_with_pytorch() {
    let Some(golden) = Golden::open("operators.safetensors") else {
        return;
    };
    let facts = device(false).facts();
    let mut seen = 0;
    for case in golden.cases() {
        if case["op"] != "batch_norm" {
            continue;
        }
        seen += 1;
        let name = case["name"].as_str().unwrap();
        let tensor = |part: &str| golden.tensor(&format!("{name}.{part}")).unwrap();
        let (sizes, input) = tensor("x");
        let map = MapCase::new("golden", sizes.try_into().unwrap());
        let inputs = Inputs {
            input,
            output_gradient: tensor("dy").1,
            gamma: tensor("weight").1,
            beta: tensor("bias").1,
            running_mean: tensor("running_mean").1,
            running_variance: tensor("running_var").1,
            epsilon: case["eps"].as_f64().unwrap() as f32,
            momentum: case["momentum"].as_f64().unwrap() as f32,
        };
        let kind = if case["train"] == true {
            StatisticsKind::Batch
        } else {
            StatisticsKind::Constant
        };
        let layer = Layer::new(&map, facts, &inputs, Activation::Identity, kind, true);
        let outcome = layer.run();
        let close = |part: &str, actual: Vec<f32>| {
            assert_close(
                &format!("{name}.{part}"),
                &actual,
                &widen(&tensor(part).1),
                1e-5,
            );
        };
        let vector = |region| read_vector(&outcome, map.channels, region);
        close("y", read(&outcome, &map, layer.output));
        close("dx", read(&outcome, &map, layer.input_gradient));
        close("dweight", vector(layer.gamma_gradient));
        close("dbias", vector(layer.beta_gradient));
        close("running_mean_after", vector(layer.running_mean));
        close("running_var_after", vector(layer.running_variance));
    }
    assert_eq!(seen, 2);
}

#[test]
fn unfit_regions_and_shapes_are_refused_by_name() {
    let small = Region::whole(0, 64);
    let regions = batch_norm::PrepareEval {
        running_mean: small,
        running_variance: small,
        gamma: small,
        beta: small,
        normalisation: small,
        epsilon: 1e-5,
    };
    let error = batch_norm::prepare_eval(&MapShape::new(2, 8, 4, 4), &regions).unwrap_err();
    assert_eq!(
        error.to_string(),
        "batch norm prepare_eval: `normalisation` has 64 bytes, the shape needs 128"
    );
    for shape in [
        MapShape::new(0, 8, 4, 4),
        MapShape::new(1 << 20, 8, 1 << 10, 1 << 10),
    ] {
        assert!(batch_norm::prepare_eval(&shape, &regions).is_err());
    }
}
