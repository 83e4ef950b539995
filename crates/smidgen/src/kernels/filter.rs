//! The launches of filtered backward passes.

use super::bind::{Binder, WORKSPACE_ALIGNMENT, split};
use crate::Error;
use smidgen_filter::{FilterShape, Mask, Taps};
use smidgen_gpu::{DeviceFacts, Launch, Region};
use smidgen_graph::{Activation, ConvolutionAttributes, MapShape, OperationKind, ValueId};

fn filter_shape(attributes: &ConvolutionAttributes, input: MapShape, patch: u32) -> FilterShape {
    FilterShape {
        batch: input.batch,
        input_channels: attributes.input_channels,
        input_height: input.height,
        input_width: input.width,
        output_channels: attributes.output_channels,
        kernel: attributes.kernel,
        stride: attributes.stride,
        padding: attributes.padding,
        dilation: attributes.dilation,
        depthwise: attributes.is_depthwise(),
        patch,
    }
}

/// Bytes of the tap sums that the input gradient makes for itself, as the weight changes with every step. One tap is its own sum.
fn tap_sums_bytes(shape: &FilterShape) -> u64 {
    if shape.reads_every_tap() || shape.kernel == [1, 1] {
        0
    } else {
        shape.tap_sums_bytes().next_multiple_of(WORKSPACE_ALIGNMENT)
    }
}

/// Bytes of workspace; `None` for an operation that is none of a filter.
pub(super) fn workspace(kind: &OperationKind, facts: &DeviceFacts) -> Result<Option<u64>, Error> {
    Ok(match kind {
        OperationKind::FilterWeightGradient {
            attributes,
            shape,
            patch,
            ..
        } => {
            let shape = filter_shape(attributes, *shape, *patch);
            Some(smidgen_filter::weight_gradient_workspace(&shape, facts)?)
        }
        OperationKind::FilterInputGradient {
            attributes,
            shape,
            patch,
            ..
        }
        | OperationKind::FilterPatchGradient {
            attributes,
            shape,
            patch,
            ..
        } => Some(tap_sums_bytes(&filter_shape(attributes, *shape, *patch))),
        _ => None,
    })
}

/// The launches; none for an operation that is none of a filter.
pub(super) fn launches(
    at: &Binder<'_>,
    operation: usize,
    kind: &OperationKind,
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let region = |id: &ValueId| at.region(*id);
    Ok(match kind {
        OperationKind::FilterPatchSums {
            attributes,
            shape,
            patch,
            input,
            sums,
            counts,
        } => {
            let regions = smidgen_filter::PatchSums {
                input: at.source(input)?,
                patch_sums: region(sums)?,
                slope_counts: counts.as_ref().map(region).transpose()?,
            };
            smidgen_filter::patch_sums(&filter_shape(attributes, *shape, *patch), facts, &regions)?
        }
        OperationKind::FilterPatchAverages {
            attributes,
            shape,
            patch,
            output_gradient,
            averages,
        } => {
            let regions = smidgen_filter::PatchAverages {
                output_gradient: region(output_gradient)?,
                patch_averages: region(averages)?,
            };
            smidgen_filter::patch_averages(
                &filter_shape(attributes, *shape, *patch),
                facts,
                &regions,
            )?
        }
        OperationKind::FilterWeightGradient {
            attributes,
            shape,
            patch,
            sums,
            averages,
            weight_gradient,
        } => {
            let shape = filter_shape(attributes, *shape, *patch);
            let gradient = region(weight_gradient)?;
            let regions = smidgen_filter::WeightGradient {
                patch_sums: region(sums)?,
                patch_averages: region(averages)?,
                taps: if gradient.size < shape.weight_bytes() {
                    Taps::Once
                } else {
                    Taps::Every
                },
                weight_gradient: gradient,
                workspace: at.workspace(operation),
            };
            smidgen_filter::weight_gradient(&shape, facts, &regions)?
        }
        OperationKind::FilterBiasGradient {
            attributes,
            shape,
            patch,
            averages,
            bias_gradient,
        } => {
            let regions = smidgen_filter::BiasGradient {
                patch_averages: region(averages)?,
                bias_gradient: region(bias_gradient)?,
            };
            smidgen_filter::bias_gradient(
                &filter_shape(attributes, *shape, *patch),
                facts,
                &regions,
            )?
        }
        OperationKind::FilterInputGradient {
            attributes,
            shape,
            patch,
            averages,
            weight,
            input_gradient,
            accumulate,
            derivative,
            slopes,
            normalisation,
        } => {
            let shape = filter_shape(attributes, *shape, *patch);
            let (mut launches, weight) = summed_weight(at, operation, &shape, region(weight)?)?;
            let mask = match (derivative, slopes) {
                (Some(source), _) => {
                    let value = region(&source.value)?;
                    Some(if source.activation == Activation::Relu6 {
                        Mask::relu6(value)
                    } else {
                        Mask::relu(value)
                    })
                }
                (None, Some(slopes)) => Some(Mask::Bits(region(slopes)?)),
                (None, None) => None,
            };
            let regions = smidgen_filter::InputGradient {
                patch_averages: region(averages)?,
                weight,
                input_gradient: region(input_gradient)?,
                accumulate: *accumulate,
                mask,
                normalisation: normalisation.as_ref().map(region).transpose()?,
            };
            launches.extend(smidgen_filter::input_gradient(&shape, facts, &regions)?);
            launches
        }
        OperationKind::FilterPatchGradient {
            attributes,
            shape,
            patch,
            averages,
            weight,
            counts,
            normalisation,
            stride_before,
            averages_before,
        } => {
            let shape = filter_shape(attributes, *shape, *patch);
            let (mut launches, weight) = summed_weight(at, operation, &shape, region(weight)?)?;
            let regions = smidgen_filter::PatchGradient {
                patch_averages: region(averages)?,
                weight,
                slope_counts: counts.as_ref().map(region).transpose()?,
                normalisation: normalisation.as_ref().map(region).transpose()?,
                stride_before: *stride_before,
                averages_before: region(averages_before)?,
            };
            launches.extend(smidgen_filter::patch_gradient(&shape, facts, &regions)?);
            launches
        }
        _ => Vec::new(),
    })
}

/// The weight as an input gradient reads it, and the launches that make it so.
fn summed_weight(
    at: &Binder<'_>,
    operation: usize,
    shape: &FilterShape,
    weight: Region,
) -> Result<(Vec<Launch>, Region), Error> {
    if tap_sums_bytes(shape) == 0 {
        return Ok((Vec::new(), weight));
    }
    let mut workspace = at.needed_workspace(operation)?;
    let tap_sums = split(&mut workspace, shape.tap_sums_bytes());
    let regions = smidgen_filter::TapSums { weight, tap_sums };
    Ok((smidgen_filter::tap_sums(shape, &regions)?, tap_sums))
}
