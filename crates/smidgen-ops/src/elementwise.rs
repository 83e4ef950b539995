//! Sums and copies, element by element.

use crate::error::{expect_regions, expect_source};
use crate::shape::{QUAD_BYTES, plane_grid};
use crate::{Activation, MapShape, OpsError};
use smidgen_gpu::{Launch, Region, Source, folded_grid, params};

params! { struct CountParams { count: u32 } }
params! { struct CopyParams { count: u32, input_first: u32, output_first: u32 } }
params! { struct AddParams { pixels: u32 } }

/// A launch of a kernel that takes 1024 quads a workgroup and is told how many there are.
fn flat_launch(shader: &'static str, elements: u64, regions: Vec<Region>) -> Launch {
    let params = CountParams {
        count: elements as u32,
    };
    Launch::new(
        shader,
        &[],
        &params,
        regions,
        folded_grid(elements.div_ceil(1024)),
    )
}

/// The regions to bind, and whether the output takes the place of the first input and is not bound again.
pub(crate) fn in_place_regions(inputs: &[Region], output: Region) -> (Vec<Region>, bool) {
    let in_place = inputs.first() == Some(&output);
    let mut bound = inputs.to_vec();
    if !in_place {
        bound.push(output);
    }
    (bound, in_place)
}

/// Regions of [`add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Add {
    /// One term.
    pub left: Source,
    /// The other term; the same as `left`, or of another region.
    pub right: Source,
    /// The activated sum.
    pub output: Region,
}

/// `output = activation(left + right)`. Backward is that of the activation, for both terms.
///
/// # Errors
/// An empty or too large shape, a region too small for it, or terms that are activated differently from each other or the sum
/// (where any is at all).
pub fn add(
    shape: &MapShape,
    activation: Activation,
    regions: &Add,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "add";
    shape.check(NAME)?;
    let Add {
        left,
        right,
        output,
    } = *regions;
    expect_source(NAME, "left", &left, shape)?;
    expect_source(NAME, "right", &right, shape)?;
    expect_regions(NAME, &[("output", output, shape.bytes())])?;
    let applied = [left.activation, right.activation, activation];
    let active = |one: Activation| one != Activation::Identity;
    let kind = applied.into_iter().find(|one| active(*one));
    if applied.iter().any(|one| active(*one) && Some(*one) != kind) {
        return Err(OpsError::shape(
            NAME,
            format!("{applied:?} are not one activation; apply one of the terms' beforehand"),
        ));
    }
    let double = left == right;
    let flags = [
        ("DOUBLE", double),
        ("LEFT_NORMALISE", left.normalisation.is_some()),
        ("RIGHT_NORMALISE", right.normalisation.is_some() && !double),
        ("LEFT_ACTIVATE", active(left.activation)),
        ("RIGHT_ACTIVATE", active(right.activation) && !double),
        ("ACTIVATE", active(activation)),
    ];
    let defines: Vec<_> = (flags.into_iter())
        .filter_map(|(flag, given)| given.then_some(flag))
        .chain(kind.and_then(Activation::flag))
        .map(|flag| (flag, String::new()))
        .collect();
    let mut bound = vec![left.region];
    if double {
        bound.extend(left.normalisation);
    } else {
        bound.push(right.region);
        bound.extend(left.normalisation);
        bound.extend(right.normalisation);
    }
    bound.push(output);
    let params = AddParams {
        pixels: shape.pixels(),
    };
    Ok(vec![Launch::new(
        "ops/add.wgsl",
        &defines,
        &params,
        bound,
        plane_grid(NAME, shape.pixels(), shape.quads())?,
    )])
}

/// `target += source` over the first `bytes` of both, of activations, weights or vectors alike.
///
/// # Errors
/// `bytes` is no multiple of 16 above 0 or above 16 GiB, or a region is smaller.
pub fn accumulate(bytes: u64, target: Region, source: Region) -> Result<Vec<Launch>, OpsError> {
    check_bytes("accumulate", bytes)?;
    expect_regions(
        "accumulate",
        &[("target", target, bytes), ("source", source, bytes)],
    )?;
    Ok(vec![flat_launch(
        "ops/accumulate.wgsl",
        bytes / QUAD_BYTES,
        vec![source, target],
    )])
}

/// `output = input` over the first `bytes` of both; nothing to launch where they are one region.
///
/// # Errors
/// `bytes` is no multiple of 16 above 0 or above 16 GiB, or a region is smaller.
pub fn copy(bytes: u64, input: Region, output: Region) -> Result<Vec<Launch>, OpsError> {
    check_bytes("copy", bytes)?;
    expect_regions(
        "copy",
        &[("input", input, bytes), ("output", output, bytes)],
    )?;
    if input == output {
        return Ok(Vec::new());
    }
    Ok(vec![copy_quads(
        (bytes / QUAD_BYTES) as u32,
        (input, 0),
        (output, 0),
    )])
}

/// The same for `bytes` in the middle of either region, each from a byte on: as small parts of a vector cannot be bound by themselves.
///
/// # Errors
/// As [`copy`], or a first byte that is no multiple of 16.
pub fn copy_part(
    bytes: u64,
    (input, input_first): (Region, u64),
    (output, output_first): (Region, u64),
) -> Result<Launch, OpsError> {
    check_bytes("copy", bytes)?;
    for first in [input_first, output_first] {
        check_bytes("copy", bytes.saturating_add(first))?;
    }
    expect_regions(
        "copy",
        &[
            ("input", input, input_first + bytes),
            ("output", output, output_first + bytes),
        ],
    )?;
    let quads = |bytes: u64| (bytes / QUAD_BYTES) as u32;
    let (input, output) = ((input, quads(input_first)), (output, quads(output_first)));
    Ok(copy_quads(quads(bytes), input, output))
}

fn copy_quads(
    count: u32,
    (input, input_first): (Region, u32),
    (output, output_first): (Region, u32),
) -> Launch {
    let params = CopyParams {
        count,
        input_first,
        output_first,
    };
    Launch::new(
        "ops/copy.wgsl",
        &[],
        &params,
        vec![input, output],
        folded_grid(u64::from(count.div_ceil(1024))),
    )
}

fn check_bytes(operator: &'static str, bytes: u64) -> Result<(), OpsError> {
    if bytes == 0 || !bytes.is_multiple_of(QUAD_BYTES) || bytes / QUAD_BYTES > 1 << 30 {
        return Err(OpsError::shape(
            operator,
            format!("{bytes} bytes; a multiple of 16 is needed, at least 16 and at most 16 GiB"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{AddParams, CopyParams, CountParams};
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<AddParams>("ops/add.wgsl");
        assert_params_match::<CountParams>("ops/accumulate.wgsl");
        assert_params_match::<CopyParams>("ops/copy.wgsl");
    }
}
