//! Batch norm with a fused activation.
//!
//! Training: [`statistics`], then [`apply`]; [`backward`] with [`StatisticsKind::Batch`].
//! Evaluation: [`prepare_eval`], then [`apply`]; [`backward`] with [`StatisticsKind::Constant`].
//! The normalised value is never kept: backward recomputes it from the input and the two vectors of statistics.

mod backward;
mod slicing;

pub use backward::{Backward, StatisticsKind, backward, backward_workspace};

use crate::error::expect_regions;
use crate::shape::{QUAD_BYTES, plane_grid};
use crate::{Activation, MapShape, OpsError};
use slicing::Slicing;
use smidgen_gpu::{DeviceFacts, Launch, Region, params};

params! {
    struct FinishParams {
        pixels: u32,
        slice_pixels: u32,
        slices: u32,
        channels: u32,
        epsilon: f32,
        momentum: f32,
    }
}
params! { struct PrepareParams { quads: u32, channels: u32, epsilon: f32 } }
params! { struct ApplyParams { pixels: u32 } }

/// Regions and constants of [`statistics`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// The values to normalise, `shape.bytes()`.
    pub input: Region,
    /// [`statistics_workspace`] bytes.
    pub workspace: Region,
    /// Running mean, a vector, updated in place.
    pub running_mean: Region,
    /// Running unbiased variance, a vector, updated in place.
    pub running_variance: Region,
    /// Written: the mean of every channel.
    pub mean: Region,
    /// Written: `1 / sqrt(variance + epsilon)` of every channel.
    pub inverse_deviation: Region,
    /// Added to the variance.
    pub epsilon: f32,
    /// Weight of the new statistics in the running ones.
    pub momentum: f32,
}

/// Bytes of the workspace of [`statistics`].
#[must_use]
pub fn statistics_workspace(shape: &MapShape, facts: &DeviceFacts) -> u64 {
    Slicing::of(shape, facts).elements(shape) * QUAD_BYTES
}

/// Mean and deviation of every channel over all pixels of the batch, and the running statistics.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn statistics(
    shape: &MapShape,
    facts: &DeviceFacts,
    regions: &Statistics,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "batch norm statistics";
    shape.check(NAME)?;
    let vector = shape.vector_bytes();
    expect_regions(
        NAME,
        &[
            ("input", regions.input, shape.bytes()),
            (
                "workspace",
                regions.workspace,
                statistics_workspace(shape, facts),
            ),
            ("running_mean", regions.running_mean, vector),
            ("running_variance", regions.running_variance, vector),
            ("mean", regions.mean, vector),
            ("inverse_deviation", regions.inverse_deviation, vector),
        ],
    )?;
    let slicing = Slicing::of(shape, facts);
    let finish = FinishParams {
        pixels: shape.pixels(),
        slice_pixels: slicing.slice_pixels,
        slices: slicing.slices,
        channels: shape.channels,
        epsilon: regions.epsilon,
        momentum: regions.momentum,
    };
    Ok(vec![
        Launch::new(
            "ops/batch_norm_statistics.wgsl",
            &[],
            &slicing.params(shape),
            vec![regions.input, regions.workspace],
            [slicing.slices, shape.quads(), 1],
        ),
        Launch::new(
            "ops/batch_norm_statistics_finish.wgsl",
            &[],
            &finish,
            vec![
                regions.workspace,
                regions.running_mean,
                regions.running_variance,
                regions.mean,
                regions.inverse_deviation,
            ],
            [shape.quads(), 1, 1],
        ),
    ])
}

/// Regions and constants of [`prepare_eval`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrepareEval {
    /// Running mean, a vector.
    pub running_mean: Region,
    /// Running variance, a vector.
    pub running_variance: Region,
    /// Written: the mean that [`apply`] reads.
    pub mean: Region,
    /// Written: the inverse deviation that [`apply`] reads.
    pub inverse_deviation: Region,
    /// Added to the variance.
    pub epsilon: f32,
}

/// The vectors that [`apply`] and [`backward`] read, from the running statistics.
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
            ("mean", regions.mean, vector),
            ("inverse_deviation", regions.inverse_deviation, vector),
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
            regions.mean,
            regions.inverse_deviation,
        ],
        [shape.quads().div_ceil(256), 1, 1],
    )])
}

/// Regions of [`apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apply {
    /// The values to normalise, `shape.bytes()`.
    pub input: Region,
    /// Mean of every channel.
    pub mean: Region,
    /// Inverse deviation of every channel.
    pub inverse_deviation: Region,
    /// Scale of every channel.
    pub gamma: Region,
    /// Offset of every channel.
    pub beta: Region,
    /// The normalised, activated values.
    pub output: Region,
}

/// `output = activation(gamma * (input - mean) * inverse_deviation + beta)`.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn apply(
    shape: &MapShape,
    activation: Activation,
    regions: &Apply,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "batch norm";
    shape.check(NAME)?;
    let vector = shape.vector_bytes();
    expect_regions(
        NAME,
        &[
            ("input", regions.input, shape.bytes()),
            ("mean", regions.mean, vector),
            ("inverse_deviation", regions.inverse_deviation, vector),
            ("gamma", regions.gamma, vector),
            ("beta", regions.beta, vector),
            ("output", regions.output, shape.bytes()),
        ],
    )?;
    let params = ApplyParams {
        pixels: shape.pixels(),
    };
    Ok(vec![Launch::new(
        "ops/batch_norm_apply.wgsl",
        &activation.defines(false),
        &params,
        vec![
            regions.input,
            regions.mean,
            regions.inverse_deviation,
            regions.gamma,
            regions.beta,
            regions.output,
        ],
        plane_grid(NAME, shape.pixels(), shape.quads())?,
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
        assert_params_match::<ApplyParams>("ops/batch_norm_apply.wgsl");
    }
}
