//! What gradient filtering does to a whole training step: networks whose last 2, 4 and 6 convolutions are trained, with exact and with filtered
//! gradients, the arms by turns, and a table is printed.
//!
//! `cargo run --release -p smidgen --example filtered_steps -- resnet18 224 4`: a network, the side of its pictures and the batch. Kernels are chosen
//! as `SMIDGEN_TUNE` says.
#![allow(clippy::print_stdout)] // A table is what this program is for.

use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{
    Error, Graph, Session, SessionOptions, StepOptions, Training, Tuning, cache_folder, zoo,
};
use smidgen_graph::Layer;
use std::time::Instant;

const ROUNDS: u64 = 7;
const TRAINED: [usize; 3] = [2, 4, 6];
const PATCHES: [Option<u32>; 3] = [None, Some(2), Some(4)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word =
        |at: usize, default: &str| arguments.get(at).map_or(default, String::as_str).to_owned();
    let model = word(0, "resnet18");
    let (side, batch): (u32, u32) = (word(1, "224").parse()?, word(2, "4").parse()?);
    println!(
        "{model} at {side}, batch {batch}, medians of {ROUNDS} steps taken by turns; ratios are medians of the ratios of a round\n\n\
         | trained | gradient | step | of the exact one | backward operations | dispatches | held for the backward pass |\n|---|---|---|---|---|---|---|"
    );
    for trained in TRAINED {
        let mut arms = Vec::new();
        for patch in PATCHES {
            arms.push(Arm::new(&network(&model, side, trained, patch)?, batch)?);
        }
        for step in 0..=ROUNDS {
            for arm in &mut arms {
                arm.step(step)?;
            }
        }
        for (arm, patch) in arms.iter().zip(PATCHES) {
            let gradient = patch.map_or("exact".into(), |patch| format!("patch {patch}"));
            let ratios = arms[0].seconds.iter().zip(&arm.seconds);
            let ratio = median(ratios.map(|(exact, own)| own / exact).collect());
            println!(
                "| last {trained} | {gradient} | {:.1} ms | {ratio:.2} | {} | {} | {:.0} KiB |",
                1e3 * median(arm.seconds.clone()),
                arm.backward,
                arm.dispatches,
                arm.stashed as f64 / 1024.0
            );
        }
    }
    Ok(())
}

/// The last convolutions and the classifier are trained; batch norms are frozen and use their running statistics.
fn network(model: &str, side: u32, trained: usize, patch: Option<u32>) -> Result<Graph, Error> {
    let mut graph = zoo::build(model, 10, [3, side, side])?;
    graph.train_last(trained)?;
    let norms = graph.nodes().iter();
    let norms = norms.filter(|node| matches!(node.layer, Layer::BatchNorm { .. }));
    for norm in norms.map(|node| node.name.clone()).collect::<Vec<_>>() {
        graph.freeze(&norm)?;
    }
    graph.freeze_statistics();
    if let Some(patch) = patch {
        graph.filter_last(trained, patch)?;
    }
    Ok(graph)
}

struct Arm {
    session: Session,
    images: Vec<f32>,
    labels: Vec<u32>,
    seconds: Vec<f64>,
    backward: usize,
    dispatches: usize,
    stashed: u64,
}

impl Arm {
    fn new(graph: &Graph, batch: u32) -> Result<Self, Error> {
        let options = SessionOptions {
            batch,
            training: Some(Training::default()),
            budget: None,
        };
        let device = Device::open(&DeviceRequest {
            cache: cache_folder(),
            ..Default::default()
        })?;
        let profile = smidgen::profile::Profile::planned(device.facts(), graph, &options, "")?;
        let backward = || {
            let steps = profile.steps.iter();
            steps.filter(|step| step.phase == smidgen_graph::Phase::Backward)
        };
        let tuning = Tuning::from_environment(device.facts())?;
        let session = Session::tuned(device, graph, &options, 1, &tuning, |_, _| {})?;
        let pixels = match session
            .main_program()
            .value(session.main_program().images)
            .layout
        {
            smidgen_graph::Layout::Map(shape) => shape.pixels() as usize,
            _ => 0,
        };
        // Three channels of some picture, and the one of zeros that pads them.
        let image = (0..4 * pixels).map(|at| match at % 4 {
            3 => 0.0,
            channel => ((at / 4 * 7 + channel * 13) % 101) as f32 / 50.0 - 1.0,
        });
        Ok(Self {
            backward: backward().count(),
            dispatches: backward().map(|step| step.launches).sum(),
            stashed: profile.stashes.iter().map(|stash| stash.held_bytes).sum(),
            images: image.collect(),
            labels: (0..batch).map(|image| image % 10).collect(),
            session,
            seconds: Vec::new(),
        })
    }

    /// The first step compiles and does not count.
    fn step(&mut self, step: u64) -> Result<(), Error> {
        let options = StepOptions {
            step,
            learning_rate: 1e-3,
            seed: 0,
        };
        let start = Instant::now();
        self.session
            .train_step(&self.images, &self.labels, &options)?;
        self.session.metrics()?;
        if step > 0 {
            self.seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
