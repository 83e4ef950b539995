//! Sparse weights: where their parts stand, their launches, and their numbers on the host.

use super::bind::Binder;
use super::convert::convolution_shape;
use super::layout::weight_shape;
use crate::Error;
use smidgen_conv::ConvolutionShape;
use smidgen_conv::sparse::{
    self, SparseForward, SparseInputGradient, SparseShape, SparseWeightGradient,
};
use smidgen_gpu::{DeviceFacts, Launch, Region, bytemuck};
use smidgen_graph::{
    ConvolutionAttributes, Layout, OperationKind, Program, Role, Source, SparseBlocks, ValueId,
};
use smidgen_plan::Place;

/// The parts of a sparse weight, from the place of the whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<P> {
    pub(crate) values: P,
    pub(crate) columns: P,
    pub(crate) starts: P,
    pub(crate) entries: P,
    pub(crate) walk: P,
    pub(crate) order: P,
    /// Columns of the blocks whose gradient is computed; those of all live ones where they are always.
    pub(crate) chosen: P,
}

fn parts<P: Copy>(
    attributes: &ConvolutionAttributes,
    blocks: &SparseBlocks,
    part: impl Fn(u64, u64) -> P,
) -> Parts<P> {
    let mut offset = 0;
    let [values, columns, starts, entries, walk, order, mut chosen] =
        blocks.parts(attributes).map(|bytes| {
            let at = offset;
            offset += bytes.next_multiple_of(256);
            part(at, bytes)
        });
    if !blocks.masks_gradient {
        chosen = columns;
    }
    Parts {
        values,
        columns,
        starts,
        entries,
        walk,
        order,
        chosen,
    }
}

/// Where the parts of a sparse weight stand.
pub(crate) fn places(
    place: Place,
    attributes: &ConvolutionAttributes,
    blocks: &SparseBlocks,
) -> Parts<Place> {
    parts(attributes, blocks, |offset, bytes| Place {
        offset: place.offset + offset,
        bytes,
    })
}

pub(super) fn shape(convolution: ConvolutionShape, blocks: &SparseBlocks) -> SparseShape {
    SparseShape {
        convolution,
        block_quads: blocks.block_quads,
        live: blocks.slots,
    }
}

/// The shape of a sparse weight, of which only the weight matters.
pub(crate) fn shape_of(attributes: &ConvolutionAttributes, blocks: &SparseBlocks) -> SparseShape {
    shape(weight_shape(attributes), blocks)
}

/// How a weight, or its gradient, is cut, if it is sparse.
pub(super) fn blocks_of(program: &Program, id: ValueId) -> Option<SparseBlocks> {
    match program.value(id).layout {
        Layout::SparseWeight(_, blocks) | Layout::SparseValues(_, blocks) => Some(blocks),
        _ => None,
    }
}

impl Binder<'_> {
    pub(super) fn sparse_parts(
        &self,
        weight: ValueId,
        attributes: &ConvolutionAttributes,
        blocks: &SparseBlocks,
    ) -> Result<Parts<Region>, Error> {
        let whole = self.region(weight)?;
        Ok(parts(attributes, blocks, |offset, bytes| Region {
            offset: whole.offset + offset,
            size: bytes,
            ..whole
        }))
    }

    /// The region of the numbers that an optimiser changes.
    pub(super) fn trained(&self, parameter: ValueId) -> Result<Region, Error> {
        Ok(match self.program.value(parameter).layout {
            Layout::SparseWeight(attributes, blocks) => {
                self.sparse_parts(parameter, &attributes, &blocks)?.values
            }
            _ => self.region(parameter)?,
        })
    }

    pub(super) fn sparse_forward(
        &self,
        (attributes, blocks, convolution): (
            &ConvolutionAttributes,
            &SparseBlocks,
            ConvolutionShape,
        ),
        input: &Source,
        [weight, output]: [ValueId; 2],
        [bias, moments]: [Option<Region>; 2],
        facts: &DeviceFacts,
    ) -> Result<Vec<Launch>, Error> {
        let parts = self.sparse_parts(weight, attributes, blocks)?;
        let regions = SparseForward {
            input: self.source(input)?,
            columns: parts.columns,
            values: parts.values,
            walk: parts.walk,
            bias,
            output: self.region(output)?,
        };
        let shape = shape(convolution, blocks);
        Ok(match moments {
            Some(moments) => sparse::sparse_forward_with_moments(&shape, facts, &regions, moments)?,
            None => sparse::sparse_forward(&shape, facts, &regions)?,
        })
    }

    pub(super) fn sparse_input_gradient(
        &self,
        (attributes, blocks, convolution): (
            &ConvolutionAttributes,
            &SparseBlocks,
            ConvolutionShape,
        ),
        [output_gradient, weight, input_gradient]: [ValueId; 3],
        (accumulate, derivative): (bool, Option<smidgen_gpu::Source>),
        facts: &DeviceFacts,
    ) -> Result<Vec<Launch>, Error> {
        let parts = self.sparse_parts(weight, attributes, blocks)?;
        let regions = SparseInputGradient {
            output_gradient: self.region(output_gradient)?,
            columns: parts.columns,
            values: parts.values,
            starts: parts.starts,
            entries: parts.entries,
            walk: parts.walk,
            input_gradient: self.region(input_gradient)?,
            accumulate,
            derivative,
        };
        Ok(sparse::sparse_input_gradient(
            &shape(convolution, blocks),
            facts,
            &regions,
        )?)
    }

    pub(super) fn sparse_weight_gradient(
        &self,
        operation: usize,
        convolution: ConvolutionShape,
        input: smidgen_gpu::Source,
        [output_gradient, weight_gradient]: [ValueId; 2],
        bias_gradient: Option<Region>,
        facts: &DeviceFacts,
    ) -> Result<Vec<Launch>, Error> {
        let (weight, attributes, blocks) = self.sparse_weight_of(weight_gradient)?;
        let parts = self.sparse_parts(weight, &attributes, &blocks)?;
        let output_gradient = self.region(output_gradient)?;
        let regions = SparseWeightGradient {
            input,
            output_gradient,
            columns: parts.chosen,
            walk: parts.walk,
            value_gradient: self.region(weight_gradient)?,
            workspace: self.workspace(operation),
        };
        let shape = shape(convolution, &blocks);
        let mut launches = sparse::sparse_weight_gradient(&shape, facts, &regions)?;
        if let Some(bias_gradient) = bias_gradient {
            launches.extend(smidgen_conv::bias_gradient(
                &convolution,
                facts,
                output_gradient,
                bias_gradient,
                self.workspace(operation),
            )?);
        }
        Ok(launches)
    }

    /// The sparse weight that a gradient is of.
    fn sparse_weight_of(
        &self,
        gradient: ValueId,
    ) -> Result<(ValueId, ConvolutionAttributes, SparseBlocks), Error> {
        let name = &self.program.value(gradient).name;
        let weight = name.split_once("gradient of ").and_then(|(_, name)| {
            let id = self.program.find(name)?;
            match self.program.value(id).layout {
                Layout::SparseWeight(attributes, blocks) => Some((id, attributes, blocks)),
                _ => None,
            }
        });
        weight.ok_or_else(|| Error::UnknownValue { name: name.clone() })
    }
}

/// Bytes of workspace of an operation with a sparse weight; `None` for all other operations.
pub(super) fn workspace(
    program: &Program,
    kind: &OperationKind,
    facts: &DeviceFacts,
) -> Result<Option<u64>, Error> {
    let (attributes, map, blocks) = match kind {
        OperationKind::ConvolutionWeightGradient {
            attributes,
            shape,
            weight_gradient,
            ..
        } => (attributes, *shape, blocks_of(program, *weight_gradient)),
        _ => return Ok(None),
    };
    let Some(blocks) = blocks else {
        return Ok(None);
    };
    let convolution = convolution_shape(attributes, map);
    let own = sparse::sparse_weight_gradient_workspace(&shape(convolution, &blocks), facts)?;
    let bias = smidgen_conv::bias_gradient_workspace(&convolution, facts)?;
    Ok(Some(own.max(bias)))
}

/// The sparse weights of a program, in the order of its values.
pub(crate) fn weights(
    program: &Program,
) -> impl Iterator<Item = (ValueId, ConvolutionAttributes, SparseBlocks)> + '_ {
    let values = program.values.iter().enumerate();
    values.filter_map(|(at, value)| match (value.layout, value.role) {
        (Layout::SparseWeight(attributes, blocks), Role::Parameter) => {
            Some((ValueId(at), attributes, blocks))
        }
        _ => None,
    })
}

/// The words of a sparse weight with these columns and values: its lists are made on the way.
pub(crate) fn pack(
    shape: &SparseShape,
    columns: &[u32],
    values: &[f32],
    masks_gradient: bool,
) -> Vec<u32> {
    let [starts, entries, walk] = shape.lists(columns);
    let mut words: Vec<u32> = Vec::new();
    for part in [
        bytemuck::cast_slice(values),
        columns,
        &starts,
        &entries,
        &walk,
        &[0; 4],
        // Gradients of all live blocks, where some may be left out.
        if masks_gradient { columns } else { &[] },
    ] {
        words.extend_from_slice(part);
        words.resize(words.len().next_multiple_of(64), 0);
    }
    words
}
