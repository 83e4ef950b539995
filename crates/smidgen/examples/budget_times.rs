//! What budgets cost in time, measured beside predicted: steps of one network under several plans, taken in turn, every other round from the
//! last to the first. The costs of operations are measured first, as tuning does. A plan takes two steps in a row and the second counts,
//! which finds the caches as its own first left them; ratios are medians of those of a round.
//!
//! ```sh
//! cargo run --release -p smidgen --example budget_times -- resnet20 32 128
//! ```

#![allow(clippy::print_stdout)]

use smidgen::gpu::{Device, DeviceRequest};
use smidgen::plan::Preset;
use smidgen::{
    Blueprint, Bytes, Error, Plans, Session, SessionOptions, StepOptions, Training, Tuning,
    cache_folder, zoo,
};
use std::time::Instant;

const ROUNDS: usize = 9;

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

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Row {
    name: String,
    session: Session,
    roofline: f64,
    predicted: f64,
    times: Vec<f64>,
}

fn main() -> Result<(), Error> {
    let (model, side, batch) = arguments();
    let graph = zoo::build(&model, 10, [3, side, side])?;
    let open = || {
        Device::open(&DeviceRequest {
            cache: cache_folder(),
            ..DeviceRequest::default()
        })
    };
    let facts = open()?.facts().clone();
    let options = |quality| SessionOptions {
        batch,
        training: Some(Training {
            quality,
            ..Training::default()
        }),
        budget: None,
    };
    let tuning = Tuning::On {
        cache: cache_folder(),
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut whole = None;
    for (name, quality) in [("exact", 0.0), ("quality 0.02", 0.02)] {
        let start = Instant::now();
        let plans = Plans::measured(&open()?, &graph, &options(quality), &tuning)?;
        println!(
            "{name}: measured and planned in {:.1} s",
            start.elapsed().as_secs_f64()
        );
        let guessed = Plans::new(&graph, &facts, &options(quality))?;
        let keep = plans.preset(Preset::KeepAll)?;
        let (bytes, stash) = (
            keep.footprint().total().0,
            keep.plan().programs[0].peak.stash,
        );
        let mut enter = |name: String, blueprint: Blueprint| -> Result<(), Error> {
            if rows
                .iter()
                .any(|row| row.session.forms() == blueprint.forms())
            {
                return Ok(());
            }
            rows.push(Row {
                name,
                roofline: guessed.seconds(blueprint.forms())?,
                predicted: plans.seconds(blueprint.forms())?,
                session: Session::planned(open()?, &graph, &options(quality), 1, blueprint)?,
                times: Vec::new(),
            });
            Ok(())
        };
        enter("keep all".into(), keep)?;
        for (words, share) in [("three quarters", 4), ("half", 2)] {
            let budget = Bytes(bytes - stash / share);
            if let Ok(blueprint) = plans.within(&graph, &options(quality), budget) {
                enter(format!("{name}, {words} of the stashes"), blueprint)?;
            }
        }
        enter(format!("{name}, the least"), plans.least()?)?;
        if quality > 0.0 {
            enter("4 bits and exact masks".into(), plans.preset(Preset::Gact)?)?;
        }
        whole.get_or_insert((
            plans.seconds(&Default::default())?,
            guessed.seconds(&Default::default())?,
        ));
    }
    // The first round compiles and touches; it is not counted.
    for round in 0..=ROUNDS {
        let count = rows.len();
        for turn in 0..count {
            let at = if round % 2 == 0 {
                turn
            } else {
                count - 1 - turn
            };
            let Some(row) = rows.get_mut(at) else {
                continue;
            };
            let steps = 2 * round as u64;
            step(&mut row.session, steps, side)?;
            let seconds = step(&mut row.session, steps + 1, side)?;
            if round > 0 {
                row.times.push(seconds);
            }
        }
    }
    println!(
        "{model} at {side}, batch {batch}, {} ({}); medians of {ROUNDS}, in turn\n",
        facts.name, facts.driver
    );
    println!(
        "| plan | bytes reserved | stashed | predicted | measured | error | by keep-all: roofline | predicted | measured |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let (predicted, guessed) = whole.unwrap_or((f64::NAN, f64::NAN));
    let keep = rows.first().map_or_else(Vec::new, |row| row.times.clone());
    let mut errors = Vec::new();
    for row in rows {
        let ratios = row.times.iter().zip(&keep).map(|(time, keep)| time / keep);
        let ratio = median(ratios.collect());
        let measured = median(row.times);
        let error = row.predicted / measured - 1.0;
        errors.push(error.abs());
        println!(
            "| {} | {} | {} | {:.0} ms | {:.0} ms | {:+.1} % | {:.2} | {:.2} | {:.2} |",
            row.name,
            row.session.footprint().total(),
            Bytes(row.session.plan().programs[0].peak.stash),
            row.predicted * 1e3,
            measured * 1e3,
            100.0 * error,
            row.roofline / guessed,
            row.predicted / predicted,
            ratio,
        );
    }
    println!("\nmedian error {:.1} %", 100.0 * median(errors));
    Ok(())
}
