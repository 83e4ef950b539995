//! Both gradients of a convolution in one dispatch that reads the output gradient once, where the variants allow it.

use crate::passes::{sized, sized_source};
use crate::select::{candidates, choose};
use crate::strips::{ByInput, Strips};
use crate::weight_gradient::in_shares;
use crate::{
    ConvolutionShape, InputGradient, Pass, ShapeError, StripTile, Variant, WeightGradient,
    bias_gradient, input_gradient, weight_gradient,
};
use smidgen_gpu::{DeviceFacts, Launch};

/// The variants that compute both gradients of a shape in one dispatch and are worth measuring as that, beside the fastest [`candidates`]
/// of the two passes one after the other.
///
/// # Errors
/// A shape that is not valid.
pub fn fused_candidates(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
) -> Result<Vec<Variant>, ShapeError> {
    // What fuses needs no more room than its rule, which is not made to depend on any.
    let by_weight = candidates(Pass::WeightGradient, shape, facts, 0)?;
    let mut fused = candidates(Pass::InputGradient, shape, facts, 0)?;
    fused.retain(|variant| matches!(variant, Variant::Strips(_)) && by_weight.contains(variant));
    Ok(fused)
}

/// Whether [`backward`] computes both gradients in one dispatch by these variants (the defaults where none are given) of the input gradient
/// and of the weight gradient: where they are the same, of a family that can. The results are the same bits, fused or not.
///
/// # Errors
/// A shape that is not valid, or a variant that does not fit it.
pub fn fuses(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    variants: [Option<Variant>; 2],
) -> Result<bool, ShapeError> {
    Ok(fused(shape, facts, variants)?.is_some())
}

fn fused(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    [by_input, by_weight]: [Option<Variant>; 2],
) -> Result<Option<StripTile>, ShapeError> {
    let by_input = choose(by_input, Pass::InputGradient, shape, facts)?;
    let by_weight = choose(by_weight, Pass::WeightGradient, shape, facts)?;
    Ok(match by_input {
        Variant::Strips(tile) if by_input == by_weight => Some(tile),
        _ => None,
    })
}

/// Launches of [`weight_gradient`] and [`input_gradient`]: fused where the variants are (see [`fuses`]), the two read one output gradient,
/// and the derivative that the input gradient is multiplied with, if any, is that of the weight gradient's input; else one after the
/// other. The workspace is the weight gradient's.
///
/// The idea of computing both from one reading of the output gradient: Shao et al., "InterGrad: Energy-Efficient Training of Convolutional
/// Neural Networks via Interleaved Gradient Scheduling", IEEE TCAS-I 70(5), 2023.
///
/// # Errors
/// As the two.
pub fn backward(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    variants: [Option<Variant>; 2],
    by_input: &InputGradient,
    by_weight: &WeightGradient,
) -> Result<Vec<Launch>, ShapeError> {
    let alike = by_input.output_gradient == by_weight.output_gradient
        && (by_input.derivative).is_none_or(|derivative| derivative == by_weight.input);
    let Some(tile) = fused(shape, facts, variants)?.filter(|_| alike) else {
        let mut launches = weight_gradient(shape, facts, variants[1], by_weight)?;
        launches.extend(input_gradient(shape, facts, variants[0], by_input)?);
        return Ok(launches);
    };
    let input = sized_source("input", by_weight.input, shape)?;
    let output_gradient = sized(
        "output gradient",
        by_weight.output_gradient,
        shape.output_bytes(),
    )?;
    let total = sized(
        "weight gradient",
        by_weight.weight_gradient,
        shape.weight_bytes(),
    )?;
    let gather = ByInput {
        weight: sized("weight", by_input.weight, shape.weight_bytes())?,
        input_gradient: sized(
            "input gradient",
            by_input.input_gradient,
            shape.input_bytes(),
        )?,
        accumulate: by_input.accumulate,
        derivative: by_input.derivative.is_some(),
    };
    let strips = Strips {
        pass: Pass::WeightGradient,
        shape,
        tile,
    };
    let share = strips.share(by_weight.workspace.map_or(0, |workspace| workspace.size));
    let mut launches = in_shares(&share, by_weight.workspace, total, &|partial| {
        strips.backward(
            &share,
            output_gradient,
            Some(input),
            Some(&gather),
            Some(partial),
        )
    });
    if let Some(total) = by_weight.bias_gradient {
        launches.extend(bias_gradient(
            shape,
            facts,
            output_gradient,
            total,
            by_weight.workspace,
        )?);
    }
    Ok(launches)
}
