//! Backward passes that are nothing but a multiplication: of ReLU and ReLU6, of which one bit a number is kept, and of normalisations by
//! constant statistics whose scale is not trained.

use crate::activation::Activation;
use crate::elementwise::in_place_regions;
use crate::error::{expect_regions, expect_source};
use crate::shape::plane_grid;
use crate::{MapShape, OpsError};
use smidgen_gpu::{Launch, Region, Source, normalisation_bytes, params};

params! { struct SlopesParams { pixels: u32 } }

/// Bytes of the slopes of a map.
#[must_use]
pub fn bytes(shape: &MapShape) -> u64 {
    u64::from(shape.quads()) * u64::from(shape.pixels().div_ceil(8)) * 4
}

/// Writes where the activation of a source has slope 1 rather than 0.
///
/// # Errors
/// An empty or too large shape, a region too small for it, or an activation with other slopes.
pub fn keep(shape: &MapShape, input: &Source, slopes: Region) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "kept slopes";
    shape.check(NAME)?;
    expect_source(NAME, "input", input, shape)?;
    expect_regions(NAME, &[("slopes", slopes, bytes(shape))])?;
    if !matches!(input.activation, Activation::Relu | Activation::Relu6) {
        return Err(OpsError::shape(
            NAME,
            format!(
                "the slopes of {:?} are not 0 or 1; keep its input",
                input.activation
            ),
        ));
    }
    let params = SlopesParams {
        pixels: shape.pixels(),
    };
    // The grid of planes counts 1024 items a workgroup, this kernel takes 256 words.
    let [_, quads, _] = plane_grid(NAME, shape.pixels(), shape.quads())?;
    Ok(vec![Launch::new(
        "ops/keep_slopes.wgsl",
        &input.defines().collect::<Vec<_>>(),
        &params,
        [input.region]
            .into_iter()
            .chain(input.normalisation)
            .chain([slopes])
            .collect(),
        [shape.pixels().div_ceil(8).div_ceil(256), quads, 1],
    )])
}

/// Multiplies a gradient with kept slopes and with the scale of a normalisation, as far as they are given; `input_gradient` may be the same
/// region as `output_gradient`.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn backward(
    shape: &MapShape,
    output_gradient: Region,
    slopes: Option<Region>,
    normalisation: Option<Region>,
    input_gradient: Region,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "backward by slopes";
    shape.check(NAME)?;
    expect_regions(
        NAME,
        &[
            ("output_gradient", output_gradient, shape.bytes()),
            ("input_gradient", input_gradient, shape.bytes()),
        ],
    )?;
    let (gradients, in_place) = in_place_regions(&[output_gradient], input_gradient);
    let mut defines = Vec::new();
    if let Some(slopes) = slopes {
        expect_regions(NAME, &[("slopes", slopes, bytes(shape))])?;
        defines.push(("SLOPES", String::new()));
    }
    if let Some(normalisation) = normalisation {
        let needed = normalisation_bytes(shape.channels);
        expect_regions(NAME, &[("normalisation", normalisation, needed)])?;
        defines.push(("NORMALISE", String::new()));
    }
    if in_place {
        defines.push(("IN_PLACE", String::new()));
    }
    let params = SlopesParams {
        pixels: shape.pixels(),
    };
    Ok(vec![Launch::new(
        "ops/slopes_backward.wgsl",
        &defines,
        &params,
        slopes
            .into_iter()
            .chain(normalisation)
            .chain(gradients)
            .collect(),
        plane_grid(NAME, shape.pixels(), shape.quads())?,
    )])
}

#[cfg(test)]
mod tests {
    use super::SlopesParams;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<SlopesParams>("ops/keep_slopes.wgsl");
        assert_params_match::<SlopesParams>("ops/slopes_backward.wgsl");
    }
}
