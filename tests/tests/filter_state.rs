//! Gradient and optimiser state of filtered weights, held once a pair of channels or for every tap.

use smidgen::gpu::Category;
use smidgen::{
    Bytes, FilterState, Graph, Optimizer, Progress, Session, SessionOptions, StepOptions, Training,
    checkpoint,
};
use smidgen_tests::{device, network, shapes_batch};
use std::ops::Range;

/// The last convolutions trained and filtered.
fn filtered(convolutions: usize) -> Graph {
    let mut graph = network("resnet20");
    graph.train_last(convolutions).unwrap();
    graph.filter_last(convolutions, 2).unwrap();
    graph
}

fn session(graph: &Graph, filter_state: Option<FilterState>, budget: Option<Bytes>) -> Session {
    let training = Training {
        optimizer: Optimizer::Sgd {
            momentum: 0.9,
            nesterov: false,
            weight_decay: 0.0,
        },
        filter_state,
        ..Training::default()
    };
    let options = SessionOptions {
        batch: 4,
        training: Some(training),
        budget,
    };
    Session::new(device(), graph, &options, 1).unwrap()
}

fn train(session: &mut Session, steps: Range<u64>) {
    let (images, labels) = shapes_batch(4);
    for step in steps {
        let options = StepOptions {
            step,
            learning_rate: 0.05,
            seed: 0,
        };
        session.train_step(&images, &labels, &options).unwrap();
        session.metrics().unwrap();
    }
}

fn parameters(session: &mut Session) -> Vec<f32> {
    let names: Vec<String> = (session.graph().parameters().iter())
        .map(|parameter| parameter.name.clone())
        .collect();
    let read = names.iter().flat_map(|name| session.read(name).unwrap());
    read.collect()
}

fn assert_same(left: &[f32], right: &[f32]) {
    for (a, b) in left.iter().zip(right) {
        assert!((a - b).abs() <= 1e-6 * a.abs().max(1e-2), "{a} and {b}");
    }
}

#[test]
fn state_held_once_for_all_taps_trains_as_state_held_for_each() {
    let graph = filtered(4);
    let initial = parameters(&mut session(&graph, None, None));
    let [once, each] = [FilterState::Pair, FilterState::Tap].map(|state| {
        let mut session = session(&graph, Some(state), None);
        train(&mut session, 0..2);
        parameters(&mut session)
    });
    assert_same(&once, &each);
    let moved = once.iter().zip(&initial).map(|(a, b)| (a - b).abs());
    assert!(moved.fold(0.0, f32::max) > 1e-3, "nothing was trained");
}

/// A ninth of the bytes of momentum, read off the plan and off the ledger: under a budget, and where it is asked for.
#[test]
fn state_is_held_once_a_pair_under_a_budget() {
    let graph = filtered(4);
    let bytes = |filter_state, budget| {
        let session = session(&graph, filter_state, budget);
        let program = session.main_program();
        let momenta: u64 = (graph.filters())
            .map(|(layer, _)| {
                let id = program.find(&format!("momentum of {layer}.weight"));
                program.value(id.unwrap()).layout.bytes()
            })
            .sum();
        let ledger = session.device().ledger();
        let arena = (ledger.entries().iter())
            .filter(|entry| entry.category == Category::Arena)
            .map(|entry| entry.bytes)
            .sum::<u64>();
        (momenta, arena)
    };
    let budget = Some(Bytes(256 << 20));
    let (tap, whole) = bytes(None, None);
    let (pair, smaller) = bytes(None, budget);
    assert_eq!(tap, 9 * pair);
    assert!(whole - smaller >= tap - pair, "{whole} and {smaller}");
    assert_eq!(bytes(Some(FilterState::Tap), budget).0, tap);
    assert_eq!(bytes(Some(FilterState::Pair), None).0, pair);
}

/// A run goes on with its state held the other way, wherever that is the same at every tap.
#[test]
fn a_checkpoint_goes_on_whichever_way_state_is_held() {
    let graph = filtered(2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.safetensors");
    let progress = Progress {
        model: graph.name().into(),
        step: 2,
        run: serde_json::Value::Null,
        best: None,
        evaluation: None,
    };
    let states = [FilterState::Pair, FilterState::Tap];
    for (before, after) in [(states[0], states[1]), (states[1], states[0])] {
        let mut whole = session(&graph, Some(after), None);
        train(&mut whole, 0..4);
        let mut part = session(&graph, Some(before), None);
        train(&mut part, 0..2);
        checkpoint::save(&mut part, &progress, &file).unwrap();
        let mut rest = session(&graph, Some(after), None);
        checkpoint::load(&mut rest, &file).unwrap();
        train(&mut rest, 2..4);
        assert_same(&parameters(&mut rest), &parameters(&mut whole));
    }
    let mut uneven = session(&graph, Some(FilterState::Tap), None);
    let name = format!("momentum of {}.weight", graph.filters().next().unwrap().0);
    let mut values = uneven.read(&name).unwrap();
    values[0] = 1.0;
    uneven.write(&name, &values).unwrap();
    checkpoint::save(&mut uneven, &progress, &file).unwrap();
    let mut once = session(&graph, Some(FilterState::Pair), None);
    let error = checkpoint::load(&mut once, &file).unwrap_err().to_string();
    assert!(
        error.contains(&name) && error.contains("tap to tap"),
        "{error}"
    );
}
