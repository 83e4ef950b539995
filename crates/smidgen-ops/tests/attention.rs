//! Attention on the device against its twin and PyTorch.

use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_ops::OpsError;
use smidgen_ops::attention::{self, AttentionGradientRegions, AttentionRegions, AttentionShape};
use smidgen_reference::attention::{self as twin, AttentionCase};
use smidgen_reference::golden::Golden;
use smidgen_reference::layout::widen;
use smidgen_reference::numbers::normal;

fn shape(case: &AttentionCase) -> AttentionShape {
    AttentionShape {
        batch: case.batch as u32,
        heads: case.heads as u32,
        tokens: case.tokens as u32,
        width: case.width as u32,
    }
}

/// Output and gradients of query, key and value from these and the output's gradient.
fn run(case: &AttentionCase, [q, k, v, dy]: [&[f32]; 4]) -> [Vec<f32>; 4] {
    let (shape, facts) = (shape(case), device(false).facts());
    let square = shape.probability_bytes() as usize / 4;
    let mut memory = Guarded::new();
    let forward = AttentionRegions {
        query: memory.input(q),
        key: memory.input(k),
        value: memory.input(v),
        probabilities: memory.output(square),
        output: memory.output(case.count()),
    };
    let backward = AttentionGradientRegions {
        query: forward.query,
        key: forward.key,
        value: forward.value,
        probabilities: forward.probabilities,
        output_gradient: memory.input(dy),
        workspace: memory.output(square),
        query_gradient: memory.output(case.count()),
        key_gradient: memory.output(case.count()),
        value_gradient: memory.output(case.count()),
    };
    let mut launches = attention::forward(&shape, facts, &forward).unwrap();
    launches.extend(attention::backward(&shape, facts, &backward).unwrap());
    let outcome = memory.run(&launches).unwrap();
    [
        outcome.read(forward.output),
        outcome.read(backward.query_gradient),
        outcome.read(backward.key_gradient),
        outcome.read(backward.value_gradient),
    ]
}

#[test]
fn every_case_agrees_with_the_twin() {
    for case in twin::cases() {
        let [q, k, v, dy] = [1, 2, 3, 4].map(|seed| normal(seed, case.count()));
        let actual = run(&case, [&q, &k, &v, &dy]);
        let [q, k, v, dy] = [&q, &k, &v, &dy].map(|values| widen(values));
        let gradients = twin::backward(&case, &q, &k, &v, &dy);
        let expected = [
            twin::forward(&case, &q, &k, &v),
            gradients.query,
            gradients.key,
            gradients.value,
        ];
        for ((actual, expected), name) in actual.iter().zip(&expected).zip(["y", "dq", "dk", "dv"])
        {
            let error = relative_error(actual, expected);
            assert!(error < 1e-5, "{}: {name} off by {error}", case.name);
        }
    }
}

#[test]
fn it_agrees_with_pytorch() {
    let Some(golden) = Golden::open("operators.safetensors") else {
        return;
    };
    let tensor = |name: &str| golden.tensor(&format!("attention.{name}")).unwrap();
    let (sizes, q) = tensor("q");
    let case = AttentionCase::new("golden", sizes.try_into().unwrap());
    let inputs = [&q[..], &tensor("k").1, &tensor("v").1, &tensor("dy").1];
    for (actual, name) in run(&case, inputs).iter().zip(["y", "dq", "dk", "dv"]) {
        let error = relative_error(actual, &widen(&tensor(name).1));
        assert!(error < 1e-5, "{name} off by {error}");
    }
}

#[test]
fn empty_and_huge_shapes_are_refused() {
    let region = Guarded::new().output(4);
    let regions = AttentionRegions {
        query: region,
        key: region,
        value: region,
        probabilities: region,
        output: region,
    };
    let facts = device(false).facts();
    for (tokens, width) in [(0, 4), (4, 0), (u32::MAX, u32::MAX)] {
        let shape = AttentionShape {
            batch: u32::MAX,
            heads: 1,
            tokens,
            width,
        };
        assert!(matches!(
            attention::forward(&shape, facts, &regions),
            Err(OpsError::Shape { .. })
        ));
    }
}
