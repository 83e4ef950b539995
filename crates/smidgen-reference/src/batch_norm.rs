//! Batch norm with an activation behind it.

use crate::activation::Activation;
use crate::elementwise::MapCase;

/// Mean and biased variance of every channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Means.
    pub mean: Vec<f64>,
    /// Biased variances.
    pub variance: Vec<f64>,
}

/// The cases of batch norm.
#[must_use]
pub fn cases() -> Vec<MapCase> {
    let mut cases = crate::elementwise::cases();
    cases.push(MapCase::new("several slices", [8, 10, 29, 31]));
    cases
}

fn for_each(map: &MapCase, mut visit: impl FnMut(usize, usize)) {
    for image in 0..map.batch {
        for channel in 0..map.channels {
            for pixel in 0..map.image_pixels() {
                visit(channel, map.at(image, channel, 0, 0) + pixel);
            }
        }
    }
}

/// Mean and biased variance of every channel over images and pixels.
#[must_use]
pub fn statistics(map: &MapCase, input: &[f64]) -> Statistics {
    let count = (map.batch * map.image_pixels()) as f64;
    let mut mean = vec![0.0; map.channels];
    for_each(map, |channel, at| mean[channel] += input[at] / count);
    let mut variance = vec![0.0; map.channels];
    for_each(map, |channel, at| {
        variance[channel] += (input[at] - mean[channel]).powi(2) / count
    });
    Statistics { mean, variance }
}

/// The running mean and (unbiased) variance after one batch.
#[must_use]
pub fn running(
    map: &MapCase,
    batch: &Statistics,
    before: &Statistics,
    momentum: f64,
) -> Statistics {
    let count = (map.batch * map.image_pixels()) as f64;
    let mix = |before: &[f64], new: Vec<f64>| {
        before
            .iter()
            .zip(new)
            .map(|(before, new)| (1.0 - momentum) * before + momentum * new)
            .collect()
    };
    let unbiased = batch
        .variance
        .iter()
        .map(|variance| variance * count / (count - 1.0).max(1.0))
        .collect();
    Statistics {
        mean: mix(&before.mean, batch.mean.clone()),
        variance: mix(&before.variance, unbiased),
    }
}

/// What is constant for a layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Scale of every channel.
    pub gamma: Vec<f64>,
    /// Offset of every channel.
    pub beta: Vec<f64>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Behind the norm.
    pub activation: Activation,
}

/// `activation(gamma * (input - mean) / sqrt(variance + epsilon) + beta)`.
#[must_use]
pub fn apply(map: &MapCase, layer: &Layer, statistics: &Statistics, input: &[f64]) -> Vec<f64> {
    let mut output = vec![0.0; map.count()];
    for_each(map, |c, at| {
        let normalised =
            (input[at] - statistics.mean[c]) / (statistics.variance[c] + layer.epsilon).sqrt();
        output[at] = layer
            .activation
            .value(layer.gamma[c] * normalised + layer.beta[c]);
    });
    output
}

/// Gradients of the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// By the input.
    pub input: Vec<f64>,
    /// By the scale.
    pub gamma: Vec<f64>,
    /// By the offset.
    pub beta: Vec<f64>,
}

/// Gradients of [`apply`]; `of_batch` says that the statistics are those of this input and move with it.
#[must_use]
pub fn backward(
    map: &MapCase,
    layer: &Layer,
    statistics: &Statistics,
    of_batch: bool,
    input: &[f64],
    output_gradient: &[f64],
) -> Gradients {
    let count = (map.batch * map.image_pixels()) as f64;
    let inverse: Vec<f64> = statistics
        .variance
        .iter()
        .map(|variance| 1.0 / (variance + layer.epsilon).sqrt())
        .collect();
    let normalised = |c: usize, at: usize| (input[at] - statistics.mean[c]) * inverse[c];
    let inner = |c: usize, at: usize| {
        output_gradient[at]
            * layer
                .activation
                .derivative(layer.gamma[c] * normalised(c, at) + layer.beta[c])
    };
    let (mut gamma, mut beta) = (vec![0.0; map.channels], vec![0.0; map.channels]);
    for_each(map, |c, at| {
        gamma[c] += inner(c, at) * normalised(c, at);
        beta[c] += inner(c, at);
    });
    let mut gradient = vec![0.0; map.count()];
    for_each(map, |c, at| {
        let through_statistics = if of_batch {
            (beta[c] + normalised(c, at) * gamma[c]) / count
        } else {
            0.0
        };
        gradient[at] = layer.gamma[c] * inverse[c] * (inner(c, at) - through_statistics);
    });
    Gradients {
        input: gradient,
        gamma,
        beta,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let close = |actual: &[f64], expected: &[f64], what: &str| {
            for (actual, expected) in actual.iter().zip(expected) {
                assert!(
                    (actual - expected).abs() < 1e-5 * (1.0 + expected.abs()),
                    "{what}: {actual} for {expected}"
                );
            }
        };
        for map in cases().into_iter().filter(|map| map.count() < 400) {
            for (activation, of_batch) in [
                (Activation::Identity, true),
                (Activation::Silu, true),
                (Activation::Gelu, false),
            ] {
                let input = widen(&normal(1, map.count()));
                let output_gradient = widen(&normal(2, map.count()));
                let layer = Layer {
                    gamma: widen(&normal(3, map.channels)),
                    beta: widen(&normal(4, map.channels)),
                    epsilon: 1e-2,
                    activation,
                };
                let constant = Statistics {
                    mean: widen(&normal(5, map.channels)),
                    variance: normal(6, map.channels)
                        .iter()
                        .map(|v| f64::from(v * v) + 0.5)
                        .collect(),
                };
                let loss = |layer: &Layer, input: &[f64]| {
                    let used = if of_batch {
                        statistics(&map, input)
                    } else {
                        constant.clone()
                    };
                    let output = apply(&map, layer, &used, input);
                    output
                        .iter()
                        .zip(&output_gradient)
                        .map(|(y, g)| y * g)
                        .sum::<f64>()
                };
                let used = if of_batch {
                    statistics(&map, &input)
                } else {
                    constant.clone()
                };
                let gradients = backward(&map, &layer, &used, of_batch, &input, &output_gradient);
                let by_input = finite_differences(&input, 1e-5, |input| loss(&layer, input));
                close(&gradients.input, &by_input, map.name);
                let by_gamma = finite_differences(&layer.gamma, 1e-5, |gamma| {
                    loss(
                        &Layer {
                            gamma: gamma.to_vec(),
                            ..layer.clone()
                        },
                        &input,
                    )
                });
                close(&gradients.gamma, &by_gamma, map.name);
                let by_beta = finite_differences(&layer.beta, 1e-5, |beta| {
                    loss(
                        &Layer {
                            beta: beta.to_vec(),
                            ..layer.clone()
                        },
                        &input,
                    )
                });
                close(&gradients.beta, &by_beta, map.name);
            }
        }
    }
}
