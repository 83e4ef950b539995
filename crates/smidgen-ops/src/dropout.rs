//! Dropout from a counter-based generator: no mask is kept.

use crate::control::Control;
use crate::error::{expect_regions, expect_source};
use crate::shape::plane_grid;
use crate::{MapShape, OpsError};
use smidgen_gpu::{Launch, Region, Source, params};

params! { struct DropoutParams { pixels: u32, layer: u32, threshold: u32, scale: f32, plane: u32, first: u32 } }

/// What a layer drops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of dropping a value, from 0 to below 1.
    pub rate: f32,
    /// Tells layers apart, so that no two draw the same mask.
    pub layer: u32,
}

/// Regions of [`dropout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regions {
    /// The [`Control`] block, whose seed must be the same in forward and backward.
    pub control: Region,
    /// The values and how they are read, or in backward the output gradient.
    pub input: Source,
    /// The result, or in backward the input gradient; may be the same region as `input`.
    pub output: Region,
}

/// Drops values with probability `rate` and divides the others by `1 - rate`. Forward and backward are the same launch: the one
/// on values, the other on gradients.
///
/// # Errors
/// A rate outside 0 to 1, an empty or too large shape, a region too small for it.
pub fn dropout(
    shape: &MapShape,
    layer: &Dropout,
    regions: &Regions,
) -> Result<Vec<Launch>, OpsError> {
    dropout_part(shape, (0, shape.batch), layer, regions)
}

/// The same for a slab of a map, with the mask that the whole has there: `shape` is the slab's, which begins with the `first` of `all` images.
///
/// # Errors
/// As [`dropout`].
pub fn dropout_part(
    shape: &MapShape,
    (first, all): (u32, u32),
    layer: &Dropout,
    regions: &Regions,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "dropout";
    shape.check(NAME)?;
    if !(0.0..1.0).contains(&layer.rate) {
        return Err(OpsError::shape(
            NAME,
            format!("rate {} must be at least 0 and below 1", layer.rate),
        ));
    }
    expect_source(NAME, "input", &regions.input, shape)?;
    expect_regions(
        NAME,
        &[
            ("control", regions.control, Control::BYTES),
            ("output", regions.output, shape.bytes()),
        ],
    )?;
    let of_image = shape.pixels() / shape.batch;
    let params = DropoutParams {
        pixels: shape.pixels(),
        layer: layer.layer,
        threshold: threshold(layer.rate),
        scale: 1.0 / (1.0 - layer.rate),
        plane: all.wrapping_mul(of_image),
        first: first.wrapping_mul(of_image),
    };
    let in_place = regions.input.region == regions.output;
    if in_place && regions.input != Source::from(regions.output) {
        return Err(OpsError::shape(
            NAME,
            "a normalised or activated input cannot be replaced by the output",
        ));
    }
    let mut bound = vec![regions.control, regions.input.region];
    bound.extend(regions.input.normalisation);
    let mut defines: Vec<_> = regions.input.defines().collect();
    if in_place {
        defines.push(("IN_PLACE", String::new()));
    } else {
        bound.push(regions.output);
    }
    Ok(vec![Launch::new(
        "ops/dropout.wgsl",
        &defines,
        &params,
        bound,
        plane_grid(NAME, shape.pixels(), shape.quads())?,
    )])
}

/// Random words below this are dropped.
fn threshold(rate: f32) -> u32 {
    (f64::from(rate) * 4_294_967_296.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shader() {
        assert_params_match::<DropoutParams>("ops/dropout.wgsl");
    }

    #[test]
    fn thresholds_cover_the_range_of_words() {
        assert_eq!(threshold(0.0), 0);
        assert_eq!(threshold(0.5), 1 << 31);
        assert!(threshold(1.0 - f32::EPSILON) > u32::MAX - 1024);
    }
}
