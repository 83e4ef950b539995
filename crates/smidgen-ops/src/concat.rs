//! Concatenation along channels, of any numbers of channels.

use crate::error::{expect_regions, expect_source};
use crate::shape::plane_grid;
use crate::{MapShape, OpsError};
use smidgen_gpu::{Launch, Region, Source, params};

params! { struct ConcatParams { pixels: u32, input_quads: u32, channel_offset: u32 } }
params! { struct SplitParams { pixels: u32, channels: u32, output_quads: u32, channel_offset: u32 } }

/// One of the maps that are put together, or its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its channels.
    pub channels: u32,
    /// Where it stands and how it is read; a gradient is written as it is.
    pub map: Source,
}

/// Writes the channels of all `parts`, one after the other, to `output`. `shape` is that of the output.
///
/// One launch a part, to be run in this order: two parts may share a quad, and the later one keeps what the earlier one wrote.
///
/// # Errors
/// An empty or too large shape, parts that have not its channels, a region too small.
pub fn forward(shape: &MapShape, parts: &[Part], output: Region) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "concat";
    expect_regions(NAME, &[("output", output, check(NAME, shape, parts)?)])?;
    offsets(parts)
        .map(|(part, channel_offset)| {
            let params = ConcatParams {
                pixels: shape.pixels(),
                input_quads: part.channels.div_ceil(4),
                channel_offset,
            };
            let touched = (channel_offset + part.channels).div_ceil(4) - channel_offset / 4;
            Ok(Launch::new(
                "ops/concat.wgsl",
                &part.map.defines().collect::<Vec<_>>(),
                &params,
                [part.map.region]
                    .into_iter()
                    .chain(part.map.normalisation)
                    .chain([output])
                    .collect(),
                plane_grid(NAME, shape.pixels(), touched)?,
            ))
        })
        .collect()
}

/// Writes to every part its channels of `output_gradient`. `shape` is that of the output.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: &MapShape,
    output_gradient: Region,
    parts: &[Part],
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "concat backward";
    let bytes = check(NAME, shape, parts)?;
    expect_regions(NAME, &[("output_gradient", output_gradient, bytes)])?;
    offsets(parts)
        .map(|(part, channel_offset)| split(shape, output_gradient, channel_offset, part))
        .collect()
}

/// The gradient of one part alone: the channels of `output_gradient` from `channel_offset` on. `shape` is that of the whole.
///
/// # Errors
/// Channels beyond the end of the whole, or a region too small for its channels.
pub fn backward_part(
    shape: &MapShape,
    output_gradient: Region,
    channel_offset: u32,
    part: &Part,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "concat backward";
    shape.check(NAME)?;
    let end = u64::from(channel_offset) + u64::from(part.channels);
    if part.channels == 0 || end > u64::from(shape.channels) {
        let what = format!(
            "channels {channel_offset} to {end} of {} were asked for",
            shape.channels
        );
        return Err(OpsError::shape(NAME, what));
    }
    let needed = MapShape {
        channels: part.channels,
        ..*shape
    };
    expect_regions(
        NAME,
        &[
            ("output_gradient", output_gradient, shape.bytes()),
            ("part", part.map.region, needed.bytes()),
        ],
    )?;
    Ok(vec![split(shape, output_gradient, channel_offset, part)?])
}

fn split(
    shape: &MapShape,
    output_gradient: Region,
    channel_offset: u32,
    part: &Part,
) -> Result<Launch, OpsError> {
    let params = SplitParams {
        pixels: shape.pixels(),
        channels: part.channels,
        output_quads: shape.quads(),
        channel_offset,
    };
    Ok(Launch::new(
        "ops/concat_backward.wgsl",
        &[],
        &params,
        vec![output_gradient, part.map.region],
        plane_grid("concat backward", shape.pixels(), part.channels.div_ceil(4))?,
    ))
}

/// Every part and the channels before it.
fn offsets(parts: &[Part]) -> impl Iterator<Item = (&Part, u32)> {
    parts.iter().scan(0, |before, part| {
        let offset = *before;
        *before += part.channels;
        Some((part, offset))
    })
}

/// The bytes of the whole.
fn check(operator: &'static str, shape: &MapShape, parts: &[Part]) -> Result<u64, OpsError> {
    shape.check(operator)?;
    let sum: u64 = parts.iter().map(|part| u64::from(part.channels)).sum();
    if sum != u64::from(shape.channels) || parts.iter().any(|part| part.channels == 0) {
        return Err(OpsError::shape(
            operator,
            format!(
                "the parts have {:?} channels; each needs at least 1, and all together {}",
                parts.iter().map(|part| part.channels).collect::<Vec<_>>(),
                shape.channels
            ),
        ));
    }
    for part in parts {
        let needed = MapShape {
            channels: part.channels,
            ..*shape
        };
        expect_source(operator, "part", &part.map, &needed)?;
    }
    Ok(shape.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<ConcatParams>("ops/concat.wgsl");
        assert_params_match::<SplitParams>("ops/concat_backward.wgsl");
    }
}
