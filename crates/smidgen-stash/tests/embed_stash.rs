//! The example runs, and its answers are right.

#[path = "../examples/embed_stash.rs"]
#[allow(dead_code)]
mod embed_stash;

#[test]
fn the_embedding_example_keeps_its_promises() {
    let reports = embed_stash::run().unwrap();
    assert_eq!(reports.len(), 5);
    for report in reports {
        assert!(report.stash_bytes < report.value_bytes, "{report:?}");
        assert!(report.error <= report.allowed, "{report:?}");
        assert!(report.error > 0.0, "{report:?}: nothing was compressed");
    }
}
