//! Launches of the weight gradient of 1x1 kernels whose lanes have a quad each and share those of the other side, for software devices.

use crate::select;
use crate::weight_gradient::Share;
use crate::{ConvolutionShape, ProductTile};
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, Source, folded_grid, params};

params! {
    /// Uniform of `conv/weight_product.wgsl`.
    pub(crate) struct WeightProductParams {
        groups: u32, own_groups: u32, other_groups: u32, pixels: u32, pixels_per_split: u32, output_quads: u32, slots: u32,
    }
}

/// The weight gradient of one shape by one tile.
pub(crate) struct WeightProduct {
    pub(crate) shape: ConvolutionShape,
    pub(crate) tile: ProductTile,
}

impl WeightProduct {
    /// Groups of quads of the side that lanes have a quad of each, and of the other.
    fn sides(&self) -> [u32; 2] {
        let (shape, tile) = (&self.shape, self.tile);
        let (outputs, inputs) = (shape.output_quads(), shape.slots());
        let (own, other) = if tile.by_output {
            (outputs, inputs)
        } else {
            (inputs, outputs)
        };
        [own.div_ceil(tile.lanes), other.div_ceil(tile.quads)]
    }

    /// Workgroups of one share.
    fn groups(&self) -> u64 {
        self.sides().into_iter().map(u64::from).product()
    }

    pub(crate) fn share(&self, room: u64) -> Share {
        let (tile, bytes) = (self.tile, self.shape.weight_bytes());
        Share::of(
            self.shape.output_plane(),
            tile.lanes,
            tile.shares,
            bytes,
            room,
        )
    }

    pub(crate) fn launch(
        &self,
        share: &Share,
        input: Source,
        output_gradient: Region,
        partial: Region,
    ) -> Launch {
        let (shape, tile) = (&self.shape, self.tile);
        let [own_groups, other_groups] = self.sides();
        let groups = self.groups() * u64::from(share.splits);
        let mut defines = vec![
            ("LANES", tile.lanes.to_string()),
            ("QUADS", tile.quads.to_string()),
        ];
        if tile.by_output {
            defines.push(("BY_OUTPUT", String::new()));
        }
        defines.extend(input.defines());
        let regions = [input.region, output_gradient]
            .into_iter()
            .chain(input.normalisation)
            .chain([partial])
            .collect();
        let params = WeightProductParams {
            groups: groups as u32,
            own_groups,
            other_groups,
            pixels: shape.output_plane(),
            pixels_per_split: share.per_split,
            output_quads: shape.output_quads(),
            slots: shape.slots(),
        };
        let grid = folded_grid(groups);
        Launch::new("conv/weight_product.wgsl", &defines, &params, regions, grid)
    }
}

/// Whether a tile can compute the weight gradient of a (valid) shape on a device.
pub(crate) fn fits(tile: ProductTile, shape: &ConvolutionShape, facts: &DeviceFacts) -> bool {
    shape.is_pointwise()
        && shape.groups == 1
        // The pixels of all lanes are written out.
        && select::subgroup(facts).is_some_and(|size| size == tile.lanes && size <= 16)
        && (1..=8).contains(&tile.quads)
        && (1..=256).contains(&tile.shares)
}

/// A tile of so many quads of the other side, and as many shares as keep the device busy, within the room.
fn tile_of(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    (quads, by_output): (u32, bool),
    room: u64,
) -> Option<ProductTile> {
    let tile = ProductTile {
        quads,
        by_output,
        lanes: select::subgroup(facts)?,
        shares: 1,
    };
    let (shape, bytes) = (*shape, shape.weight_bytes());
    let steps = u64::from(shape.output_plane().div_ceil(tile.lanes));
    let groups = WeightProduct { shape, tile }.groups();
    let most = (room / bytes.max(1)).clamp(1, 256) as u32;
    Some(ProductTile {
        shares: select::shares(groups, steps, bytes, facts).min(most),
        ..tile
    })
}

/// Parts of the lanes that have a quad, of the last group too.
fn filled(quads: u32, lanes: u32) -> f64 {
    f64::from(quads) / f64::from(quads.next_multiple_of(lanes))
}

/// The rule where it is one: on software devices whose subgroups share. Lanes have input quads of their own, unless output quads fill more of them.
pub(crate) fn default(shape: &ConvolutionShape, facts: &DeviceFacts) -> Option<ProductTile> {
    let lanes = select::subgroup(facts).filter(|_| facts.kind == DeviceKind::Software)?;
    let [inputs, outputs] = [shape.slots(), shape.output_quads()].map(|quads| filled(quads, lanes));
    // Output quads are a fifth slower where both fill them.
    let tile = tile_of(shape, facts, (4, 0.8 * outputs > inputs), u64::MAX)?;
    (fits(tile, shape, facts) && inputs.max(0.8 * outputs) > 0.7).then_some(tile)
}

/// The tiles that are worth measuring: those of software devices, where a load takes as long as a dozen products.
pub(crate) fn candidates(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    room: u64,
) -> Vec<ProductTile> {
    if facts.kind != DeviceKind::Software {
        return Vec::new();
    }
    [(4, false), (4, true)]
        .into_iter()
        .filter_map(|size| tile_of(shape, facts, size, room))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn the_parameters_match_their_shader() {
        assert_params_match::<WeightProductParams>("conv/weight_product.wgsl");
    }
}
