//! Softmax over the channels of each pixel.

use crate::elementwise::MapCase;

/// The cases of softmax and layer norm.
#[must_use]
pub fn cases() -> Vec<MapCase> {
    let mut cases = crate::elementwise::cases();
    cases.push(MapCase::new("a thousand channels", [3, 1000, 1, 1]));
    cases.push(MapCase::new("tokens", [2, 66, 17, 1]));
    cases
}

/// Calls `visit` with the positions of the channels of every pixel.
pub(crate) fn for_each_pixel(map: &MapCase, mut visit: impl FnMut(&[usize])) {
    for image in 0..map.batch {
        for y in 0..map.height {
            for x in 0..map.width {
                let column: Vec<usize> = (0..map.channels)
                    .map(|channel| map.at(image, channel, y, x))
                    .collect();
                visit(&column);
            }
        }
    }
}

/// Exponentials over their sum.
#[must_use]
pub fn forward(map: &MapCase, input: &[f64]) -> Vec<f64> {
    let mut output = vec![0.0; map.count()];
    for_each_pixel(map, |column| {
        let largest = column
            .iter()
            .map(|at| input[*at])
            .fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = column.iter().map(|at| (input[*at] - largest).exp()).sum();
        for at in column {
            output[*at] = (input[*at] - largest).exp() / total;
        }
    });
    output
}

/// The input gradient from the output and its gradient.
#[must_use]
pub fn backward(map: &MapCase, output: &[f64], output_gradient: &[f64]) -> Vec<f64> {
    let mut gradient = vec![0.0; map.count()];
    for_each_pixel(map, |column| {
        let product: f64 = column
            .iter()
            .map(|at| output[*at] * output_gradient[*at])
            .sum();
        for at in column {
            gradient[*at] = output[*at] * (output_gradient[*at] - product);
        }
    });
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let map = MapCase::new("small", [2, 5, 1, 3]);
        let (x, dy) = (
            widen(&normal(1, map.count())),
            widen(&normal(2, map.count())),
        );
        let expected = finite_differences(&x, 1e-5, |x| {
            forward(&map, x).iter().zip(&dy).map(|(y, dy)| y * dy).sum()
        });
        for (actual, expected) in backward(&map, &forward(&map, &x), &dy).iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-8, "{actual} {expected}");
        }
    }
}
