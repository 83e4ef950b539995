use crate::Bytes;
use serde::Serialize;
use smidgen_gpu::{ALLOCATOR_BLOCK_BYTES, DeviceFacts, DeviceKind};

/// Every byte a session will reserve on the device, known before it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Tensors: parameters, state, stashes, transients, workspace.
    pub arena: u64,
    /// Parameters of the kernels.
    pub uniforms: u64,
    /// Host to device, in all buffers of the ring.
    pub staging: u64,
    /// Device to host, in all buffers of the rings.
    pub readback: u64,
    /// What the allocator may reserve beyond these, at most: the rest of the blocks that small buffers share.
    pub rounding: u64,
    /// Stashes in the host's memory, which are no bytes of the device and in no sum of these.
    pub host: u64,
}

/// The zeros that wgpu copies from, one buffer a device.
const ZERO_BUFFER_BYTES: u64 = 512 << 10;

impl Footprint {
    /// Adds up the buffers of a session on a device: `(arena, uniforms, staging, readback)`, each a list of buffer sizes.
    #[must_use]
    pub fn new(
        facts: &DeviceFacts,
        arena: &[u64],
        uniforms: &[u64],
        staging: &[u64],
        readback: &[u64],
    ) -> Self {
        // Where memory is one, all buffers share blocks; a discrete device keeps its own, the upload and the download memory apart.
        // In the order in which they are made, but for the few that bring back metrics.
        let zeros = [ZERO_BUFFER_BYTES];
        let rounding = if matches!(facts.kind, DeviceKind::Discrete | DeviceKind::Virtual) {
            let device = [&zeros, arena, uniforms].concat();
            // Parameters of kernels pass through upload memory, of which the allocator keeps the block.
            let passing = uniforms.iter().copied().max().unwrap_or(0);
            let upload = [&[passing], staging].concat();
            rounding(&device) + rounding(&upload) + passing + rounding(readback)
        } else {
            rounding(&[&zeros, arena, staging, readback, uniforms].concat())
        };
        Self {
            arena: arena.iter().sum(),
            uniforms: uniforms.iter().sum(),
            staging: staging.iter().sum(),
            readback: readback.iter().sum(),
            rounding: rounding + ZERO_BUFFER_BYTES,
            host: 0,
        }
    }

    /// The same with so many bytes in the host's memory.
    #[must_use]
    pub fn with_host(self, host: u64) -> Self {
        Self { host, ..self }
    }

    /// The sum, in bytes: what a budget is compared with.
    #[must_use]
    pub fn total(&self) -> Bytes {
        Bytes(self.arena + self.uniforms + self.staging + self.readback + self.rounding)
    }

    /// The sum without the allocator's rounding: what the ledger will hold.
    #[must_use]
    pub fn ledger(&self) -> Bytes {
        Bytes(self.total().0 - self.rounding)
    }
}

/// What the allocator reserves beyond the sum of these buffers of one kind of memory: the newest block of a fixed size that has room for each, or another one;
/// what is larger than a block stands alone, rounded up to a page.
fn rounding(buffers: &[u64]) -> u64 {
    let mut blocks: Vec<u64> = Vec::new();
    let mut reserved = 0;
    for bytes in buffers {
        let padded = bytes.next_multiple_of(SHARED_BYTES);
        if *bytes > ALLOCATOR_BLOCK_BYTES {
            reserved += bytes.next_multiple_of(PAGE_BYTES);
        } else if let Some(free) = blocks.iter_mut().rev().find(|free| **free >= padded) {
            *free -= padded;
        } else {
            blocks.push(ALLOCATOR_BLOCK_BYTES - padded);
        }
    }
    reserved + blocks.len() as u64 * ALLOCATOR_BLOCK_BYTES - buffers.iter().sum::<u64>()
}

/// Drivers round a buffer's memory up to this, at most.
const PAGE_BYTES: u64 = 64 << 10;
/// What shares a block counts in pieces of this size: the allocator adds a little to each, and plans may fill a block to the last byte.
const SHARED_BYTES: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use super::rounding;

    #[test]
    fn small_buffers_share_blocks_and_large_ones_stand_alone() {
        const MIB: u64 = 1 << 20;
        assert_eq!(rounding(&[]), 0);
        assert_eq!(rounding(&[MIB]), 3 * MIB);
        assert_eq!(rounding(&[MIB, 2 * MIB]), MIB);
        assert_eq!(rounding(&[3 * MIB, 2 * MIB]), 3 * MIB);
        assert_eq!(rounding(&[64 * MIB]), 0);
        // Four that would fit to the byte.
        assert_eq!(rounding(&[MIB, MIB, MIB, MIB - 100, 50]), 4 * MIB + 50);
    }
}
