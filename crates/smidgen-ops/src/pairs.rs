//! Optimisers of weights whose gradient is the same at every tap, as gradient filtering gives it: gradient and state are held once a pair of
//! channels, which for a 3x3 kernel is a ninth. Weight decay is decoupled, since a weight's own share differs from tap to tap.

use crate::error::check_regions;
use crate::optimizer::{AdamDecay, AdamOptions, AdamRegions, SgdOptions, SgdRegions};
use crate::{OpsError, control::Control};
use smidgen_gpu::{DeviceFacts, Launch, folded_grid, params};

params! { struct SgdPairsParams { count: u32, inner: u32, taps: u32, weight_decay: f32, factor: f32 } }
params! {
    struct AdamPairsParams {
        count: u32, inner: u32, taps: u32, weight_decay: f32, first_rest: f32, second_beta: f32, second_rest: f32, epsilon: f32,
    }
}

/// How a weight stands beside its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairs {
    /// `vec4`s of the gradient, and of each state.
    pub count: u32,
    /// `vec4`s of one tap that stand together in the weight, before those of the next tap.
    pub inner: u32,
    /// Taps.
    pub taps: u32,
}

impl Pairs {
    fn check(&self, operator: &'static str) -> Result<[u64; 2], OpsError> {
        let bytes = u64::from(self.count) * 16;
        let weight = bytes.saturating_mul(u64::from(self.taps));
        let whole = self.inner > 0 && self.count > 0 && self.count.is_multiple_of(self.inner);
        if !whole || self.taps == 0 || weight / 16 > u64::from(u32::MAX / 2) {
            return Err(OpsError::shape(
                operator,
                format!("{self:?} do not make a weight that a kernel can index"),
            ));
        }
        Ok([bytes, weight])
    }
}

/// One step of stochastic gradient descent; with a momentum, the weight decay does not enter it.
///
/// # Errors
/// Sizes that make no weight, a momentum region without momentum or the reverse, or a region that is too small or too large to bind.
pub fn sgd(
    options: &SgdOptions,
    facts: &DeviceFacts,
    regions: &SgdRegions,
    pairs: Pairs,
) -> Result<Launch, OpsError> {
    const OPERATOR: &str = "SGD of pairs";
    let [bytes, weight] = pairs.check(OPERATOR)?;
    if (options.momentum > 0.0) != regions.momentum.is_some() {
        return Err(OpsError::shape(
            OPERATOR,
            format!(
                "a momentum of {} needs a region for it exactly where it is not 0",
                options.momentum
            ),
        ));
    }
    let mut checked = vec![
        ("parameter", regions.parameter, weight),
        ("gradient", regions.gradient, bytes),
        ("control", regions.control, Control::BYTES),
    ];
    let mut bound = vec![regions.control, regions.gradient, regions.parameter];
    let mut defines = Vec::new();
    if let Some(momentum) = regions.momentum {
        checked.push(("momentum", momentum, bytes));
        bound.push(momentum);
        defines.push(("MOMENTUM", String::new()));
        if options.nesterov {
            defines.push(("NESTEROV", String::new()));
        }
    }
    check_regions(OPERATOR, facts, &checked)?;
    let params = SgdPairsParams {
        count: pairs.count,
        inner: pairs.inner,
        taps: pairs.taps,
        weight_decay: options.weight_decay,
        factor: options.momentum,
    };
    let grid = folded_grid(u64::from(pairs.count).div_ceil(256));
    Ok(Launch::new(
        "ops/sgd_pairs.wgsl",
        &defines,
        &params,
        bound,
        grid,
    ))
}

/// One step of AdamW, or of Adam without weight decay.
///
/// # Errors
/// Sizes that make no weight, a decay that enters the moments, or a region that is too small or too large to bind.
pub fn adam(
    options: &AdamOptions,
    facts: &DeviceFacts,
    regions: &AdamRegions,
    pairs: Pairs,
) -> Result<Launch, OpsError> {
    const OPERATOR: &str = "Adam of pairs";
    let [bytes, weight] = pairs.check(OPERATOR)?;
    if options.decay == AdamDecay::Gradient && options.weight_decay != 0.0 {
        return Err(OpsError::shape(
            OPERATOR,
            "a decay that enters the moments differs from tap to tap; decouple it",
        ));
    }
    check_regions(
        OPERATOR,
        facts,
        &[
            ("parameter", regions.parameter, weight),
            ("gradient", regions.gradient, bytes),
            ("mean", regions.mean, bytes),
            ("square", regions.square, bytes),
            ("control", regions.control, Control::BYTES),
        ],
    )?;
    let params = AdamPairsParams {
        count: pairs.count,
        inner: pairs.inner,
        taps: pairs.taps,
        weight_decay: options.weight_decay,
        first_rest: (1.0 - options.betas.0) as f32,
        second_beta: options.betas.1 as f32,
        second_rest: (1.0 - options.betas.1) as f32,
        epsilon: options.epsilon,
    };
    Ok(Launch::new(
        "ops/adam_pairs.wgsl",
        &[],
        &params,
        vec![
            regions.control,
            regions.gradient,
            regions.parameter,
            regions.mean,
            regions.square,
        ],
        folded_grid(u64::from(pairs.count).div_ceil(256)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<SgdPairsParams>("ops/sgd_pairs.wgsl");
        assert_params_match::<AdamPairsParams>("ops/adam_pairs.wgsl");
    }
}
