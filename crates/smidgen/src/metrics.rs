use serde::{Deserialize, Deserializer, Serialize};
use smidgen_gpu::bytemuck;

/// Loss and counts of one or several batches.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Sum of the loss over the counted images.
    #[serde(deserialize_with = "number_or_nan")]
    pub loss_sum: f64,
    /// Images counted.
    pub images: u64,
    /// Of these, with the label ranked first.
    pub top1: u64,
    /// Of these, with the label among the first five.
    pub top5: u64,
    /// Whether the device had stopped updating parameters, at this step or before.
    #[serde(skip)]
    pub(crate) halted: bool,
}

/// JSON has no word for a number that is not finite, and writes `null`.
fn number_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Metrics {
    pub(crate) const BYTES: u64 = size_of::<smidgen_ops::loss::Metrics>() as u64;

    /// The sum of the metrics of some micro-batches.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        for part in bytes.chunks_exact(Self::BYTES as usize) {
            sum.add(&Self::from_part(part));
        }
        sum
    }

    fn from_part(bytes: &[u8]) -> Self {
        let raw: smidgen_ops::loss::Metrics = bytemuck::pod_read_unaligned(bytes);
        Self {
            loss_sum: f64::from(raw.loss_sum),
            images: u64::from(raw.count),
            top1: u64::from(raw.top1),
            top5: u64::from(raw.top5),
            halted: raw.halted != 0,
        }
    }

    /// Mean loss of an image.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.images as f64
    }

    /// Share of the images with the label ranked first, 0 to 1.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.top1 as f64 / self.images as f64
    }

    /// Share of the images with the label among the first five, 0 to 1.
    #[must_use]
    pub fn top5_accuracy(&self) -> f64 {
        self.top5 as f64 / self.images as f64
    }

    /// Adds the counts of another batch.
    pub fn add(&mut self, other: &Self) {
        self.loss_sum += other.loss_sum;
        self.images += other.images;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.halted |= other.halted;
    }
}
