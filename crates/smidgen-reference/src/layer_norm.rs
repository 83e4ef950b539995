//! Layer normalisation over the channels of each pixel.

use crate::elementwise::MapCase;
pub use crate::softmax::cases;
use crate::softmax::for_each_pixel;

/// What is constant for a layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Factor of every channel.
    pub weight: Vec<f64>,
    /// Summand of every channel.
    pub bias: Vec<f64>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// The gradients of a layer norm.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// Of the input.
    pub input: Vec<f64>,
    /// Of the weight.
    pub weight: Vec<f64>,
    /// Of the bias.
    pub bias: Vec<f64>,
}

/// Mean, and one over the square root of variance plus epsilon.
fn moments(input: &[f64], column: &[usize], epsilon: f64) -> (f64, f64) {
    let count = column.len() as f64;
    let mean = column.iter().map(|at| input[*at]).sum::<f64>() / count;
    let variance = column
        .iter()
        .map(|at| (input[*at] - mean).powi(2))
        .sum::<f64>()
        / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// The normalised input, times weight, plus bias.
#[must_use]
pub fn forward(map: &MapCase, layer: &Layer, input: &[f64]) -> Vec<f64> {
    let mut output = vec![0.0; map.count()];
    for_each_pixel(map, |column| {
        let (mean, scale) = moments(input, column, layer.epsilon);
        for (channel, at) in column.iter().enumerate() {
            let normal = (input[*at] - mean) * scale;
            output[*at] = normal * layer.weight[channel] + layer.bias[channel];
        }
    });
    output
}

/// All gradients.
#[must_use]
pub fn backward(map: &MapCase, layer: &Layer, input: &[f64], output_gradient: &[f64]) -> Gradients {
    let mut gradients = Gradients {
        input: vec![0.0; map.count()],
        weight: vec![0.0; map.channels],
        bias: vec![0.0; map.channels],
    };
    let count = map.channels as f64;
    for_each_pixel(map, |column| {
        let (mean, scale) = moments(input, column, layer.epsilon);
        let (mut sum, mut product) = (0.0, 0.0);
        for (channel, at) in column.iter().enumerate() {
            let normal = (input[*at] - mean) * scale;
            gradients.weight[channel] += output_gradient[*at] * normal;
            gradients.bias[channel] += output_gradient[*at];
            sum += output_gradient[*at] * layer.weight[channel];
            product += output_gradient[*at] * layer.weight[channel] * normal;
        }
        for (channel, at) in column.iter().enumerate() {
            let normal = (input[*at] - mean) * scale;
            let weighted = output_gradient[*at] * layer.weight[channel];
            gradients.input[*at] = scale * (weighted - sum / count - normal * product / count);
        }
    });
    gradients
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let map = MapCase::new("small", [2, 5, 1, 3]);
        let layer = Layer {
            weight: widen(&normal(3, 5)),
            bias: widen(&normal(4, 5)),
            epsilon: 1e-3,
        };
        let (x, dy) = (
            widen(&normal(1, map.count())),
            widen(&normal(2, map.count())),
        );
        let loss = |layer: &Layer, x: &[f64]| -> f64 {
            let output = forward(&map, layer, x);
            output.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
        };
        let gradients = backward(&map, &layer, &x, &dy);
        let input = finite_differences(&x, 1e-5, |x| loss(&layer, x));
        let weight = finite_differences(&layer.weight, 1e-5, |weight| {
            let layer = Layer {
                weight: weight.to_vec(),
                ..layer.clone()
            };
            loss(&layer, &x)
        });
        let bias = finite_differences(&layer.bias, 1e-5, |bias| {
            let layer = Layer {
                bias: bias.to_vec(),
                ..layer.clone()
            };
            loss(&layer, &x)
        });
        let pairs = [
            (&gradients.input, input),
            (&gradients.weight, weight),
            (&gradients.bias, bias),
        ];
        for (actual, expected) in pairs {
            for (actual, expected) in actual.iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-7, "{actual} {expected}");
            }
        }
    }
}
