//! The shortcut without parameters of CIFAR ResNets ("option A"): every `stride`-th pixel, between zero channels.

use crate::error::{expect_regions, expect_source};
use crate::shape::plane_grid;
use crate::{MapShape, OpsError};
use smidgen_gpu::{Launch, Region, Source, params};

params! {
    struct ShortcutParams {
        output_pixels: u32,
        output_height: u32,
        output_width: u32,
        input_pixels: u32,
        input_height: u32,
        input_width: u32,
        input_quads: u32,
        channel_offset: u32,
        stride: u32,
    }
}
params! {
    struct ShortcutBackwardParams {
        input_pixels: u32,
        input_height: u32,
        input_width: u32,
        channels: u32,
        output_pixels: u32,
        output_height: u32,
        output_width: u32,
        output_quads: u32,
        channel_offset: u32,
        stride: u32,
    }
}

/// A shortcut: `output[n, channel_offset + c, y, x] = input[n, c, stride * y, stride * x]`, zero in all other channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shortcut {
    /// The input.
    pub input: MapShape,
    /// Channels of the output.
    pub output_channels: u32,
    /// Zero channels before the input's; `(output_channels - input.channels) / 2` in ResNets.
    pub channel_offset: u32,
    /// Every how many rows and columns one is taken.
    pub stride: u32,
}

impl Shortcut {
    /// The shape of the output.
    ///
    /// # Errors
    /// A stride of 0, or an output without room for the input's channels.
    pub fn output(&self) -> Result<MapShape, OpsError> {
        const NAME: &str = "shortcut";
        self.input.check(NAME)?;
        let last = u64::from(self.channel_offset) + u64::from(self.input.channels);
        if self.stride == 0 || last > u64::from(self.output_channels) {
            return Err(OpsError::shape(
                NAME,
                format!(
                    "{self:?} needs a stride of at least 1 and at least {last} output channels"
                ),
            ));
        }
        let output = MapShape {
            channels: self.output_channels,
            height: self.input.height.div_ceil(self.stride),
            width: self.input.width.div_ceil(self.stride),
            ..self.input
        };
        output.check(NAME)?;
        Ok(output)
    }
}

/// Writes the whole output, its zero channels too.
///
/// # Errors
/// Sizes that do not fit together, a region too small.
pub fn forward(
    shortcut: &Shortcut,
    input: &Source,
    output: Region,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "shortcut";
    let (from, to) = (shortcut.input, shortcut.output()?);
    expect_source(NAME, "input", input, &from)?;
    expect_regions(NAME, &[("output", output, to.bytes())])?;
    let params = ShortcutParams {
        output_pixels: to.pixels(),
        output_height: to.height,
        output_width: to.width,
        input_pixels: from.pixels(),
        input_height: from.height,
        input_width: from.width,
        input_quads: from.quads(),
        channel_offset: shortcut.channel_offset,
        stride: shortcut.stride,
    };
    Ok(vec![Launch::new(
        "ops/shortcut.wgsl",
        &input.defines().collect::<Vec<_>>(),
        &params,
        [input.region]
            .into_iter()
            .chain(input.normalisation)
            .chain([output])
            .collect(),
        plane_grid(NAME, to.pixels(), to.quads())?,
    )])
}

/// Writes the whole input gradient, zero where no output read the input; with `accumulate`, adds to what it holds instead.
///
/// # Errors
/// Sizes that do not fit together, a region too small.
pub fn backward(
    shortcut: &Shortcut,
    accumulate: bool,
    output_gradient: Region,
    input_gradient: Region,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "shortcut backward";
    let (from, to) = (shortcut.input, shortcut.output()?);
    expect_regions(
        NAME,
        &[
            ("output_gradient", output_gradient, to.bytes()),
            ("input_gradient", input_gradient, from.bytes()),
        ],
    )?;
    let params = ShortcutBackwardParams {
        input_pixels: from.pixels(),
        input_height: from.height,
        input_width: from.width,
        channels: from.channels,
        output_pixels: to.pixels(),
        output_height: to.height,
        output_width: to.width,
        output_quads: to.quads(),
        channel_offset: shortcut.channel_offset,
        stride: shortcut.stride,
    };
    let flag = ("ACCUMULATE", String::new());
    Ok(vec![Launch::new(
        "ops/shortcut_backward.wgsl",
        if accumulate {
            std::slice::from_ref(&flag)
        } else {
            &[]
        },
        &params,
        vec![output_gradient, input_gradient],
        plane_grid(NAME, from.pixels(), from.quads())?,
    )])
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<ShortcutParams>("ops/shortcut.wgsl");
        assert_params_match::<ShortcutBackwardParams>("ops/shortcut_backward.wgsl");
    }
}
