use serde::{Deserialize, Serialize};

/// How the learning rate goes over a run, as a factor of the base rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Always the base rate.
    Constant,
    /// Times `factor` after every `every` epochs.
    Step {
        /// Epochs between two drops.
        every: u32,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// From zero to the base rate over `warm_up` epochs, then down to zero along half a cosine.
    Cosine {
        /// Epochs of linear warm-up.
        warm_up: f64,
    },
}

impl Schedule {
    /// The factor at `step` (from 0) of `steps`, with `steps_per_epoch`.
    #[must_use]
    pub fn factor(&self, step: u64, steps: u64, steps_per_epoch: u64) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::Step { every, factor } => {
                let epoch = step / steps_per_epoch.max(1);
                factor.powi((epoch / u64::from(every.max(1))) as i32)
            }
            Self::Cosine { warm_up } => {
                let warm = warm_up * steps_per_epoch as f64;
                let at = step as f64;
                if at < warm {
                    return (at + 1.0) / warm.max(1.0);
                }
                let progress = (at - warm) / (steps as f64 - warm).max(1.0);
                0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_falls_from_one_to_nearly_zero() {
        let schedule = Schedule::Cosine { warm_up: 0.0 };
        assert_eq!(schedule.factor(0, 100, 10), 1.0);
        assert!((schedule.factor(50, 100, 10) - 0.5).abs() < 1e-12);
        assert!(schedule.factor(99, 100, 10) < 1e-3);
    }

    #[test]
    fn warm_up_rises_to_one() {
        let schedule = Schedule::Cosine { warm_up: 1.0 };
        assert_eq!(schedule.factor(0, 100, 10), 0.1);
        assert_eq!(schedule.factor(9, 100, 10), 1.0);
        assert_eq!(schedule.factor(10, 100, 10), 1.0);
    }

    #[test]
    fn steps_drop_at_epochs() {
        let schedule = Schedule::Step {
            every: 2,
            factor: 0.1,
        };
        assert_eq!(schedule.factor(19, 100, 10), 1.0);
        assert!((schedule.factor(20, 100, 10) - 0.1).abs() < 1e-12);
        assert!((schedule.factor(40, 100, 10) - 0.01).abs() < 1e-12);
    }
}
