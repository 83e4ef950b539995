//! A program of its own: its `wgpu` device, its buffers, its compute pass. It records the filtered backward pass of a convolution between
//! whatever else it may record, reads the gradients back and compares them with plain loops.
//!
//! `cargo run --release -p smidgen-filter --example embed_filter`
#![allow(clippy::print_stdout, unreachable_pub)] // A result is what this program is for; a test runs it too.

use smidgen_filter::{
    FilterShape, InputGradient, PatchAverages, PatchSums, TapSums, Taps, TowardsInput,
    WeightGradient, averages_and_tap_sums, gradients, patch_sums, weight_gradient_workspace,
};
use smidgen_gpu::wgpu::{self, util::DeviceExt};
use smidgen_gpu::{Device, Region, Sequence, bytemuck};
use std::error::Error;

// Four channels: a pixel is one quad, and a weight one block a tap.
const CHANNELS: usize = 4;
const SIZE: usize = 6;
const PATCH: usize = 2;
const PATCHES: usize = SIZE / PATCH;

/// The gradients of the input (`[pixel][channel]`) and of the weight (`[tap][input][output]`).
#[derive(Debug)]
pub struct Gradients {
    /// By the input.
    pub input: Vec<f32>,
    /// By the weight.
    pub weight: Vec<f32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (found, expected) = run()?;
    for (name, found, expected) in [
        ("input gradient", &found.input, &expected.input),
        ("weight gradient", &found.weight, &expected.weight),
    ] {
        let pairs = found.iter().zip(expected);
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: {:?} ..., off by {worst} at most", &found[..3]);
    }
    Ok(())
}

fn plain_loops(input: &[f32], weight: &[f32], output_gradient: &[f32]) -> Gradients {
    let patch_of = |pixel: usize| pixel / SIZE / PATCH * PATCHES + pixel % SIZE / PATCH;
    let mut sums = [[0.0; CHANNELS]; PATCHES * PATCHES];
    let mut averages = sums;
    for pixel in 0..SIZE * SIZE {
        for channel in 0..CHANNELS {
            sums[patch_of(pixel)][channel] += input[pixel * CHANNELS + channel];
            averages[patch_of(pixel)][channel] +=
                output_gradient[pixel * CHANNELS + channel] / (PATCH * PATCH) as f32;
        }
    }
    let mut gradients = Gradients {
        input: vec![0.0; input.len()],
        weight: vec![0.0; weight.len()],
    };
    for from in 0..CHANNELS {
        for to in 0..CHANNELS {
            let block = |tap: usize| (tap * CHANNELS + from) * CHANNELS + to;
            let tap_sum: f32 = (0..9).map(|tap| weight[block(tap)]).sum();
            for pixel in 0..SIZE * SIZE {
                gradients.input[pixel * CHANNELS + from] += tap_sum * averages[patch_of(pixel)][to];
            }
            let both = sums.iter().zip(&averages);
            let product: f32 = both.map(|(sum, average)| sum[from] * average[to]).sum();
            (0..9).for_each(|tap| gradients.weight[block(tap)] = product);
        }
    }
    gradients
}

/// Runs the program: the gradients from the kernels, and from plain loops.
///
/// # Errors
/// No device, or one that refuses.
pub fn run() -> Result<(Gradients, Gradients), Box<dyn Error>> {
    // The caller's own device, queue and buffers.
    let instance =
        wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) =
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let filled = |contents: &[f32]| {
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(contents),
            usage,
        })
    };
    let empty = |size| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        })
    };

    let values = |count: usize, step: usize| -> Vec<f32> {
        (0..count)
            .map(|at| (at * step % 11) as f32 * 0.25 - 1.0)
            .collect()
    };
    let input = values(SIZE * SIZE * CHANNELS, 7);
    let output_gradient = values(SIZE * SIZE * CHANNELS, 5);
    let weight = values(9 * CHANNELS * CHANNELS, 3);

    let (channels, size) = (CHANNELS as u32, SIZE as u32);
    let shape =
        FilterShape::new(1, [channels, size, size], channels, [3, 3], PATCH as u32).with_padding(1);
    // Kernels only ask for what they need of a device; a wrapped one stays the caller's.
    let wrapped = Device::wrap(device.clone(), queue.clone());
    let workspace_bytes = weight_gradient_workspace(&shape, wrapped.facts())?;
    let buffers = [
        filled(&input),
        filled(&weight),
        filled(&output_gradient),
        empty(shape.patch_sums_bytes()),
        empty(shape.tap_sums_bytes()),
        empty(shape.patch_averages_bytes()),
        empty(shape.input_bytes()),
        empty(shape.weight_bytes()),
        empty(workspace_bytes.max(4)),
    ];
    let region = |at: usize| Region::whole(at, buffers[at].size());

    // With the forward pass: from here on the input is not needed.
    let mut launches = patch_sums(
        &shape,
        wrapped.facts(),
        &PatchSums {
            input: region(0).into(),
            patch_sums: region(3),
            slope_counts: None,
        },
    )?;
    // The backward pass in two dispatches where patches are few; with the first of them, the sums of a weight that has changed.
    launches.extend(averages_and_tap_sums(
        &shape,
        wrapped.facts(),
        &PatchAverages {
            output_gradient: region(2),
            patch_averages: region(5),
        },
        &TapSums {
            weight: region(1),
            tap_sums: region(4),
        },
    )?);
    launches.extend(gradients(
        &shape,
        wrapped.facts(),
        &WeightGradient {
            patch_sums: region(3),
            patch_averages: region(5),
            weight_gradient: region(7),
            taps: Taps::Every,
            workspace: (workspace_bytes > 0).then(|| region(8)),
        },
        &TowardsInput::Map(InputGradient {
            patch_averages: region(5),
            weight: region(4),
            input_gradient: region(6),
            accumulate: false,
            mask: None,
            normalisation: None,
        }),
    )?);
    let sequence = Sequence::prepare(&wrapped, &launches, &buffers.each_ref())?;

    // The caller's own pass.
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        sequence.record(&mut pass);
    }
    queue.submit([encoder.finish()]);

    let read = |at: usize| wrapped.read::<f32>(&buffers[at], 0, buffers[at].size() as usize / 4);
    let found = Gradients {
        input: read(6)?,
        weight: read(7)?,
    };
    Ok((found, plain_loops(&input, &weight, &output_gradient)))
}
