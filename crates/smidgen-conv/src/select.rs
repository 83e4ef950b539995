//! The choice of tiles: pure functions of shape and device, apart from the launches.

use crate::ConvolutionShape;
use smidgen_gpu::{DeviceFacts, DeviceKind};

/// Neighbouring pixels of a row that one invocation takes: as many, up to `most`, as waste little of the row.
fn row_tile(count: u32, most: u32) -> u32 {
    [8, 4, 2]
        .into_iter()
        .filter(|tile| *tile <= most)
        .find(|tile| count.next_multiple_of(*tile) * 3 <= count * 4)
        .unwrap_or(1)
}

/// What an invocation of a gathering kernel computes, and how it comes by its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GatherTile {
    /// Neighbouring pixels.
    pub(crate) pixels: u32,
    /// Target quads.
    pub(crate) quads: u32,
    /// The subgroup whose lanes load the weights together; `None` where each invocation loads all it needs.
    pub(crate) subgroup: Option<u32>,
}

impl GatherTile {
    /// The defines of this tile.
    pub(crate) fn defines(self) -> Vec<(&'static str, String)> {
        let mut defines = vec![
            ("QUADS", self.quads.to_string()),
            ("TILE", self.pixels.to_string()),
        ];
        if let Some(size) = self.subgroup {
            defines.push(("SUBGROUP", size.to_string()));
            defines.push(("LOADS", (self.quads * 4).div_ceil(size).to_string()));
        }
        defines
    }
}

/// The size of the subgroups that share weights. A software device pays dearly for every load, even of one address by all lanes;
/// a GPU broadcasts such a load by itself.
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

/// The largest divisor of `quads` up to `most`, so that no quad is left over.
fn dividing(quads: u32, most: u32) -> u32 {
    (1..=most)
        .rev()
        .find(|size| quads.is_multiple_of(*size))
        .unwrap_or(1)
}

/// For rows of `count` pixels. Where a subgroup shares the weights, a large tile pays; where a software device cannot share them, each
/// weight should meet the most pixels; a GPU wants more, smaller invocations.
pub(crate) fn gather_tile(count: u32, quads: u32, facts: &DeviceFacts) -> GatherTile {
    let subgroup = sharing_subgroup(facts);
    let (most_pixels, most_quads) = match (subgroup, facts.kind) {
        (Some(_), _) => (4, 4),
        (None, DeviceKind::Software) => (8, 1),
        _ => (4, 2),
    };
    let pixels = row_tile(count, most_pixels);
    let most_quads = if subgroup.is_some() {
        most_quads
    } else {
        most_quads.min(8 / pixels)
    };
    GatherTile {
        pixels,
        quads: dividing(quads, most_quads),
        subgroup,
    }
}

/// For a depthwise kernel, whose sums are few.
pub(crate) fn depthwise_tile(count: u32) -> GatherTile {
    GatherTile {
        pixels: row_tile(count, 4),
        quads: 1,
        subgroup: None,
    }
}

/// For a pointwise kernel: as many pixels as still fill a workgroup.
pub(crate) fn pointwise_tile(pixels: u32, quads: u32, facts: &DeviceFacts) -> GatherTile {
    let subgroup = sharing_subgroup(facts);
    let pixels = match pixels {
        0..=64 => 1,
        65..=128 => 2,
        _ => 4,
    };
    let most_quads = match (subgroup, facts.kind) {
        (Some(_), _) => 4,
        (None, DeviceKind::Software) => (8 / pixels).min(4),
        _ => 2,
    };
    GatherTile {
        pixels,
        quads: dividing(quads, most_quads),
        subgroup,
    }
}

/// Pixels of a run of the weight gradient.
pub(crate) fn run_pixels(count: u32) -> u32 {
    row_tile(count, 4)
}

/// Blocks that a workgroup of the weight gradient sums: output quads, taps of a row, input quads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockTile {
    pub(crate) output_quads: u32,
    pub(crate) taps: u32,
    pub(crate) input_quads: u32,
}

pub(crate) fn block_tile(shape: &ConvolutionShape, facts: &DeviceFacts) -> BlockTile {
    let row = shape.kernel[1];
    let taps = row.div_ceil(row.div_ceil(3));
    let output_quads = if shape.groups > 1 {
        1
    } else {
        dividing(shape.output_quads(), 2)
    };
    // Where workgroup memory is plain memory, larger tiles pay: each loaded value meets more of the others. Strided convolutions are few,
    // and not worth the longer compilation.
    let large = taps == 1 || (facts.kind == DeviceKind::Software && shape.stride == [1, 1]);
    let input_quads = if shape.groups > 1 || !large {
        1
    } else {
        dividing(shape.slots(), 2)
    };
    BlockTile {
        output_quads,
        taps,
        input_quads,
    }
}

/// Invocations of a workgroup of the weight gradient: a software device runs a few at a time anyway, and fewer need less memory to be summed in.
pub(crate) fn weight_lanes(facts: &DeviceFacts) -> u32 {
    if facts.kind == DeviceKind::Software {
        8
    } else {
        32
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

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kind: DeviceKind) -> DeviceFacts {
        DeviceFacts {
            name: String::new(),
            driver: String::new(),
            backend: String::new(),
            kind,
            max_buffer_bytes: 1 << 28,
            max_binding_bytes: 1 << 27,
            storage_alignment: 256,
            uniform_alignment: 256,
            workgroup_memory_bytes: 16 << 10,
            max_invocations: 256,
            subgroup_sizes: None,
            timestamps: false,
            half_precision: false,
        }
    }

    #[test]
    fn a_row_is_tiled_with_little_waste() {
        for (count, tile) in [
            (1, 1),
            (2, 2),
            (3, 4),
            (5, 2),
            (6, 8),
            (7, 8),
            (9, 4),
            (10, 4),
            (32, 8),
        ] {
            assert_eq!(row_tile(count, 8), tile, "{count}");
        }
    }

    #[test]
    fn no_quad_is_left_over_and_the_blocks_fit_the_workgroup_memory() {
        for kind in [
            DeviceKind::Software,
            DeviceKind::Integrated,
            DeviceKind::Discrete,
        ] {
            for quads in 1..20 {
                for count in 1..40 {
                    assert_eq!(quads % gather_tile(count, quads, &facts(kind)).quads, 0);
                    assert_eq!(quads % pointwise_tile(count, quads, &facts(kind)).quads, 0);
                }
            }
        }
        for kernel in 1..12 {
            for channels in [1, 4, 8, 20, 64] {
                let shape = ConvolutionShape::new(1, [channels, 16, 16], channels, [kernel; 2]);
                for kind in [DeviceKind::Software, DeviceKind::Discrete] {
                    let tile = block_tile(&shape, &facts(kind));
                    let blocks = tile.output_quads * tile.taps * tile.input_quads;
                    let vectors = blocks * 4 * weight_lanes(&facts(kind));
                    assert!(vectors * 16 <= 16 << 10);
                    assert_eq!(shape.output_quads() % tile.output_quads, 0);
                    assert_eq!(shape.slots() % tile.input_quads, 0);
                }
            }
        }
    }

    #[test]
    fn a_wide_device_gets_more_shares_within_bounds() {
        let shares = |kind| splits(24, 4096, 1 << 16, &facts(kind));
        assert_eq!(shares(DeviceKind::Software), 1);
        assert!(shares(DeviceKind::Discrete) > shares(DeviceKind::Integrated));
        assert_eq!(splits(1, 1, 1 << 16, &facts(DeviceKind::Discrete)), 1);
        assert!(
            u64::from(splits(1, 1 << 20, 1 << 22, &facts(DeviceKind::Discrete))) << 22 <= 32 << 20
        );
    }
}
