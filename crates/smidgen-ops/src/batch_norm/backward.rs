use super::slicing::{Slicing, lanes};
use crate::elementwise::in_place_regions;
use crate::error::expect_regions;
use crate::shape::{QUAD_BYTES, plane_grid};
use crate::{Activation, MapShape, OpsError};
use smidgen_gpu::{DeviceFacts, Launch, Region, normalisation_bytes, params};

params! { struct BackwardFinishParams { slices: u32, first_coefficient: u32, share: f32 } }
params! { struct InputGradientParams { pixels: u32, first_coefficient: u32 } }

/// Coefficients of a quad that the last pass of backward reads.
const COEFFICIENTS: u64 = 2;

/// Whether the statistics depend on the input, which adds their share to its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatisticsKind {
    /// Those of the batch, from [`statistics`](super::statistics).
    Batch,
    /// Constants, from [`prepare_eval`](super::prepare_eval).
    Constant,
}

/// Regions of [`backward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backward {
    /// The forward's input.
    pub input: Region,
    /// As [`statistics`](super::statistics) or [`prepare_eval`](super::prepare_eval) left it.
    pub normalisation: Region,
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
    backward_part_workspace(shape, shape.channels, facts)
}

/// Bytes of the workspace of [`backward_part`].
#[must_use]
pub fn backward_part_workspace(shape: &MapShape, channels: u32, facts: &DeviceFacts) -> u64 {
    let sums = Slicing::of(&with_channels(shape, channels), facts).elements(shape);
    (sums + COEFFICIENTS * u64::from(shape.quads())) * QUAD_BYTES
}

fn defines(activation: Activation, in_place: bool) -> Vec<(&'static str, String)> {
    activation
        .flag()
        .into_iter()
        .chain(in_place.then_some("IN_PLACE"))
        .map(|name| (name, String::new()))
        .collect()
}

fn with_channels(shape: &MapShape, channels: u32) -> MapShape {
    MapShape { channels, ..*shape }
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
    backward_part(shape, shape.channels, facts, (activation, kind), regions)
}

/// The same for some of the `channels` of a map, to the same bits as if it was for all of them. `shape` is that of the part.
///
/// # Errors
/// As [`backward`].
pub fn backward_part(
    shape: &MapShape,
    channels: u32,
    facts: &DeviceFacts,
    (activation, kind): (Activation, StatisticsKind),
    regions: &Backward,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "batch norm backward";
    shape.check(NAME)?;
    let vector = shape.vector_bytes();
    expect_regions(
        NAME,
        &[
            ("input", regions.input, shape.bytes()),
            (
                "normalisation",
                regions.normalisation,
                normalisation_bytes(shape.channels),
            ),
            ("output_gradient", regions.output_gradient, shape.bytes()),
            (
                "workspace",
                regions.workspace,
                backward_part_workspace(shape, channels, facts),
            ),
            ("gamma_gradient", regions.gamma_gradient, vector),
            ("beta_gradient", regions.beta_gradient, vector),
            ("input_gradient", regions.input_gradient, shape.bytes()),
        ],
    )?;
    let slicing = Slicing::of(&with_channels(shape, channels), facts);
    let first_coefficient = slicing.elements(shape) as u32;
    let (gradients, in_place) =
        in_place_regions(&[regions.output_gradient], regions.input_gradient);
    Ok(vec![
        Launch::new(
            "ops/batch_norm_backward_reduce.wgsl",
            &[defines(activation, false), vec![lanes(facts)]].concat(),
            &slicing.params(shape),
            vec![
                regions.input,
                regions.normalisation,
                regions.output_gradient,
                regions.workspace,
            ],
            [slicing.slices, shape.quads(), 1],
        ),
        Launch::new(
            "ops/batch_norm_backward_finish.wgsl",
            &[lanes(facts)],
            &BackwardFinishParams {
                slices: slicing.slices,
                first_coefficient,
                share: match kind {
                    StatisticsKind::Batch => 1.0 / shape.pixels() as f32,
                    StatisticsKind::Constant => 0.0,
                },
            },
            vec![
                regions.normalisation,
                regions.workspace,
                regions.gamma_gradient,
                regions.beta_gradient,
            ],
            [shape.quads(), 1, 1],
        ),
        Launch::new(
            "ops/batch_norm_input_gradient.wgsl",
            &defines(activation, in_place),
            &InputGradientParams {
                pixels: shape.pixels(),
                first_coefficient,
            },
            [
                vec![regions.input, regions.normalisation, regions.workspace],
                gradients,
            ]
            .concat(),
            plane_grid(NAME, shape.pixels(), shape.quads())?,
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<BackwardFinishParams>("ops/batch_norm_backward_finish.wgsl");
        assert_params_match::<InputGradientParams>("ops/batch_norm_input_gradient.wgsl");
    }
}
