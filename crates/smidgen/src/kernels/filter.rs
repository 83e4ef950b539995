//! The launches of filtered backward passes.

use super::bind::Binder;
use crate::Error;
use smidgen_filter::{FilterShape, Mask, Taps};
use smidgen_gpu::{DeviceFacts, Launch};
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
        OperationKind::FilterTapSums {
            attributes,
            shape,
            patch,
            weight,
            sums,
        } => {
            let regions = smidgen_filter::TapSums {
                weight: region(weight)?,
                tap_sums: region(sums)?,
            };
            smidgen_filter::tap_sums(&filter_shape(attributes, *shape, *patch), &regions)?
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
                weight: region(weight)?,
                input_gradient: region(input_gradient)?,
                accumulate: *accumulate,
                mask,
                normalisation: normalisation.as_ref().map(region).transpose()?,
            };
            smidgen_filter::input_gradient(&shape, facts, &regions)?
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
            let regions = smidgen_filter::PatchGradient {
                patch_averages: region(averages)?,
                weight: region(weight)?,
                slope_counts: counts.as_ref().map(region).transpose()?,
                normalisation: normalisation.as_ref().map(region).transpose()?,
                stride_before: *stride_before,
                averages_before: region(averages_before)?,
            };
            smidgen_filter::patch_gradient(&shape, facts, &regions)?
        }
        _ => Vec::new(),
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
