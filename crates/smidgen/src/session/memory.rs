//! The device memory of a session, and how bytes get in and out of it without allocating.

use super::compiled::Compiled;
use crate::Error;
use smidgen_gpu::wgpu::{self, CommandEncoder};
use smidgen_gpu::{Device, ReadbackRing, StagingRing, bytemuck};
use smidgen_graph::Program;
use smidgen_ops::control::Control;
use smidgen_plan::{Place, Plan};

pub(super) const STAGING_BUFFERS: usize = 2;
/// Parameters travel in pieces of this size, so that a checkpoint needs no memory of the size of the network.
pub(super) const TRANSFER_BYTES: u64 = 256 << 10;

/// Bytes that are sent before a step: pictures, labels, and what of the control block is the host's.
pub(super) fn upload_bytes(program: &Program) -> u64 {
    let bytes = |id| program.value(id).layout.bytes();
    bytes(program.images) + bytes(program.labels) + Control::HOST_BYTES
}

/// The arena and the buffers that carry data to it and from it.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) device: Device,
    pub(super) arena: Vec<wgpu::Buffer>,
    /// Where the arena is cut into buffers.
    buffer_bytes: u64,
    staging: StagingRing,
    transfer: ReadbackRing,
}

impl Memory {
    /// Reserves the arena of a plan and the transfer buffers.
    pub(super) fn new(device: Device, plan: &Plan, staging_bytes: u64) -> Result<Self, Error> {
        let arena = plan
            .buffers()
            .iter()
            .map(|bytes| device.storage_buffer("arena", *bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            arena,
            buffer_bytes: plan.limits.max_buffer_bytes,
            staging: StagingRing::new(&device, staging_bytes, STAGING_BUFFERS)?,
            transfer: ReadbackRing::new(&device, TRANSFER_BYTES, STAGING_BUFFERS)?,
            device,
        })
    }

    /// The buffer that a place lies in, and its offset there.
    pub(super) fn locate(&self, place: Place) -> (&wgpu::Buffer, u64) {
        locate(&self.arena, self.buffer_bytes, place)
    }

    pub(super) fn encoder(&self) -> CommandEncoder {
        self.device
            .wgpu()
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Zeroes the arena.
    pub(super) fn clear(&self) {
        let mut encoder = self.encoder();
        for buffer in &self.arena {
            encoder.clear_buffer(buffer, 0, None);
        }
        self.device.queue().submit([encoder.finish()]);
    }

    pub(super) fn read(&mut self, place: Place) -> Result<Vec<u32>, Error> {
        let mut words = Vec::with_capacity((place.bytes / 4) as usize);
        let mut at = 0;
        while at < place.bytes {
            let bytes = (place.bytes - at).min(TRANSFER_BYTES);
            let mut encoder = self.encoder();
            let (buffer, offset) = locate(&self.arena, self.buffer_bytes, place);
            self.transfer
                .download(&mut encoder, buffer, offset + at, bytes)?;
            let submission = self.device.queue().submit([encoder.finish()]);
            self.transfer.submitted(submission);
            self.transfer.oldest(&self.device, |view| {
                let read = view[..bytes as usize].chunks_exact(4);
                words.extend(read.map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            })?;
            at += bytes;
        }
        Ok(words)
    }

    pub(super) fn write(&mut self, place: Place, contents: &[u8]) -> Result<(), Error> {
        for (at, piece) in contents.chunks(TRANSFER_BYTES as usize).enumerate() {
            let mut encoder = self.encoder();
            let (buffer, offset) = locate(&self.arena, self.buffer_bytes, place);
            let copies = [(
                0,
                buffer,
                offset + at as u64 * TRANSFER_BYTES,
                piece.len() as u64,
            )];
            self.staging
                .upload(&self.device, &mut encoder, &copies, |view| {
                    view.slice(..piece.len()).copy_from_slice(piece);
                })?;
            self.submit(encoder);
        }
        Ok(self.device.check()?)
    }

    pub(super) fn is_finite(&mut self, place: Place) -> Result<bool, Error> {
        let words = self.read(place)?;
        Ok(words.iter().all(|word| f32::from_bits(*word).is_finite()))
    }

    /// Records the upload of a batch and of the host's part of the control block; [`submit`](Self::submit) must follow.
    pub(super) fn upload(
        &mut self,
        encoder: &mut CommandEncoder,
        compiled: &Compiled,
        (images, labels): (&[f32], &[u32]),
        control: &Control,
    ) -> Result<(), Error> {
        let program = &compiled.program;
        let images: &[u8] = bytemuck::cast_slice(images);
        let labels: &[u8] = bytemuck::cast_slice(labels);
        let expected = program.value(program.images).layout.bytes();
        if images.len() as u64 != expected
            || labels.len() as u64 != program.value(program.labels).layout.bytes()
        {
            return Err(Error::BatchSize {
                images: images.len() as u64 / 4,
                expected: expected / 4,
            });
        }
        let control = &bytemuck::bytes_of(control)[..Control::HOST_BYTES as usize];
        let parts = [
            (program.images, images),
            (program.labels, labels),
            (program.control, control),
        ];
        let (mut copies, mut from) = (Vec::with_capacity(parts.len()), 0);
        for (id, part) in parts {
            // A value that nothing reads has no place, and is not sent.
            if let Some(place) = compiled.plan.values[id.0] {
                let (buffer, offset) = locate(&self.arena, self.buffer_bytes, place);
                copies.push((from, buffer, offset, part.len() as u64));
            }
            from += part.len() as u64;
        }
        self.staging
            .upload(&self.device, encoder, &copies, |view| {
                let mut at = 0;
                for (_, part) in parts {
                    view.slice(at..at + part.len()).copy_from_slice(part);
                    at += part.len();
                }
            })?;
        Ok(())
    }

    /// Waits until the next upload need not.
    pub(super) fn wait_for_staging(&self) -> Result<(), Error> {
        Ok(self.staging.wait(&self.device)?)
    }

    /// Submits commands that an upload was recorded into.
    pub(super) fn submit(&mut self, encoder: CommandEncoder) -> wgpu::SubmissionIndex {
        let submission = self.device.queue().submit([encoder.finish()]);
        self.staging.submitted(submission.clone());
        submission
    }
}

fn locate(arena: &[wgpu::Buffer], buffer_bytes: u64, place: Place) -> (&wgpu::Buffer, u64) {
    let buffer = (place.offset / buffer_bytes) as usize;
    (&arena[buffer], place.offset % buffer_bytes)
}
