//! Time of sparse masked convolution against density, next to our own dense kernels, interleaved in one run.
//!
//! `cargo run --release -p smidgen-benches --example sparse_curve -- [--rounds 5] [--blocks 1] [--svg FILE]`: a table on standard output
//! (Markdown), the ratio dense / sparse of the median times for dense kernels as a run takes them
//! by default and for those that do the arithmetic of a convolution one by one, and the picture where asked for.

#![allow(clippy::print_stdout)]

use smidgen_benches::{Memory, device, release};
use smidgen_conv::sparse::{
    SparseForward, SparseInputGradient, SparseShape, SparseWeightGradient, Transpose,
    sparse_forward, sparse_input_gradient, sparse_weight_gradient,
    sparse_weight_gradient_workspace, transpose,
};
use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, WeightGradient, forward, input_gradient,
    weight_gradient,
};
use smidgen_gpu::{Launch, Region, Sequence};
use smidgen_reference::numbers::normal;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Instant;

#[path = "sparse_curve/picture.rs"]
mod picture;

/// Batch, channels, height and width, kernel.
const LAYERS: [(u32, u32, u32, u32); 6] = [
    (8, 64, 28, 3),
    (8, 128, 14, 3),
    (8, 256, 14, 3),
    (8, 64, 28, 1),
    (8, 128, 28, 1),
    (8, 256, 14, 1),
];
const DENSITIES: [f64; 11] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05];

/// Forward, input gradient, weight gradient.
type Passes = [Vec<Launch>; 3];

/// Medians of the three passes of every method, and of a copy of the map.
type Times = (Vec<[f64; 3]>, f64);

struct Options {
    rounds: usize,
    block_quads: u32,
    svg: Option<String>,
    layers: Option<usize>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        rounds: 5,
        block_quads: 1,
        svg: None,
        layers: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        match word.as_str() {
            "--rounds" => options.rounds = value.parse()?,
            "--blocks" => options.block_quads = value.parse()?,
            "--layer" => options.layers = Some(value.parse()?),
            "--svg" => options.svg = Some(value),
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    Ok(options)
}

/// Dense forward, input gradient, weight gradient: by default, or with the workspace of the weight gradient alone, which leaves out
/// Winograd's method.
fn dense(
    shape: &ConvolutionShape,
    memory: &mut Memory,
    maps: [Region; 3],
    by_default: bool,
) -> Result<[Vec<Launch>; 3], Box<dyn Error>> {
    let facts = device().facts();
    let [input, output, by_input] = maps;
    let weight = memory.values(shape.weight_bytes());
    let by_weight = memory.values(shape.weight_bytes());
    let mut room = |pass| -> Result<Option<Region>, Box<dyn Error>> {
        let bytes = smidgen_conv::workspace(pass, shape, facts, None)?;
        let wanted = bytes > 0 && (by_default || pass == Pass::WeightGradient);
        Ok(wanted.then(|| memory.values(bytes)))
    };
    let [of_forward, of_input, of_weight] = [
        room(Pass::Forward)?,
        room(Pass::InputGradient)?,
        room(Pass::WeightGradient)?,
    ];
    Ok([
        forward(
            shape,
            facts,
            None,
            &Forward {
                input: input.into(),
                weight,
                bias: None,
                output,
                workspace: of_forward,
            },
        )?,
        input_gradient(
            shape,
            facts,
            None,
            &InputGradient {
                output_gradient: output,
                weight,
                input_gradient: by_input,
                accumulate: false,
                derivative: None,
                workspace: of_input,
            },
        )?,
        weight_gradient(
            shape,
            facts,
            None,
            &WeightGradient {
                input: input.into(),
                output_gradient: output,
                weight_gradient: by_weight,
                bias_gradient: None,
                workspace: of_weight,
            },
        )?,
    ])
}

/// Sparse forward, input gradient, weight gradient, and what has to run once before.
fn sparse(
    shape: &SparseShape,
    memory: &mut Memory,
    maps: [Region; 3],
) -> Result<(Passes, Vec<Launch>), Box<dyn Error>> {
    let facts = device().facts();
    let [input, output, by_input] = maps;
    let scores = normal(7, (shape.output_groups() * shape.candidates()) as usize);
    let mut scores = scores.into_iter();
    let words = shape.choose(|_, _| f64::from(scores.next().unwrap_or(0.0)));
    let columns = memory.words(&words);
    let values = memory.values(shape.value_bytes());
    let value_gradient = memory.values(shape.value_bytes());
    let starts = memory.values(shape.start_bytes());
    let entries = memory.values(shape.entry_bytes());
    let walk = memory.values(shape.walk_bytes());
    let room = sparse_weight_gradient_workspace(shape, facts)?;
    let workspace = (room > 0).then(|| memory.values(room));
    let passes = [
        sparse_forward(
            shape,
            facts,
            &SparseForward {
                input: input.into(),
                columns,
                values,
                walk,
                bias: None,
                output,
            },
        )?,
        sparse_input_gradient(
            shape,
            facts,
            &SparseInputGradient {
                output_gradient: output,
                columns,
                values,
                starts,
                entries,
                walk,
                input_gradient: by_input,
                accumulate: false,
            },
        )?,
        sparse_weight_gradient(
            shape,
            facts,
            &SparseWeightGradient {
                input: input.into(),
                output_gradient: output,
                columns,
                value_gradient,
                workspace,
            },
        )?,
    ];
    Ok((
        passes,
        transpose(
            shape,
            &Transpose {
                columns,
                starts,
                entries,
                walk,
            },
        )?,
    ))
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Median milliseconds of the three passes: dense by default, dense without Winograd's method, then at every density; and of a copy of the input to the output, which no pass can
/// beat.
fn measure(layer: (u32, u32, u32, u32), options: &Options) -> Result<Times, Box<dyn Error>> {
    let (batch, channels, size, kernel) = layer;
    let shape = ConvolutionShape::new(batch, [channels, size, size], channels, [kernel; 2])
        .with_padding(kernel / 2);
    let mut memory = Memory::new();
    let maps = [
        shape.input_bytes(),
        shape.output_bytes(),
        shape.input_bytes(),
    ]
    .map(|bytes| memory.values(bytes));
    let mut passes: Vec<Vec<Launch>> = dense(&shape, &mut memory, maps, true)?.into();
    passes.extend(dense(&shape, &mut memory, maps, false)?);
    let mut before = Vec::new();
    for density in DENSITIES {
        // A layer with few blocks cannot be that sparse.
        let Ok(shape) = SparseShape::with_blocks(shape, options.block_quads, density) else {
            continue;
        };
        let (launches, transpose) = sparse(&shape, &mut memory, maps)?;
        passes.extend(launches);
        before.extend(transpose);
    }
    let bytes = shape.input_bytes().min(shape.output_bytes());
    passes.push(smidgen_ops::elementwise::copy(bytes, maps[0], maps[1])?);
    let buffer = memory.upload(device())?;
    let sequence = Sequence::prepare(device(), &before, &[&buffer])?;
    device().run(|pass| sequence.record(pass))?;
    let sequences = passes
        .iter()
        .map(|launches| Sequence::prepare(device(), launches, &[&buffer]))
        .collect::<Result<Vec<_>, _>>()?;
    let mut times = vec![Vec::new(); sequences.len()];
    for round in 0..=options.rounds {
        for (sequence, times) in sequences.iter().zip(&mut times) {
            let start = Instant::now();
            device().run(|pass| sequence.record(pass))?;
            // The first round compiles.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    release(device());
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    let (copy, passes) = medians.split_last().ok_or("nothing measured")?;
    let passes = passes.chunks(3).map(|three| [three[0], three[1], three[2]]);
    Ok((passes.collect(), *copy))
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let facts = device().facts();
    println!(
        "Device: {}, {}; blocks of {} by 4; median of {} interleaved rounds.\n",
        facts.name,
        facts.driver,
        options.block_quads * 4,
        options.rounds
    );
    let mut curves = Vec::new();
    for (at, layer) in LAYERS.into_iter().enumerate() {
        if options.layers.is_some_and(|only| only != at) {
            continue;
        }
        let (batch, channels, size, kernel) = layer;
        let name = format!("{kernel}x{kernel}, {channels} channels, {batch}x{size}x{size}");
        let (medians, copy) = measure(layer, &options)?;
        let [dense, direct, sparse @ ..] = medians.as_slice() else {
            continue;
        };
        println!(
            "**{name}**, dense: forward {:.2} ms, backward {:.2} ms (input {:.2}, weight {:.2}); without Winograd's method {:.2}, {:.2} (input {:.2}); copy of the map \
             {copy:.2} ms\n",
            dense[0],
            dense[1] + dense[2],
            dense[1],
            dense[2],
            direct[0],
            direct[1] + direct[2],
            direct[1]
        );
        let mut table = String::from(
            "| density | forward ms | backward ms | input ms | weight ms | forward, times faster | backward | forward, times faster than without Winograd | backward |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        let mut curve = Vec::new();
        for (density, times) in DENSITIES.iter().zip(sparse) {
            let backward = times[1] + times[2];
            let over = |peer: &[f64; 3]| [peer[0] / times[0], (peer[1] + peer[2]) / backward];
            let (ratios, direct) = (over(dense), over(direct));
            writeln!(
                table,
                "| {density} | {:.2} | {backward:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                times[0], times[1], times[2], ratios[0], ratios[1], direct[0], direct[1]
            )?;
            curve.push((*density, ratios));
        }
        println!("{table}");
        curves.push((name, curve));
    }
    if let Some(path) = options.svg {
        std::fs::write(path, picture::draw(&curves))?;
    }
    Ok(())
}
