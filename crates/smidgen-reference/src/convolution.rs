//! Two-dimensional convolution, as seven nested loops.

/// Sizes of a convolution, in the words of PyTorch's `Conv2d`; pairs are y and x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Shown when a test fails.
    pub name: &'static str,
    /// Images.
    pub batch: usize,
    /// Channels, height and width.
    pub input: [usize; 3],
    /// Output channels.
    pub output_channels: usize,
    /// Taps.
    pub kernel: [usize; 2],
    /// Input pixels between output pixels.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: [usize; 2],
    /// Input pixels between taps.
    pub dilation: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
}

impl Case {
    /// A dense case of stride 1 without padding.
    #[must_use]
    pub const fn new(
        name: &'static str,
        batch: usize,
        input: [usize; 3],
        output_channels: usize,
        kernel: [usize; 2],
    ) -> Self {
        Self {
            name,
            batch,
            input,
            output_channels,
            kernel,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }

    /// The same with this stride.
    #[must_use]
    pub const fn stride(mut self, y: usize, x: usize) -> Self {
        self.stride = [y, x];
        self
    }

    /// The same with this padding.
    #[must_use]
    pub const fn padding(mut self, y: usize, x: usize) -> Self {
        self.padding = [y, x];
        self
    }

    /// The same with this dilation.
    #[must_use]
    pub const fn dilation(mut self, y: usize, x: usize) -> Self {
        self.dilation = [y, x];
        self
    }

    /// The same with this many groups.
    #[must_use]
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Height and width of the output.
    #[must_use]
    pub fn output_size(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let span = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            (self.input[axis + 1] + 2 * self.padding[axis] - span) / self.stride[axis] + 1
        })
    }

    /// Elements of the input.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.batch * self.input.iter().product::<usize>()
    }

    /// Elements of the output.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.batch * self.output_channels * self.output_size().iter().product::<usize>()
    }

    /// Elements of the weight, `[output, input / groups, kernel_y, kernel_x]`.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.output_channels * self.input[0] / self.groups * self.kernel[0] * self.kernel[1]
    }

    /// Calls `visit` with the indices into input, weight and output of every product of the convolution.
    pub fn each_product(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let [channels, height, width] = self.input;
        let [output_height, output_width] = self.output_size();
        let (inputs, outputs) = (channels / self.groups, self.output_channels / self.groups);
        for image in 0..self.batch {
            for output_channel in 0..self.output_channels {
                for y in 0..output_height {
                    for x in 0..output_width {
                        let output =
                            ((image * self.output_channels + output_channel) * output_height + y)
                                * output_width
                                + x;
                        for input_channel in 0..inputs {
                            for tap_y in 0..self.kernel[0] {
                                for tap_x in 0..self.kernel[1] {
                                    let row = y * self.stride[0] + tap_y * self.dilation[0];
                                    let column = x * self.stride[1] + tap_x * self.dilation[1];
                                    let inside = (self.padding[0]..self.padding[0] + height)
                                        .contains(&row)
                                        && (self.padding[1]..self.padding[1] + width)
                                            .contains(&column);
                                    if !inside {
                                        continue;
                                    }
                                    let channel = output_channel / outputs * inputs + input_channel;
                                    let input = ((image * channels + channel) * height + row
                                        - self.padding[0])
                                        * width
                                        + column
                                        - self.padding[1];
                                    let weight = ((output_channel * inputs + input_channel)
                                        * self.kernel[0]
                                        + tap_y)
                                        * self.kernel[1]
                                        + tap_x;
                                    visit(input, weight, output);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Channel of an element of the output.
    #[must_use]
    pub fn output_channel(&self, element: usize) -> usize {
        let [height, width] = self.output_size();
        element / (height * width) % self.output_channels
    }
}

/// `output = convolution(input, weight) + bias`; an empty bias is none.
#[must_use]
pub fn forward(case: &Case, input: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let mut output: Vec<f64> = (0..case.output_len())
        .map(|element| {
            bias.get(case.output_channel(element))
                .copied()
                .unwrap_or(0.0)
        })
        .collect();
    case.each_product(|from, through, to| output[to] += input[from] * weight[through]);
    output
}

/// Gradient with respect to the input.
#[must_use]
pub fn input_gradient(case: &Case, output_gradient: &[f64], weight: &[f64]) -> Vec<f64> {
    let mut gradient = vec![0.0; case.input_len()];
    case.each_product(|from, through, to| gradient[from] += output_gradient[to] * weight[through]);
    gradient
}

/// Gradient with respect to the weight.
#[must_use]
pub fn weight_gradient(case: &Case, input: &[f64], output_gradient: &[f64]) -> Vec<f64> {
    let mut gradient = vec![0.0; case.weight_len()];
    case.each_product(|from, through, to| gradient[through] += output_gradient[to] * input[from]);
    gradient
}

/// Gradient with respect to the bias.
#[must_use]
pub fn bias_gradient(case: &Case, output_gradient: &[f64]) -> Vec<f64> {
    let mut gradient = vec![0.0; case.output_channels];
    for (element, value) in output_gradient.iter().enumerate() {
        gradient[case.output_channel(element)] += value;
    }
    gradient
}

/// The shapes that tests and benchmarks run.
#[must_use]
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("1 pixel, 1 channel", 1, [1, 1, 1], 1, [1, 1]),
        Case::new("3x3 on a 1x1 map", 2, [5, 1, 1], 6, [3, 3]).padding(1, 1),
        Case::new("3x3", 2, [8, 9, 11], 12, [3, 3]).padding(1, 1),
        Case::new("3x3, odd channels, no padding", 3, [3, 7, 6], 5, [3, 3]),
        Case::new("3x3 of a residual block", 2, [16, 8, 8], 16, [3, 3]).padding(1, 1),
        Case::new("3x3, stride 2, odd map", 2, [7, 9, 11], 6, [3, 3])
            .stride(2, 2)
            .padding(1, 1),
        Case::new("3x3, stride 2, even map", 2, [8, 8, 10], 16, [3, 3])
            .stride(2, 2)
            .padding(1, 1),
        Case::new("7x7 stem", 1, [3, 23, 21], 8, [7, 7])
            .stride(2, 2)
            .padding(3, 3),
        Case::new("5x5, odd channels", 2, [5, 10, 9], 7, [5, 5]).padding(2, 2),
        Case::new("4x2, stride 3 and 1", 2, [4, 11, 6], 4, [4, 2])
            .stride(3, 1)
            .padding(1, 0),
        Case::new("dilated", 2, [8, 9, 10], 8, [3, 3])
            .padding(2, 2)
            .dilation(2, 2),
        Case::new("dilated, stride 2", 1, [4, 11, 12], 5, [3, 3])
            .stride(2, 2)
            .padding(2, 1)
            .dilation(2, 3),
        Case::new("1x3", 2, [6, 5, 9], 4, [1, 3]).padding(0, 1),
        Case::new("3x1", 2, [6, 9, 5], 4, [3, 1]).padding(1, 0),
        Case::new("1x1", 3, [20, 7, 5], 24, [1, 1]),
        Case::new("1x1, many pixels", 4, [5, 12, 13], 9, [1, 1]),
        Case::new("1x1, stride 2", 2, [8, 9, 9], 12, [1, 1]).stride(2, 2),
        Case::new("1x1, padded", 1, [4, 3, 3], 4, [1, 1]).padding(1, 1),
        Case::new("linear", 6, [20, 1, 1], 11, [1, 1]),
        Case::new("linear, one image", 1, [9, 1, 1], 10, [1, 1]),
        Case::new("3 channels a group", 2, [12, 6, 7], 12, [3, 3])
            .padding(1, 1)
            .groups(4),
        Case::new("groups of unequal quads", 1, [18, 5, 6], 30, [3, 3])
            .stride(2, 2)
            .padding(1, 1)
            .groups(3),
        Case::new("grouped 1x1", 2, [16, 4, 5], 24, [1, 1]).groups(2),
        Case::new("depthwise, multiplier 2", 2, [6, 6, 5], 12, [3, 3])
            .padding(1, 1)
            .groups(6),
        Case::new("depthwise", 2, [10, 9, 8], 10, [3, 3])
            .padding(1, 1)
            .groups(10),
        Case::new("depthwise, stride 2", 2, [12, 9, 9], 12, [3, 3])
            .stride(2, 2)
            .padding(1, 1)
            .groups(12),
        Case::new("depthwise 5x5, dilated", 1, [6, 11, 12], 6, [5, 5])
            .padding(4, 3)
            .dilation(2, 1)
            .groups(6),
        Case::new("kernel larger than the map", 2, [4, 3, 2], 4, [5, 5]).padding(2, 2),
        Case::new("stride larger than the kernel", 1, [4, 10, 11], 4, [2, 2])
            .stride(3, 4)
            .padding(1, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn the_gradients_are_those_of_the_forward_pass() {
        for case in cases()
            .into_iter()
            .filter(|case| case.input_len() + case.weight_len() < 1500)
        {
            let input = widen(&normal(1, case.input_len()));
            let weight = widen(&normal(2, case.weight_len()));
            let bias = widen(&normal(3, case.output_channels));
            let output_gradient = widen(&normal(4, case.output_len()));
            let loss = |output: Vec<f64>| -> f64 {
                output
                    .iter()
                    .zip(&output_gradient)
                    .map(|(y, dy)| y * dy)
                    .sum()
            };
            let by_input = finite_differences(&input, 1e-3, |input| {
                loss(forward(&case, input, &weight, &bias))
            });
            let by_weight = finite_differences(&weight, 1e-3, |weight| {
                loss(forward(&case, &input, weight, &bias))
            });
            let by_bias = finite_differences(&bias, 1e-3, |bias| {
                loss(forward(&case, &input, &weight, bias))
            });
            for (name, analytic, numeric) in [
                (
                    "input",
                    input_gradient(&case, &output_gradient, &weight),
                    by_input,
                ),
                (
                    "weight",
                    weight_gradient(&case, &input, &output_gradient),
                    by_weight,
                ),
                ("bias", bias_gradient(&case, &output_gradient), by_bias),
            ] {
                for (at, (a, n)) in analytic.iter().zip(&numeric).enumerate() {
                    assert!(
                        (a - n).abs() < 1e-7 * (1.0 + a.abs()),
                        "{}: {name} gradient {at} is {a}, differences say {n}",
                        case.name
                    );
                }
            }
        }
    }

    #[test]
    fn a_convolution_worked_out_by_hand() {
        let case = Case::new("by hand", 1, [1, 2, 2], 1, [2, 2]).padding(1, 0);
        let output = forward(
            &case,
            &[1.0, 2.0, 3.0, 4.0],
            &[10.0, 20.0, 30.0, 40.0],
            &[5.0],
        );
        assert_eq!(output, [115.0, 305.0, 115.0]);
    }
}
