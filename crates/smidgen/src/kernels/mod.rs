//! From the operations of a program to the launches of the kernel crates.

mod bind;
mod codes;
mod convert;
mod filter;
mod launch;
mod layout;
mod mutation;
mod slabs;
mod slices;
pub(crate) mod sparse;
mod update;

pub(crate) use codes::StashCodes;
pub(crate) use layout::{pack, unpack};
pub(crate) use mutation::mutations;
pub(crate) use slabs::largest_aside;
pub(crate) use slices::workspace as slices_workspace;

use crate::Error;
use crate::tuning::{Choices, ShapeClass};
use bind::{Binder, WORKSPACE_ALIGNMENT};
use convert::{convolution_shape, cross_entropy, map_shape};
use smidgen_conv::{ConvolutionShape, Pass, Variant};
use smidgen_gpu::{DeviceFacts, Launch};
use smidgen_graph::{ConvolutionAttributes, Layout, MapShape, OperationKind, Program};
use smidgen_ops::{batch_norm, loss};
use smidgen_plan::{Limits, ProgramPlan};
use update::{clip_slots, update_launches, updates_from};

/// What a variant has to be chosen for, of an operation that has several; sparse layers have none.
pub(crate) fn shape_class(program: &Program, kind: &OperationKind) -> Option<ShapeClass> {
    let (pass, attributes, shape, weight) = match kind {
        OperationKind::Convolution {
            attributes,
            shape,
            weight,
            ..
        } => (Pass::Forward, attributes, shape, weight),
        OperationKind::ConvolutionInputGradient {
            attributes,
            shape,
            weight,
            ..
        } => (Pass::InputGradient, attributes, shape, weight),
        OperationKind::ConvolutionWeightGradient {
            attributes,
            shape,
            weight_gradient,
            ..
        } => (Pass::WeightGradient, attributes, shape, weight_gradient),
        OperationKind::GrowthScores {
            attributes,
            shape,
            scores,
            ..
        } => (Pass::WeightGradient, attributes, shape, scores),
        _ => return None,
    };
    if sparse::blocks_of(program, *weight).is_some() {
        return None;
    }
    let shape = class_shape(program, attributes, *shape);
    Some(ShapeClass { pass, shape })
}

/// The shape that a variant is chosen for: of maps in slabs, that of a slab.
fn class_shape(
    program: &Program,
    attributes: &ConvolutionAttributes,
    shape: MapShape,
) -> ConvolutionShape {
    let mut shape = convolution_shape(attributes, shape);
    if program.slabs().count() > 1 {
        shape.batch = program.slab;
    }
    shape
}

/// The same class on the images of a slab, if these are given.
fn of_images(class: ShapeClass, images: Option<u32>) -> ShapeClass {
    let batch = images.unwrap_or(class.shape.batch);
    let shape = ConvolutionShape {
        batch,
        ..class.shape
    };
    ShapeClass { shape, ..class }
}

/// The variant that was chosen for a class; of a slab, which has so many images, if it can compute these: the last has fewer.
fn usable(
    class: &ShapeClass,
    images: Option<u32>,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Option<Variant> {
    let own = of_images(*class, images).shape;
    let fits = |variant: &Variant| {
        images.is_none() || smidgen_conv::fits(*variant, class.pass, &own, facts)
    };
    choices.get(class).filter(fits)
}

/// What variants an operation is computed by are chosen for: of one for both gradients, each of the two; of one in slices, all that it runs.
pub(crate) fn shape_classes(program: &Program, kind: &OperationKind) -> Vec<ShapeClass> {
    match kind {
        OperationKind::ConvolutionBackward {
            attributes, shape, ..
        } => {
            let shape = class_shape(program, attributes, *shape);
            let passes = [Pass::InputGradient, Pass::WeightGradient];
            passes.map(|pass| ShapeClass { pass, shape }).into()
        }
        OperationKind::InSlices {
            producer, readers, ..
        } => (std::iter::once(producer.as_ref()).chain(readers))
            .filter_map(|kind| shape_class(program, kind))
            .collect(),
        _ => shape_class(program, kind).into_iter().collect(),
    }
}

/// The variants of the input gradient and of the weight gradient of a shape.
pub(crate) fn gradient_variants(
    choices: &Choices,
    shape: ConvolutionShape,
) -> [Option<Variant>; 2] {
    [Pass::InputGradient, Pass::WeightGradient].map(|pass| choices.get(&ShapeClass { pass, shape }))
}

/// The variant that was chosen for an operation, if it has several; of one for both gradients it is that of either.
pub(crate) fn variant(
    program: &Program,
    kind: &OperationKind,
    choices: &Choices,
) -> Option<Variant> {
    if let OperationKind::ConvolutionBackward {
        attributes, shape, ..
    } = kind
    {
        return gradient_variants(choices, class_shape(program, attributes, *shape))[1];
    }
    choices.get(&shape_class(program, kind)?)
}

/// The pairs of gradients that one kernel computes, as [`Program::fused`] takes them.
pub(crate) fn fusable(
    program: &Program,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Vec<usize>, Error> {
    let mut pairs = Vec::new();
    for at in program.gradient_pairs() {
        if let OperationKind::ConvolutionWeightGradient {
            attributes,
            shape,
            weight_gradient,
            ..
        } = &program.operations[at].kind
            && sparse::blocks_of(program, *weight_gradient).is_none()
        {
            let shape = class_shape(program, attributes, *shape);
            if smidgen_conv::fuses(&shape, facts, gradient_variants(choices, shape))? {
                pairs.push(at);
            }
        }
    }
    Ok(pairs)
}

/// Bytes of workspace that each operation of `program` needs.
pub(crate) fn workspaces(
    program: &Program,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Vec<u64>, Error> {
    program
        .operations
        .iter()
        .map(|operation| {
            let layer = &operation.layer;
            let of = |kind: &_, images| workspace(program, (layer, kind), images, facts, choices);
            if program.slabs().count() > 1 {
                slabs::workspace(program, &operation.kind, facts, of)
            } else {
                of(&operation.kind, None)
            }
        })
        .collect()
}

/// That of an operation of a layer, on all images or on those of a slab.
fn workspace(
    program: &Program,
    (layer, kind): (&str, &OperationKind),
    images: Option<u32>,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<u64, Error> {
    if let Some(bytes) = sparse::workspace(program, kind, facts)? {
        return Ok(bytes);
    }
    if let Some(class) = shape_class(program, kind) {
        let variant = usable(&class, images, facts, choices);
        let ShapeClass { pass, shape } = &of_images(class, images);
        if matches!(kind, OperationKind::GrowthScores { .. }) {
            return mutation::scores_workspace(shape, facts, variant);
        }
        return Ok(smidgen_conv::workspace(*pass, shape, facts, variant)?);
    }
    Ok(match kind {
        OperationKind::ConvolutionBackward {
            attributes, shape, ..
        } => {
            let pass = Pass::WeightGradient;
            let shape = class_shape(program, attributes, *shape);
            let variant = usable(&ShapeClass { pass, shape }, images, facts, choices);
            let ShapeClass { shape, .. } = of_images(ShapeClass { pass, shape }, images);
            smidgen_conv::workspace(pass, &shape, facts, variant)?
        }
        OperationKind::BatchNormStatistics { shape, input, .. } => {
            match program.value(*input).layout {
                Layout::Moments(_) => 0,
                _ => batch_norm::statistics_workspace(&map_shape(*shape), facts),
            }
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
        OperationKind::InSlices { .. } => {
            slices::workspace(kind, facts, choices)?.ok_or_else(|| slices::unknown(layer))?
        }
        _ => filter::workspace(kind, facts)?.unwrap_or(0),
    })
}

/// The launches of each operation of `program` at the places of its plan. Of operations that are launched together, as updates that follow each other
/// and parts of filtered backward passes, the first has those of all.
pub(crate) fn launches(
    program: &Program,
    plan: &ProgramPlan,
    limits: Limits,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Vec<Vec<Launch>>, Error> {
    let binder = Binder::new(program, plan, limits);
    let in_slabs = program.slabs().count() > 1;
    let mut lists = Vec::with_capacity(program.operations.len());
    while let Some(operation) = program.operations.get(lists.len()) {
        let at = lists.len();
        let layer = || operation.layer.clone();
        let (launches, together, name) =
            if let Some((optimizer, updates)) = updates_from(&program.operations, at) {
                let launches = update_launches(&binder, optimizer, &updates, facts)?;
                let name = match updates.len() {
                    1 => layer(),
                    several => format!("{several} parameters"),
                };
                (launches, updates.len(), name)
            } else if let Some(launch) = filter::pair(&binder, at, facts)? {
                (vec![launch], 2, layer())
            } else if in_slabs {
                (slabs::launches(&binder, at, facts, choices)?, 1, layer())
            } else {
                let launches = launch::launch(&binder, at, &operation.kind, facts, choices)?;
                (launches, 1, layer())
            };
        let placed = launches.into_iter().map(|launch| {
            let label = format!("{name} {}", launch.label);
            binder.in_halves(launch.labelled(label))
        });
        lists.push(placed.collect::<Result<_, _>>()?);
        // What is launched together is the first one's.
        lists.resize(at + together, Vec::new());
    }
    Ok(lists)
}
