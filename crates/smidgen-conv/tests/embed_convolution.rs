//! The example runs, and its answers are right.

#[path = "../examples/embed_convolution.rs"]
#[allow(dead_code)]
mod embed_convolution;

use smidgen_reference::convolution::{Case, forward, input_gradient, weight_gradient};
use smidgen_reference::layout::{from_quads, widen};

/// The largest difference, relative to the largest value.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    assert!(largest > 1.0, "nothing to compare with");
    let pairs = found.iter().zip(expected);
    let differences = pairs.map(|(a, b)| (f64::from(*a) - b).abs());
    differences.fold(0.0, f64::max) / largest
}

#[test]
fn the_embedding_example_agrees_with_plain_loops_and_with_the_twin() {
    let report = embed_convolution::run().unwrap();
    for ((name, found), (_, expected)) in report.found.named().iter().zip(report.expected.named()) {
        let error = error(found, &widen(expected));
        assert!(error <= 1e-5, "{name} is off by {error:e}");
    }

    let case = Case::new("embed", 2, [8, 6, 6], 8, [3, 3]).padding(1, 1);
    let [input, output] =
        [&report.input, &report.found.output].map(|quads| widen(&from_quads(quads, 2, 8, 36)));
    let weight = widen(&report.weight);
    let image_gradient = from_quads(&report.found.input_gradient, 2, 8, 36);
    let output_found = from_quads(&report.found.output, 2, 8, 36);
    for (name, found, expected) in [
        (
            "output",
            &output_found,
            forward(&case, &input, &weight, &[]),
        ),
        (
            "input gradient",
            &image_gradient,
            input_gradient(&case, &output, &weight),
        ),
        (
            "weight gradient",
            &report.found.weight_gradient,
            weight_gradient(&case, &input, &output),
        ),
    ] {
        let error = error(found, &expected);
        assert!(error <= 1e-5, "{name} is off by {error:e} from the twin");
    }
}
