//! Filtered backward passes: what is refused, what is stashed, and what gradients they give.

#[allow(dead_code)]
mod interpreter;
#[allow(dead_code)]
mod random;

use interpreter::Interpreter;
use random::{Random, close, same};
use smidgen_graph::{
    Builder, Convolution, FilterState, Graph, GraphError, Layout, Lowering, Mode, OperationKind,
    Optimizer, Phase, Program, Role, ValueId, zoo,
};
use smidgen_reference::gradient_filter::patch_of_rows;
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
        filter_state: FilterState::Tap,
        examples: smidgen_graph::ExampleMemory::default(),
        micro_batches: 1,
    };
    Lowering { batch, mode }
}

fn held(optimizer: Optimizer, clip_norm: Option<f32>, filter_state: FilterState) -> Lowering {
    let mode = Mode::Train {
        optimizer,
        label_smoothing: 0.1,
        clip_norm,
        keep_gradients: false,
        filter_state,
        examples: smidgen_graph::ExampleMemory::default(),
        micro_batches: 1,
    };
    Lowering { batch: 2, mode }
}

fn adam(weight_decay: f32, decoupled: bool) -> Optimizer {
    Optimizer::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay,
        decoupled,
    }
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
    let bytes =
        |program: &Program, name: &str| program.value(program.find(name).unwrap()).layout.bytes();
    for (optimizer, states) in [
        (SGD, &["momentum"][..]),
        (adam(0.1, true), &["first moment", "second moment"]),
        (adam(0.0, false), &["first moment", "second moment"]),
    ] {
        let [once, each] = [FilterState::Pair, FilterState::Tap]
            .map(|filter_state| graph.lower(&held(optimizer, None, filter_state)).unwrap());
        for kind in states.iter().chain(&["gradient"]) {
            let name = format!("{kind} of conv2.weight");
            assert_eq!(9 * bytes(&once, &name), bytes(&each, &name), "{name}");
        }
        for parameter in graph.parameters() {
            let pair = [&once, &each].map(|program| after_a_step(program, &parameter.name));
            for (a, b) in pair[0].iter().zip(&pair[1]) {
                assert!((a - b).abs() < 1e-12, "{}: {a} and {b}", parameter.name);
            }
        }
    }
    for (optimizer, clip_norm, word) in [
        (SGD, Some(1.0), "clipped"),
        (adam(0.1, false), None, "AdamW"),
    ] {
        let lowering = held(optimizer, clip_norm, FilterState::Pair);
        let error = graph.lower(&lowering).unwrap_err();
        assert!(matches!(error, GraphError::PairState { .. }));
        assert!(error.to_string().contains(word), "{error}");
        // Without a filter there is nothing to refuse.
        block().lower(&lowering).unwrap();
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

/// Convolutions in a row, with frozen batch norms and a ReLU between, and at the end one that goes to two.
fn row() -> Graph {
    let mut network = Builder::new("row", [3, 7, 5]).unwrap();
    let mut x = network.input();
    for (name, convolution) in [
        ("conv1", same(8).stride(2).without_bias()),
        ("conv2", same(8)),
        ("conv3", same(8).groups(8)),
        ("conv4", Convolution::new(4, 1)),
    ] {
        x = network.convolution(name, x, convolution).unwrap();
        let norm = format!("bn{name}");
        x = network.batch_norm(&norm, x).unwrap();
        if name != "conv3" {
            x = network.relu(x).unwrap();
        }
    }
    close(network, &[x])
}

/// Keeping gradients at the resolution of patches changes nothing but the order of sums: they are those of maps that were upsampled, masked
/// and averaged again.
#[test]
fn gradients_stay_at_the_resolution_of_patches() {
    for patch in [1, 2, 3] {
        let mut graph = row();
        graph.freeze("bn*").unwrap();
        graph.freeze_statistics();
        graph.filter_last(4, patch).unwrap();
        let program = graph.lower(&train(2, true)).unwrap();
        let count = |which: fn(&OperationKind) -> bool| {
            let operations = program.operations.iter();
            operations
                .filter(|operation| which(&operation.kind))
                .count()
        };
        // Between conv4 and conv3, conv3 and conv2, conv2 and conv1 there is no map.
        assert_eq!(
            count(|kind| matches!(kind, OperationKind::FilterPatchGradient { .. })),
            3
        );
        assert_eq!(
            count(|kind| matches!(kind, OperationKind::FilterPatchAverages { .. })),
            1
        );
        assert_eq!(
            count(|kind| matches!(kind, OperationKind::FilterInputGradient { .. })),
            0
        );
        // Of the last activation alone.
        assert_eq!(
            count(|kind| matches!(kind, OperationKind::KeepSlopes { .. })),
            1
        );

        // The definition, one layer after the other: the gradient of what conv1 gives, from that of what conv2 gives, both as maps.
        let mut run = start(&program);
        // The step changes it.
        let weight = run.get(program.find("conv2.weight").unwrap()).to_vec();
        run.run();
        let attributes = |layer: &str| {
            let found = program
                .operations
                .iter()
                .find_map(|operation| match operation.kind {
                    OperationKind::Convolution { attributes, .. } if operation.layer == layer => {
                        Some(attributes)
                    }
                    _ => None,
                });
            found.unwrap()
        };
        assert_eq!(attributes("conv1").stride, [2, 2]);
        let read = |name: &str| run.get(program.find(name).unwrap()).to_vec();
        let patches = [
            4_usize.div_ceil(patch as usize),
            3_usize.div_ceil(patch as usize),
        ];
        let rows = [
            patch_of_rows(4, patches[0], patch as usize),
            patch_of_rows(3, patches[1], patch as usize),
        ];
        let place = |pixel: usize| rows[0][pixel / 3] * patches[1] + rows[1][pixel % 3];
        let each = patches[0] * patches[1];
        let behind = read("patches of gradient of conv2");
        let before = read("patches of gradient of conv1");
        let value = read("conv1");
        let vector = |name: &str| read(&format!("bnconv1.{name}"));
        let (scale, shift) = (vector("weight"), vector("bias"));
        let (mean, variance) = (vector("running_mean"), vector("running_var"));
        for image in 0..2 {
            for channel in 0..8 {
                let factor = scale[channel] / (variance[channel] + 1e-5).sqrt();
                let mut sums = vec![(0.0, 0.0); each];
                for pixel in 0..12 {
                    let gradient: f64 = (0..8)
                        .map(|output| {
                            let taps = &weight[(output * 8 + channel) * 9..][..9];
                            let from = behind[(image * 8 + output) * each + place(pixel)];
                            taps.iter().sum::<f64>() * from
                        })
                        .sum();
                    let own = value[(image * 8 + channel) * 12 + pixel];
                    let passes = factor * (own - mean[channel]) + shift[channel] > 0.0;
                    let sum = &mut sums[place(pixel)];
                    sum.0 += if passes { factor * gradient } else { 0.0 };
                    sum.1 += 1.0;
                }
                for (at, (sum, pixels)) in sums.into_iter().enumerate() {
                    let found = before[(image * 8 + channel) * each + at];
                    let expected = sum / pixels;
                    assert!(
                        (found - expected).abs() < 1e-9 * expected.abs().max(1e-3),
                        "patch {patch}: {found}, by maps {expected}"
                    );
                }
            }
        }
    }
}

/// What stands between a filtered convolution and a layer that is not is part of the operation that makes the gradient.
#[test]
fn slopes_and_scales_are_folded_into_the_filtered_gradient() {
    let count = |graph: &Graph, which: fn(&OperationKind) -> bool| {
        let program = graph.lower(&train(2, true)).unwrap();
        let operations = program.operations.iter();
        operations
            .filter(|operation| which(&operation.kind))
            .count()
    };
    let passes = |kind: &OperationKind| matches!(kind, OperationKind::SlopesBackward { .. });
    let mut graph = row();
    graph.freeze("bn*").unwrap();
    graph.freeze_statistics();
    let exact = count(&graph, passes);
    graph.filter("conv3", 2).unwrap();
    assert_eq!(count(&graph, passes), exact);
    let folded = |kind: &OperationKind| {
        matches!(
            kind,
            OperationKind::FilterInputGradient {
                slopes: Some(_),
                normalisation: Some(_),
                ..
            }
        )
    };
    assert_eq!(count(&graph, folded), 1);
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
