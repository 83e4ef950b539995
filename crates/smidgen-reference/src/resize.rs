//! Bilinear enlargement by two, pixels being areas (PyTorch's `align_corners=False`).

use crate::elementwise::MapCase;

/// The output's sizes.
#[must_use]
pub fn output(map: &MapCase) -> MapCase {
    MapCase {
        height: 2 * map.height,
        width: 2 * map.width,
        ..*map
    }
}

/// The two positions that output position `at` lies between, and the weight of the second.
fn between(at: usize, size: usize) -> (usize, usize, f64) {
    let position = ((at as f64 + 0.5) / 2.0 - 0.5).max(0.0);
    let first = position.floor() as usize;
    (
        first,
        (first + 1).min(size - 1),
        position - position.floor(),
    )
}

/// Calls `visit` with the output's index, the input's index and the weight, for the four inputs of every output.
fn for_each_weight(map: &MapCase, mut visit: impl FnMut(usize, usize, f64)) {
    let output = output(map);
    for image in 0..map.batch {
        for channel in 0..map.channels {
            for y in 0..output.height {
                for x in 0..output.width {
                    let (top, bottom, down) = between(y, map.height);
                    let (left, right, along) = between(x, map.width);
                    for (row, row_weight) in [(top, 1.0 - down), (bottom, down)] {
                        for (column, column_weight) in [(left, 1.0 - along), (right, along)] {
                            visit(
                                output.at(image, channel, y, x),
                                map.at(image, channel, row, column),
                                row_weight * column_weight,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Enlarges a map by two.
#[must_use]
pub fn upsample(map: &MapCase, input: &[f64]) -> Vec<f64> {
    let mut values = vec![0.0; output(map).count()];
    for_each_weight(map, |to, from, weight| values[to] += weight * input[from]);
    values
}

/// The gradient of the input of [`upsample`].
#[must_use]
pub fn upsample_backward(map: &MapCase, output_gradient: &[f64]) -> Vec<f64> {
    let mut gradient = vec![0.0; map.count()];
    for_each_weight(map, |to, from, weight| {
        gradient[from] += weight * output_gradient[to]
    });
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for map in crate::elementwise::cases()
            .into_iter()
            .filter(|map| map.count() < 1000)
        {
            let input = widen(&normal(1, map.count()));
            let output_gradient = widen(&normal(2, output(&map).count()));
            let expected = finite_differences(&input, 1e-3, |input| {
                upsample(&map, input)
                    .iter()
                    .zip(&output_gradient)
                    .map(|(y, g)| y * g)
                    .sum()
            });
            for (actual, expected) in upsample_backward(&map, &output_gradient)
                .iter()
                .zip(&expected)
            {
                assert!((actual - expected).abs() < 1e-8, "{}", map.name);
            }
        }
    }
}
