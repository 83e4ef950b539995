//! Wherever a run is interrupted, what is left undone is made up for.

use smidgen::data::{DataError, Dataset, ImageShape};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{
    Checkpoints, End, Event, Session, SessionOptions, Summary, Trainer, TrainerOptions, Training,
    zoo,
};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Pictures whose colour is their label.
struct Plain(usize);

impl Dataset for Plain {
    fn len(&self) -> usize {
        self.0
    }

    fn classes(&self) -> usize {
        10
    }

    fn image_shape(&self) -> ImageShape {
        ImageShape {
            channels: 3,
            height: 8,
            width: 8,
        }
    }

    fn label(&self, index: usize) -> u32 {
        (index * 3 % 10) as u32
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        image.fill(self.label(index) as u8 * 25);
        Ok(())
    }
}

/// Two epochs of three steps, going on from the checkpoint if there is one; every event is told to `on_event`.
fn train(
    checkpoint: &Path,
    on_event: impl FnMut(&Event) -> ControlFlow<()>,
) -> (Summary, Vec<u32>) {
    let graph = zoo::build("resnet20", 10, [3, 8, 8]).unwrap();
    let options = SessionOptions {
        batch: 4,
        training: Some(Training::default()),
        budget: None,
    };
    let device = Device::open(&DeviceRequest::default()).unwrap();
    let mut session = Session::new(device, &graph, &options, 1).unwrap();
    let options = TrainerOptions {
        epochs: 2,
        learning_rate: 0.01,
        patience: Some(2),
        checkpoints: Some(Checkpoints {
            path: checkpoint.to_owned(),
            every: 100,
            run: serde_json::json!({ "seed": 1 }),
        }),
        ..TrainerOptions::default()
    };
    let (train, test) = (Arc::new(Plain(12)), Arc::new(Plain(16)));
    let mut trainer = Trainer::new(&mut session, train, Some(test), options).unwrap();
    if checkpoint.exists() {
        trainer.resume().unwrap();
    }
    let summary = trainer.run(on_event).unwrap();
    let weights = session.weights().unwrap();
    let numbers = weights.tensors.values().flat_map(|tensor| &tensor.values);
    (summary, numbers.map(|number| number.to_bits()).collect())
}

fn evaluations(events: &[Event]) -> Vec<(u64, u64, u64)> {
    let facts = |event: &Event| match event {
        Event::Evaluation {
            step,
            loss,
            accuracy,
            ..
        } => Some((*step, loss.to_bits(), accuracy.to_bits())),
        _ => None,
    };
    events.iter().filter_map(facts).collect()
}

#[test]
fn an_interrupted_run_evaluates_what_a_whole_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let (whole, weights) = train(&folder.path().join("whole"), |event| {
        told.push(event.clone());
        ControlFlow::Continue(())
    });
    assert_eq!((whole.end, whole.steps), (End::Finished, 6));
    let expected = evaluations(&told);
    assert_eq!(expected.iter().map(|e| e.0).collect::<Vec<_>>(), [3, 6]);

    // Interrupted by turns at a step, within an evaluation and after one.
    let path = folder.path().join("parts");
    let mut parts = Vec::new();
    let mut interruptions = 0;
    let (summary, ended) = loop {
        let run = train(&path, |event| {
            if !matches!(event, Event::Checkpoint { .. }) {
                parts.push(event.clone());
            }
            let turn = match event {
                Event::Step { .. } => Some(0),
                Event::Evaluating { .. } => Some(1),
                Event::Evaluation { .. } => Some(2),
                Event::Checkpoint { .. } | Event::Bounds { .. } => None,
            };
            if turn == Some(interruptions % 3) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        interruptions += 1;
        assert!(interruptions < 20, "{parts:?}");
        if run.0.end != End::Interrupted {
            break run;
        }
    };
    assert!(interruptions > 5, "{interruptions}");
    assert_eq!(evaluations(&parts), expected);
    let evaluating = |events: &[Event]| {
        let told = |event: &&Event| matches!(event, Event::Evaluating { .. });
        events.iter().filter(told).count()
    };
    assert!(
        evaluating(&parts) > evaluating(&told),
        "no evaluation was interrupted"
    );
    let steps = parts.iter().filter_map(|event| match event {
        Event::Step { step, .. } => Some(*step),
        _ => None,
    });
    assert_eq!(steps.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!((summary.end, summary.steps), (End::Finished, 6));
    assert_eq!(summary.evaluation, whole.evaluation);
    assert!(ended == weights, "the weights differ");
}
