//! Compressed activation storage: the words that the encoders of `smidgen-stash` write, bit for bit, and what they decode to.
//!
//! In `f32` and integers, unlike the other twins, because the codes are what is compared: every float operation here is a single one that
//! a device rounds in the same way. A tensor is `quads` planes of `pixels` vectors of four.

use crate::dropout::random_words;

/// What is coded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Code {
    /// `minimum + code * step`.
    Linear,
    /// Zero at code 0, else `minimum + (code - 1) * step`.
    Rectified,
    /// Bit 3: above zero; the others a magnitude.
    SignMagnitude,
    /// Multiples of a step, doubled for a group as often as needed.
    Lattice {
        /// The step, and its reciprocal as `f32`.
        step: f32,
        /// The reciprocal.
        inverse: f32,
    },
}

/// A tensor and how it is coded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stash {
    /// The code.
    pub code: Code,
    /// Bits of a code.
    pub bits: u32,
    /// Pixels of a group.
    pub group: usize,
    /// Planes.
    pub quads: usize,
    /// Vectors of a plane.
    pub pixels: usize,
    /// Seed of the random rounding.
    pub seed: u32,
    /// Tells tensors apart.
    pub tensor: u32,
}

/// What the encoder of an error-bounded stash counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// The most that a step was doubled; 127 where a group held something not finite.
    pub raised: u32,
    /// Groups whose step was doubled.
    pub raised_groups: u32,
    /// Values that are not zero.
    pub nonzero: u32,
}

const NAN: u32 = 0x7fc0;
/// 2^-100, below which a magnitude counts as zero, and 2^100, from which on it counts as infinite.
const LEAST: u32 = 0x0d80_0000;
const MOST: u32 = 0x7180_0000;

fn flush(value: f32) -> f32 {
    if value.to_bits() & 0x7fff_ffff < LEAST {
        0.0
    } else {
        value
    }
}

fn strange(value: f32) -> bool {
    value.to_bits() & 0x7fff_ffff >= MOST
}

/// The upper half of a float, rounded up in magnitude.
fn away(value: f32) -> u32 {
    (value.to_bits() + 0xffff) >> 16
}

fn widen(half: u32) -> f32 {
    f32::from_bits(half << 16)
}

/// A step of which `levels` cover `range`.
fn step(range: f32, levels: u32) -> u32 {
    let share = 1.0 / levels as f32 * 1.000_000_2;
    if range < 2.0_f32.powi(-90) {
        0
    } else {
        away(range * share)
    }
}

/// `65536 / step`.
fn inverse(step: f32) -> f32 {
    if step == 0.0 || step.is_nan() {
        return 0.0;
    }
    let mantissa = 128 | (step.to_bits() >> 16 & 127);
    let power = f32::from_bits((246 - (step.to_bits() >> 23)) << 23);
    ((1_u32 << 31) / mantissa) as f32 * power
}

impl Stash {
    /// Where value `lane` of vector `pixel` of plane `quad` stands.
    fn at(&self, quad: usize, pixel: usize, lane: usize) -> usize {
        (quad * self.pixels + pixel) * 4 + lane
    }

    fn blocks(&self) -> usize {
        self.pixels.div_ceil(self.group)
    }

    fn plane_words(&self) -> usize {
        self.pixels.div_ceil(8 / self.bits as usize)
    }

    fn first_word(&self) -> usize {
        let blocks = self.quads * self.blocks();
        match self.code {
            Code::Lattice { .. } => 4 + blocks.next_multiple_of(4),
            _ => 4 * blocks,
        }
    }

    fn levels(&self) -> u32 {
        match self.code {
            Code::Linear => (1 << self.bits) - 1,
            Code::Rectified => (1 << self.bits) - 2,
            _ => 7,
        }
    }

    /// The word of codes that holds a value, and how far up.
    fn place(&self, quad: usize, pixel: usize, lane: usize) -> (usize, u32) {
        let pixels = 8 / self.bits as usize;
        let word = self.first_word() + quad * self.plane_words() + pixel / pixels;
        (word, (pixel % pixels * 4 + lane) as u32 * self.bits)
    }

    /// The words of the stash, whole.
    #[must_use]
    pub fn encode(&self, values: &[f32]) -> Vec<u32> {
        self.encode_and_count(values).0
    }

    /// The words of the stash, and for [`Code::Lattice`] what its encoder counts.
    #[must_use]
    pub fn encode_and_count(&self, values: &[f32]) -> (Vec<u32>, Counts) {
        assert_eq!(values.len(), self.quads * self.pixels * 4);
        let end = self.first_word() + self.quads * self.plane_words();
        let mut words = vec![0; end.next_multiple_of(4)];
        let mut counts = Counts::default();
        if let Code::Lattice { step, .. } = self.code {
            words[0] = step.to_bits();
            counts.nonzero = values.iter().filter(|value| flush(**value) != 0.0).count() as u32;
        }
        for quad in 0..self.quads {
            for block in 0..self.blocks() {
                let begin = block * self.group;
                let pixels = begin..(begin + self.group).min(self.pixels);
                for lane in 0..4 {
                    let group: Vec<f32> = pixels
                        .clone()
                        .map(|pixel| values[self.at(quad, pixel, lane)])
                        .collect();
                    let header = quad * self.blocks() + block;
                    let codes = match self.code {
                        Code::Lattice { inverse, .. } => {
                            let (byte, codes) = self.lattice_group(&group, inverse);
                            words[4 + header] |= byte << (8 * lane);
                            counts.raised = counts.raised.max(byte & 127);
                            counts.raised_groups += u32::from(byte & 127 > 0);
                            codes
                        }
                        _ => {
                            let word = self.header(&group);
                            words[header * 4 + lane] = word;
                            let random = |at: usize| {
                                let pair = quad * self.pixels.div_ceil(2) + (begin + at) / 2;
                                let counter = [pair as u32, self.tensor, self.seed, 1];
                                (random_words(counter)[lane] >> ((begin + at) % 2 * 16)) & 0xffff
                            };
                            (0..group.len())
                                .map(|at| self.random_code(group[at], word, random(at)))
                                .collect()
                        }
                    };
                    for (pixel, code) in pixels.clone().zip(codes) {
                        let (word, shift) = self.place(quad, pixel, lane);
                        words[word] |= code << shift;
                    }
                }
            }
        }
        (words, counts)
    }

    fn header(&self, group: &[f32]) -> u32 {
        let values = || group.iter().map(|value| flush(*value));
        let lost = group.iter().any(|value| strange(*value));
        match self.code {
            Code::SignMagnitude => {
                if lost {
                    return NAN << 16 | NAN;
                }
                let above = step(values().fold(0.0, f32::max), 7);
                let below = step(-values().fold(0.0, f32::min), 7);
                above << 16 | below
            }
            _ => {
                if lost {
                    return NAN << 16;
                }
                let counted = || {
                    let all = self.code == Code::Linear;
                    group
                        .iter()
                        .filter(move |value| all || **value > 0.0)
                        .map(|value| flush(*value))
                };
                let lowest = counted().fold(f32::INFINITY, f32::min);
                if lowest == f32::INFINITY {
                    return 0;
                }
                let minimum = if lowest < 0.0 {
                    away(lowest)
                } else {
                    lowest.to_bits() >> 16
                };
                let highest = counted().fold(f32::NEG_INFINITY, f32::max);
                minimum << 16 | step(highest - widen(minimum), self.levels())
            }
        }
    }

    /// Rounded up if `random` is above what is missing to the next code, in parts of 65536.
    fn random_code(&self, value: f32, header: u32, random: u32) -> u32 {
        let (high, low) = (widen(header >> 16), widen(header & 0xffff));
        let round = |distance: f32, step: f32| {
            let parts = (distance.max(0.0) * inverse(step)) as u32;
            ((parts + random) >> 16).min(self.levels())
        };
        let above = value > 0.0;
        match self.code {
            Code::SignMagnitude => {
                let step = if above { high } else { low };
                round(flush(value).abs(), step) | u32::from(above) << 3
            }
            Code::Rectified if !above => 0,
            Code::Rectified => round(flush(value) - high, low) + 1,
            _ => round(flush(value) - high, low),
        }
    }

    fn lattice_group(&self, group: &[f32], inverse: f32) -> (u32, Vec<u32>) {
        let signed = group
            .iter()
            .any(|value| flush(*value).is_sign_negative() && flush(*value) != 0.0);
        let flag = u32::from(signed) << 7;
        let bias = if signed { 1 << (self.bits - 1) } else { 0 };
        let limit = (1_u32 << (self.bits - u32::from(signed))) - 1;
        let lost = (127 | flag, vec![bias; group.len()]);
        if group.iter().any(|value| strange(*value)) {
            return lost;
        }
        let code = |value: f32, raised: u32| {
            let factor = 2.0 * inverse * 2.0_f32.powi(-(raised as i32));
            ((flush(value).abs() * factor) as u32).saturating_add(1) >> 1
        };
        let fits = |raised: &u32| group.iter().all(|value| code(*value, *raised) <= limit);
        let Some(raised) = (0..127).find(fits) else {
            return lost;
        };
        let codes = group.iter().map(|value| {
            let code = code(*value, raised);
            if *value < 0.0 {
                bias - code
            } else {
                bias + code
            }
        });
        (raised | flag, codes.collect())
    }

    /// What the words decode to.
    #[must_use]
    pub fn decode(&self, words: &[u32]) -> Vec<f32> {
        self.each(
            |quad, pixel, lane, code| {
                let header = quad * self.blocks() + pixel / self.group;
                if let Code::Lattice { .. } = self.code {
                    let byte = words[4 + header] >> (8 * lane) & 255;
                    let bias = if byte > 127 { 1 << (self.bits - 1) } else { 0 };
                    let step = match byte & 127 {
                        127 => f32::NAN,
                        raised => f32::from_bits(words[0]) * 2.0_f32.powi(raised as i32),
                    };
                    return (code as i32 - bias) as f32 * step;
                }
                let header = words[header * 4 + lane];
                let (high, low) = (widen(header >> 16), widen(header & 0xffff));
                match self.code {
                    Code::SignMagnitude if code > 7 => (code - 8) as f32 * high,
                    Code::SignMagnitude => code as f32 * -low,
                    Code::Rectified if code == 0 && !high.is_nan() => 0.0,
                    Code::Rectified => high + code.saturating_sub(1) as f32 * low,
                    _ => high + code as f32 * low,
                }
            },
            words,
        )
    }

    /// The codes themselves, in the order of the values.
    #[must_use]
    pub fn codes(&self, words: &[u32]) -> Vec<u32> {
        self.each(|_, _, _, code| code, words)
    }

    fn each<T>(&self, value: impl Fn(usize, usize, usize, u32) -> T, words: &[u32]) -> Vec<T> {
        let mut all = Vec::with_capacity(self.quads * self.pixels * 4);
        for quad in 0..self.quads {
            for pixel in 0..self.pixels {
                for lane in 0..4 {
                    let (word, shift) = self.place(quad, pixel, lane);
                    let code = words[word] >> shift & ((1 << self.bits) - 1);
                    all.push(value(quad, pixel, lane, code));
                }
            }
        }
        all
    }
}

/// Small integers, `bits` each, packed as masks and taps are: four values of neighbouring pixels to a word, a plane on a word.
#[must_use]
pub fn pack(codes: &[u32], bits: u32, pixels: usize) -> Vec<u32> {
    let per_word = 32 / bits as usize;
    let mut words: Vec<u32> = codes
        .chunks(pixels * 4)
        .flat_map(|plane| plane.chunks(per_word))
        .map(|word| {
            let placed = word.iter().enumerate();
            placed.fold(0, |packed, (at, code)| packed | code << (at as u32 * bits))
        })
        .collect();
    words.resize(words.len().next_multiple_of(4), 0);
    words
}

/// The nearest f16, ties to even; but no value other than zero becomes zero, and no finite one infinite.
#[must_use]
pub fn half(value: f32) -> u16 {
    let sign = ((value.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = f64::from(value.abs());
    if value.is_nan() {
        return sign | 0x7e00;
    }
    if value.is_infinite() {
        return sign | 0x7c00;
    }
    // From one f16 to the next: 2^-24 at the bottom, 2^-10 of the power of two below elsewhere.
    let exponent = (magnitude.log2().floor() as i32).clamp(-14, 15);
    let steps = (magnitude * 2.0_f64.powi(10 - exponent)).round_ties_even() as u32;
    let bits = ((exponent + 14) as u32 * 1024)
        .saturating_add(steps)
        .min(0x7bff);
    sign | if magnitude == 0.0 {
        0
    } else {
        bits.max(1) as u16
    }
}

/// The value of an f16.
#[must_use]
pub fn from_half(half: u16) -> f32 {
    let (exponent, mantissa) = (i32::from(half >> 10 & 31), f32::from(half & 1023));
    let magnitude = match exponent {
        0 => mantissa * 2.0_f32.powi(-24),
        31 if mantissa == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + mantissa) * 2.0_f32.powi(exponent - 25),
    };
    if half & 0x8000 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// The deviation that rounding to multiples of `2 * bound` gives each element of the weight gradient of one output channel, after COMET
/// (Jin et al., 2022, the propagation of the error): the errors are uniform, independent, and only on values that are not zero.
///
/// `nonzero` is the share of inputs that are not zero, `gradient_norm` the L2 norm of the output gradient of that channel.
#[must_use]
pub fn predicted_deviation(bound: f64, nonzero: f64, gradient_norm: f64) -> f64 {
    bound / 3.0_f64.sqrt() * nonzero.sqrt() * gradient_norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_come_back_and_round_to_the_nearest() {
        for bits in 0..=u16::MAX {
            let value = from_half(bits);
            if !value.is_nan() {
                assert_eq!(half(value), bits, "{value}");
            }
        }
        assert_eq!(half(1.0 + 2.0_f32.powi(-11)), half(1.0));
        assert_eq!(half(1.0 + 3.0 * 2.0_f32.powi(-11)), half(1.0) + 2);
        assert_eq!(from_half(half(1e-30)), 2.0_f32.powi(-24));
        assert_eq!(from_half(half(-1e30)), -65504.0);
    }
}
