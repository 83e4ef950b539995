/// Sizes of a convolution, in the words of PyTorch's `Conv2d`.
///
/// Activations are planes of quads: channel `c` of pixel `p = (n * height + y) * width + x` stands at float
/// `((c / 4) * pixels + p) * 4 + c % 4`, channels padded with zeros to a multiple of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvolutionShape {
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
    /// Groups of channels that do not see each other.
    pub groups: u32,
}

/// What can be wrong with a shape, its weights or its regions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A size that must be at least one is zero.
    #[error("{name} is 0; it must be at least 1")]
    Zero {
        /// Which size.
        name: &'static str,
    },
    /// The channels do not divide into the groups.
    #[error(
        "{channels} {which} channels do not divide into {groups} groups; choose a divisor of both channel counts"
    )]
    Groups {
        /// `input` or `output`.
        which: &'static str,
        /// How many there are.
        channels: u32,
        /// Groups asked for.
        groups: u32,
    },
    /// The kernel, spread by its dilation, is larger than the padded input.
    #[error(
        "the kernel spans {span} pixels in {axis}, the padded input only {available}; pad more or use a smaller kernel"
    )]
    KernelTooLarge {
        /// `y` or `x`.
        axis: &'static str,
        /// Pixels from the first tap to the last, both counted.
        span: u64,
        /// Pixels of the input with its padding.
        available: u64,
    },
    /// More elements than a kernel can index.
    #[error(
        "the {what} has {bytes} bytes, beyond the {limit} that a kernel can index; use a smaller batch"
    )]
    TooLarge {
        /// `input`, `output`, `weight` or `padded row or column of the input`.
        what: &'static str,
        /// Its bytes.
        bytes: u64,
        /// The most there can be.
        limit: u64,
    },
    /// The wrong number of weights.
    #[error("{given} weights for a shape that has {expected}")]
    WeightLength {
        /// Numbers given.
        given: usize,
        /// Numbers expected.
        expected: usize,
    },
    /// A variant cannot compute this pass of this shape on this device.
    #[error(
        "variant `{variant}` cannot compute the {pass} of this shape on this device; take one of `candidates`"
    )]
    UnfitVariant {
        /// The variant.
        variant: crate::Variant,
        /// The pass.
        pass: crate::Pass,
    },
    /// A region is smaller than what a kernel would read or write there.
    #[error("the region of the {region} has {given} bytes, this shape needs {needed}")]
    RegionTooSmall {
        /// Which region, such as `input gradient`.
        region: &'static str,
        /// Its bytes.
        given: u64,
        /// Bytes that the shape needs.
        needed: u64,
    },
}

fn product(sizes: &[u32]) -> u64 {
    sizes.iter().fold(1, |product: u64, size| {
        product.saturating_mul(u64::from(*size))
    })
}

/// Bytes of one `vec4` of f32.
pub(crate) const QUAD_BYTES: u64 = 16;

impl ConvolutionShape {
    /// A dense convolution of stride 1 without padding; `input` is channels, height and width.
    #[must_use]
    pub fn new(batch: u32, input: [u32; 3], output_channels: u32, kernel: [u32; 2]) -> Self {
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
            groups: 1,
        }
    }

    /// A linear layer: a 1x1 convolution on maps of one pixel.
    #[must_use]
    pub fn linear(batch: u32, input_features: u32, output_features: u32) -> Self {
        Self::new(batch, [input_features, 1, 1], output_features, [1, 1])
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

    /// The same with this many groups.
    #[must_use]
    pub fn with_groups(self, groups: u32) -> Self {
        Self { groups, ..self }
    }

    /// Whether kernels can compute this shape.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), ShapeError> {
        let sizes = [
            ("batch", self.batch),
            ("input_channels", self.input_channels),
            ("input_height", self.input_height),
            ("input_width", self.input_width),
            ("output_channels", self.output_channels),
            ("kernel", self.kernel[0].min(self.kernel[1])),
            ("stride", self.stride[0].min(self.stride[1])),
            ("dilation", self.dilation[0].min(self.dilation[1])),
            ("groups", self.groups),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(ShapeError::Zero { name });
        }
        for (which, channels) in [
            ("input", self.input_channels),
            ("output", self.output_channels),
        ] {
            if channels % self.groups != 0 {
                return Err(ShapeError::Groups {
                    which,
                    channels,
                    groups: self.groups,
                });
            }
        }
        for (at, axis) in [(0, "y"), (1, "x")] {
            let (span, available) = (self.span(at), self.available(at));
            if span > available {
                return Err(ShapeError::KernelTooLarge {
                    axis,
                    span,
                    available,
                });
            }
        }
        // Elements, and coordinates with padding, are i32 and u32 in the kernels.
        let limit = u64::from(u32::MAX / 2);
        for (what, bytes) in [
            ("input", self.input_bytes()),
            ("output", self.output_bytes()),
            (
                "weight",
                self.quad_bytes(
                    self.output_quads(),
                    &[self.kernel[0], self.kernel[1], self.input_quads(), 4],
                ),
            ),
            (
                "padded row or column of the input",
                self.available(0).max(self.available(1)) * QUAD_BYTES,
            ),
        ] {
            let limit = limit * QUAD_BYTES;
            if bytes > limit {
                return Err(ShapeError::TooLarge { what, bytes, limit });
            }
        }
        Ok(())
    }

    /// Bytes of `quads` times each of the sizes. Saturating, because any shape may be asked before it is validated.
    fn quad_bytes(&self, quads: u32, sizes: &[u32]) -> u64 {
        product(sizes).saturating_mul(u64::from(quads) * QUAD_BYTES)
    }

    fn span(&self, axis: usize) -> u64 {
        u64::from(self.dilation[axis]) * u64::from(self.kernel[axis].saturating_sub(1)) + 1
    }

    fn available(&self, axis: usize) -> u64 {
        let extent = [self.input_height, self.input_width][axis];
        u64::from(extent) + 2 * u64::from(self.padding[axis])
    }

    fn output_extent(&self, axis: usize) -> u32 {
        let stride = u64::from(self.stride[axis].max(1));
        match self.available(axis).checked_sub(self.span(axis)) {
            Some(room) => u32::try_from(room / stride + 1).unwrap_or(u32::MAX),
            None => 0,
        }
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

    /// Bytes of the input and of its gradient.
    #[must_use]
    pub fn input_bytes(&self) -> u64 {
        self.quad_bytes(
            self.input_quads(),
            &[self.batch, self.input_height, self.input_width],
        )
    }

    /// Bytes of the output and of its gradient.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.quad_bytes(
            self.output_quads(),
            &[self.batch, self.output_height(), self.output_width()],
        )
    }

    /// Bytes of the packed weight and of its gradient.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        let [rows, columns] = self.kernel;
        if self.is_depthwise() {
            self.quad_bytes(self.output_quads(), &[rows, columns])
        } else {
            self.quad_bytes(self.output_quads(), &[rows, columns, self.slots(), 4])
        }
    }

    /// Bytes of the bias and of its gradient.
    #[must_use]
    pub fn bias_bytes(&self) -> u64 {
        u64::from(self.output_quads()) * QUAD_BYTES
    }

    /// Multiplications of one pass (each of the three passes has the same number).
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        product(&[
            self.batch,
            self.output_height(),
            self.output_width(),
            self.output_channels,
            self.kernel[0],
            self.kernel[1],
            self.group_inputs(),
        ])
    }

    /// Whether every channel is convolved with a kernel of its own; its weights have a layout of their own.
    #[must_use]
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.input_channels && self.groups == self.output_channels
    }

    /// Input quads that each output quad has blocks for: all, or the widest span of a group.
    #[must_use]
    pub fn slots(&self) -> u32 {
        if self.groups <= 1 {
            return self.input_quads();
        }
        (0..self.output_quads())
            .map(|quad| {
                let (first, last) = self.input_span(quad);
                last - first + 1
            })
            .max()
            .unwrap_or(1)
    }

    /// The input quad of slot 0 of an output quad.
    #[must_use]
    pub fn first_input_quad(&self, output_quad: u32) -> u32 {
        if self.groups <= 1 {
            return 0;
        }
        // All slots are real input quads: a span shorter than the widest begins earlier where it would reach beyond the last.
        self.input_span(output_quad)
            .0
            .min(self.input_quads().saturating_sub(self.slots()))
    }

    /// First and last input quad that an output quad's groups see.
    fn input_span(&self, output_quad: u32) -> (u32, u32) {
        let (inputs, outputs) = (self.group_inputs(), self.group_outputs());
        // Stays inside whatever the shape and the quad, because both may be asked for before they are validated.
        let (last_channel, most) = (
            self.output_channels.saturating_sub(1),
            self.groups.saturating_sub(1),
        );
        let first_channel = output_quad.min(last_channel / 4) * 4;
        let first_group = (first_channel / outputs).min(most);
        let last_group = (first_channel.saturating_add(3).min(last_channel) / outputs).min(most);
        (
            first_group * inputs / 4,
            ((last_group + 1) * inputs - 1) / 4,
        )
    }

    pub(crate) fn group_inputs(&self) -> u32 {
        (self.input_channels / self.groups.max(1)).max(1)
    }

    pub(crate) fn group_outputs(&self) -> u32 {
        (self.output_channels / self.groups.max(1)).max(1)
    }

    pub(crate) fn input_quads(&self) -> u32 {
        self.input_channels.div_ceil(4)
    }

    pub(crate) fn output_quads(&self) -> u32 {
        self.output_channels.div_ceil(4)
    }

    /// Pixels of the input, of all images.
    pub(crate) fn input_plane(&self) -> u32 {
        self.batch * self.input_height * self.input_width
    }

    /// Pixels of the output, of all images.
    pub(crate) fn output_plane(&self) -> u32 {
        self.batch * self.output_height() * self.output_width()
    }

    pub(crate) fn taps(&self) -> u32 {
        self.kernel[0] * self.kernel[1]
    }

    /// `vec4`s of the packed weight.
    pub(crate) fn weight_vectors(&self) -> u32 {
        (self.weight_bytes() / QUAD_BYTES) as u32
    }

    /// The same convolution with a 1x1 kernel of stride 1 as one row of pixels: images and rows do not matter to it.
    pub(crate) fn flattened(&self) -> Self {
        if !self.is_pointwise() {
            return *self;
        }
        Self {
            batch: 1,
            input_height: 1,
            input_width: self.input_plane(),
            dilation: [1, 1],
            ..*self
        }
    }

    /// Whether this is a matrix product over pixels.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }
}
