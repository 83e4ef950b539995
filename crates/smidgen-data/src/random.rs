//! Random draws that are a function of what they are for, and will stay the same function.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;

/// What draws are for; different purposes never share a sequence.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Order = 1,
    Augmentation = 2,
    ShapesTrain = 3,
    ShapesTest = 4,
    Corruption = 5,
}

/// A sequence of draws: PCG-XSH-RR 64/32, whose state is a hash of the seed and two numbers.
pub(crate) struct Draws(Pcg32);

impl Draws {
    /// The sequence of `purpose` under `seed` for `(first, second)`: an epoch and a picture, for example.
    pub(crate) fn new(purpose: Purpose, seed: u64, first: u64, second: u64) -> Self {
        let state = [seed, first, second]
            .iter()
            .fold(0, |hash, &word| scramble(hash ^ word));
        Self(Pcg32::new(state, purpose as u64))
    }

    pub(crate) fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// An integer of `0..bound`, each equally likely. `bound` must not be zero.
    ///
    /// The high half of `word * bound`, drawn again in the few cases that would favour some results.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let unfair = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.word()) * u64::from(bound);
            if product as u32 >= unfair {
                return (product >> 32) as u32;
            }
        }
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.word() >> 31 == 1
    }

    /// A number of `[0, 1)`, a multiple of 2^-24.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.word() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// A number between `low` and `high`.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// A number near the normal distribution of mean 0 and deviation 1, never beyond 3.5.
    ///
    /// The sum of the four bytes of one word: exact integers, so the same on every machine, and fast.
    pub(crate) fn bell(&mut self) -> f32 {
        let sum: u32 = self
            .word()
            .to_le_bytes()
            .iter()
            .map(|&byte| u32::from(byte))
            .sum();
        // Each byte has variance (256^2 - 1) / 12.
        (sum as f32 - 510.0) / 147.8
    }

    /// A number of the normal distribution of mean 0 and deviation 1.
    pub(crate) fn normal(&mut self) -> f32 {
        // 1 - unit() is never zero.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.unit()).cos()
    }
}

/// The output step of SplitMix64: a bijection in which every bit of the input reaches every bit of the output.
fn scramble(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_fair_and_in_range() {
        let mut draws = Draws::new(Purpose::Order, 3, 0, 0);
        let mut counts = [0u32; 9];
        for _ in 0..90_000 {
            counts[draws.below(9) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_500..10_500).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn bell_and_normal_have_mean_0_and_deviation_1() {
        let mut draws = Draws::new(Purpose::Order, 4, 0, 0);
        type Sample = fn(&mut Draws) -> f32;
        for sample in [Draws::bell as Sample, Draws::normal] {
            let values: Vec<f64> = (0..50_000).map(|_| sample(&mut draws).into()).collect();
            let mean = values.iter().sum::<f64>() / 50_000.0;
            let variance = values.iter().map(|value| value * value).sum::<f64>() / 50_000.0;
            assert!(mean.abs() < 0.02, "{mean}");
            assert!((variance - 1.0).abs() < 0.03, "{variance}");
        }
    }

    #[test]
    fn seed_epoch_and_picture_all_matter() {
        let first = |seed, first, second| Draws::new(Purpose::Order, seed, first, second).word();
        let mut words: Vec<u32> = (0..1000)
            .map(|number| first(number / 100, number / 10 % 10, number % 10))
            .collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 1000);
    }
}
