//! What backward must have again, in bytes worked out by hand.

use smidgen_graph::{
    Activation, Content, FilterState, Graph, Layout, Lowering, Mode, OperationKind, Optimizer,
    Program, Role, Sparsity, ValueId, zoo,
};
use std::collections::{BTreeMap, HashSet};

const KIB: u64 = 1024;

fn train(graph: &Graph, batch: u32, clip_norm: Option<f32>) -> Program {
    let optimizer = Optimizer::Sgd {
        momentum: 0.9,
        nesterov: false,
        weight_decay: 1e-4,
    };
    let mode = Mode::Train {
        optimizer,
        label_smoothing: 0.0,
        clip_norm,
        keep_gradients: false,
        filter_state: FilterState::Tap,
        examples: smidgen_graph::ExampleMemory::default(),
        micro_batches: 1,
    };
    graph.lower(&Lowering { batch, mode }).unwrap()
}

/// Every forward value that some backward operation needs, with the most that one of them needs of it.
fn stash(program: &Program) -> BTreeMap<ValueId, Vec<Content>> {
    let mut stash: BTreeMap<ValueId, Vec<Content>> = BTreeMap::new();
    for (id, content) in program
        .operations
        .iter()
        .flat_map(|operation| operation.needs())
    {
        stash.entry(id).or_default().push(content);
    }
    stash
}

#[test]
fn resnet20_keeps_what_the_sum_says() {
    let program = train(&zoo::build("resnet20", 10, [3, 32, 32]).unwrap(), 1, None);
    let stash = stash(&program);
    let sum = |which: &dyn Fn(ValueId, &[Content]) -> bool| -> u64 {
        let fitting = stash.iter().filter(|(id, contents)| which(**id, contents));
        fitting
            .map(|(id, _)| program.value(*id).layout.bytes())
            .sum()
    };
    let is_map = |id: ValueId| matches!(program.value(id).layout, Layout::Map(_));
    let name = |id: ValueId| program.value(id).name.as_str();

    // Maps of 16 channels at 32x32 are 64 KiB, of 32 at 16x16 32 KiB, of 64 at 8x8 16 KiB.
    // Inputs of norms: conv1 and six convolutions of the first stage, six of the second, six of the third.
    let norms = (7 * 64 + 6 * 32 + 6 * 16) * KIB;
    assert_eq!(norms, 736 * KIB);
    let norm_inputs: Vec<ValueId> = (program.operations.iter())
        .filter_map(|operation| match operation.kind {
            OperationKind::BatchNormBackward { input, .. } => Some(input.value),
            _ => None,
        })
        .collect();
    assert_eq!(sum(&|id, _| norm_inputs.contains(&id)), norms);

    // Inputs of convolutions: the picture; six maps of the first stage; the first of the second stage still has the first
    // stage's size, then five of its own; likewise the third.
    let picture = 3 * 32 * 32 * 4;
    let convolutions = picture + (6 * 64 + (64 + 5 * 32) + (32 + 5 * 16)) * KIB;
    assert_eq!(convolutions, 732 * KIB);
    // Held apart, they make the published sum.
    assert_eq!(norms + convolutions, 1468 * KIB);
    // But those behind a norm are read off its input, which is there already: the first of the network and the second of each
    // block. Held are the sums, of which the last of a stage goes to the next.
    let sums = (3 * 64 + 3 * 32 + 2 * 16) * KIB;
    let behind_norms = (64 + 3 * 64 + 3 * 32 + 3 * 16) * KIB;
    assert_eq!(picture + sums + behind_norms, convolutions);

    // Held in quads, the picture has a fourth channel of zeros.
    let padding = 32 * 32 * 4;
    // The sum of the last block is nobody's convolution input; its rectifier still needs its mask.
    let last = 16 * KIB;
    // The linear layer is a convolution too: its input is one number for each of 64 channels.
    let linear = 64 * 4;
    let maps = norms + picture + sums + padding + last + linear;
    assert_eq!(maps, (1088 * KIB) + linear);
    assert_eq!(sum(&|id, _| is_map(id)), maps);
    assert_eq!(sum(&|id, _| name(id) == "layer3.2.bn2.add.relu"), last);
    assert_eq!(sum(&|_, contents| contents == [Content::Mask]), last);

    // Scale, shift, mean and inverse deviation of every channel of every norm.
    let statistics = 4 * 4 * (7 * 16 + 6 * 32 + 6 * 64);
    assert_eq!(
        sum(&|id, _| program.value(id).role == Role::Statistics),
        statistics
    );
    assert_eq!(sum(&|_, _| true), maps + statistics);
}

#[test]
fn frozen_layers_stash_nothing() {
    let mut graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    graph.freeze("*").unwrap();
    assert!(
        graph
            .lower(&Lowering {
                batch: 1,
                mode: Mode::Evaluate
            })
            .is_ok()
    );
    graph.train_last(0).unwrap();
    let program = train(&graph, 2, None);
    // Behind the last convolution stand its norm and the linear layer.
    let stash = stash(&program);
    let names: Vec<&str> = stash
        .keys()
        .map(|id| program.value(*id).name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "layer3.2.conv2",
            "layer3.2.bn2.normalisation",
            "layer3.2.bn2.add.relu",
            "layer3.2.bn2.add.relu.pool"
        ]
    );
    let convolutions = program.operations.iter().filter(|operation| {
        matches!(
            operation.kind,
            OperationKind::ConvolutionInputGradient { .. }
        )
    });
    assert_eq!(
        convolutions.count(),
        1,
        "the linear layer's; below the last norm nothing is trained"
    );

    // A frozen convolution between trained layers passes the gradient on, and stashes no input.
    let mut graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    graph.freeze("*conv*").unwrap();
    let program = train(&graph, 1, None);
    let weights = program.operations.iter().filter(|operation| {
        matches!(
            operation.kind,
            OperationKind::ConvolutionWeightGradient { .. }
        )
    });
    assert_eq!(weights.count(), 1);
    let first = program
        .operations
        .iter()
        .rev()
        .find(|operation| operation.layer == "conv1");
    assert!(
        matches!(first.unwrap().kind, OperationKind::Convolution { .. }),
        "nothing trained lies below conv1"
    );
}

#[test]
fn a_max_pool_keeps_as_few_bits_as_its_window_needs() {
    let taps = |network: &str, batch: u32| -> Vec<u64> {
        let program = train(&zoo::build(network, 10, [3, 32, 32]).unwrap(), batch, None);
        let kept = program.values.iter();
        kept.filter(|value| matches!(value.layout, Layout::Taps { .. }))
            .map(|value| value.layout.bytes())
            .collect()
    };
    // Windows of 3 x 3, from 64 channels of 16 x 16 to 8 x 8: 4 bits each.
    assert_eq!(taps("resnet18", 2), [2 * 64 * 8 * 8 / 2]);
    // Windows of 2 x 2: 2 bits each, of maps of 64 to 512 channels. A plane of less than 256 pixels has words that are not full: one picture's
    // last maps are of 4 x 4, 2 x 2 and 1 pixels, of 256, 512 and 512 channels.
    let whole = [64 * 16 * 16 / 4, 128 * 8 * 8];
    let part = [256 * 4 * 4, 512 * 2 * 2, 512];
    assert_eq!(taps("vgg11_bn", 1), [&whole[..], &part].concat());
    assert_eq!(taps("vgg11_bn", 256)[4], 512 * 256 / 4);
}

#[test]
fn train_last_counts_convolutions() {
    let mut graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    graph.train_last(2).unwrap();
    let trained: Vec<&str> = graph
        .parameters()
        .iter()
        .filter(|parameter| parameter.trainable)
        .map(|parameter| parameter.name.as_str())
        .collect();
    assert_eq!(
        trained,
        [
            "layer3.2.conv1.weight",
            "layer3.2.bn1.weight",
            "layer3.2.bn1.bias",
            "layer3.2.conv2.weight",
            "layer3.2.bn2.weight",
            "layer3.2.bn2.bias",
            "linear.weight",
            "linear.bias"
        ]
    );
    assert!(
        graph
            .train_last(20)
            .unwrap_err()
            .to_string()
            .contains("19 convolutions")
    );
    let error = graph.freeze("layer4").unwrap_err().to_string();
    assert!(
        error.contains("layer4") && error.contains("conv1.weight"),
        "{error}"
    );
}

#[test]
fn clipping_holds_all_gradients_and_updates_last() {
    let graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    let program = train(&graph, 1, Some(1.0));
    let clip = program
        .operations
        .iter()
        .position(|operation| matches!(operation.kind, OperationKind::ClipNorm { .. }));
    let clip = clip.unwrap();
    let parameters = graph.parameters().len();
    assert_eq!(program.operations.len(), clip + 1 + parameters);
    let OperationKind::ClipNorm { gradients, .. } = &program.operations[clip].kind else {
        unreachable!()
    };
    assert_eq!(gradients.len(), parameters);
    assert!(program.kept.is_empty());
}

#[test]
fn a_norm_and_the_activation_behind_it_are_applied_by_those_who_read_them() {
    let program = train(
        &zoo::build("mobilenet_v2", 10, [3, 64, 64]).unwrap(),
        1,
        None,
    );
    let mut rectified = HashSet::new();
    for operation in &program.operations {
        match operation.kind {
            OperationKind::Apply { .. } | OperationKind::ActivationBackward { .. } => {
                panic!("{}: a pass of its own", operation.layer)
            }
            OperationKind::Convolution { input, .. }
            | OperationKind::GlobalAveragePool { input, .. }
                if input.activation == Activation::Relu6 =>
            {
                assert!(input.normalisation.is_some());
                rectified.insert(input);
            }
            _ => {}
        }
    }
    assert_eq!(rectified.len(), 35);
}

#[test]
fn a_sparse_network_has_no_pass_that_a_dense_one_does_not_need() {
    let mut graph = zoo::build("resnet32x2", 10, [3, 32, 32]).unwrap();
    graph.sparsify(&Sparsity::uniform(0.1)).unwrap();
    let program = train(&graph, 1, None);
    let mut merged = 0;
    for operation in &program.operations {
        match operation.kind {
            OperationKind::Apply { .. } | OperationKind::ActivationBackward { .. } => {
                panic!("{}: a pass of its own", operation.layer)
            }
            OperationKind::BatchNormStatistics { input, .. } => {
                assert!(matches!(program.value(input).layout, Layout::Moments(_)));
                merged += 1;
            }
            _ => {}
        }
    }
    assert_eq!(merged, 31);
}
