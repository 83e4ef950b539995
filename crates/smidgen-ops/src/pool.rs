//! Pooling: maxima and averages over square windows, and averages over whole images.

use crate::error::expect_regions;
use crate::{MapShape, OpsError};
use smidgen_gpu::{Launch, Region, folded_grid, params};

params! {
    struct WindowParams {
        input_pixels: u32,
        input_height: u32,
        input_width: u32,
        output_pixels: u32,
        output_height: u32,
        output_width: u32,
        kernel: u32,
        stride: u32,
        padding: u32,
    }
}
params! { struct GlobalParams { image_pixels: u32, count: u32 } }

/// Square windows over a map; the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool {
    /// The input.
    pub input: MapShape,
    /// Rows and columns of a window, at most 16.
    pub kernel: u32,
    /// Rows and columns from one window to the next.
    pub stride: u32,
    /// Rows and columns that windows may reach beyond the map on every side, at most half a window.
    pub padding: u32,
}

impl Pool {
    /// The shape of the output.
    ///
    /// # Errors
    /// A window that does not fit the map or is out of bounds.
    pub fn output(&self) -> Result<MapShape, OpsError> {
        const NAME: &str = "pool";
        self.input.check(NAME)?;
        let Self {
            input,
            kernel,
            stride,
            padding,
        } = *self;
        let smallest = input.height.min(input.width);
        if !(1..=16).contains(&kernel)
            || stride == 0
            || padding > kernel / 2
            || u64::from(smallest) + 2 * u64::from(padding) < u64::from(kernel)
        {
            return Err(OpsError::shape(
                NAME,
                format!(
                    "kernel {kernel}, stride {stride}, padding {padding} over {} x {}: the kernel must be 1 to 16 and no larger \
                     than the padded map, the stride at least 1, the padding at most half the kernel",
                    input.height, input.width
                ),
            ));
        }
        let windows = |size: u32| (size + 2 * padding - kernel) / stride + 1;
        let output = MapShape {
            height: windows(input.height),
            width: windows(input.width),
            ..input
        };
        output.check(NAME)?;
        Ok(output)
    }

    /// Bytes of the taps that [`max`] stores: one byte a channel of the output.
    ///
    /// # Errors
    /// As [`output`](Self::output).
    pub fn taps_bytes(&self) -> Result<u64, OpsError> {
        Ok(self.output()?.elements() * 4)
    }

    fn params(&self, output: &MapShape) -> WindowParams {
        WindowParams {
            input_pixels: self.input.pixels(),
            input_height: self.input.height,
            input_width: self.input.width,
            output_pixels: output.pixels(),
            output_height: output.height,
            output_width: output.width,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }

    fn launch(
        &self,
        shader: &'static str,
        flag: Option<&'static str>,
        regions: Vec<Region>,
        over: &MapShape,
    ) -> Result<Vec<Launch>, OpsError> {
        let defines: Vec<_> = flag.into_iter().map(|name| (name, String::new())).collect();
        let params = self.params(&self.output()?);
        Ok(vec![Launch::new(
            shader,
            &defines,
            &params,
            regions,
            pixel_grid("pool", over)?,
        )])
    }
}

/// Workgroups for kernels with one pixel of one quad an invocation.
pub(crate) fn pixel_grid(operator: &'static str, shape: &MapShape) -> Result<[u32; 3], OpsError> {
    let groups = shape.pixels().div_ceil(256);
    if groups > 65_535 {
        return Err(OpsError::shape(
            operator,
            format!(
                "{} pixels are too many for one launch, split the batch",
                shape.pixels()
            ),
        ));
    }
    Ok([groups, shape.quads(), 1])
}

/// Maxima of windows; with `taps`, also where in its window each maximum stands (the first in scan order), for [`max_backward`].
///
/// # Errors
/// A window that does not fit, a region too small.
pub fn max(
    pool: &Pool,
    input: Region,
    output: Region,
    taps: Option<Region>,
) -> Result<Vec<Launch>, OpsError> {
    let shape = pool.output()?;
    expect_regions(
        "max pool",
        &[
            ("input", input, pool.input.bytes()),
            ("output", output, shape.bytes()),
        ],
    )?;
    let mut regions = vec![input, output];
    if let Some(taps) = taps {
        expect_regions("max pool", &[("taps", taps, pool.taps_bytes()?)])?;
        regions.push(taps);
    }
    let flag = taps.map(|_| "TAPS");
    pool.launch("ops/max_pool.wgsl", flag, regions, &shape)
}

/// Gradient of the input of [`max`].
///
/// # Errors
/// A window that does not fit, a region too small.
pub fn max_backward(
    pool: &Pool,
    taps: Region,
    output_gradient: Region,
    input_gradient: Region,
) -> Result<Vec<Launch>, OpsError> {
    expect_regions(
        "max pool backward",
        &[
            ("taps", taps, pool.taps_bytes()?),
            ("output_gradient", output_gradient, pool.output()?.bytes()),
            ("input_gradient", input_gradient, pool.input.bytes()),
        ],
    )?;
    let regions = vec![taps, output_gradient, input_gradient];
    pool.launch("ops/max_pool_backward.wgsl", None, regions, &pool.input)
}

/// What an average is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Divisor {
    /// The pixels of the window, padding included (PyTorch's default).
    Window,
    /// The pixels of the window inside the map.
    Inside,
}

impl Divisor {
    fn flag(self) -> Option<&'static str> {
        (self == Self::Inside).then_some("EXCLUDE_PADDING")
    }
}

/// Averages of windows.
///
/// # Errors
/// A window that does not fit, a region too small.
pub fn average(
    pool: &Pool,
    divisor: Divisor,
    input: Region,
    output: Region,
) -> Result<Vec<Launch>, OpsError> {
    let shape = pool.output()?;
    expect_regions(
        "average pool",
        &[
            ("input", input, pool.input.bytes()),
            ("output", output, shape.bytes()),
        ],
    )?;
    let regions = vec![input, output];
    pool.launch("ops/average_pool.wgsl", divisor.flag(), regions, &shape)
}

/// Gradient of the input of [`average`].
///
/// # Errors
/// A window that does not fit, a region too small.
pub fn average_backward(
    pool: &Pool,
    divisor: Divisor,
    output_gradient: Region,
    input_gradient: Region,
) -> Result<Vec<Launch>, OpsError> {
    expect_regions(
        "average pool backward",
        &[
            ("output_gradient", output_gradient, pool.output()?.bytes()),
            ("input_gradient", input_gradient, pool.input.bytes()),
        ],
    )?;
    let regions = vec![output_gradient, input_gradient];
    pool.launch(
        "ops/average_pool_backward.wgsl",
        divisor.flag(),
        regions,
        &pool.input,
    )
}

/// The shape of the output of [`global_average`]: one pixel an image.
#[must_use]
pub fn global_output(shape: &MapShape) -> MapShape {
    MapShape {
        height: 1,
        width: 1,
        ..*shape
    }
}

/// The average of every image and channel. `shape` is that of the input.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn global_average(
    shape: &MapShape,
    input: Region,
    output: Region,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "global average pool";
    shape.check(NAME)?;
    let pooled = global_output(shape);
    expect_regions(
        NAME,
        &[
            ("input", input, shape.bytes()),
            ("output", output, pooled.bytes()),
        ],
    )?;
    let params = GlobalParams {
        image_pixels: shape.height * shape.width,
        count: pooled.elements() as u32,
    };
    Ok(vec![Launch::new(
        "ops/global_average_pool.wgsl",
        &[],
        &params,
        vec![input, output],
        folded_grid(pooled.elements()),
    )])
}

/// Gradient of the input of [`global_average`]. `shape` is that of the input.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn global_average_backward(
    shape: &MapShape,
    output_gradient: Region,
    input_gradient: Region,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "global average pool backward";
    shape.check(NAME)?;
    expect_regions(
        NAME,
        &[
            (
                "output_gradient",
                output_gradient,
                global_output(shape).bytes(),
            ),
            ("input_gradient", input_gradient, shape.bytes()),
        ],
    )?;
    let params = GlobalParams {
        image_pixels: shape.height * shape.width,
        count: shape.elements() as u32,
    };
    Ok(vec![Launch::new(
        "ops/global_average_pool_backward.wgsl",
        &[],
        &params,
        vec![output_gradient, input_gradient],
        folded_grid(shape.elements().div_ceil(1024)),
    )])
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        for shader in [
            "ops/max_pool.wgsl",
            "ops/max_pool_backward.wgsl",
            "ops/average_pool.wgsl",
            "ops/average_pool_backward.wgsl",
        ] {
            assert_params_match::<WindowParams>(shader);
        }
        assert_params_match::<GlobalParams>("ops/global_average_pool.wgsl");
        assert_params_match::<GlobalParams>("ops/global_average_pool_backward.wgsl");
    }
}
