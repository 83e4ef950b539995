//! The random words of dropout, and dropout.

/// Four random words from a counter of four words, bit for bit those of `shaders/common/random.wgsl`.
#[must_use]
pub fn random_words(counter: [u32; 4]) -> [u32; 4] {
    let mix = |[x, y, z, w]: [u32; 4]| {
        let x = x.wrapping_add(y.wrapping_mul(w));
        let y = y.wrapping_add(z.wrapping_mul(x));
        let z = z.wrapping_add(x.wrapping_mul(y));
        let w = w.wrapping_add(y.wrapping_mul(z));
        [x, y, z, w]
    };
    let stepped = counter.map(|word| word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    mix(mix(stepped).map(|word| word ^ (word >> 16)))
}

/// Whether dropout of this rate keeps a value. `element` counts values as planes of quads hold them.
#[must_use]
pub fn keeps(seed: u32, layer: u32, element: usize, rate: f32) -> bool {
    let word = random_words([(element / 4) as u32, layer, seed, 0])[element % 4];
    f64::from(word) >= (f64::from(rate) * 4_294_967_296.0).floor()
}

/// Dropout of values held as planes of quads; backward is the same on gradients.
#[must_use]
pub fn dropout(seed: u32, layer: u32, rate: f32, quads: &[f64]) -> Vec<f64> {
    let value = |(element, value): (usize, &f64)| {
        if keeps(seed, layer, element, rate) {
            value / (1.0 - f64::from(rate))
        } else {
            0.0
        }
    };
    quads.iter().enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic of counts that should be equal, per degree of freedom: near 1 for a good generator.
    fn unevenness(counts: &[u32]) -> f64 {
        let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
        let sum: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum();
        sum / (counts.len() - 1) as f64
    }

    #[test]
    fn bytes_of_words_are_even_and_neighbours_independent() {
        let mut pairs = vec![0u32; 1 << 16];
        let mut bytes = vec![0u32; 256 * 16];
        for (seed, layer) in [(0, 0), (0, 1), (1, 0), (12_345, 7)] {
            for quad in 0..1 << 18 {
                let words = random_words([quad, layer, seed, 0]);
                let after = random_words([quad + 1, layer, seed, 0]);
                let other_layer = random_words([quad, layer + 1, seed, 0]);
                for lane in 0..4 {
                    let next = [words[(lane + 1) % 4], after[lane], other_layer[lane]][lane % 3];
                    pairs[((words[lane] >> 24) << 8 | next >> 24) as usize] += 1;
                    for byte in 0..4 {
                        bytes[(lane * 4 + byte) * 256
                            + (words[lane] >> (8 * byte)) as usize % 256] += 1;
                    }
                }
            }
        }
        assert!(
            (unevenness(&pairs) - 1.0).abs() < 0.05,
            "pairs: {}",
            unevenness(&pairs)
        );
        // The lowest byte of this generator is its weakest; dropout compares whole words, so the highest decides.
        for lane in 0..4 {
            let highest = &bytes[(lane * 4 + 3) * 256..][..256];
            assert!(
                (unevenness(highest) - 1.0).abs() < 0.4,
                "lane {lane}: {}",
                unevenness(highest)
            );
        }
    }

    #[test]
    fn the_share_of_kept_values_is_the_rate() {
        for rate in [0.0, 0.1, 0.5, 0.9] {
            let kept = (0..100_000)
                .filter(|element| keeps(3, 5, *element, rate))
                .count();
            let expected = 100_000.0 * (1.0 - f64::from(rate));
            assert!(
                (kept as f64 - expected).abs() < 500.0,
                "{kept} kept at rate {rate}"
            );
        }
    }
}
