//! Clipping of all gradients by their common norm.
//!
//! Every gradient region writes [sums of squares](sums_of_squares) into its own range of slots; then [`clip`] adds all slots in
//! order and writes the factor that optimisers apply. Nothing is scaled in place.

use crate::error::check_regions;
use crate::table::{Entry, Table};
use crate::{OpsError, control::Control};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

const OPERATOR: &str = "gradient clipping";
/// Elements that one workgroup adds up.
const CHUNK: u32 = 16_384;

params! { struct ClipParams { slots: u32, max_norm: f32 } }
params! { struct ScaleLossParams { count: u32 } }

params! {
    /// A loss scale as it stands on the device: the gradient of the loss is multiplied by it, so that gradients in f16 are neither lost nor
    /// infinite.
    pub struct LossScale {
        /// The factor, a power of two.
        scale: f32,
        /// Steps since it changed.
        steps: f32,
        /// Steps so far that were skipped, because gradients were not finite.
        skipped: f32,
        /// The factor in the last step.
        last: f32,
    }
}

impl Default for LossScale {
    /// 65536, as it begins.
    fn default() -> Self {
        Self {
            scale: 65_536.0,
            steps: 0.0,
            skipped: 0.0,
            last: 65_536.0,
        }
    }
}

/// The regions of [`clip`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipRegions {
    /// One f32 a slot, all written before.
    pub slots: Region,
    /// One f32: the norm before clipping.
    pub norm: Region,
    /// The [`Control`] block.
    pub control: Region,
    /// A [`LossScale`], where gradients are multiplied by it.
    pub loss_scale: Option<Region>,
}

/// How many slots the sums of a region of `count` elements take.
#[must_use]
pub fn slots(count: u32) -> u32 {
    count.div_ceil(CHUNK)
}

/// Sums of squares of the first `count` elements of each of these regions (whole quads are bound, the rest is not looked at), into the
/// slots from 0 on, [`slots`] for each, in their order. Few launches for many regions that stand near each other.
///
/// # Errors
/// No elements, or a region that is too small or too large to bind.
pub fn sums_of_squares(
    values: &[(Region, u32)],
    facts: &DeviceFacts,
    slot_region: Region,
) -> Result<Vec<Launch>, OpsError> {
    let (mut entries, mut first_slot) = (Vec::with_capacity(values.len()), 0);
    for &(region, count) in values {
        if count == 0 || count > 1 << 31 {
            return Err(OpsError::shape(
                OPERATOR,
                format!("{count} elements; one launch takes 1 to {}", 1u32 << 31),
            ));
        }
        let bytes = u64::from(count).next_multiple_of(4) * 4;
        let slot_bytes = (u64::from(first_slot) + u64::from(slots(count))) * 4;
        check_regions(
            OPERATOR,
            facts,
            &[
                ("values", region, bytes),
                ("slots", slot_region, slot_bytes),
            ],
        )?;
        entries.push(Entry {
            count,
            regions: vec![region],
            first_slot,
            alone: None,
        });
        first_slot += slots(count);
    }
    let table = Table {
        shader: "ops/sum_of_squares.wgsl",
        flags: Vec::new(),
        fields: &[("entries", 0)],
        head: &[],
        share: CHUNK,
        bindings: &[0],
        words: &[3],
        before: Vec::new(),
        behind: vec![slot_region],
    };
    Ok(table.launches(facts, &entries))
}

/// Writes the norm, and `min(1, max_norm / (norm + 1e-6))` as the gradient scale of the control block, as PyTorch's
/// `clip_grad_norm_` does. A norm that is not finite halts training instead.
///
/// With a [`LossScale`] the norm and the gradient scale are divided by it. A norm that is not finite then halves it and has this step skipped, unless it has fallen to
/// 1 already; 2000 steps in a row that are not skipped double it (Micikevicius et al., "Mixed Precision Training", ICLR 2018).
///
/// # Errors
/// No slots, a norm that is not a positive number, or a region that is too small or too large to bind.
pub fn clip(
    max_norm: f32,
    slot_count: u32,
    facts: &DeviceFacts,
    regions: &ClipRegions,
) -> Result<Launch, OpsError> {
    if slot_count == 0 || !(max_norm > 0.0 && max_norm.is_finite()) {
        return Err(OpsError::shape(
            OPERATOR,
            format!("{slot_count} slots and a largest norm of {max_norm}; both must be positive"),
        ));
    }
    check_regions(
        OPERATOR,
        facts,
        &[
            ("slots", regions.slots, u64::from(slot_count) * 4),
            ("norm", regions.norm, 4),
            ("control", regions.control, Control::BYTES),
        ],
    )?;
    let mut bound = vec![regions.slots, regions.norm, regions.control];
    let mut flags = Vec::new();
    if let Some(region) = regions.loss_scale {
        let bytes = size_of::<LossScale>() as u64;
        check_regions(OPERATOR, facts, &[("loss scale", region, bytes)])?;
        bound.push(region);
        flags.push(("LOSS_SCALE", String::new()));
    }
    Ok(Launch::new(
        "ops/clip.wgsl",
        &flags,
        &ClipParams {
            slots: slot_count,
            max_norm,
        },
        bound,
        [1, 1, 1],
    ))
}

/// Multiplies the gradient of the loss, `bytes` of quads, by a [`LossScale`], in place.
///
/// # Errors
/// Nothing to multiply, or more than one launch takes.
pub fn scale_loss(bytes: u64, gradient: Region, loss_scale: Region) -> Result<Launch, OpsError> {
    let count = u32::try_from(bytes / 16).unwrap_or(0);
    if count == 0 {
        return Err(OpsError::shape(
            OPERATOR,
            format!("a gradient of {bytes} bytes; one launch takes from one to 2^32 - 1 quads"),
        ));
    }
    Ok(Launch::new(
        "ops/scale_loss.wgsl",
        &[],
        &ScaleLossParams { count },
        vec![loss_scale, gradient],
        folded_grid(u64::from(count).div_ceil(256)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_the_shaders() {
        assert_params_match::<ClipParams>("ops/clip.wgsl");
        assert_params_match::<ScaleLossParams>("ops/scale_loss.wgsl");
    }

    #[test]
    fn slots_cover_all_elements() {
        let counts = [1, CHUNK, CHUNK + 1, 1 << 31];
        assert_eq!(counts.map(slots), [1, 1, 2, 131_072]);
    }
}
