//! Time of a convolution at listed pixels against the share of them, next to the whole convolution, interleaved in one run.
//!
//! `cargo run --release -p smidgen-benches --example listed_curve -- [--rounds 5] [--batch 8]`: tables on standard output (Markdown) of the
//! ratio whole / listed of the median times, where the wanted pixels are a square in each picture and where they are scattered. The list is
//! made in the forward pass, that of the pixels reached in the backward pass; both count.

#![allow(clippy::print_stdout)]

use smidgen_benches::convolution::{PASSES, dense};
use smidgen_benches::{Memory, device, medians, release};
use smidgen_conv::listed::{
    Base, ListPixels, ListReached, ListedForward, ListedInputGradient, ListedShape,
    ListedWeightGradient, PixelList, list_pixels, list_reached, listed_forward,
    listed_input_gradient, listed_weight_gradient, listed_weight_gradient_workspace,
};
use smidgen_conv::{ConvolutionShape, Pass};
use smidgen_gpu::{Launch, Region, Sequence};
use std::error::Error;

/// Channels, height and width, kernel.
const LAYERS: [(u32, u32, u32); 3] = [(64, 28, 3), (128, 14, 3), (128, 28, 1)];
const SHARES: [f64; 8] = [1.0, 0.75, 0.5, 0.35, 0.25, 0.1, 0.05, 0.0];

/// A quad a pixel: about `share` of the pixels of each picture above zero, in a square or scattered.
fn gate(batch: u32, size: u32, share: f64, scattered: bool) -> Vec<u32> {
    let side = (share.sqrt() * f64::from(size)).round() as u32;
    let mut state = 1_u32;
    let mut words = Vec::new();
    for _ in 0..batch {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let room = size - side + 1;
        let [top, left] = [state >> 8, state >> 16].map(|random| random % room);
        for (y, x) in (0..size).flat_map(|y| (0..size).map(move |x| (y, x))) {
            let wanted = if scattered {
                state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                f64::from(state >> 8) < share * f64::from(1 << 24)
            } else {
                (top..top + side).contains(&y) && (left..left + side).contains(&x)
            };
            let value = if wanted { 1.0_f32 } else { -1.0 };
            words.extend([value.to_bits(), 0, 0, 0]);
        }
    }
    words
}

/// Forward and backward.
fn listed(
    shape: &ListedShape,
    memory: &mut Memory,
    gate: Region,
    [input, output, by_input, weight, by_weight]: [Region; 5],
) -> Result<[Vec<Launch>; 2], Box<dyn Error>> {
    let facts = device().facts();
    let mut a_list = |marks, entries| PixelList {
        marks: memory.values(marks),
        entries: memory.values(entries),
    };
    let list = a_list(shape.mark_bytes(), shape.entry_bytes());
    let reached = a_list(shape.reached_mark_bytes(), shape.reached_entry_bytes());
    let room = listed_weight_gradient_workspace(shape, facts)?;
    let workspace = (room > 0).then(|| memory.values(room));
    let mut forward = list_pixels(shape, &ListPixels { gate, list })?;
    let regions = ListedForward {
        input: input.into(),
        weight,
        bias: None,
        list,
        output,
        base: Base::Kept,
    };
    forward.extend(listed_forward(shape, facts, &regions)?);
    let mut backward = list_reached(shape, &ListReached { list, reached })?;
    let regions = ListedInputGradient {
        output_gradient: output,
        weight,
        list,
        reached,
        input_gradient: by_input,
        base: Base::Zero,
    };
    backward.extend(listed_input_gradient(shape, facts, &regions)?);
    let regions = ListedWeightGradient {
        input: input.into(),
        output_gradient: output,
        list,
        weight_gradient: by_weight,
        bias_gradient: None,
        workspace,
    };
    backward.extend(listed_weight_gradient(shape, facts, &regions)?);
    Ok([forward, backward])
}

/// Median milliseconds, forward and backward: whole by default, whole without Winograd's method, then at every share.
fn measure(
    (channels, size, kernel): (u32, u32, u32),
    [batch, rounds]: [u32; 2],
    scattered: bool,
) -> Result<Vec<[f64; 2]>, Box<dyn Error>> {
    let shape = ConvolutionShape::new(batch, [channels, size, size], channels, [kernel; 2])
        .with_padding(kernel / 2);
    let mut memory = Memory::new();
    let (input, output) = (shape.input_bytes(), shape.output_bytes());
    let weight = shape.weight_bytes();
    let regions = [input, output, input, weight, weight].map(|bytes| memory.values(bytes));
    let mut works = Vec::new();
    for by_default in [true, false] {
        let [forward, of_input, of_weight] = PASSES.map(|pass| {
            let bytes = smidgen_conv::workspace(pass, &shape, device().facts(), None)?;
            let wanted = bytes > 0 && (by_default || pass == Pass::WeightGradient);
            let workspace = wanted.then(|| memory.values(bytes));
            dense(&shape, pass, None, regions, workspace)
        });
        works.extend([forward?, [of_input?, of_weight?].concat()]);
    }
    let listed_shape = ListedShape {
        convolution: shape,
        capacity: batch * size * size,
    };
    for share in SHARES {
        let gate = memory.words(&gate(batch, size, share, scattered));
        works.extend(listed(&listed_shape, &mut memory, gate, regions)?);
    }
    let buffer = memory.upload(device())?;
    let works = (works.iter())
        .map(|launches| Sequence::prepare(device(), launches, &[&buffer]))
        .collect::<Result<Vec<_>, _>>()?;
    let times = medians(&works, rounds as usize)?;
    release(device());
    Ok(times.chunks(2).map(|two| [two[0], two[1]]).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let [mut batch, mut rounds] = [8, 5];
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        match word.as_str() {
            "--batch" => batch = value.parse()?,
            "--rounds" => rounds = value.parse()?,
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    let facts = device().facts();
    println!(
        "Device: {}, {}; median of {rounds} interleaved rounds; times faster than the whole convolution by default, and in brackets than the \
         one without Winograd's method; forward / backward\n",
        facts.name, facts.driver
    );
    for (channels, size, kernel) in LAYERS {
        for (scattered, name) in [(false, "a square"), (true, "scattered")] {
            let times = measure((channels, size, kernel), [batch, rounds], scattered)?;
            let [whole, plain, listed @ ..] = times.as_slice() else {
                continue;
            };
            println!(
                "**{kernel}x{kernel}, {channels} channels, {batch}x{size}x{size}, {name}**: whole {:.2} / {:.2} ms, without Winograd's method {:.2} / \
                 {:.2} ms\n\n| pixels | ms | times faster |\n|---|---|---|",
                whole[0], whole[1], plain[0], plain[1]
            );
            for (share, times) in SHARES.iter().zip(listed) {
                let over = |peer: &[f64; 2]| [peer[0] / times[0], peer[1] / times[1]];
                let ([a, b], [c, d]) = (over(whole), over(plain));
                println!(
                    "| {:.0} % | {:.2} / {:.2} | {a:.2} / {b:.2} ({c:.2} / {d:.2}) |",
                    share * 100.0,
                    times[0],
                    times[1]
                );
            }
            println!();
        }
    }
    Ok(())
}
