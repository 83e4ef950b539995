//! The zoo against published numbers.

use smidgen_graph::{
    ExampleMemory, FilterState, GraphError, Layer, Layout, Lowering, Mode, OperationKind,
    Optimizer, zoo,
};

#[test]
fn parameters_are_as_many_as_published() {
    // torchvision's numbers at 1000 classes and 224 pixels.
    let published = [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("vgg11_bn", 132_868_840),
        ("vgg16_bn", 138_365_992),
        ("mobilenet_v2", 3_504_872),
    ];
    for (name, count) in published {
        assert_eq!(
            zoo::build(name, 1000, [3, 224, 224])
                .unwrap()
                .parameter_count(),
            count,
            "{name}"
        );
    }
    // He et al. name 0.27, 0.46, 0.66, 0.85 and 1.7 million.
    let published = [
        ("resnet20", 27),
        ("resnet32", 46),
        ("resnet44", 66),
        ("resnet56", 85),
        ("resnet110", 173),
    ];
    for (name, ten_thousands) in published {
        let count = zoo::build(name, 10, [3, 32, 32]).unwrap().parameter_count();
        assert_eq!(
            (count + 5_000) / 10_000,
            ten_thousands,
            "{name} has {count}"
        );
    }
}

#[test]
fn resnet20_in_detail() {
    let graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    let of = |dimensions: usize| -> u64 {
        let fitting = graph
            .parameters()
            .iter()
            .filter(|parameter| parameter.shape.len() == dimensions);
        fitting.map(|parameter| parameter.elements()).sum()
    };
    // 27*16 + 6 * 9*16*16 + 9*16*32 + 5 * 9*32*32 + 9*32*64 + 5 * 9*64*64
    assert_eq!(of(4), 267_696);
    assert_eq!(of(2), 640);
    // Scale and shift of 7 norms of 16, 6 of 32 and 6 of 64 channels, and the bias of the classes.
    assert_eq!(of(1), 2 * (7 * 16 + 6 * 32 + 6 * 64) + 10);
    // Per stage: 9 * 256 * 1024 a convolution, half of it where the map shrinks.
    let each = 9 * 16 * 16 * 32 * 32;
    assert_eq!(
        graph.multiply_adds(),
        27 * 16 * 1024 + 6 * each + 2 * (5 * each + each / 2) + 640
    );
    assert_eq!(
        (graph.multiply_adds() + 50_000) / 100_000,
        406,
        "40.6 million"
    );
    assert_eq!(graph.parameters()[0].name, "conv1.weight");
    assert!(
        graph
            .parameters()
            .iter()
            .any(|parameter| parameter.name == "layer3.2.conv2.weight")
    );
}

#[test]
fn resnet8_is_one_block_a_stage() {
    let graph = zoo::build("resnet8", 10, [3, 32, 32]).unwrap();
    assert_eq!(graph.trained_convolutions().len(), 7);
    let each = 9 * 16 * 16 * 32 * 32;
    assert_eq!(
        graph.multiply_adds(),
        27 * 16 * 1024 + 2 * each + 2 * (each + each / 2) + 640
    );
}

#[test]
fn small_and_large_pictures_fit() {
    for name in zoo::NAMES {
        for size in [32, 33, 64, 96] {
            let graph = zoo::build(name, 7, [3, size, size]);
            let graph = graph.unwrap_or_else(|error| panic!("{name} at {size}: {error}"));
            assert_eq!(graph.classes(), 7);
            assert_eq!(graph.input_shape(), [3, size, size]);
        }
    }
    let graph = zoo::build("vgg16_bn", 10, [3, 32, 32]).unwrap();
    assert!(
        graph
            .parameters()
            .iter()
            .any(|parameter| parameter.name == "classifier.weight")
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let error = zoo::build("vgg16_bn", 10, [3, 16, 16]).unwrap_err();
    assert!(
        matches!(&error, GraphError::DoesNotFit { layer, .. } if layer.starts_with("features.")),
        "{error}"
    );
    let error = zoo::build("resnet21", 10, [3, 32, 32])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("resnet21") && error.contains("resnet20"),
        "{error}"
    );
}

#[test]
fn option_a_pads_a_quarter_on_both_sides() {
    let graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    let shortcuts: Vec<u32> = graph
        .nodes()
        .iter()
        .filter_map(|node| match node.layer {
            Layer::Shortcut {
                stride: 2,
                channel_offset,
            } => Some(channel_offset),
            _ => None,
        })
        .collect();
    assert_eq!(shortcuts, [32 / 4, 64 / 4]);
}

/// What a network is trained by that is of no interest.
fn training() -> Lowering {
    Lowering {
        batch: 2,
        mode: Mode::Train {
            optimizer: Optimizer::Sgd {
                momentum: 0.9,
                nesterov: false,
                weight_decay: 0.0,
            },
            label_smoothing: 0.0,
            clip_norm: None,
            keep_gradients: false,
            filter_state: FilterState::Tap,
            examples: ExampleMemory::default(),
            micro_batches: 1,
        },
    }
}

#[test]
fn no_step_passes_over_a_map_to_scale_mask_or_copy_it() {
    for name in zoo::NAMES {
        let graph = zoo::build(name, 10, [3, 64, 64]).unwrap();
        for operation in graph.lower(&training()).unwrap().operations {
            use OperationKind as Kind;
            let passes = match operation.kind {
                Kind::Apply { shape, .. }
                | Kind::ActivationBackward { shape, .. }
                | Kind::Accumulate { shape, .. }
                | Kind::Copy { shape, .. } => shape.height * shape.width > 1,
                _ => false,
            };
            assert!(!passes, "{name}: {operation:?}");
        }
    }
}

#[test]
fn every_statistic_is_taken_by_the_convolution_before() {
    for name in zoo::NAMES {
        let graph = zoo::build(name, 10, [3, 64, 64]).unwrap();
        let program = graph.lower(&training()).unwrap();
        for operation in &program.operations {
            if let OperationKind::BatchNormStatistics { input, .. } = operation.kind {
                let value = program.value(input);
                assert!(
                    matches!(value.layout, Layout::Moments(_)),
                    "{name}: {} is read once more",
                    value.name
                );
            }
        }
    }
}
