//! A program of its own: its `wgpu` device, its buffer, its compute pass. It compresses the buffer in several ways, reads it back and says
//! what that took and lost.
//!
//! `cargo run --release -p smidgen-stash --example embed_stash`
#![allow(clippy::print_stdout, unreachable_pub)] // A result is what this program is for; a test runs it too.

use smidgen_gpu::wgpu::{self, util::DeviceExt};
use smidgen_gpu::{Device, Region, Sequence, bytemuck};
use smidgen_stash::{Bits, Bound, Codec, Decode, Encode, Group, Seed, StashShape, decode, encode};
use std::error::Error;

/// What became of the buffer.
#[derive(Debug)]
pub struct Report {
    /// How it was held.
    pub codec: Codec,
    /// Bytes of the values.
    pub value_bytes: u64,
    /// Bytes of the stash.
    pub stash_bytes: u64,
    /// The largest error.
    pub error: f64,
    /// The largest that the codec allows: for the error-bounded one, what the device reports.
    pub allowed: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    for report in run()? {
        println!(
            "{:?}: {} bytes instead of {}, no value off by more than {:.5} (at most {:.5})",
            report.codec, report.stash_bytes, report.value_bytes, report.error, report.allowed
        );
    }
    Ok(())
}

/// Runs the program.
///
/// # Errors
/// No device, or one that refuses.
pub fn run() -> Result<Vec<Report>, Box<dyn Error>> {
    // The caller's own device and queue; a wave is what it keeps.
    let instance =
        wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) =
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let wave: Vec<f32> = (0..100_000)
        .map(|at| (at as f32 * 0.001).sin() * (at as f32 * 0.37).cos())
        .collect();
    let shape = StashShape::flat(wave.len() as u32)?;

    let group = Group::G64;
    let linear = |bits| Codec::Linear { bits, group };
    let bits = Bits::Eight;
    let codecs = [
        (Codec::Half, 1.0 / 4096.0),
        // A group spans at most 2, and a step may be rounded up by a part in 128.
        (linear(Bits::Eight), 2.02 / 255.0),
        (linear(Bits::Four), 2.02 / 15.0),
        (linear(Bits::Two), 2.03 / 3.0),
        (Codec::Lattice { bits, group }, 0.0),
    ];
    codecs
        .into_iter()
        .map(|(codec, allowed)| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            let filled = |contents: &[u8]| {
                device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                    label: None,
                    contents,
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
            let buffers = [
                filled(bytemuck::cast_slice(&wave)),
                empty(codec.encoded_bytes(&shape)),
                empty(shape.value_bytes()),
                filled(bytemuck::bytes_of(&7_u32)),
                filled(bytemuck::bytes_of(&Bound::wanted(0.001)?)),
            ];
            let region = |at: usize| Region::whole(at, buffers[at].size());
            let mut launches = encode(
                codec,
                &shape,
                &Encode {
                    values: region(0),
                    stash: region(1),
                    seed: Some(Seed {
                        region: region(3),
                        word: 0,
                        tensor: 0,
                    }),
                    bound: Some(region(4)),
                },
            )?;
            launches.extend(decode(
                codec,
                &shape,
                &Decode {
                    stash: region(1),
                    values: region(2),
                },
            )?);

            // Kernels only ask for what they need of a device; a wrapped one stays the caller's. So does the pass.
            let wrapped = Device::wrap(device.clone(), queue.clone());
            let sequence = Sequence::prepare(&wrapped, &launches, &buffers.each_ref())?;
            let mut encoder =
                device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                sequence.record(&mut pass);
            }
            queue.submit([encoder.finish()]);

            let decoded: Vec<f32> = wrapped.read(&buffers[2], 0, wave.len())?;
            let errors = wave.iter().zip(&decoded);
            let error = errors
                .map(|(a, b)| f64::from((a - b).abs()))
                .fold(0.0, f64::max);
            let bound = wrapped.read::<Bound>(&buffers[4], 0, 1)?[0];
            let allowed = match codec {
                Codec::Lattice { .. } => bound.achieved(),
                _ => allowed,
            };
            Ok(Report {
                codec,
                value_bytes: shape.value_bytes(),
                stash_bytes: codec.encoded_bytes(&shape),
                error,
                allowed,
            })
        })
        .collect()
}
