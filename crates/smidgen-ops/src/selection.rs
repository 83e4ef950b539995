//! Which numbers are the largest, found on the device.

use crate::OpsError;
use crate::error::expect_regions;
use smidgen_gpu::{Launch, Region, params};

params! { struct TopKParams { count: u32, wanted: u32 } }

/// Marks the `wanted` largest magnitudes of `count` numbers: a word each in `selected`, 1 or 0. Of equal ones, those of lowest index;
/// exactly `wanted` are marked, found by a histogram of the bits (NaN counts as the largest of all).
///
/// One workgroup does it all: meant for what runs once in many steps.
///
/// # Errors
/// More wanted than there are, none or more than 2^30 numbers, a region that is too small.
pub fn top_k(count: u32, wanted: u32, input: Region, selected: Region) -> Result<Launch, OpsError> {
    const NAME: &str = "top_k";
    if count == 0 || count > 1 << 30 || wanted > count {
        return Err(OpsError::shape(
            NAME,
            format!(
                "{wanted} of {count} numbers; choose from 1 to 2^30 numbers, and no more than there are"
            ),
        ));
    }
    let bytes = u64::from(count) * 4;
    expect_regions(
        NAME,
        &[("input", input, bytes), ("selected", selected, bytes)],
    )?;
    Ok(Launch::new(
        "ops/top_k.wgsl",
        &[],
        &TopKParams { count, wanted },
        vec![input, selected],
        [1, 1, 1],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn the_parameters_match_their_shader() {
        assert_params_match::<TopKParams>("ops/top_k.wgsl");
    }
}
