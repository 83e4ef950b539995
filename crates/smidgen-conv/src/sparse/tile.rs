//! The choice of tiles: pure functions of shape and device.

use super::SparseShape;
use crate::select;
use smidgen_gpu::{DeviceFacts, DeviceKind};

/// What an invocation of the gathering kernel computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GatherTile {
    pub(super) pixels: u32,
    /// Output quads of a block.
    quads: u32,
    /// Blocks that are loaded together.
    unit: u32,
    /// Lanes that load blocks together; a GPU broadcasts a load of one address by itself.
    subgroup: Option<u32>,
}

impl GatherTile {
    /// For `pixels` target pixels and blocks of `quads` output quads: as many pixels as still fill a workgroup, and where the lanes of a
    /// subgroup share what a block needs, as many as leave that a small part.
    pub(super) fn of(pixels: u32, quads: u32, facts: &DeviceFacts) -> Self {
        let software = facts.kind == DeviceKind::Software;
        let subgroup = select::subgroup(facts).filter(|_| software);
        Self {
            pixels: match pixels {
                0..=64 => 1,
                65..=128 => 2,
                1024.. if subgroup.is_some() && quads == 1 => 8,
                _ => 4,
            },
            quads,
            unit: subgroup.map_or(1, |size| (size / (4 * quads)).max(1)),
            subgroup,
        }
    }

    pub(super) fn defines(self) -> Vec<(&'static str, String)> {
        let mut defines = vec![
            ("QUADS", self.quads.to_string()),
            ("TILE", self.pixels.to_string()),
            ("UNIT", self.unit.to_string()),
        ];
        if let Some(size) = self.subgroup {
            let loads = (self.quads * 4 * self.unit).div_ceil(size);
            defines.push(("SUBGROUP", size.to_string()));
            defines.push(("LOADS", loads.to_string()));
        }
        defines
    }
}

/// Slots that a team of the weight gradient sums. A software device reads the output gradient the fewer times the more there are; on a GPU few leave
/// registers for many teams.
pub(super) fn blocks(shape: &SparseShape, facts: &DeviceFacts) -> u32 {
    let quads = if facts.kind == DeviceKind::Software {
        8
    } else {
        2
    };
    shape.live.min((quads / shape.block_quads).max(1))
}

/// Teams of a workgroup of the weight gradient: a GPU's find in a cache what one of them has loaded.
pub(super) fn teams(facts: &DeviceFacts) -> u32 {
    if facts.kind == DeviceKind::Software {
        1
    } else {
        4
    }
}

/// Pixels of a run of the weight gradient, in rows of `width`.
pub(super) fn run(width: u32, facts: &DeviceFacts) -> u32 {
    let most = if facts.kind == DeviceKind::Software {
        4
    } else {
        2
    };
    select::row_tile(width, most)
}

/// Invocations of a team of the weight gradient.
pub(super) fn lanes(facts: &DeviceFacts) -> u32 {
    if facts.kind == DeviceKind::Software {
        8
    } else {
        32
    }
}
