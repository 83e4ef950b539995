//! One way of fine-tuning, and what a step of it costs.

use serde::{Deserialize, Serialize};
use smidgen::{Error, Graph, zoo};
use smidgen_graph::{Layout, OperationKind, Phase, Program, ValueId};

const NETWORK: &str = "resnet8";
/// Its convolutions.
const ALL: usize = 7;

/// The last so many convolutions are trained, with patches or exact.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arm {
    pub(crate) convolutions: usize,
    pub(crate) patch: Option<u32>,
}

impl Arm {
    /// All that are compared, the cheapest first of those that train as much.
    pub(crate) fn every() -> Vec<Self> {
        let of = |convolutions, patch| Self {
            convolutions,
            patch,
        };
        let trained = [1, 2, 4, 6, ALL].into_iter();
        let rest = trained
            .flat_map(|convolutions| [None, Some(2), Some(4)].map(|patch| of(convolutions, patch)));
        [of(0, None)].into_iter().chain(rest).collect()
    }

    pub(crate) fn name(self) -> String {
        let how = match self.patch {
            Some(patch) => format!("patch {patch}"),
            None => "exact".to_owned(),
        };
        match self.convolutions {
            0 => "head only".to_owned(),
            ALL => format!("all {ALL}, {how}"),
            last => format!("last {last}, {how}"),
        }
    }

    pub(crate) fn graph(self) -> Result<Graph, Error> {
        let mut graph = network()?;
        graph.train_last(self.convolutions)?;
        graph.freeze("*bn*")?;
        graph.freeze_statistics();
        if let Some(patch) = self.patch {
            graph.filter_last(self.convolutions, patch)?;
        }
        Ok(graph)
    }
}

pub(crate) fn network() -> Result<Graph, Error> {
    Ok(zoo::build(NETWORK, 10, [3, 32, 32])?)
}

/// What a training step of one picture costs backward.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) multiply_adds: u64,
    /// Of the inputs of trained convolutions, or their patch sums: what the paper counts.
    pub(crate) input_bytes: u64,
    /// Of everything that the forward pass leaves for the backward pass.
    pub(crate) stashed_bytes: u64,
}

impl Cost {
    pub(crate) fn of(program: &Program) -> Self {
        let mut needed = Vec::new();
        let mut inputs = Vec::new();
        let mut multiply_adds = 0;
        for operation in &program.operations {
            if operation.phase != Phase::Backward {
                continue;
            }
            multiply_adds += smidgen::plan::multiply_adds(program, &operation.kind);
            let of_weight = match &operation.kind {
                OperationKind::ConvolutionWeightGradient { shape, .. } => shape.height > 1,
                OperationKind::FilterWeightGradient { .. } => true,
                _ => false,
            };
            for (id, _) in operation.needs() {
                let bytes = program.value(id).layout.bytes();
                needed.push((id, bytes));
                if of_weight && matches!(program.value(id).layout, Layout::Map(_)) {
                    inputs.push((id, bytes));
                }
            }
        }
        let sum = |mut list: Vec<(ValueId, u64)>| {
            list.sort();
            list.dedup();
            list.iter().map(|(_, bytes)| bytes).sum::<u64>() / u64::from(program.batch)
        };
        Self {
            multiply_adds: multiply_adds / u64::from(program.batch),
            input_bytes: sum(inputs),
            stashed_bytes: sum(needed),
        }
    }
}
