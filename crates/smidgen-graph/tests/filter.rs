//! Filtered backward passes: what is refused, what is stashed, and what gradients they give.

#[allow(dead_code)]
mod interpreter;
#[allow(dead_code)]
mod random;

use interpreter::Interpreter;
use random::{Random, close, same};
use smidgen_graph::{
    Builder, Convolution, Graph, GraphError, Layout, Lowering, Mode, OperationKind, Optimizer,
    Phase, Program, Role, ValueId, zoo,
};
use std::collections::BTreeSet;

const SGD: Optimizer = Optimizer::Sgd {
    momentum: 0.9,
    nesterov: false,
    weight_decay: 0.0,
};

fn train(batch: u32, keep_gradients: bool) -> Lowering {
    let mode = Mode::Train {
        optimizer: SGD,
        label_smoothing: 0.1,
        clip_norm: None,
        keep_gradients,
        examples: smidgen_graph::ExampleMemory::default(),
    };
    Lowering { batch, mode }
}

/// A residual block behind a stem, with maps that patches of 2 do not divide.
fn block() -> Graph {
    let mut network = Builder::new("block", [3, 7, 5]).unwrap();
    let x = network.input();
    let input = network.convolution("stem", x, same(4)).unwrap();
    let x = network
        .convolution("conv1", input, same(8).stride(2).without_bias())
        .unwrap();
    let x = network.batch_norm("bn1", x).unwrap();
    let x = network.relu(x).unwrap();
    let x = network.convolution("conv2", x, same(8)).unwrap();
    let x = network.batch_norm("bn2", x).unwrap();
    let beside = network
        .convolution("beside", input, Convolution::new(8, 1).stride(2))
        .unwrap();
    let x = network.add(x, beside).unwrap();
    let x = network.relu(x).unwrap();
    close(network, &[x])
}

/// Parameters, pictures and labels, the same for every program of a graph.
fn start(program: &Program) -> Interpreter<'_> {
    let mut random = Random(11);
    let mut interpreter = Interpreter::new(program);
    for (index, value) in program.values.iter().enumerate() {
        let count = match (value.role, value.layout) {
            (Role::Parameter | Role::Running, Layout::Vector { channels }) => u64::from(channels),
            (Role::Parameter, Layout::Weight(attributes)) => {
                let inputs = attributes.input_channels / attributes.groups;
                u64::from(attributes.output_channels * inputs) * attributes.taps()
            }
            (Role::Images, Layout::Map(shape)) => shape.elements(),
            _ => continue,
        };
        let centre = f64::from(u8::from(value.name.contains("running_var"))) * 1.5;
        let values = (0..count).map(|_| centre + random.unit()).collect();
        interpreter.set(ValueId(index), values);
    }
    interpreter.labels = (0..program.batch).map(|_| random.below(3)).collect();
    interpreter
}

/// The gradient of a parameter after a step, or the parameter itself where it is updated at once.
fn after_a_step(program: &Program, name: &str) -> Vec<f64> {
    let mut interpreter = start(program);
    interpreter.run();
    interpreter.get(program.find(name).unwrap()).to_vec()
}

#[test]
fn what_cannot_be_filtered_is_refused_with_its_name() {
    let mut graph = block();
    for patch in [0, 9] {
        let error = graph.filter("conv1", patch).unwrap_err();
        assert_eq!(error, GraphError::Patch { patch });
    }
    let error = graph.filter("conv3", 2).unwrap_err().to_string();
    assert!(
        error.contains("`conv3`") && error.contains("conv2"),
        "{error}"
    );
    for layer in ["bn1", "fc"] {
        let error = graph.filter(layer, 2).unwrap_err();
        assert!(matches!(error, GraphError::DoesNotFit { .. }), "{error}");
    }
    assert!(matches!(
        graph.filter_last(5, 2),
        Err(GraphError::TooFewConvolutions { .. })
    ));
    graph.filter("conv1", 2).unwrap();
    graph.freeze("conv1").unwrap();
    let error = graph.lower(&train(2, false)).unwrap_err();
    assert_eq!(
        error,
        GraphError::FilteredButFrozen {
            layer: "conv1".into()
        }
    );
    // Nothing is filtered in an evaluation.
    let evaluation = Lowering {
        batch: 2,
        mode: Mode::Evaluate,
    };
    assert!(graph.lower(&evaluation).is_ok());
}

/// Bytes of what the weight gradients of convolutions read of the forward pass, each value once.
fn stored_inputs(program: &Program) -> u64 {
    let mut stored = BTreeSet::new();
    for operation in &program.operations {
        let of_weight = match &operation.kind {
            OperationKind::ConvolutionWeightGradient { shape, .. } => shape.height > 1,
            OperationKind::FilterWeightGradient { .. } => true,
            _ => false,
        };
        if of_weight {
            let needs = operation.needs();
            let maps = needs.iter().map(|(id, _)| *id);
            stored.extend(maps.filter(|id| matches!(program.value(*id).layout, Layout::Map(_))));
        }
    }
    let bytes = stored.iter().map(|id| program.value(*id).layout.bytes());
    bytes.sum()
}

#[test]
fn convolutions_beside_each_other_share_their_patch_sums() {
    let mut graph = block();
    for layer in ["conv1", "beside"] {
        graph.filter(layer, 2).unwrap();
    }
    let program = graph.lower(&train(2, false)).unwrap();
    let sums = (program.operations.iter())
        .filter(|operation| matches!(operation.kind, OperationKind::FilterPatchSums { .. }));
    assert_eq!(sums.count(), 1);
}

#[test]
fn a_gradient_held_once_for_all_taps_updates_as_one_held_for_each() {
    let mut graph = block();
    graph.filter_last(4, 2).unwrap();
    let (once, each) = (
        graph.lower(&train(2, false)).unwrap(),
        graph.lower(&train(2, true)).unwrap(),
    );
    let bytes =
        |program: &Program, name: &str| program.value(program.find(name).unwrap()).layout.bytes();
    for name in ["gradient of conv2.weight", "momentum of conv2.weight"] {
        assert_eq!(9 * bytes(&once, name), bytes(&each, name), "{name}");
    }
    for parameter in graph.parameters() {
        let pair = [&once, &each].map(|program| after_a_step(program, &parameter.name));
        for (a, b) in pair[0].iter().zip(&pair[1]) {
            assert!((a - b).abs() < 1e-12, "{}: {a} and {b}", parameter.name);
        }
    }
}

/// With running statistics and frozen batch norms the backward pass keeps bits, and the gradients are those of the loss.
#[test]
fn frozen_statistics_keep_bits_and_give_exact_gradients() {
    let mut graph = block();
    graph.freeze("bn*").unwrap();
    graph.freeze_statistics();
    let program = graph.lower(&train(2, true)).unwrap();
    let count = |which: fn(&OperationKind) -> bool| {
        let operations = program.operations.iter();
        operations
            .filter(|operation| which(&operation.kind))
            .count()
    };
    assert_eq!(
        count(|kind| matches!(kind, OperationKind::BatchNormStatistics { .. })),
        0
    );
    assert!(count(|kind| matches!(kind, OperationKind::SlopesBackward { .. })) >= 2);
    assert!(count(|kind| matches!(kind, OperationKind::KeepSlopes { .. })) >= 1);
    let loss = |parameter: ValueId, element: usize, change: f64| {
        let mut interpreter = start(&program);
        let mut values = interpreter.get(parameter).to_vec();
        values[element] += change;
        interpreter.set(parameter, values);
        interpreter.run();
        interpreter.loss
    };
    for name in ["stem.weight", "conv1.weight", "beside.bias"] {
        let gradient = after_a_step(&program, &format!("gradient of {name}"));
        let id = program.find(name).unwrap();
        for element in [0, gradient.len() / 2, gradient.len() - 1] {
            let numeric = (loss(id, element, 1e-5) - loss(id, element, -1e-5)) / 2e-5;
            let found = gradient[element];
            assert!(
                (found - numeric).abs() < 1e-6 + 1e-5 * found.abs(),
                "{name}[{element}] is {found}, and {numeric} by finite differences"
            );
        }
    }
}

/// The paper's example: the inputs of the last four convolutions of ResNet-18 at 224, one picture.
#[test]
fn the_last_four_convolutions_of_resnet18_store_490_kib_or_112() {
    let stored = |patch: Option<u32>| {
        let mut graph = zoo::build("resnet18", 10, [3, 224, 224]).unwrap();
        graph.train_last(4).unwrap();
        graph.freeze("*bn*").unwrap();
        let _ = graph.freeze("*downsample.1");
        graph.freeze_statistics();
        if let Some(patch) = patch {
            graph.filter_last(4, patch).unwrap();
        }
        let program = graph.lower(&train(1, false)).unwrap();
        let backward = program.operations.iter();
        assert!(
            backward
                .filter(|operation| operation.phase == Phase::Backward)
                .count()
                > 4
        );
        stored_inputs(&program)
    };
    assert_eq!(stored(None), 490 << 10);
    assert_eq!(stored(Some(2)), 112 << 10);
}
