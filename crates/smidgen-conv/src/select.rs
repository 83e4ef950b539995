//! The choice of tiles: pure functions of shape and device, apart from the launches.

use crate::ConvolutionShape;
use smidgen_gpu::{DeviceFacts, DeviceKind};

/// Neighbouring pixels of a row that one invocation computes: as many as waste little of the row.
pub(crate) fn row_tile(count: u32) -> u32 {
    [4, 2]
        .into_iter()
        .find(|tile| count.next_multiple_of(*tile) * 3 <= count * 4)
        .unwrap_or(1)
}

/// Pixels of an invocation of a pointwise kernel: as many as still give every device enough invocations.
pub(crate) fn pointwise_tile(pixels: u32) -> u32 {
    match pixels {
        0..=64 => 1,
        65..=128 => 2,
        _ => 4,
    }
}

/// Target quads of an invocation: few enough accumulators for the registers, and a divisor so that no quad is left over.
pub(crate) fn target_quads(quads: u32, pixels: u32, facts: &DeviceFacts) -> u32 {
    let most = match (facts.kind, pixels) {
        (DeviceKind::Software, _) => 8 / pixels,
        (_, 4) => 1,
        (_, 2) => 2,
        _ => 4,
    };
    (1..=most.min(4))
        .rev()
        .find(|size| quads % size == 0)
        .unwrap_or(1)
}

/// Blocks that a workgroup of the weight gradient sums: output quads, taps of a row, input quads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockTile {
    pub(crate) output_quads: u32,
    pub(crate) taps: u32,
    pub(crate) input_quads: u32,
}

pub(crate) fn block_tile(shape: &ConvolutionShape) -> BlockTile {
    let row = shape.kernel[1];
    let taps = row.div_ceil(row.div_ceil(3));
    let even = |quads: u32| if quads % 2 == 0 { 2 } else { 1 };
    let output_quads = if shape.groups > 1 {
        1
    } else {
        even(shape.output_quads())
    };
    let input_quads = if shape.groups > 1 || taps > 1 {
        1
    } else {
        even(shape.slots())
    };
    BlockTile {
        output_quads,
        taps,
        input_quads,
    }
}

/// Into how many shares of the pixels a sum is split, so that the device has enough workgroups: `groups` workgroups work on each
/// share, `steps` is the number of loop steps that can be shared out, `bytes` what one share's result takes.
pub(crate) fn splits(groups: u64, steps: u64, bytes: u64, facts: &DeviceFacts) -> u32 {
    // A share's result has to be written and summed, so a share should be a few steps long.
    let (wanted_groups, steps_of_share) = match facts.kind {
        DeviceKind::Software => (16, 8),
        DeviceKind::Integrated => (256, 4),
        DeviceKind::Discrete | DeviceKind::Virtual => (1024, 2),
    };
    const MOST_BYTES: u64 = 32 << 20;
    let wanted = wanted_groups / groups.max(1);
    let most = (steps / steps_of_share).min(MOST_BYTES / bytes.max(1));
    wanted.min(most).clamp(1, 256) as u32
}
