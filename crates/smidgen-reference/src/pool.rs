//! Pooling over windows and over whole images.

use crate::elementwise::MapCase;

/// A case of pooling; pairs are rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolCase {
    /// The input.
    pub map: MapCase,
    /// Size of a window.
    pub kernel: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// Zeros, or nothing, beyond the map on every side.
    pub padding: [usize; 2],
}

impl PoolCase {
    /// The output's sizes.
    #[must_use]
    pub fn output(&self) -> MapCase {
        let windows = |axis: usize, size: usize| {
            (size + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1
        };
        MapCase {
            height: windows(0, self.map.height),
            width: windows(1, self.map.width),
            ..self.map
        }
    }

    /// Calls `visit` with the output's index, the tap and the input's index for every tap inside the map, taps in scan order.
    fn for_each_tap(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let output = self.output();
        for image in 0..output.batch {
            for channel in 0..output.channels {
                for y in 0..output.height {
                    for x in 0..output.width {
                        for tap in 0..self.kernel[0] * self.kernel[1] {
                            let row = (y * self.stride[0] + tap / self.kernel[1])
                                .checked_sub(self.padding[0]);
                            let column = (x * self.stride[1] + tap % self.kernel[1])
                                .checked_sub(self.padding[1]);
                            let (Some(row), Some(column)) = (row, column) else {
                                continue;
                            };
                            if row < self.map.height && column < self.map.width {
                                visit(
                                    output.at(image, channel, y, x),
                                    tap,
                                    self.map.at(image, channel, row, column),
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The cases of pooling.
#[must_use]
pub fn cases() -> Vec<PoolCase> {
    let rectangle = |name, sizes, [kernel, stride, padding]: [[usize; 2]; 3]| PoolCase {
        map: MapCase::new(name, sizes),
        kernel,
        stride,
        padding,
    };
    let case = |name, sizes, square: [usize; 3]| rectangle(name, sizes, square.map(|n| [n, n]));
    vec![
        case("halves", [2, 6, 8, 10], [2, 2, 0]),
        case("odd map", [3, 5, 7, 9], [2, 2, 0]),
        case("stem of ResNet", [2, 8, 11, 10], [3, 2, 1]),
        case("overlapping", [1, 3, 6, 5], [3, 1, 1]),
        case("gaps between windows", [2, 4, 9, 9], [2, 3, 0]),
        case("one window", [1, 7, 5, 5], [5, 5, 0]),
        case("one pixel", [1, 1, 1, 1], [1, 1, 0]),
        case("one pixel, padded", [2, 5, 1, 1], [3, 2, 1]),
        case("several workgroups", [3, 6, 40, 37], [3, 2, 1]),
        rectangle("flat window", [2, 5, 7, 8], [[1, 3], [1, 2], [0, 1]]),
        rectangle("tall window", [2, 4, 9, 6], [[5, 2], [3, 1], [2, 0]]),
        rectangle(
            "stride in one direction",
            [1, 6, 8, 11],
            [[3, 3], [1, 4], [1, 1]],
        ),
        rectangle("whole rows", [3, 3, 4, 7], [[1, 7], [1, 7], [0, 0]]),
        rectangle(
            "largest window",
            [1, 2, 17, 19],
            [[16, 16], [9, 20], [8, 8]],
        ),
    ]
}

/// Maxima, and the tap of each: the first in scan order.
#[must_use]
pub fn max(case: &PoolCase, input: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let mut maxima = vec![f64::NEG_INFINITY; case.output().count()];
    let mut taps = vec![0; maxima.len()];
    case.for_each_tap(|output, tap, from| {
        if input[from] > maxima[output] {
            (maxima[output], taps[output]) = (input[from], tap);
        }
    });
    (maxima, taps)
}

/// The gradient of the input of [`max`].
#[must_use]
pub fn max_backward(case: &PoolCase, taps: &[usize], output_gradient: &[f64]) -> Vec<f64> {
    let mut gradient = vec![0.0; case.map.count()];
    case.for_each_tap(|output, tap, from| {
        if taps[output] == tap {
            gradient[from] += output_gradient[output];
        }
    });
    gradient
}

fn divisors(case: &PoolCase, include_padding: bool) -> Vec<f64> {
    if include_padding {
        return vec![case.kernel.iter().product::<usize>() as f64; case.output().count()];
    }
    let mut inside = vec![0.0; case.output().count()];
    case.for_each_tap(|output, _, _| inside[output] += 1.0);
    inside
}

/// Averages over windows; padding counts or not.
#[must_use]
pub fn average(case: &PoolCase, include_padding: bool, input: &[f64]) -> Vec<f64> {
    let divisors = divisors(case, include_padding);
    let mut averages = vec![0.0; divisors.len()];
    case.for_each_tap(|output, _, from| averages[output] += input[from] / divisors[output]);
    averages
}

/// The gradient of the input of [`average`].
#[must_use]
pub fn average_backward(
    case: &PoolCase,
    include_padding: bool,
    output_gradient: &[f64],
) -> Vec<f64> {
    let divisors = divisors(case, include_padding);
    let mut gradient = vec![0.0; case.map.count()];
    case.for_each_tap(|output, _, from| {
        gradient[from] += output_gradient[output] / divisors[output]
    });
    gradient
}

/// The average of every image and channel.
#[must_use]
pub fn global_average(map: &MapCase, input: &[f64]) -> Vec<f64> {
    let pixels = map.image_pixels();
    input
        .chunks_exact(pixels)
        .map(|image| image.iter().sum::<f64>() / pixels as f64)
        .collect()
}

/// The gradient of the input of [`global_average`].
#[must_use]
pub fn global_average_backward(map: &MapCase, output_gradient: &[f64]) -> Vec<f64> {
    let pixels = map.image_pixels();
    (0..map.count())
        .map(|at| output_gradient[at / pixels] / pixels as f64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let close = |actual: &[f64], expected: &[f64], what: &str| {
            assert_eq!(actual.len(), expected.len());
            assert!(
                actual
                    .iter()
                    .zip(expected)
                    .all(|(a, e)| (a - e).abs() < 1e-7),
                "{what}"
            );
        };
        for case in cases().into_iter().filter(|case| case.map.count() < 1000) {
            let input = widen(&normal(1, case.map.count()));
            let output_gradient = widen(&normal(2, case.output().count()));
            let (_, taps) = max(&case, &input);
            let expected =
                finite_differences(&input, 1e-6, |x| dot(&max(&case, x).0, &output_gradient));
            let actual = max_backward(&case, &taps, &output_gradient);
            assert!(
                actual
                    .iter()
                    .zip(&expected)
                    .all(|(a, e)| (a - e).abs() < 1e-6),
                "max, {}",
                case.map.name
            );
            for include_padding in [true, false] {
                let loss = |x: &[f64]| dot(&average(&case, include_padding, x), &output_gradient);
                let expected = finite_differences(&input, 1e-3, loss);
                close(
                    &average_backward(&case, include_padding, &output_gradient),
                    &expected,
                    case.map.name,
                );
            }
            let output_gradient = widen(&normal(3, case.map.batch * case.map.channels));
            let expected = finite_differences(&input, 1e-3, |x| {
                dot(&global_average(&case.map, x), &output_gradient)
            });
            close(
                &global_average_backward(&case.map, &output_gradient),
                &expected,
                case.map.name,
            );
        }
    }
}
