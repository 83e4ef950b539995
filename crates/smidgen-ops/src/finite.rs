//! Counting values that are not finite, to find where a NaN first appeared.

use crate::OpsError;
use crate::error::check_regions;
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

const OPERATOR: &str = "finite check";

params! { struct CountParams { count: u32, slot: u32 } }
params! { struct FillParams { count: u32, value: f32 } }

/// Sets the first `count` counters to zero; to be recorded before the [`check`]s.
///
/// # Errors
/// No counters, or a region that is too small or too large to bind.
pub fn clear(count: u32, facts: &DeviceFacts, counters: Region) -> Result<Launch, OpsError> {
    refuse_count(count)?;
    check_regions(
        OPERATOR,
        facts,
        &[("counters", counters, u64::from(count) * 4)],
    )?;
    // The bits of 0.0 are those of the integer 0.
    let params = FillParams { count, value: 0.0 };
    let grid = folded_grid(u64::from(count.div_ceil(256)));
    Ok(Launch::new(
        "ops/fill.wgsl",
        &[],
        &params,
        vec![counters],
        grid,
    ))
}

/// Adds to the u32 at index `slot` of `counters` how many of the first `count` values are NaN or infinite.
///
/// # Errors
/// No values, or a region that is too small or too large to bind.
pub fn check(
    count: u32,
    slot: u32,
    facts: &DeviceFacts,
    values: Region,
    counters: Region,
) -> Result<Launch, OpsError> {
    refuse_count(count)?;
    check_regions(
        OPERATOR,
        facts,
        &[
            ("values", values, u64::from(count) * 4),
            ("counters", counters, (u64::from(slot) + 1) * 4),
        ],
    )?;
    Ok(Launch::new(
        "ops/count_not_finite.wgsl",
        &[],
        &CountParams { count, slot },
        vec![values, counters],
        folded_grid(u64::from(count.div_ceil(1024))),
    ))
}

fn refuse_count(count: u32) -> Result<(), OpsError> {
    if count == 0 || count > 1 << 31 {
        return Err(OpsError::shape(
            OPERATOR,
            format!("{count} elements; one launch takes 1 to {}", 1u32 << 31),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_the_shaders() {
        assert_params_match::<CountParams>("ops/count_not_finite.wgsl");
        assert_params_match::<FillParams>("ops/fill.wgsl");
    }
}
