//! Both gradients of a convolution in one dispatch: the same bits as one after the other, in no more memory.

use smidgen::{Choices, Session, SessionOptions, StepOptions, Training, Tuning};
use smidgen_graph::{Activation, Builder, Convolution, Graph, OperationKind};
use smidgen_tests::device;

const BATCH: u32 = 3;
const SIDE: u32 = 11;

/// Depthwise layers behind a normalisation (whose backward pass does the activation's), and behind a mere activation (which the input
/// gradient is multiplied with), of stride 1 and 2.
fn network() -> Graph {
    let mut network = Builder::new("depthwise", [4, SIDE, SIDE]).unwrap();
    let x = network.input();
    let depthwise = |stride| Convolution::new(12, 3).padding(1).groups(12).stride(stride);
    let mut x = network
        .convolution("expand", x, Convolution::new(12, 1).without_bias())
        .unwrap();
    x = network.batch_norm("norm", x).unwrap();
    x = network.activation(x, Activation::Relu6).unwrap();
    x = network
        .convolution("first", x, depthwise(1).without_bias())
        .unwrap();
    x = network.activation(x, Activation::Silu).unwrap();
    x = network.convolution("second", x, depthwise(2)).unwrap();
    x = network.relu(x).unwrap();
    x = network
        .convolution("project", x, Convolution::new(8, 1))
        .unwrap();
    x = network.global_average_pool(x).unwrap();
    x = network.flatten(x).unwrap();
    x = network.linear("fc", x, 4).unwrap();
    network.finish(x).unwrap()
}

fn session(tuning: &Tuning) -> Session {
    let options = SessionOptions {
        batch: BATCH,
        training: Some(Training::default()),
        budget: None,
    };
    Session::tuned(device(), &network(), &options, 1, tuning, |_, _| {}).unwrap()
}

/// The layers whose gradients are one operation.
fn fused(session: &Session) -> Vec<&str> {
    let operations = session.main_program().operations.iter();
    operations
        .filter(|operation| matches!(operation.kind, OperationKind::ConvolutionBackward { .. }))
        .map(|operation| operation.layer.as_str())
        .collect()
}

fn after_steps(session: &mut Session) -> Vec<u32> {
    let elements = BATCH * 4 * SIDE * SIDE;
    let images: Vec<f32> = (0..elements).map(|at| (at as f32 * 0.7).sin()).collect();
    for step in 0..3 {
        let options = StepOptions {
            step,
            learning_rate: 0.1,
            seed: 0,
        };
        session.train_step(&images, &[0, 1, 2], &options).unwrap();
        session.metrics().unwrap();
    }
    let weights = session.weights().unwrap();
    let values = weights.tensors.values().flat_map(|tensor| &tensor.values);
    values.map(|value| value.to_bits()).collect()
}

#[test]
fn fused_gradients_are_the_same_bits_in_no_more_memory() {
    let mut together = session(&Tuning::Off);
    assert_eq!(fused(&together), ["second", "first"]);
    // Another width of the input gradient's strips: the same sums, but not by the kernel of the weight gradient.
    let mut apart = serde_json::to_value(together.choices()).unwrap();
    for (class, variant) in apart.as_object_mut().unwrap() {
        let text = variant.as_str().unwrap();
        if class.starts_with("input gradient") && text.starts_with("strips") {
            let (from, to) = if text.starts_with("strips 4x") {
                ("strips 4x", "strips 2x")
            } else {
                ("strips 2x", "strips 4x")
            };
            *variant = text.replace(from, to).into();
        }
    }
    let choices: Choices = serde_json::from_value(apart).unwrap();
    assert_ne!(&choices, together.choices());
    let mut apart = session(&Tuning::Recorded(choices));
    assert!(fused(&apart).is_empty());
    assert!(together.footprint().total() <= apart.footprint().total());
    assert!(after_steps(&mut together) == after_steps(&mut apart));
}

#[test]
fn a_kernel_for_both_gradients_is_timed_computing_both() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(folder.path().to_owned());
    let mut tuned = session(&Tuning::On { cache });
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap();
    let measured = std::fs::read_to_string(file.unwrap().path()).unwrap();
    for class in [
        "both gradients 3x12x11x11 to 12, 3x3, padding 1x1, 12 groups",
        "both gradients 3x12x11x11 to 12, 3x3, stride 2x2, padding 1x1, 12 groups",
    ] {
        assert!(measured.contains(class), "{measured}");
    }
    assert!((after_steps(&mut tuned).into_iter()).all(|bits| f32::from_bits(bits).is_finite()));
}
