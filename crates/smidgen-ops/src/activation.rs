//! Activations (and normalisations) by themselves, where no consumer applies them as it loads.

use crate::elementwise::in_place_regions;
use crate::error::{expect_regions, expect_source};
use crate::shape::plane_grid;
use crate::{MapShape, OpsError};
use smidgen_gpu::{Launch, Region, Source, params};

pub use smidgen_gpu::Activation;

params! { struct ApplyParams { pixels: u32 } }

/// Writes what a source is read as: for a consumer that cannot read it that way.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn apply(shape: &MapShape, input: &Source, output: Region) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "apply";
    shape.check(NAME)?;
    expect_source(NAME, "input", input, shape)?;
    expect_regions(NAME, &[("output", output, shape.bytes())])?;
    let params = ApplyParams {
        pixels: shape.pixels(),
    };
    Ok(vec![Launch::new(
        "ops/apply.wgsl",
        &input.defines().collect::<Vec<_>>(),
        &params,
        [input.region]
            .into_iter()
            .chain(input.normalisation)
            .chain([output])
            .collect(),
        plane_grid(NAME, shape.pixels(), shape.quads())?,
    )])
}

/// Regions of [`backward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backward {
    /// What the activation was applied to, and the activation. Where the derivative follows from the output
    /// ([`Activation::derivative_from_output`]), its region may hold the output instead.
    pub value: Source,
    /// Gradient of the loss by the output.
    pub output_gradient: Region,
    /// Gradient of the loss by what went into the activation; may be the same region as `output_gradient`.
    pub input_gradient: Region,
}

/// `input_gradient = output_gradient * activation'(scale * value + shift)`.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn backward(shape: &MapShape, regions: &Backward) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "activation backward";
    shape.check(NAME)?;
    let bytes = shape.bytes();
    expect_source(NAME, "value", &regions.value, shape)?;
    expect_regions(
        NAME,
        &[
            ("output_gradient", regions.output_gradient, bytes),
            ("input_gradient", regions.input_gradient, bytes),
        ],
    )?;
    let (gradients, in_place) =
        in_place_regions(&[regions.output_gradient], regions.input_gradient);
    let mut defines: Vec<_> = regions.value.defines().collect();
    defines.push(("DERIVATIVE", String::new()));
    if in_place {
        defines.push(("IN_PLACE", String::new()));
    }
    let params = ApplyParams {
        pixels: shape.pixels(),
    };
    Ok(vec![Launch::new(
        "ops/activation_backward.wgsl",
        &defines,
        &params,
        [regions.value.region]
            .into_iter()
            .chain(regions.value.normalisation)
            .chain(gradients)
            .collect(),
        plane_grid(NAME, shape.pixels(), shape.quads())?,
    )])
}

#[cfg(test)]
mod tests {
    use super::ApplyParams;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<ApplyParams>("ops/apply.wgsl");
        assert_params_match::<ApplyParams>("ops/activation_backward.wgsl");
    }
}
