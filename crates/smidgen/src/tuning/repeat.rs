//! A tuned run goes on with what it was started with, bit for bit.

use super::cache::Cache;
use super::{Measurements, Tuning};
use crate::{
    Choices, Progress, Session, SessionOptions, StepOptions, Training, checkpoint, kernels,
};
use smidgen_gpu::{Device, DeviceRequest};
use smidgen_graph::{Builder, Convolution, Graph};

const BATCH: u32 = 4;

fn network() -> Graph {
    let mut network = Builder::new("small", [8, 8, 8]).unwrap();
    let input = network.input();
    let convolution = Convolution::new(16, 3).padding(1);
    let mut node = network.convolution("conv1", input, convolution).unwrap();
    node = network.relu(node).unwrap();
    node = network.convolution("conv2", node, convolution).unwrap();
    node = network.flatten(node).unwrap();
    node = network.linear("fc", node, 4).unwrap();
    network.finish(node).unwrap()
}

fn session(tuning: &Tuning) -> Session {
    let device = Device::open(&DeviceRequest::default()).unwrap();
    let options = SessionOptions {
        batch: BATCH,
        training: Some(Training::default()),
        budget: None,
    };
    Session::tuned(device, &network(), &options, 1, tuning, |_, _| {
        panic!("something was measured")
    })
    .unwrap()
}

fn train(session: &mut Session, steps: std::ops::Range<u64>) {
    let elements = (BATCH * 8 * 64) as usize;
    let images: Vec<f32> = (0..elements).map(|at| (at as f32 * 0.7).sin()).collect();
    for step in steps {
        let options = StepOptions {
            step,
            learning_rate: 0.1,
            seed: 0,
        };
        session
            .train_step(&images, &[0, 1, 2, 3], &options)
            .unwrap();
        session.metrics().unwrap().unwrap();
    }
}

fn bits(session: &mut Session) -> Vec<u32> {
    let weights = session.weights().unwrap();
    let values = weights.tensors.values().flat_map(|tensor| &tensor.values);
    values.map(|value| value.to_bits()).collect()
}

#[test]
fn a_run_goes_on_with_the_variants_it_was_started_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut plain = session(&Tuning::Off);
    train(&mut plain, 0..4);

    // As if another variant than the default had been the fastest of each class.
    let facts = plain.device().facts().clone();
    let mut measured = Measurements::default();
    let program = plain.main_program();
    for class in (program.operations.iter())
        .filter_map(|operation| kernels::shape_class(program, &operation.kind))
    {
        let candidates =
            smidgen_conv::candidates(class.pass, &class.shape, &facts, u64::MAX).unwrap();
        for (at, variant) in candidates.iter().enumerate() {
            measured.note(&class, *variant, 1.0 / (1 + at) as f64);
        }
    }
    assert_eq!(Cache::new(folder.path(), &facts).save(&measured), None);
    let tuned = Tuning::On {
        cache: Some(folder.path().into()),
    };
    let mut whole = session(&tuned);
    assert_eq!(whole.tuning().measured, 0);
    assert_eq!(whole.tuning().left, 0);
    assert_ne!(whole.choices(), plain.choices());
    train(&mut whole, 0..4);
    assert_ne!(
        bits(&mut whole),
        bits(&mut plain),
        "the variants make no difference"
    );

    let file = folder.path().join("checkpoint.safetensors");
    let mut part = session(&tuned);
    train(&mut part, 0..2);
    let progress = Progress {
        model: "small".into(),
        step: 2,
        run: serde_json::Value::Null,
        best: None,
        evaluation: None,
    };
    checkpoint::save(&mut part, &progress, &file).unwrap();
    let written = serde_json::to_string(part.choices()).unwrap();
    drop(part);

    // Whatever a cache would say by now.
    let choices: Choices = serde_json::from_str(&written).unwrap();
    let mut rest = session(&Tuning::Recorded(choices));
    assert!(rest.tuning().notes.is_empty());
    assert_eq!(rest.choices(), whole.choices());
    checkpoint::load(&mut rest, &file).unwrap();
    train(&mut rest, 2..4);
    assert_eq!(bits(&mut rest), bits(&mut whole));
}
