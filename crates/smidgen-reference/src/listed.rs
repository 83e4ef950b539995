//! Convolution at listed output pixels: that of the whole map, of which only some output pixels count.

use crate::convolution::{self, Case};

/// The output pixels (of the whole batch, image after image) that a gate wants, at most `capacity` of them, ascending.
#[must_use]
pub fn list(gate: &[f32], capacity: usize) -> Vec<usize> {
    (0..gate.len())
        .filter(|pixel| gate[*pixel] > 0.0)
        .take(capacity)
        .collect()
}

/// The pixel of the batch that an element of the output belongs to.
fn output_pixel(case: &Case, element: usize) -> usize {
    let pixels: usize = case.output_size().iter().product();
    element / (pixels * case.output_channels) * pixels + element % pixels
}

/// The pixel of the batch that an element of the input belongs to.
fn input_pixel(case: &Case, element: usize) -> usize {
    let pixels = case.input[1] * case.input[2];
    element / (pixels * case.input[0]) * pixels + element % pixels
}

/// A map of the output with zeros but at the listed pixels.
fn only_listed(case: &Case, list: &[usize], map: &[f64]) -> Vec<f64> {
    let keep = |(element, value): (usize, &f64)| {
        if list.contains(&output_pixel(case, element)) {
            *value
        } else {
            0.0
        }
    };
    map.iter().enumerate().map(keep).collect()
}

/// The input pixels that some listed output pixel meets, ascending.
#[must_use]
pub fn reached(case: &Case, list: &[usize]) -> Vec<usize> {
    let mut met = Vec::new();
    case.each_product(|from, _, to| {
        if list.contains(&output_pixel(case, to)) {
            met.push(input_pixel(case, from));
        }
    });
    met.sort_unstable();
    met.dedup();
    met
}

/// `convolution(input, weight) + bias` at the listed pixels, zero elsewhere.
#[must_use]
pub fn forward(
    case: &Case,
    list: &[usize],
    input: &[f64],
    weight: &[f64],
    bias: &[f64],
) -> Vec<f64> {
    only_listed(case, list, &convolution::forward(case, input, weight, bias))
}

/// Gradient with respect to the input, of what was computed at the listed pixels.
#[must_use]
pub fn input_gradient(
    case: &Case,
    list: &[usize],
    output_gradient: &[f64],
    weight: &[f64],
) -> Vec<f64> {
    convolution::input_gradient(case, &only_listed(case, list, output_gradient), weight)
}

/// Gradient with respect to the weight.
#[must_use]
pub fn weight_gradient(
    case: &Case,
    list: &[usize],
    input: &[f64],
    output_gradient: &[f64],
) -> Vec<f64> {
    convolution::weight_gradient(case, input, &only_listed(case, list, output_gradient))
}

/// Gradient with respect to the bias.
#[must_use]
pub fn bias_gradient(case: &Case, list: &[usize], output_gradient: &[f64]) -> Vec<f64> {
    convolution::bias_gradient(case, &only_listed(case, list, output_gradient))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn the_gradients_are_those_of_the_listed_pixels() {
        let case = Case::new("stride 2", 2, [2, 5, 4], 3, [3, 3])
            .stride(2, 2)
            .padding(1, 1);
        let input = widen(&normal(1, case.input_len()));
        let weight = widen(&normal(2, case.weight_len()));
        let gradient = widen(&normal(4, case.output_len()));
        let list = list(&normal(5, 12), 5);
        assert!(list.len() > 2);
        let loss = |output: Vec<f64>| -> f64 {
            let pairs = output.iter().zip(&gradient);
            pairs.map(|(y, dy)| y * dy).sum()
        };
        let by_input = finite_differences(&input, 1e-3, |input| {
            loss(forward(&case, &list, input, &weight, &[]))
        });
        let by_weight = finite_differences(&weight, 1e-3, |weight| {
            loss(forward(&case, &list, &input, weight, &[]))
        });
        for (analytic, numeric) in [
            (input_gradient(&case, &list, &gradient, &weight), by_input),
            (weight_gradient(&case, &list, &input, &gradient), by_weight),
        ] {
            for (a, n) in analytic.iter().zip(&numeric) {
                assert!((a - n).abs() < 1e-7 * (1.0 + a.abs()));
            }
        }
    }

    #[test]
    fn a_list_holds_the_first_wanted_pixels_and_what_they_read() {
        let gate = [0.0, 1.0, f32::NAN, -1.0, 2.0, 3.0];
        assert_eq!(list(&gate, 6), [1, 4, 5]);
        assert_eq!(list(&gate, 2), [1, 4]);
        let case = Case::new("a row", 1, [1, 1, 6], 1, [1, 3]).padding(0, 1);
        assert_eq!(reached(&case, &[0, 4]), [0, 1, 3, 4, 5]);
    }
}
