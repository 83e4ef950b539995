//! Time of the sampled weight gradient against the share of live blocks whose gradient is computed (dynamic gradient masking), interleaved in
//! one run.
//!
//! `cargo run --release -p smidgen-benches --example gradient_mask`: a table on standard output (Markdown), as times of computing all.

#![allow(clippy::print_stdout)]

use smidgen_benches::{Memory, device};
use smidgen_conv::ConvolutionShape;
use smidgen_conv::sparse::{
    EMPTY, SparseShape, SparseWeightGradient, sparse_weight_gradient,
    sparse_weight_gradient_workspace,
};
use smidgen_gpu::Sequence;
use smidgen_reference::numbers::{below, normal};
use std::error::Error;
use std::time::Instant;

const SHARES: [f64; 5] = [1.0, 0.8, 0.5, 0.2, 0.0];
const ROUNDS: usize = 7;
/// Channels, height and width: batch 8, kernel 3x3.
const LAYERS: [[u32; 2]; 2] = [[64, 28], [128, 14]];
const DENSITY: f64 = 0.25;

fn main() -> Result<(), Box<dyn Error>> {
    let facts = device().facts();
    println!(
        "| layer, {DENSITY} of its blocks live | 100 % | 80 % | 50 % | 20 % | 0 % |\n|---|---|---|---|---|---|"
    );
    for [channels, size] in LAYERS {
        let convolution =
            ConvolutionShape::new(8, [channels, size, size], channels, [3; 2]).with_padding(1);
        let shape = SparseShape::with_blocks(convolution, 1, DENSITY)?;
        let mut scores =
            normal(7, (shape.output_groups() * shape.candidates()) as usize).into_iter();
        let columns = shape.choose(|_, _| f64::from(scores.next().unwrap_or(0.0)));
        let draws = below(5, 1 << 16, columns.len());
        let mut memory = Memory::new();
        let input = memory.values(convolution.input_bytes());
        let output_gradient = memory.values(convolution.output_bytes());
        let room = sparse_weight_gradient_workspace(&shape, facts)?;
        let workspace = (room > 0).then(|| memory.values(room));
        let [_, _, walk] = shape.lists(&columns);
        let walk = memory.words(&walk);
        let mut launches = Vec::new();
        for share in SHARES {
            let limit = (share * f64::from(1 << 16)) as u32;
            let chosen: Vec<u32> = (columns.iter().zip(&draws))
                .map(|(column, draw)| if *draw < limit { *column } else { EMPTY })
                .collect();
            let regions = SparseWeightGradient {
                input: input.into(),
                output_gradient,
                columns: memory.words(&chosen),
                walk,
                value_gradient: memory.values(shape.value_bytes()),
                workspace,
            };
            launches.push(sparse_weight_gradient(&shape, facts, &regions)?);
        }
        let buffer = memory.upload(device())?;
        let sequences = launches
            .iter()
            .map(|launches| Sequence::prepare(device(), launches, &[&buffer]))
            .collect::<Result<Vec<_>, _>>()?;
        let mut times = vec![Vec::new(); SHARES.len()];
        for round in 0..=ROUNDS {
            for (sequence, times) in sequences.iter().zip(&mut times) {
                let start = Instant::now();
                device().run(|pass| sequence.record(pass))?;
                // The first round warms up.
                if round > 0 {
                    times.push(start.elapsed().as_secs_f64());
                }
            }
        }
        let medians = times.iter_mut().map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        let medians: Vec<f64> = medians.collect();
        let ratios: Vec<String> = medians
            .iter()
            .map(|median| format!("{:.2}", median / medians[0]))
            .collect();
        println!(
            "| {channels} channels, 8 images of {size}x{size} | {} |",
            ratios.join(" | ")
        );
    }
    Ok(())
}
