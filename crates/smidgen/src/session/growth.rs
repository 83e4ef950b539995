//! Masks that change by gradients, in a step of its own.

use super::compiled::Compiled;
use super::draft::Draft;
use crate::Error;
use smidgen_graph::{Graph, Layout, OperationKind, Program, Role};
use smidgen_plan::{Lifetime, Placement, placements};

/// The place of the step that changes masks among a session's programs, where there is one.
pub(super) const GROWTH: usize = 2;

/// The step that changes masks.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) compiled: Compiled,
    /// Whether the next step is one.
    pub(super) is_due: bool,
}

impl Growing {
    pub(super) fn new(compiled: Compiled) -> Self {
        Self {
            compiled,
            is_due: false,
        }
    }
}

impl Draft {
    pub(super) fn growth(&self) -> Option<&Program> {
        self.programs.get(GROWTH)
    }
}

/// Refuses networks in which nothing, or not everything that changes its mask, has a gradient.
pub(super) fn check(graph: &Graph, micro_batches: u32, half_maps: bool) -> Result<(), Error> {
    let wrong = |what: String| Error::Recipe {
        name: "growth by gradients",
        what,
    };
    if micro_batches > 1 {
        return Err(wrong(
            "its step takes the batch in one piece; leave out micro-batches, or let masks grow at random".into(),
        ));
    }
    if half_maps {
        return Err(wrong(
            "gradients of maps in f16 may overflow, and then say nothing of where to grow; leave out f16 maps, or let masks grow at random".into(),
        ));
    }
    let layers = graph.sparse_layers();
    if layers.is_empty() {
        return Err(wrong(
            "the network has no sparse layers, whose masks could change; make it sparse".into(),
        ));
    }
    let frozen =
        |layer: &&smidgen_graph::SparseLayer| !graph.parameters()[layer.weight.0].trainable;
    match layers.iter().find(frozen) {
        Some(layer) => Err(wrong(format!(
            "`{}` is frozen and has no gradient; train it, or let masks grow at random",
            layer.name
        ))),
        None => Ok(()),
    }
}

/// Adds to the workspaces of a training program what the step that changes masks needs more at the same operation, so that forms are
/// chosen with both in mind. `needed` are that step's own workspaces.
pub(super) fn add_needs(
    workspaces: &mut [u64],
    program: &Program,
    growth: &Program,
    needed: &[u64],
) {
    let (lives, growth_lives) = (placements(program), placements(growth));
    let is_alive = |placement: &Placement, at: usize| matches!(placement, Placement::Transient(Lifetime { first, last }) if (*first..=*last).contains(&at));
    // Gradients of parameters that only the training step makes.
    let dropped = |at: usize| -> u64 {
        (program.values.iter().zip(lives.iter().zip(&growth_lives)))
            .filter(|(value, (life, other))| {
                value.role == Role::ParameterGradient
                    && **other == Placement::Unused
                    && is_alive(life, at)
            })
            .map(|(value, _)| value.layout.bytes())
            .sum()
    };
    let is_sparse_gradient = |kind: &OperationKind| match kind {
        OperationKind::ConvolutionWeightGradient {
            weight_gradient, ..
        } => matches!(
            program.value(*weight_gradient).layout,
            Layout::SparseValues(..)
        ),
        _ => false,
    };
    let gradients = (program.operations.iter().enumerate())
        .filter(|(_, operation)| is_sparse_gradient(&operation.kind));
    let scores = (growth.operations.iter().zip(needed)).filter_map(|(operation, needed)| {
        match operation.kind {
            OperationKind::GrowthScores { scores, .. } => {
                Some(growth.value(scores).layout.bytes() + needed)
            }
            _ => None,
        }
    });
    for ((at, _), needed) in gradients.zip(scores) {
        workspaces[at] = workspaces[at].max(needed.saturating_sub(dropped(at)));
    }
}
