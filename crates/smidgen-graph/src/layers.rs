//! Settings of layers, for the builder.

/// Rows and columns, from one number for both or from `[rows, columns]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent(pub [u32; 2]);

impl From<u32> for Extent {
    fn from(both: u32) -> Self {
        Self([both, both])
    }
}

impl From<[u32; 2]> for Extent {
    fn from(sizes: [u32; 2]) -> Self {
        Self(sizes)
    }
}

/// A convolution, by default as PyTorch's `Conv2d`: stride 1, no padding, one group, with a bias.
///
/// ```
/// use smidgen_graph::Convolution;
/// let halving = Convolution::new(64, 3).stride(2).padding(1).without_bias();
/// let wide = Convolution::new(64, [1, 7]).padding([0, 3]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    pub(crate) output_channels: u32,
    pub(crate) kernel: [u32; 2],
    pub(crate) stride: [u32; 2],
    pub(crate) padding: [u32; 2],
    pub(crate) dilation: [u32; 2],
    pub(crate) groups: u32,
    pub(crate) bias: bool,
}

impl Convolution {
    /// A convolution to `output_channels` with a kernel of this size.
    #[must_use]
    pub fn new(output_channels: u32, kernel: impl Into<Extent>) -> Self {
        Self {
            output_channels,
            kernel: kernel.into().0,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            bias: true,
        }
    }

    /// Steps between outputs.
    #[must_use]
    pub fn stride(self, stride: impl Into<Extent>) -> Self {
        Self {
            stride: stride.into().0,
            ..self
        }
    }

    /// Zeros on each side of the input.
    #[must_use]
    pub fn padding(self, padding: impl Into<Extent>) -> Self {
        Self {
            padding: padding.into().0,
            ..self
        }
    }

    /// Steps between taps of the kernel.
    #[must_use]
    pub fn dilation(self, dilation: impl Into<Extent>) -> Self {
        Self {
            dilation: dilation.into().0,
            ..self
        }
    }

    /// Groups of channels that do not see each other; as many as channels makes it depthwise.
    #[must_use]
    pub fn groups(self, groups: u32) -> Self {
        Self { groups, ..self }
    }

    /// No bias: of no use before a batch norm.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self {
            bias: false,
            ..self
        }
    }
}

/// A window that moves over a map, by default by its own size and without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    pub(crate) kernel: [u32; 2],
    pub(crate) stride: [u32; 2],
    pub(crate) padding: [u32; 2],
    pub(crate) count_include_pad: bool,
}

impl Pool {
    /// A window of this size.
    #[must_use]
    pub fn new(kernel: impl Into<Extent>) -> Self {
        let kernel = kernel.into().0;
        Self {
            kernel,
            stride: kernel,
            padding: [0, 0],
            count_include_pad: true,
        }
    }

    /// Steps between windows.
    #[must_use]
    pub fn stride(self, stride: impl Into<Extent>) -> Self {
        Self {
            stride: stride.into().0,
            ..self
        }
    }

    /// Padding on each side, at most half the window.
    #[must_use]
    pub fn padding(self, padding: impl Into<Extent>) -> Self {
        Self {
            padding: padding.into().0,
            ..self
        }
    }

    /// An average divides by the pixels inside the map only.
    #[must_use]
    pub fn exclude_padding(self) -> Self {
        Self {
            count_include_pad: false,
            ..self
        }
    }
}
