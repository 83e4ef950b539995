//! A block of a network that looks closer at some pixels only: what a gate wants is listed on the device, convolved and added to what the
//! others keep; both gradients sum over the listed pixels.
//!
//! `cargo run --release -p smidgen-conv --example listed_pixels`
#![allow(clippy::print_stdout, unreachable_pub)] // A result is what this program is for; a test runs it too.

use smidgen_conv::listed::{
    Base, ListPixels, ListReached, ListedForward, ListedInputGradient, ListedShape,
    ListedWeightGradient, PixelList, list_pixels, list_reached, listed_forward,
    listed_input_gradient, listed_weight_gradient,
};
use smidgen_conv::{ConvolutionShape, pack_weight, unpack_weight};
use smidgen_gpu::{Device, DeviceRequest, Region, Sequence};
use std::error::Error;

const SIZE: u32 = 16;
const CHANNELS: u32 = 4;

/// What the program found out. Maps are planes of quads: here one quad a pixel.
#[derive(Debug)]
pub struct Report {
    /// Pixels that the gate wants.
    pub wanted: Vec<u32>,
    /// Pixels that were listed.
    pub listed: Vec<u32>,
    /// Input pixels that these read.
    pub reached: u32,
    /// The map that went in.
    pub input: Vec<f32>,
    /// `input + convolution(input)` at the listed pixels, `input` elsewhere.
    pub output: Vec<f32>,
    /// Gradient of the convolution with respect to the input, where the gradient of the output is one everywhere.
    pub input_gradient: Vec<f32>,
    /// And with respect to the weight, in PyTorch's order.
    pub weight_gradient: Vec<f32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let report = run()?;
    println!(
        "{} of {} pixels wanted, {} listed, {} input pixels read",
        report.wanted.len(),
        SIZE * SIZE,
        report.listed.len(),
        report.reached
    );
    let changed = (report.input.chunks(4).zip(report.output.chunks(4)))
        .filter(|(before, after)| before != after)
        .count();
    println!("{changed} pixels changed");
    Ok(())
}

/// Runs the program.
///
/// # Errors
/// No device, or one that refuses.
pub fn run() -> Result<Report, Box<dyn Error>> {
    let device = Device::open(&DeviceRequest::default())?;
    let convolution =
        ConvolutionShape::new(1, [CHANNELS, SIZE, SIZE], CHANNELS, [3, 3]).with_padding(1);
    // Memory for a quarter of the pixels, whatever the gate says.
    let shape = ListedShape {
        convolution,
        capacity: SIZE * SIZE / 4,
    };
    let wanted: Vec<u32> = (0..SIZE * SIZE)
        .filter(|pixel| (4..10).contains(&(pixel / SIZE)) && (3..9).contains(&(pixel % SIZE)))
        .collect();
    // A map of one channel, as another convolution would write it.
    let mut gate = vec![0.0_f32; (SIZE * SIZE * 4) as usize];
    for pixel in &wanted {
        gate[*pixel as usize * 4] = 1.0;
    }
    let input: Vec<f32> = (0..SIZE * SIZE * CHANNELS)
        .map(|at| (at % 7) as f32 - 3.0)
        .collect();
    let weight = vec![0.125; (CHANNELS * CHANNELS * 9) as usize];

    let buffers = [
        device.buffer_with("gate", &gate)?,
        device.buffer_with("input", &input)?,
        device.buffer_with("weight", &pack_weight(&convolution, &weight)?)?,
        // The residual connection: the output begins as the input.
        device.buffer_with("output", &input)?,
        device.buffer_with("output gradient", &vec![1.0_f32; input.len()])?,
        device.storage_buffer("marks", shape.mark_bytes())?,
        device.storage_buffer("entries", shape.entry_bytes())?,
        device.storage_buffer("marks of pixels read", shape.reached_mark_bytes())?,
        device.storage_buffer("entries of pixels read", shape.reached_entry_bytes())?,
        device.storage_buffer("input gradient", convolution.input_bytes())?,
        device.storage_buffer("weight gradient", convolution.weight_bytes())?,
    ];
    let region = |at: usize| Region::whole(at, buffers[at].size());
    let a_list = |at: usize| PixelList {
        marks: region(at),
        entries: region(at + 1),
    };
    let (list, reached) = (a_list(5), a_list(7));
    let facts = device.facts();
    let launches = [
        list_pixels(
            &shape,
            &ListPixels {
                gate: region(0),
                list,
            },
        )?,
        listed_forward(
            &shape,
            facts,
            &ListedForward {
                input: region(1).into(),
                weight: region(2),
                bias: None,
                list,
                output: region(3),
                base: Base::Added,
            },
        )?,
        list_reached(&shape, &ListReached { list, reached })?,
        listed_input_gradient(
            &shape,
            facts,
            &ListedInputGradient {
                output_gradient: region(4),
                weight: region(2),
                list,
                reached,
                input_gradient: region(9),
                base: Base::Zero,
            },
        )?,
        listed_weight_gradient(
            &shape,
            facts,
            &ListedWeightGradient {
                input: region(1).into(),
                output_gradient: region(4),
                list,
                weight_gradient: region(10),
                bias_gradient: None,
                workspace: None,
            },
        )?,
    ]
    .concat();
    let sequence = Sequence::prepare(&device, &launches, &buffers.each_ref())?;
    device.run(|pass| sequence.record(pass))?;

    let floats = |at: usize| device.read::<f32>(&buffers[at], 0, buffers[at].size() as usize / 4);
    let words = |at: usize| device.read::<u32>(&buffers[at], 0, buffers[at].size() as usize / 4);
    let entries = words(6)?;
    Ok(Report {
        wanted,
        listed: entries[2..][..entries[0] as usize].to_vec(),
        reached: words(8)?[0],
        output: floats(3)?,
        input_gradient: floats(9)?,
        weight_gradient: unpack_weight(&convolution, &floats(10)?)?,
        input,
    })
}
