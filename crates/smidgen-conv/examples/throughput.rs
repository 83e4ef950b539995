//! Throughput of the kernels on this device: `cargo run --release -p smidgen-conv --example throughput`.
#![allow(clippy::print_stdout)] // A report is what this program is for.

use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, WeightGradient, forward, input_gradient,
    weight_gradient, weight_gradient_workspace,
};
use smidgen_gpu::{Device, DeviceRequest, GpuError, Launch, Region, Sequence};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::open(&DeviceRequest::default())?;
    println!("{}: GFLOP/s, median of 5", device.facts().name);
    println!(
        "{:28} {:>9} {:>9} {:>9}",
        "", "forward", "d input", "d weight"
    );
    let only = std::env::args().nth(1).unwrap_or_default();
    let square = |batch, channels, size, outputs, kernel| {
        ConvolutionShape::new(batch, [channels, size, size], outputs, [kernel; 2])
            .with_padding(kernel / 2)
    };
    for (name, shape) in [
        ("3x3 3->16 @32 b32", square(32, 3, 32, 16, 3)),
        ("3x3 16->16 @32 b32", square(32, 16, 32, 16, 3)),
        (
            "3x3 16->32 @32 s2 b32",
            square(32, 16, 32, 32, 3).with_stride(2),
        ),
        ("3x3 32->32 @16 b32", square(32, 32, 16, 32, 3)),
        ("3x3 64->64 @8 b32", square(32, 64, 8, 64, 3)),
        ("3x3 64->64 @56 b8", square(8, 64, 56, 64, 3)),
        ("1x1 64->384 @28 b8", square(8, 64, 28, 384, 1)),
        (
            "7x7 3->64 @112 s2 b4",
            square(4, 3, 112, 64, 7).with_stride(2),
        ),
        (
            "depthwise 3x3 96 @28 b8",
            square(8, 96, 28, 96, 3).with_groups(96),
        ),
        (
            "linear 512->512 b128",
            ConvolutionShape::linear(128, 512, 512),
        ),
    ] {
        if name.contains(&only) {
            report(&device, name, &shape)?;
        }
    }
    Ok(())
}

fn report(device: &Device, name: &str, shape: &ConvolutionShape) -> Result<(), Box<dyn Error>> {
    let facts = device.facts();
    let mut sizes = vec![
        shape.input_bytes(),
        shape.weight_bytes(),
        shape.output_bytes(),
    ];
    let workspace_bytes = weight_gradient_workspace(shape, facts)?;
    sizes.push(workspace_bytes.max(4));
    let buffers = sizes
        .iter()
        .map(|bytes| device.buffer_with("tensor", &vec![0.5_f32; *bytes as usize / 4]))
        .collect::<Result<Vec<_>, _>>()?;
    let [input, weight, output, workspace] = [0, 1, 2, 3].map(|at| Region::whole(at, sizes[at]));
    let passes = [
        forward(
            shape,
            facts,
            &Forward {
                input,
                weight,
                bias: None,
                output,
            },
        )?,
        input_gradient(
            shape,
            facts,
            &InputGradient {
                output_gradient: output,
                weight,
                input_gradient: input,
                accumulate: false,
            },
        )?,
        weight_gradient(
            shape,
            facts,
            &WeightGradient {
                input,
                output_gradient: output,
                weight_gradient: weight,
                bias_gradient: None,
                workspace: (workspace_bytes > 0).then_some(workspace),
            },
        )?,
    ];
    let rates = passes
        .iter()
        .map(|launches| rate(device, launches, &buffers, 2 * shape.multiply_adds()))
        .collect::<Result<Vec<_>, _>>()?;
    println!(
        "{name:28} {:9.1} {:9.1} {:9.1}",
        rates[0], rates[1], rates[2]
    );
    device.ledger().release("tensor");
    Ok(())
}

fn rate(
    device: &Device,
    launches: &[Launch],
    buffers: &[smidgen_gpu::wgpu::Buffer],
    operations: u64,
) -> Result<f64, GpuError> {
    let buffers: Vec<_> = buffers.iter().collect();
    let sequence = Sequence::prepare(device, launches, &buffers)?;
    // Long enough that submitting does not count.
    let repeats = (1_000_000_000 / operations).clamp(1, 20);
    device.run(|pass| sequence.record(pass))?;
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        device.run(|pass| (0..repeats).for_each(|_| sequence.record(pass)))?;
        seconds.push(start.elapsed().as_secs_f64() / repeats as f64);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(operations as f64 / seconds[2] / 1e9)
}
