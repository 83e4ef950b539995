//! Batch norm with a fused activation.
//!
//! Training: [`statistics`], or [`merge`] where a convolution has taken the moments already; [`backward`] with [`StatisticsKind::Batch`].
//! Evaluation: [`prepare_eval`]; [`backward`] with [`StatisticsKind::Constant`].
//! Both leave a normalisation, four vectors a quad of channels, through which consumers read the input ([`Source`](smidgen_gpu::Source)): the normalised
//! value itself stands nowhere, and backward recomputes it too.

mod backward;
mod slicing;

pub use backward::{
    Backward, StatisticsKind, backward, backward_in_slabs, backward_in_slabs_workspace,
    backward_part, backward_part_workspace, backward_workspace,
};

use crate::error::expect_regions;
use crate::shape::QUAD_BYTES;
use crate::{MapShape, OpsError};
use slicing::{Slicing, lanes};
use smidgen_gpu::{DeviceFacts, Launch, Region, moments_bytes, normalisation_bytes, params};

params! {
    struct FinishParams {
        pixels: u32,
        channels: u32,
        epsilon: f32,
        momentum: f32,
        lists: u32,
        stride: u32,
    }
}
params! { struct PrepareParams { quads: u32, channels: u32, epsilon: f32 } }

/// Regions and constants of [`statistics`] and [`merge`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// What is normalised, `shape.bytes()`; or, of [`merge`], its moments, [`moments_bytes`].
    pub input: Region,
    /// Running mean, a vector, updated in place.
    pub running_mean: Region,
    /// Running unbiased variance, a vector, updated in place.
    pub running_variance: Region,
    /// Scale of every channel, a vector.
    pub gamma: Region,
    /// Offset of every channel, a vector.
    pub beta: Region,
    /// Written, [`normalisation_bytes`]: `gamma / deviation`, `beta - mean * gamma / deviation`, mean and `1 / deviation` of every quad,
    /// with `deviation = sqrt(variance + epsilon)`.
    pub normalisation: Region,
    /// Added to the variance.
    pub epsilon: f32,
    /// Weight of the new statistics in the running ones.
    pub momentum: f32,
}

const NAME: &str = "batch norm statistics";

/// Bytes of the workspace of [`statistics`].
#[must_use]
pub fn statistics_workspace(shape: &MapShape, facts: &DeviceFacts) -> u64 {
    let records = u64::from(shape.quads()) * u64::from(Slicing::of(shape, facts).slices);
    (1 + 3 * records) * QUAD_BYTES
}

/// The normalisation by the mean and deviation of every channel over all pixels of the batch, and the running statistics. The `workspace`
/// is of [`statistics_workspace`] bytes.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn statistics(
    shape: &MapShape,
    facts: &DeviceFacts,
    regions: &Statistics,
    workspace: Region,
) -> Result<Vec<Launch>, OpsError> {
    let first = moments(shape, facts, regions.input, workspace)?;
    let merged = Statistics {
        input: workspace,
        ..*regions
    };
    Ok(vec![first, finish(shape, facts, &merged, Lists::ONE)?])
}

/// What [`merge`] takes, of a map whose producer cannot take it: `input` is of `shape.bytes()`, `moments` of [`statistics_workspace`] or of
/// [`moments_bytes`] bytes.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn moments(
    shape: &MapShape,
    facts: &DeviceFacts,
    input: Region,
    moments: Region,
) -> Result<Launch, OpsError> {
    shape.check(NAME)?;
    let bytes = statistics_workspace(shape, facts);
    expect_regions(
        NAME,
        &[("input", input, shape.bytes()), ("moments", moments, bytes)],
    )?;
    let slicing = Slicing::of(shape, facts);
    Ok(Launch::new(
        "ops/batch_norm_statistics.wgsl",
        &[lanes(facts)],
        &slicing.params(shape),
        vec![input, moments],
        [slicing.slices, shape.quads(), 1],
    ))
}

/// As [`statistics`], from the moments that the producer of the map has left.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn merge(
    shape: &MapShape,
    facts: &DeviceFacts,
    regions: &Statistics,
) -> Result<Launch, OpsError> {
    let bytes = moments_bytes(shape.channels, u64::from(shape.pixels()));
    expect_regions(NAME, &[("moments", regions.input, bytes)])?;
    finish(shape, facts, regions, Lists::ONE)
}

/// Where the moments of the slabs of a map stand in one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lists {
    /// Slabs.
    pub count: u32,
    /// Bytes from one list to the next, a multiple of 16.
    pub stride: u64,
}

impl Lists {
    const ONE: Self = Self {
        count: 1,
        stride: 0,
    };
}

/// As [`merge`], of a map in slabs: the statistics are those of all, merged in the order of the slabs. `shape` is the whole map's; what each slab's
/// producer, or [`moments`], has left stands one list behind the other.
///
/// # Errors
/// As [`merge`].
pub fn merge_slabs(
    shape: &MapShape,
    facts: &DeviceFacts,
    regions: &Statistics,
    lists: Lists,
) -> Result<Launch, OpsError> {
    let last = u64::from(lists.count.saturating_sub(1)) * lists.stride;
    expect_regions(NAME, &[("moments", regions.input, last + QUAD_BYTES)])?;
    finish(shape, facts, regions, lists)
}

fn finish(
    shape: &MapShape,
    facts: &DeviceFacts,
    regions: &Statistics,
    lists: Lists,
) -> Result<Launch, OpsError> {
    shape.check(NAME)?;
    let vector = shape.vector_bytes();
    expect_regions(
        NAME,
        &[
            ("running_mean", regions.running_mean, vector),
            ("running_variance", regions.running_variance, vector),
            ("gamma", regions.gamma, vector),
            ("beta", regions.beta, vector),
            (
                "normalisation",
                regions.normalisation,
                normalisation_bytes(shape.channels),
            ),
        ],
    )?;
    let params = FinishParams {
        pixels: shape.pixels(),
        channels: shape.channels,
        epsilon: regions.epsilon,
        momentum: regions.momentum,
        lists: lists.count,
        stride: (lists.stride / QUAD_BYTES) as u32,
    };
    Ok(Launch::new(
        "ops/batch_norm_statistics_finish.wgsl",
        &[lanes(facts)],
        &params,
        vec![
            regions.input,
            regions.running_mean,
            regions.running_variance,
            regions.gamma,
            regions.beta,
            regions.normalisation,
        ],
        [shape.quads(), 1, 1],
    ))
}

/// Regions and constants of [`prepare_eval`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrepareEval {
    /// Running mean, a vector.
    pub running_mean: Region,
    /// Running variance, a vector.
    pub running_variance: Region,
    /// Scale of every channel, a vector.
    pub gamma: Region,
    /// Offset of every channel, a vector.
    pub beta: Region,
    /// Written: as by [`statistics`].
    pub normalisation: Region,
    /// Added to the variance.
    pub epsilon: f32,
}

/// The normalisation from the running statistics.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn prepare_eval(shape: &MapShape, regions: &PrepareEval) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "batch norm prepare_eval";
    shape.check(NAME)?;
    let vector = shape.vector_bytes();
    expect_regions(
        NAME,
        &[
            ("running_mean", regions.running_mean, vector),
            ("running_variance", regions.running_variance, vector),
            ("gamma", regions.gamma, vector),
            ("beta", regions.beta, vector),
            (
                "normalisation",
                regions.normalisation,
                normalisation_bytes(shape.channels),
            ),
        ],
    )?;
    let params = PrepareParams {
        quads: shape.quads(),
        channels: shape.channels,
        epsilon: regions.epsilon,
    };
    Ok(vec![Launch::new(
        "ops/batch_norm_prepare_eval.wgsl",
        &[],
        &params,
        vec![
            regions.running_mean,
            regions.running_variance,
            regions.gamma,
            regions.beta,
            regions.normalisation,
        ],
        [shape.quads().div_ceil(256), 1, 1],
    )])
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<FinishParams>("ops/batch_norm_statistics_finish.wgsl");
        assert_params_match::<PrepareParams>("ops/batch_norm_prepare_eval.wgsl");
    }
}
