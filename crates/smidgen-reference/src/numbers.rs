//! Reproducible test numbers.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;

/// `count` numbers, nearly normally distributed with variance 1, the same for the same seed.
#[must_use]
pub fn normal(seed: u64, count: usize) -> Vec<f32> {
    let mut generator = Pcg32::new(seed, 0x5eed);
    let mut uniform = || f64::from(generator.next_u32()) / f64::from(u32::MAX) - 0.5;
    // The sum of twelve uniform numbers has variance 1.
    (0..count)
        .map(|_| (0..12).map(|_| uniform()).sum::<f64>() as f32)
        .collect()
}

/// `count` integers below `bound`, the same for the same seed.
#[must_use]
pub fn below(seed: u64, bound: u32, count: usize) -> Vec<u32> {
    let mut generator = Pcg32::new(seed, 0xb0d);
    (0..count).map(|_| generator.next_u32() % bound).collect()
}

/// The derivative of `function` along each element of `point`, by central differences of step `step`.
pub fn finite_differences(
    point: &[f64],
    step: f64,
    mut function: impl FnMut(&[f64]) -> f64,
) -> Vec<f64> {
    let mut moved = point.to_vec();
    (0..point.len())
        .map(|at| {
            moved[at] = point[at] + step;
            let above = function(&moved);
            moved[at] = point[at] - step;
            let below = function(&moved);
            moved[at] = point[at];
            (above - below) / (2.0 * step)
        })
        .collect()
}
