//! A run with patience ends when the accuracy has not become better for so many epochs, and not before.

use smidgen::data::{Shapes, Split};
use smidgen::{End, Event, Trainer, TrainerOptions, Training};
use smidgen_tests::session;
use std::ops::ControlFlow;
use std::sync::Arc;

const EPOCHS: u32 = 30;

/// After which evaluation (from 1) a run must stop.
fn stop(accuracies: &[f64], patience: usize) -> Option<usize> {
    let (mut best, mut since) = (f64::MIN, 0);
    for (at, accuracy) in accuracies.iter().enumerate() {
        since = if *accuracy > best { 0 } else { since + 1 };
        best = best.max(*accuracy);
        if since == patience {
            return Some(at + 1);
        }
    }
    None
}

#[test]
fn patience_ends_a_run_that_no_longer_learns() {
    for patience in [1, 3] {
        let mut session = session("resnet20", 4, Some(Training::default()));
        let options = TrainerOptions {
            epochs: EPOCHS,
            // What no step changes cannot become better for long; only the running statistics settle.
            learning_rate: 0.0,
            patience: Some(patience),
            ..TrainerOptions::default()
        };
        let data = |split, len| Arc::new(Shapes::with_len(1, split, len));
        let (train, test) = (data(Split::Train, 8), data(Split::Test, 10));
        let mut trainer = Trainer::new(&mut session, train, Some(test), options).unwrap();
        let mut accuracies = Vec::new();
        let summary = trainer
            .run(|event| {
                if let Event::Evaluation { accuracy, .. } = event {
                    accuracies.push(*accuracy);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(summary.end, End::Stopped, "{accuracies:?}");
        assert_eq!(
            Some(accuracies.len()),
            stop(&accuracies, patience as usize),
            "{accuracies:?}"
        );
        assert_eq!(summary.steps, 2 * accuracies.len() as u64);
        assert!(summary.steps < 2 * u64::from(EPOCHS));
    }
}
