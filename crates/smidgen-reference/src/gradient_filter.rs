//! The filtered backward pass of a convolution, as plain loops over pixels, channels and taps.

use crate::convolution::Case;

/// A convolution and the patches its backward pass is filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterCase {
    /// The convolution; its groups are 1, or all channels.
    pub convolution: Case,
    /// Rows and columns of the output that make a patch.
    pub patch: usize,
}

/// The patch of each of `extent` rows, `patches` of them with `window` rows each.
///
/// Rows are laid out with the padding that the windows leave, the larger half first, and cut into windows. Rows that the windows do not
/// reach belong to the patch beside them.
#[must_use]
pub fn patch_of_rows(extent: usize, patches: usize, window: usize) -> Vec<usize> {
    let covered = patches * window;
    let mut rows = Vec::new();
    if covered >= extent {
        let padding = covered - extent;
        let before = padding - padding / 2;
        for row in 0..extent {
            rows.push((before + row) / window);
        }
    } else {
        let before = (extent - covered) / 2;
        rows.extend(std::iter::repeat_n(0, before));
        for index in 0..patches {
            rows.extend(std::iter::repeat_n(index, window));
        }
        rows.resize(extent, patches - 1);
    }
    rows
}

impl FilterCase {
    /// A case.
    #[must_use]
    pub const fn new(convolution: Case, patch: usize) -> Self {
        Self { convolution, patch }
    }

    /// Rows and columns of patches.
    #[must_use]
    pub fn patches(&self) -> [usize; 2] {
        self.convolution
            .output_size()
            .map(|extent| extent.div_ceil(self.patch))
    }

    /// The patch, within an image, of every input pixel.
    fn input_patches(&self) -> Vec<usize> {
        let [_, height, width] = self.convolution.input;
        let stride = self.convolution.stride;
        self.patch_map([height, width], stride.map(|step| step * self.patch))
    }

    /// The patch, within an image, of every output pixel.
    fn output_patches(&self) -> Vec<usize> {
        self.patch_map(self.convolution.output_size(), [self.patch; 2])
    }

    fn patch_map(&self, size: [usize; 2], window: [usize; 2]) -> Vec<usize> {
        let patches = self.patches();
        let rows = patch_of_rows(size[0], patches[0], window[0]);
        let columns = patch_of_rows(size[1], patches[1], window[1]);
        let mut map = Vec::new();
        for row in &rows {
            for column in &columns {
                map.push(row * patches[1] + column);
            }
        }
        map
    }

    fn depthwise(&self) -> bool {
        self.convolution.groups > 1
    }

    fn taps(&self) -> usize {
        self.convolution.kernel[0] * self.convolution.kernel[1]
    }
}

/// Sums of the input over each patch, `[image, channel, patch]`.
#[must_use]
pub fn patch_sums(case: &FilterCase, input: &[f64]) -> Vec<f64> {
    let (map, patches) = (case.input_patches(), case.patches()[0] * case.patches()[1]);
    let planes = case.convolution.batch * case.convolution.input[0];
    let mut sums = vec![0.0; planes * patches];
    for plane in 0..planes {
        for (pixel, patch) in map.iter().enumerate() {
            sums[plane * patches + patch] += input[plane * map.len() + pixel];
        }
    }
    sums
}

/// Averages of the output gradient over the pixels of each patch, `[image, channel, patch]`.
#[must_use]
pub fn patch_averages(case: &FilterCase, output_gradient: &[f64]) -> Vec<f64> {
    let (map, patches) = (case.output_patches(), case.patches()[0] * case.patches()[1]);
    let planes = case.convolution.batch * case.convolution.output_channels;
    let mut averages = vec![0.0; planes * patches];
    for plane in 0..planes {
        for patch in 0..patches {
            let mut sum = 0.0;
            let mut pixels = 0.0;
            for pixel in 0..map.len() {
                if map[pixel] == patch {
                    sum += output_gradient[plane * map.len() + pixel];
                    pixels += 1.0;
                }
            }
            averages[plane * patches + patch] = sum / pixels;
        }
    }
    averages
}

/// Output pixels that an input pixel stands for.
fn density(case: &FilterCase) -> f64 {
    1.0 / (case.convolution.stride[0] * case.convolution.stride[1]) as f64
}

/// Sums of the weight over its taps, `[output, input / groups]`.
#[must_use]
pub fn tap_sums(case: &FilterCase, weight: &[f64]) -> Vec<f64> {
    weight
        .chunks(case.taps())
        .map(|taps| taps.iter().sum())
        .collect()
}

/// Gradient with respect to the weight, `[output, input / groups, kernel_y, kernel_x]`.
#[must_use]
pub fn weight_gradient(case: &FilterCase, input: &[f64], output_gradient: &[f64]) -> Vec<f64> {
    let sums = patch_sums(case, input);
    let averages = patch_averages(case, output_gradient);
    weight_gradient_of_patches(case, &sums, &averages)
}

/// The same from patch sums and patch averages.
#[must_use]
pub fn weight_gradient_of_patches(case: &FilterCase, sums: &[f64], averages: &[f64]) -> Vec<f64> {
    let patches = case.patches()[0] * case.patches()[1];
    let (inputs, outputs) = (case.convolution.input[0], case.convolution.output_channels);
    let seen = if case.depthwise() { 1 } else { inputs };
    let mut gradient = Vec::new();
    for output in 0..outputs {
        for input in 0..seen {
            let input = if case.depthwise() { output } else { input };
            let mut sum = 0.0;
            for image in 0..case.convolution.batch {
                for patch in 0..patches {
                    sum += density(case)
                        * averages[(image * outputs + output) * patches + patch]
                        * sums[(image * inputs + input) * patches + patch];
                }
            }
            for _ in 0..case.taps() {
                gradient.push(sum);
            }
        }
    }
    gradient
}

/// Gradient with respect to the input. Taps further apart than a patch reach the patch that they fall into; all others are summed.
#[must_use]
pub fn input_gradient(case: &FilterCase, output_gradient: &[f64], weight: &[f64]) -> Vec<f64> {
    input_gradient_of_patches(case, &patch_averages(case, output_gradient), weight)
}

/// Gradient with respect to the bias, from patch averages: that is exact.
#[must_use]
pub fn bias_gradient_of_patches(case: &FilterCase, averages: &[f64]) -> Vec<f64> {
    let map = case.output_patches();
    let patches = case.patches()[0] * case.patches()[1];
    let outputs = case.convolution.output_channels;
    let mut gradient = vec![0.0; outputs];
    for plane in 0..case.convolution.batch * outputs {
        for patch in &map {
            gradient[plane % outputs] += averages[plane * patches + patch];
        }
    }
    gradient
}

/// Gradient with respect to the input, from patch averages.
#[must_use]
pub fn input_gradient_of_patches(case: &FilterCase, averages: &[f64], weight: &[f64]) -> Vec<f64> {
    let map = case.input_patches();
    let [rows, columns] = case.patches();
    let convolution = case.convolution;
    let (inputs, outputs) = (convolution.input[0], convolution.output_channels);
    let seen = if case.depthwise() { 1 } else { inputs };
    let [kernel_y, kernel_x] = convolution.kernel;
    // Neighbouring taps are one, even where a patch is one pixel.
    let apart = [0, 1].map(|axis| {
        let (dilation, stride) = (convolution.dilation[axis], convolution.stride[axis]);
        if dilation == 1 {
            0
        } else {
            (dilation / (case.patch * stride)) as isize
        }
    });
    let middle = |kernel: usize| (kernel as isize - 1) / 2;
    let mut gradient = vec![0.0; convolution.input_len()];
    for image in 0..convolution.batch {
        for input in 0..inputs {
            for (pixel, patch) in map.iter().enumerate() {
                let (row, column) = ((patch / columns) as isize, (patch % columns) as isize);
                let mut sum = 0.0;
                for output in 0..outputs {
                    if case.depthwise() && output != input {
                        continue;
                    }
                    let pair = if case.depthwise() {
                        output
                    } else {
                        output * seen + input
                    };
                    for tap_y in 0..kernel_y {
                        for tap_x in 0..kernel_x {
                            let y = row + (middle(kernel_y) - tap_y as isize) * apart[0];
                            let x = column + (middle(kernel_x) - tap_x as isize) * apart[1];
                            if y < 0 || x < 0 || y >= rows as isize || x >= columns as isize {
                                continue;
                            }
                            let from = y as usize * columns + x as usize;
                            let tap = (pair * kernel_y + tap_y) * kernel_x + tap_x;
                            sum += weight[tap]
                                * averages[(image * outputs + output) * rows * columns + from];
                        }
                    }
                }
                gradient[(image * inputs + input) * map.len() + pixel] = sum * density(case);
            }
        }
    }
    gradient
}

/// The convolutions and patches that tests run.
#[must_use]
pub fn cases() -> Vec<FilterCase> {
    let three = |name, batch, input: [usize; 3], outputs| {
        Case::new(name, batch, input, outputs, [3, 3]).padding(1, 1)
    };
    vec![
        FilterCase::new(three("7x7 by 2", 2, [8, 7, 7], 12), 2),
        FilterCase::new(three("patch 1", 1, [5, 6, 5], 6), 1),
        FilterCase::new(three("patch 3, odd channels", 3, [3, 7, 11], 5), 3),
        FilterCase::new(three("patch 4", 2, [16, 8, 8], 16), 4),
        FilterCase::new(three("input quads for lanes", 2, [36, 9, 8], 20), 2),
        FilterCase::new(three("patch larger than the map", 2, [5, 3, 5], 6), 8),
        FilterCase::new(three("a map of one pixel", 3, [4, 1, 1], 7), 2),
        FilterCase::new(three("stride 2, odd map", 2, [7, 9, 11], 6).stride(2, 2), 2),
        FilterCase::new(
            three("stride 2 on 14 rows", 1, [4, 14, 14], 8).stride(2, 2),
            2,
        ),
        FilterCase::new(
            Case::new("5x5, patch 5", 1, [6, 13, 9], 8, [5, 5]).padding(2, 2),
            5,
        ),
        FilterCase::new(
            Case::new("1x1, many patches", 4, [12, 22, 20], 20, [1, 1]),
            2,
        ),
        FilterCase::new(
            Case::new("1x1, stride 2", 2, [8, 9, 8], 4, [1, 1]).stride(2, 2),
            3,
        ),
        FilterCase::new(Case::new("3x3 without padding", 2, [4, 9, 8], 4, [3, 3]), 2),
        FilterCase::new(
            Case::new("padding beyond the kernel", 1, [4, 2, 3], 4, [3, 3]).padding(3, 2),
            2,
        ),
        FilterCase::new(
            Case::new("a rectangle", 1, [5, 8, 13], 6, [1, 3])
                .stride(1, 2)
                .padding(0, 1),
            2,
        ),
        FilterCase::new(
            Case::new("dilation as wide as a patch", 2, [6, 12, 11], 5, [3, 3])
                .padding(2, 2)
                .dilation(2, 2),
            2,
        ),
        FilterCase::new(
            Case::new("dilation wider than a patch", 1, [4, 17, 16], 8, [3, 3])
                .padding(5, 5)
                .dilation(5, 5),
            2,
        ),
        FilterCase::new(
            Case::new("dilation within a patch", 1, [4, 12, 11], 8, [3, 3])
                .padding(2, 2)
                .dilation(2, 2),
            4,
        ),
        FilterCase::new(three("depthwise", 2, [10, 7, 9], 10).groups(10), 2),
        FilterCase::new(
            Case::new("depthwise 5x5, stride 2", 2, [8, 11, 11], 8, [5, 5])
                .stride(2, 2)
                .padding(2, 2)
                .groups(8),
            3,
        ),
        FilterCase::new(
            Case::new("depthwise, dilated", 1, [7, 12, 10], 7, [3, 3])
                .padding(4, 4)
                .dilation(4, 4)
                .groups(7),
            2,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convolution as exact;
    use crate::layout::widen;
    use crate::numbers::normal;

    fn assert_close(name: &str, found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len(), "{name}");
        for (at, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!(
                (a - b).abs() < 1e-9 * (1.0 + b.abs()),
                "{name}: {at} is {a}, not {b}"
            );
        }
    }

    #[test]
    fn the_published_constants_hold() {
        let convolution = Case::new("4x4", 1, [1, 4, 4], 1, [3, 3]).padding(1, 1);
        let case = FilterCase::new(convolution, 2);
        let input: Vec<f64> = (0..16).map(f64::from).collect();
        let gradient: Vec<f64> = input.iter().map(|x| (x - 7.5) / 4.0).collect();
        let weight: Vec<f64> = (1..=9).map(f64::from).collect();
        assert_eq!(patch_sums(&case, &input), [10.0, 18.0, 42.0, 50.0]);
        assert_eq!(patch_averages(&case, &gradient), [-1.25, -0.75, 0.75, 1.25]);
        assert_eq!(tap_sums(&case, &weight), [45.0]);
        let by_input = input_gradient(&case, &gradient, &weight);
        assert_eq!(
            [0, 2, 8, 10].map(|pixel| by_input[pixel]),
            [-56.25, -33.75, 33.75, 56.25]
        );
        assert_eq!(weight_gradient(&case, &input, &gradient), [68.0; 9]);
        assert_eq!(
            exact::weight_gradient(&convolution, &input, &gradient),
            [
                53.625, 68.75, 45.75, 72.5, 85.0, 50.0, -4.875, -21.25, -30.75
            ]
        );
        assert_eq!(patch_of_rows(7, 4, 2), [0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(
            patch_of_rows(14, 4, 4),
            [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]
        );
    }

    #[test]
    fn a_1x1_convolution_with_a_gradient_constant_over_patches_is_exact() {
        let convolution = Case::new("1x1", 2, [5, 7, 9], 6, [1, 1]);
        let case = FilterCase::new(convolution, 3);
        let (input, weight) = (
            widen(&normal(1, convolution.input_len())),
            widen(&normal(2, convolution.weight_len())),
        );
        let map = case.output_patches();
        let gradient: Vec<f64> = (0..convolution.output_len())
            .map(|element| {
                let (plane, pixel) = (element / map.len(), element % map.len());
                (plane * 31 % 7) as f64 - 3.0 + map[pixel] as f64
            })
            .collect();
        assert_close(
            "weight",
            &weight_gradient(&case, &input, &gradient),
            &exact::weight_gradient(&convolution, &input, &gradient),
        );
        assert_close(
            "input",
            &input_gradient(&case, &gradient, &weight),
            &exact::input_gradient(&convolution, &gradient, &weight),
        );
    }

    #[test]
    fn patch_1_is_the_exact_pass_of_the_tap_summed_kernel() {
        let convolution = Case::new("3x3", 2, [4, 6, 5], 3, [3, 3]).padding(1, 1);
        let summed = Case::new("1x1", 2, [4, 6, 5], 3, [1, 1]);
        let case = FilterCase::new(convolution, 1);
        let input = widen(&normal(1, convolution.input_len()));
        let weight = widen(&normal(2, convolution.weight_len()));
        let gradient = widen(&normal(3, convolution.output_len()));
        let sums = tap_sums(&case, &weight);
        assert_close(
            "input",
            &input_gradient(&case, &gradient, &weight),
            &exact::input_gradient(&summed, &gradient, &sums),
        );
        let spread: Vec<f64> = exact::weight_gradient(&summed, &input, &gradient)
            .into_iter()
            .flat_map(|pair| [pair; 9])
            .collect();
        assert_close(
            "weight",
            &weight_gradient(&case, &input, &gradient),
            &spread,
        );
    }

    /// Where the input is the mean of its neighbours (here: linear in y and x), patch 1 gives the mean over the taps of the exact
    /// gradient, its projection on what is the same at every tap. On other inputs it does not.
    #[test]
    fn patch_1_is_the_tap_constant_projection_of_the_exact_gradient_on_linear_maps() {
        let convolution = Case::new("3x3", 1, [2, 8, 7], 3, [3, 3]).padding(1, 1);
        let case = FilterCase::new(convolution, 1);
        let pixel = |element: usize| (element % 56 / 7, element % 7);
        let input: Vec<f64> = (0..convolution.input_len())
            .map(|element| {
                let (y, x) = pixel(element);
                0.5 * y as f64 - 0.25 * x as f64 + (element / 56) as f64
            })
            .collect();
        // Zero at the border, where neighbours are missing.
        let gradient: Vec<f64> = widen(&normal(3, convolution.output_len()))
            .into_iter()
            .enumerate()
            .map(|(element, value)| {
                let (y, x) = pixel(element);
                let inside = (1..7).contains(&y) && (1..6).contains(&x);
                if inside { value } else { 0.0 }
            })
            .collect();
        let projected: Vec<f64> = exact::weight_gradient(&convolution, &input, &gradient)
            .chunks(9)
            .flat_map(|taps| [taps.iter().sum::<f64>() / 9.0; 9])
            .collect();
        assert_close(
            "weight",
            &weight_gradient(&case, &input, &gradient),
            &projected,
        );
    }

    /// A constant gradient over a constant input, away from the border, whatever the stride.
    #[test]
    fn a_stride_does_not_change_the_size_of_the_gradient() {
        for stride in [1, 2] {
            let convolution = Case::new("3x3", 1, [1, 32, 32], 1, [3, 3])
                .stride(stride, stride)
                .padding(1, 1);
            let case = FilterCase::new(convolution, 2);
            let (input, weight) = (vec![1.0; 1024], vec![0.5; 9]);
            let gradient = vec![1.0; convolution.output_len()];
            let filtered = weight_gradient(&case, &input, &gradient)[4];
            let exact_one = exact::weight_gradient(&convolution, &input, &gradient)[4];
            assert_close("weight", &[filtered], &[exact_one]);
            let sum = |values: Vec<f64>| values.iter().sum::<f64>();
            let filtered = sum(input_gradient(&case, &gradient, &weight));
            let exact_one = sum(exact::input_gradient(&convolution, &gradient, &weight));
            // But for the taps that fall on the padding.
            assert!((filtered / exact_one - 1.0).abs() < 0.05);
        }
    }
}
