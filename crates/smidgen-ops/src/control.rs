//! The control block: what changes from step to step, in a small region of device memory that all steps share.

use smidgen_gpu::params;

params! {
    /// The control block as it stands on the device.
    ///
    /// The host writes the first [`HOST_BYTES`](Control::HOST_BYTES) before every step and the whole block once at the start;
    /// the rest belongs to the device.
    pub struct Control {
        /// Step size of the optimisers.
        learning_rate: f32,
        /// `1 - beta1^t` of Adam in step `t` (from 1).
        first_correction: f32,
        /// `1 - beta2^t` of Adam in step `t` (from 1).
        second_correction: f32,
        /// Seed of everything random in this step.
        seed: u32,
        /// Samples that the mean loss is over, where they are more than a batch holds (its micro-batches together); 0 for those of the batch.
        samples: u32,
        /// Factor of every gradient; 1 unless clipping writes it.
        gradient_scale: f32,
        /// Not 0 once a loss or a gradient norm was not finite. Optimisers then change nothing, so that the parameters stay as
        /// they were before the bad step; only the host clears it.
        halted: u32,
        /// Not 0 if this step is skipped: its gradients, multiplied by a loss scale, were not finite. Optimisers then change nothing; the
        /// next step is another matter.
        skipped: u32,
    }
}

impl Control {
    /// Size of the block.
    pub const BYTES: u64 = size_of::<Self>() as u64;
    /// The leading bytes that the host writes before every step.
    pub const HOST_BYTES: u64 = 20;

    /// The bias corrections `1 - beta^t` of Adam for step `step`, which counts from 1.
    #[must_use]
    pub fn corrections(betas: (f64, f64), step: u64) -> (f32, f32) {
        let correction = |beta: f64| (1.0 - beta.powf(step as f64)) as f32;
        (correction(betas.0), correction(betas.1))
    }
}

impl Default for Control {
    /// A block that halts nothing and scales nothing, with a learning rate of 0.
    fn default() -> Self {
        Self {
            learning_rate: 0.0,
            first_correction: 1.0,
            second_correction: 1.0,
            seed: 0,
            samples: 0,
            gradient_scale: 1.0,
            halted: 0,
            skipped: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_part_ends_before_the_gradient_scale() {
        assert_eq!(Control::BYTES, 32);
        let offset = std::mem::offset_of!(Control, gradient_scale) as u64;
        assert_eq!(offset, Control::HOST_BYTES);
    }

    #[test]
    fn corrections_start_at_the_complement_of_beta_and_approach_one() {
        let (first, second) = Control::corrections((0.9, 0.999), 1);
        assert!((first - 0.1).abs() < 1e-7 && (second - 0.001).abs() < 1e-9);
        assert_eq!(Control::corrections((0.9, 0.999), 1_000_000), (1.0, 1.0));
    }
}
