//! Changes of masks: at random between two steps, or by gradients within one.

use super::bind::{Binder, WORKSPACE_ALIGNMENT, split};
use super::sparse::{blocks_of, shape, shape_of, weights};
use crate::Error;
use smidgen_conv::sparse::{Mutation, Transpose, block_norms, mutate, transpose};
use smidgen_conv::{ConvolutionShape, Pass, Variant, WeightGradient};
use smidgen_gpu::{DeviceFacts, Launch};
use smidgen_graph::{Layout, OperationKind, Program, SparseBlocks, ValueId};
use smidgen_plan::{Limits, ProgramPlan};

/// The launches that change the masks of all sparse weights as their orders say, at random.
pub(crate) fn mutations(
    program: &Program,
    plan: &ProgramPlan,
    limits: Limits,
) -> Result<Vec<Launch>, Error> {
    let binder = Binder::new(program, plan, limits);
    let mut launches = Vec::new();
    for (weight, ..) in weights(program) {
        let states = program
            .operations
            .iter()
            .find_map(|operation| match &operation.kind {
                OperationKind::Update {
                    parameter, states, ..
                } if *parameter == weight => Some(states.as_slice()),
                _ => None,
            });
        launches.extend(binder.mutation(weight, states.unwrap_or_default(), None)?);
    }
    Ok(launches)
}

/// Bytes of workspace for the scores of a layer: its dense gradient, and what that needs.
pub(super) fn scores_workspace(
    convolution: &ConvolutionShape,
    facts: &DeviceFacts,
    variant: Option<Variant>,
) -> Result<u64, Error> {
    let gradient = convolution
        .weight_bytes()
        .next_multiple_of(WORKSPACE_ALIGNMENT);
    let own = smidgen_conv::workspace(Pass::WeightGradient, convolution, facts, variant)?;
    Ok(gradient + own)
}

impl Binder<'_> {
    /// Prunes and grows one sparse weight as its order says: by `scores`, or at random.
    pub(super) fn mutation(
        &self,
        weight: ValueId,
        states: &[ValueId],
        scores: Option<ValueId>,
    ) -> Result<Vec<Launch>, Error> {
        let (Some(blocks), Layout::SparseWeight(attributes, _)) = (
            blocks_of(self.program, weight),
            self.program.value(weight).layout,
        ) else {
            return Ok(Vec::new());
        };
        let parts = self.sparse_parts(weight, &attributes, &blocks)?;
        let states = states.iter().map(|id| self.region(*id));
        let regions = Mutation {
            order: parts.order,
            columns: parts.columns,
            values: parts.values,
            states: states.collect::<Result<_, _>>()?,
            growth: scores.map(|id| self.region(id)).transpose()?,
        };
        let shape = shape_of(&attributes, &blocks);
        let lists = Transpose {
            columns: parts.columns,
            starts: parts.starts,
            entries: parts.entries,
            walk: parts.walk,
        };
        let mut launches = vec![mutate(&shape, &regions)?];
        launches.extend(transpose(&shape, &lists)?);
        Ok(launches)
    }

    /// The norms of the gradients of all blocks, by way of a dense gradient in the workspace.
    pub(super) fn growth_scores(
        &self,
        operation: usize,
        (convolution, blocks): (ConvolutionShape, &SparseBlocks),
        input: smidgen_gpu::Source,
        [output_gradient, scores]: [ValueId; 2],
        variant: Option<Variant>,
        facts: &DeviceFacts,
    ) -> Result<Vec<Launch>, Error> {
        let mut workspace = self.needed_workspace(operation)?;
        let dense = split(&mut workspace, convolution.weight_bytes());
        let regions = WeightGradient {
            input,
            output_gradient: self.region(output_gradient)?,
            weight_gradient: dense,
            bias_gradient: None,
            workspace: (workspace.size > 0).then_some(workspace),
        };
        let mut launches = smidgen_conv::weight_gradient(&convolution, facts, variant, &regions)?;
        let shape = shape(convolution, blocks);
        launches.push(block_norms(&shape, dense, self.region(scores)?)?);
        Ok(launches)
    }
}
