//! Layer normalisation over the channels of each pixel, and its gradients.

use crate::error::check_regions;
use crate::{MapShape, OpsError};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

const OPERATOR: &str = "layer norm";

/// The regions of [`forward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerNormRegions {
    /// Planes of quads.
    pub input: Region,
    /// Factor of every channel, padded to whole quads.
    pub weight: Region,
    /// Summand of every channel, padded to whole quads.
    pub bias: Region,
    /// Planes of quads.
    pub output: Region,
    /// [`statistics_bytes`] bytes: mean and reciprocal deviation of every pixel, for [`backward`].
    pub statistics: Region,
}

/// The regions of [`backward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerNormGradientRegions {
    /// The input of the forward pass.
    pub input: Region,
    /// Factor of every channel.
    pub weight: Region,
    /// What the forward pass left.
    pub statistics: Region,
    /// Gradient of the output, planes of quads.
    pub output_gradient: Region,
    /// Where the input's gradient goes; `None` where nobody wants it.
    pub input_gradient: Option<Region>,
    /// Where the gradients of weight and bias go; `None` where they are frozen.
    pub parameter_gradients: Option<(Region, Region)>,
}

params! { struct ForwardParams { pixels: u32, channels: u32, epsilon: f32 } }
params! { struct BackwardParams { pixels: u32, channels: u32 } }

/// Bytes of the statistics: two f32 a pixel.
#[must_use]
pub fn statistics_bytes(shape: &MapShape) -> u64 {
    u64::from(shape.pixels()) * 8
}

/// The input with mean 0 and variance 1 over the channels of each pixel, times weight, plus bias.
///
/// # Errors
/// An empty shape, an epsilon that is not a positive number, or a region that is too small or too large to bind.
pub fn forward(
    shape: &MapShape,
    epsilon: f32,
    facts: &DeviceFacts,
    regions: &LayerNormRegions,
) -> Result<Launch, OpsError> {
    shape.check(OPERATOR)?;
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        return Err(OpsError::shape(
            OPERATOR,
            format!("epsilon is {epsilon}, it must be a positive number such as 1e-5"),
        ));
    }
    check_regions(
        OPERATOR,
        facts,
        &[
            ("input", regions.input, shape.bytes()),
            ("weight", regions.weight, shape.vector_bytes()),
            ("bias", regions.bias, shape.vector_bytes()),
            ("output", regions.output, shape.bytes()),
            ("statistics", regions.statistics, statistics_bytes(shape)),
        ],
    )?;
    Ok(Launch::new(
        "ops/layer_norm.wgsl",
        &[],
        &ForwardParams {
            pixels: shape.pixels(),
            channels: shape.channels,
            epsilon,
        },
        vec![
            regions.input,
            regions.weight,
            regions.bias,
            regions.output,
            regions.statistics,
        ],
        folded_grid(u64::from(shape.pixels().div_ceil(16))),
    ))
}

/// The gradients that are wanted, of input, weight and bias.
///
/// # Errors
/// An empty shape, or a region that is too small or too large to bind.
pub fn backward(
    shape: &MapShape,
    facts: &DeviceFacts,
    regions: &LayerNormGradientRegions,
) -> Result<Vec<Launch>, OpsError> {
    shape.check(OPERATOR)?;
    check_regions(
        OPERATOR,
        facts,
        &[
            ("input", regions.input, shape.bytes()),
            ("weight", regions.weight, shape.vector_bytes()),
            ("statistics", regions.statistics, statistics_bytes(shape)),
            ("output gradient", regions.output_gradient, shape.bytes()),
        ],
    )?;
    let params = BackwardParams {
        pixels: shape.pixels(),
        channels: shape.channels,
    };
    let mut launches = Vec::new();
    if let Some(input_gradient) = regions.input_gradient {
        check_regions(
            OPERATOR,
            facts,
            &[("input gradient", input_gradient, shape.bytes())],
        )?;
        launches.push(Launch::new(
            "ops/layer_norm_gradient.wgsl",
            &[],
            &params,
            vec![
                regions.input,
                regions.weight,
                regions.statistics,
                regions.output_gradient,
                input_gradient,
            ],
            folded_grid(u64::from(shape.pixels().div_ceil(16))),
        ));
    }
    if let Some((weight_gradient, bias_gradient)) = regions.parameter_gradients {
        let needed = shape.vector_bytes();
        check_regions(
            OPERATOR,
            facts,
            &[
                ("weight gradient", weight_gradient, needed),
                ("bias gradient", bias_gradient, needed),
            ],
        )?;
        launches.push(Launch::new(
            "ops/layer_norm_parameters.wgsl",
            &[],
            &params,
            vec![
                regions.input,
                regions.statistics,
                regions.output_gradient,
                weight_gradient,
                bias_gradient,
            ],
            [shape.quads(), 1, 1],
        ));
    }
    Ok(launches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_the_shaders() {
        assert_params_match::<ForwardParams>("ops/layer_norm.wgsl");
        assert_params_match::<BackwardParams>("ops/layer_norm_gradient.wgsl");
        assert_params_match::<BackwardParams>("ops/layer_norm_parameters.wgsl");
    }
}
