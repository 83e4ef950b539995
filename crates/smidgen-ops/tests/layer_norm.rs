//! Layer norm on the device against its twin and PyTorch.
mod maps;

use maps::{place, place_vector, read, room, shape, vector_room};
use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_ops::OpsError;
use smidgen_ops::layer_norm::{self, LayerNormGradientRegions, LayerNormRegions, statistics_bytes};
use smidgen_reference::elementwise::MapCase;
use smidgen_reference::golden::Golden;
use smidgen_reference::layer_norm as twin;
use smidgen_reference::layout::widen;
use smidgen_reference::numbers::normal;

const EPSILON: f32 = 1e-5;

/// Output and gradients of input, weight and bias.
fn run(
    map: &MapCase,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output_gradient: &[f32],
) -> [Vec<f32>; 4] {
    let (shape, facts) = (shape(map), device(false).facts());
    let mut memory = Guarded::new();
    let forward = LayerNormRegions {
        input: place(&mut memory, map, input),
        weight: place_vector(&mut memory, weight),
        bias: place_vector(&mut memory, bias),
        output: room(&mut memory, map),
        statistics: memory.output(statistics_bytes(&shape) as usize / 4),
    };
    let input_gradient = room(&mut memory, map);
    let weight_gradient = vector_room(&mut memory, map.channels);
    let bias_gradient = vector_room(&mut memory, map.channels);
    let backward = LayerNormGradientRegions {
        input: forward.input,
        weight: forward.weight,
        statistics: forward.statistics,
        output_gradient: place(&mut memory, map, output_gradient),
        input_gradient: Some(input_gradient),
        parameter_gradients: Some((weight_gradient, bias_gradient)),
    };
    let mut launches = vec![layer_norm::forward(&shape, EPSILON, facts, &forward).unwrap()];
    launches.extend(layer_norm::backward(&shape, facts, &backward).unwrap());
    let outcome = memory.run(&launches).unwrap();
    let vector = |region| {
        let padded: Vec<f32> = outcome.read(region);
        assert!(padded[map.channels..].iter().all(|value| *value == 0.0));
        padded[..map.channels].to_vec()
    };
    [
        read(&outcome, map, forward.output),
        read(&outcome, map, input_gradient),
        vector(weight_gradient),
        vector(bias_gradient),
    ]
}

#[test]
fn every_case_agrees_with_the_twin() {
    for map in twin::cases() {
        // A mean far from zero, which the variance must survive.
        let x: Vec<f32> = normal(1, map.count()).iter().map(|x| x + 20.0).collect();
        let (weight, bias) = (normal(2, map.channels), normal(3, map.channels));
        let dy = normal(4, map.count());
        let actual = run(&map, &x, &weight, &bias, &dy);
        let layer = twin::Layer {
            weight: widen(&weight),
            bias: widen(&bias),
            epsilon: f64::from(EPSILON),
        };
        let output = twin::forward(&map, &layer, &widen(&x));
        let gradients = twin::backward(&map, &layer, &widen(&x), &widen(&dy));
        let expected = [output, gradients.input, gradients.weight, gradients.bias];
        let names = [
            "output",
            "input gradient",
            "weight gradient",
            "bias gradient",
        ];
        for ((actual, expected), name) in actual.iter().zip(&expected).zip(names) {
            let error = relative_error(actual, expected);
            assert!(error < 1e-5, "{}: {name} off by {error}", map.name);
        }
    }
}

#[test]
fn it_agrees_with_pytorch() {
    let Some(golden) = Golden::open("operators.safetensors") else {
        return;
    };
    let tensor = |name: &str| golden.tensor(&format!("layernorm.{name}")).unwrap();
    let (sizes, x) = tensor("x");
    let map = MapCase::new("golden", [sizes[0], sizes[1], 1, 1]);
    let actual = run(
        &map,
        &x,
        &tensor("weight").1,
        &tensor("bias").1,
        &tensor("dy").1,
    );
    for (actual, name) in actual.iter().zip(["y", "dx", "dweight", "dbias"]) {
        let error = relative_error(actual, &widen(&tensor(name).1));
        assert!(error < 1e-5, "{name} off by {error}");
    }
}

#[test]
fn what_is_not_wanted_is_not_computed_and_nonsense_is_refused() {
    let map = MapCase::new("small", [2, 5, 1, 3]);
    let (shape, facts) = (shape(&map), device(false).facts());
    let mut memory = Guarded::new();
    let x = place(&mut memory, &map, &normal(1, map.count()));
    let vector = place_vector(&mut memory, &normal(2, 5));
    let regions = LayerNormGradientRegions {
        input: x,
        weight: vector,
        statistics: memory.output(statistics_bytes(&shape) as usize / 4),
        output_gradient: x,
        input_gradient: None,
        parameter_gradients: None,
    };
    assert_eq!(layer_norm::backward(&shape, facts, &regions), Ok(vec![]));
    let short = LayerNormGradientRegions {
        weight: memory.input(&[1.0f32]),
        ..regions
    };
    assert!(matches!(
        layer_norm::backward(&shape, facts, &short),
        Err(OpsError::Region {
            region: "weight",
            needed: 32,
            ..
        })
    ));
    let forward = LayerNormRegions {
        input: x,
        weight: vector,
        bias: vector,
        output: x,
        statistics: regions.statistics,
    };
    assert!(matches!(
        layer_norm::forward(&shape, 0.0, facts, &forward),
        Err(OpsError::Shape { .. })
    ));
}
