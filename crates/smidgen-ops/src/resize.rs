//! Bilinear enlargement by two, with the corners of pixels aligned (PyTorch's `align_corners=False`).

use crate::error::expect_regions;
use crate::pool::pixel_grid;
use crate::{MapShape, OpsError};
use smidgen_gpu::{Launch, Region, params};

params! { struct UpsampleParams { input_pixels: u32, input_height: u32, input_width: u32 } }

fn params(input: &MapShape) -> UpsampleParams {
    UpsampleParams {
        input_pixels: input.pixels(),
        input_height: input.height,
        input_width: input.width,
    }
}

/// The shape of the output: twice the rows and columns.
///
/// # Errors
/// An empty or too large shape.
pub fn output(input: &MapShape) -> Result<MapShape, OpsError> {
    const NAME: &str = "upsample";
    input.check(NAME)?;
    let output = MapShape {
        height: input.height.saturating_mul(2),
        width: input.width.saturating_mul(2),
        ..*input
    };
    output.check(NAME)?;
    Ok(output)
}

/// Enlarges a map of shape `shape` by two.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn upsample(
    shape: &MapShape,
    input: Region,
    enlarged: Region,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "upsample";
    let to = output(shape)?;
    expect_regions(
        NAME,
        &[
            ("input", input, shape.bytes()),
            ("enlarged", enlarged, to.bytes()),
        ],
    )?;
    Ok(vec![Launch::new(
        "ops/upsample.wgsl",
        &[],
        &params(shape),
        vec![input, enlarged],
        pixel_grid(NAME, &to)?,
    )])
}

/// Gradient of the input of [`upsample`]; `shape` is that of the input.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn upsample_backward(
    shape: &MapShape,
    output_gradient: Region,
    input_gradient: Region,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "upsample backward";
    expect_regions(
        NAME,
        &[
            ("output_gradient", output_gradient, output(shape)?.bytes()),
            ("input_gradient", input_gradient, shape.bytes()),
        ],
    )?;
    Ok(vec![Launch::new(
        "ops/upsample_backward.wgsl",
        &[],
        &params(shape),
        vec![output_gradient, input_gradient],
        pixel_grid(NAME, shape)?,
    )])
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<UpsampleParams>("ops/upsample.wgsl");
        assert_params_match::<UpsampleParams>("ops/upsample_backward.wgsl");
    }
}
