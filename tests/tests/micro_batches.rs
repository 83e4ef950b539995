//! Batches in parts: the same gradients, in less memory.

use smidgen::plan::PlanError;
use smidgen::{
    Blueprint, Bytes, Error, Graph, Growth, Optimizer, PlanFile, Plans, Remedy, Session,
    SessionOptions, Sparsity, StepOptions, Training, micro_batch_points, micro_batch_within, zoo,
};
use smidgen_graph::{Builder, Convolution, Layer, Pool};
use smidgen_reference::layout::to_quads;
use smidgen_reference::numbers::{below, normal};
use smidgen_tests::{device, network};

const BATCH: u32 = 12;
const SIDE: usize = 16;
/// A label that takes part in nothing.
const IGNORED: u32 = u32::MAX;

/// Convolutions, pools, a shortcut and a dropout-free end; six channels, so that pictures are two planes of quads.
fn plain() -> Graph {
    plain_of(SIDE as u32)
}

fn plain_of(side: u32) -> Graph {
    let mut network = Builder::new("plain", [6, side, side]).unwrap();
    let input = network.input();
    let convolution = Convolution::new(24, 3).padding(1);
    let first = network.convolution("first", input, convolution).unwrap();
    let first = network.relu(first).unwrap();
    let second = network.convolution("second", first, convolution).unwrap();
    let sum = network.add(first, second).unwrap();
    let sum = network.relu(sum).unwrap();
    let halved = network.max_pool(sum, Pool::new(2)).unwrap();
    let third = Convolution::new(16, 1);
    let third = network.convolution("third", halved, third).unwrap();
    let third = network.relu(third).unwrap();
    let pooled = network.global_average_pool(third).unwrap();
    let output = network.linear("fc", pooled, 10).unwrap();
    network.finish(output).unwrap()
}

fn options(training: Training, micro_batch: Option<u32>) -> SessionOptions {
    SessionOptions {
        batch: BATCH,
        training: Some(Training {
            micro_batch,
            ..training
        }),
        budget: None,
    }
}

fn batch(graph: &Graph, seed: u64) -> (Vec<f32>, Vec<u32>) {
    let [channels, height, width] = graph.input_shape().map(|size| size as usize);
    let pictures = normal(seed, BATCH as usize * channels * height * width);
    let images = to_quads(&pictures, BATCH as usize, channels, height * width);
    let mut labels = below(seed + 1, graph.classes(), BATCH as usize);
    // Parts of which unlike many count.
    labels[1] = IGNORED;
    labels[2] = IGNORED;
    (images, labels)
}

fn step(step: u64) -> StepOptions {
    StepOptions {
        step,
        learning_rate: 0.05,
        seed: 7 + step as u32,
    }
}

/// Gradients, metrics and all weights after some steps.
fn trained(session: &mut Session, steps: u64) -> (Vec<f32>, Vec<f32>, [f64; 4]) {
    let graph = session.graph().clone();
    let mut metrics = None;
    for at in 0..steps {
        let (images, labels) = batch(&graph, 3 + at);
        session.train_step(&images, &labels, &step(at)).unwrap();
        metrics = session.metrics().unwrap();
    }
    let trained = graph.parameters().iter().filter(|one| one.trainable);
    let gradients = trained.flat_map(|one| {
        let name = format!("gradient of {}", one.name);
        session.read(&name).unwrap()
    });
    let gradients = gradients.collect();
    let weights = session.weights().unwrap();
    let metrics = metrics.unwrap();
    let metrics = [
        metrics.loss_sum,
        metrics.images as f64,
        metrics.top1 as f64,
        metrics.top5 as f64,
    ];
    let weights = weights.tensors.into_values().flat_map(|one| one.values);
    (gradients, weights.collect(), metrics)
}

fn distance(left: &[f32], right: &[f32]) -> f64 {
    assert_eq!(left.len(), right.len());
    let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|n| n * n).sum::<f64>();
    let pairs = left.iter().zip(right);
    let differences = square(&mut pairs.map(|(l, r)| f64::from(*l) - f64::from(*r)));
    (differences / square(&mut left.iter().map(|n| f64::from(*n)))).sqrt()
}

/// The last convolutions trained, all batch norms frozen.
fn frozen(model: &str) -> Graph {
    let side = SIDE as u32 * 2;
    let mut graph = zoo::build(model, 10, [3, side, side]).unwrap();
    graph.train_last(4).unwrap();
    let nodes = graph.nodes().iter();
    let norms = nodes.filter(|node| matches!(node.layer, Layer::BatchNorm { .. }));
    let norms: Vec<String> = norms.map(|node| node.name.clone()).collect();
    for norm in norms {
        graph.freeze(&norm).unwrap();
    }
    assert!(graph.uses_statistics_of_batches());
    graph.freeze_statistics();
    graph
}

/// Two filtered layers in a row, and the first one exact.
fn filtered() -> Graph {
    let mut graph = plain();
    graph.filter("second", 2).unwrap();
    graph.filter("third", 2).unwrap();
    graph
}

fn sparse() -> Graph {
    let mut graph = plain();
    graph.sparsify(&Sparsity::uniform(0.5)).unwrap();
    graph
}

#[test]
fn gradients_are_those_of_the_whole_batch() {
    let adam = Optimizer::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-3,
        weight_decay: 1e-2,
        decoupled: false,
    };
    let sgd = Training::default().optimizer;
    // What there is to sum: dense, depthwise and sparse weights, and vectors.
    for (graph, optimizer, clip_norm, parts) in [
        (plain(), sgd, None, &[4, 1][..]),
        (plain(), adam, Some(0.1), &[3]),
        (frozen("mobilenet_v2"), sgd, None, &[4]),
        (sparse(), sgd, None, &[2]),
        (filtered(), sgd, None, &[3]),
    ] {
        assert!(!graph.uses_statistics_of_batches());
        let training = Training {
            optimizer,
            clip_norm,
            keep_gradients: true,
            label_smoothing: 0.1,
            ..Training::default()
        };
        let whole = options(training.clone(), None);
        let mut session = Session::new(device(), &graph, &whole, 1).unwrap();
        let expected = trained(&mut session, 2);
        for images in parts {
            let options = options(training.clone(), Some(*images));
            let mut session = Session::new(device(), &graph, &options, 1).unwrap();
            assert_eq!(session.micro_batches(), BATCH / images);
            assert_eq!(session.batch(), BATCH);
            let actual = trained(&mut session, 2);
            let name = graph.name();
            for (expected, actual) in [(&expected.0, &actual.0), (&expected.1, &actual.1)] {
                let error = distance(expected, actual);
                assert!(error < 2e-5, "{name} in parts of {images}: {error:e}");
            }
            let loss = (expected.2[0] - actual.2[0]).abs() / expected.2[0];
            assert!(loss < 1e-5, "{name}: {loss:e}");
            assert_eq!(expected.2[1..], actual.2[1..], "{name}");
        }
    }
}

#[test]
fn evaluation_in_parts_counts_the_same() {
    let graph = network("resnet20");
    let images = normal(1, BATCH as usize * 3 * 1024);
    let images = to_quads(&images, BATCH as usize, 3, 1024);
    let mut labels = below(2, 10, BATCH as usize);
    labels[BATCH as usize - 1] = IGNORED;
    let evaluate = |micro_batch| {
        let options = options(Training::default(), micro_batch);
        let mut session = Session::new(device(), &graph, &options, 1).unwrap();
        session.evaluate_batch(&images, &labels).unwrap();
        session.metrics().unwrap().unwrap()
    };
    let (whole, parts) = (evaluate(None), evaluate(Some(4)));
    assert_eq!(
        (whole.images, whole.top1, whole.top5),
        (parts.images, parts.top1, parts.top5)
    );
    assert!((whole.loss() - parts.loss()).abs() < 1e-5);
}

#[test]
fn freed_memory_is_not_read_and_nothing_is_written_beside_its_place() {
    for graph in [plain(), filtered(), network("resnet20")] {
        let options = options(Training::default(), Some(4));
        let (images, labels) = batch(&graph, 5);
        let after = |guarded: bool| {
            let mut session = Session::new(device(), &graph, &options, 1).unwrap();
            for at in 0..2 {
                if guarded {
                    let step = step(at);
                    session.train_step_guarded(&images, &labels, &step).unwrap();
                } else {
                    session.train_step(&images, &labels, &step(at)).unwrap();
                    session.metrics().unwrap();
                }
            }
            session.weights().unwrap()
        };
        assert!(after(true) == after(false), "{}", graph.name());
    }
}

#[test]
fn sums_over_taps_hold_from_the_first_part_to_the_last() {
    let graph = filtered();
    let options = options(Training::default(), Some(4));
    let mut session = Session::new(device(), &graph, &options, 1).unwrap();
    let before = session.read("second.weight").unwrap();
    let (images, labels) = batch(&graph, 5);
    session.train_step(&images, &labels, &step(0)).unwrap();
    session.metrics().unwrap();
    assert!(session.read("second.weight").unwrap() != before);
    // As they were made before the first part: of the weight that the last one updated.
    let sums = session.read("second.weight over its taps").unwrap();
    assert_eq!(sums.len(), 24 * 24);
    for (sum, taps) in sums.iter().zip(before.chunks(9)) {
        assert!((sum - taps.iter().sum::<f32>()).abs() < 1e-6);
    }
}

#[test]
fn a_bad_part_changes_no_parameter() {
    let graph = plain();
    let options = options(Training::default(), Some(4));
    let mut session = Session::new(device(), &graph, &options, 1).unwrap();
    let before = session.weights().unwrap();
    let (mut images, labels) = batch(&graph, 5);
    // In the second part of both planes.
    images[5 * SIDE * SIDE * 4] = f32::NAN;
    session.train_step(&images, &labels, &step(0)).unwrap();
    assert!(session.metrics().unwrap().unwrap().loss().is_nan());
    assert!(session.is_halted().unwrap());
    assert!(session.weights().unwrap() == before);
    let place = session.find_non_finite(&images, &labels, &step(0));
    assert_eq!(place.unwrap(), Some(("the data".into(), "images".into())));
}

#[test]
fn a_budget_below_the_least_of_the_whole_batch_is_met_in_parts() {
    let graph = plain_of(64);
    let mut options = options(Training::default(), None);
    let facts = device().facts().clone();
    let whole = Plans::new(&graph, &facts, &options).unwrap();
    let least = whole.least().unwrap().footprint().total();
    options.budget = Some(least);
    let found = |options: &SessionOptions| micro_batch_within(&graph, &facts, options).unwrap();
    assert_eq!(found(&options), None, "the whole batch fits");

    let points = micro_batch_points(&graph, &facts, &options).unwrap();
    let sizes: Vec<u32> = points.iter().map(|point| point.images).collect();
    assert_eq!(sizes, [6, 3, 1]);
    for point in &points {
        options.budget = Some(point.least);
        let images = found(&options);
        assert!(images >= Some(point.images), "{images:?} {point:?}");
        let mut divided = options.clone();
        if let Some(training) = &mut divided.training {
            training.micro_batch = images;
        }
        let mut session = Session::new(device(), &graph, &divided, 1).unwrap();
        let (images, labels) = batch(&graph, 5);
        session.train_step(&images, &labels, &step(0)).unwrap();
        assert!(session.metrics().unwrap().unwrap().loss().is_finite());
        assert!(session.device().ledger().reserved() <= point.least.0);
        assert_eq!(
            session.device().ledger().reserved(),
            session.footprint().ledger().0
        );
    }

    // What is refused tells of the division that would do.
    let Bytes(middle) = points[1].least;
    assert!(middle < least.0);
    options.budget = Some(Bytes(middle));
    let refused = Session::new(device(), &graph, &options, 1).unwrap_err();
    let Error::BudgetTooSmall { remedies, .. } = &refused else {
        panic!("{refused}");
    };
    assert!(remedies.contains(&Remedy::MicroBatch(3)), "{remedies:?}");
    assert!(refused.to_string().contains("micro-batches of 3"));
}

#[test]
fn a_tensor_above_the_binding_limit_is_met_in_parts_where_it_is_needed_whole() {
    // Filtered gradients are not computed in slabs.
    let mut graph = plain();
    graph.filter_last(1, 2).unwrap();
    let mut facts = device().facts().clone();
    // One map of 24 channels for the whole batch, less a byte.
    facts.max_binding_bytes = u64::from(BATCH) * 24 * (SIDE * SIDE * 4) as u64 - 1;
    let training = Training {
        keep_gradients: true,
        ..Training::default()
    };
    let whole = options(training.clone(), None);
    let refused = Blueprint::new(&graph, &facts, &whole).unwrap_err();
    assert!(
        matches!(refused, Error::Plan(PlanError::TooLarge { .. })),
        "{refused}"
    );
    assert!(refused.to_string().contains("micro-batches"), "{refused}");
    let images = micro_batch_within(&graph, &facts, &whole).unwrap();
    // Workspaces are tensors too, and which there are depends on the device.
    assert!(images.is_some_and(|images| images < BATCH), "{images:?}");
    let divided = options(training, images);
    let blueprint = Blueprint::new(&graph, &facts, &divided).unwrap();
    let mut session = Session::planned(device(), &graph, &divided, 1, blueprint).unwrap();
    let places = &session.plan().programs[0].values;
    let largest = places.iter().flatten().map(|place| place.bytes).max();
    assert!(largest <= Some(facts.max_binding_bytes));
    let mut whole = Session::new(device(), &graph, &whole, 1).unwrap();
    let error = distance(&trained(&mut whole, 1).0, &trained(&mut session, 1).0);
    assert!(error < 2e-5, "{error:e}");
}

#[test]
fn a_plan_that_was_written_down_knows_how_the_batch_is_divided() {
    let graph = network("resnet20");
    let session = |options: &SessionOptions| Session::new(device(), &graph, options, 1);
    let divided = session(&options(Training::default(), Some(3))).unwrap();
    let text = serde_json::to_string(&PlanFile::of(&divided)).unwrap();
    let plan = PlanFile::from_json(&text).unwrap();
    let training = Training {
        plan: Some(plan),
        ..Training::default()
    };
    let again = session(&options(training.clone(), None)).unwrap();
    assert_eq!(again.micro_batches(), 4);
    let refused = session(&options(training, Some(6))).unwrap_err();
    assert!(matches!(refused, Error::PlanFile { .. }), "{refused}");
    // Plans from before there were any.
    let whole = session(&options(Training::default(), None)).unwrap();
    let text = serde_json::to_string(&PlanFile::of(&whole)).unwrap();
    let older = text.replace("\"micro_batches\":1,", "");
    assert_ne!(older, text);
    assert!(PlanFile::from_json(&older).unwrap() == PlanFile::of(&whole));
}

#[test]
fn parts_that_do_not_make_up_the_batch_are_refused() {
    let graph = plain();
    let growing = Training {
        growth: Growth::Gradient,
        ..Training::default()
    };
    let refused = Session::new(device(), &sparse(), &options(growing, Some(4)), 1).unwrap_err();
    assert!(refused.to_string().contains("in one piece"), "{refused}");
    for (images, remedy) in [(0, "at least 1"), (5, "4 would"), (13, "12 would")] {
        let options = options(Training::default(), Some(images));
        let refused = Session::new(device(), &graph, &options, 1).unwrap_err();
        assert!(matches!(refused, Error::MicroBatch { batch: BATCH, .. }));
        assert!(refused.to_string().contains(remedy), "{refused}");
    }
}
