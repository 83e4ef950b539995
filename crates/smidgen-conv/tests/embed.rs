//! The example runs, and its answer is right.

#[path = "../examples/embed.rs"]
#[allow(dead_code)]
mod embed;

#[test]
fn the_embedding_example_agrees_with_a_plain_loop() {
    let report = embed::run().unwrap();
    let error = (report.found - report.expected).abs();
    assert!(error <= 1e-4 * report.expected.abs().max(1.0), "{report:?}");
    assert!(report.weight_gradient.iter().any(|value| *value != 0.0));
    assert!(report.input_gradient.iter().any(|value| *value != 0.0));
}
