//! What is kept of single examples: forgetting counted on the device, in four bytes an example, and examples that are removed.

use smidgen::data::{Shapes, Split};
use smidgen::{
    Checkpoints, Error, Event, ExampleMemory, ExampleRecord, Session, SessionOptions, Trainer,
    TrainerOptions, Training, checkpoint, zoo,
};
use smidgen_recipes::{Choice, Removal, RemovalOptions};
use smidgen_tests::device;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const EXAMPLES: u32 = 14;
const EPOCHS: u32 = 6;

fn session(counted: u32) -> Session {
    let options = SessionOptions {
        batch: 4,
        training: Some(Training {
            examples: ExampleMemory {
                counted,
                ..ExampleMemory::default()
            },
            ..Training::default()
        }),
        budget: None,
    };
    let graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    Session::new(device(), &graph, &options, 3).unwrap()
}

fn removal(choice: Choice) -> Removal {
    let options = RemovalOptions {
        share: 0.4,
        choice,
        epochs: EPOCHS,
        seed: 1,
    };
    Removal::new(&options).unwrap()
}

/// Trains with a removal; in two parts, if `stop` says after how many events.
fn train(
    folder: &Path,
    stop: Option<u32>,
) -> (Vec<ExampleRecord>, Vec<(u32, f64)>, smidgen_graph::Weights) {
    let path = checkpoint::path_in(folder);
    let mut steps = Vec::new();
    let mut resumed = false;
    loop {
        let mut session = session(EXAMPLES);
        let options = TrainerOptions {
            epochs: EPOCHS,
            checkpoints: Some(Checkpoints {
                path: path.clone(),
                every: 1000,
                run: serde_json::Value::Null,
            }),
            ..TrainerOptions::default()
        };
        let data = Arc::new(Shapes::with_len(1, Split::Train, EXAMPLES as usize));
        let mut trainer = Trainer::new(&mut session, data, None, options)
            .unwrap()
            .with_recipe(removal(Choice::LeastForgotten))
            .unwrap();
        // Six examples of fourteen go before epoch 3 of 6: three steps of four an epoch, then two.
        assert_eq!(trainer.steps(), 15);
        if resumed {
            trainer.resume().unwrap();
        }
        let mut seen = 0;
        let summary = trainer.run(|event| {
            if let Event::Step {
                epoch, accuracy, ..
            } = event
            {
                steps.push((*epoch, *accuracy));
            }
            seen += 1;
            match stop {
                Some(stop) if !resumed && seen == stop => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        let summary = summary.unwrap();
        drop(trainer);
        if summary.end == smidgen::End::Finished {
            assert_eq!(summary.steps, 15);
            let weights = session.weights().unwrap();
            return (session.example_records().unwrap(), steps, weights);
        }
        resumed = true;
    }
}

#[test]
fn records_are_those_of_the_steps_and_a_resumed_run_has_the_same() {
    let folders = [0, 1, 2, 3].map(|_| tempfile::tempdir().unwrap());
    let (records, steps, weights) = train(folders[0].path(), None);
    let removed = records.iter().filter(|record| record.is_removed()).count();
    assert_eq!(removed, 6);
    // The eight that are left were all shown in the last epoch, so what is right now was right there.
    let last = steps.iter().filter(|(epoch, _)| *epoch == EPOCHS - 1);
    let right: f64 = last.map(|(_, accuracy)| accuracy * 4.0).sum();
    let left = records.iter().filter(|record| !record.is_removed());
    assert_eq!(
        left.filter(|record| record.is_right()).count() as f64,
        right
    );
    // Within an epoch, at the epoch of the removal, and after it.
    for (folder, stop) in folders[1..].iter().zip([5, 9, 13]) {
        let (again, _, same) = train(folder.path(), Some(stop));
        assert_eq!(again, records, "stopped at event {stop}");
        assert_eq!(same, weights, "stopped at event {stop}");
    }
}

#[test]
fn an_example_takes_four_bytes_of_the_plan() {
    let bytes = |counted| {
        let session = session(counted);
        let places = &session.plan().programs[0].values;
        let values = session.main_program().values.iter().zip(places);
        let own = values.filter(|(value, _)| value.name == smidgen_graph::FORGETTING);
        let own: Vec<u64> = own.map(|(_, place)| place.unwrap().bytes).collect();
        (own, session.plan().programs[0].peak.persistent)
    };
    let (none, without) = bytes(0);
    let (own, with) = bytes(50_000);
    assert!(none.is_empty());
    assert_eq!(own, [200_000]);
    assert!(
        with >= without + 200_000,
        "{without} bytes without, {with} with"
    );
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let data = || Arc::new(Shapes::with_len(1, Split::Train, 12));
    let mut wrong = session(EXAMPLES);
    let refused = Trainer::new(&mut wrong, data(), None, TrainerOptions::default());
    assert!(matches!(
        refused.err(),
        Some(Error::ExampleCount {
            counted: 14,
            examples: 12
        })
    ));
    assert!(wrong.set_example_records(&[ExampleRecord(0); 3]).is_err());
    let mut plain = session(0);
    assert!(plain.example_records().is_err());
    let options = TrainerOptions {
        epochs: EPOCHS,
        ..TrainerOptions::default()
    };
    let trainer = Trainer::new(&mut plain, data(), None, options).unwrap();
    let error = trainer.with_recipe(removal(Choice::Random)).err().unwrap();
    assert!(error.to_string().contains("Training::examples"), "{error}");
}

#[test]
fn a_removal_that_leaves_less_than_a_batch_is_refused_before_the_first_step() {
    let mut session = session(EXAMPLES);
    let options = TrainerOptions {
        epochs: EPOCHS,
        ..TrainerOptions::default()
    };
    let data = Arc::new(Shapes::with_len(1, Split::Train, EXAMPLES as usize));
    let removal = RemovalOptions {
        share: 0.8,
        choice: Choice::Random,
        epochs: EPOCHS,
        seed: 1,
    };
    let trainer = Trainer::new(&mut session, data, None, options).unwrap();
    let refused = trainer.with_recipe(Removal::new(&removal).unwrap());
    assert!(matches!(
        refused.map(|_| ()),
        Err(Error::TooFewExamples {
            fewest: 3,
            batch: 4
        })
    ));
}
