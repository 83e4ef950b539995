//! Whole networks on the device against the same programs executed in double precision: random ones, and those of the zoo.

#[path = "../../crates/smidgen-graph/tests/interpreter/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod interpreter;
#[path = "../../crates/smidgen-graph/tests/random/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod random;

use interpreter::Interpreter;
use random::{Random, random_graph};
use smidgen::gpu::Device;
use smidgen::plan::PlanError;
use smidgen::{Blueprint, Error, Graph, Session, SessionOptions, StepOptions, Training, zoo};
use smidgen_graph::{Builder, Convolution, Layout, OperationKind, Role, ValueId};
use smidgen_reference::dropout;
use smidgen_reference::layout::to_quads;
use smidgen_tests::device;

const BATCH: u32 = 3;

/// Runs one step (or one evaluation) both ways from the weights of `seed`, and returns the largest relative error of the logits
/// and of every gradient, with the name of the value.
fn compare(graph: &Graph, training: Option<Training>, seed: u64) -> (f64, String) {
    compare_on(device(), graph, training, seed).unwrap()
}

/// The same on this device, if the network can be planned for it.
fn compare_on(
    device: Device,
    graph: &Graph,
    training: Option<Training>,
    seed: u64,
) -> Result<(f64, String), Error> {
    let trains = training.is_some();
    let options = SessionOptions {
        batch: BATCH,
        training,
        budget: None,
    };
    let mut session = Session::new(device, graph, &options, seed)?;
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
    Ok(worst)
}

/// A device that binds two pictures of the largest map of a network at once, of the three that there are.
fn binding_two_pictures(graph: &Graph) -> Device {
    let options = SessionOptions {
        batch: BATCH,
        training: Some(training()),
        budget: None,
    };
    let device = device();
    let blueprint = Blueprint::new(graph, device.facts(), &options).unwrap();
    let program = blueprint.program();
    let maps = program.values.iter();
    let maps = maps.filter(|value| matches!(value.layout, Layout::Map(_)));
    let most = maps.map(|value| value.layout.bytes()).max().unwrap();
    let mut facts = device.facts().clone();
    facts.max_binding_bytes = most / u64::from(BATCH) * 2;
    device.taken_for(facts)
}

#[test]
fn gradients_of_random_networks_in_slabs() {
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
        let device = binding_two_pictures(&graph);
        match compare_on(device, &graph, Some(training()), seed) {
            Ok((error, name)) => assert!(
                error <= 1e-3,
                "{}: {name} has a relative error of {error:e}",
                graph.name()
            ),
            // Of a small map, a weight may be larger than two pictures.
            Err(Error::Plan(PlanError::TooLarge { .. })) => continue,
            Err(error) => panic!("{}: {error}", graph.name()),
        }
        compared += 1;
    }
    assert!(compared >= 10, "only {compared} networks in slabs");
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
                    filter_state: smidgen_graph::FilterState::Tap,
                    examples: smidgen_graph::ExampleMemory::default(),
                    micro_batches: 1,
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
        "BatchNormBackward",
        "Apply",
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

/// A small network, with `dropouts` layers of dropout in a row before its last layer.
fn dropping_network(shape: [u32; 3], dropouts: u32) -> Graph {
    let mut network = Builder::new("dropping", shape).unwrap();
    let input = network.input();
    let convolution = Convolution::new(8, 3).padding(1);
    let mut node = network.convolution("conv", input, convolution).unwrap();
    node = network.relu(node).unwrap();
    for _ in 0..dropouts {
        node = network.dropout(node, 0.5).unwrap();
    }
    node = network.flatten(node).unwrap();
    node = network.linear("fc", node, 4).unwrap();
    network.finish(node).unwrap()
}

fn training_session(graph: &Graph, batch: u32) -> Session {
    let options = SessionOptions {
        batch,
        training: Some(training()),
        budget: None,
    };
    Session::new(device(), graph, &options, 3).unwrap()
}

/// One step that changes no parameter.
fn still_step(session: &mut Session, images: &[f32], labels: &[u32], seed: u32) -> f64 {
    let options = StepOptions {
        step: 0,
        learning_rate: 0.0,
        seed,
    };
    session.train_step(images, labels, &options).unwrap();
    session.metrics().unwrap().unwrap().loss()
}

#[test]
fn dropout_follows_the_seed_of_the_step_and_is_absent_in_evaluation() {
    let shape = [3, 8, 8];
    let mut random = Random(1);
    let pictures: Vec<f32> = (0..BATCH * 3 * 64).map(|_| random.unit() as f32).collect();
    let images = to_quads(&pictures, BATCH as usize, 3, 64);
    let labels = [0, 3, 1];
    let mut dropping = training_session(&dropping_network(shape, 1), BATCH);
    let mut plain = training_session(&dropping_network(shape, 0), BATCH);
    plain.load(&dropping.weights().unwrap()).unwrap();

    let loss = still_step(&mut dropping, &images, &labels, 7);
    let again = still_step(&mut dropping, &images, &labels, 7);
    assert_eq!(again.to_bits(), loss.to_bits());
    let other = still_step(&mut dropping, &images, &labels, 8);
    assert_ne!(other.to_bits(), loss.to_bits());
    let undropped = still_step(&mut plain, &images, &labels, 7);
    assert_ne!(undropped.to_bits(), loss.to_bits());

    let [dropping, plain] = [dropping, plain].map(|mut session| {
        session.evaluate_batch(&images, &labels).unwrap();
        session.metrics().unwrap().unwrap()
    });
    assert_eq!(dropping, plain);
}

/// Which inputs of the last layer pass all dropouts: the gradient of a weight is zero where its input is.
fn kept_inputs(dropouts: u32, seed: u32) -> Vec<bool> {
    let mut session = training_session(&dropping_network([1, 8, 8], dropouts), 1);
    // Every input of the dropouts is 1.
    let zeros = session.read("conv.weight").unwrap().len();
    session.write("conv.weight", &vec![0.0; zeros]).unwrap();
    session.write("conv.bias", &[1.0; 8]).unwrap();
    still_step(&mut session, &to_quads(&[0.0; 64], 1, 1, 64), &[0], seed);
    let program = session.main_program().clone();
    let name = program
        .kept
        .iter()
        .map(|id| &program.value(*id).name)
        .find(|name| name.contains("fc.weight"))
        .unwrap();
    let gradient = session.read(name).unwrap();
    let inputs = gradient.len() / 4;
    gradient[..inputs]
        .iter()
        .map(|value| *value != 0.0)
        .collect()
}

#[test]
fn every_dropout_has_a_mask_of_its_own() {
    for seed in [1, 2] {
        for dropouts in [1, 2] {
            let keeps =
                |element| (0..dropouts).all(|layer| dropout::keeps(seed, layer, element, 0.5));
            // Of element `(channel / 4 * 64 + pixel) * 4 + channel % 4` of the map to input `channel * 64 + pixel`.
            let expected: Vec<bool> = (0..8 * 64)
                .map(|at| (at / 64, at % 64))
                .map(|(channel, pixel)| keeps((channel / 4 * 64 + pixel) * 4 + channel % 4))
                .collect();
            assert_eq!(kept_inputs(dropouts, seed), expected, "{dropouts} dropouts");
            let kept = expected.iter().filter(|kept| **kept).count();
            // Masks that were the same would keep half of the inputs, however many there are.
            let share = 512 >> dropouts;
            assert!(kept.abs_diff(share) < 60, "{kept} of 512 kept");
        }
    }
}
