//! Masks that grow where gradients are large: which blocks, from what, and in which bytes.

use smidgen::{
    Blueprint, Bytes, Graph, Growth, Order, Plans, Session, SessionOptions, SparseLayer,
    StepOptions, Training,
};
use smidgen_tests::{device, shapes_batch, sparse_network};
use std::collections::BTreeSet;

const BATCH: u32 = 4;

fn options(growth: Growth, budget: Option<Bytes>) -> SessionOptions {
    SessionOptions {
        batch: BATCH,
        training: Some(Training {
            growth,
            ..Training::default()
        }),
        budget,
    }
}

fn step(step: u64) -> StepOptions {
    StepOptions {
        step,
        learning_rate: 0.1,
        seed: 0,
    }
}

/// One block of every output group of each layer goes, and one grows.
fn orders(graph: &Graph) -> Vec<Order> {
    let order = |layer: &SparseLayer| Order {
        keep: layer.blocks.slots - 1,
        grow: 1,
        seed: 4,
        stream: 0,
    };
    graph.sparse_layers().iter().map(order).collect()
}

/// The norms of the gradients of all blocks of a layer on a batch, from the dense network under the same mask: output group after output group.
fn scores(sparse: &mut Session, batch: &(Vec<f32>, Vec<u32>), layer: &SparseLayer) -> Vec<f64> {
    let graph = sparse_network([8, 16, 24], None);
    let training = Training {
        keep_gradients: true,
        ..Training::default()
    };
    let options = SessionOptions {
        training: Some(training),
        ..options(Growth::Random, None)
    };
    let mut dense = Session::new(device(), &graph, &options, 3).unwrap();
    dense.load(&sparse.weights().unwrap()).unwrap();
    dense.train_step(&batch.0, &batch.1, &step(1)).unwrap();
    dense.metrics().unwrap();
    let gradient = dense.read(&format!("gradient of {}", layer.name)).unwrap();
    let attributes = &layer.attributes;
    let taps = (attributes.kernel[0] * attributes.kernel[1]) as usize;
    let inputs = attributes.input_channels as usize;
    let groups = attributes.output_channels.div_ceil(4) as usize;
    let mut squares = vec![0.0; groups * layer.candidates as usize];
    for (at, number) in gradient.iter().enumerate() {
        let (tap, input, output) = (at % taps, at / taps % inputs, at / taps / inputs);
        let block = input / 4 * taps + tap;
        squares[output / 4 * layer.candidates as usize + block] += f64::from(*number).powi(2);
    }
    squares.iter().map(|square| square.sqrt()).collect()
}

#[test]
fn the_blocks_of_the_largest_gradient_grow_from_zero_and_nothing_else_changes() {
    let graph = sparse_network([8, 16, 24], Some(0.5));
    let mut session = Session::new(device(), &graph, &options(Growth::Gradient, None), 3).unwrap();
    let batch = shapes_batch(BATCH as usize);
    session.train_step(&batch.0, &batch.1, &step(0)).unwrap();
    let layers = graph.sparse_layers();
    let expected: Vec<Vec<f64>> = layers
        .iter()
        .map(|layer| scores(&mut session, &batch, layer))
        .collect();
    let before = session.weights().unwrap();
    let momentum = |session: &mut Session, layer: &SparseLayer| {
        session
            .read(&format!("momentum of {}", layer.name))
            .unwrap()
    };
    let blocks = |session: &mut Session| -> Vec<Vec<Option<u32>>> {
        (layers
            .iter()
            .map(|layer| session.live_blocks(&layer.name).unwrap()))
        .collect()
    };
    let momenta: Vec<_> = layers
        .iter()
        .map(|layer| momentum(&mut session, layer))
        .collect();
    let old = blocks(&mut session);

    session.mutate(&orders(&graph)).unwrap();
    assert_eq!(blocks(&mut session), old, "masks change with the next step");
    session.metrics().unwrap();
    session.train_step(&batch.0, &batch.1, &step(1)).unwrap();
    assert!(session.metrics().unwrap().unwrap().loss().is_finite());

    let after = session.weights().unwrap();
    let new = blocks(&mut session);
    for (at, layer) in layers.iter().enumerate() {
        let slots = layer.blocks.slots as usize;
        for (group, (old, new)) in old[at].chunks(slots).zip(new[at].chunks(slots)).enumerate() {
            let [old, new] =
                [old, new].map(|own| own.iter().flatten().copied().collect::<BTreeSet<u32>>());
            assert_eq!((old.len(), new.len()), (slots, slots), "the live count");
            let grown: Vec<u32> = new.difference(&old).copied().collect();
            // One that was pruned and grew again would not be seen here.
            assert_eq!(grown.len(), 1, "{}, group {group}", layer.name);
            let score =
                |block: u32| expected[at][group * layer.candidates as usize + block as usize];
            let most = (0..layer.candidates)
                .filter(|block| !old.contains(block))
                .map(score)
                .fold(0.0, f64::max);
            assert!(
                most > 0.0 && score(grown[0]) >= most * (1.0 - 1e-4),
                "{}, group {group}: a block of {} grew, the largest gradient is {most}",
                layer.name,
                score(grown[0])
            );
        }
        let own = momentum(&mut session, layer);
        let mask = format!("{}_mask", layer.name);
        let (was, is) = (&before.tensors[&mask].values, &after.tensors[&mask].values);
        for element in 0..own.len() {
            let weight = after.tensors[&layer.name].values[element];
            if (was[element], is[element]) == (1.0, 1.0) {
                assert_eq!(weight, before.tensors[&layer.name].values[element]);
                assert_eq!(own[element], momenta[at][element]);
            } else {
                assert_eq!((weight, own[element]), (0.0, 0.0), "{}", layer.name);
            }
        }
    }
    // What is dense was not updated, and learns again with the next step.
    let sparse = |name: &str| layers.iter().any(|layer| name.starts_with(&layer.name));
    let dense = (graph.parameters().iter()).filter(|parameter| !sparse(&parameter.name));
    let dense: Vec<&String> = dense.map(|parameter| &parameter.name).collect();
    assert!(
        dense
            .iter()
            .all(|name| after.tensors[*name] == before.tensors[*name])
    );
    session.train_step(&batch.0, &batch.1, &step(2)).unwrap();
    session.metrics().unwrap();
    let learned = session.weights().unwrap();
    assert!(
        dense
            .iter()
            .all(|name| learned.tensors[*name] != after.tensors[*name])
    );
    assert_eq!(blocks(&mut session), new);
}

#[test]
fn the_step_that_changes_masks_reads_no_freed_memory() {
    let graph = sparse_network([8, 16, 24], Some(0.5));
    let (images, labels) = shapes_batch(BATCH as usize);
    let states = [false, true].map(|guarded| {
        let mut session =
            Session::new(device(), &graph, &options(Growth::Gradient, None), 3).unwrap();
        session.mutate(&orders(&graph)).unwrap();
        if guarded {
            session
                .train_step_guarded(&images, &labels, &step(0))
                .unwrap();
        } else {
            session.train_step(&images, &labels, &step(0)).unwrap();
        }
        session.weights().unwrap()
    });
    assert!(states[0] == states[1]);
}

#[test]
fn the_dense_gradient_is_in_the_plan_and_in_the_budget() {
    // Wide layers on small maps: the gradient of `middle`, were it dense, is the most that stands at one time.
    let graph = sparse_network([64, 128, 128], Some(0.125));
    let facts = device().facts().clone();
    let [random, gradient] = [Growth::Random, Growth::Gradient]
        .map(|growth| Blueprint::new(&graph, &facts, &options(growth, None)).unwrap());
    let dense = 64 * 128 * 9 * 4;
    let [_, _, growth] = gradient.plan().programs.as_slice() else {
        panic!("a step that trains, one that evaluates, and one that changes masks");
    };
    assert!(growth.peak.height >= dense);
    // The allocator's rounding may hide it.
    assert!(gradient.footprint().ledger() > random.footprint().ledger());

    let plans = Plans::new(&graph, &facts, &options(Growth::Gradient, None)).unwrap();
    let least = plans.least().unwrap().footprint().total();
    let below = Session::new(
        device(),
        &graph,
        &options(Growth::Gradient, Some(Bytes(least.0 - 1))),
        3,
    );
    assert!(below.unwrap_err().to_string().contains("too small"));

    let (images, labels) = shapes_batch(BATCH as usize);
    let weights = [None, Some(least)].map(|budget| {
        let options = options(Growth::Gradient, budget);
        let mut session = Session::new(device(), &graph, &options, 3).unwrap();
        session.mutate(&orders(&graph)).unwrap();
        for at in 0..2 {
            session.train_step(&images, &labels, &step(at)).unwrap();
            session.metrics().unwrap();
        }
        let reserved = Bytes(session.device().ledger().reserved());
        assert_eq!(reserved, session.footprint().ledger());
        assert!(budget.is_none_or(|budget| reserved <= budget));
        session.weights().unwrap()
    });
    assert!(weights[0] == weights[1], "a budget changes no bit");
}

#[test]
fn networks_without_gradients_of_all_masks_are_refused() {
    let refused = |graph: &Graph| {
        let error = Session::new(device(), graph, &options(Growth::Gradient, None), 3).unwrap_err();
        error.to_string()
    };
    let dense = sparse_network([8, 16, 24], None);
    assert!(refused(&dense).contains("no sparse layers"));
    let mut frozen = sparse_network([8, 16, 24], Some(0.5));
    frozen.freeze("middle").unwrap();
    let message = refused(&frozen);
    assert!(message.contains("`middle.weight` is frozen"), "{message}");
}
