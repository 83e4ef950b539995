//! What budgets cost in time, measured beside predicted: steps of one network under several plans, taken in turn.
//!
//! ```sh
//! cargo run --release -p smidgen --example budget_times -- resnet20 32 128
//! ```

#![allow(clippy::print_stdout)]

use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Bytes, Error, Plans, Session, SessionOptions, StepOptions, Training, zoo};
use std::time::Instant;

const ROUNDS: u64 = 7;

/// Network, side of the pictures and batch, from the command line.
fn arguments() -> (String, u32, u32) {
    let mut words = std::env::args().skip(1);
    let model = words.next().unwrap_or_else(|| "resnet20".into());
    let mut number = |default| {
        words
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(default)
    };
    (model, number(32), number(128))
}

fn step(session: &mut Session, step: u64, side: u32) -> Result<f64, Error> {
    let batch = session.batch();
    let images = vec![0.5; (batch * side * side * 4) as usize];
    let labels: Vec<u32> = (0..batch).map(|at| at % 10).collect();
    let options = StepOptions {
        step,
        learning_rate: 0.01,
        seed: 1,
    };
    let start = Instant::now();
    session.train_step(&images, &labels, &options)?;
    session.metrics()?;
    Ok(start.elapsed().as_secs_f64())
}

fn main() -> Result<(), Error> {
    let (model, side, batch) = arguments();
    let graph = zoo::build(&model, 10, [3, side, side])?;
    let open = || Device::open(&DeviceRequest::default());
    let facts = open()?.facts().clone();
    let options = |quality, budget| SessionOptions {
        batch,
        training: Some(Training {
            quality,
            ..Training::default()
        }),
        budget,
    };
    let exact = Plans::new(&graph, &facts, &options(0.0, None))?;
    let lossy = Plans::new(&graph, &facts, &options(0.05, None))?;
    let all = Session::new(open()?, &graph, &options(0.0, None), 1)?;
    let bytes = all.footprint().total().0;
    let stash = all.plan().programs[0].peak.stash;
    let predicted = exact.seconds(all.forms())?;
    let mut rows = vec![("keep-all".to_owned(), all, predicted, Vec::new())];
    let budgets = [
        ("exact, half the stashes".to_owned(), 0.0, bytes - stash / 2),
        (
            "exact, the least".to_owned(),
            0.0,
            exact.least()?.footprint().total().0,
        ),
        (
            "quality 0.05, half the stashes".to_owned(),
            0.05,
            bytes - stash / 2,
        ),
        (
            "quality 0.05, the least".to_owned(),
            0.05,
            lossy.least()?.footprint().total().0,
        ),
    ];
    for (name, quality, budget) in budgets {
        let session = Session::new(open()?, &graph, &options(quality, Some(Bytes(budget))), 1)?;
        let plans = if quality > 0.0 { &lossy } else { &exact };
        let predicted = plans.seconds(session.forms())?;
        rows.push((name, session, predicted, Vec::new()));
    }
    // The first round compiles and touches; it is not counted.
    for round in 0..=ROUNDS {
        for (_, session, _, times) in &mut rows {
            let seconds = step(session, round, side)?;
            if round > 0 {
                times.push(seconds);
            }
        }
    }
    println!(
        "{model} at {side}, batch {batch}, {} ({}); medians of {ROUNDS}, in turn\n",
        facts.name, facts.driver
    );
    println!(
        "| plan | bytes reserved | predicted, by keep-all | measured, by keep-all | measured |"
    );
    println!("|---|---|---|---|---|");
    let mut whole = (f64::NAN, f64::NAN);
    for (name, session, predicted, mut times) in rows {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        if whole.0.is_nan() {
            whole = (predicted, median);
        }
        println!(
            "| {name} | {} | {:.2} | {:.2} | {:.0} ms |",
            session.footprint().total(),
            predicted / whole.0,
            median / whole.1,
            median * 1e3
        );
    }
    Ok(())
}
