//! Leaving out the examples that were forgotten least, against leaving out as many at random, on a subset of CIFAR-10: a table of
//! `docs/src/sparse.md`. The network is sparse and its masks mutate (MEST, elastic mutation), as published.
//!
//! `cargo run --release -p smidgen-recipes --example removal -- --data DIR [--sparsity 0.8] [--share 0.3] [--images 2000] [--epochs 8]
//! [--seeds 3] [--out FILE]`

#![allow(clippy::print_stdout)]

mod common;

use common::{BATCH, Data, LEARNING_RATE, Outcome, Runs, WIDTHS, Words, network, session, spread};
use smidgen::{ExampleMemory, Sparsity, Trainer, TrainerOptions, Training};
use smidgen_recipes::{Choice, Mest, MestOptions, Removal, RemovalOptions};
use std::ops::ControlFlow;
use std::sync::Arc;

const ARMS: [(&str, &str, Option<Choice>); 3] = [
    ("all", "all examples to the end", None),
    (
        "forgotten",
        "without those forgotten least",
        Some(Choice::LeastForgotten),
    ),
    ("random", "without as many at random", Some(Choice::Random)),
];

struct Settings {
    density: f64,
    share: f64,
    epochs: u32,
    data: Data,
}

/// Test accuracy in percent, steps, and the share of examples that had been learned and never forgotten when some went.
fn run(choice: Option<Choice>, seed: u64, settings: &Settings) -> Outcome<Vec<f64>> {
    let Settings {
        density,
        share,
        epochs,
        ref data,
    } = *settings;
    let mut graph = network(WIDTHS)?;
    graph.sparsify(&Sparsity::uniform(density))?;
    let training = Training {
        examples: ExampleMemory {
            counted: data.train.len() as u32,
            ..ExampleMemory::default()
        },
        ..Training::default()
    };
    let mut session = session(&graph, BATCH, training, seed)?;
    let options = TrainerOptions {
        epochs,
        learning_rate: LEARNING_RATE,
        seed,
        augment: "crop,flip".parse()?,
        normalization: data.normalization.clone(),
        ..TrainerOptions::default()
    };
    let mest = MestOptions {
        seed: seed as u32,
        interval: 2,
        ..MestOptions::elastic(density, epochs)
    };
    let mut trainer = Trainer::new(&mut session, Arc::clone(&data.train), None, options)?
        .with_recipe(Mest::new(&graph, &mest)?)?;
    if let Some(choice) = choice {
        let options = RemovalOptions {
            share,
            choice,
            epochs,
            seed,
        };
        trainer = trainer.with_recipe(Removal::new(&options)?)?;
    }
    let steps = trainer.steps();
    trainer.run(|_| ControlFlow::Continue(()))?;
    drop(trainer);
    let records = session.example_records()?;
    let never = (records.iter()).filter(|record| record.is_learned() && record.forgettings() == 0);
    let never = 100.0 * never.count() as f64 / records.len() as f64;
    Ok(vec![data.accuracy(&mut session)?, steps as f64, never])
}

fn main() -> Outcome<()> {
    let words = Words::of_the_command_line(&[
        "data", "sparsity", "share", "images", "epochs", "seeds", "out",
    ])?;
    let (sparsity, share) = (words.get("sparsity", 0.8)?, words.get("share", 0.3)?);
    let (images, epochs) = (words.get("images", 2000)?, words.get("epochs", 8)?);
    let seeds = words.get("seeds", 3_u64)?;
    let head = format!(
        "CIFAR-10, first {images} training and {} test images, {epochs} epochs, sparsity {sparsity}, share {share} removed",
        common::TEST_IMAGES
    );
    let mut runs = Runs::open(words.needed("out").ok(), &head)?;
    let settings = Settings {
        density: 1.0 - sparsity,
        share,
        epochs,
        data: Data::first(words.needed("data")?, images)?,
    };
    println!("{head}, seeds 1 to {seeds}\n");
    println!("| examples | test accuracy, % | each seed | steps |\n|---|---|---|---|");
    let mut kept = String::new();
    for (name, title, choice) in ARMS {
        let (mut accuracies, mut steps, mut never) = (Vec::new(), 0.0, Vec::new());
        for seed in 1..=seeds {
            let numbers = runs.of(&format!("{name} {seed}"), || run(choice, seed, &settings))?;
            accuracies.push(numbers[0]);
            steps = numbers[1];
            never.push(numbers[2]);
        }
        println!("| {title} | {} | {steps} |", spread(&accuracies));
        if choice.is_none() {
            kept = spread(&never);
        }
    }
    println!(
        "\nWhere none went, this share was learned and never forgotten over the whole run, %: {kept}"
    );
    Ok(())
}
