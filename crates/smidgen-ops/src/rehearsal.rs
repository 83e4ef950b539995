//! Rehearsal from a memory on the device: pictures in bytes, logits as they were, and the loss of DER++ (Buzzega et al., "Dark Experience for
//! General Continual Learning", NeurIPS 2020).
//!
//! A batch is three parts of equal size: new samples, samples whose logits are to stay what they were (distilled), and samples whose
//! labels are learned again (repeated). Its words are planes of one word a sample: class, number of the example, slot of the memory (for a
//! new sample the one it takes, for another the one it comes from; [`NO_SLOT`] for none), and the range of classes the sample is told apart
//! by ([`class_range`]).

use crate::error::check_regions;
use crate::loss::{Forgetting, Metrics, metrics_launch};
use crate::{MapShape, OpsError, control::Control};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

const OPERATOR: &str = "rehearsal";

/// The slot of a sample that has none.
pub const NO_SLOT: u32 = u32::MAX;

/// Planes of words of a batch.
pub const PLANES: u32 = 4;

/// The word of a range of classes.
#[must_use]
pub fn class_range(classes: std::ops::Range<u16>) -> u32 {
    u32::from(classes.start) | u32::from(classes.end.saturating_sub(classes.start)) << 16
}

/// Sizes and weights of a rehearsal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rehearsal {
    /// The pictures of a batch: of at most four channels, a multiple of three of them.
    pub images: MapShape,
    /// Classes, without padding.
    pub classes: u32,
    /// Slots of the memory.
    pub slots: u32,
    /// Weight of the squared distance from the logits that were kept.
    pub distillation: f32,
    /// Weight of the cross entropy of repeated samples.
    pub repetition: f32,
    /// By channel, what a number of a picture is multiplied by, and what is then added, to be from 0 to 1.
    pub to_bytes: [[f32; 4]; 2],
}

/// Regions of a rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RehearsalRegions {
    /// [`PLANES`] words a sample.
    pub words: Region,
    /// The pictures of the batch, planes of quads.
    pub images: Region,
    /// A word a pixel and slot: [`Rehearsal::image_bytes`].
    pub kept_images: Region,
    /// Logits of every slot: [`Rehearsal::logit_bytes`].
    pub kept_logits: Region,
}

/// What the loss reads and writes beside the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RehearsalLoss {
    /// Logits, planes of quads with the samples as pixels.
    pub logits: Region,
    /// Where the gradient of the loss goes, laid out like the logits.
    pub gradient: Region,
    /// One [`Metrics`]: the sum of all three parts of the loss, and the counts of new samples.
    pub metrics: Region,
    /// One quad a sample.
    pub workspace: Region,
    /// The [`Control`] block.
    pub control: Region,
    /// Where the forgetting of new samples is counted, if it is.
    pub forgetting: Option<Forgetting>,
}

params! { struct LoadParams {
    samples: u32, pixels: u32, slots: u32,
    scale_0: f32, scale_1: f32, scale_2: f32, scale_3: f32, offset_0: f32, offset_1: f32, offset_2: f32, offset_3: f32,
} }
params! { struct StoreParams {
    samples: u32, pixels: u32, slots: u32, class_quads: u32,
    scale_0: f32, scale_1: f32, scale_2: f32, scale_3: f32, offset_0: f32, offset_1: f32, offset_2: f32, offset_3: f32,
} }
params! { struct LossParams {
    samples: u32, classes: u32, slots: u32, distillation: f32, repetition: f32, scale: f32, examples: u32,
} }

impl Rehearsal {
    /// Bytes of the pictures in the memory: four a pixel.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        u64::from(self.slots) * u64::from(self.pixels()) * 4
    }

    /// Bytes of the logits in the memory.
    #[must_use]
    pub fn logit_bytes(&self) -> u64 {
        u64::from(self.slots) * u64::from(self.classes.next_multiple_of(4)) * 4
    }

    fn pixels(&self) -> u32 {
        self.images.height * self.images.width
    }

    fn check(&self, facts: &DeviceFacts, regions: &RehearsalRegions) -> Result<(), OpsError> {
        self.images.check(OPERATOR)?;
        let samples = self.images.batch;
        if !samples.is_multiple_of(3) || self.images.channels > 4 {
            let what = format!(
                "a batch of {samples} pictures of {} channels; it must be a multiple of 3, of at most 4 channels",
                self.images.channels
            );
            return Err(OpsError::shape(OPERATOR, what));
        }
        if self.slots == 0 || self.classes == 0 || self.classes > u32::from(u16::MAX) {
            let what = format!(
                "{} slots and {} classes; there must be at least one of each, and at most 65535 classes",
                self.slots, self.classes
            );
            return Err(OpsError::shape(OPERATOR, what));
        }
        check_regions(
            OPERATOR,
            facts,
            &[
                ("words", regions.words, u64::from(samples * PLANES) * 4),
                ("images", regions.images, self.images.bytes()),
                ("kept images", regions.kept_images, self.image_bytes()),
                ("kept logits", regions.kept_logits, self.logit_bytes()),
            ],
        )
    }

    /// The launch that puts replayed pictures in their places of the batch; those without a slot stay as they are.
    ///
    /// # Errors
    /// A batch that is no multiple of three, more than four channels, no slots, or a region that is too small or too large to bind.
    pub fn load(
        &self,
        facts: &DeviceFacts,
        regions: &RehearsalRegions,
    ) -> Result<Launch, OpsError> {
        self.check(facts, regions)?;
        let [scale, offset] = self.to_bytes;
        let params = LoadParams {
            samples: self.images.batch,
            pixels: self.pixels(),
            slots: self.slots,
            scale_0: scale[0],
            scale_1: scale[1],
            scale_2: scale[2],
            scale_3: scale[3],
            offset_0: offset[0],
            offset_1: offset[1],
            offset_2: offset[2],
            offset_3: offset[3],
        };
        Ok(Launch::new(
            "ops/rehearsal_load.wgsl",
            &[],
            &params,
            vec![regions.words, regions.kept_images, regions.images],
            folded_grid(u64::from(self.images.pixels().div_ceil(256))),
        ))
    }

    /// The launches of the loss and its gradient, and then those that put new samples into the memory.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn loss(
        &self,
        scale: f32,
        facts: &DeviceFacts,
        regions: &RehearsalRegions,
        loss: &RehearsalLoss,
    ) -> Result<Vec<Launch>, OpsError> {
        self.check(facts, regions)?;
        let samples = self.images.batch;
        let bytes = MapShape::new(samples, self.classes, 1, 1).bytes();
        let (mut defines, mut examples) = (Vec::new(), 0);
        let mut bound = vec![
            loss.logits,
            regions.words,
            regions.kept_logits,
            loss.workspace,
            loss.gradient,
        ];
        check_regions(
            OPERATOR,
            facts,
            &[
                ("logits", loss.logits, bytes),
                ("gradient", loss.gradient, bytes),
                ("metrics", loss.metrics, Metrics::BYTES),
                ("workspace", loss.workspace, u64::from(samples) * 16),
                ("control", loss.control, Control::BYTES),
            ],
        )?;
        if let Some(forgetting) = loss.forgetting {
            let (records, bytes) = (forgetting.records, u64::from(forgetting.examples) * 4);
            check_regions(OPERATOR, facts, &[("example records", records, bytes)])?;
            defines.push(("FORGETTING", String::new()));
            bound.push(records);
            examples = forgetting.examples;
        }
        let params = LossParams {
            samples,
            classes: self.classes,
            slots: self.slots,
            distillation: self.distillation,
            repetition: self.repetition,
            scale,
            examples,
        };
        let grid = folded_grid(u64::from(samples.div_ceil(64)));
        Ok(vec![
            Launch::new("ops/rehearsal_loss.wgsl", &defines, &params, bound, grid),
            metrics_launch(samples, loss.workspace, loss.metrics, loss.control),
            self.store(regions, loss.logits),
        ])
    }

    fn store(&self, regions: &RehearsalRegions, logits: Region) -> Launch {
        let [scale, offset] = self.to_bytes;
        let params = StoreParams {
            samples: self.images.batch,
            pixels: self.pixels(),
            slots: self.slots,
            class_quads: self.classes.div_ceil(4),
            scale_0: scale[0],
            scale_1: scale[1],
            scale_2: scale[2],
            scale_3: scale[3],
            offset_0: offset[0],
            offset_1: offset[1],
            offset_2: offset[2],
            offset_3: offset[3],
        };
        Launch::new(
            "ops/rehearsal_store.wgsl",
            &[],
            &params,
            vec![
                regions.words,
                regions.images,
                logits,
                regions.kept_images,
                regions.kept_logits,
            ],
            folded_grid(u64::from((self.images.pixels() / 3).div_ceil(256))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_the_shaders() {
        assert_params_match::<LoadParams>("ops/rehearsal_load.wgsl");
        assert_params_match::<StoreParams>("ops/rehearsal_store.wgsl");
        assert_params_match::<LossParams>("ops/rehearsal_loss.wgsl");
        assert_eq!(class_range(2..4), 2 | 2 << 16);
    }
}
