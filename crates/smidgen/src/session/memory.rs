//! The device memory of a session, and how bytes get in and out of it without allocating.

use super::compiled::Compiled;
use crate::{Error, Metrics};
use smidgen_gpu::wgpu::{self, CommandEncoder};
use smidgen_gpu::{Device, ReadbackRing, StagingRing, bytemuck};
use smidgen_graph::{Layout, Program};
use smidgen_ops::control::Control;
use smidgen_ops::loss::IGNORED_LABEL;
use smidgen_plan::{Place, Plan};

/// The name of the arena in the ledger, and of its part in the host's memory.
pub(super) const ARENA: &str = "arena";
const HOST_ARENA: &str = "arena on the host";
pub(super) const STAGING_BUFFERS: usize = 2;
/// Parameters travel in pieces of this size, so that a checkpoint needs no memory of the size of the network.
pub(super) const TRANSFER_BYTES: u64 = 256 << 10;

/// Bytes that are sent before a step: pictures, labels, and what of the control block is the host's.
pub(super) fn upload_bytes(program: &Program) -> u64 {
    let bytes = |id| program.value(id).layout.bytes();
    bytes(program.images) + bytes(program.labels) + Control::HOST_BYTES
}

/// Bytes that come back after a step: the metrics of each micro-batch.
pub(super) fn metrics_bytes(program: &Program) -> u64 {
    Metrics::BYTES * u64::from(program.micro_batches)
}

/// A batch, of which a part is computed at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    /// Planes of quads.
    pub(super) images: &'a [f32],
    /// Planes of words.
    pub(super) labels: &'a [u32],
    /// Which part.
    pub(super) part: usize,
    /// Of how many.
    pub(super) parts: usize,
}

impl<'a> Batch<'a> {
    /// Each of its parts.
    pub(super) fn parts(self) -> impl Iterator<Item = Self> {
        (0..self.parts).map(move |part| Self { part, ..self })
    }

    pub(super) fn is_first(&self) -> bool {
        self.part == 0
    }

    pub(super) fn is_last(&self) -> bool {
        self.part + 1 == self.parts
    }

    /// Pictures of all parts that count, where there are several: what the mean loss is over.
    pub(super) fn samples(&self, words: usize) -> u32 {
        let classes = &self.labels[..self.labels.len() / words.max(1)];
        let counted = classes.iter().filter(|label| **label != IGNORED_LABEL);
        if self.parts > 1 {
            counted.count() as u32
        } else {
            0
        }
    }

    /// What the host tells the device before this part: no two parts draw the same random numbers.
    pub(super) fn control(&self, control: Control) -> Control {
        Control {
            seed: control.seed ^ (self.part as u32).wrapping_mul(0xc2b2_ae35),
            ..control
        }
    }

    /// The bytes of this part of a tensor of `planes`, plane by plane.
    fn part_of(&self, tensor: &'a [u8], planes: usize) -> impl Iterator<Item = &'a [u8]> {
        let Self { part, parts, .. } = *self;
        let plane = (tensor.len() / planes).max(1);
        let bytes = plane / parts;
        tensor
            .chunks(plane)
            .map(move |plane| &plane[part * bytes..][..bytes])
    }
}

/// The buffers of a plan: those of the arena, and behind them those in the host's memory. Enters them one by one, so that what was made before
/// an error can be given back.
pub(super) fn reserve(
    device: &Device,
    plan: &Plan,
    buffers: &mut Vec<wgpu::Buffer>,
) -> Result<(), Error> {
    for bytes in plan.buffers() {
        buffers.push(device.storage_buffer(ARENA, bytes)?);
    }
    for bytes in plan.host_buffers() {
        buffers.push(device.host_buffer(HOST_ARENA, bytes)?);
    }
    Ok(())
}

/// Gives back what was reserved for a plan.
pub(super) fn release(device: &Device, plan: &Plan, buffers: Vec<wgpu::Buffer>) {
    let on_device = plan.buffers().len();
    for (at, buffer) in buffers.into_iter().enumerate() {
        buffer.destroy();
        let label = if at < on_device { ARENA } else { HOST_ARENA };
        device.ledger().release(label);
    }
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
        let mut arena = Vec::new();
        reserve(&device, plan, &mut arena)?;
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

    /// Records that these places are zeroed.
    pub(super) fn zero(&self, encoder: &mut CommandEncoder, places: &[Place]) {
        for place in places {
            let (buffer, offset) = self.locate(*place);
            encoder.clear_buffer(buffer, offset, Some(place.bytes));
        }
    }

    pub(super) fn read(&mut self, place: Place) -> Result<Vec<u32>, Error> {
        let mut words = Vec::with_capacity((place.bytes / 4) as usize);
        let mut at = 0;
        while at < place.bytes {
            let bytes = (place.bytes - at).min(TRANSFER_BYTES);
            let mut encoder = self.encoder();
            let (buffer, offset) = locate(&self.arena, self.buffer_bytes, place);
            self.transfer
                .download(&mut encoder, buffer, offset + at, 0, bytes)?;
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
        batch: Batch<'_>,
        control: &Control,
    ) -> Result<(), Error> {
        let program = &compiled.program;
        let images: &[u8] = bytemuck::cast_slice(batch.images);
        let labels: &[u8] = bytemuck::cast_slice(batch.labels);
        let own = |id| program.value(id).layout.bytes();
        let (own_images, own_labels) = (own(program.images), own(program.labels));
        let expected = own_images * batch.parts as u64;
        if images.len() as u64 != expected || labels.len() as u64 != own_labels * batch.parts as u64
        {
            return Err(Error::BatchSize {
                images: images.len() as u64 / 4,
                expected: expected / 4,
            });
        }
        let control = &bytemuck::bytes_of(control)[..Control::HOST_BYTES as usize];
        let slabs = program.slabs();
        let of_images = |images: u32| own_images / u64::from(slabs.batch) * u64::from(images);
        let stride = slabs.stride(of_images);
        let pictures = (0..).zip(slabs.each());
        let pictures =
            pictures.map(|(slab, images)| (program.images, slab * stride, of_images(images)));
        let rest = [
            (program.labels, 0, own_labels),
            (program.control, 0, Control::HOST_BYTES),
        ];
        let (mut copies, mut from) = (Vec::new(), 0);
        for (id, first, bytes) in pictures.chain(rest) {
            // A value that nothing reads has no place, and is not sent.
            if let Some(place) = compiled.plan.values[id.0] {
                let (buffer, offset) = locate(&self.arena, self.buffer_bytes, place);
                copies.push((from, buffer, offset + first, bytes));
            }
            from += bytes;
        }
        self.staging
            .upload(&self.device, encoder, &copies, |view| {
                let mut at = 0;
                let planes = match program.value(program.images).layout {
                    Layout::Map(shape) => shape.quads() as usize,
                    _ => 1,
                };
                let words = (own_labels / (4 * u64::from(program.batch))) as usize;
                let slab = |(slab, count): (u32, u32)| {
                    let bytes = |count: u32| of_images(count) as usize / planes;
                    let first = bytes(slab * slabs.images);
                    let planes = batch.part_of(images, planes);
                    planes.map(move |plane| &plane[first..][..bytes(count)])
                };
                let images = (0..).zip(slabs.each()).flat_map(slab);
                let labels = batch.part_of(labels, words);
                for piece in images.chain(labels).chain([control]) {
                    view.slice(at..at + piece.len()).copy_from_slice(piece);
                    at += piece.len();
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
