//! MEST against the controls that could embarrass it, on a subset of CIFAR-10: a table of `docs/src/sparse.md`.
//!
//! `cargo run --release -p smidgen-recipes --example mest -- --data DIR [--sparsity 0.9] [--images 2000] [--test-images 2000] [--epochs 8] [--interval 2]
//! [--seeds 3] [--arms NAME,NAME] [--out FILE]`

#![allow(clippy::print_stdout)]

mod common;
mod unstructured;

use common::{
    BATCH, Data, LEARNING_RATE, Outcome, Runs, SMALL_80, SMALL_90, TEST_IMAGES, WIDTHS, Words,
    network, parameter_bytes, random_masks, session, spread,
};
use smidgen::{Growth, Sparsity, Trainer, TrainerOptions, Training};
use smidgen_recipes::{Mest, MestOptions};
use std::ops::ControlFlow;
use std::sync::Arc;
use unstructured::Masks;

#[derive(Clone, Copy, PartialEq)]
enum Arm {
    Dense,
    Small,
    Random,
    Magnitude,
    Elastic,
    Gradient,
    Soft,
    Unstructured(Masks),
}

const ARMS: [(Arm, &str, &str); 10] = [
    (Arm::Dense, "dense", "dense"),
    (
        Arm::Small,
        "small",
        "smaller dense network, as many parameters",
    ),
    (Arm::Random, "random", "static random mask"),
    (
        Arm::Magnitude,
        "magnitude",
        "static mask by magnitude at the start",
    ),
    (Arm::Elastic, "elastic", "MEST, elastic mutation"),
    (Arm::Gradient, "gradient", "the same, grown by gradients"),
    (
        Arm::Soft,
        "soft",
        "MEST, elastic mutation with the soft bound",
    ),
    (
        Arm::Unstructured(Masks::Elastic),
        "unstructured",
        "MEST, elastic mutation of single weights, simulated",
    ),
    (
        Arm::Unstructured(Masks::Magnitude),
        "unstructured-magnitude",
        "static mask of single weights by magnitude at the start, simulated",
    ),
    (
        Arm::Unstructured(Masks::Random),
        "unstructured-random",
        "static random mask of single weights, simulated",
    ),
];

struct Settings {
    density: f64,
    epochs: u32,
    interval: u32,
    data: Data,
}

/// Test accuracy in percent, and bytes of weights, gradients and momentum.
fn run(arm: Arm, seed: u64, settings: &Settings) -> Outcome<Vec<f64>> {
    let Settings {
        density,
        epochs,
        interval,
        ..
    } = *settings;
    let small = if density < 0.15 { SMALL_90 } else { SMALL_80 };
    let mut graph = network(if arm == Arm::Small { small } else { WIDTHS })?;
    let mest = match arm {
        Arm::Elastic | Arm::Gradient | Arm::Unstructured(_) => {
            Some(MestOptions::elastic(density, epochs))
        }
        Arm::Soft => Some(MestOptions::soft(density, epochs)),
        _ => None,
    };
    let mest = mest.map(|mest| MestOptions {
        seed: seed as u32,
        interval,
        ..mest
    });
    if let (Arm::Unstructured(masks), Some(mest)) = (arm, &mest) {
        return unstructured::run(&graph, (masks, mest), seed, &settings.data);
    }
    if !matches!(arm, Arm::Dense | Arm::Small) {
        graph.sparsify(&Sparsity {
            most: mest.map_or(density, |mest| mest.most()),
            ..Sparsity::uniform(density)
        })?;
    }
    let training = Training {
        growth: match arm {
            Arm::Gradient => Growth::Gradient,
            _ => Growth::Random,
        },
        ..Training::default()
    };
    let mut session = session(&graph, BATCH, training, seed)?;
    if arm == Arm::Random {
        let mut weights = graph.initialize(seed);
        random_masks(&graph, &mut weights, seed);
        session.load(&weights)?;
    }
    let bytes = parameter_bytes(&session);
    let options = TrainerOptions {
        epochs,
        learning_rate: LEARNING_RATE,
        seed,
        augment: "crop,flip".parse()?,
        normalization: settings.data.normalization.clone(),
        ..TrainerOptions::default()
    };
    let train = Arc::clone(&settings.data.train);
    let mut trainer = Trainer::new(&mut session, train, None, options)?;
    if let Some(mest) = mest {
        trainer = trainer.with_recipe(Mest::new(&graph, &mest)?)?;
    }
    trainer.run(|_| ControlFlow::Continue(()))?;
    drop(trainer);
    Ok(vec![settings.data.accuracy(&mut session)?, bytes as f64])
}

fn main() -> Outcome<()> {
    let words = Words::of_the_command_line(&[
        "data",
        "sparsity",
        "images",
        "test-images",
        "epochs",
        "interval",
        "seeds",
        "arms",
        "out",
    ])?;
    let (sparsity, images) = (words.get("sparsity", 0.9)?, words.get("images", 2000)?);
    let (epochs, seeds) = (words.get("epochs", 8)?, words.get("seeds", 3_u64)?);
    let interval = words.get("interval", 2)?;
    let test_images = words.get("test-images", TEST_IMAGES)?;
    let arms = words.get("arms", String::new())?;
    let head = format!(
        "CIFAR-10, first {images} training and {test_images} test images, {epochs} epochs, a mutation every {interval}, sparsity {sparsity}"
    );
    let mut runs = Runs::open(words.needed("out").ok(), &head)?;
    let settings = Settings {
        density: 1.0 - sparsity,
        epochs,
        interval,
        data: Data::of(words.needed("data")?, [images, test_images])?,
    };
    println!("{head}, seeds 1 to {seeds}\n");
    println!(
        "| network | test accuracy, % | each seed | bytes of weights, gradients, momentum |\n|---|---|---|---|"
    );
    for (arm, name, title) in ARMS {
        if !arms.is_empty() && !arms.split(',').any(|wanted| wanted == name) {
            continue;
        }
        let (mut accuracies, mut bytes) = (Vec::new(), 0.0);
        for seed in 1..=seeds {
            let numbers = runs.of(&format!("{name} {seed}"), || run(arm, seed, &settings))?;
            accuracies.push(numbers[0]);
            bytes = numbers[1];
        }
        println!("| {title} | {} | {bytes} |", spread(&accuracies));
    }
    Ok(())
}
