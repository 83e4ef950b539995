use crate::{Category, Device, GpuError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const UNMAPPED: u8 = 0;
const MAPPED: u8 = 1;
const FAILED: u8 = 2;

#[derive(Debug)]
struct Slot {
    buffer: wgpu::Buffer,
    state: Arc<AtomicU8>,
    /// The submission that uses the buffer before it is mapped again.
    submission: Option<wgpu::SubmissionIndex>,
}

impl Slot {
    fn map(&mut self, mode: wgpu::MapMode, submission: wgpu::SubmissionIndex) {
        self.submission = Some(submission);
        let state = Arc::clone(&self.state);
        state.store(UNMAPPED, Ordering::Release);
        self.buffer.map_async(mode, .., move |result| {
            state.store(
                if result.is_ok() { MAPPED } else { FAILED },
                Ordering::Release,
            );
        });
    }

    fn wait(&self, device: &Device) -> Result<(), GpuError> {
        if self.state.load(Ordering::Acquire) == UNMAPPED {
            // Not for what was submitted later: the device goes on with that while the host fills or reads this buffer.
            match &self.submission {
                Some(submission) => device.wait_for(submission)?,
                None => device.wait()?,
            }
        }
        match self.state.load(Ordering::Acquire) {
            MAPPED => Ok(()),
            _ => {
                // Where the device was lost, this says so.
                device.wait()?;
                Err(GpuError::Refused(
                    "a transfer buffer could not be mapped".into(),
                ))
            }
        }
    }
}

fn slots(
    device: &Device,
    label: &str,
    category: Category,
    bytes: u64,
    count: usize,
    usage: wgpu::BufferUsages,
    mapped: bool,
) -> Result<Vec<Slot>, GpuError> {
    let mut slots = Vec::with_capacity(count);
    // A ring of none could not turn.
    for _ in 0..count.max(1) {
        match device.buffer(label, category, bytes, usage, mapped) {
            Ok(buffer) => slots.push(Slot {
                buffer,
                state: Arc::new(AtomicU8::new(if mapped { MAPPED } else { UNMAPPED })),
                submission: None,
            }),
            Err(error) => {
                slots.iter().for_each(|_| device.ledger().release(label));
                return Err(error);
            }
        }
    }
    Ok(slots)
}

/// A few host-visible buffers that take turns in carrying data to the device, so that no step allocates.
///
/// `Queue::write_buffer` would allocate a staging buffer of the size of the data on every call, outside the ledger.
#[derive(Debug)]
pub struct StagingRing {
    slots: Vec<Slot>,
    next: usize,
}

impl StagingRing {
    /// `count` buffers (at least one) of `bytes` each.
    ///
    /// # Errors
    /// No room in the budget or on the device.
    pub fn new(device: &Device, bytes: u64, count: usize) -> Result<Self, GpuError> {
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        Ok(Self {
            slots: slots(
                device,
                "staging",
                Category::Staging,
                bytes,
                count,
                usage,
                true,
            )?,
            next: 0,
        })
    }

    /// Fills the next buffer with `write` (waiting until the device has read its former contents) and records the copy of its
    /// parts `(from, to buffer, to offset, bytes)` into `encoder`. [`submitted`](Self::submitted) must follow the submission.
    ///
    /// # Errors
    /// A lost device, or a buffer that cannot be mapped.
    pub fn upload(
        &mut self,
        device: &Device,
        encoder: &mut wgpu::CommandEncoder,
        copies: &[(u64, &wgpu::Buffer, u64, u64)],
        write: impl FnOnce(&mut wgpu::BufferViewMut),
    ) -> Result<(), GpuError> {
        let slot = &self.slots[self.next];
        slot.wait(device)?;
        {
            let mut view = slot
                .buffer
                .get_mapped_range_mut(..)
                .map_err(|error| GpuError::Refused(error.to_string()))?;
            write(&mut view);
        }
        slot.buffer.unmap();
        for (from, to, to_offset, bytes) in copies {
            encoder.copy_buffer_to_buffer(&slot.buffer, *from, to, *to_offset, *bytes);
        }
        Ok(())
    }

    /// Waits until the next buffer is free: what [`upload`](Self::upload) would wait for.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub fn wait(&self, device: &Device) -> Result<(), GpuError> {
        self.slots[self.next].wait(device)
    }

    /// After the submission of the copies: the buffer is asked back, and the next one takes its turn.
    pub fn submitted(&mut self, submission: wgpu::SubmissionIndex) {
        self.slots[self.next].map(wgpu::MapMode::Write, submission);
        self.next = (self.next + 1) % self.slots.len();
    }
}

/// A few host-readable buffers that take turns in carrying small results back, read some steps later without stalling.
#[derive(Debug)]
pub struct ReadbackRing {
    slots: Vec<Slot>,
    written: u64,
    read: u64,
}

impl ReadbackRing {
    /// `count` buffers (at least one) of `bytes` each.
    ///
    /// # Errors
    /// No room in the budget or on the device.
    pub fn new(device: &Device, bytes: u64, count: usize) -> Result<Self, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Self {
            slots: slots(
                device,
                "readback",
                Category::Readback,
                bytes,
                count,
                usage,
                false,
            )?,
            written: 0,
            read: 0,
        })
    }

    /// Results recorded and not yet read.
    #[must_use]
    pub fn pending(&self) -> usize {
        (self.written - self.read) as usize
    }

    /// Whether a result must be read before the next one can be recorded.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending() == self.slots.len()
    }

    /// Records the copy of `bytes` from `buffer` at `offset` into the next free buffer, there at `to`. [`submitted`](Self::submitted)
    /// must follow the submission of the last copy into it.
    ///
    /// # Errors
    /// The ring is full.
    pub fn download(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        buffer: &wgpu::Buffer,
        offset: u64,
        to: u64,
        bytes: u64,
    ) -> Result<(), GpuError> {
        if self.is_full() {
            return Err(GpuError::Refused(
                "a result was recorded before an older one was read".into(),
            ));
        }
        let slot = &self.slots[self.written as usize % self.slots.len()];
        encoder.copy_buffer_to_buffer(buffer, offset, &slot.buffer, to, bytes);
        Ok(())
    }

    /// After the submission of the copy.
    pub fn submitted(&mut self, submission: wgpu::SubmissionIndex) {
        let at = self.written as usize % self.slots.len();
        self.slots[at].map(wgpu::MapMode::Read, submission);
        self.written += 1;
    }

    /// Waits for the oldest result and hands its bytes to `read`; `None` if there is none.
    ///
    /// # Errors
    /// A lost device, or a buffer that cannot be mapped.
    pub fn oldest<R>(
        &mut self,
        device: &Device,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, GpuError> {
        if self.pending() == 0 {
            return Ok(None);
        }
        let slot = &self.slots[self.read as usize % self.slots.len()];
        slot.wait(device)?;
        let result = {
            let view = slot
                .buffer
                .get_mapped_range(..)
                .map_err(|error| GpuError::Refused(error.to_string()))?;
            read(&view)
        };
        slot.buffer.unmap();
        self.read += 1;
        Ok(Some(result))
    }
}
