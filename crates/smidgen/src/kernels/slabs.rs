//! The launches of an operation on maps that stand in slabs: those of one slab after the other. What is over the whole batch (gradients of parameters,
//! statistics of a normalisation, the loss) is completed over the slabs, in their order.

use super::bind::{Binder, Slab, WORKSPACE_ALIGNMENT, split};
use super::codes;
use super::convert::{convolution_shape, cross_entropy, map_shape, statistics_kind};
use super::launch::{counting, launch};
use crate::Error;
use crate::tuning::Choices;
use smidgen_gpu::{DeviceFacts, Launch, Region};
use smidgen_graph::{Layout, MapShape, Operation, OperationKind, Program, ValueId};
use smidgen_ops::{batch_norm, elementwise, loss};

/// Streams of random numbers of one slab and the next are so far apart: more than a program has.
const STREAMS_OF_A_SLAB: u32 = 1 << 20;

fn of_images(shape: MapShape, images: u32) -> MapShape {
    MapShape {
        batch: images,
        ..shape
    }
}

fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(WORKSPACE_ALIGNMENT)
}

/// The gradients of parameters that an operation sums over the pictures, each with its bytes.
fn sums(kind: &OperationKind) -> Vec<(ValueId, u64)> {
    match kind {
        OperationKind::ConvolutionWeightGradient {
            attributes,
            shape,
            weight_gradient,
            bias_gradient,
            ..
        }
        | OperationKind::ConvolutionBackward {
            attributes,
            shape,
            weight_gradient,
            bias_gradient,
            ..
        } => {
            let shape = convolution_shape(attributes, *shape);
            let bias = bias_gradient.map(|id| (id, shape.bias_bytes()));
            let weight = (*weight_gradient, shape.weight_bytes());
            [weight].into_iter().chain(bias).collect()
        }
        _ => Vec::new(),
    }
}

/// Bytes of workspace of an operation whose maps stand in slabs. `of` tells those of an operation on one slab.
pub(super) fn workspace(
    program: &Program,
    kind: &OperationKind,
    facts: &DeviceFacts,
    of: impl Fn(&OperationKind, Option<u32>) -> Result<u64, Error>,
) -> Result<u64, Error> {
    let slabs = program.slabs();
    match kind {
        OperationKind::BatchNormStatistics { shape, input, .. }
            if !matches!(program.value(*input).layout, Layout::Moments(_)) =>
        {
            let moments = |images| {
                batch_norm::statistics_workspace(&map_shape(of_images(*shape, images)), facts)
            };
            return Ok(slabs.bytes(moments));
        }
        OperationKind::BatchNormBackward {
            shape,
            scale_gradient,
            ..
        } => {
            let shapes: Vec<_> = (slabs.each())
                .map(|images| map_shape(of_images(*shape, images)))
                .collect();
            let unwanted = match scale_gradient {
                Some(_) => 0,
                None => 2 * aligned(map_shape(*shape).vector_bytes()),
            };
            return Ok(unwanted + batch_norm::backward_in_slabs_workspace(&shapes, facts));
        }
        OperationKind::CrossEntropy { .. } => return of(kind, None),
        _ => {}
    }
    let needed = (slabs.each()).map(|images| of(&kind.of_images(images), Some(images)));
    let needed = needed.collect::<Result<Vec<_>, _>>()?;
    Ok(aside(kind) + needed.into_iter().max().unwrap_or(0))
}

/// The most bytes of gradients that stand in a workspace beside what a kernel takes of it; none where maps stand in one piece.
pub(crate) fn largest_aside(programs: &[Program]) -> u64 {
    let divided = programs
        .iter()
        .filter(|program| program.slabs().count() > 1);
    let operations = divided.flat_map(|program| &program.operations);
    operations
        .map(|operation| aside(&operation.kind))
        .max()
        .unwrap_or(0)
}

fn aside(kind: &OperationKind) -> u64 {
    sums(kind).iter().map(|(_, bytes)| aligned(*bytes)).sum()
}

/// Whether an operation touches something that stands in slabs.
fn touches_maps(program: &Program, operation: &Operation) -> bool {
    let ids = operation.reads().into_iter().chain(operation.writes());
    (ids.into_iter()).any(|id| program.value(id).layout.of_images(1).is_some())
}

pub(super) fn launches(
    at: &Binder<'_>,
    operation: usize,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Vec<Launch>, Error> {
    let kind = &at.program.operations[operation].kind;
    match kind {
        OperationKind::BatchNormStatistics { shape, .. } => {
            return statistics(at, operation, kind, *shape, facts);
        }
        OperationKind::BatchNormBackward { .. } => {
            return normalisation_backward(at, operation, kind, facts);
        }
        OperationKind::CrossEntropy { .. } => return cross_entropies(at, operation, kind, facts),
        _ if !touches_maps(at.program, &at.program.operations[operation]) => {
            return launch(at, operation, kind, facts, choices);
        }
        _ => {}
    }
    let (mut room, mut aside) = (at.workspace(operation), Vec::new());
    for (id, bytes) in sums(kind) {
        let mut rest = room.map_or_else(|| at.needed_workspace(operation), Ok)?;
        aside.push((id, split(&mut rest, bytes)));
        room = Some(rest);
    }
    let room = room.filter(|room| room.size > 0);
    let mut launches = Vec::new();
    for slab in each(at) {
        let mut own = kind.of_images(slab.images);
        if let OperationKind::Encode { stream, .. } = &mut own {
            *stream = stream.wrapping_add(slab.number * STREAMS_OF_A_SLAB);
        }
        // The sums of the first slab stand where those of all do.
        let aside = if slab.number == 0 {
            &[]
        } else {
            aside.as_slice()
        };
        let own_at = Binder {
            slab: Some(slab),
            elsewhere: aside,
            room: Some(room),
            ..*at
        };
        launches.extend(launch(&own_at, operation, &own, facts, choices)?);
        for (id, part) in aside {
            launches.extend(elementwise::accumulate(part.size, at.whole(*id)?, *part)?);
        }
    }
    Ok(launches)
}

fn each(at: &Binder<'_>) -> Vec<Slab> {
    let slabs = at.program.slabs().each();
    let slabs = (0..).zip(slabs);
    slabs
        .map(|(number, images)| Slab { number, images })
        .collect()
}

/// The statistics of a normalisation: of every slab the moments, unless what makes the map has left them, then those of all together.
fn statistics(
    at: &Binder<'_>,
    operation: usize,
    kind: &OperationKind,
    shape: MapShape,
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let (regions, input) = super::launch::statistics(at, kind)?;
    let (slabs, layout) = (at.program.slabs(), at.program.value(input).layout);
    let mut launches = Vec::new();
    let lists = |of: &dyn Fn(u32) -> u64| batch_norm::Lists {
        count: slabs.count(),
        stride: slabs.stride(of),
    };
    let (input, lists) = if let Layout::Moments(_) = layout {
        let of = |images| layout.of_images(images).as_ref().map_or(0, Layout::bytes);
        (at.whole(input)?, lists(&of))
    } else {
        let room = at.needed_workspace(operation)?;
        let of =
            |images| batch_norm::statistics_workspace(&map_shape(of_images(shape, images)), facts);
        let lists = lists(&of);
        for slab in each(at) {
            let own = map_shape(of_images(shape, slab.images));
            let list = Region {
                offset: room.offset + u64::from(slab.number) * lists.stride,
                size: of(slab.images),
                ..room
            };
            let map = at.at_slab(slab).region(input)?;
            launches.push(batch_norm::moments(&own, facts, map, list)?);
        }
        (room, lists)
    };
    let regions = batch_norm::Statistics { input, ..regions };
    launches.push(batch_norm::merge_slabs(
        &map_shape(shape),
        facts,
        &regions,
        lists,
    )?);
    Ok(launches)
}

fn normalisation_backward(
    at: &Binder<'_>,
    operation: usize,
    kind: &OperationKind,
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let OperationKind::BatchNormBackward {
        batch_statistics,
        input,
        coded,
        ..
    } = kind
    else {
        return Ok(Vec::new());
    };
    let (mut slabs, mut loaded) = (Vec::new(), Vec::new());
    let mut activation = None;
    for slab in each(at) {
        let (own_at, own) = (at.at_slab(slab), kind.of_images(slab.images));
        let (shape, own_activation, regions) =
            super::launch::normalisation_backward(&own_at, operation, &own)?;
        activation = Some(own_activation);
        slabs.push((map_shape(shape), regions));
        loaded.push((own_at, shape));
    }
    let Some(activation) = activation else {
        return Ok(Vec::new());
    };
    let way = statistics_kind(*batch_statistics);
    let mut launches = batch_norm::backward_in_slabs(&slabs, facts, activation, way)?;
    for (own_at, shape) in loaded {
        launches = codes::on_load(&own_at, (input, coded.as_ref(), shape), launches)?;
    }
    Ok(launches)
}

fn cross_entropies(
    at: &Binder<'_>,
    operation: usize,
    kind: &OperationKind,
    facts: &DeviceFacts,
) -> Result<Vec<Launch>, Error> {
    let &OperationKind::CrossEntropy {
        shape,
        label_smoothing,
        logits,
        labels,
        control,
        metrics,
        logit_gradient,
        forgetting,
        ..
    } = kind
    else {
        return Ok(Vec::new());
    };
    let regions = loss::CrossEntropyRegions {
        logits: at.whole(logits)?,
        labels: at.whole(labels)?,
        gradient: None,
        metrics: at.whole(metrics)?,
        workspace: at.needed_workspace(operation)?,
        control: at.whole(control)?,
        forgetting: counting(at, forgetting)?,
    };
    let slab = |slab: Slab| {
        let own = at.at_slab(slab);
        Ok(loss::LogitSlab {
            samples: slab.images,
            logits: own.region(logits)?,
            gradient: logit_gradient.map(|id| own.region(id)).transpose()?,
        })
    };
    let slabs = each(at).into_iter().map(slab);
    let slabs = slabs.collect::<Result<Vec<_>, Error>>()?;
    let whole = cross_entropy(shape, label_smoothing);
    Ok(loss::cross_entropy_in_slabs(
        &whole, facts, &regions, &slabs,
    )?)
}
