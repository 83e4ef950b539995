//! How parameters start.

use crate::graph::Graph;
use crate::weights::{Tensor, Weights};
use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;
use std::f64::consts::TAU;

/// Which side of a convolution its starting weights are scaled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fan {
    /// The inputs of an output, as He's CIFAR networks: activations keep their size going forward.
    #[default]
    Input,
    /// The outputs of an input, as torchvision: gradients keep their size going backward.
    Output,
}

/// The distribution a parameter is first drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// The same number everywhere.
    Constant(f32),
    /// Normal, around zero, with this deviation.
    Normal(f32),
    /// Uniform between minus and plus this bound.
    Uniform(f32),
}

impl Initial {
    /// He's initialisation before a rectifier: deviation `sqrt(2 / fan)`.
    #[must_use]
    pub fn kaiming(fan: u64) -> Self {
        Self::Normal((2.0 / fan.max(1) as f64).sqrt() as f32)
    }

    /// PyTorch's default of linear layers: bound `1 / sqrt(inputs)`.
    #[must_use]
    pub fn linear(inputs: u64) -> Self {
        Self::Uniform((1.0 / inputs.max(1) as f64).sqrt() as f32)
    }

    fn draw(self, count: usize, random: &mut Pcg32) -> Vec<f32> {
        // Halves of the steps of 32 bits: never 0, whose logarithm is not finite.
        let mut unit = || (f64::from(random.next_u32()) + 0.5) / 4_294_967_296.0;
        match self {
            Self::Constant(value) => vec![value; count],
            Self::Uniform(bound) => (0..count)
                .map(|_| ((2.0 * unit() - 1.0) * f64::from(bound)) as f32)
                .collect(),
            Self::Normal(deviation) => (0..count)
                .map(|_| {
                    let radius = (-2.0 * unit().ln()).sqrt() * f64::from(deviation);
                    (radius * (TAU * unit()).cos()) as f32
                })
                .collect(),
        }
    }
}

impl Graph {
    /// Parameters and running statistics as training starts with them. The same seed gives the same numbers, and each parameter's
    /// depend on its name and shape alone, not on what other layers there are.
    #[must_use]
    pub fn initialize(&self, seed: u64) -> Weights {
        let mut weights = Weights::default();
        for parameter in &self.parameters {
            let mut random = Pcg32::new(seed, hash(&parameter.name));
            let count = parameter.shape.iter().product();
            let tensor = Tensor {
                shape: parameter.shape.clone(),
                values: parameter.initial.draw(count, &mut random),
            };
            weights.tensors.insert(parameter.name.clone(), tensor);
        }
        for buffer in &self.buffers {
            let channels = buffer.channels as usize;
            let tensor = Tensor {
                shape: vec![channels],
                values: vec![buffer.initial; channels],
            };
            weights.tensors.insert(buffer.name.clone(), tensor);
        }
        weights
    }
}

/// FNV-1a: a stream of random numbers for every name.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
