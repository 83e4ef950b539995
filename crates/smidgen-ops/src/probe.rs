//! A kernel that computes nothing of use, to measure how fast the device multiplies and adds.

use crate::OpsError;
use crate::error::check_regions;
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

params! { struct FmaPeakParams { groups: u32, rounds: u32, multiplier: f32, addend: f32 } }

const GROUP: u64 = 64;
const STEPS_IN_ROUND: u64 = 32;

/// How much arithmetic a launch of [`fma_peak`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FmaPeak {
    /// Independent chains of four numbers that an invocation holds, 1 to 16: more hide the latency of an addition, too many do not
    /// fit the registers.
    pub chains: u32,
    /// Rounds of 32 steps.
    pub rounds: u32,
    /// Workgroups of 64 invocations.
    pub groups: u32,
}

impl FmaPeak {
    /// What each step multiplies by: the chains converge instead of growing.
    pub const MULTIPLIER: f32 = 0.999;
    /// What each step adds.
    pub const ADDEND: f32 = 0.001;

    /// Multiplications and additions of a launch, counted apart.
    #[must_use]
    pub fn operations(&self) -> u64 {
        let steps = u64::from(self.rounds) * STEPS_IN_ROUND;
        u64::from(self.groups) * GROUP * steps * u64::from(self.chains) * 8
    }

    /// Bytes the launch writes.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        u64::from(self.groups) * GROUP * 16
    }
}

/// Chains of multiply-adds, in registers.
///
/// # Errors
/// No chains or more than 16, no groups or more than 2^20, no rounds, a region that is too small or cannot be bound.
pub fn fma_peak(probe: &FmaPeak, facts: &DeviceFacts, output: Region) -> Result<Launch, OpsError> {
    const NAME: &str = "fma_peak";
    if !(1..=16).contains(&probe.chains)
        || !(1..=1 << 20).contains(&probe.groups)
        || probe.rounds == 0
    {
        return Err(OpsError::shape(
            NAME,
            format!(
                "{} chains, {} groups, {} rounds; there must be 1 to 16 chains, 1 to 1048576 groups and at least 1 round",
                probe.chains, probe.groups, probe.rounds
            ),
        ));
    }
    check_regions(NAME, facts, &[("output", output, probe.output_bytes())])?;
    let params = FmaPeakParams {
        groups: probe.groups,
        rounds: probe.rounds,
        multiplier: FmaPeak::MULTIPLIER,
        addend: FmaPeak::ADDEND,
    };
    Ok(Launch::new(
        "ops/fma_peak.wgsl",
        &[("CHAINS", probe.chains.to_string())],
        &params,
        vec![output],
        folded_grid(u64::from(probe.groups)),
    ))
}
