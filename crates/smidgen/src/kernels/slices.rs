//! The launches of an operation in slices: for one slice of channels after the other, what makes the map and those who read it.
//!
//! In planes of quads a slice of the channels of a map is one range of bytes, and so it is of a weight's rows. Where such a range is small it may not
//! begin where a binding can, and is copied; of maps it always has to.

use super::bind::{Binder, WORKSPACE_ALIGNMENT, split};
use super::convert::{activation_kind, convolution_shape, map_shape, statistics_kind};
use crate::Error;
use crate::tuning::{Choices, ShapeClass};
use smidgen_conv::{ConvolutionShape, Pass, Variant};
use smidgen_gpu::{DeviceFacts, Launch, Region, normalisation_bytes};
use smidgen_graph::{OperationKind, Source, ValueId};
use smidgen_ops::{MapShape, batch_norm, elementwise};

/// Where a slice is among how many.
#[derive(Debug, Clone, Copy)]
struct Slice {
    number: u32,
    count: u32,
}

impl Slice {
    /// This slice's share of a region that the slices divide.
    fn of(self, region: Region) -> Region {
        let size = region.size / u64::from(self.count);
        Region {
            offset: region.offset + u64::from(self.number) * size,
            size,
            ..region
        }
    }

    fn first(self, region: Region) -> u64 {
        region.size / u64::from(self.count) * u64::from(self.number)
    }
}

/// The convolution that makes the map, of one slice.
fn producer(
    kind: &OperationKind,
    slices: u32,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Option<(ConvolutionShape, Variant)>, Error> {
    let OperationKind::Convolution {
        attributes, shape, ..
    } = kind
    else {
        return Ok(None);
    };
    let whole = convolution_shape(attributes, *shape);
    let part = ConvolutionShape {
        output_channels: whole.output_channels / slices,
        ..whole
    };
    Ok(variant(Pass::Forward, whole, part, facts, choices)?.map(|variant| (part, variant)))
}

/// The weight gradient of a depthwise convolution, of one slice.
fn depthwise(
    kind: &OperationKind,
    slices: u32,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Option<(ConvolutionShape, Variant)>, Error> {
    let OperationKind::ConvolutionWeightGradient {
        attributes, shape, ..
    } = kind
    else {
        return Ok(None);
    };
    let whole = convolution_shape(attributes, *shape);
    let channels = whole.output_channels / slices;
    let part = ConvolutionShape {
        input_channels: channels,
        output_channels: channels,
        groups: channels,
        ..whole
    };
    Ok(variant(Pass::WeightGradient, whole, part, facts, choices)?.map(|variant| (part, variant)))
}

fn variant(
    pass: Pass,
    whole: ConvolutionShape,
    part: ConvolutionShape,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Option<Variant>, Error> {
    let given = choices.get(&ShapeClass { pass, shape: whole });
    let shapes = (&whole, &part);
    Ok(smidgen_conv::variant_of_part(given, pass, shapes, facts)?)
}

/// Bytes of the workspace: a slice of the map and of all that is small, and what the kernels need beside it. `None` where they cannot do it, or not to
/// the same bits as for the whole.
pub(crate) fn workspace(
    kind: &OperationKind,
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Option<u64>, Error> {
    let OperationKind::InSlices {
        slices,
        producer: made_by,
        readers,
    } = kind
    else {
        return Ok(None);
    };
    let Some((convolution, variant)) = producer(made_by, *slices, facts, choices)? else {
        return Ok(None);
    };
    let channels = convolution.output_channels;
    let aligned = |bytes: u64| bytes.next_multiple_of(WORKSPACE_ALIGNMENT);
    let mut bytes = aligned(convolution.output_bytes())
        + aligned(convolution.weight_bytes())
        + aligned(convolution.bias_bytes());
    bytes += aligned(smidgen_conv::workspace(
        Pass::Forward,
        &convolution,
        facts,
        Some(variant),
    )?);
    // Ranges of the gradients are bound where they stand.
    let mut maps = vec![convolution.output_bytes()];
    for reader in readers {
        bytes += aligned(normalisation_bytes(channels));
        bytes += match reader {
            OperationKind::BatchNormBackward { shape, .. } => {
                let part = slice_shape(map_shape(*shape), *slices);
                let sums = batch_norm::backward_part_workspace(&part, shape.channels, facts);
                2 * aligned(part.vector_bytes()) + aligned(sums)
            }
            _ => {
                let Some((shape, variant)) = depthwise(reader, *slices, facts, choices)? else {
                    return Ok(None);
                };
                maps.push(shape.output_bytes());
                let pass = Pass::WeightGradient;
                aligned(shape.weight_bytes())
                    + aligned(smidgen_conv::workspace(pass, &shape, facts, Some(variant))?)
            }
        };
    }
    let bound = |bytes: &u64| bytes.is_multiple_of(facts.storage_alignment);
    Ok(Some(bytes).filter(|_| maps.iter().all(bound)))
}

fn slice_shape(shape: MapShape, slices: u32) -> MapShape {
    MapShape {
        channels: shape.channels / slices,
        ..shape
    }
}

/// What the launches of one operation in slices are made with.
struct Maker<'a> {
    at: &'a Binder<'a>,
    operation: usize,
    facts: &'a DeviceFacts,
    choices: &'a Choices,
    launches: Vec<Launch>,
}

pub(super) fn launches(
    at: &Binder<'_>,
    operation: usize,
    (slices, made_by, readers): (u32, &OperationKind, &[OperationKind]),
    facts: &DeviceFacts,
    choices: &Choices,
) -> Result<Vec<Launch>, Error> {
    let mut maker = Maker {
        at,
        operation,
        facts,
        choices,
        launches: Vec::new(),
    };
    for number in 0..slices {
        let slice = Slice {
            number,
            count: slices,
        };
        let mut room = at.needed_workspace(operation)?;
        let map = maker.make(slice, made_by, &mut room)?;
        for reader in readers {
            maker.read(slice, reader, map, &mut room)?;
        }
    }
    Ok(maker.launches)
}

impl Maker<'_> {
    fn copy(&mut self, from: (Region, u64), to: (Region, u64), bytes: u64) -> Result<(), Error> {
        self.launches.push(elementwise::copy_part(bytes, from, to)?);
        Ok(())
    }

    /// A slice of something small, where it can be bound.
    fn take(&mut self, slice: Slice, id: ValueId, room: &mut Region) -> Result<Region, Error> {
        let whole = self.at.region(id)?;
        let own = split(room, whole.size / u64::from(slice.count));
        self.copy((whole, slice.first(whole)), (own, 0), own.size)?;
        Ok(own)
    }

    /// A slice of the map.
    fn make(
        &mut self,
        slice: Slice,
        kind: &OperationKind,
        room: &mut Region,
    ) -> Result<Region, Error> {
        let found = producer(kind, slice.count, self.facts, self.choices)?;
        let (
            OperationKind::Convolution {
                input,
                weight,
                bias,
                ..
            },
            Some((shape, variant)),
        ) = (kind, found)
        else {
            return Err(self.unknown());
        };
        let output = split(room, shape.output_bytes());
        let weight = self.take(slice, *weight, room)?;
        let bias = bias.map(|bias| self.take(slice, bias, room)).transpose()?;
        let needed = smidgen_conv::workspace(Pass::Forward, &shape, self.facts, Some(variant))?;
        let regions = smidgen_conv::Forward {
            input: self.at.source(input)?,
            weight,
            bias,
            output,
            workspace: (needed > 0).then(|| split(room, needed)),
        };
        let made = smidgen_conv::forward(&shape, self.facts, Some(variant), &regions)?;
        self.launches.extend(made);
        Ok(output)
    }

    /// What a reader makes of a slice of the map.
    fn read(
        &mut self,
        slice: Slice,
        kind: &OperationKind,
        map: Region,
        room: &mut Region,
    ) -> Result<(), Error> {
        let mut source = |maker: &mut Self, input: &Source| {
            let normalisation = input.normalisation;
            let normalisation = normalisation.map(|id| maker.take(slice, id, room));
            Ok::<_, Error>(smidgen_gpu::Source {
                region: map,
                normalisation: normalisation.transpose()?,
                activation: activation_kind(input.activation),
            })
        };
        match kind {
            OperationKind::ConvolutionWeightGradient {
                input,
                output_gradient,
                weight_gradient,
                ..
            } => {
                let Some((shape, variant)) =
                    depthwise(kind, slice.count, self.facts, self.choices)?
                else {
                    return Err(self.unknown());
                };
                let input = source(self, input)?;
                let own = split(room, shape.weight_bytes());
                let pass = Pass::WeightGradient;
                let needed = smidgen_conv::workspace(pass, &shape, self.facts, Some(variant))?;
                let regions = smidgen_conv::WeightGradient {
                    input,
                    output_gradient: slice.of(self.at.region(*output_gradient)?),
                    weight_gradient: own,
                    bias_gradient: None,
                    workspace: (needed > 0).then(|| split(room, needed)),
                };
                let made =
                    smidgen_conv::weight_gradient(&shape, self.facts, Some(variant), &regions)?;
                self.launches.extend(made);
                self.put(slice, own, *weight_gradient)
            }
            OperationKind::BatchNormBackward {
                shape,
                batch_statistics,
                output_gradient,
                input,
                coded: None,
                input_gradient,
                scale_gradient,
                shift_gradient,
            } => {
                let source = source(self, input)?;
                let Some(normalisation) = source.normalisation else {
                    return Err(self.unknown());
                };
                let part = slice_shape(map_shape(*shape), slice.count);
                let sums = [scale_gradient, shift_gradient]
                    .map(|id| (id, split(room, part.vector_bytes())));
                let regions = batch_norm::Backward {
                    input: source.region,
                    normalisation,
                    output_gradient: slice.of(self.at.region(*output_gradient)?),
                    workspace: split(
                        room,
                        batch_norm::backward_part_workspace(&part, shape.channels, self.facts),
                    ),
                    gamma_gradient: sums[0].1,
                    beta_gradient: sums[1].1,
                    input_gradient: slice.of(self.at.region(*input_gradient)?),
                };
                let statistics = statistics_kind(*batch_statistics);
                let way = (source.activation, statistics);
                let made =
                    batch_norm::backward_part(&part, shape.channels, self.facts, way, &regions)?;
                self.launches.extend(made);
                for (id, own) in sums {
                    if let Some(id) = id {
                        self.put(slice, own, *id)?;
                    }
                }
                Ok(())
            }
            _ => Err(self.unknown()),
        }
    }

    /// Brings a slice of something small to its place.
    fn put(&mut self, slice: Slice, own: Region, id: ValueId) -> Result<(), Error> {
        let whole = self.at.region(id)?;
        self.copy((own, 0), (whole, slice.first(whole)), own.size)
    }

    /// For what no outline offers.
    fn unknown(&self) -> Error {
        unknown(&self.at.program.operations[self.operation].layer)
    }
}

/// What is said of slices that the kernels cannot make.
pub(super) fn unknown(layer: &str) -> Error {
    Error::UnknownValue {
        name: format!("a slice at {layer}"),
    }
}
