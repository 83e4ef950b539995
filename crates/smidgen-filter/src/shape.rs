use crate::axis::Axis;
use crate::error::FilterError;

/// Bytes of one `vec4` of f32.
pub(crate) const QUAD_BYTES: u64 = 16;

/// The largest patch there is.
pub const LARGEST_PATCH: u32 = 8;

/// Sizes of a convolution, in the words of PyTorch's `Conv2d`, and of the patches its backward pass is filtered by.
///
/// Activations are planes of quads: channel `c` of pixel `p = (n * height + y) * width + x` stands at float
/// `((c / 4) * pixels + p) * 4 + c % 4`, channels padded with zeros to a multiple of four. Patch sums and averages stand the same way, a
/// patch in the place of a pixel. Weights are stacks of 4x4 blocks: tap `t` of input channel `i` and output channel `o` at float
/// `(((o / 4) * taps + t) * ceil(inputs / 4) + i / 4) * 16 + i % 4 * 4 + o % 4`; depthwise ones of channel `c` at
/// `((c / 4) * taps + t) * 4 + c % 4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FilterShape {
    /// Images.
    pub batch: u32,
    /// Channels of the input.
    pub input_channels: u32,
    /// Rows of the input.
    pub input_height: u32,
    /// Columns of the input.
    pub input_width: u32,
    /// Channels of the output.
    pub output_channels: u32,
    /// Taps, in y and x.
    pub kernel: [u32; 2],
    /// Input pixels from one output pixel to the next, in y and x.
    pub stride: [u32; 2],
    /// Zeros around the input, in y and x, on both sides.
    pub padding: [u32; 2],
    /// Input pixels from one tap to the next, in y and x.
    pub dilation: [u32; 2],
    /// Whether every channel is convolved with a kernel of its own.
    pub depthwise: bool,
    /// Rows and columns of the output that make a patch, from 1 to [`LARGEST_PATCH`].
    pub patch: u32,
}

impl FilterShape {
    /// A dense convolution of stride 1 without padding; `input` is channels, height and width.
    #[must_use]
    pub fn new(
        batch: u32,
        input: [u32; 3],
        output_channels: u32,
        kernel: [u32; 2],
        patch: u32,
    ) -> Self {
        Self {
            batch,
            input_channels: input[0],
            input_height: input[1],
            input_width: input[2],
            output_channels,
            kernel,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            depthwise: false,
            patch,
        }
    }

    /// The same with this stride in both directions.
    #[must_use]
    pub fn with_stride(self, stride: u32) -> Self {
        Self {
            stride: [stride; 2],
            ..self
        }
    }

    /// The same with this padding on all sides.
    #[must_use]
    pub fn with_padding(self, padding: u32) -> Self {
        Self {
            padding: [padding; 2],
            ..self
        }
    }

    /// The same with this dilation in both directions.
    #[must_use]
    pub fn with_dilation(self, dilation: u32) -> Self {
        Self {
            dilation: [dilation; 2],
            ..self
        }
    }

    /// The same with every channel convolved with a kernel of its own.
    #[must_use]
    pub fn depthwise(self) -> Self {
        Self {
            depthwise: true,
            ..self
        }
    }

    /// Whether kernels can compute this shape.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), FilterError> {
        let sizes = [
            ("batch", self.batch),
            ("input_channels", self.input_channels),
            ("input_height", self.input_height),
            ("input_width", self.input_width),
            ("output_channels", self.output_channels),
            ("kernel", self.kernel[0].min(self.kernel[1])),
            ("stride", self.stride[0].min(self.stride[1])),
            ("dilation", self.dilation[0].min(self.dilation[1])),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(FilterError::Zero { name });
        }
        if !(1..=LARGEST_PATCH).contains(&self.patch) {
            return Err(FilterError::Patch { patch: self.patch });
        }
        if self.depthwise && self.input_channels != self.output_channels {
            return Err(FilterError::Depthwise {
                input: self.input_channels,
                output: self.output_channels,
            });
        }
        if self.output_height() == 0 || self.output_width() == 0 {
            return Err(FilterError::KernelTooLarge);
        }
        // Elements are u32 in the kernels, rows with padding i32.
        let limit = u64::from(u32::MAX / 2);
        for (what, bytes) in [
            ("input", self.input_bytes()),
            ("output", self.output_bytes()),
            ("patch sums", self.patch_sums_bytes()),
            ("patch averages", self.patch_averages_bytes()),
            ("weight", self.weight_bytes()),
            (
                "row or column of all windows",
                [0, 1]
                    .map(|at| u64::from(self.patches(at)) * u64::from(self.window(at)))
                    .into_iter()
                    .max()
                    .unwrap_or(0)
                    * QUAD_BYTES,
            ),
        ] {
            let limit = limit * QUAD_BYTES;
            if bytes > limit {
                return Err(FilterError::TooLarge { what, bytes, limit });
            }
        }
        Ok(())
    }

    fn output_extent(&self, axis: usize) -> u32 {
        let extent = u64::from([self.input_height, self.input_width][axis]);
        let available = extent + 2 * u64::from(self.padding[axis]);
        let span =
            u64::from(self.dilation[axis]) * u64::from(self.kernel[axis].saturating_sub(1)) + 1;
        let stride = u64::from(self.stride[axis].max(1));
        available.checked_sub(span).map_or(0, |room| {
            u32::try_from(room / stride + 1).unwrap_or(u32::MAX)
        })
    }

    /// Rows of the output; 0 where the kernel does not fit.
    #[must_use]
    pub fn output_height(&self) -> u32 {
        self.output_extent(0)
    }

    /// Columns of the output; 0 where the kernel does not fit.
    #[must_use]
    pub fn output_width(&self) -> u32 {
        self.output_extent(1)
    }

    /// Rows (`axis` 0) or columns (1) of patches of an image.
    pub(crate) fn patches(&self, axis: usize) -> u32 {
        self.output_extent(axis).div_ceil(self.patch.max(1))
    }

    /// Patches of all images.
    #[must_use]
    pub fn all_patches(&self) -> u64 {
        product(&[self.batch, self.patches(0), self.patches(1)])
    }

    /// Input rows (`axis` 0) or columns (1) of a whole patch.
    fn window(&self, axis: usize) -> u32 {
        self.patch.saturating_mul(self.stride[axis])
    }

    pub(crate) fn input_axis(&self, axis: usize) -> Axis {
        let extent = [self.input_height, self.input_width][axis];
        Axis::new(extent, self.patches(axis), self.window(axis))
    }

    pub(crate) fn output_axis(&self, axis: usize) -> Axis {
        Axis::new(self.output_extent(axis), self.patches(axis), self.patch)
    }

    /// Patches from one tap to the next, along an axis: 0 where all taps fall into about the same patch.
    pub(crate) fn tap_step(&self, axis: usize) -> u32 {
        // Neighbouring taps count as one even where a patch is one pixel: patch 1 filters over the taps alone.
        if self.dilation[axis] == 1 {
            0
        } else {
            self.dilation[axis] / self.window(axis)
        }
    }

    /// Whether the dilation is so wide that taps fall into different patches: the input gradient then reads the whole weight, not its
    /// sums over the taps.
    #[must_use]
    pub fn reads_every_tap(&self) -> bool {
        (0..2).any(|axis| self.kernel[axis] > 1 && self.tap_step(axis) > 0)
    }

    pub(crate) fn input_quads(&self) -> u32 {
        self.input_channels.div_ceil(4)
    }

    pub(crate) fn output_quads(&self) -> u32 {
        self.output_channels.div_ceil(4)
    }

    pub(crate) fn taps(&self) -> u32 {
        self.kernel[0].saturating_mul(self.kernel[1])
    }

    /// `vec4`s of one tap of one output quad.
    pub(crate) fn tap_vectors(&self) -> u32 {
        if self.depthwise {
            1
        } else {
            4 * self.input_quads()
        }
    }

    /// `vec4`s of one tap of all output quads.
    pub(crate) fn pair_vectors(&self) -> u32 {
        (self.tap_sums_bytes() / QUAD_BYTES) as u32
    }

    pub(crate) fn input_plane(&self) -> u32 {
        self.batch * self.input_height * self.input_width
    }

    pub(crate) fn output_plane(&self) -> u32 {
        self.batch * self.output_height() * self.output_width()
    }

    /// Patches of all images, of a shape that was validated.
    pub(crate) fn patch_plane(&self) -> u32 {
        self.all_patches() as u32
    }

    /// Output pixels that an input pixel stands for: 1 / (stride in y * stride in x).
    pub(crate) fn density(&self) -> f32 {
        1.0 / (self.stride[0] as f32 * self.stride[1] as f32)
    }

    fn quad_bytes(&self, quads: u32, sizes: &[u32]) -> u64 {
        product(sizes).saturating_mul(u64::from(quads) * QUAD_BYTES)
    }

    /// Bytes of the input and of its gradient.
    #[must_use]
    pub fn input_bytes(&self) -> u64 {
        self.quad_bytes(
            self.input_quads(),
            &[self.batch, self.input_height, self.input_width],
        )
    }

    /// Bytes of the output gradient.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.quad_bytes(
            self.output_quads(),
            &[self.batch, self.output_height(), self.output_width()],
        )
    }

    /// Bytes of the patch sums of the input, which the backward pass needs instead of the input.
    #[must_use]
    pub fn patch_sums_bytes(&self) -> u64 {
        self.quad_bytes(
            self.input_quads(),
            &[self.batch, self.patches(0), self.patches(1)],
        )
    }

    /// Bytes of the bits of [`Mask::Bits`](crate::Mask::Bits).
    #[must_use]
    pub fn slopes_bytes(&self) -> u64 {
        let pixels = product(&[self.batch, self.input_height, self.input_width]);
        (pixels.div_ceil(8)).saturating_mul(u64::from(self.input_quads()) * 4)
    }

    /// Bytes of the counts of slopes over the patches of the input: a byte a channel.
    #[must_use]
    pub fn slope_counts_bytes(&self) -> u64 {
        self.patch_sums_bytes() / 4
    }

    /// Whether the input has the patches of the output, pixel by pixel: stride 1 and a map of one size. Then the gradient of the input can stay
    /// at the resolution of patches.
    #[must_use]
    pub fn keeps_patches(&self) -> bool {
        self.stride == [1, 1]
            && [self.output_height(), self.output_width()] == [self.input_height, self.input_width]
    }

    /// Bytes of the patch averages of the output gradient.
    #[must_use]
    pub fn patch_averages_bytes(&self) -> u64 {
        self.quad_bytes(
            self.output_quads(),
            &[self.batch, self.patches(0), self.patches(1)],
        )
    }

    /// Bytes of the packed weight and of its gradient.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.tap_sums_bytes().saturating_mul(product(&self.kernel))
    }

    /// Bytes of the sums of the weight over its taps, and of a weight gradient that is held once for all taps.
    #[must_use]
    pub fn tap_sums_bytes(&self) -> u64 {
        self.quad_bytes(self.output_quads(), &[self.tap_vectors()])
    }

    /// Bytes of the bias gradient.
    #[must_use]
    pub fn bias_bytes(&self) -> u64 {
        u64::from(self.output_quads()) * QUAD_BYTES
    }

    /// Multiplications of the two products at patch resolution; an exact backward pass has those of
    /// [`exact_multiply_adds`](Self::exact_multiply_adds).
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        let pairs = self.channel_pairs();
        let taps = if self.reads_every_tap() {
            self.taps()
        } else {
            1
        };
        self.all_patches()
            .saturating_mul(pairs)
            .saturating_mul(u64::from(taps) + 1)
    }

    /// Multiplications of input and weight gradient without the filter.
    #[must_use]
    pub fn exact_multiply_adds(&self) -> u64 {
        product(&[
            self.batch,
            self.output_height(),
            self.output_width(),
            self.kernel[0],
            self.kernel[1],
        ])
        .saturating_mul(self.channel_pairs())
        .saturating_mul(2)
    }

    fn channel_pairs(&self) -> u64 {
        let inputs = if self.depthwise {
            1
        } else {
            self.input_channels
        };
        product(&[self.output_channels, inputs])
    }
}

fn product(sizes: &[u32]) -> u64 {
    sizes.iter().fold(1, |product: u64, size| {
        product.saturating_mul(u64::from(*size))
    })
}
