//! Batch norm with a fused activation.
//!
//! Training: [`statistics`], then [`apply`]; [`backward`] with [`StatisticsKind::Batch`].
//! Evaluation: [`prepare_eval`], then [`apply`]; [`backward`] with [`StatisticsKind::Constant`].
//! The normalised value is never kept: backward recomputes it from the input and the two vectors of statistics.

use crate::elementwise::in_place_regions;
use crate::error::expect_regions;
use crate::shape::{QUAD_BYTES, plane_grid};
use crate::{Activation, MapShape, OpsError};
use smidgen_gpu::{DeviceFacts, DeviceKind, Launch, Region, params};

params! { struct SliceParams { pixels: u32, slice_pixels: u32, slices: u32 } }
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
params! { struct BackwardFinishParams { slices: u32, first_coefficient: u32, share: f32 } }
params! { struct InputGradientParams { pixels: u32, first_coefficient: u32 } }

/// Coefficients of a quad that the last pass of backward reads.
const COEFFICIENTS: u64 = 5;

/// How the pixels of a quad are divided among workgroups: at most 256 slices, because a second pass takes one a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slicing {
    slices: u32,
    slice_pixels: u32,
}

impl Slicing {
    fn of(shape: &MapShape, facts: &DeviceFacts) -> Self {
        let pixels = shape.pixels().max(1);
        let busy_groups = if facts.kind == DeviceKind::Software {
            16
        } else {
            512
        };
        let wanted = busy_groups / shape.quads().max(1);
        let slices = wanted
            .max(pixels.div_ceil(16_384))
            .clamp(1, pixels.div_ceil(1024).min(256));
        let slice_pixels = pixels.div_ceil(slices).next_multiple_of(256);
        Self {
            slices: pixels.div_ceil(slice_pixels),
            slice_pixels,
        }
    }

    fn params(self, shape: &MapShape) -> SliceParams {
        SliceParams {
            pixels: shape.pixels(),
            slice_pixels: self.slice_pixels,
            slices: self.slices,
        }
    }

    /// Quads of the two sums of every slice.
    fn elements(self, shape: &MapShape) -> u64 {
        2 * u64::from(shape.quads()) * u64::from(self.slices)
    }
}

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

/// Whether the statistics depend on the input, which adds their share to its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatisticsKind {
    /// Those of the batch, from [`statistics`].
    Batch,
    /// Constants, from [`prepare_eval`].
    Constant,
}

/// Regions of [`backward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backward {
    /// The forward's input.
    pub input: Region,
    /// Mean of every channel, as in forward.
    pub mean: Region,
    /// Inverse deviation of every channel, as in forward.
    pub inverse_deviation: Region,
    /// Scale of every channel.
    pub gamma: Region,
    /// Offset of every channel.
    pub beta: Region,
    /// Gradient of the loss by the activated output.
    pub output_gradient: Region,
    /// [`backward_workspace`] bytes.
    pub workspace: Region,
    /// Written: gradient of the loss by the scale.
    pub gamma_gradient: Region,
    /// Written: gradient of the loss by the offset.
    pub beta_gradient: Region,
    /// Written: gradient of the loss by the input; may be the same region as `output_gradient`.
    pub input_gradient: Region,
}

/// Bytes of the workspace of [`backward`].
#[must_use]
pub fn backward_workspace(shape: &MapShape, facts: &DeviceFacts) -> u64 {
    let sums = Slicing::of(shape, facts).elements(shape);
    (sums + COEFFICIENTS * u64::from(shape.quads())) * QUAD_BYTES
}

/// Gradients by input, scale and offset.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn backward(
    shape: &MapShape,
    facts: &DeviceFacts,
    activation: Activation,
    kind: StatisticsKind,
    regions: &Backward,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "batch norm backward";
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
            ("output_gradient", regions.output_gradient, shape.bytes()),
            (
                "workspace",
                regions.workspace,
                backward_workspace(shape, facts),
            ),
            ("gamma_gradient", regions.gamma_gradient, vector),
            ("beta_gradient", regions.beta_gradient, vector),
            ("input_gradient", regions.input_gradient, shape.bytes()),
        ],
    )?;
    let slicing = Slicing::of(shape, facts);
    let first_coefficient = slicing.elements(shape) as u32;
    let (gradients, in_place) =
        in_place_regions(&[regions.output_gradient], regions.input_gradient);
    Ok(vec![
        Launch::new(
            "ops/batch_norm_backward_reduce.wgsl",
            &activation.defines(false),
            &slicing.params(shape),
            vec![
                regions.input,
                regions.mean,
                regions.inverse_deviation,
                regions.gamma,
                regions.beta,
                regions.output_gradient,
                regions.workspace,
            ],
            [slicing.slices, shape.quads(), 1],
        ),
        Launch::new(
            "ops/batch_norm_backward_finish.wgsl",
            &[],
            &BackwardFinishParams {
                slices: slicing.slices,
                first_coefficient,
                share: match kind {
                    StatisticsKind::Batch => 1.0 / shape.pixels() as f32,
                    StatisticsKind::Constant => 0.0,
                },
            },
            vec![
                regions.mean,
                regions.inverse_deviation,
                regions.gamma,
                regions.beta,
                regions.workspace,
                regions.gamma_gradient,
                regions.beta_gradient,
            ],
            [shape.quads(), 1, 1],
        ),
        Launch::new(
            "ops/batch_norm_input_gradient.wgsl",
            &activation.defines(in_place),
            &InputGradientParams {
                pixels: shape.pixels(),
                first_coefficient,
            },
            [vec![regions.input, regions.workspace], gradients].concat(),
            plane_grid(NAME, shape.pixels(), shape.quads())?,
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::{assert_params_match, device};

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<SliceParams>("ops/batch_norm_statistics.wgsl");
        assert_params_match::<FinishParams>("ops/batch_norm_statistics_finish.wgsl");
        assert_params_match::<PrepareParams>("ops/batch_norm_prepare_eval.wgsl");
        assert_params_match::<ApplyParams>("ops/batch_norm_apply.wgsl");
        assert_params_match::<SliceParams>("ops/batch_norm_backward_reduce.wgsl");
        assert_params_match::<BackwardFinishParams>("ops/batch_norm_backward_finish.wgsl");
        assert_params_match::<InputGradientParams>("ops/batch_norm_input_gradient.wgsl");
    }

    #[test]
    fn slices_cover_all_pixels_and_none_is_empty() {
        let mut facts = device(false).facts().clone();
        for kind in [DeviceKind::Software, DeviceKind::Discrete] {
            facts.kind = kind;
            for (batch, channels, side) in [
                (1, 1, 1),
                (1, 3, 300),
                (128, 16, 32),
                (7, 64, 17),
                (64, 32, 224),
            ] {
                let shape = MapShape::new(batch, channels, side, side);
                let Slicing {
                    slices,
                    slice_pixels,
                } = Slicing::of(&shape, &facts);
                assert!(slices <= 256 && slice_pixels % 256 == 0);
                assert!(slices * slice_pixels >= shape.pixels());
                assert!((slices - 1) * slice_pixels < shape.pixels());
            }
        }
    }
}
