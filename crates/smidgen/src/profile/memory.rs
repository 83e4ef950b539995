//! Where the bytes are, step by step: from the plan alone.

use crate::Footprint;
use serde::Serialize;
use smidgen_graph::{Program, Role, ValueId};
use smidgen_plan::{Lifetime, Place, Placement, ProgramPlan, placements};
use std::collections::BTreeMap;

/// What bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Learned.
    Parameters,
    /// Momentum and the like.
    OptimizerState,
    /// Running statistics, the control block, metrics.
    Bookkeeping,
    /// Pictures and labels.
    Batch,
    /// Held from the forward pass for the backward pass.
    Stash,
    /// Made and used up within a pass.
    Transient,
    /// Gradients of activations.
    Gradient,
    /// Gradients of parameters.
    ParameterGradient,
    /// What kernels need while they run.
    Workspace,
    /// Up to the alignment of tensors, and what the packing leaves free.
    Unused,
    /// Parameters of kernels.
    Uniforms,
    /// Between host and device, both ways.
    Transfer,
    /// What wgpu's allocator may reserve beyond what it is asked for.
    Rounding,
}

impl Category {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::OptimizerState => "optimizer state",
            Self::Bookkeeping => "statistics and control",
            Self::Batch => "pictures and labels",
            Self::Stash => "stash",
            Self::Transient => "activations in passing",
            Self::Gradient => "gradients of activations",
            Self::ParameterGradient => "gradients of parameters",
            Self::Workspace => "workspace",
            Self::Unused => "alignment and gaps",
            Self::Uniforms => "uniforms",
            Self::Transfer => "transfer buffers",
            Self::Rounding => "allocator rounding",
        }
    }
}

/// A tensor's place in the arena, and from which step to which it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Block {
    /// The value, or `workspace`.
    pub name: String,
    /// The layer it belongs to: that of the first operation that touches it.
    pub layer: String,
    /// What it is for.
    pub category: Category,
    /// First byte in the arena.
    pub offset: u64,
    /// Bytes, without alignment.
    pub bytes: u64,
    /// The first step that touches it; 0 for what is there before.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// Bytes of one category in one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// What for.
    pub category: Category,
    /// The layer; empty for what belongs to none.
    pub layer: String,
    /// How many.
    pub bytes: u64,
}

/// The memory of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Every tensor of the arena.
    pub blocks: Vec<Block>,
    /// Bytes of tensors that hold during each step.
    pub live: Vec<u64>,
    /// The step at which most is needed.
    pub peak_step: usize,
    /// All that is reserved, split at that step; the sum is `peak_bytes`.
    pub peak: Vec<Share>,
    /// All that is reserved: what a budget is compared with.
    pub peak_bytes: u64,
    /// Bytes of the arena.
    pub arena_bytes: u64,
}

impl Memory {
    /// The memory of `program` at the places of its plan, in an arena of `arena_bytes` and a session of this footprint.
    #[must_use]
    pub fn new(
        program: &Program,
        plan: &ProgramPlan,
        arena_bytes: u64,
        footprint: &Footprint,
    ) -> Self {
        let blocks = blocks(program, plan);
        let steps = program.operations.len();
        let mut live = vec![0; steps];
        for block in &blocks {
            live[block.first..=block.last]
                .iter_mut()
                .for_each(|bytes| *bytes += block.bytes);
        }
        let peak_step = plan.peak.operation;
        let peak = split(&blocks, peak_step, arena_bytes, footprint);
        Self {
            blocks,
            live,
            peak_step,
            peak,
            peak_bytes: footprint.total().0,
            arena_bytes,
        }
    }

    /// The peak by category, in the order of [`Category`].
    #[must_use]
    pub fn peak_by_category(&self) -> Vec<(Category, u64)> {
        let mut sums = BTreeMap::new();
        for share in &self.peak {
            *sums.entry(share.category).or_insert(0) += share.bytes;
        }
        sums.into_iter().collect()
    }
}

/// The layer of the first operation that touches each value.
pub(super) fn layers(program: &Program) -> Vec<&str> {
    let mut layers = vec![""; program.values.len()];
    for operation in program.operations.iter().rev() {
        for ValueId(id) in operation.reads().into_iter().chain(operation.writes()) {
            layers[id] = &operation.layer;
        }
    }
    layers
}

/// What is held from the forward for the backward pass of a program, and where.
pub(crate) fn stashes(program: &Program, plan: &ProgramPlan) -> impl Iterator<Item = Block> {
    let blocks = blocks(program, plan).into_iter();
    blocks.filter(|block| block.category == Category::Stash)
}

fn blocks(program: &Program, plan: &ProgramPlan) -> Vec<Block> {
    let last_step = program.operations.len().saturating_sub(1);
    let always = Lifetime {
        first: 0,
        last: last_step,
    };
    let layers = layers(program);
    let mut blocks = Vec::new();
    let mut add = |name: &str, layer: &str, category, place: Option<Place>, lifetime: Lifetime| {
        if let Some(Place { offset, bytes }) = place.filter(|place| place.bytes > 0) {
            blocks.push(Block {
                name: name.to_owned(),
                layer: layer.to_owned(),
                category,
                offset,
                bytes,
                first: lifetime.first,
                last: lifetime.last,
            });
        }
    };
    for (id, placement) in placements(program).into_iter().enumerate() {
        let value = &program.values[id];
        let (category, lifetime) = match placement {
            Placement::Persistent => (category(value.role), always),
            Placement::Stash(lifetime) if value.role != Role::Images => (Category::Stash, lifetime),
            Placement::Stash(lifetime) | Placement::Transient(lifetime) => {
                (category(value.role), lifetime)
            }
            Placement::Host | Placement::Unused => continue,
        };
        add(&value.name, layers[id], category, plan.values[id], lifetime);
    }
    for (at, operation) in program.operations.iter().enumerate() {
        let lifetime = Lifetime {
            first: at,
            last: at,
        };
        add(
            "workspace",
            &operation.layer,
            Category::Workspace,
            plan.workspaces[at],
            lifetime,
        );
    }
    blocks.sort_by_key(|block| (block.offset, block.first));
    blocks
}

fn category(role: Role) -> Category {
    match role {
        Role::Parameter => Category::Parameters,
        Role::OptimizerState => Category::OptimizerState,
        Role::Running | Role::Control | Role::Metrics | Role::Examples => Category::Bookkeeping,
        Role::Images | Role::Labels => Category::Batch,
        Role::Offloaded => Category::Stash,
        Role::Activation | Role::Statistics => Category::Transient,
        Role::Prepared => Category::Workspace,
        Role::Gradient => Category::Gradient,
        Role::ParameterGradient | Role::GradientSum => Category::ParameterGradient,
    }
}

/// What is reserved, by what holds at `step`, by category and layer; the sum is the footprint's total.
fn split(blocks: &[Block], step: usize, arena_bytes: u64, footprint: &Footprint) -> Vec<Share> {
    let mut sums: BTreeMap<(Category, &str), u64> = BTreeMap::new();
    let held = blocks
        .iter()
        .filter(|block| (block.first..=block.last).contains(&step));
    for block in held {
        *sums.entry((block.category, &block.layer)).or_default() += block.bytes;
    }
    let unused = arena_bytes - sums.values().sum::<u64>();
    let rest = [
        (Category::Unused, unused),
        (Category::Uniforms, footprint.uniforms),
        (Category::Transfer, footprint.staging + footprint.readback),
        (Category::Rounding, footprint.rounding),
    ];
    for (category, bytes) in rest {
        sums.insert((category, ""), bytes);
    }
    let shares = sums.into_iter().filter(|(_, bytes)| *bytes > 0);
    shares
        .map(|((category, layer), bytes)| Share {
            category,
            layer: layer.to_owned(),
            bytes,
        })
        .collect()
}
