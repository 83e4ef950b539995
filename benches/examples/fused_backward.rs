//! Both gradients of a convolution in one dispatch, beside the fastest kernels that compute them one after the other: time, launches, and
//! the bytes that they bind (what would move if each read and wrote everything once); then whole steps of MobileNetV2. Tables in Markdown.
//!
//! `cargo run --release -p smidgen-benches --example fused_backward [PART OF A NAME | steps]`
#![allow(clippy::print_stdout, clippy::print_stderr)] // A program of its own.

use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Choices, Session, SessionOptions, StepOptions, Training, Tuning, zoo};
use smidgen_benches::{Memory, Work, device};
use smidgen_conv::{
    ConvolutionShape, InputGradient, Pass, Variant, WeightGradient, backward, candidates, fuses,
    input_gradient, weight_gradient, workspace,
};
use smidgen_gpu::{Activation, Launch, Region, Source, normalisation_bytes};
use std::error::Error;
use std::time::{Duration, Instant};

/// Rounds in which every way takes its turn; the median counts.
const ROUNDS: usize = 9;
/// Rounds in which candidates are told apart; the least time counts.
const TRIALS: usize = 3;
/// Each turn runs a way so often that it takes at least so long.
const TURN: Duration = Duration::from_millis(8);

fn layers() -> Vec<(&'static str, ConvolutionShape)> {
    let square = |batch, channels, size, outputs, kernel: u32| {
        ConvolutionShape::new(batch, [channels, size, size], outputs, [kernel; 2])
            .with_padding(kernel / 2)
    };
    let depthwise = |batch, channels, size, stride| {
        square(batch, channels, size, channels, 3)
            .with_groups(channels)
            .with_stride(stride)
    };
    vec![
        ("depthwise 3x3, 8x96x28x28", depthwise(8, 96, 28, 1)),
        ("depthwise 3x3, 8x32x56x56", depthwise(8, 32, 56, 1)),
        ("depthwise 3x3, 8x144x28x28", depthwise(8, 144, 28, 1)),
        ("depthwise 3x3, 8x576x14x14", depthwise(8, 576, 14, 1)),
        ("depthwise 3x3, 8x960x7x7", depthwise(8, 960, 7, 1)),
        ("depthwise 3x3 by 2, 8x96x56x56", depthwise(8, 96, 56, 2)),
        ("depthwise 3x3 by 2, 8x192x28x28", depthwise(8, 192, 28, 2)),
        ("depthwise 3x3 by 2, 8x576x14x14", depthwise(8, 576, 14, 2)),
        (
            "depthwise 5x5, 8x240x14x14",
            square(8, 240, 14, 240, 5).with_groups(240),
        ),
    ]
}

/// Where the passes read and write.
struct Places {
    memory: Memory,
    input: Source,
    weight: Region,
    output_gradient: Region,
    input_gradient: Region,
    weight_gradient: Region,
    workspace: Region,
}

impl Places {
    /// The input is read through a normalisation and ReLU6, as in MobileNetV2.
    fn new(shape: &ConvolutionShape, most_workspace: u64) -> Self {
        let mut memory = Memory::new();
        let region = memory.values(shape.input_bytes());
        let normalisation = memory.values(normalisation_bytes(shape.input_channels));
        Self {
            input: Source {
                region,
                normalisation: Some(normalisation),
                activation: Activation::Relu6,
            },
            weight: memory.values(shape.weight_bytes()),
            output_gradient: memory.values(shape.output_bytes()),
            input_gradient: memory.values(shape.input_bytes()),
            weight_gradient: memory.values(shape.weight_bytes()),
            workspace: memory.values(most_workspace.max(16)),
            memory,
        }
    }

    fn by_input(&self) -> InputGradient {
        InputGradient {
            output_gradient: self.output_gradient,
            weight: self.weight,
            input_gradient: self.input_gradient,
            accumulate: false,
            derivative: None,
            workspace: Some(self.workspace),
        }
    }

    fn by_weight(&self) -> WeightGradient {
        WeightGradient {
            input: self.input,
            output_gradient: self.output_gradient,
            weight_gradient: self.weight_gradient,
            bias_gradient: None,
            workspace: Some(self.workspace),
        }
    }
}

/// Launches that are measured, and how often a turn runs them.
struct Way {
    work: Work,
    repeats: u64,
    launches: usize,
    bytes: u64,
}

impl Way {
    fn new(places: &Places, launches: &[Launch]) -> Result<Self, Box<dyn Error>> {
        let work = Work::prepare(&places.memory, launches)?;
        let once = work.run(1)?;
        let regions = launches.iter().flat_map(|launch| &launch.regions);
        Ok(Self {
            repeats: (TURN.as_nanos() / once.as_nanos().max(1) + 1) as u64,
            work,
            launches: launches.len(),
            bytes: regions.map(|region| region.size).sum(),
        })
    }

    fn milliseconds(&self) -> Result<f64, Box<dyn Error>> {
        Ok(self.work.run(self.repeats)?.as_secs_f64() * 1e3 / self.repeats as f64)
    }
}

/// The fastest of some variants, by the least of a few trials.
fn fastest(
    variants: &[Variant],
    way: impl Fn(Variant) -> Result<Way, Box<dyn Error>>,
) -> Result<Option<Variant>, Box<dyn Error>> {
    let ways = variants
        .iter()
        .map(|variant| way(*variant))
        .collect::<Result<Vec<_>, _>>()?;
    let mut least = vec![f64::INFINITY; ways.len()];
    for _ in 0..TRIALS {
        for (least, way) in least.iter_mut().zip(&ways) {
            *least = least.min(way.milliseconds()?);
        }
    }
    let best = variants
        .iter()
        .zip(&least)
        .min_by(|(_, a), (_, b)| a.total_cmp(b));
    Ok(best.map(|(variant, _)| *variant))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(name: &str, shape: &ConvolutionShape) -> Result<(), Box<dyn Error>> {
    let facts = device().facts();
    let of = |pass| candidates(pass, shape, facts, u64::MAX);
    let (by_input, by_weight) = (of(Pass::InputGradient)?, of(Pass::WeightGradient)?);
    let mut most_workspace = 0;
    for (pass, variants) in [
        (Pass::InputGradient, &by_input),
        (Pass::WeightGradient, &by_weight),
    ] {
        for variant in variants {
            most_workspace = most_workspace.max(workspace(pass, shape, facts, Some(*variant))?);
        }
    }
    let places = Places::new(shape, most_workspace);
    let input_way = |variant: Variant| {
        let launches = input_gradient(shape, facts, Some(variant), &places.by_input())?;
        Way::new(&places, &launches)
    };
    let weight_way = |variant: Variant| {
        let launches = weight_gradient(shape, facts, Some(variant), &places.by_weight())?;
        Way::new(&places, &launches)
    };
    let fused_way = |variant: Variant| {
        let both = [Some(variant); 2];
        let (by_input, by_weight) = (places.by_input(), places.by_weight());
        Way::new(
            &places,
            &backward(shape, facts, both, &by_input, &by_weight)?,
        )
    };
    let fusing = |variant: &Variant| fuses(shape, facts, [Some(*variant); 2]).unwrap_or(false);
    let split = |variants: &[Variant]| -> (Vec<Variant>, Vec<Variant>) {
        variants.iter().partition(|variant| fusing(variant))
    };
    let ((strips, plain_input), (_, plain_weight)) = (split(&by_input), split(&by_weight));
    let Some(default) = strips.first().copied() else {
        println!("| {name} | cannot be fused |");
        return Ok(());
    };
    let best = fastest(&strips, fused_way)?.unwrap_or(default);
    let best_input = fastest(&plain_input, input_way)?.unwrap_or(default);
    let best_weight = fastest(&plain_weight, weight_way)?.unwrap_or(default);
    let ways = [
        input_way(best_input)?,
        weight_way(best_weight)?,
        input_way(default)?,
        weight_way(default)?,
        fused_way(default)?,
        fused_way(best)?,
    ];
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for (times, way) in times.iter_mut().zip(&ways) {
            times.push(way.milliseconds()?);
        }
    }
    let ratios = |above: [usize; 2], below: usize| {
        let rounds = 0..ROUNDS;
        median(
            rounds
                .map(|at| above.iter().map(|way| times[*way][at]).sum::<f64>() / times[below][at])
                .collect(),
        )
    };
    let (plain, apart, fused) = (ratios([0, 1], 4), ratios([2, 3], 4), ratios([0, 1], 5));
    let times: Vec<f64> = times.into_iter().map(median).collect();
    let megabytes = |way: &Way| way.bytes as f64 / 1e6;
    println!(
        "| {name} | {:.2} + {:.2} ms, {} launches, {:.1} MB | {:.2} + {:.2} ms | {:.2} ms, {} launches, {:.1} MB | {plain:.2} | {apart:.2} | {fused:.2} (`{best}`) |",
        times[0],
        times[1],
        ways[0].launches + ways[1].launches,
        megabytes(&ways[0]) + megabytes(&ways[1]),
        times[2],
        times[3],
        times[4],
        ways[4].launches,
        megabytes(&ways[4]),
    );
    eprintln!("{name}: {best_input}, {best_weight}, {default}");
    Ok(())
}

const SIDE: u32 = 64;
const BATCH: u32 = 8;

/// A training session of MobileNetV2 by these variants.
fn session(tuning: &Tuning) -> Result<Session, Box<dyn Error>> {
    let options = SessionOptions {
        batch: BATCH,
        training: Some(Training::default()),
        budget: None,
    };
    let graph = zoo::build("mobilenet_v2", 10, [3, SIDE, SIDE])?;
    let own = Device::open(&DeviceRequest::default())?;
    Ok(Session::tuned(own, &graph, &options, 1, tuning, |_, _| {})?)
}

/// The same choices, but for what computes depthwise gradients by strips; told whether that is an input gradient.
fn others(
    choices: &Choices,
    variant: impl Fn(bool, &str) -> String,
) -> Result<Tuning, serde_json::Error> {
    let mut choices = serde_json::to_value(choices)?;
    for (class, known) in choices.as_object_mut().into_iter().flatten() {
        if let Some(text) = known.as_str().filter(|text| text.starts_with("strips")) {
            *known = variant(class.starts_with("input gradient"), text).into();
        }
    }
    Ok(Tuning::Recorded(serde_json::from_value(choices)?))
}

fn steps() -> Result<(), Box<dyn Error>> {
    let fused = session(&Tuning::Off)?;
    let before = others(fused.choices(), |by_input, _| {
        let before = if by_input {
            "direct 4x1"
        } else {
            "blocks 1x3x1 pixels 4 lanes 64 shares 1"
        };
        before.into()
    })?;
    // Strips of another width: not the kernel of the weight gradient.
    let apart = others(fused.choices(), |by_input, text| {
        let other = text.replace("strips 4x", "strips 2x");
        if by_input { other } else { text.into() }
    })?;
    let mut ways = [session(&before)?, session(&apart)?, fused];
    let images = vec![0.5; (BATCH * 4 * SIDE * SIDE) as usize];
    let labels: Vec<u32> = (0..BATCH).collect();
    let mut times = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS as u64 {
        for (times, session) in times.iter_mut().zip(&mut ways) {
            let options = StepOptions {
                step: round,
                learning_rate: 0.01,
                seed: 0,
            };
            let start = Instant::now();
            session.train_step(&images, &labels, &options)?;
            session.metrics()?;
            // The first round warms up.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    println!("\n| step of MobileNetV2, {BATCH}x3x{SIDE}x{SIDE} | time | operations | arena |");
    println!("|---|---|---|---|");
    let names = ["one after the other, before", "strips, apart", "fused"];
    for ((name, times), session) in names.iter().zip(times).zip(&ways) {
        println!(
            "| {name} | {:.1} ms | {} | {:.1} MB |",
            median(times),
            session.main_program().operations.len(),
            session.footprint().arena as f64 / 1e6
        );
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let part = std::env::args().nth(1).unwrap_or_default();
    if part == "steps" {
        return steps();
    }
    println!(
        "| layer | fastest others, apart | strips, apart | fused | others by fused | apart by fused | others by fastest fused |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, shape) in layers() {
        if name.contains(&part) {
            row(name, &shape)?;
        }
    }
    if part.is_empty() { steps() } else { Ok(()) }
}
