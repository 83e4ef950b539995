//! Sums and copies, element by element.

use crate::error::expect_regions;
use crate::shape::QUAD_BYTES;
use crate::{Activation, MapShape, OpsError};
use smidgen_gpu::{Launch, Region, folded_grid, params};

params! { struct CountParams { count: u32 } }

/// A launch of a kernel that takes 1024 quads a workgroup and is told how many there are.
pub(crate) fn flat_launch(
    shader: &'static str,
    defines: &[(&str, String)],
    elements: u64,
    regions: Vec<Region>,
) -> Launch {
    let params = CountParams {
        count: elements as u32,
    };
    Launch::new(
        shader,
        defines,
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
    pub left: Region,
    /// The other term.
    pub right: Region,
    /// The activated sum; may be the same region as `left`.
    pub output: Region,
}

/// `output = activation(left + right)`. Backward is that of the activation, for both terms.
///
/// # Errors
/// An empty or too large shape, a region too small for it, or a value added to itself in its own place.
pub fn add(
    shape: &MapShape,
    activation: Activation,
    regions: &Add,
) -> Result<Vec<Launch>, OpsError> {
    shape.check("add")?;
    let bytes = shape.bytes();
    expect_regions(
        "add",
        &[
            ("left", regions.left, bytes),
            ("right", regions.right, bytes),
            ("output", regions.output, bytes),
        ],
    )?;
    if regions.left == regions.right && regions.left == regions.output {
        return Err(OpsError::shape(
            "add",
            "a value cannot be added to itself in its own place",
        ));
    }
    if regions.left != regions.right {
        return Ok(vec![sum(activation, shape.elements(), regions)]);
    }
    // A launch may not bind one region twice, so a value is added to a copy of itself.
    let mut launches = copy(bytes, regions.left, regions.output)?;
    let doubled = Add {
        left: regions.output,
        ..*regions
    };
    launches.push(sum(activation, shape.elements(), &doubled));
    Ok(launches)
}

fn sum(activation: Activation, elements: u64, regions: &Add) -> Launch {
    let (bound, in_place) = in_place_regions(&[regions.left, regions.right], regions.output);
    flat_launch(
        "ops/add.wgsl",
        &activation.defines(in_place),
        elements,
        bound,
    )
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
    let regions = Add {
        left: target,
        right: source,
        output: target,
    };
    Ok(vec![
        sum(Activation::Identity, bytes / QUAD_BYTES, &regions).labelled("ops/accumulate"),
    ])
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
    Ok(vec![flat_launch(
        "ops/copy.wgsl",
        &[],
        bytes / QUAD_BYTES,
        vec![input, output],
    )])
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
    use super::CountParams;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_their_shaders() {
        for shader in [
            "ops/activation_forward.wgsl",
            "ops/activation_backward.wgsl",
            "ops/add.wgsl",
            "ops/copy.wgsl",
        ] {
            assert_params_match::<CountParams>(shader);
        }
    }
}
