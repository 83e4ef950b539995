//! A program of its own: its `wgpu` device, its buffers, its compute pass. It records a convolution and its gradients between whatever
//! else it may record, reads the result back and checks one value against a plain loop.
//!
//! `cargo run --release -p smidgen-conv --example embed`
#![allow(clippy::print_stdout, unreachable_pub)] // A result is what this program is for; a test runs it too.

use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, WeightGradient, forward, input_gradient, pack_weight,
    unpack_weight, weight_gradient, weight_gradient_workspace,
};
use smidgen_gpu::wgpu::{self, util::DeviceExt};
use smidgen_gpu::{Device, Region, Sequence, bytemuck};
use std::error::Error;

const BATCH: u32 = 2;
const CHANNELS: u32 = 8;
const SIZE: u32 = 6;

/// What the program found out.
#[derive(Debug)]
pub struct Report {
    /// One value of the output, from the kernel.
    pub found: f32,
    /// The same value, from a plain loop.
    pub expected: f32,
    /// `[output, input, kernel_y, kernel_x]`.
    pub weight_gradient: Vec<f32>,
    /// Planes of quads.
    pub input_gradient: Vec<f32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let report = run()?;
    println!(
        "output: {} from the kernel, {} from a plain loop",
        report.found, report.expected
    );
    println!("weight gradient: {:?} ...", &report.weight_gradient[..3]);
    println!("input gradient: {:?} ...", &report.input_gradient[..3]);
    Ok(())
}

/// Runs the program.
///
/// # Errors
/// No device, or one that refuses.
pub fn run() -> Result<Report, Box<dyn Error>> {
    // The caller's own device, queue and buffers.
    let instance =
        wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) =
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;

    let shape =
        ConvolutionShape::new(BATCH, [CHANNELS, SIZE, SIZE], CHANNELS, [3, 3]).with_padding(1);
    // A function of (image, channel, y, x) as the input, and a weight in PyTorch's order.
    let value = |image: u32, channel: u32, y: u32, x: u32| {
        ((image * 7 + channel * 5 + y * 3 + x * 2) % 11) as f32 - 5.0
    };
    let pixels = BATCH * SIZE * SIZE;
    let mut input = vec![0.0_f32; (CHANNELS * pixels) as usize];
    for image in 0..BATCH {
        for channel in 0..CHANNELS {
            for y in 0..SIZE {
                for x in 0..SIZE {
                    let pixel = (image * SIZE + y) * SIZE + x;
                    input[((channel / 4 * pixels + pixel) * 4 + channel % 4) as usize] =
                        value(image, channel, y, x);
                }
            }
        }
    }
    let weight: Vec<f32> = (0..CHANNELS * CHANNELS * 9)
        .map(|at| (at % 13) as f32 * 0.25 - 1.5)
        .collect();
    let packed = pack_weight(&shape, &weight)?;

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
    // Kernels only ask for what they need of a device; a wrapped one stays the caller's.
    let wrapped = Device::wrap(device.clone(), queue.clone());
    let workspace_bytes = weight_gradient_workspace(&shape, wrapped.facts())?;
    let buffers = [
        filled(&input),
        filled(&packed),
        empty(shape.output_bytes()),
        empty(shape.input_bytes()),
        empty(shape.weight_bytes()),
        empty(workspace_bytes.max(4)),
    ];
    let region = |at: usize| Region::whole(at, buffers[at].size());

    let mut launches = forward(
        &shape,
        wrapped.facts(),
        &Forward {
            input: region(0),
            weight: region(1),
            bias: None,
            output: region(2),
        },
    )?;
    // The output stands for its own gradient here: that of half the sum of its squares.
    launches.extend(input_gradient(
        &shape,
        wrapped.facts(),
        &InputGradient {
            output_gradient: region(2),
            weight: region(1),
            input_gradient: region(3),
            accumulate: false,
        },
    )?);
    launches.extend(weight_gradient(
        &shape,
        wrapped.facts(),
        &WeightGradient {
            input: region(0),
            output_gradient: region(2),
            weight_gradient: region(4),
            bias_gradient: None,
            workspace: (workspace_bytes > 0).then(|| region(5)),
        },
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
    let (output, input_gradient) = (read(2)?, read(3)?);
    let weight_gradient = unpack_weight(&shape, &read(4)?)?;

    let (image, channel, y, x) = (1, 6, 0, 4);
    let pixel = (image * SIZE + y) * SIZE + x;
    let found = output[((channel / 4 * pixels + pixel) * 4 + channel % 4) as usize];
    let mut expected = 0.0;
    for from in 0..CHANNELS {
        for tap_y in 0..3 {
            for tap_x in 0..3 {
                let (row, column) = (y + tap_y, x + tap_x);
                if (1..=SIZE).contains(&row) && (1..=SIZE).contains(&column) {
                    expected += weight
                        [((channel * CHANNELS + from) * 9 + tap_y * 3 + tap_x) as usize]
                        * value(image, from, row - 1, column - 1);
                }
            }
        }
    }
    Ok(Report {
        found,
        expected,
        weight_gradient,
        input_gradient,
    })
}
