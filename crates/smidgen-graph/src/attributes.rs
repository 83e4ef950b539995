//! What distinguishes one convolution, pool or activation from another.

use crate::shape::MapShape;
use serde::{Deserialize, Serialize};

/// A convolution; also a linear layer, whose kernel is its whole input map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvolutionAttributes {
    /// Channels of the input.
    pub input_channels: u32,
    /// Channels of the output.
    pub output_channels: u32,
    /// Rows and columns of the kernel.
    pub kernel: [u32; 2],
    /// Steps between outputs, down and across.
    pub stride: [u32; 2],
    /// Zeros around the input: above and below, left and right.
    pub padding: [u32; 2],
    /// Steps between taps, down and across.
    pub dilation: [u32; 2],
    /// Channels are divided into this many groups that do not see each other.
    pub groups: u32,
}

impl ConvolutionAttributes {
    /// Taps of the kernel.
    #[must_use]
    pub fn taps(&self) -> u64 {
        u64::from(self.kernel[0]) * u64::from(self.kernel[1])
    }

    /// The same channels with a kernel of one tap: how what is the same at every tap is held.
    #[must_use]
    pub fn of_one_tap(self) -> Self {
        Self {
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            ..self
        }
    }

    /// Whether every channel, of several, is convolved for itself, so that the weight is a quad a tap instead of a block.
    #[must_use]
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.input_channels && self.groups == self.output_channels
    }

    /// Rows and columns of the output, or `None` where the kernel is larger than the padded input or the stride is 0.
    #[must_use]
    pub fn output_size(&self, input: [u32; 2]) -> Option<[u32; 2]> {
        let size = |axis: usize| {
            let span = u64::from(self.dilation[axis])
                .checked_mul(u64::from(self.kernel[axis]).checked_sub(1)?)?
                .checked_add(1)?;
            steps(input[axis], self.padding[axis], span, self.stride[axis])
        };
        Some([size(0)?, size(1)?])
    }

    /// The output of an input of this shape, or `None` where they do not fit.
    #[must_use]
    pub fn output_shape(&self, input: MapShape) -> Option<MapShape> {
        let size = self.output_size([input.height, input.width])?;
        (input.channels == self.input_channels)
            .then(|| input.with_size(size).with_channels(self.output_channels))
    }

    /// The input quad of an output quad's first block: that of the first channel of its first group, or an earlier one where the
    /// slots would otherwise reach beyond the last input quad.
    #[must_use]
    pub fn first_input_quad(&self, output_quad: u32) -> u32 {
        let (first, _) = self.input_quad_span(output_quad);
        let input_quads = self.input_channels.div_ceil(4);
        first.min(input_quads.saturating_sub(self.input_quad_slots()))
    }

    /// Blocks an output quad holds at each tap. In a grouped convolution this is the widest span of input quads that the groups
    /// of any output quad touch, so that all output quads have equally many. Not of meaning for depthwise convolutions.
    #[must_use]
    pub fn input_quad_slots(&self) -> u32 {
        if self.groups <= 1 {
            return self.input_channels.div_ceil(4);
        }
        (0..self.output_channels.div_ceil(4))
            .map(|quad| {
                let (first, last) = self.input_quad_span(quad);
                last - first + 1
            })
            .max()
            .unwrap_or(0)
    }

    /// Numbers of the weight as the device holds it: blocks of 4x4 as `[output quad][tap][input quad slot]`; quads as
    /// `[channel quad][tap]` where the convolution is depthwise.
    #[must_use]
    pub fn weight_elements(&self) -> u64 {
        let output_quads = u64::from(self.output_channels.div_ceil(4));
        let per_tap = if self.is_depthwise() {
            4
        } else {
            u64::from(self.input_quad_slots()) * 16
        };
        output_quads
            .saturating_mul(self.taps())
            .saturating_mul(per_tap)
    }

    /// Multiply-adds of one output pixel.
    #[must_use]
    pub fn multiply_adds_per_pixel(&self) -> u64 {
        u64::from(self.output_channels)
            .saturating_mul(u64::from(self.input_channels / self.groups.max(1)))
            .saturating_mul(self.taps())
    }

    /// First and last input quad seen by the real channels of an output quad.
    fn input_quad_span(&self, output_quad: u32) -> (u32, u32) {
        let groups = self.groups.max(1);
        let outputs_per_group = (self.output_channels / groups).max(1);
        let inputs_per_group = (self.input_channels / groups).max(1);
        let first_output = output_quad.saturating_mul(4);
        let last_output = first_output
            .saturating_add(3)
            .min(self.output_channels.saturating_sub(1));
        let first_group = first_output / outputs_per_group;
        let last_group = (last_output / outputs_per_group).max(first_group);
        let first_input = first_group.saturating_mul(inputs_per_group);
        let last_input = (last_group.saturating_add(1))
            .saturating_mul(inputs_per_group)
            .saturating_sub(1);
        (first_input / 4, last_input / 4)
    }
}

/// A pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PoolAttributes {
    /// Rows and columns of the window.
    pub kernel: [u32; 2],
    /// Steps between windows, down and across.
    pub stride: [u32; 2],
    /// Padding around the input: above and below, left and right.
    pub padding: [u32; 2],
    /// Whether an average counts the padding in its denominator. Of no meaning to a maximum.
    pub count_include_pad: bool,
}

impl PoolAttributes {
    /// Rows and columns of the output, or `None` where the window is larger than the padded input or the stride is 0.
    #[must_use]
    pub fn output_size(&self, input: [u32; 2]) -> Option<[u32; 2]> {
        let size = |axis: usize| {
            let window = u64::from(self.kernel[axis]);
            steps(input[axis], self.padding[axis], window, self.stride[axis])
        };
        Some([size(0)?, size(1)?])
    }

    /// The output of an input of this shape, or `None` where they do not fit.
    #[must_use]
    pub fn output_shape(&self, input: MapShape) -> Option<MapShape> {
        self.output_size([input.height, input.width])
            .map(|size| input.with_size(size))
    }

    /// Bits that tell where in its window a maximum stands: 2, 4 or 8.
    #[must_use]
    pub fn tap_bits(&self) -> u32 {
        match self.kernel[0].saturating_mul(self.kernel[1]) {
            0..=4 => 2,
            5..=16 => 4,
            _ => 8,
        }
    }
}

/// How many windows of `span` fit, `stride` apart.
fn steps(input: u32, padding: u32, span: u64, stride: u32) -> Option<u32> {
    let padded = u64::from(input) + 2 * u64::from(padding);
    let room = padded.checked_sub(span.max(1))?;
    u32::try_from(room.checked_div(u64::from(stride))? + 1).ok()
}

/// An elementwise function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Activation {
    /// The number itself.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x * (1 + erf(x / sqrt(2))) / 2`.
    Gelu,
}

impl Activation {
    /// Whether the gradient follows from the sign of the output (and whether it is below six) alone.
    #[must_use]
    pub fn is_mask(self) -> bool {
        matches!(self, Self::Relu | Self::Relu6)
    }

    /// As it stands in names of layers: `relu`, `hard_swish` ...
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::HardSwish => "hard_swish",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convolution(input: u32, output: u32, groups: u32) -> ConvolutionAttributes {
        ConvolutionAttributes {
            input_channels: input,
            output_channels: output,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1],
            dilation: [1, 1],
            groups,
        }
    }

    #[test]
    fn dense_weights_hold_every_block() {
        // 16 -> 4 output quads, 3 -> 1 input quad, 9 taps, 16 numbers a block.
        assert_eq!(convolution(3, 16, 1).weight_elements(), 4 * 9 * 16);
        assert_eq!(convolution(5, 6, 1).weight_elements(), 2 * 9 * 2 * 16);
    }

    #[test]
    fn depthwise_weights_are_quads() {
        assert_eq!(convolution(12, 12, 12).weight_elements(), 3 * 9 * 4);
        assert_eq!(convolution(6, 6, 6).weight_elements(), 2 * 9 * 4);
        assert_eq!(convolution(1, 1, 1).weight_elements(), 9 * 16, "dense");
    }

    #[test]
    fn grouped_weights_hold_the_widest_span() {
        // Groups of 4: each output quad sees one input quad.
        assert_eq!(convolution(16, 16, 4).input_quad_slots(), 1);
        // 12 -> 12 in 4 groups of 3: outputs 0..3 are of groups 0 and 1, which read inputs 0..5, quads 0 and 1;
        // outputs 4..7 of groups 1 and 2: inputs 3..8, quads 0, 1 and 2; outputs 8..11 of groups 2 and 3: inputs 6..11.
        let grouped = convolution(12, 12, 4);
        assert_eq!(grouped.input_quad_slots(), 3);
        assert_eq!(grouped.weight_elements(), 3 * 9 * 3 * 16);
        assert_eq!(
            [0, 1, 2].map(|quad| grouped.first_input_quad(quad)),
            [0, 0, 0]
        );
        let wide = convolution(24, 24, 8);
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(|quad| wide.first_input_quad(quad)),
            [0, 0, 1, 3, 3, 3]
        );
        // Six inputs, two outputs, two groups: one output quad over both groups.
        assert_eq!(convolution(6, 2, 2).input_quad_slots(), 2);
    }

    #[test]
    fn sizes_of_outputs() {
        let mut strided = convolution(3, 16, 1);
        strided.stride = [2, 2];
        assert_eq!(strided.output_size([33, 32]), Some([17, 16]));
        strided.dilation = [20, 20];
        assert_eq!(strided.output_size([33, 32]), None);
        strided.stride = [0, 1];
        strided.dilation = [1, 1];
        assert_eq!(strided.output_size([33, 32]), None);
        assert_eq!(
            convolution(3, 16, 1).output_shape(MapShape::new(1, 4, 8, 8)),
            None
        );
    }
}
