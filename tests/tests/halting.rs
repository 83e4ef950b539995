//! A device that stops updating says so, and an evaluation never stops it.

use smidgen::data::{DataSource, Shapes, Split};
use smidgen::{Error, StepOptions, Trainer, TrainerOptions, Training};
use smidgen_tests::{session, shapes_batch};
use std::ops::ControlFlow;
use std::sync::Arc;

const WEIGHT: &str = "linear.weight";

fn step(step: u64) -> StepOptions {
    StepOptions {
        step,
        learning_rate: 0.1,
        seed: 1,
    }
}

#[test]
fn gradients_that_cannot_be_clipped_end_the_run() {
    for steps in [1, 5] {
        let training = Training {
            clip_norm: Some(1.0),
            ..Training::default()
        };
        let mut session = session("resnet20", 4, Some(training));
        // The logits stay finite, the square of the gradient below them does not.
        let weights = session.read(WEIGHT).unwrap();
        let huge: Vec<f32> = weights.iter().map(|weight| weight * 1e24).collect();
        session.write(WEIGHT, &huge).unwrap();
        let source: DataSource = "shapes".parse().unwrap();
        let data = Arc::new(Shapes::with_len(1, Split::Train, 40));
        let options = TrainerOptions {
            steps: Some(steps),
            normalization: source.normalization(),
            ..TrainerOptions::default()
        };
        let mut trainer = Trainer::new(&mut session, data, None, options).unwrap();
        let result = trainer.run(|_| ControlFlow::Continue(()));
        assert!(
            matches!(result, Err(Error::GradientNotFinite { step: 0 })),
            "{steps} steps: {result:?}"
        );
        assert_eq!(session.read(WEIGHT).unwrap(), huge, "nothing was updated");
    }
}

#[test]
fn an_evaluation_that_is_not_finite_does_not_stop_training() {
    let mut session = session("resnet20", 4, Some(Training::default()));
    let (images, labels) = shapes_batch(4);
    let broken = vec![f32::NAN; images.len()];
    session.evaluate_batch(&broken, &labels).unwrap();
    assert!(!session.metrics().unwrap().unwrap().loss().is_finite());
    let before = session.read(WEIGHT).unwrap();
    session.train_step(&images, &labels, &step(0)).unwrap();
    assert!(session.metrics().unwrap().unwrap().loss().is_finite());
    assert_ne!(session.read(WEIGHT).unwrap(), before, "the step updates");

    session.train_step(&broken, &labels, &step(1)).unwrap();
    session.metrics().unwrap();
    assert!(session.is_halted().unwrap());
    let halted = session.read(WEIGHT).unwrap();
    session.train_step(&images, &labels, &step(2)).unwrap();
    session.metrics().unwrap();
    assert_eq!(
        session.read(WEIGHT).unwrap(),
        halted,
        "a halted device stays as it is"
    );
}
