//! The launches of filtered backward passes.

use super::bind::Binder;
use crate::Error;
use smidgen_filter::{
    FilterShape, InputGradient, Mask, PatchAverages, PatchGradient, TapSums, Taps, TowardsInput,
    WeightGradient,
};
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
        _ => None,
    })
}

/// The launch of an operation and the one behind it, where one does for both and the plan gave them places beside each other. It computes the bits
/// that two launches do.
pub(super) fn pair(
    at: &Binder<'_>,
    operation: usize,
    facts: &DeviceFacts,
) -> Result<Option<Launch>, Error> {
    let operations = &at.program.operations;
    let Some([first, second]) = operations.get(operation..operation + 2) else {
        return Ok(None);
    };
    if first.phase != second.phase {
        return Ok(None);
    }
    let launches = match (&first.kind, &second.kind) {
        (
            averages @ OperationKind::FilterPatchAverages { .. },
            OperationKind::FilterTapSums { .. },
        ) => {
            let (Some((shape, averages)), Some((_, sums))) =
                (patch_averages(at, averages)?, tap_sums(at, &second.kind)?)
            else {
                return Ok(None);
            };
            smidgen_filter::averages_and_tap_sums(&shape, facts, &averages, &sums)?
        }
        (OperationKind::FilterWeightGradient { averages, .. }, by_input)
            if second.reads().contains(averages) =>
        {
            let (Some((shape, by_weight)), Some((_, by_input))) = (
                weight_gradient(at, operation, &first.kind)?,
                towards_input(at, by_input)?,
            ) else {
                return Ok(None);
            };
            smidgen_filter::gradients(&shape, facts, &by_weight, &by_input)?
        }
        _ => return Ok(None),
    };
    let [launch] = launches.as_slice() else {
        return Ok(None);
    };
    Ok(apart(&launch.regions).then(|| launch.clone()))
}

/// Whether no two regions have a byte in common.
fn apart(regions: &[Region]) -> bool {
    let mut sorted = regions.to_vec();
    sorted.sort();
    sorted.windows(2).all(|pair| {
        pair[0].buffer != pair[1].buffer || pair[0].offset + pair[0].size <= pair[1].offset
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
    if let Some((shape, regions)) = patch_averages(at, kind)? {
        return Ok(smidgen_filter::patch_averages(&shape, facts, &regions)?);
    }
    if let Some((shape, regions)) = tap_sums(at, kind)? {
        return Ok(smidgen_filter::tap_sums(&shape, &regions)?);
    }
    if let Some((shape, regions)) = weight_gradient(at, operation, kind)? {
        return Ok(smidgen_filter::weight_gradient(&shape, facts, &regions)?);
    }
    if let Some((shape, regions)) = towards_input(at, kind)? {
        return Ok(match regions {
            TowardsInput::Map(regions) => smidgen_filter::input_gradient(&shape, facts, &regions)?,
            TowardsInput::Patches(regions) => {
                smidgen_filter::patch_gradient(&shape, facts, &regions)?
            }
        });
    }
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
        _ => Vec::new(),
    })
}

/// Shape and regions of an operation that is one of this kind, here and below.
fn patch_averages(
    at: &Binder<'_>,
    kind: &OperationKind,
) -> Result<Option<(FilterShape, PatchAverages)>, Error> {
    let OperationKind::FilterPatchAverages {
        attributes,
        shape,
        patch,
        output_gradient,
        averages,
    } = kind
    else {
        return Ok(None);
    };
    let regions = PatchAverages {
        output_gradient: at.region(*output_gradient)?,
        patch_averages: at.region(*averages)?,
    };
    Ok(Some((filter_shape(attributes, *shape, *patch), regions)))
}

fn tap_sums(
    at: &Binder<'_>,
    kind: &OperationKind,
) -> Result<Option<(FilterShape, TapSums)>, Error> {
    let OperationKind::FilterTapSums {
        attributes,
        shape,
        patch,
        weight,
        sums,
    } = kind
    else {
        return Ok(None);
    };
    let regions = TapSums {
        weight: at.region(*weight)?,
        tap_sums: at.region(*sums)?,
    };
    Ok(Some((filter_shape(attributes, *shape, *patch), regions)))
}

fn weight_gradient(
    at: &Binder<'_>,
    operation: usize,
    kind: &OperationKind,
) -> Result<Option<(FilterShape, WeightGradient)>, Error> {
    let OperationKind::FilterWeightGradient {
        attributes,
        shape,
        patch,
        sums,
        averages,
        weight_gradient,
    } = kind
    else {
        return Ok(None);
    };
    let shape = filter_shape(attributes, *shape, *patch);
    let gradient = at.region(*weight_gradient)?;
    let regions = WeightGradient {
        patch_sums: at.region(*sums)?,
        patch_averages: at.region(*averages)?,
        taps: if gradient.size < shape.weight_bytes() {
            Taps::Once
        } else {
            Taps::Every
        },
        weight_gradient: gradient,
        workspace: at.workspace(operation),
    };
    Ok(Some((shape, regions)))
}

fn towards_input(
    at: &Binder<'_>,
    kind: &OperationKind,
) -> Result<Option<(FilterShape, TowardsInput)>, Error> {
    let region = |id: &ValueId| at.region(*id);
    Ok(match kind {
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
            let regions = InputGradient {
                patch_averages: region(averages)?,
                weight: region(weight)?,
                input_gradient: region(input_gradient)?,
                accumulate: *accumulate,
                mask,
                normalisation: normalisation.as_ref().map(region).transpose()?,
            };
            let shape = filter_shape(attributes, *shape, *patch);
            Some((shape, TowardsInput::Map(regions)))
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
            let regions = PatchGradient {
                patch_averages: region(averages)?,
                weight: region(weight)?,
                slope_counts: counts.as_ref().map(region).transpose()?,
                normalisation: normalisation.as_ref().map(region).transpose()?,
                stride_before: *stride_before,
                averages_before: region(averages_before)?,
            };
            let shape = filter_shape(attributes, *shape, *patch);
            Some((shape, TowardsInput::Patches(regions)))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_graph::reads_tap_sums;

    #[test]
    fn programs_sum_taps_where_kernels_read_the_sums() {
        for (kernel, stride, dilation) in [
            ([3, 3], [1, 1], [1, 1]),
            ([1, 1], [2, 2], [1, 1]),
            ([3, 1], [1, 2], [4, 3]),
            ([1, 5], [2, 1], [6, 3]),
            ([5, 3], [2, 2], [4, 2]),
        ] {
            for patch in 1..=8 {
                let attributes = ConvolutionAttributes {
                    input_channels: 8,
                    output_channels: 8,
                    kernel,
                    stride,
                    padding: [0, 0],
                    dilation,
                    groups: 1,
                };
                let map = MapShape::new(1, 8, 32, 32);
                let shape = filter_shape(&attributes, map, patch);
                let summed = kernel != [1, 1] && !shape.reads_every_tap();
                assert_eq!(reads_tap_sums(&attributes, patch), summed, "{shape:?}");
            }
        }
    }
}
