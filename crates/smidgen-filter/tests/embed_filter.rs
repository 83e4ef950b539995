//! The example runs, and its answers are right.

#[path = "../examples/embed_filter.rs"]
#[allow(dead_code)]
mod embed_filter;

#[test]
fn the_embedding_example_agrees_with_plain_loops() {
    let (found, expected) = embed_filter::run().unwrap();
    for (found, expected) in [
        (&found.input, &expected.input),
        (&found.weight, &expected.weight),
    ] {
        assert_eq!(found.len(), expected.len());
        assert!(expected.iter().any(|value| value.abs() > 1.0));
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-4, "{a} is not {b}");
        }
    }
}
