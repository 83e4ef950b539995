use crate::StashError;
use smidgen_gpu::params;

params! {
    /// The block of an error-bounded stash as it stands on the device: the host writes what is wanted, the encoder what was reached.
    pub struct Bound {
        /// Twice the bound, less one part in 2^13 that makes up for the roundings of encoder and decoder.
        step: f32,
        /// Its reciprocal.
        inverse: f32,
        /// Powers of two by which the step of a group was raised at most, because its data did not fit; 127 where a group held
        /// something not finite.
        raised: u32,
        /// Groups whose step was raised.
        raised_groups: u32,
        /// Values that are not zero; those that pad channels are.
        nonzero: u32,
        /// Unused; zero.
        reserved_0: u32,
        /// Unused; zero.
        reserved_1: u32,
        /// Unused; zero.
        reserved_2: u32,
    }
}

impl Bound {
    /// Size of the block.
    pub const BYTES: u64 = size_of::<Self>() as u64;

    /// A block that asks for an error of at most `bound`.
    ///
    /// # Errors
    /// A bound that is not from 2^-81 to 2^99.
    pub fn wanted(bound: f32) -> Result<Self, StashError> {
        let limits = 2.0_f32.powi(-81)..=2.0_f32.powi(99);
        if !limits.contains(&bound) {
            return Err(StashError::Bound(bound));
        }
        let step = (2.0 * f64::from(bound) * (1.0 - 1.0 / 8192.0)) as f32;
        Ok(Self {
            step,
            inverse: (1.0 / f64::from(step)) as f32,
            raised: 0,
            raised_groups: 0,
            nonzero: 0,
            reserved_0: 0,
            reserved_1: 0,
            reserved_2: 0,
        })
    }

    /// The bound that was asked for.
    #[must_use]
    pub fn asked(&self) -> f64 {
        f64::from(self.step) / 2.0 / (1.0 - 1.0 / 8192.0)
    }

    /// The bound that holds for every value, after the encoder has run: no decoded value is further from the original. Infinite if the data
    /// held an infinity or NaN.
    #[must_use]
    pub fn achieved(&self) -> f64 {
        if self.raised >= 127 {
            return f64::INFINITY;
        }
        self.asked() * 2.0_f64.powi(self.raised as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_refused_that_the_arithmetic_cannot_hold() {
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-30, 1e35] {
            assert!(matches!(Bound::wanted(bad), Err(StashError::Bound(_))));
        }
        let bound = Bound::wanted(0.01).unwrap();
        assert!((bound.asked() - 0.01).abs() < 1e-8);
        let raised = Bound { raised: 3, ..bound };
        assert!((raised.achieved() - 0.08).abs() < 1e-7);
    }
}
