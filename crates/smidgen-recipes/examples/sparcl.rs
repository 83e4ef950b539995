//! SparCL against DER++, plain fine-tuning and random choices, on five tasks of two classes of CIFAR-10: a table of `docs/src/sparse.md`.
//!
//! `cargo run --release -p smidgen-recipes --example sparcl -- --data DIR [--sparsity 0.75] [--images 1500] [--epochs 4] [--memory 200]
//! [--rate 0.1] [--seeds 3] [--arms NAME,NAME] [--out FILE]`

#![allow(clippy::print_stdout)]

mod common;

use common::{Data, Outcome, Runs, TEST_IMAGES, WIDTHS, Words, network, random_masks, session};
use smidgen::data::{Dataset, Loader};
use smidgen::{Session, Sparsity};
use smidgen_recipes::{Choice, DataRemoval, GradientMask, Masking, Pick, Sparcl, SparclOptions};
use std::ops::ControlFlow;
use std::sync::Arc;

const TASKS: u16 = 5;
/// Published for 50 epochs of a task with masks of single weights: a share of 0.01, chosen anew every 30 steps. Here blocks are counted in
/// output groups of 36 to 144, and a task has few steps.
const CHANGED: f64 = 0.03;
const INTERVAL: u64 = 10;

struct Arm {
    name: &'static str,
    title: &'static str,
    replays: bool,
    sparse: bool,
    masked: bool,
    removal: Option<Choice>,
    gradient: Option<Pick>,
}

const PLAIN: Arm = Arm {
    name: "fine-tuning",
    title: "plain fine-tuning, dense",
    replays: false,
    sparse: false,
    masked: false,
    removal: None,
    gradient: None,
};

const ARMS: [Arm; 7] = [
    PLAIN,
    Arm {
        name: "der",
        title: "DER++, dense",
        replays: true,
        ..PLAIN
    },
    Arm {
        name: "static",
        title: "DER++, static random mask",
        replays: true,
        sparse: true,
        ..PLAIN
    },
    Arm {
        name: "masks",
        title: "SparCL, masks alone",
        replays: true,
        sparse: true,
        masked: true,
        ..PLAIN
    },
    Arm {
        name: "data",
        title: "SparCL, masks and data removal",
        replays: true,
        sparse: true,
        masked: true,
        removal: Some(Choice::LeastForgotten),
        ..PLAIN
    },
    Arm {
        name: "sparcl",
        title: "SparCL, masks, data removal and gradient masks",
        replays: true,
        sparse: true,
        masked: true,
        removal: Some(Choice::LeastForgotten),
        gradient: Some(Pick::Largest),
    },
    Arm {
        name: "chance",
        title: "the same with a static random mask, random removal and random gradient masks",
        replays: true,
        sparse: true,
        masked: false,
        removal: Some(Choice::Random),
        gradient: Some(Pick::Random),
    },
];

struct Settings {
    density: f64,
    epochs: u32,
    memory: u32,
    learning_rate: f32,
    data: Data,
}

/// The numbers of the pictures of a task.
fn pictures(data: &Arc<dyn Dataset>, task: u16) -> Vec<usize> {
    let all = 0..data.len();
    all.filter(|picture| data.label(*picture) / 2 == u32::from(task))
        .collect()
}

/// Accuracy on the test pictures of one task among all ten classes, in percent.
fn accuracy(session: &mut Session, data: &Data, task: u16) -> Outcome<f64> {
    let images = pictures(&data.test, task);
    let own: Arc<dyn Dataset> = Arc::new(common::Some {
        all: Arc::clone(&data.test),
        images,
    });
    let loader = Loader::evaluation(own, session.batch() as usize, data.normalization.clone())?;
    let metrics = smidgen::evaluate(session, &loader, |_| ControlFlow::Continue(()))?;
    Ok(100.0 * metrics.ok_or("the evaluation was interrupted")?.accuracy())
}

/// Accuracy among all classes after the last task and mean of what each task lost since it was learned, in percent; steps; the share of
/// the gradients of blocks that was computed; bytes that the plan holds from step to step.
fn run(arm: &Arm, seed: u64, settings: &Settings) -> Outcome<Vec<f64>> {
    let Settings {
        density,
        epochs,
        memory,
        learning_rate,
        ref data,
    } = *settings;
    let masking = Masking {
        density,
        share: CHANGED,
        alpha: 0.5,
    };
    let mut graph = network(WIDTHS)?;
    if arm.sparse {
        graph.sparsify(&Sparsity {
            most: if arm.masked { masking.most() } else { density },
            masks_gradient: arm.gradient.is_some(),
            ..Sparsity::uniform(density)
        })?;
    }
    let options = SparclOptions {
        memory: arm.replays.then_some(memory),
        weights: [0.1, 0.5],
        masking: arm.masked.then_some(masking),
        removal: arm.removal.map(|choice| DataRemoval { share: 0.3, choice }),
        gradient: arm.gradient.map(|pick| GradientMask {
            share: 0.8,
            interval: INTERVAL,
            pick,
        }),
        batch: 32,
        epochs,
        learning_rate,
        normalization: data.normalization.clone(),
        seed,
    };
    let training = options.training(data.train.len() as u32);
    let mut session = session(&graph, options.session_batch(), training, seed)?;
    if arm.sparse && !arm.masked {
        let mut weights = graph.initialize(seed);
        random_masks(&graph, &mut weights, seed);
        session.load(&weights)?;
    }
    let held = session.plan().programs[0].peak.persistent as f64;
    let mut learner = Sparcl::new(&mut session, &graph, Arc::clone(&data.train), options)?;
    let (mut steps, mut gradients) = (0, [0, 0]);
    let mut at_first = Vec::new();
    for task in 0..TASKS {
        let own: Vec<u32> = pictures(&data.train, task)
            .into_iter()
            .map(|picture| picture as u32)
            .collect();
        let report = learner.learn(&own, 2 * task..2 * task + 2)?;
        steps += report.steps;
        gradients = [0, 1].map(|at| gradients[at] + report.gradients[at]);
        at_first.push(accuracy(learner.session(), data, task)?);
    }
    let (mut final_accuracy, mut lost) = (0.0, 0.0);
    for task in 0..TASKS {
        let now = accuracy(learner.session(), data, task)?;
        final_accuracy += now / f64::from(TASKS);
        // The last task cannot have lost anything.
        if task + 1 < TASKS {
            lost += (at_first[usize::from(task)] - now) / f64::from(TASKS - 1);
        }
    }
    let computed = match gradients {
        [_, 0] => 100.0,
        [computed, all] => 100.0 * computed as f64 / all as f64,
    };
    Ok(vec![final_accuracy, lost, steps as f64, computed, held])
}

fn main() -> Outcome<()> {
    let words = Words::of_the_command_line(&[
        "data", "sparsity", "images", "epochs", "memory", "rate", "seeds", "arms", "out",
    ])?;
    let (sparsity, images) = (words.get("sparsity", 0.75)?, words.get("images", 1500)?);
    let (epochs, memory) = (words.get("epochs", 4)?, words.get("memory", 200)?);
    let learning_rate = words.get("rate", 0.1)?;
    let seeds = words.get("seeds", 3_u64)?;
    let arms = words.get("arms", String::new())?;
    let head = format!(
        "CIFAR-10, five tasks of two classes, first {images} training and {TEST_IMAGES} test images, {epochs} epochs a task, memory of {memory}, \
         learning rate {learning_rate}, sparsity {sparsity}"
    );
    let mut runs = Runs::open(words.needed("out").ok(), &head)?;
    let settings = Settings {
        density: 1.0 - sparsity,
        epochs,
        memory,
        learning_rate,
        data: Data::first(words.needed("data")?, images)?,
    };
    println!("{head}, seeds 1 to {seeds}\n");
    println!(
        "| method | accuracy among ten classes, % | each seed | forgotten, % | each seed | steps | gradients of blocks computed, % | bytes held from \
         step to step |\n|---|---|---|---|---|---|---|---|"
    );
    for arm in &ARMS {
        if !arms.is_empty() && !arms.split(',').any(|wanted| wanted == arm.name) {
            continue;
        }
        let mut all = Vec::new();
        for seed in 1..=seeds {
            all.push(runs.of(&format!("{} {seed}", arm.name), || {
                run(arm, seed, &settings)
            })?);
        }
        let column = |at: usize| all.iter().map(|numbers| numbers[at]).collect::<Vec<_>>();
        println!(
            "| {} | {} | {} | {} | {:.0} | {} |",
            arm.title,
            common::spread(&column(0)),
            common::spread(&column(1)),
            all[0][2],
            all[0][3],
            all[0][4]
        );
    }
    Ok(())
}
