//! Pooling: maxima and averages over windows, and averages over whole images.

use crate::error::{expect_regions, expect_source};
use crate::shape::plane_grid;
use crate::{MapShape, OpsError};
use smidgen_gpu::{Launch, Region, Source, folded_grid, params};

params! {
    struct WindowParams {
        input_pixels: u32,
        input_height: u32,
        input_width: u32,
        output_pixels: u32,
        output_height: u32,
        output_width: u32,
        padding_rows: u32,
        padding_columns: u32,
    }
}
params! {
    struct GlobalParams { image_pixels: u32, images: u32, count: u32 }
}
params! {
    struct GlobalBackwardParams { image_pixels: u32, images: u32, pixels: u32 }
}

/// Most images of a batch, and most rows or columns of a map: the index arithmetic of the kernels is exact up to here.
const LONGEST: u32 = 1 << 20;

/// Windows over a map. Pairs are rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool {
    /// The input.
    pub input: MapShape,
    /// Size of a window, at most 16 by 16.
    pub kernel: [u32; 2],
    /// From one window to the next.
    pub stride: [u32; 2],
    /// How far windows may reach beyond the map on every side, at most half a window.
    pub padding: [u32; 2],
}

impl Pool {
    /// The shape of the output.
    ///
    /// # Errors
    /// A window that does not fit the map or is out of bounds.
    pub fn output(&self) -> Result<MapShape, OpsError> {
        const NAME: &str = "pool";
        self.input.check(NAME)?;
        if self
            .input
            .batch
            .max(self.input.height)
            .max(self.input.width)
            > LONGEST
        {
            return Err(OpsError::shape(
                NAME,
                format!(
                    "{} images of {} x {}: at most {LONGEST} images, rows and columns; split the batch",
                    self.input.batch, self.input.height, self.input.width
                ),
            ));
        }
        let output = MapShape {
            height: self.windows("rows", 0, self.input.height)?,
            width: self.windows("columns", 1, self.input.width)?,
            ..self.input
        };
        output.check(NAME)?;
        Ok(output)
    }

    /// Windows along one axis of `size`.
    fn windows(&self, what: &str, axis: usize, size: u32) -> Result<u32, OpsError> {
        let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
        if !(1..=16).contains(&kernel)
            || stride == 0
            || padding > kernel / 2
            || size + 2 * padding < kernel
        {
            return Err(OpsError::shape(
                "pool",
                format!(
                    "kernel {kernel}, stride {stride}, padding {padding} over {size} {what}: the kernel must be 1 to 16 and no \
                     larger than the padded map, the stride at least 1, the padding at most half the kernel"
                ),
            ));
        }
        Ok((size + 2 * padding - kernel) / stride + 1)
    }

    /// Bits in which a tap of a window is told: 2 for windows of up to 4 taps, 4 for up to 16, else 8.
    #[must_use]
    pub fn tap_bits(&self) -> u32 {
        match self.kernel[0].saturating_mul(self.kernel[1]) {
            0..=4 => 2,
            5..=16 => 4,
            _ => 8,
        }
    }

    /// Pixels whose taps a 32-bit word tells.
    fn word_pixels(&self) -> u32 {
        8 / self.tap_bits()
    }

    /// Bytes of the taps that [`max`] stores: [`tap_bits`](Self::tap_bits) a channel of the output. A word tells of pixels that are 64 apart, so of a
    /// plane the last words may not be full.
    ///
    /// # Errors
    /// As [`output`](Self::output).
    pub fn taps_bytes(&self) -> Result<u64, OpsError> {
        let output = self.output()?;
        let block = 64 * self.word_pixels();
        let words = output.pixels() / block * 64 + (output.pixels() % block).min(64);
        Ok(u64::from(output.quads()) * u64::from(words) * 4)
    }

    fn taps_define(&self) -> (&'static str, String) {
        ("TAP_BITS", self.tap_bits().to_string())
    }

    fn params(&self, output: &MapShape) -> WindowParams {
        WindowParams {
            input_pixels: self.input.pixels(),
            input_height: self.input.height,
            input_width: self.input.width,
            output_pixels: output.pixels(),
            output_height: output.height,
            output_width: output.width,
            padding_rows: self.padding[0],
            padding_columns: self.padding[1],
        }
    }

    /// Kernel and stride, by which the kernels are compiled.
    fn defines(&self) -> [(&'static str, String); 4] {
        let [rows, columns] = [(0, self.input.height), (1, self.input.width)]
            // A step beyond the padded map is never taken, and the shader's arithmetic must not overflow.
            .map(|(axis, size)| {
                self.stride[axis]
                    .min(size + 2 * self.padding[axis])
                    .to_string()
            });
        [
            ("KERNEL_ROWS", self.kernel[0].to_string()),
            ("KERNEL_COLUMNS", self.kernel[1].to_string()),
            ("STRIDE_ROWS", rows),
            ("STRIDE_COLUMNS", columns),
        ]
    }

    fn launch(
        &self,
        shader: &'static str,
        flags: Flags,
        regions: Vec<Region>,
        grid: [u32; 3],
    ) -> Result<Vec<Launch>, OpsError> {
        let params = self.params(&self.output()?);
        let mut defines = self.defines().to_vec();
        defines.extend(flags);
        Ok(vec![Launch::new(shader, &defines, &params, regions, grid)])
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
    input: &Source,
    output: Region,
    taps: Option<Region>,
) -> Result<Vec<Launch>, OpsError> {
    let shape = pool.output()?;
    expect_source("max pool", "input", input, &pool.input)?;
    expect_regions("max pool", &[("output", output, shape.bytes())])?;
    let mut regions = vec![input.region];
    regions.extend(input.normalisation);
    regions.push(output);
    let mut flags: Vec<_> = input.defines().collect();
    let mut grid = pixel_grid("pool", &shape)?;
    if let Some(taps) = taps {
        expect_regions("max pool", &[("taps", taps, pool.taps_bytes()?)])?;
        regions.push(taps);
        flags.push(pool.taps_define());
        grid[0] = grid[0].div_ceil(pool.word_pixels());
    }
    pool.launch("ops/max_pool.wgsl", flags, regions, grid)
}

type Flags = Vec<(&'static str, String)>;

/// The bindings and flags of a kernel that multiplies the gradient it writes with the derivative of an activation.
fn behind(
    operator: &'static str,
    derivative: Option<&Source>,
    shape: &MapShape,
) -> Result<(Vec<Region>, Flags), OpsError> {
    let Some(source) = derivative else {
        return Ok((Vec::new(), Vec::new()));
    };
    expect_source(operator, "derivative", source, shape)?;
    let regions = source.normalisation.into_iter().chain([source.region]);
    let flags = source.defines().chain([("DERIVATIVE", String::new())]);
    Ok((regions.collect(), flags.collect()))
}

/// Gradient of the input of [`max`]; with `derivative`, multiplied with the derivative of the activation behind which the input stood
/// (for ReLU and ReLU6 the region may hold what it gave).
///
/// # Errors
/// A window that does not fit, a region too small.
pub fn max_backward(
    pool: &Pool,
    taps: Region,
    output_gradient: Region,
    derivative: Option<&Source>,
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
    let (source, mut flags) = behind("max pool backward", derivative, &pool.input)?;
    flags.push(pool.taps_define());
    let regions = [vec![taps, output_gradient], source, vec![input_gradient]].concat();
    let grid = pixel_grid("pool", &pool.input)?;
    pool.launch("ops/max_pool_backward.wgsl", flags, regions, grid)
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
    fn flags(self) -> Flags {
        let flag = (self == Self::Inside).then_some("EXCLUDE_PADDING");
        flag.map(|name| (name, String::new())).into_iter().collect()
    }
}

/// Averages of windows.
///
/// # Errors
/// A window that does not fit, a region too small.
pub fn average(
    pool: &Pool,
    divisor: Divisor,
    input: &Source,
    output: Region,
) -> Result<Vec<Launch>, OpsError> {
    let shape = pool.output()?;
    expect_source("average pool", "input", input, &pool.input)?;
    expect_regions("average pool", &[("output", output, shape.bytes())])?;
    let mut regions = vec![input.region];
    regions.extend(input.normalisation);
    regions.push(output);
    let mut flags = divisor.flags();
    flags.extend(input.defines());
    let grid = pixel_grid("pool", &shape)?;
    pool.launch("ops/average_pool.wgsl", flags, regions, grid)
}

/// Gradient of the input of [`average`]; `derivative` as in [`max_backward`].
///
/// # Errors
/// A window that does not fit, a region too small.
pub fn average_backward(
    pool: &Pool,
    divisor: Divisor,
    output_gradient: Region,
    derivative: Option<&Source>,
    input_gradient: Region,
) -> Result<Vec<Launch>, OpsError> {
    expect_regions(
        "average pool backward",
        &[
            ("output_gradient", output_gradient, pool.output()?.bytes()),
            ("input_gradient", input_gradient, pool.input.bytes()),
        ],
    )?;
    let (source, mut flags) = behind("average pool backward", derivative, &pool.input)?;
    flags.extend(divisor.flags());
    let regions = [vec![output_gradient], source, vec![input_gradient]].concat();
    let grid = pixel_grid("pool", &pool.input)?;
    pool.launch("ops/average_pool_backward.wgsl", flags, regions, grid)
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
    input: &Source,
    output: Region,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "global average pool";
    shape.check(NAME)?;
    let pooled = global_output(shape);
    expect_source(NAME, "input", input, shape)?;
    expect_regions(NAME, &[("output", output, pooled.bytes())])?;
    let params = GlobalParams {
        image_pixels: shape.height * shape.width,
        images: shape.batch,
        count: pooled.elements() as u32,
    };
    Ok(vec![Launch::new(
        "ops/global_average_pool.wgsl",
        &input.defines().collect::<Vec<_>>(),
        &params,
        [input.region]
            .into_iter()
            .chain(input.normalisation)
            .chain([output])
            .collect(),
        folded_grid(pooled.elements()),
    )])
}

/// Gradient of the input of [`global_average`]. `shape` is that of the input; `derivative` as in [`max_backward`].
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn global_average_backward(
    shape: &MapShape,
    output_gradient: Region,
    derivative: Option<&Source>,
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
    let (source, flags) = behind(NAME, derivative, shape)?;
    let params = GlobalBackwardParams {
        image_pixels: shape.height * shape.width,
        images: shape.batch,
        pixels: shape.pixels(),
    };
    Ok(vec![Launch::new(
        "ops/global_average_pool_backward.wgsl",
        &flags,
        &params,
        [vec![output_gradient], source, vec![input_gradient]].concat(),
        plane_grid(NAME, shape.pixels(), shape.quads())?,
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
        assert_params_match::<GlobalBackwardParams>("ops/global_average_pool_backward.wgsl");
    }
}
