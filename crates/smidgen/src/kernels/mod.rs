//! From the operations of a program to the launches of the kernel crates.

mod bind;
mod layout;

pub(crate) use layout::{pack, unpack};

use crate::Error;
use bind::Binder;
use smidgen_conv::ConvolutionShape;
use smidgen_gpu::{DeviceFacts, Launch, Region};
use smidgen_graph::{
    Activation, ConvolutionAttributes, Layout, MapShape, OperationKind, Optimizer, PoolAttributes,
    Program, ValueId,
};
use smidgen_ops::{
    activation, batch_norm, clip, concat, dropout, elementwise, loss, optimizer, pool, shortcut,
};
use smidgen_plan::{Limits, ProgramPlan};

/// Regions within one workspace start at multiples of this.
const WORKSPACE_ALIGNMENT: u64 = 256;

/// Bytes of workspace that each operation of `program` needs.
pub(crate) fn workspaces(program: &Program, facts: &DeviceFacts) -> Result<Vec<u64>, Error> {
    program
        .operations
        .iter()
        .map(|operation| workspace(program, &operation.kind, facts))
        .collect()
}

fn workspace(program: &Program, kind: &OperationKind, facts: &DeviceFacts) -> Result<u64, Error> {
    Ok(match kind {
        OperationKind::ConvolutionWeightGradient {
            attributes, shape, ..
        } => {
            smidgen_conv::weight_gradient_workspace(&convolution_shape(attributes, *shape), facts)?
        }
        OperationKind::BatchNormStatistics { shape, .. } => {
            batch_norm::statistics_workspace(&map_shape(*shape), facts)
        }
        OperationKind::BatchNormBackward {
            shape,
            scale_gradient,
            ..
        } => {
            let shape = map_shape(*shape);
            let unwanted = if scale_gradient.is_some() {
                0
            } else {
                2 * shape.vector_bytes().next_multiple_of(WORKSPACE_ALIGNMENT)
            };
            unwanted + batch_norm::backward_workspace(&shape, facts)
        }
        OperationKind::CrossEntropy {
            shape,
            label_smoothing,
            ..
        } => loss::workspace_bytes(&cross_entropy(*shape, *label_smoothing)),
        OperationKind::ClipNorm { gradients, .. } => {
            clip_slots(program, gradients) + WORKSPACE_ALIGNMENT
        }
        _ => 0,
    })
}

/// The launches of each operation of `program` at the places of its plan.
pub(crate) fn launches(
    program: &Program,
    plan: &ProgramPlan,
    limits: Limits,
    facts: &DeviceFacts,
) -> Result<Vec<Vec<Launch>>, Error> {
    let binder = Binder {
        program,
        plan,
        limits,
    };
    let operations = program.operations.iter().enumerate();
    operations
        .map(|(at, operation)| {
            let launches = launch(&binder, at, &operation.kind, facts)?;
            Ok(launches
                .into_iter()
                .map(|launch| {
                    let label = format!("{} {}", operation.layer, launch.label);
                    launch.labelled(label)
                })
                .collect())
        })
        .collect()
}

fn launch(
    at: &Binder<'_>,
    operation: usize,
    kind: &OperationKind,
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let region = |id: &ValueId| at.region(*id);
    let optional = |id: &Option<ValueId>| id.as_ref().map(region).transpose();
    Ok(match kind {
        OperationKind::Convolution {
            attributes,
            shape,
            input,
            weight,
            bias,
            output,
        } => {
            let regions = smidgen_conv::Forward {
                input: region(input)?,
                weight: region(weight)?,
                bias: optional(bias)?,
                output: region(output)?,
            };
            smidgen_conv::forward(&convolution_shape(attributes, *shape), facts, &regions)?
        }
        OperationKind::ConvolutionInputGradient {
            attributes,
            shape,
            output_gradient,
            weight,
            input_gradient,
            accumulate,
        } => {
            let regions = smidgen_conv::InputGradient {
                output_gradient: region(output_gradient)?,
                weight: region(weight)?,
                input_gradient: region(input_gradient)?,
                accumulate: *accumulate,
            };
            smidgen_conv::input_gradient(&convolution_shape(attributes, *shape), facts, &regions)?
        }
        OperationKind::ConvolutionWeightGradient {
            attributes,
            shape,
            input,
            output_gradient,
            weight_gradient,
            bias_gradient,
        } => {
            let regions = smidgen_conv::WeightGradient {
                input: region(input)?,
                output_gradient: region(output_gradient)?,
                weight_gradient: region(weight_gradient)?,
                bias_gradient: optional(bias_gradient)?,
                workspace: at.workspace(operation),
            };
            smidgen_conv::weight_gradient(&convolution_shape(attributes, *shape), facts, &regions)?
        }
        OperationKind::BatchNormStatistics {
            shape,
            epsilon,
            momentum,
            input,
            mean,
            inverse_deviation,
            running_mean,
            running_variance,
        } => {
            let regions = batch_norm::Statistics {
                input: region(input)?,
                workspace: at.needed_workspace(operation)?,
                running_mean: region(running_mean)?,
                running_variance: region(running_variance)?,
                mean: region(mean)?,
                inverse_deviation: region(inverse_deviation)?,
                epsilon: *epsilon,
                momentum: *momentum,
            };
            batch_norm::statistics(&map_shape(*shape), facts, &regions)?
        }
        OperationKind::BatchNormPrepare {
            channels,
            epsilon,
            running_mean,
            running_variance,
            mean,
            inverse_deviation,
        } => {
            let regions = batch_norm::PrepareEval {
                running_mean: region(running_mean)?,
                running_variance: region(running_variance)?,
                mean: region(mean)?,
                inverse_deviation: region(inverse_deviation)?,
                epsilon: *epsilon,
            };
            batch_norm::prepare_eval(&smidgen_ops::MapShape::new(1, *channels, 1, 1), &regions)?
        }
        OperationKind::BatchNormApply {
            shape,
            activation,
            input,
            mean,
            inverse_deviation,
            scale,
            shift,
            output,
        } => {
            let regions = batch_norm::Apply {
                input: region(input)?,
                mean: region(mean)?,
                inverse_deviation: region(inverse_deviation)?,
                gamma: region(scale)?,
                beta: region(shift)?,
                output: region(output)?,
            };
            batch_norm::apply(&map_shape(*shape), activation_kind(*activation), &regions)?
        }
        OperationKind::BatchNormBackward {
            shape,
            activation,
            batch_statistics,
            gradient,
            input,
            mean,
            inverse_deviation,
            scale,
            shift,
            scale_gradient,
            shift_gradient,
        } => {
            let shape = map_shape(*shape);
            let gradient = region(gradient)?;
            let mut workspace = at.needed_workspace(operation)?;
            // Frozen: the sums are needed all the same, their home is the workspace.
            let mut sums = |id: &Option<ValueId>| match id {
                Some(id) => at.region(*id),
                None => Ok(split(&mut workspace, shape.vector_bytes())),
            };
            let (gamma_gradient, beta_gradient) = (sums(scale_gradient)?, sums(shift_gradient)?);
            let regions = batch_norm::Backward {
                input: region(input)?,
                mean: region(mean)?,
                inverse_deviation: region(inverse_deviation)?,
                gamma: region(scale)?,
                beta: region(shift)?,
                output_gradient: gradient,
                workspace,
                gamma_gradient,
                beta_gradient,
                input_gradient: gradient,
            };
            let statistics = if *batch_statistics {
                batch_norm::StatisticsKind::Batch
            } else {
                batch_norm::StatisticsKind::Constant
            };
            batch_norm::backward(
                &shape,
                facts,
                activation_kind(*activation),
                statistics,
                &regions,
            )?
        }
        OperationKind::Activation {
            shape,
            activation,
            input,
            output,
        } => {
            let regions = activation::Forward {
                input: region(input)?,
                output: region(output)?,
            };
            activation::forward(&map_shape(*shape), activation_kind(*activation), &regions)?
        }
        OperationKind::ActivationBackward {
            shape,
            activation,
            gradient,
            source,
            from_output,
        } => {
            let gradient = region(gradient)?;
            let regions = activation::Backward {
                value: region(source)?,
                output_gradient: gradient,
                input_gradient: gradient,
            };
            let backward = if *from_output {
                activation::backward_from_output
            } else {
                activation::backward
            };
            backward(&map_shape(*shape), activation_kind(*activation), &regions)?
        }
        OperationKind::Add {
            shape,
            activation,
            left,
            right,
            output,
        } => {
            let regions = elementwise::Add {
                left: region(left)?,
                right: region(right)?,
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
            let part = |id: &ValueId| {
                let Layout::Map(shape) = at.program.value(*id).layout else {
                    return Err(Error::UnknownValue {
                        name: at.program.value(*id).name.clone(),
                    });
                };
                Ok(concat::Part {
                    channels: shape.channels,
                    region: at.region(*id)?,
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
                region: region(input_gradient)?,
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
            shortcut::forward(&shortcut, region(input)?, region(output)?)?
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
            indices,
        } => pool::max(
            &window(*shape, attributes),
            region(input)?,
            region(output)?,
            optional(indices)?,
        )?,
        OperationKind::MaxPoolBackward {
            shape,
            attributes,
            output_gradient,
            indices,
            input_gradient,
        } => {
            let window = window(*shape, attributes);
            pool::max_backward(
                &window,
                region(indices)?,
                region(output_gradient)?,
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
            region(input)?,
            region(output)?,
        )?,
        OperationKind::AveragePoolBackward {
            shape,
            attributes,
            output_gradient,
            input_gradient,
        } => {
            let window = window(*shape, attributes);
            pool::average_backward(
                &window,
                divisor(attributes),
                region(output_gradient)?,
                region(input_gradient)?,
            )?
        }
        OperationKind::GlobalAveragePool {
            shape,
            input,
            output,
        } => pool::global_average(&map_shape(*shape), region(input)?, region(output)?)?,
        OperationKind::GlobalAveragePoolBackward {
            shape,
            output_gradient,
            input_gradient,
        } => pool::global_average_backward(
            &map_shape(*shape),
            region(output_gradient)?,
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
                input: region(input)?,
                output: region(output)?,
            };
            dropout::dropout(&map_shape(*shape), &layer, &regions)?
        }
        OperationKind::DropoutBackward {
            shape,
            probability,
            stream,
            control,
            gradient,
        } => {
            let gradient = region(gradient)?;
            let layer = dropout::Dropout {
                rate: *probability,
                layer: *stream,
            };
            let regions = dropout::Regions {
                control: region(control)?,
                input: gradient,
                output: gradient,
            };
            dropout::dropout(&map_shape(*shape), &layer, &regions)?
        }
        OperationKind::CrossEntropy {
            shape,
            label_smoothing,
            logits,
            labels,
            control,
            metrics,
            logit_gradient,
        } => {
            let regions = loss::CrossEntropyRegions {
                logits: region(logits)?,
                labels: region(labels)?,
                gradient: optional(logit_gradient)?,
                metrics: region(metrics)?,
                workspace: at.needed_workspace(operation)?,
                control: region(control)?,
            };
            loss::cross_entropy(&cross_entropy(*shape, *label_smoothing), facts, &regions)?
        }
        OperationKind::ClipNorm {
            max_norm,
            gradients,
            control,
        } => clip_launches(at, operation, *max_norm, gradients, *control, facts)?,
        OperationKind::Update {
            optimizer,
            parameter,
            gradient,
            states,
            control,
        } => update_launches(
            at,
            *optimizer,
            (*parameter, *gradient, states, *control),
            facts,
        )?,
    })
}

/// Cuts `bytes` off the front of a workspace.
fn split(workspace: &mut Region, bytes: u64) -> Region {
    let front = Region {
        size: bytes,
        ..*workspace
    };
    let taken = bytes.next_multiple_of(WORKSPACE_ALIGNMENT);
    *workspace = Region {
        offset: workspace.offset + taken,
        size: workspace.size - taken,
        ..*workspace
    };
    front
}

fn map_shape(shape: MapShape) -> smidgen_ops::MapShape {
    smidgen_ops::MapShape::new(shape.batch, shape.channels, shape.height, shape.width)
}

fn activation_kind(activation: Activation) -> smidgen_ops::Activation {
    match activation {
        Activation::Identity => smidgen_ops::Activation::Identity,
        Activation::Relu => smidgen_ops::Activation::Relu,
        Activation::Relu6 => smidgen_ops::Activation::Relu6,
        Activation::HardSwish => smidgen_ops::Activation::HardSwish,
        Activation::Silu => smidgen_ops::Activation::Silu,
        Activation::Gelu => smidgen_ops::Activation::Gelu,
    }
}

fn convolution_shape(attributes: &ConvolutionAttributes, input: MapShape) -> ConvolutionShape {
    layout::convolution_shape(attributes, [input.batch, input.height, input.width])
}

fn cross_entropy(shape: MapShape, label_smoothing: f32) -> loss::CrossEntropy {
    loss::CrossEntropy {
        samples: shape.batch,
        classes: shape.channels,
        label_smoothing,
        scale: 1.0,
    }
}

fn option_a(
    input: MapShape,
    stride: u32,
    output_channels: u32,
    channel_offset: u32,
) -> shortcut::Shortcut {
    shortcut::Shortcut {
        input: map_shape(input),
        output_channels,
        channel_offset,
        stride,
    }
}

fn window(input: MapShape, attributes: &PoolAttributes) -> pool::Pool {
    let PoolAttributes {
        kernel,
        stride,
        padding,
        ..
    } = *attributes;
    pool::Pool {
        input: map_shape(input),
        kernel,
        stride,
        padding,
    }
}

fn divisor(attributes: &PoolAttributes) -> pool::Divisor {
    if attributes.count_include_pad {
        pool::Divisor::Window
    } else {
        pool::Divisor::Inside
    }
}

fn clip_slots(program: &Program, gradients: &[ValueId]) -> u64 {
    gradients
        .iter()
        .map(|id| u64::from(clip::slots(words(program, *id))) * 4)
        .sum::<u64>()
        .next_multiple_of(WORKSPACE_ALIGNMENT)
}

fn words(program: &Program, id: ValueId) -> u32 {
    (program.value(id).layout.bytes() / 4) as u32
}

fn clip_launches(
    at: &Binder<'_>,
    operation: usize,
    max_norm: f32,
    gradients: &[ValueId],
    control: ValueId,
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let mut norm = at.needed_workspace(operation)?;
    let slots = split(&mut norm, clip_slots(at.program, gradients));
    let (mut launches, mut first_slot) = (Vec::with_capacity(gradients.len() + 1), 0);
    for id in gradients {
        let count = words(at.program, *id);
        launches.push(clip::sum_of_squares(
            count,
            first_slot,
            facts,
            at.region(*id)?,
            slots,
        )?);
        first_slot += clip::slots(count);
    }
    let regions = clip::ClipRegions {
        slots,
        norm: Region { size: 4, ..norm },
        control: at.region(control)?,
    };
    launches.push(clip::clip(max_norm, first_slot, facts, &regions)?);
    Ok(launches)
}

fn update_launches(
    at: &Binder<'_>,
    optimizer: Optimizer,
    (parameter, gradient, states, control): (ValueId, ValueId, &[ValueId], ValueId),
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let count = words(at.program, parameter);
    let (parameter, gradient, control) = (
        at.region(parameter)?,
        at.region(gradient)?,
        at.region(control)?,
    );
    let state = |index: usize| states.get(index).map(|id| at.region(*id)).transpose();
    let launch = match optimizer {
        Optimizer::Sgd {
            momentum,
            nesterov,
            weight_decay,
        } => {
            let options = optimizer::SgdOptions {
                momentum,
                nesterov,
                weight_decay,
            };
            optimizer::sgd(
                &options,
                facts,
                &optimizer::SgdRegions {
                    parameter,
                    gradient,
                    momentum: state(0)?,
                    control,
                },
                count,
            )?
        }
        Optimizer::Adam {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            decoupled,
        } => {
            let decay = if decoupled {
                optimizer::AdamDecay::Decoupled
            } else {
                optimizer::AdamDecay::Gradient
            };
            let betas = (f64::from(beta1), f64::from(beta2));
            let options = optimizer::AdamOptions {
                betas,
                epsilon,
                weight_decay,
                decay,
            };
            let (Some(mean), Some(square)) = (state(0)?, state(1)?) else {
                return Err(Error::UnknownValue {
                    name: "the two moments of Adam".into(),
                });
            };
            optimizer::adam(
                &options,
                facts,
                &optimizer::AdamRegions {
                    parameter,
                    gradient,
                    mean,
                    square,
                    control,
                },
                count,
            )?
        }
    };
    Ok(vec![launch])
}
