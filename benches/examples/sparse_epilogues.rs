//! What the ends of sparse kernels save: statistics and the derivative of an activation in the kernel, and in a pass of their own; interleaved in one run.
//!
//! `cargo run --release -p smidgen-benches --example sparse_epilogues -- [--batch 8]`

#![allow(clippy::print_stdout)]

use smidgen_benches::{Memory, device, medians, release};
use smidgen_conv::ConvolutionShape;
use smidgen_conv::sparse::{
    SparseForward, SparseInputGradient, SparseShape, Transpose, sparse_forward,
    sparse_forward_with_moments, sparse_input_gradient, transpose,
};
use smidgen_gpu::{Activation, Sequence, Source, moments_bytes};
use smidgen_ops::{MapShape, activation, batch_norm};
use std::error::Error;

/// Channels, height and width, kernel, density.
const LAYERS: [(u32, u32, u32, f64); 4] = [
    (64, 28, 3, 0.1),
    (64, 28, 3, 0.5),
    (128, 14, 3, 0.1),
    (128, 28, 1, 0.1),
];

fn measure(
    (channels, size, kernel, density): (u32, u32, u32, f64),
    batch: u32,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let facts = device().facts();
    let shape = ConvolutionShape::new(batch, [channels, size, size], channels, [kernel; 2])
        .with_padding(kernel / 2);
    let shape = SparseShape::with_density(shape, density)?;
    let mut memory = Memory::new();
    let map = shape.convolution.input_bytes();
    let [input, output, by_input] = [map; 3].map(|bytes| memory.values(bytes));
    let moments = memory.values(moments_bytes(channels, u64::from(batch * size * size)));
    let mut turn = 0.0;
    let words = shape.choose(|_, _| {
        turn = (turn + 0.618_033_988_75_f64).fract();
        turn
    });
    let columns = memory.words(&words);
    let [values, starts, entries, walk] = [
        shape.value_bytes(),
        shape.start_bytes(),
        shape.entry_bytes(),
        shape.walk_bytes(),
    ]
    .map(|bytes| memory.values(bytes));
    let lists = Transpose {
        columns,
        starts,
        entries,
        walk,
    };
    let forward = SparseForward {
        input: input.into(),
        columns,
        values,
        walk,
        bias: None,
        output,
    };
    let value = Source {
        activation: Activation::Relu,
        ..input.into()
    };
    let backward = SparseInputGradient {
        output_gradient: output,
        columns,
        values,
        starts,
        entries,
        walk,
        input_gradient: by_input,
        accumulate: false,
        derivative: None,
    };
    let folded = SparseInputGradient {
        derivative: Some(value),
        ..backward
    };
    let map = MapShape::new(batch, channels, size, size);
    let apart = activation::Backward {
        value,
        output_gradient: by_input,
        input_gradient: by_input,
    };
    let plain = [
        sparse_forward(&shape, facts, &forward)?,
        sparse_input_gradient(&shape, facts, &backward)?,
    ];
    let works = [
        plain[0].clone(),
        sparse_forward_with_moments(&shape, facts, &forward, moments)?,
        [
            plain[0].clone(),
            vec![batch_norm::moments(&map, facts, output, moments)?],
        ]
        .concat(),
        plain[1].clone(),
        sparse_input_gradient(&shape, facts, &folded)?,
        [plain[1].clone(), activation::backward(&map, &apart)?].concat(),
    ];
    let buffer = memory.upload(device())?;
    let before = Sequence::prepare(device(), &transpose(&shape, &lists)?, &[&buffer])?;
    device().run(|pass| before.record(pass))?;
    let works = (works.iter())
        .map(|launches| Sequence::prepare(device(), launches, &[&buffer]))
        .collect::<Result<Vec<_>, _>>()?;
    let times = medians(&works, 7)?;
    release(device());
    Ok(times)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let batch = match (words.next(), words.next()) {
        (None, _) => 8,
        (Some(word), Some(value)) if word == "--batch" => value.parse()?,
        _ => return Err("the one option is --batch, with a number".into()),
    };
    println!(
        "| layer, density | forward, ms | with moments | and a pass for moments | input gradient, ms | with the derivative | and a pass for it |\n\
         |---|---|---|---|---|---|---|"
    );
    for layer in LAYERS {
        let times = measure(layer, batch)?;
        let (channels, size, kernel, density) = layer;
        let cells: Vec<_> = (0..6).map(|at| format!("{:.2}", times[at])).collect();
        println!(
            "| {kernel}x{kernel}, {channels}, {batch}x{size}x{size}, {density} | {} |",
            cells.join(" | ")
        );
    }
    Ok(())
}
