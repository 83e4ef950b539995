//! A program of its own: its `wgpu` device, its buffers, its compute pass. It records a convolution and its gradients between whatever
//! else it may record, reads the results back and compares them with plain loops.
//!
//! `cargo run --release -p smidgen-conv --example embed_convolution`
#![allow(clippy::print_stdout, unreachable_pub)] // A result is what this program is for; a test runs it too.

use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, WeightGradient, forward, input_gradient,
    pack_weight, unpack_weight, weight_gradient, workspace,
};
use smidgen_gpu::wgpu::{self, util::DeviceExt};
use smidgen_gpu::{Device, Region, Sequence, bytemuck};
use std::error::Error;

const BATCH: u32 = 2;
const CHANNELS: u32 = 8;
const SIZE: u32 = 6;

/// A convolution and its gradients. Maps are planes of quads, weights `[output, input, kernel_y, kernel_x]`.
#[derive(Debug)]
pub struct Results {
    /// The convolution.
    pub output: Vec<f32>,
    /// Gradient with respect to the input.
    pub input_gradient: Vec<f32>,
    /// Gradient with respect to the weight.
    pub weight_gradient: Vec<f32>,
}

impl Results {
    /// All three, by name.
    pub fn named(&self) -> [(&'static str, &[f32]); 3] {
        [
            ("output", &self.output),
            ("input gradient", &self.input_gradient),
            ("weight gradient", &self.weight_gradient),
        ]
    }
}

/// What the program found out.
#[derive(Debug)]
pub struct Report {
    /// What was convolved.
    pub input: Vec<f32>,
    /// With what.
    pub weight: Vec<f32>,
    /// From the kernels.
    pub found: Results,
    /// From plain loops.
    pub expected: Results,
}

fn main() -> Result<(), Box<dyn Error>> {
    let report = run()?;
    for ((name, found), (_, expected)) in report.found.named().iter().zip(report.expected.named()) {
        let pairs = found.iter().zip(expected);
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: {:?} ..., off by {worst} at most", &found[..3]);
    }
    Ok(())
}

/// Where a value stands in planes of quads.
fn place(image: u32, channel: u32, y: u32, x: u32) -> usize {
    let pixel = (image * SIZE + y) * SIZE + x;
    ((channel / 4 * BATCH * SIZE * SIZE + pixel) * 4 + channel % 4) as usize
}

/// Calls `visit` with the places in input, weight and output of every product of the convolution.
fn each_product(mut visit: impl FnMut(usize, usize, usize)) {
    for image in 0..BATCH {
        for (to, from) in (0..CHANNELS).flat_map(|to| (0..CHANNELS).map(move |from| (to, from))) {
            for (y, x) in (0..SIZE).flat_map(|y| (0..SIZE).map(move |x| (y, x))) {
                for tap in 0..9 {
                    // The padding is 1.
                    let (row, column) = (y + tap / 3, x + tap % 3);
                    if (1..=SIZE).contains(&row) && (1..=SIZE).contains(&column) {
                        visit(
                            place(image, from, row - 1, column - 1),
                            ((to * CHANNELS + from) * 9 + tap) as usize,
                            place(image, to, y, x),
                        );
                    }
                }
            }
        }
    }
}

/// The same from plain loops; the output stands for its own gradient.
fn plain_loops(input: &[f32], weight: &[f32]) -> Results {
    let mut output = vec![0.0; input.len()];
    each_product(|from, through, to| output[to] += input[from] * weight[through]);
    let mut input_gradient = vec![0.0; input.len()];
    let mut weight_gradient = vec![0.0; weight.len()];
    each_product(|from, through, to| {
        input_gradient[from] += output[to] * weight[through];
        weight_gradient[through] += output[to] * input[from];
    });
    Results {
        output,
        input_gradient,
        weight_gradient,
    }
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
    // Planes of quads as the input, and a weight in PyTorch's order.
    let input: Vec<f32> = (0..CHANNELS * BATCH * SIZE * SIZE)
        .map(|at| (at * 7 % 11) as f32 - 5.0)
        .collect();
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
    let workspace_bytes = workspace(Pass::WeightGradient, &shape, wrapped.facts(), None)?;
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
        None,
        &Forward {
            input: region(0).into(),
            weight: region(1),
            bias: None,
            output: region(2),
            workspace: None,
        },
    )?;
    // The output stands for its own gradient here: that of half the sum of its squares.
    launches.extend(input_gradient(
        &shape,
        wrapped.facts(),
        None,
        &InputGradient {
            output_gradient: region(2),
            weight: region(1),
            input_gradient: region(3),
            accumulate: false,
            derivative: None,
            workspace: None,
        },
    )?);
    launches.extend(weight_gradient(
        &shape,
        wrapped.facts(),
        None,
        &WeightGradient {
            input: region(0).into(),
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
    let found = Results {
        output: read(2)?,
        input_gradient: read(3)?,
        weight_gradient: unpack_weight(&shape, &read(4)?)?,
    };
    Ok(Report {
        expected: plain_loops(&input, &weight),
        found,
        input,
        weight,
    })
}
