//! Softmax cross entropy with label smoothing, and how many labels were among the most probable classes.

use crate::error::check_regions;
use crate::{MapShape, OpsError, control::Control};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

const OPERATOR: &str = "cross entropy";

/// The label of a sample that takes part in nothing: neither loss, nor gradient, nor counts.
pub const IGNORED_LABEL: u32 = u32::MAX;

/// The sizes and options of a cross entropy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropy {
    /// Samples of the batch.
    pub samples: u32,
    /// Classes, without padding.
    pub classes: u32,
    /// Share of the target that is spread evenly over all classes, from 0 to below 1.
    pub label_smoothing: f32,
    /// Factor of the logit gradient, beside `1 / count`: of the samples of the batch that count, or of
    /// [`Control::samples`](crate::control::Control).
    pub scale: f32,
}

/// Where the forgetting of training examples is counted (Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural
/// Network Learning", ICLR 2019): an example is forgotten where its label came first the last time it was shown, and does not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgetting {
    /// One word an example, see [`ExampleRecord`]; which example a sample is stands in the labels, after the classes of all samples. A
    /// number beyond the records counts nowhere. No two samples of a batch may be the same example.
    pub records: Region,
    /// Examples.
    pub examples: u32,
}

/// What is known of a training example, four bytes on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExampleRecord(pub u32);

impl ExampleRecord {
    const REMOVED: u32 = 4;

    /// Whether its label came first the last time.
    #[must_use]
    pub fn is_right(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether its label ever came first.
    #[must_use]
    pub fn is_learned(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether it was removed from the training set; the host's to say.
    #[must_use]
    pub fn is_removed(self) -> bool {
        self.0 & Self::REMOVED != 0
    }

    /// How often it was forgotten, at most 8191.
    #[must_use]
    pub fn forgettings(self) -> u32 {
        self.0 >> 3 & 0x1fff
    }

    /// How often it was shown before its label came first, at most 65535.
    #[must_use]
    pub fn attempts(self) -> u32 {
        self.0 >> 16
    }

    /// The same, removed.
    #[must_use]
    pub fn removed(self) -> Self {
        Self(self.0 | Self::REMOVED)
    }

    /// What is left when counting begins anew: whether it was removed, and whether its label came first the last time.
    #[must_use]
    pub fn cleared(self) -> Self {
        let right = self.0 & 1;
        Self(self.0 & Self::REMOVED | right | right << 1)
    }
}

/// The regions of a cross entropy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrossEntropyRegions {
    /// Logits: planes of quads with the samples as pixels, class `c` of sample `n` at `((c/4)*samples + n)*4 + c%4`.
    pub logits: Region,
    /// One u32 a sample: a class, or [`IGNORED_LABEL`]. Where forgetting is counted, as many again: the numbers of the examples.
    pub labels: Region,
    /// Where the gradient of the mean loss goes, laid out like the logits; `None` for evaluation.
    pub gradient: Option<Region>,
    /// One [`Metrics`].
    pub metrics: Region,
    /// [`workspace_bytes`] bytes.
    pub workspace: Region,
    /// The [`Control`] block.
    pub control: Region,
    /// Where forgetting is counted, if it is.
    pub forgetting: Option<Forgetting>,
}

params! {
    /// What the loss reports of a batch.
    #[derive(Default)]
    pub struct Metrics {
        /// Sum of the losses of the samples that count; NaN where the batch was broken.
        loss_sum: f32,
        /// Samples that count: those not ignored.
        count: u32,
        /// Samples whose label has the largest logit.
        top1: u32,
        /// Samples whose label is among the five largest logits.
        top5: u32,
        /// Not 0 if training is halted, by this batch or before it.
        halted: u32,
        /// Unused; zero.
        reserved_0: u32,
        /// Unused; zero.
        reserved_1: u32,
        /// Unused; zero.
        reserved_2: u32,
    }
}

impl Metrics {
    /// Size of the metrics.
    pub const BYTES: u64 = size_of::<Self>() as u64;
}

params! { struct RowParams { samples: u32, classes: u32, smoothing: f32, examples: u32, first: u32, all: u32 } }
params! { struct MetricsParams { samples: u32 } }
params! { struct GradientParams { samples: u32, classes: u32, smoothing: f32, scale: f32, first: u32 } }

/// Bytes of workspace that [`cross_entropy`] needs: one quad a sample.
#[must_use]
pub fn workspace_bytes(shape: &CrossEntropy) -> u64 {
    u64::from(shape.samples) * 16
}

/// The mean cross entropy over the samples that count, its gradient, and the [`Metrics`].
///
/// A label is among the first `k` if fewer than `k` classes stand before it; a class stands before another if its logit is larger,
/// or equal and its index smaller. If every sample is ignored, the loss and all gradients are zero.
///
/// A logit that is NaN or infinite, a loss that is not finite, or a label that is no class halts training: `loss_sum` becomes NaN,
/// the control block's `halted` is set, and the gradient is not to be used. Ignored samples are not looked at.
///
/// # Errors
/// No samples, no classes, smoothing outside 0 to 1, or a region that is too small or too large to bind.
pub fn cross_entropy(
    shape: &CrossEntropy,
    facts: &DeviceFacts,
    regions: &CrossEntropyRegions,
) -> Result<Vec<Launch>, OpsError> {
    let whole = LogitSlab {
        samples: shape.samples,
        logits: regions.logits,
        gradient: regions.gradient,
    };
    cross_entropy_in_slabs(shape, facts, regions, &[whole])
}

/// Logits of some of the samples of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogitSlab {
    /// How many.
    pub samples: u32,
    /// As in [`CrossEntropyRegions`], of these samples.
    pub logits: Region,
    /// Likewise.
    pub gradient: Option<Region>,
}

/// As [`cross_entropy`], where the logits stand in slabs that make up the batch in their order; those of `regions` are not looked at. The mean and the
/// [`Metrics`] are those of all samples.
///
/// # Errors
/// As [`cross_entropy`], or slabs that are not the samples of the batch.
pub fn cross_entropy_in_slabs(
    shape: &CrossEntropy,
    facts: &DeviceFacts,
    regions: &CrossEntropyRegions,
    slabs: &[LogitSlab],
) -> Result<Vec<Launch>, OpsError> {
    let &CrossEntropy {
        samples,
        classes,
        label_smoothing: smoothing,
        scale,
    } = shape;
    let in_slabs: u32 = slabs.iter().map(|slab| slab.samples).sum();
    if in_slabs != samples {
        return Err(OpsError::shape(
            OPERATOR,
            format!("the slabs have {in_slabs} samples, the batch {samples}"),
        ));
    }
    if !(0.0..1.0).contains(&smoothing) {
        return Err(OpsError::shape(
            OPERATOR,
            format!("label smoothing is {smoothing}, it must be from 0 to below 1"),
        ));
    }
    for slab in slabs {
        let logits = MapShape::new(slab.samples, classes, 1, 1);
        logits.check(OPERATOR)?;
        check_regions(OPERATOR, facts, &[("logits", slab.logits, logits.bytes())])?;
    }
    let forgetting = regions.forgetting;
    let label_bytes = if forgetting.is_some() { 8 } else { 4 };
    check_regions(
        OPERATOR,
        facts,
        &[
            ("labels", regions.labels, u64::from(samples) * label_bytes),
            ("metrics", regions.metrics, Metrics::BYTES),
            ("workspace", regions.workspace, workspace_bytes(shape)),
            ("control", regions.control, Control::BYTES),
        ],
    )?;
    let (mut defines, mut examples, mut records) = (Vec::new(), 0, None);
    if let Some(forgetting) = forgetting {
        let bytes = u64::from(forgetting.examples) * 4;
        check_regions(
            OPERATOR,
            facts,
            &[("example records", forgetting.records, bytes)],
        )?;
        defines.push(("FORGETTING", String::new()));
        records = Some(forgetting.records);
        examples = forgetting.examples;
    }
    let (mut launches, mut gradients, mut first) = (Vec::new(), Vec::new(), 0);
    for slab in slabs {
        let logits = MapShape::new(slab.samples, classes, 1, 1);
        let mut bound = vec![slab.logits, regions.labels, regions.workspace];
        bound.extend(records);
        launches.push(Launch::new(
            "ops/cross_entropy_rows.wgsl",
            &defines,
            &RowParams {
                samples: slab.samples,
                classes,
                smoothing,
                examples,
                first,
                all: samples,
            },
            bound,
            folded_grid(u64::from(slab.samples.div_ceil(16))),
        ));
        if let Some(gradient) = slab.gradient {
            check_regions(OPERATOR, facts, &[("gradient", gradient, logits.bytes())])?;
            gradients.push(Launch::new(
                "ops/cross_entropy_gradient.wgsl",
                &[],
                &GradientParams {
                    samples: slab.samples,
                    classes,
                    smoothing,
                    scale,
                    first,
                },
                vec![
                    slab.logits,
                    regions.labels,
                    regions.workspace,
                    regions.metrics,
                    regions.control,
                    gradient,
                ],
                folded_grid(logits.elements().div_ceil(256)),
            ));
        }
        first += slab.samples;
    }
    launches.push(metrics_launch(
        samples,
        regions.workspace,
        regions.metrics,
        regions.control,
    ));
    launches.append(&mut gradients);
    Ok(launches)
}

/// The launch that sums up the records of the samples.
pub(crate) fn metrics_launch(
    samples: u32,
    records: Region,
    metrics: Region,
    control: Region,
) -> Launch {
    Launch::new(
        "ops/cross_entropy_metrics.wgsl",
        &[],
        &MetricsParams { samples },
        vec![records, metrics, control],
        [1, 1, 1],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_the_shaders() {
        assert_params_match::<RowParams>("ops/cross_entropy_rows.wgsl");
        assert_params_match::<MetricsParams>("ops/cross_entropy_metrics.wgsl");
        assert_params_match::<GradientParams>("ops/cross_entropy_gradient.wgsl");
        assert_eq!(Metrics::BYTES, 32);
    }
}
