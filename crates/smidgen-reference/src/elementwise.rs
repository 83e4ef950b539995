//! Sums, concatenation and the zero-padding shortcut, and the sizes that all operators on maps are tested with.

/// Sizes of an activation, NCHW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapCase {
    /// What is special about it.
    pub name: &'static str,
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl MapCase {
    /// A case.
    #[must_use]
    pub const fn new(name: &'static str, [batch, channels, height, width]: [usize; 4]) -> Self {
        Self {
            name,
            batch,
            channels,
            height,
            width,
        }
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batch * self.channels * self.height * self.width
    }

    /// Pixels of one image.
    #[must_use]
    pub fn image_pixels(&self) -> usize {
        self.height * self.width
    }

    /// Where a value stands.
    #[must_use]
    pub fn at(&self, image: usize, channel: usize, y: usize, x: usize) -> usize {
        ((image * self.channels + channel) * self.height + y) * self.width + x
    }
}

/// The cases of every operator that works on one map without further attributes.
#[must_use]
pub fn cases() -> Vec<MapCase> {
    vec![
        MapCase::new("one value", [1, 1, 1, 1]),
        MapCase::new("one pixel, odd channels", [1, 7, 1, 1]),
        MapCase::new("one image", [1, 8, 9, 11]),
        MapCase::new("vectors", [5, 13, 1, 1]),
        MapCase::new("odd everything", [3, 5, 7, 3]),
        MapCase::new("several workgroups", [4, 6, 33, 37]),
    ]
}

/// `a + b`.
#[must_use]
pub fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Concatenation along channels; every input is its values and its number of channels.
#[must_use]
pub fn concat(inputs: &[(&[f64], usize)], batch: usize, pixels: usize) -> Vec<f64> {
    let mut output = Vec::new();
    for image in 0..batch {
        for (values, channels) in inputs {
            output.extend_from_slice(&values[image * channels * pixels..][..channels * pixels]);
        }
    }
    output
}

/// The gradients of the inputs of [`concat()`].
#[must_use]
pub fn concat_backward(
    output_gradient: &[f64],
    channels: &[usize],
    batch: usize,
    pixels: usize,
) -> Vec<Vec<f64>> {
    let mut gradients = vec![Vec::new(); channels.len()];
    let mut rest = output_gradient;
    for _ in 0..batch {
        for (gradient, channels) in gradients.iter_mut().zip(channels) {
            let (part, behind) = rest.split_at(channels * pixels);
            gradient.extend_from_slice(part);
            rest = behind;
        }
    }
    gradients
}

/// A case of [`concat()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConcatCase {
    /// What is special about it.
    pub name: &'static str,
    /// Channels of every input.
    pub channels: Vec<usize>,
    /// Images.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// The cases of [`concat()`].
#[must_use]
pub fn concat_cases() -> Vec<ConcatCase> {
    let case = |name, channels: &[usize], [batch, height, width]: [usize; 3]| ConcatCase {
        name,
        channels: channels.to_vec(),
        batch,
        height,
        width,
    };
    vec![
        case("one input", &[5], [2, 3, 3]),
        case("whole quads", &[8, 4, 12], [2, 5, 7]),
        case("odd channels", &[3, 6, 5], [2, 5, 3]),
        case("several inputs in one quad", &[1, 1, 1, 1, 2], [1, 3, 3]),
        case("every shift", &[5, 9, 1, 7, 2], [3, 33, 17]),
        case("one pixel", &[2, 3], [1, 1, 1]),
    ]
}

/// A case of [`shortcut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortcutCase {
    /// The input.
    pub map: MapCase,
    /// Channels of the output.
    pub output_channels: usize,
    /// The output's channel that holds the input's first.
    pub channel_offset: usize,
    /// Every how many rows and columns one is taken.
    pub stride: usize,
}

impl ShortcutCase {
    /// The output's sizes.
    #[must_use]
    pub fn output(&self) -> MapCase {
        MapCase {
            channels: self.output_channels,
            height: self.map.height.div_ceil(self.stride),
            width: self.map.width.div_ceil(self.stride),
            ..self.map
        }
    }
}

/// The cases of [`shortcut`].
#[must_use]
pub fn shortcut_cases() -> Vec<ShortcutCase> {
    let case = |name, sizes, output_channels, channel_offset, stride| ShortcutCase {
        map: MapCase::new(name, sizes),
        output_channels,
        channel_offset,
        stride,
    };
    vec![
        case("ResNet, 16 to 32", [2, 16, 8, 8], 32, 8, 2),
        case("odd maps", [3, 6, 7, 5], 12, 3, 2),
        case("no stride, odd offset", [2, 5, 4, 4], 11, 2, 1),
        case("stride 3, no padding", [1, 4, 10, 8], 4, 0, 3),
        case("one pixel", [1, 3, 1, 1], 7, 1, 2),
        case("several workgroups", [4, 10, 40, 38], 21, 7, 2),
    ]
}

/// `output[n, c + channel_offset, y, x] = input[n, c, stride * y, stride * x]`, zero in all other channels.
#[must_use]
pub fn shortcut(case: &ShortcutCase, input: &[f64]) -> Vec<f64> {
    let output = case.output();
    let mut values = vec![0.0; output.count()];
    for image in 0..output.batch {
        for channel in 0..case.map.channels {
            for y in 0..output.height {
                for x in 0..output.width {
                    values[output.at(image, channel + case.channel_offset, y, x)] = input[case
                        .map
                        .at(image, channel, y * case.stride, x * case.stride)];
                }
            }
        }
    }
    values
}

/// The gradient of the input of [`shortcut`].
#[must_use]
pub fn shortcut_backward(case: &ShortcutCase, output_gradient: &[f64]) -> Vec<f64> {
    let output = case.output();
    let mut gradient = vec![0.0; case.map.count()];
    for image in 0..output.batch {
        for channel in 0..case.map.channels {
            for y in 0..output.height {
                for x in 0..output.width {
                    gradient[case
                        .map
                        .at(image, channel, y * case.stride, x * case.stride)] +=
                        output_gradient[output.at(image, channel + case.channel_offset, y, x)];
                }
            }
        }
    }
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn the_gradient_of_a_shortcut_is_that_of_finite_differences() {
        for case in shortcut_cases()
            .into_iter()
            .filter(|case| case.map.count() < 600)
        {
            let input = widen(&normal(1, case.map.count()));
            let output_gradient = widen(&normal(2, case.output().count()));
            let expected = finite_differences(&input, 1e-3, |input| {
                shortcut(&case, input)
                    .iter()
                    .zip(&output_gradient)
                    .map(|(y, g)| y * g)
                    .sum()
            });
            for (actual, expected) in shortcut_backward(&case, &output_gradient)
                .iter()
                .zip(&expected)
            {
                assert!((actual - expected).abs() < 1e-8, "{}", case.map.name);
            }
        }
    }

    #[test]
    fn splitting_undoes_concatenation() {
        for case in concat_cases() {
            let pixels = case.height * case.width;
            let inputs: Vec<Vec<f64>> = (0..)
                .zip(&case.channels)
                .map(|(seed, channels)| widen(&normal(seed, case.batch * channels * pixels)))
                .collect();
            let pairs: Vec<_> = inputs
                .iter()
                .map(Vec::as_slice)
                .zip(case.channels.iter().copied())
                .collect();
            let whole = concat(&pairs, case.batch, pixels);
            assert_eq!(
                concat_backward(&whole, &case.channels, case.batch, pixels),
                inputs
            );
        }
    }
}
