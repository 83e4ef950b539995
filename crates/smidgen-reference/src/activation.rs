//! Activations and their derivatives.

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The value itself.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * relu6(x + 3) / 6`.
    HardSwish,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x` times the normal distribution function of `x`.
    Gelu,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Self; 6] = [
        Self::Identity,
        Self::Relu,
        Self::Relu6,
        Self::HardSwish,
        Self::Silu,
        Self::Gelu,
    ];

    /// The function.
    #[must_use]
    pub fn value(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Relu => x.max(0.0),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::Silu => x * sigmoid(x),
            Self::Gelu => x * normal_distribution(x),
        }
    }

    /// Its derivative; at a kink that of PyTorch.
    #[must_use]
    pub fn derivative(self, x: f64) -> f64 {
        let inside = |inside: bool| if inside { 1.0 } else { 0.0 };
        match self {
            Self::Identity => 1.0,
            Self::Relu => inside(x > 0.0),
            Self::Relu6 => inside(x > 0.0 && x < 6.0),
            Self::HardSwish if x <= -3.0 => 0.0,
            Self::HardSwish if x < 3.0 => x / 3.0 + 0.5,
            Self::HardSwish => 1.0,
            Self::Silu => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
            Self::Gelu => {
                normal_distribution(x)
                    + x * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
            }
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The normal distribution function: by the series of erf near zero, by the continued fraction of erfc in the tails.
fn normal_distribution(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let tail = if z < 2.5 {
        // erf(z) = 2/sqrt(pi) * sum of z^(2k+1) * (-1)^k / (k! * (2k+1))
        let (mut power, mut sum) = (z, z);
        for k in 1..80 {
            power *= -z * z / f64::from(k);
            sum += power / f64::from(2 * k + 1);
        }
        0.5 - sum / std::f64::consts::PI.sqrt()
    } else {
        // erfc(z) = exp(-z^2) / sqrt(pi) / (z + (1/2) / (z + (2/2) / (z + (3/2) / ...)))
        let fraction = (1..100)
            .rev()
            .fold(z, |below, k| z + f64::from(k) / 2.0 / below);
        0.5 * (-z * z).exp() / (std::f64::consts::PI.sqrt() * fraction)
    };
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// `activation(input)`.
#[must_use]
pub fn forward(activation: Activation, input: &[f64]) -> Vec<f64> {
    input.iter().map(|x| activation.value(*x)).collect()
}

/// The gradient of the input of [`forward`].
#[must_use]
pub fn backward(activation: Activation, input: &[f64], output_gradient: &[f64]) -> Vec<f64> {
    assert_eq!(input.len(), output_gradient.len());
    input
        .iter()
        .zip(output_gradient)
        .map(|(x, g)| g * activation.derivative(*x))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for activation in Activation::ALL {
            for step in -64..64 {
                // Never at a kink.
                let x = f64::from(step) / 8.0 + 0.03;
                let expected = (activation.value(x + 1e-5) - activation.value(x - 1e-5)) / 2e-5;
                assert!(
                    (activation.derivative(x) - expected).abs() < 1e-8,
                    "{activation:?} at {x}"
                );
            }
        }
    }

    #[test]
    fn the_normal_distribution_has_its_textbook_values() {
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-2.0, 0.022_750_131_948_179_21),
            (4.0, 0.999_968_328_758_166_9),
        ] {
            assert!((normal_distribution(x) - expected).abs() < 1e-14, "{x}");
        }
        assert!(
            (normal_distribution(3.5355) - normal_distribution(3.5356)).abs() < 1e-6,
            "the two formulas meet"
        );
    }
}
