//! The choice of tiles: pure functions of sizes and device, apart from the launches.

use smidgen_gpu::{DeviceFacts, DeviceKind};

/// The largest divisor of `quads` up to `most`, so that no quad is left over.
fn dividing(quads: u32, most: u32) -> u32 {
    (1..=most)
        .rev()
        .find(|size| quads.is_multiple_of(*size))
        .unwrap_or(1)
}

/// Which patches and quads a workgroup takes, where an invocation has one patch and nothing is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaneTile {
    /// Invocations, and patches.
    lanes: u32,
    /// Quads of an invocation; the last one may have fewer.
    quads: u32,
}

impl PlaneTile {
    pub(crate) fn defines(self) -> [(&'static str, String); 2] {
        [
            ("LANES", self.lanes.to_string()),
            ("QUADS", self.quads.to_string()),
        ]
    }

    pub(crate) fn lanes(self) -> u32 {
        self.lanes
    }

    /// Workgroups.
    pub(crate) fn groups(self, patches: u32, quads: u32) -> u64 {
        u64::from(patches.div_ceil(self.lanes)) * u64::from(quads.div_ceil(self.quads))
    }
}

/// A software device takes as long to find out where a patch lies as to read several pixels of it, so there an invocation goes on to the same
/// patch of further quads, as long as there are workgroups enough.
pub(crate) fn plane_tile(patches: u32, quads: u32, facts: &DeviceFacts) -> PlaneTile {
    if facts.kind != DeviceKind::Software {
        return PlaneTile {
            lanes: 64,
            quads: 1,
        };
    }
    let lanes = 16;
    let quad_groups = SOFTWARE_GROUPS.div_ceil(u64::from(patches.div_ceil(lanes)));
    let most = quads.div_ceil(quad_groups as u32).clamp(1, 16);
    PlaneTile {
        lanes,
        // As many for the last as for the others, if it can be.
        quads: quads.div_ceil(quads.div_ceil(most)),
    }
}

/// Invocations that sum the patches of a quad, one workgroup a quad. A software device runs a few at a time anyway, and pays for each that waits for
/// the others.
pub(crate) fn lanes_of_sums(facts: &DeviceFacts) -> (&'static str, String) {
    let lanes = match facts.kind {
        DeviceKind::Software => 8,
        _ => 64,
    };
    ("LANES", lanes.to_string())
}

/// What an invocation of the input gradient computes, and how it comes by its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProductTile {
    /// Invocations of a workgroup.
    pub(crate) lanes: u32,
    pub(crate) patches: u32,
    pub(crate) quads: u32,
    /// The subgroup whose lanes load the weights together; `None` where each invocation loads all it needs.
    pub(crate) subgroup: Option<u32>,
    /// Shares of the output channels, each with as many of the invocations.
    pub(crate) slices: u32,
}

impl ProductTile {
    /// Patches of a workgroup.
    pub(crate) fn patches_of_group(self) -> u32 {
        self.lanes / self.slices * self.patches
    }

    pub(crate) fn defines(self) -> Vec<(&'static str, String)> {
        let mut defines = vec![
            ("BY_INPUT", String::new()),
            ("LANES", self.lanes.to_string()),
            ("QUADS", self.quads.to_string()),
            ("TILE", self.patches.to_string()),
        ];
        if let Some(size) = self.subgroup {
            defines.push(("SUBGROUP", size.to_string()));
            defines.push(("LOADS", (self.quads * 4).div_ceil(size).to_string()));
        }
        if self.slices > 1 {
            defines.push(("SLICES", self.slices.to_string()));
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

/// As many patches as still fill a workgroup; as many quads as leave enough workgroups. Where a subgroup shares weights it is a workgroup by itself, so that
/// few of its patches are surplus.
pub(crate) fn product_tile(
    patches: u32,
    output_quads: u32,
    quads: u32,
    facts: &DeviceFacts,
) -> ProductTile {
    if let Some(lanes) = sharing_subgroup(facts) {
        let tile = patches.div_ceil(lanes).min(4);
        let eight = dividing(quads, 8);
        let groups = patches.div_ceil(lanes * tile) * (quads / eight);
        return ProductTile {
            lanes,
            patches: tile,
            quads: if u64::from(groups) < SOFTWARE_GROUPS {
                dividing(quads, 4)
            } else {
                eight
            },
            subgroup: Some(lanes),
            slices: 1,
        };
    }
    if few(patches, facts) {
        let most = if many_channels(output_quads, quads) && patches > 128 {
            4
        } else {
            2
        };
        return ProductTile {
            lanes: lanes_of_few(patches, output_quads, quads),
            patches: 1,
            quads: dividing(quads, most),
            subgroup: None,
            slices: 4,
        };
    }
    let tile = match patches {
        0..=64 => 1,
        65..=128 => 2,
        _ => 4,
    };
    let most = match facts.kind {
        DeviceKind::Software => (8 / tile).min(4),
        _ => 2,
    };
    ProductTile {
        lanes: 64,
        patches: tile,
        quads: dividing(quads, most),
        subgroup: None,
        slices: 1,
    }
}

/// Blocks that a workgroup of the weight gradient sums, and how it takes the patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockTile {
    pub(crate) output_quads: u32,
    /// Input quads of a workgroup; the last workgroup may have fewer.
    pub(crate) input_quads: u32,
    /// Invocations.
    pub(crate) lanes: u32,
    /// Patches an invocation takes at a time; `None` where the invocations, a subgroup, share patches and have an input quad each.
    pub(crate) patches: Option<u32>,
}

impl BlockTile {
    /// Patches that all invocations take at a time.
    pub(crate) fn step(self) -> u32 {
        self.lanes * self.patches.unwrap_or(1)
    }

    pub(crate) fn defines(self) -> Vec<(&'static str, String)> {
        let output_quads = ("OUTPUT_QUADS", self.output_quads.to_string());
        let by_weight = ("BY_WEIGHT", String::new());
        let lanes = self.lanes.to_string();
        let Some(patches) = self.patches else {
            return vec![
                ("ALONE", String::new()),
                by_weight,
                ("LANES", lanes.clone()),
                output_quads,
                ("SUBGROUP", lanes),
            ];
        };
        let blocks = self.output_quads * self.input_quads;
        vec![
            by_weight,
            ("BLOCKS", blocks.to_string()),
            ("INPUT_QUADS", self.input_quads.to_string()),
            ("LANES", lanes),
            output_quads,
            ("PATCHES", patches.to_string()),
        ]
    }
}

/// On a software device loads are what a product costs. Lanes that have an input quad each load twelve vectors for 32 blocks and eight patches, and
/// leave nothing to be added up between them; but there must be input quads for all of them.
pub(crate) fn block_tile(
    patches: u32,
    output_quads: u32,
    input_quads: u32,
    facts: &DeviceFacts,
) -> BlockTile {
    if let Some(lanes) = sharing_subgroup(facts).filter(|lanes| input_quads >= *lanes) {
        return BlockTile {
            output_quads: dividing(output_quads, 4),
            input_quads: lanes,
            lanes,
            patches: None,
        };
    }
    // A software device runs a few invocations at a time anyway, and fewer need less memory to be summed in.
    let lanes = match facts.kind {
        DeviceKind::Software => 8,
        _ if few(patches, facts) => lanes_of_few(patches, output_quads, input_quads),
        _ => 32,
    };
    // Workgroup memory of WebGPU's default limits has room for so many vectors of each invocation.
    let blocks = (256 / lanes).min(4);
    BlockTile {
        output_quads: dividing(output_quads, blocks.min(2)),
        input_quads: dividing(input_quads, blocks.div_ceil(2)),
        lanes,
        patches: Some(if patches > 2 * lanes { 4 } else { 1 }),
    }
}

/// Whether weight and input gradient by these tiles are one dispatch: with equal workgroups, and where so little is computed that saving a launch shows.
/// They compute the same bits in two.
pub(crate) fn together(
    patches: u32,
    block: BlockTile,
    product: ProductTile,
    facts: &DeviceFacts,
) -> bool {
    let alike =
        block.lanes == product.lanes && block.patches.is_none() == product.subgroup.is_some();
    let few = match facts.kind {
        DeviceKind::Software => patches <= 512,
        _ => few(patches, facts),
    };
    alike && few
}

/// Whether the patches are so few that on a GPU what counts is how long one invocation works: it then has a slice of the output channels of the input
/// gradient, and the weight gradient is not split into shares, whose sum would be another launch.
fn few(patches: u32, facts: &DeviceFacts) -> bool {
    facts.kind != DeviceKind::Software && patches <= 8192
}

/// Invocations of a workgroup where patches are few, for either gradient: more where each would have many patches, and few channels leave few workgroups.
fn lanes_of_few(patches: u32, output_quads: u32, input_quads: u32) -> u32 {
    if patches <= 512 || many_channels(output_quads, input_quads) {
        32
    } else {
        128
    }
}

/// 128 in and out.
fn many_channels(output_quads: u32, input_quads: u32) -> bool {
    output_quads * input_quads >= 1024
}

/// Workgroups that keep the threads of a software device busy.
const SOFTWARE_GROUPS: u64 = 8;

/// Into how many shares of the patches a sum is split, so that the device has enough workgroups: `groups` workgroups work on each
/// share, `steps` is the number of loop steps that can be shared out, `bytes` what one share's result takes.
pub(crate) fn splits(
    patches: u32,
    groups: u64,
    steps: u64,
    bytes: u64,
    facts: &DeviceFacts,
) -> u32 {
    if few(patches, facts) {
        return 1;
    }
    // A share's result has to be written and summed, so a share should be a few steps long.
    let (wanted_groups, steps_of_share) = match facts.kind {
        DeviceKind::Software => (SOFTWARE_GROUPS, 8),
        DeviceKind::Integrated => (256, 4),
        DeviceKind::Discrete | DeviceKind::Virtual => (1024, 2),
    };
    const MOST_BYTES: u64 = 32 << 20;
    let wanted = wanted_groups / groups.max(1);
    let most = (steps / steps_of_share).min(MOST_BYTES / bytes.max(1));
    wanted.min(most).clamp(1, 256) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::device;

    #[test]
    fn few_patches_leave_a_software_device_workgroups_enough() {
        let facts = |kind| DeviceFacts {
            kind,
            ..device(false).facts().clone()
        };
        let software = facts(DeviceKind::Software);
        for patches in [1, 7, 8, 100, 1000, 100_000] {
            for quads in [1, 2, 3, 5, 16, 17, 144] {
                let tile = plane_tile(patches, quads, &software);
                assert!((1..=16).contains(&tile.quads) && tile.quads <= quads);
                let groups = tile.groups(patches, quads);
                assert!(
                    groups >= SOFTWARE_GROUPS
                        || groups >= u64::from(quads).min(SOFTWARE_GROUPS) / 2,
                    "{patches} patches of {quads} quads: {groups} workgroups"
                );
            }
        }
        assert_eq!(
            plane_tile(1000, 16, &facts(DeviceKind::Discrete)),
            PlaneTile {
                lanes: 64,
                quads: 1
            }
        );
    }
}
