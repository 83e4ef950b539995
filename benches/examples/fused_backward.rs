//! Both gradients of a convolution in one dispatch, beside the fastest kernels that compute them one after the other: time, launches, and
//! the bytes that they bind (what would move if each read and wrote everything once); then whole steps of MobileNetV2. Tables in Markdown.
//!
//! `cargo run --release -p smidgen-benches --example fused_backward [PART OF A NAME | rule | steps]`; `rule`: the depthwise layers of MobileNetV2 on
//! 8x3x64x64 by the kernels that are taken without tuning, beside the fastest of all for each gradient.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A program of its own.

use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Choices, Session, SessionOptions, StepOptions, Training, Tuning, zoo};
use smidgen_benches::{Memory, Work, device};
use smidgen_conv::{
    ConvolutionShape, InputGradient, Pass, ShapeError, Variant, WeightGradient, backward,
    candidates, fused_candidates, fuses, input_gradient, weight_gradient, workspace,
};
use smidgen_gpu::{Activation, Launch, Region, Source, normalisation_bytes, wgpu};
use std::error::Error;
use std::time::{Duration, Instant};

/// Rounds in which every way takes its turn; the median counts.
const ROUNDS: usize = 9;
/// Rounds in which candidates are told apart; the least time counts.
const TRIALS: usize = 3;
/// Each turn runs a way so often that it takes at least so long.
const TURN: Duration = Duration::from_millis(8);

fn layers(by_rule: bool) -> Vec<(String, ConvolutionShape)> {
    let mut layers = Vec::new();
    let mut add = |batch, channels, size, outputs, kernel: u32, stride, groups| {
        let shape = ConvolutionShape::new(batch, [channels, size, size], outputs, [kernel; 2])
            .with_padding(kernel / 2)
            .with_stride(stride)
            .with_groups(groups);
        let depthwise = if groups > 1 { "depthwise " } else { "" };
        let by = if stride > 1 { " by 2" } else { "" };
        let to = if groups > 1 {
            String::new()
        } else {
            format!(" to {outputs}")
        };
        let name =
            format!("{depthwise}{kernel}x{kernel}{by}, {batch}x{channels}x{size}x{size}{to}");
        layers.push((name, shape));
    };
    if by_rule {
        for (channels, size, stride) in [
            (32, 32, 1),
            (96, 32, 2),
            (144, 16, 1),
            (144, 16, 2),
            (192, 8, 1),
            (192, 8, 2),
            (384, 4, 1),
            (576, 4, 1),
            (576, 4, 2),
            (960, 2, 1),
        ] {
            add(BATCH, channels, size, channels, 3, stride, channels);
        }
        return layers;
    }
    for (channels, size, kernel, stride) in [
        (96, 28, 3, 1),
        (32, 56, 3, 1),
        (144, 28, 3, 1),
        (576, 14, 3, 1),
        (960, 7, 3, 1),
        (96, 56, 3, 2),
        (192, 28, 3, 2),
        (576, 14, 3, 2),
        (240, 14, 5, 1),
    ] {
        add(8, channels, size, channels, kernel, stride, channels);
    }
    for (batch, channels, size, stride) in [(128, 144, 28, 1), (128, 192, 28, 2)] {
        add(batch, channels, size, channels, 3, stride, channels);
    }
    layers
}

/// Where the passes read and write.
struct Places {
    buffer: wgpu::Buffer,
    input: Source,
    weight: Region,
    output_gradient: Region,
    input_gradient: Region,
    weight_gradient: Region,
    workspace: Region,
}

impl Places {
    /// The input is read through a normalisation and ReLU6, as in MobileNetV2.
    fn new(shape: &ConvolutionShape, most_workspace: u64) -> Result<Self, Box<dyn Error>> {
        let mut memory = Memory::new();
        let region = memory.values(shape.input_bytes());
        let normalisation = memory.values(normalisation_bytes(shape.input_channels));
        let input = Source {
            region,
            normalisation: Some(normalisation),
            activation: Activation::Relu6,
        };
        let [
            weight,
            output_gradient,
            input_gradient,
            weight_gradient,
            workspace,
        ] = [
            shape.weight_bytes(),
            shape.output_bytes(),
            shape.input_bytes(),
            shape.weight_bytes(),
            most_workspace.max(16),
        ]
        .map(|bytes| memory.values(bytes));
        Ok(Self {
            buffer: memory.upload(device())?,
            input,
            weight,
            output_gradient,
            input_gradient,
            weight_gradient,
            workspace,
        })
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
        let work = Work::prepare_in(&places.buffer, launches)?;
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
    what: &str,
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
    let mut order: Vec<_> = variants.iter().zip(least).collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let listed = order
        .iter()
        .map(|(variant, least)| format!("{variant}: {least:.3}"));
    eprintln!("  {what}: {}", listed.collect::<Vec<_>>().join("; "));
    Ok(order.first().map(|(variant, _)| **variant))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(name: &str, shape: &ConvolutionShape, by_rule: bool) -> Result<(), Box<dyn Error>> {
    let facts = device().facts();
    let of = |pass| -> Result<Vec<Variant>, ShapeError> {
        let mut variants = candidates(pass, shape, facts, u64::MAX)?;
        let fuse = |variant| fuses(shape, facts, [Some(variant); 2]).unwrap_or(false);
        variants.retain(|variant| by_rule || !fuse(*variant));
        Ok(variants)
    };
    let (by_input, by_weight) = (of(Pass::InputGradient)?, of(Pass::WeightGradient)?);
    let mut fusing = fused_candidates(shape, facts)?;
    if by_rule {
        fusing.truncate(1);
    }
    let mut most_workspace = 0;
    for (pass, variants) in [
        (Pass::InputGradient, &by_input),
        (Pass::WeightGradient, &by_weight),
        (Pass::WeightGradient, &fusing),
    ] {
        for variant in variants {
            most_workspace = most_workspace.max(workspace(pass, shape, facts, Some(*variant))?);
        }
    }
    let places = Places::new(shape, most_workspace)?;
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
    eprintln!("{name}");
    let found = (
        fastest("input gradient", &by_input, input_way)?,
        fastest("weight gradient", &by_weight, weight_way)?,
        fastest("both", &fusing, fused_way)?,
    );
    let (Some(best_input), Some(best_weight), Some(best)) = found else {
        println!("| {name} | cannot be fused |");
        return Ok(());
    };
    let ways = [
        input_way(best_input)?,
        weight_way(best_weight)?,
        input_way(best)?,
        weight_way(best)?,
        fused_way(best)?,
    ];
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for (times, way) in times.iter_mut().zip(&ways) {
            times.push(way.milliseconds()?);
        }
    }
    let by_fused = |above: [usize; 2]| {
        let rounds = 0..ROUNDS;
        median(
            rounds
                .map(|at| above.iter().map(|way| times[*way][at]).sum::<f64>() / times[4][at])
                .collect(),
        )
    };
    let (others, apart) = (by_fused([0, 1]), by_fused([2, 3]));
    let times: Vec<f64> = times.into_iter().map(median).collect();
    let megabytes = |way: &Way| way.bytes as f64 / 1e6;
    println!(
        "| {name} | {:.3} + {:.3} ms, {} launches, {:.1} MB | {:.3} + {:.3} ms | {:.3} ms, {} launches, {:.1} MB (`{best}`) | {others:.2} | {apart:.2} |",
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
    // Every layer has memory of its own.
    drop(ways);
    places.buffer.destroy();
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
    let by_rule = part == "rule";
    println!(
        "| layer | fastest others, apart | the same kernel, apart | fused | others by fused | apart by fused |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, shape) in layers(by_rule) {
        if by_rule || name.contains(&part) {
            row(&name, &shape, by_rule)?;
        }
    }
    if part.is_empty() { steps() } else { Ok(()) }
}
