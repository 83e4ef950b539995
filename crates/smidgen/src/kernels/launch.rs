//! The launches of one operation.

use super::bind::{Binder, split};
use super::codes;
use super::convert::{
    activation_kind, convolution_shape, cross_entropy, divisor, map_shape, option_a, rehearsal_of,
    statistics_kind, window,
};
use super::filter;
use super::slices;
use super::sparse::blocks_of;
use super::update::clip_launches;
use crate::Error;
use crate::tuning::Choices;
use smidgen_gpu::{DeviceFacts, Launch};
use smidgen_graph::{Layout, MapShape, OperationKind, RehearsalMemory, Source, ValueId};
use smidgen_ops::{
    activation, batch_norm, clip, concat, dropout, elementwise, loss, pool, rehearsal, shortcut,
    slopes,
};

pub(super) fn launch(
    at: &Binder<'_>,
    operation: usize,
    kind: &OperationKind,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Vec<Launch>, Error> {
    let images = at.slab.map(|slab| slab.images);
    let usable = |class| super::usable(&class, images, facts, choices);
    let variant = super::shape_class(at.program, kind).and_then(usable);
    let region = |id: &ValueId| at.region(*id);
    let derivative_of =
        |source: &Option<Source>| source.as_ref().map(|source| at.source(source)).transpose();
    let optional = |id: &Option<ValueId>| id.as_ref().map(region).transpose();
    Ok(match kind {
        OperationKind::Convolution {
            attributes,
            shape,
            input,
            weight,
            bias,
            output,
            moments,
        } => {
            let convolution = convolution_shape(attributes, *shape);
            if let Some(blocks) = blocks_of(at.program, *weight) {
                let layer = (attributes, &blocks, convolution);
                let values = [*weight, *output];
                let options = [optional(bias)?, optional(moments)?];
                return at.sparse_forward(layer, input, values, options, facts);
            }
            let regions = smidgen_conv::Forward {
                input: at.source(input)?,
                weight: region(weight)?,
                bias: optional(bias)?,
                output: region(output)?,
                workspace: at.workspace(operation),
            };
            let Some(moments) = optional(moments)? else {
                return Ok(smidgen_conv::forward(
                    &convolution,
                    facts,
                    variant,
                    &regions,
                )?);
            };
            if smidgen_conv::takes_moments(&convolution, facts, variant)? {
                smidgen_conv::forward_with_moments(&convolution, facts, variant, &regions, moments)?
            } else {
                let mut launches = smidgen_conv::forward(&convolution, facts, variant, &regions)?;
                let output_shape = smidgen_ops::MapShape::new(
                    convolution.batch,
                    convolution.output_channels,
                    convolution.output_height(),
                    convolution.output_width(),
                );
                let output = regions.output;
                launches.push(batch_norm::moments(&output_shape, facts, output, moments)?);
                launches
            }
        }
        OperationKind::ConvolutionInputGradient {
            attributes,
            shape,
            output_gradient,
            weight,
            input_gradient,
            accumulate,
            derivative,
        } => {
            let convolution = convolution_shape(attributes, *shape);
            if let Some(blocks) = blocks_of(at.program, *weight) {
                let layer = (attributes, &blocks, convolution);
                let values = [*output_gradient, *weight, *input_gradient];
                let finish = (*accumulate, derivative_of(derivative)?);
                return at.sparse_input_gradient(layer, values, finish, facts);
            }
            let regions = smidgen_conv::InputGradient {
                output_gradient: region(output_gradient)?,
                weight: region(weight)?,
                input_gradient: region(input_gradient)?,
                accumulate: *accumulate,
                derivative: derivative_of(derivative)?,
                workspace: at.workspace(operation),
            };
            smidgen_conv::input_gradient(&convolution, facts, variant, &regions)?
        }
        OperationKind::ConvolutionWeightGradient {
            attributes,
            shape,
            input,
            coded,
            output_gradient,
            weight_gradient,
            bias_gradient,
        } => {
            let convolution = convolution_shape(attributes, *shape);
            let coded = (input, coded.as_ref(), *shape);
            let input = codes::source(at, coded)?;
            if blocks_of(at.program, *weight_gradient).is_some() {
                let values = [*output_gradient, *weight_gradient];
                let bias = optional(bias_gradient)?;
                let launches =
                    at.sparse_weight_gradient(operation, convolution, input, values, bias, facts)?;
                return codes::on_load(at, coded, launches);
            }
            let regions = smidgen_conv::WeightGradient {
                input,
                output_gradient: region(output_gradient)?,
                weight_gradient: region(weight_gradient)?,
                bias_gradient: optional(bias_gradient)?,
                workspace: at.workspace(operation),
            };
            let launches = smidgen_conv::weight_gradient(&convolution, facts, variant, &regions)?;
            codes::on_load(at, coded, launches)?
        }
        OperationKind::ConvolutionBackward {
            attributes,
            shape,
            input,
            coded,
            output_gradient,
            weight,
            weight_gradient,
            bias_gradient,
            input_gradient,
            accumulate,
            derivative,
        } => {
            let convolution = convolution_shape(attributes, *shape);
            let coded = (input, coded.as_ref(), *shape);
            let (input, output_gradient) = (codes::source(at, coded)?, region(output_gradient)?);
            let workspace = at.workspace(operation);
            let by_input = smidgen_conv::InputGradient {
                output_gradient,
                weight: region(weight)?,
                input_gradient: region(input_gradient)?,
                accumulate: *accumulate,
                derivative: derivative.then_some(input),
                workspace,
            };
            let by_weight = smidgen_conv::WeightGradient {
                input,
                output_gradient,
                weight_gradient: region(weight_gradient)?,
                bias_gradient: optional(bias_gradient)?,
                workspace,
            };
            let classes = super::shape_classes(at.program, kind).into_iter();
            let mut variants = classes.map(usable);
            let variants = [0; 2].map(|_| variants.next().flatten());
            let launches =
                smidgen_conv::backward(&convolution, facts, variants, &by_input, &by_weight)?;
            codes::on_load(at, coded, launches)?
        }
        OperationKind::FilterPatchSums { .. }
        | OperationKind::FilterPatchAverages { .. }
        | OperationKind::FilterWeightGradient { .. }
        | OperationKind::FilterBiasGradient { .. }
        | OperationKind::FilterTapSums { .. }
        | OperationKind::FilterPatchGradient { .. }
        | OperationKind::FilterInputGradient { .. } => {
            filter::launches(at, operation, kind, facts)?
        }
        OperationKind::KeepSlopes {
            shape,
            input,
            slopes,
        } => slopes::keep(&map_shape(*shape), &at.source(input)?, region(slopes)?)?,
        OperationKind::SlopesBackward {
            shape,
            output_gradient,
            slopes,
            normalisation,
            input_gradient,
        } => slopes::backward(
            &map_shape(*shape),
            region(output_gradient)?,
            optional(slopes)?,
            optional(normalisation)?,
            region(input_gradient)?,
        )?,
        OperationKind::BatchNormStatistics { shape, .. } => {
            let (regions, input) = statistics(at, kind)?;
            let shape = map_shape(*shape);
            match at.program.value(input).layout {
                Layout::Moments(_) => vec![batch_norm::merge(&shape, facts, &regions)?],
                _ => {
                    let workspace = at.needed_workspace(operation)?;
                    batch_norm::statistics(&shape, facts, &regions, workspace)?
                }
            }
        }
        OperationKind::BatchNormPrepare {
            channels,
            epsilon,
            scale,
            shift,
            running_mean,
            running_variance,
            normalisation,
        } => {
            let regions = batch_norm::PrepareEval {
                running_mean: region(running_mean)?,
                running_variance: region(running_variance)?,
                gamma: region(scale)?,
                beta: region(shift)?,
                normalisation: region(normalisation)?,
                epsilon: *epsilon,
            };
            batch_norm::prepare_eval(&smidgen_ops::MapShape::new(1, *channels, 1, 1), &regions)?
        }
        OperationKind::BatchNormBackward {
            batch_statistics,
            input,
            coded,
            ..
        } => {
            let (shape, activation, regions) = normalisation_backward(at, operation, kind)?;
            let way = statistics_kind(*batch_statistics);
            let launches =
                batch_norm::backward(&map_shape(shape), facts, activation, way, &regions)?;
            codes::on_load(at, (input, coded.as_ref(), shape), launches)?
        }
        OperationKind::Apply {
            shape,
            input,
            output,
        } => activation::apply(&map_shape(*shape), &at.source(input)?, region(output)?)?,
        OperationKind::ActivationBackward {
            shape,
            output_gradient,
            source,
            input_gradient,
        } => {
            let regions = activation::Backward {
                value: at.source(source)?,
                output_gradient: region(output_gradient)?,
                input_gradient: region(input_gradient)?,
            };
            activation::backward(&map_shape(*shape), &regions)?
        }
        OperationKind::Add {
            shape,
            activation,
            left,
            right,
            output,
        } => {
            let regions = elementwise::Add {
                left: at.source(left)?,
                right: at.source(right)?,
                output: region(output)?,
            };
            elementwise::add(&map_shape(*shape), activation_kind(*activation), &regions)?
        }
        OperationKind::Accumulate {
            shape,
            source,
            target,
        } => elementwise::accumulate(map_shape(*shape).bytes(), region(target)?, region(source)?)?,
        OperationKind::Copy {
            shape,
            source,
            target,
        } => elementwise::copy(map_shape(*shape).bytes(), region(source)?, region(target)?)?,
        OperationKind::Concat {
            shape,
            inputs,
            output,
        } => {
            let part = |source: &Source| {
                let value = at.program.value(source.value);
                let shape = value.layout.map().ok_or_else(|| Error::UnknownValue {
                    name: value.name.clone(),
                })?;
                Ok::<_, Error>(concat::Part {
                    channels: shape.channels,
                    map: at.source(source)?,
                })
            };
            let parts = inputs.iter().map(part).collect::<Result<Vec<_>, _>>()?;
            concat::forward(&map_shape(*shape), &parts, region(output)?)?
        }
        OperationKind::ConcatBackward {
            shape,
            channel_offset,
            channels,
            output_gradient,
            input_gradient,
        } => {
            let part = concat::Part {
                channels: *channels,
                map: region(input_gradient)?.into(),
            };
            concat::backward_part(
                &map_shape(*shape),
                region(output_gradient)?,
                *channel_offset,
                &part,
            )?
        }
        OperationKind::Shortcut {
            shape,
            stride,
            output_channels,
            channel_offset,
            input,
            output,
        } => {
            let shortcut = option_a(*shape, *stride, *output_channels, *channel_offset);
            shortcut::forward(&shortcut, &at.source(input)?, region(output)?)?
        }
        OperationKind::ShortcutBackward {
            shape,
            stride,
            output_channels,
            channel_offset,
            output_gradient,
            input_gradient,
            accumulate,
        } => {
            let shortcut = option_a(*shape, *stride, *output_channels, *channel_offset);
            shortcut::backward(
                &shortcut,
                *accumulate,
                region(output_gradient)?,
                region(input_gradient)?,
            )?
        }
        OperationKind::MaxPool {
            shape,
            attributes,
            input,
            output,
            taps,
        } => pool::max(
            &window(*shape, attributes),
            &at.source(input)?,
            region(output)?,
            optional(taps)?,
        )?,
        OperationKind::MaxPoolBackward {
            shape,
            attributes,
            output_gradient,
            taps,
            input_gradient,
            derivative,
        } => {
            let window = window(*shape, attributes);
            pool::max_backward(
                &window,
                region(taps)?,
                region(output_gradient)?,
                derivative_of(derivative)?.as_ref(),
                region(input_gradient)?,
            )?
        }
        OperationKind::AveragePool {
            shape,
            attributes,
            input,
            output,
        } => pool::average(
            &window(*shape, attributes),
            divisor(attributes),
            &at.source(input)?,
            region(output)?,
        )?,
        OperationKind::AveragePoolBackward {
            shape,
            attributes,
            output_gradient,
            input_gradient,
            derivative,
        } => {
            let window = window(*shape, attributes);
            pool::average_backward(
                &window,
                divisor(attributes),
                region(output_gradient)?,
                derivative_of(derivative)?.as_ref(),
                region(input_gradient)?,
            )?
        }
        OperationKind::GlobalAveragePool {
            shape,
            input,
            output,
        } => pool::global_average(&map_shape(*shape), &at.source(input)?, region(output)?)?,
        OperationKind::GlobalAveragePoolBackward {
            shape,
            output_gradient,
            input_gradient,
            derivative,
        } => pool::global_average_backward(
            &map_shape(*shape),
            region(output_gradient)?,
            derivative_of(derivative)?.as_ref(),
            region(input_gradient)?,
        )?,
        OperationKind::Dropout {
            shape,
            probability,
            stream,
            control,
            input,
            output,
        } => {
            let layer = dropout::Dropout {
                rate: *probability,
                layer: *stream,
            };
            let regions = dropout::Regions {
                control: region(control)?,
                input: at.source(input)?,
                output: region(output)?,
            };
            dropout::dropout_part(&map_shape(*shape), at.among(shape.batch), &layer, &regions)?
        }
        OperationKind::DropoutBackward {
            shape,
            probability,
            stream,
            control,
            output_gradient,
            input_gradient,
        } => {
            let layer = dropout::Dropout {
                rate: *probability,
                layer: *stream,
            };
            let regions = dropout::Regions {
                control: region(control)?,
                input: region(output_gradient)?.into(),
                output: region(input_gradient)?,
            };
            dropout::dropout_part(&map_shape(*shape), at.among(shape.batch), &layer, &regions)?
        }
        OperationKind::Encode {
            shape,
            code,
            stream,
            control,
            input,
            stash,
            slope,
            bound,
        } => {
            let held = (*stash, slope.as_ref(), *bound);
            codes::encode(at, (*code, *shape, *stream), *control, input, held)?
        }
        OperationKind::Decode {
            shape,
            code,
            stash,
            output,
        } => codes::decode(at, (*code, *shape), *stash, *output)?,
        OperationKind::InSlices {
            slices,
            producer,
            readers,
        } => slices::launches(at, operation, (*slices, producer, readers), facts, choices)?,
        OperationKind::CrossEntropy {
            shape,
            label_smoothing,
            logits,
            labels,
            control,
            metrics,
            logit_gradient,
            forgetting,
            rehearsal,
        } => {
            let forgetting = counting(at, *forgetting)?;
            if let (Some((memory, images, map)), Some(gradient)) = (rehearsal, logit_gradient) {
                let loss = rehearsal::RehearsalLoss {
                    logits: region(logits)?,
                    gradient: region(gradient)?,
                    metrics: region(metrics)?,
                    workspace: at.needed_workspace(operation)?,
                    control: region(control)?,
                    forgetting,
                };
                let own = rehearsal_of(*map, shape.channels, memory);
                let regions = rehearsal_regions(at, memory, *labels, *images)?;
                return Ok(own.loss(1.0, facts, &regions, &loss)?);
            }
            let regions = loss::CrossEntropyRegions {
                logits: region(logits)?,
                labels: region(labels)?,
                gradient: optional(logit_gradient)?,
                metrics: region(metrics)?,
                workspace: at.needed_workspace(operation)?,
                control: region(control)?,
                forgetting,
            };
            loss::cross_entropy(&cross_entropy(*shape, *label_smoothing), facts, &regions)?
        }
        OperationKind::Rehearse {
            shape,
            classes,
            memory,
            labels,
            images,
        } => {
            let regions = rehearsal_regions(at, memory, *labels, *images)?;
            vec![rehearsal_of(*shape, *classes, memory).load(facts, &regions)?]
        }
        OperationKind::ScaleLoss {
            shape,
            gradient,
            scale,
        } => vec![clip::scale_loss(
            map_shape(*shape).bytes(),
            region(gradient)?,
            region(scale)?,
        )?],
        OperationKind::ClipNorm {
            max_norm,
            gradients,
            control,
            loss_scale,
        } => {
            let control = (*control, *loss_scale);
            clip_launches(at, operation, *max_norm, gradients, control, facts)?
        }
        OperationKind::GrowthScores {
            attributes,
            shape,
            blocks,
            input,
            coded,
            output_gradient,
            scores,
        } => {
            let coded = (input, coded.as_ref(), *shape);
            let input = codes::source(at, coded)?;
            let layer = (convolution_shape(attributes, *shape), blocks);
            let values = [*output_gradient, *scores];
            let launches = at.growth_scores(operation, layer, input, values, variant, facts)?;
            codes::on_load(at, coded, launches)?
        }
        OperationKind::Mutation {
            parameter,
            scores,
            states,
        } => at.mutation(*parameter, states, Some(*scores))?,
        // Launched with the others that follow.
        OperationKind::Update { .. } => Vec::new(),
    })
}

/// Where and how the statistics of a normalisation are taken, and of which value.
pub(super) fn statistics(
    at: &Binder<'_>,
    kind: &OperationKind,
) -> Result<(batch_norm::Statistics, ValueId), Error> {
    let &OperationKind::BatchNormStatistics {
        epsilon,
        momentum,
        input,
        scale,
        shift,
        running_mean,
        running_variance,
        normalisation,
        ..
    } = kind
    else {
        return Err(no_normalisation());
    };
    let regions = batch_norm::Statistics {
        input: at.region(input)?,
        running_mean: at.region(running_mean)?,
        running_variance: at.region(running_variance)?,
        gamma: at.region(scale)?,
        beta: at.region(shift)?,
        normalisation: at.region(normalisation)?,
        epsilon,
        momentum,
    };
    Ok((regions, input))
}

/// What the backward pass of a normalisation reads and writes, with the shape and the activation of its input.
pub(super) fn normalisation_backward(
    at: &Binder<'_>,
    operation: usize,
    kind: &OperationKind,
) -> Result<(MapShape, smidgen_gpu::Activation, batch_norm::Backward), Error> {
    let OperationKind::BatchNormBackward {
        shape,
        output_gradient,
        input,
        coded,
        input_gradient,
        scale_gradient,
        shift_gradient,
        ..
    } = kind
    else {
        return Err(no_normalisation());
    };
    let mut workspace = at.needed_workspace(operation)?;
    // Frozen: the sums are needed all the same, their home is the workspace.
    let mut sums = |id: &Option<ValueId>| match id {
        Some(id) => at.region(*id),
        None => Ok(split(&mut workspace, map_shape(*shape).vector_bytes())),
    };
    let (gamma_gradient, beta_gradient) = (sums(scale_gradient)?, sums(shift_gradient)?);
    let source = codes::source(at, (input, coded.as_ref(), *shape))?;
    let normalisation = input.normalisation.unwrap_or(input.value);
    let regions = batch_norm::Backward {
        input: source.region,
        normalisation: at.region(normalisation)?,
        output_gradient: at.region(*output_gradient)?,
        workspace,
        gamma_gradient,
        beta_gradient,
        input_gradient: at.region(*input_gradient)?,
    };
    Ok((*shape, source.activation, regions))
}

/// For what no program gives.
fn no_normalisation() -> Error {
    Error::UnknownValue {
        name: "a normalisation".into(),
    }
}

/// Where the forgetting of examples is counted, if it is.
pub(super) fn counting(
    at: &Binder<'_>,
    records: Option<ValueId>,
) -> Result<Option<loss::Forgetting>, Error> {
    let counted = |id: ValueId| {
        let examples = (at.program.value(id).layout.bytes() / 4) as u32;
        (at.region(id)).map(|records| loss::Forgetting { records, examples })
    };
    records.map(counted).transpose()
}

fn rehearsal_regions(
    at: &Binder<'_>,
    memory: &RehearsalMemory,
    labels: ValueId,
    images: ValueId,
) -> Result<rehearsal::RehearsalRegions, Error> {
    Ok(rehearsal::RehearsalRegions {
        words: at.region(labels)?,
        images: at.region(images)?,
        kept_images: at.region(memory.images)?,
        kept_logits: at.region(memory.logits)?,
    })
}
