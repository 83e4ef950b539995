//! The filtered backward pass of a convolution against the exact one, interleaved: patch sums, patch averages, tap sums, both products,
//! and the gradient written to every pixel and every tap, against input and weight gradient of `smidgen-conv`, each by the fastest of all
//! variants that tuning would measure (Winograd's method among them). Ratios are given with the patch sums and without: a network takes them in its
//! forward pass.
//!
//! `cargo bench -p smidgen-benches --bench gradient_filter`, with parts of layer names to run only those, `--parts` for the time of
//! each launch, and `--batch=N` for other batches than 8.
#![allow(clippy::print_stdout)] // A table is what this program is for.

use smidgen_benches::{Memory, device};
use smidgen_conv::{ConvolutionShape, Pass, Variant};
use smidgen_filter::{
    FilterShape, InputGradient, PatchAverages, PatchSums, TapSums, Taps, TowardsInput,
    WeightGradient,
};
use smidgen_gpu::{Device, Launch, Sequence};
use std::error::Error;
use std::ops::Range;
use std::time::Instant;

const ROUNDS: usize = 9;
/// Milliseconds that an arm works at least in a round: its launches are recorded so often. In a training step they are not alone either, and what else
/// the machine does meets all arms alike.
const LEAST: f64 = 20.0;
/// The same where variants are tried.
const LEAST_TRIED: f64 = 2.0;
const PATCHES: [u32; 2] = [2, 4];

/// Launches, and what they work on.
type Prepared = (Memory, Vec<Launch>);

struct Layer {
    name: &'static str,
    batch: u32,
    input: [u32; 3],
    outputs: u32,
    kernel: u32,
    depthwise: bool,
}

const fn layer(name: &'static str, input: [u32; 3], outputs: u32, kernel: u32) -> Layer {
    Layer {
        name,
        batch: 8,
        input,
        outputs,
        kernel,
        depthwise: false,
    }
}

const LAYERS: [Layer; 11] = [
    layer("3x3, 64 on 56x56", [64, 56, 56], 64, 3),
    layer("3x3, 64 on 28x28", [64, 28, 28], 64, 3),
    layer("3x3, 64 on 14x14", [64, 14, 14], 64, 3),
    layer("3x3, 128 on 56x56", [128, 56, 56], 128, 3),
    layer("3x3, 128 on 28x28", [128, 28, 28], 128, 3),
    layer("3x3, 128 on 14x14", [128, 14, 14], 128, 3),
    layer("3x3, 256 on 56x56", [256, 56, 56], 256, 3),
    layer("3x3, 256 on 28x28", [256, 28, 28], 256, 3),
    layer("3x3, 256 on 14x14", [256, 14, 14], 256, 3),
    layer("1x1, 96 to 576 on 14x14", [96, 14, 14], 576, 1),
    Layer {
        depthwise: true,
        ..layer("depthwise 3x3, 576 on 14x14", [576, 14, 14], 576, 3)
    },
];

/// The regions of both passes of the exact backward pass by these variants (of the weight and of the input gradient), which read one output gradient.
fn exact_regions(
    layer: &Layer,
    device: &Device,
    [by_weight, by_input]: [Option<Variant>; 2],
    memory: &mut Memory,
) -> Result<(smidgen_conv::WeightGradient, smidgen_conv::InputGradient), Box<dyn Error>> {
    let (shape, facts) = (exact_shape(layer), device.facts());
    let mut workspace = |pass, variant| -> Result<_, Box<dyn Error>> {
        let bytes = smidgen_conv::workspace(pass, &shape, facts, variant)?;
        Ok((bytes > 0).then(|| memory.values(bytes)))
    };
    let workspaces = [
        workspace(Pass::WeightGradient, by_weight)?,
        workspace(Pass::InputGradient, by_input)?,
    ];
    let output_gradient = memory.values(shape.output_bytes());
    let weight = smidgen_conv::WeightGradient {
        input: memory.values(shape.input_bytes()).into(),
        output_gradient,
        weight_gradient: memory.values(shape.weight_bytes()),
        bias_gradient: None,
        workspace: workspaces[0],
    };
    let input = smidgen_conv::InputGradient {
        output_gradient,
        weight: memory.values(shape.weight_bytes()),
        input_gradient: memory.values(shape.input_bytes()),
        accumulate: false,
        derivative: None,
        workspace: workspaces[1],
    };
    Ok((weight, input))
}

fn exact_shape(layer: &Layer) -> ConvolutionShape {
    ConvolutionShape::new(layer.batch, layer.input, layer.outputs, [layer.kernel; 2])
        .with_padding(layer.kernel / 2)
        .with_groups(if layer.depthwise { layer.outputs } else { 1 })
}

/// The fastest of several ways: the least of three times, by turns.
fn fastest<Way: Copy>(
    ways: Vec<Way>,
    device: &Device,
    launches: impl Fn(Way, &mut Memory) -> Result<Vec<Launch>, Box<dyn Error>>,
) -> Result<Way, Box<dyn Error>> {
    let mut arms = Vec::new();
    for way in ways {
        let mut memory = Memory::new();
        let launches = launches(way, &mut memory)?;
        arms.push((way, Arm::new(device, (memory, launches), LEAST_TRIED)?));
    }
    for _ in 0..3 {
        for (_, arm) in &mut arms {
            arm.run(device)?;
        }
    }
    let least = |arm: &Arm| arm.milliseconds.iter().copied().fold(f64::MAX, f64::min);
    arms.sort_by(|left, right| least(&left.1).total_cmp(&least(&right.1)));
    let best = arms.first().ok_or("no variant of this pass fits")?.0;
    drop(arms);
    smidgen_benches::release(device);
    Ok(best)
}

/// Both passes, by what is fastest of all that tuning would measure: the fastest variant of each one after the other, or one that computes both in one
/// dispatch. Variants of the weight and of the input gradient.
fn exact(layer: &Layer, device: &Device) -> Result<(Prepared, [Variant; 2]), Box<dyn Error>> {
    let (shape, facts) = (exact_shape(layer), device.facts());
    let candidates = |pass| smidgen_conv::candidates(pass, &shape, facts, u64::MAX);
    let by_weight = fastest(
        candidates(Pass::WeightGradient)?,
        device,
        |variant, memory| {
            let (regions, _) = exact_regions(layer, device, [Some(variant), None], memory)?;
            let launches = smidgen_conv::weight_gradient(&shape, facts, Some(variant), &regions)?;
            Ok(launches)
        },
    )?;
    let by_input = fastest(
        candidates(Pass::InputGradient)?,
        device,
        |variant, memory| {
            let (_, regions) = exact_regions(layer, device, [None, Some(variant)], memory)?;
            let launches = smidgen_conv::input_gradient(&shape, facts, Some(variant), &regions)?;
            Ok(launches)
        },
    )?;
    let both = |variants: [Variant; 2], memory: &mut Memory| {
        let [by_weight, by_input] = variants.map(Some);
        let (weight, input) = exact_regions(layer, device, [by_weight, by_input], memory)?;
        let variants = [by_input, by_weight];
        let launches = smidgen_conv::backward(&shape, facts, variants, &input, &weight)?;
        Ok(launches)
    };
    let fused = smidgen_conv::fused_candidates(&shape, facts)?;
    let mut ways = vec![[by_weight, by_input]];
    ways.extend(fused.into_iter().map(|variant| [variant; 2]));
    let best = fastest(ways, device, both)?;
    let mut memory = Memory::new();
    let launches = both(best, &mut memory)?;
    Ok(((memory, launches), best))
}

/// Everything that the filter does for a layer; the patch sums are the first launch.
fn filtered(layer: &Layer, patch: u32, device: &Device) -> Result<Prepared, Box<dyn Error>> {
    let shape = FilterShape::new(
        layer.batch,
        layer.input,
        layer.outputs,
        [layer.kernel; 2],
        patch,
    )
    .with_padding(layer.kernel / 2);
    let shape = FilterShape {
        depthwise: layer.depthwise,
        ..shape
    };
    let facts = device.facts();
    let mut memory = Memory::new();
    let regions = PatchSums {
        input: memory.values(shape.input_bytes()).into(),
        patch_sums: memory.values(shape.patch_sums_bytes()),
        slope_counts: None,
    };
    let patch_sums = regions.patch_sums;
    let mut launches = smidgen_filter::patch_sums(&shape, facts, &regions)?;
    let regions = PatchAverages {
        output_gradient: memory.values(shape.output_bytes()),
        patch_averages: memory.values(shape.patch_averages_bytes()),
    };
    let patch_averages = regions.patch_averages;
    let weight = memory.values(shape.weight_bytes());
    // The sums over one tap are that tap.
    let tap_sums = if layer.kernel == 1 {
        launches.extend(smidgen_filter::patch_averages(&shape, facts, &regions)?);
        weight
    } else {
        let by_taps = TapSums {
            weight,
            tap_sums: memory.values(shape.tap_sums_bytes()),
        };
        launches.extend(smidgen_filter::averages_and_tap_sums(
            &shape, facts, &regions, &by_taps,
        )?);
        by_taps.tap_sums
    };
    let workspace = smidgen_filter::weight_gradient_workspace(&shape, facts)?;
    let by_weight = WeightGradient {
        patch_sums,
        patch_averages,
        weight_gradient: memory.values(shape.weight_bytes()),
        taps: Taps::Every,
        workspace: (workspace > 0).then(|| memory.values(workspace)),
    };
    let by_input = TowardsInput::Map(InputGradient {
        patch_averages,
        weight: tap_sums,
        input_gradient: memory.values(shape.input_bytes()),
        accumulate: false,
        mask: None,
        normalisation: None,
    });
    launches.extend(smidgen_filter::gradients(
        &shape, facts, &by_weight, &by_input,
    )?);
    Ok((memory, launches))
}

/// Launches made ready, on memory of their own.
struct Arm {
    sequence: Sequence,
    repeats: u32,
    milliseconds: Vec<f64>,
}

impl Arm {
    fn new(
        device: &Device,
        (memory, launches): Prepared,
        least: f64,
    ) -> Result<Self, Box<dyn Error>> {
        let buffer = memory.upload(device)?;
        let sequence = Sequence::prepare(device, &launches, &[&buffer])?;
        // Drivers compile a kernel when it first runs.
        device.run(|pass| sequence.record(pass))?;
        let once = milliseconds(device, &sequence, 0..sequence.len(), 1)?;
        Ok(Self {
            sequence,
            repeats: (least / once).ceil().clamp(1.0, 1000.0) as u32,
            milliseconds: Vec::new(),
        })
    }

    fn run(&mut self, device: &Device) -> Result<(), Box<dyn Error>> {
        let all = 0..self.sequence.len();
        let time = milliseconds(device, &self.sequence, all, self.repeats)?;
        self.milliseconds.push(time);
        Ok(())
    }

    /// The median time of each launch alone.
    fn parts(&self, device: &Device) -> Result<Vec<(String, f64)>, Box<dyn Error>> {
        let mut parts = Vec::new();
        for at in 0..self.sequence.len() {
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                let time = milliseconds(device, &self.sequence, at..at + 1, self.repeats)?;
                times.push(time);
            }
            parts.push((
                self.sequence.label(at).unwrap_or("").to_owned(),
                median(&mut times),
            ));
        }
        Ok(parts)
    }
}

/// Of a range of launches, recorded so often; from their submission to their end.
fn milliseconds(
    device: &Device,
    sequence: &Sequence,
    range: Range<usize>,
    repeats: u32,
) -> Result<f64, Box<dyn Error>> {
    let mut encoder = device.wgpu().create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        (0..repeats).for_each(|_| sequence.record_range(&mut pass, range.clone()));
    }
    let commands = encoder.finish();
    let start = Instant::now();
    let submission = device.queue().submit([commands]);
    device.wait_for(&submission)?;
    Ok(start.elapsed().as_secs_f64() * 1e3 / f64::from(repeats))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let parts = arguments.iter().any(|argument| argument == "--parts");
    let names: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let batch = (arguments.iter())
        .find_map(|argument| argument.strip_prefix("--batch="))
        .map_or(Ok(8), str::parse)?;
    let device = device();
    println!("{}, {}", device.facts().name, device.facts().driver);
    println!(
        "batch {batch}, median of {ROUNDS} rounds; ratios are medians of the ratios of a round"
    );
    println!(
        "| layer | exact by | exact | patch 2 | patch 4 | ratio 2 | ratio 4 | ratio 2, sums forward | ratio 4, sums forward |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    for layer in &LAYERS.map(|layer| Layer { batch, ..layer }) {
        if !names.is_empty() && !names.iter().any(|name| layer.name.contains(name.as_str())) {
            continue;
        }
        let (prepared, [by_weight, by_input]) = exact(layer, device)?;
        let mut arms = vec![Arm::new(device, prepared, LEAST)?];
        for patch in PATCHES {
            arms.push(Arm::new(device, filtered(layer, patch, device)?, LEAST)?);
        }
        for patch in PATCHES {
            let (memory, mut launches) = filtered(layer, patch, device)?;
            launches.remove(0);
            arms.push(Arm::new(device, (memory, launches), LEAST)?);
        }
        for _ in 0..ROUNDS {
            for arm in &mut arms {
                arm.run(device)?;
            }
        }
        let ratio = |arm: &Arm| {
            let pairs = arms[0].milliseconds.iter().zip(&arm.milliseconds);
            median(
                &mut pairs
                    .map(|(exact, other)| exact / other)
                    .collect::<Vec<_>>(),
            )
        };
        let ratios = [1, 2, 3, 4].map(|at: usize| ratio(&arms[at]));
        let times = [0, 1, 2].map(|at: usize| median(&mut arms[at].milliseconds.clone()));
        println!(
            "| {} | {by_weight}, {by_input} | {:.2} ms | {:.2} ms | {:.2} ms | {:.1} | {:.1} | {:.1} | {:.1} |",
            layer.name, times[0], times[1], times[2], ratios[0], ratios[1], ratios[2], ratios[3]
        );
        if parts {
            for arm in &arms[..3] {
                for (label, time) in arm.parts(device)? {
                    println!("    {label}: {time:.2} ms");
                }
            }
        }
        smidgen_benches::release(device);
    }
    Ok(())
}
