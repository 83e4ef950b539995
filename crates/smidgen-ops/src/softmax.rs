//! Softmax over the channels of each pixel, and its gradient.

use crate::error::check_regions;
use crate::{MapShape, OpsError};
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

const OPERATOR: &str = "softmax";

params! { struct SoftmaxParams { pixels: u32, channels: u32 } }

/// Exponentials of the channels, divided by their sum over the pixel; `input` and `output` are planes of quads.
///
/// # Errors
/// An empty shape, or a region that is too small or too large to bind.
pub fn forward(
    shape: &MapShape,
    facts: &DeviceFacts,
    input: Region,
    output: Region,
) -> Result<Launch, OpsError> {
    shape.check(OPERATOR)?;
    check_regions(
        OPERATOR,
        facts,
        &[
            ("input", input, shape.bytes()),
            ("output", output, shape.bytes()),
        ],
    )?;
    Ok(launch("ops/softmax.wgsl", shape, vec![input, output]))
}

/// The input gradient from the output of [`forward`] and its gradient.
///
/// # Errors
/// An empty shape, or a region that is too small or too large to bind.
pub fn backward(
    shape: &MapShape,
    facts: &DeviceFacts,
    output: Region,
    output_gradient: Region,
    input_gradient: Region,
) -> Result<Launch, OpsError> {
    shape.check(OPERATOR)?;
    check_regions(
        OPERATOR,
        facts,
        &[
            ("output", output, shape.bytes()),
            ("output gradient", output_gradient, shape.bytes()),
            ("input gradient", input_gradient, shape.bytes()),
        ],
    )?;
    Ok(launch(
        "ops/softmax_gradient.wgsl",
        shape,
        vec![output, output_gradient, input_gradient],
    ))
}

fn launch(shader: &'static str, shape: &MapShape, regions: Vec<Region>) -> Launch {
    let params = SoftmaxParams {
        pixels: shape.pixels(),
        channels: shape.channels,
    };
    let groups = u64::from(shape.pixels().div_ceil(16));
    Launch::new(shader, &[], &params, regions, folded_grid(groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_the_shaders() {
        assert_params_match::<SoftmaxParams>("ops/softmax.wgsl");
        assert_params_match::<SoftmaxParams>("ops/softmax_gradient.wgsl");
    }
}
