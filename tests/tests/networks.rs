//! Whole networks on the device against the same programs executed in double precision: random ones, and those of the zoo.

#[path = "../../crates/smidgen-graph/tests/interpreter/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod interpreter;
#[path = "../../crates/smidgen-graph/tests/random/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod random;

use interpreter::Interpreter;
use random::{Random, random_graph};
use smidgen::{Graph, Session, SessionOptions, StepOptions, Training, zoo};
use smidgen_graph::{Layout, OperationKind, Role, ValueId};
use smidgen_reference::layout::to_quads;
use smidgen_tests::device;

const BATCH: u32 = 3;

/// Runs one step (or one evaluation) both ways from the weights of `seed`, and returns the largest relative error of the logits
/// and of every gradient, with the name of the value.
fn compare(graph: &Graph, training: Option<Training>, seed: u64) -> (f64, String) {
    let trains = training.is_some();
    let options = SessionOptions {
        batch: BATCH,
        training,
        budget: None,
    };
    let mut session = Session::new(device(), graph, &options, seed).unwrap();
    let program = session.main_program().clone();
    let mut random = Random(seed + 1);
    let mut twin = Interpreter::new(&program);
    for (at, value) in program.values.iter().enumerate() {
        if matches!(value.role, Role::Parameter | Role::Running) {
            // Small random numbers everywhere: also where the initialisation has zeros and ones.
            let mut values = session.read(&value.name).unwrap();
            values
                .iter_mut()
                .for_each(|number| *number += 0.1 * random.unit() as f32);
            session.write(&value.name, &values).unwrap();
            twin.set(ValueId(at), values.into_iter().map(f64::from).collect());
        }
    }
    let [channels, height, width] = graph.input_shape().map(|size| size as usize);
    let images: Vec<f32> = (0..BATCH as usize * channels * height * width)
        .map(|_| random.unit() as f32)
        .collect();
    let labels: Vec<u32> = (0..BATCH)
        .map(|_| random.below(graph.classes() as usize) as u32)
        .collect();
    twin.set(
        program.images,
        images.iter().map(|number| f64::from(*number)).collect(),
    );
    twin.labels = labels.iter().map(|label| *label as usize).collect();
    twin.run();

    let quads = to_quads(&images, BATCH as usize, channels, height * width);
    if trains {
        // The twin's update is none of ours: only gradients are compared.
        session
            .train_step(
                &quads,
                &labels,
                &StepOptions {
                    step: 0,
                    learning_rate: 0.0,
                    seed: 0,
                },
            )
            .unwrap();
    } else {
        session.evaluate_batch(&quads, &labels).unwrap();
    }
    let metrics = session.metrics().unwrap().unwrap();
    let mut worst = (
        (metrics.loss() - twin.loss).abs() / twin.loss.abs().max(1.0),
        "loss".to_owned(),
    );
    let compared = if trains {
        program.kept.clone()
    } else {
        vec![program.logits]
    };
    for id in compared {
        let name = &program.value(id).name;
        let actual = session.read(name).unwrap();
        let expected = twin.get(id);
        assert_eq!(actual.len(), expected.len(), "{name}");
        let square = |numbers: &mut dyn Iterator<Item = f64>| {
            numbers.map(|number| number * number).sum::<f64>().sqrt()
        };
        let difference = square(&mut actual.iter().zip(expected).map(|(a, e)| f64::from(*a) - e));
        // A bias before a normalisation has a gradient of zero, of which f32 leaves rounding.
        let norm = square(&mut expected.iter().copied()).max(1e-2);
        if difference / norm > worst.0 {
            worst = (difference / norm, name.clone());
        }
    }
    worst
}

fn training() -> Training {
    Training {
        keep_gradients: true,
        label_smoothing: 0.1,
        ..Training::default()
    }
}

#[test]
fn gradients_of_random_networks() {
    let mut compared = 0;
    for seed in 0..40 {
        let graph = random_graph(seed);
        let drops = graph
            .nodes()
            .iter()
            .any(|node| matches!(node.layer, smidgen_graph::Layer::Dropout { .. }));
        if drops {
            continue;
        }
        let (error, name) = compare(&graph, Some(training()), seed);
        assert!(
            error <= 1e-3,
            "{}: {name} has a relative error of {error:e}",
            graph.name()
        );
        compared += 1;
    }
    assert!(compared >= 20, "only {compared} networks without dropout");
}

#[test]
fn logits_of_the_zoo() {
    for (model, side) in [
        ("resnet20", 32),
        ("resnet18", 40),
        ("resnet50", 40),
        ("vgg11_bn", 32),
        ("mobilenet_v2", 40),
    ] {
        let graph = zoo::build(model, 7, [3, side, side]).unwrap();
        let (error, name) = compare(&graph, None, 5);
        assert!(
            error <= 1e-4,
            "{model}: {name} has a relative error of {error:e}"
        );
    }
}

#[test]
fn gradients_of_residual_networks() {
    for (model, side) in [("resnet20", 16), ("resnet18", 48)] {
        let graph = zoo::build(model, 5, [3, side, side]).unwrap();
        let (error, name) = compare(&graph, Some(training()), 9);
        assert!(
            error <= 2e-3,
            "{model}: {name} has a relative error of {error:e}"
        );
    }
}

#[test]
fn every_kind_of_operation_is_met_by_the_random_networks() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let program = random_graph(seed)
            .lower(&smidgen_graph::Lowering {
                batch: BATCH,
                mode: smidgen_graph::Mode::Train {
                    optimizer: Training::default().optimizer,
                    label_smoothing: 0.0,
                    clip_norm: Some(1.0),
                    keep_gradients: true,
                },
            })
            .unwrap();
        for operation in &program.operations {
            let text = format!("{:?}", operation.kind);
            kinds.insert(text.split([' ', '{']).next().unwrap_or_default().to_owned());
        }
        assert!(
            program
                .values
                .iter()
                .all(|value| !matches!(value.layout, Layout::Map(shape) if shape.batch != BATCH))
        );
        assert!(
            !program
                .operations
                .iter()
                .any(|operation| matches!(operation.kind, OperationKind::BatchNormPrepare { .. }))
        );
    }
    for kind in [
        "Convolution",
        "ConvolutionInputGradient",
        "ConvolutionWeightGradient",
        "BatchNormStatistics",
        "BatchNormApply",
        "BatchNormBackward",
        "Activation",
        "ActivationBackward",
        "Add",
        "Accumulate",
        "Copy",
        "Concat",
        "ConcatBackward",
        "Shortcut",
        "ShortcutBackward",
        "MaxPool",
        "MaxPoolBackward",
        "AveragePool",
        "AveragePoolBackward",
        "GlobalAveragePool",
        "GlobalAveragePoolBackward",
        "Dropout",
        "DropoutBackward",
        "CrossEntropy",
        "ClipNorm",
        "Update",
    ] {
        assert!(kinds.contains(kind), "{kind} is in none of {kinds:?}");
    }
}
