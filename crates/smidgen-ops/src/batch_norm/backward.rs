use super::slicing::{ReduceParams, Slicing, lanes};
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
    launches(&[(*shape, *regions)], channels, facts, (activation, kind))
}

/// As [`backward`], of a map in slabs, whose statistics are those of all: the sums are completed over the slabs, in their order, before the first input
/// gradient is written. Of what is not of single pictures the regions of all slabs are the same; the workspace is of
/// [`backward_in_slabs_workspace`] bytes.
///
/// # Errors
/// As [`backward`].
pub fn backward_in_slabs(
    slabs: &[(MapShape, Backward)],
    facts: &DeviceFacts,
    activation: Activation,
    kind: StatisticsKind,
) -> Result<Vec<Launch>, OpsError> {
    let channels = slabs.first().map_or(0, |(shape, _)| shape.channels);
    launches(slabs, channels, facts, (activation, kind))
}

/// Bytes of the workspace of [`backward_in_slabs`], from the shapes of the slabs.
#[must_use]
pub fn backward_in_slabs_workspace(slabs: &[MapShape], facts: &DeviceFacts) -> u64 {
    let sums = slabs
        .iter()
        .map(|shape| Slicing::of(shape, facts).elements(shape));
    let quads = slabs.first().map_or(0, MapShape::quads);
    (sums.sum::<u64>() + COEFFICIENTS * u64::from(quads)) * QUAD_BYTES
}

fn launches(
    slabs: &[(MapShape, Backward)],
    channels: u32,
    facts: &DeviceFacts,
    (activation, kind): (Activation, StatisticsKind),
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "batch norm backward";
    let Some((first, shared)) = slabs.first() else {
        return Ok(Vec::new());
    };
    let slicing = |shape: &MapShape| Slicing::of(&with_channels(shape, channels), facts);
    let slices: u32 = slabs.iter().map(|(shape, _)| slicing(shape).slices).sum();
    let pixels: u64 = (slabs.iter())
        .map(|(shape, _)| u64::from(shape.pixels()))
        .sum();
    let (quads, vector) = (first.quads(), first.vector_bytes());
    let first_coefficient = 2 * quads * slices;
    let workspace = (u64::from(first_coefficient) + COEFFICIENTS * u64::from(quads)) * QUAD_BYTES;
    expect_regions(
        NAME,
        &[
            ("workspace", shared.workspace, workspace),
            ("gamma_gradient", shared.gamma_gradient, vector),
            ("beta_gradient", shared.beta_gradient, vector),
        ],
    )?;
    let (mut reduce, mut gradient, mut first_slice) = (Vec::new(), Vec::new(), 0);
    for (shape, regions) in slabs {
        shape.check(NAME)?;
        let normalisation = normalisation_bytes(shape.channels);
        expect_regions(
            NAME,
            &[
                ("input", regions.input, shape.bytes()),
                ("normalisation", regions.normalisation, normalisation),
                ("output_gradient", regions.output_gradient, shape.bytes()),
                ("input_gradient", regions.input_gradient, shape.bytes()),
            ],
        )?;
        let slicing = slicing(shape);
        reduce.push(Launch::new(
            "ops/batch_norm_backward_reduce.wgsl",
            &[defines(activation, false), vec![lanes(facts)]].concat(),
            &ReduceParams {
                pixels: shape.pixels(),
                slice_pixels: slicing.slice_pixels,
                slices,
                first_slice,
            },
            vec![
                regions.input,
                regions.normalisation,
                regions.output_gradient,
                regions.workspace,
            ],
            [slicing.slices, quads, 1],
        ));
        first_slice += slicing.slices;
        let (gradients, in_place) =
            in_place_regions(&[regions.output_gradient], regions.input_gradient);
        gradient.push(Launch::new(
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
            plane_grid(NAME, shape.pixels(), quads)?,
        ));
    }
    reduce.push(Launch::new(
        "ops/batch_norm_backward_finish.wgsl",
        &[lanes(facts)],
        &BackwardFinishParams {
            slices,
            first_coefficient,
            share: match kind {
                StatisticsKind::Batch => 1.0 / pixels as f32,
                StatisticsKind::Constant => 0.0,
            },
        },
        vec![
            shared.normalisation,
            shared.workspace,
            shared.gamma_gradient,
            shared.beta_gradient,
        ],
        [quads, 1, 1],
    ));
    reduce.append(&mut gradient);
    Ok(reduce)
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
