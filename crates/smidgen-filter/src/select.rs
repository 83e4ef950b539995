//! The choice of tiles: pure functions of sizes and device, apart from the launches.

use smidgen_gpu::{DeviceFacts, DeviceKind};

/// The largest divisor of `quads` up to `most`, so that no quad is left over.
fn dividing(quads: u32, most: u32) -> u32 {
    (1..=most)
        .rev()
        .find(|size| quads.is_multiple_of(*size))
        .unwrap_or(1)
}

/// What an invocation of the input gradient computes, and how it comes by its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProductTile {
    pub(crate) patches: u32,
    pub(crate) quads: u32,
    /// The subgroup whose lanes load the weights together; `None` where each invocation loads all it needs.
    pub(crate) subgroup: Option<u32>,
}

impl ProductTile {
    pub(crate) fn defines(self) -> Vec<(&'static str, String)> {
        let mut defines = vec![
            ("QUADS", self.quads.to_string()),
            ("TILE", self.patches.to_string()),
        ];
        if let Some(size) = self.subgroup {
            defines.push(("SUBGROUP", size.to_string()));
            defines.push(("LOADS", (self.quads * 4).div_ceil(size).to_string()));
        }
        defines
    }
}

/// A software device pays dearly for every load, even of one address by all lanes, so there a subgroup shares them; a GPU broadcasts such
/// a load by itself.
fn sharing_subgroup(facts: &DeviceFacts) -> Option<u32> {
    match facts.subgroup_sizes {
        Some((least, most))
            if least == most && (4..=64).contains(&most) && facts.kind == DeviceKind::Software =>
        {
            Some(most)
        }
        _ => None,
    }
}

/// As many patches as still fill a workgroup.
pub(crate) fn product_tile(patches: u32, quads: u32, facts: &DeviceFacts) -> ProductTile {
    let subgroup = sharing_subgroup(facts);
    let patches = match patches {
        0..=64 => 1,
        65..=128 => 2,
        _ => 4,
    };
    let most_quads = match (subgroup, facts.kind) {
        (Some(_), _) => 4,
        (None, DeviceKind::Software) => (8 / patches).min(4),
        _ => 2,
    };
    ProductTile {
        patches,
        quads: dividing(quads, most_quads),
        subgroup,
    }
}

/// Blocks that a workgroup of the weight gradient sums, and how it takes the patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockTile {
    pub(crate) output_quads: u32,
    pub(crate) input_quads: u32,
    /// Invocations: a software device runs a few at a time anyway, and fewer need less memory to be summed in.
    pub(crate) lanes: u32,
    /// Patches an invocation takes at a time.
    pub(crate) patches: u32,
}

pub(crate) fn block_tile(
    patches: u32,
    output_quads: u32,
    input_quads: u32,
    facts: &DeviceFacts,
) -> BlockTile {
    let lanes = if facts.kind == DeviceKind::Software {
        8
    } else {
        32
    };
    BlockTile {
        output_quads: dividing(output_quads, 2),
        input_quads: dividing(input_quads, 2),
        lanes,
        patches: if patches > 2 * lanes { 4 } else { 1 },
    }
}

/// Into how many shares of the patches a sum is split, so that the device has enough workgroups: `groups` workgroups work on each
/// share, `steps` is the number of loop steps that can be shared out, `bytes` what one share's result takes.
pub(crate) fn splits(groups: u64, steps: u64, bytes: u64, facts: &DeviceFacts) -> u32 {
    // A share's result has to be written and summed, so a share should be a few steps long.
    let (wanted_groups, steps_of_share) = match facts.kind {
        DeviceKind::Software => (8, 8),
        DeviceKind::Integrated => (256, 4),
        DeviceKind::Discrete | DeviceKind::Virtual => (1024, 2),
    };
    const MOST_BYTES: u64 = 32 << 20;
    let wanted = wanted_groups / groups.max(1);
    let most = (steps / steps_of_share).min(MOST_BYTES / bytes.max(1));
    wanted.min(most).clamp(1, 256) as u32
}
