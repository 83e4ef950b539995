//! Every way to compute the dense layers of the peer table at sizes that fill a GPU: time, rate and error of each variant, the fastest first.
//!
//! `cargo run --release -p smidgen-benches --example tiles -- [SECONDS] [PART OF A LAYER] [PART OF A VARIANT]`: tables on standard output:
//! time, GFLOP/s, share of the peak of multiply-adds, difference from the result of the rule (norm by norm, at both ends). A time is the
//! median of seven or more between timestamps (of the clock, where there are none) on a device that was busy before, on data that changes
//! places in memory as large as several caches. After so many seconds (60 by default) what is left is not measured.

#![allow(clippy::print_stdout)]

use smidgen_benches::{Memory, device, release};
use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, Variant, WeightGradient, candidates, fits,
    forward, input_gradient, weight_gradient, workspace,
};
use smidgen_gpu::{GpuError, Launch, Region, Sequence, Timeline, wgpu};
use smidgen_ops::probe::{FmaPeak, fma_peak};
use std::error::Error;
use std::time::Instant;

/// The bytes that the sets of a layer's maps should take together, beyond any cache.
const ROTATED_BYTES: u64 = 160 << 20;
const MOST_SETS: u64 = 8;
const LEAST_TIMES: usize = 7;
/// How long each variant runs before it is timed.
const WARM_SECONDS: f64 = 0.01;
/// Numbers at each end of a result that are compared.
const COMPARED: usize = 1 << 15;
const PASSES: [Pass; 3] = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];

/// Batch, channels, side, output channels and kernel: sizes that fill a GPU, then those of `smidgen bench`.
const LAYERS: [[u32; 5]; 13] = [
    [128, 64, 56, 64, 3],
    [128, 128, 28, 128, 3],
    [128, 256, 14, 256, 3],
    [1024, 16, 32, 16, 3],
    [1024, 32, 16, 32, 3],
    [1024, 64, 8, 64, 3],
    [128, 64, 28, 384, 1],
    [8, 64, 56, 64, 3],
    [8, 128, 28, 128, 3],
    [8, 256, 14, 256, 3],
    [32, 16, 32, 16, 3],
    [32, 32, 16, 32, 3],
    [32, 64, 8, 64, 3],
];

const TILES: [&str; 9] = [
    "8x2 lanes 16x8",
    "8x2 lanes 32x4",
    "8x2 lanes 64x2",
    "4x4 lanes 32x4",
    "4x2 lanes 32x4",
    "4x2 lanes 64x2",
    "8x2 lanes 32x2x2",
    "4x2 lanes 32x2x2",
    "4x2 lanes 16x2x4",
];
/// Source quads held at a time, for 3x3 and for 1x1 kernels.
const DEPTHS: [&[u32]; 2] = [&[1, 2, 4], &[4, 2]];

const BLOCKS: [&str; 12] = [
    "2x3x1 pixels 2 lanes 8x8x1 runs 14",
    "2x3x1 pixels 2 lanes 8x8x1 runs 28",
    "2x3x1 pixels 2 lanes 8x8x1 runs 32",
    "2x3x1 pixels 2 lanes 8x4x2 runs 14",
    "2x3x1 pixels 2 lanes 8x4x2 runs 28",
    "2x3x1 pixels 2 lanes 8x4x2 runs 32",
    "2x3x1 pixels 2 lanes 4x8x2 runs 16",
    "2x3x1 pixels 2 lanes 4x4x4 runs 32",
    "2x3x1 pixels 2 lanes 2x4x8 runs 32",
    "2x3x1 pixels 4 lanes 2x4x8 runs 16",
    "2x1x2 pixels 2 lanes 8x8x2 runs 14",
    "2x1x2 pixels 2 lanes 8x8x2 runs 28",
];
const SHARES: [u32; 4] = [8, 32, 128, 512];

/// Regions of one set of a layer's maps.
struct Set {
    input: Region,
    output: Region,
    weight: Region,
    workspace: Region,
    /// What the passes write.
    results: [Region; 3],
}

struct Layer {
    shape: ConvolutionShape,
    sets: Vec<Set>,
    buffer: wgpu::Buffer,
}

impl Layer {
    fn new([batch, channels, side, outputs, kernel]: [u32; 5]) -> Result<Self, GpuError> {
        let shape = ConvolutionShape::new(batch, [channels, side, side], outputs, [kernel; 2])
            .with_padding(kernel / 2);
        let maps = shape.input_bytes() + shape.output_bytes();
        let count = (ROTATED_BYTES / (2 * maps)).clamp(1, MOST_SETS);
        let mut memory = Memory::new();
        let room = (1024 * shape.weight_bytes()).clamp(16 << 20, 64 << 20);
        let workspace = memory.values(room);
        let sets = (0..count)
            .map(|_| Set {
                input: memory.values(shape.input_bytes()),
                output: memory.values(shape.output_bytes()),
                weight: memory.values(shape.weight_bytes()),
                workspace,
                results: [
                    memory.values(shape.output_bytes()),
                    memory.values(shape.input_bytes()),
                    memory.values(shape.weight_bytes()),
                ],
            })
            .collect();
        let buffer = memory.upload(device())?;
        Ok(Self {
            shape,
            sets,
            buffer,
        })
    }

    fn launches(
        &self,
        pass: Pass,
        variant: Variant,
        set: &Set,
    ) -> Result<Vec<Launch>, Box<dyn Error>> {
        let (shape, facts, variant) = (&self.shape, device().facts(), Some(variant));
        let needed = workspace(pass, shape, facts, variant)?;
        if needed > set.workspace.size {
            return Err(format!("{} MiB of workspace", needed >> 20).into());
        }
        let workspace = (needed > 0).then_some(set.workspace);
        Ok(match pass {
            Pass::Forward => {
                let regions = Forward {
                    input: set.input.into(),
                    weight: set.weight,
                    bias: None,
                    output: set.results[0],
                    workspace,
                };
                forward(shape, facts, variant, &regions)?
            }
            Pass::InputGradient => {
                let regions = InputGradient {
                    output_gradient: set.output,
                    weight: set.weight,
                    input_gradient: set.results[1],
                    accumulate: false,
                    derivative: None,
                    workspace,
                };
                input_gradient(shape, facts, variant, &regions)?
            }
            Pass::WeightGradient => {
                let regions = WeightGradient {
                    input: set.input.into(),
                    output_gradient: set.output,
                    weight_gradient: set.results[2],
                    bias_gradient: None,
                    workspace,
                };
                weight_gradient(shape, facts, variant, &regions)?
            }
        })
    }

    /// Both ends of what a pass has written in the first set.
    fn result(&self, pass: Pass) -> Result<Vec<f32>, GpuError> {
        let region = self.sets[0].results[pass as usize];
        let count = COMPARED.min(region.size as usize / 4);
        let mut values = device().read(&self.buffer, region.offset, count)?;
        let last = region.offset + region.size - count as u64 * 4;
        values.extend(device().read::<f32>(&self.buffer, last, count)?);
        Ok(values)
    }

    /// Seconds of a run, and the result.
    fn measure(&self, pass: Pass, variant: Variant) -> Result<(f64, Vec<f32>), Box<dyn Error>> {
        let region = self.sets[0].results[pass as usize];
        let mut encoder = device()
            .wgpu()
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.clear_buffer(&self.buffer, region.offset, Some(region.size));
        device().queue().submit([encoder.finish()]);
        let mut launches = Vec::new();
        for set in &self.sets {
            launches.extend(self.launches(pass, variant, set)?);
        }
        let one = launches.len() / self.sets.len();
        let sequence = Sequence::prepare(device(), &launches, &[&self.buffer])?;
        device().run(|pass| sequence.record(pass))?;
        let result = self.result(pass)?;
        // A GPU that was idle runs slowly at first.
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < WARM_SECONDS {
            device().run(|pass| (0..8).for_each(|_| sequence.record(pass)))?;
        }
        let mut times: Vec<f64> = Vec::new();
        if device().facts().timestamps {
            let timeline = Timeline::new(device(), launches.len())?;
            while times.len() < LEAST_TIMES {
                let timings = timeline.measure(device(), &sequence)?;
                let sums = timings.chunks(one);
                times.extend(
                    sums.map(|some| some.iter().map(|one| one.time.as_secs_f64()).sum::<f64>()),
                );
            }
            device().ledger().release("timeline");
        } else {
            while times.len() < LEAST_TIMES {
                let start = Instant::now();
                device().run(|pass| sequence.record(pass))?;
                times.push(start.elapsed().as_secs_f64() / self.sets.len() as f64);
            }
        }
        device().ledger().release("kernel parameters");
        times.sort_by(f64::total_cmp);
        Ok((times[times.len() / 2], result))
    }

    /// The rule, and those of the others whose text has this part.
    fn variants(&self, pass: Pass, part: &str) -> Result<Vec<Variant>, Box<dyn Error>> {
        let (shape, facts) = (&self.shape, device().facts());
        let mut texts = Vec::new();
        if pass == Pass::WeightGradient {
            for tile in BLOCKS {
                texts.extend(SHARES.map(|shares| format!("shared-blocks {tile} shares {shares}")));
            }
        } else {
            for tile in TILES {
                let depths = DEPTHS[usize::from(shape.kernel == [1, 1])];
                texts.extend(
                    depths
                        .iter()
                        .map(|depth| format!("tiles {tile} depth {depth}")),
                );
            }
        }
        let mut variants = candidates(pass, shape, facts, 64 << 20)?;
        for text in texts {
            let variant: Variant = text.parse()?;
            if fits(variant, pass, shape, facts) && !variants.contains(&variant) {
                variants.push(variant);
            }
        }
        let rule = variants[0];
        variants.retain(|variant| *variant == rule || variant.to_string().contains(part));
        Ok(variants)
    }
}

fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| value * value).sum::<f64>().sqrt()
    };
    let [found, expected] =
        [found, expected].map(|values| values.iter().map(|value| f64::from(*value)));
    norm(&mut found.zip(expected.clone()).map(|(a, b)| a - b)) / norm(&mut expected.clone())
}

/// Multiplications and additions a second of the fastest of a few chains.
fn peak() -> Result<f64, Box<dyn Error>> {
    let mut best: f64 = 0.0;
    for chains in [4, 8, 16] {
        let probe = FmaPeak {
            chains,
            rounds: 256,
            groups: 4096,
        };
        let buffer = device().storage_buffer("benchmark", probe.output_bytes())?;
        let output = Region::whole(0, probe.output_bytes());
        let launch = fma_peak(&probe, device().facts(), output)?;
        let sequence = Sequence::prepare(device(), &[launch], &[&buffer])?;
        for _ in 0..4 {
            let start = Instant::now();
            device().run(|pass| (0..4).for_each(|_| sequence.record(pass)))?;
            best = best.max(4.0 * probe.operations() as f64 / start.elapsed().as_secs_f64());
        }
        release(device());
    }
    Ok(best)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let limit: f64 = arguments.next().map_or(Ok(60.0), |text| text.parse())?;
    let part = arguments.next().unwrap_or_default();
    let way = arguments.next().unwrap_or_default();
    let start = Instant::now();
    let peak = peak()?;
    let facts = device().facts();
    println!(
        "{}, {}: {:.0} GFLOP/s of multiply-adds",
        facts.name,
        facts.driver,
        peak / 1e9
    );
    for sizes in LAYERS {
        let [batch, channels, side, outputs, kernel] = sizes;
        let name = format!("{batch}x{channels}x{side}x{side} to {outputs}, {kernel}x{kernel}");
        if !name.contains(&part) {
            continue;
        }
        let layer = Layer::new(sizes)?;
        for pass in PASSES {
            let variants = layer.variants(pass, &way)?;
            let mut expected = None;
            let (mut lines, mut left) = (Vec::new(), 0);
            // All kernels of a pass are compiled at once, on all cores.
            let compiled: Vec<Launch> = variants
                .iter()
                .filter_map(|variant| layer.launches(pass, *variant, &layer.sets[0]).ok())
                .flatten()
                .collect();
            if let Err(error) = Sequence::prepare(device(), &compiled, &[&layer.buffer]) {
                println!("not all at once: {error}");
            }
            device().ledger().release("kernel parameters");
            for variant in variants {
                if start.elapsed().as_secs_f64() > limit {
                    left += 1;
                    continue;
                }
                match layer.measure(pass, variant) {
                    Ok((seconds, result)) => {
                        let expected = expected.get_or_insert_with(|| result.clone());
                        let rate = 2.0 * layer.shape.multiply_adds() as f64 / seconds;
                        let error = relative(&result, expected);
                        lines.push((
                            seconds,
                            format!(
                                "{:9.1} us {:7.0} {:5.3} {error:7.0e} {variant}",
                                seconds * 1e6,
                                rate / 1e9,
                                rate / peak
                            ),
                        ));
                    }
                    Err(error) => println!("{variant}: {error}"),
                }
            }
            lines.sort_by(|a, b| a.0.total_cmp(&b.0));
            println!(
                "{name}, {pass} ({:.0} s{})",
                start.elapsed().as_secs_f64(),
                if left > 0 {
                    format!(", {left} left out")
                } else {
                    String::new()
                }
            );
            for (_, line) in lines {
                println!("{line}");
            }
        }
        drop(layer);
        release(device());
    }
    Ok(())
}
