//! Time of sparse masked convolution against density, next to our own dense kernels, interleaved in one run.
//!
//! `cargo run --release -p smidgen-benches --example sparse_curve -- [--rounds 5] [--blocks 1] [--batch 8] [--layer N] [--dense tuned]
//! [--svg FILE]`: a table on standard output (Markdown), the ratio dense / sparse of the median times for dense kernels as a run takes them
//! by default (`--dense tuned`: for the fastest of all that it would measure) and for those that do the arithmetic of a convolution one by
//! one, and the picture where asked for. A wide device wants a batch of its own size.

#![allow(clippy::print_stdout)]

use smidgen_benches::convolution::{PASSES, dense};
use smidgen_benches::{Memory, device, medians, release};
use smidgen_conv::sparse::{
    SparseForward, SparseInputGradient, SparseShape, SparseWeightGradient, Transpose,
    sparse_forward, sparse_input_gradient, sparse_weight_gradient,
    sparse_weight_gradient_workspace, transpose,
};
use smidgen_conv::{ConvolutionShape, Pass, candidates};
use smidgen_gpu::{Launch, Region, Sequence};
use smidgen_reference::numbers::normal;
use std::error::Error;
use std::fmt::Write as _;

#[path = "sparse_curve/picture.rs"]
mod picture;

/// Channels, height and width, kernel.
const LAYERS: [(u32, u32, u32); 6] = [
    (64, 28, 3),
    (128, 14, 3),
    (256, 14, 3),
    (64, 28, 1),
    (128, 28, 1),
    (256, 14, 1),
];
const DENSITIES: [f64; 11] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05];

/// Forward, input gradient, weight gradient.
type Passes = [Vec<Launch>; 3];

/// Medians of the three passes of every method, and of a copy of the map.
type Times = (Vec<[f64; 3]>, f64);

struct Options {
    rounds: usize,
    block_quads: u32,
    batch: u32,
    tuned: bool,
    svg: Option<String>,
    layers: Option<usize>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        rounds: 5,
        block_quads: 1,
        batch: 8,
        tuned: false,
        svg: None,
        layers: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        match word.as_str() {
            "--rounds" => options.rounds = value.parse()?,
            "--blocks" => options.block_quads = value.parse()?,
            "--batch" => options.batch = value.parse()?,
            "--dense" => options.tuned = value == "tuned",
            "--layer" => options.layers = Some(value.parse()?),
            "--svg" => options.svg = Some(value),
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    Ok(options)
}

/// For every pass, what stands for a dense layer (one way of computing it, or where tuned all that are worth measuring), and the way without
/// Winograd's method.
fn dense_ways(
    shape: &ConvolutionShape,
    memory: &mut Memory,
    [input, output, by_input]: [Region; 3],
    tuned: bool,
) -> Result<[Vec<Vec<Launch>>; 3], Box<dyn Error>> {
    let facts = device().facts();
    let weight = memory.values(shape.weight_bytes());
    let by_weight = memory.values(shape.weight_bytes());
    let regions = [input, output, by_input, weight, by_weight];
    let mut ways = [const { Vec::new() }; 3];
    for (ways, pass) in ways.iter_mut().zip(PASSES) {
        let variants = candidates(pass, shape, facts, u64::MAX)?;
        let variants = if tuned { &variants[..] } else { &variants[..1] };
        let room = |variant| smidgen_conv::workspace(pass, shape, facts, Some(variant));
        let rooms = variants.iter().map(|variant| room(*variant));
        let bytes = rooms.collect::<Result<Vec<_>, _>>()?;
        let fitting: Vec<_> = (variants.iter().zip(bytes))
            .filter(|(_, bytes)| *bytes <= facts.max_binding_bytes)
            .collect();
        let most = fitting.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        let workspace = (most > 0).then(|| memory.values(most));
        for (variant, _) in fitting {
            ways.push(dense(shape, pass, Some(*variant), regions, workspace)?);
        }
        let plain = workspace.filter(|_| pass == Pass::WeightGradient);
        ways.push(dense(shape, pass, None, regions, plain)?);
    }
    Ok(ways)
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
                derivative: None,
            },
        )?,
        sparse_weight_gradient(
            shape,
            facts,
            &SparseWeightGradient {
                input: input.into(),
                output_gradient: output,
                columns,
                walk,
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

/// Median milliseconds of the three passes: dense, dense without Winograd's method, then at every density; and of a copy of the input to
/// the output, which no pass can beat.
fn measure(layer: (u32, u32, u32), options: &Options) -> Result<Times, Box<dyn Error>> {
    let (channels, size, kernel) = layer;
    let shape = ConvolutionShape::new(options.batch, [channels, size, size], channels, [kernel; 2])
        .with_padding(kernel / 2);
    let mut memory = Memory::new();
    let maps = [
        shape.input_bytes(),
        shape.output_bytes(),
        shape.input_bytes(),
    ]
    .map(|bytes| memory.values(bytes));
    let ways = dense_ways(&shape, &mut memory, maps, options.tuned)?;
    let of_dense = ways.each_ref().map(Vec::len);
    let mut passes: Vec<Vec<Launch>> = ways.into_iter().flatten().collect();
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
    let medians = medians(&sequences, options.rounds)?;
    release(device());
    let (copy, medians) = medians.split_last().ok_or("nothing measured")?;
    let (mut fastest, mut plain, mut rest) = ([0.0; 3], [0.0; 3], medians);
    for (at, ways) in of_dense.into_iter().enumerate() {
        let (own, others) = rest.split_at(ways);
        let (last, own) = own.split_last().ok_or("nothing measured")?;
        fastest[at] = own.iter().copied().fold(f64::INFINITY, f64::min);
        plain[at] = *last;
        rest = others;
    }
    let sparse = rest.chunks(3).map(|three| [three[0], three[1], three[2]]);
    Ok(([fastest, plain].into_iter().chain(sparse).collect(), *copy))
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
        let (channels, size, kernel) = layer;
        let name = format!(
            "{kernel}x{kernel}, {channels} channels, {}x{size}x{size}",
            options.batch
        );
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
