//! Where the time and the memory of a training step go, layer by layer.
//!
//! ```no_run
//! use smidgen::gpu::{Device, DeviceRequest};
//! use smidgen::profile::{Profile, ProfileOptions};
//! use smidgen::{SessionOptions, Training, zoo};
//!
//! let graph = zoo::build("resnet20", 10, [3, 32, 32])?;
//! let options = SessionOptions { batch: 32, training: Some(Training::default()), budget: None };
//! let device = Device::open(&DeviceRequest::default())?;
//! let profile = Profile::measure(device, &graph, &options, &ProfileOptions::default())?;
//! println!("{}", profile.text());
//! std::fs::write("profile.html", profile.html()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod html;
mod layers;
mod measure;
mod memory;
mod text;
mod trace;

pub use layers::Layer;
pub(crate) use memory::stashes;
pub use memory::{Block, Category, Memory, Share};

use crate::bench::DeviceDescription;
use crate::{
    Blueprint, Closeness, Error, FilterPoint, Footprint, GradientError, Plans, SessionOptions,
    StashBound, StashPoint, Tuning, explain_filters,
};
use layers::verb;
use serde::Serialize;
use smidgen_gpu::DeviceFacts;
use smidgen_graph::{Graph, Phase, Program};

/// What a profile is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileOptions {
    /// The network's name, for the headings.
    pub name: String,
    /// Steps that are timed, after a first one that compiles; the times are medians.
    pub samples: usize,
    /// How kernels and plans are chosen, and whether their costs are measured.
    pub tuning: Tuning,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self {
            name: "network".into(),
            samples: 5,
            tuning: Tuning::Off,
        }
    }
}

/// One operation of the step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// The layer it belongs to.
    pub layer: String,
    /// What it does, such as `convolution weight gradient`.
    pub operation: String,
    /// Which part of the step.
    pub phase: Phase,
    /// Dispatches.
    pub launches: usize,
    /// Multiply-adds, of convolutions.
    pub multiply_adds: u64,
    /// Seconds that the planner reckons with.
    pub predicted: f64,
    /// Median seconds on the device; `None` if nothing was measured.
    pub seconds: Option<f64>,
}

/// What was reserved, beside what was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// What the plan said of the arena.
    pub planned_arena: u64,
    /// What the ledger holds for it.
    pub arena: u64,
    /// What the footprint said the ledger would hold.
    pub planned_ledger: u64,
    /// What it holds, without the timestamps of the profile itself.
    pub ledger: u64,
    /// Of the timestamps.
    pub timestamps: u64,
    /// What wgpu's allocator reports; `None` where it does not.
    pub allocator: Option<u64>,
}

/// Times of whole steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Times {
    /// Median seconds of a step on the device, operations added up.
    pub device_seconds: f64,
    /// Seconds of a step that the planner reckons with.
    pub predicted_seconds: f64,
    /// Median seconds of a step from submission to its metrics, without timestamps.
    pub step_seconds: f64,
    /// Arithmetic peak of the device, in operations a second (a multiply-add is two).
    pub peak_flops: f64,
    /// How many steps the medians are of.
    pub samples: usize,
}

/// A budget at which another plan becomes possible.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// All that is reserved.
    pub bytes: u64,
    /// Predicted seconds of a step.
    pub seconds: f64,
}

/// Where the time and the memory of a training step go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// The network.
    pub network: String,
    /// Images of a step.
    pub batch: u32,
    /// The budget, in bytes, if one was named.
    pub budget: Option<u64>,
    /// The device.
    pub device: DeviceDescription,
    /// Layers, in the order of the forward pass.
    pub layers: Vec<Layer>,
    /// Operations, in the order in which they run.
    pub steps: Vec<Step>,
    /// The memory of the step.
    pub memory: Memory,
    /// All that is reserved, as planned.
    pub footprint: Footprint,
    /// How every stash is held.
    pub stashes: Vec<StashPoint>,
    /// What each filtered layer saves, and the bias of its gradient where that was measured.
    pub filters: Vec<FilterPoint>,
    /// The errors that error-bounded codes reached in the last of these steps, which run on noise.
    pub bounds: Vec<StashBound>,
    /// The predicted time of a step over the bytes it may take.
    pub curve: Vec<CurvePoint>,
    /// What was reserved; `None` if nothing ran.
    pub reserved: Option<Reserved>,
    /// How long steps took; `None` if nothing ran.
    pub times: Option<Times>,
}

impl Profile {
    /// What the plan alone tells, without a device: sizes and places, no times.
    ///
    /// # Errors
    /// A network that cannot be planned, or a budget it does not fit.
    pub fn planned(
        facts: &DeviceFacts,
        graph: &Graph,
        options: &SessionOptions,
        name: &str,
    ) -> Result<Self, Error> {
        let blueprint = Blueprint::new(graph, facts, options)?;
        let plans = Plans::new(graph, facts, options)?;
        Self::of(&blueprint, &plans, facts, graph, options, name)
    }

    /// What plans tell of a blueprint that is one of them.
    fn of(
        blueprint: &Blueprint,
        plans: &Plans,
        facts: &DeviceFacts,
        graph: &Graph,
        options: &SessionOptions,
        name: &str,
    ) -> Result<Self, Error> {
        let stashes = plans.explain(blueprint.forms())?;
        let curve = plans.points()?.into_iter().map(|point| CurvePoint {
            bytes: point.bytes.0,
            seconds: point.seconds,
        });
        let launches: Vec<usize> = blueprint.launches[0].iter().map(Vec::len).collect();
        let predicted = plans.operation_seconds(blueprint);
        let steps = steps(&blueprint.programs[0], &launches, &predicted);
        let program = &blueprint.programs[0];
        let plan = blueprint.plan();
        let memory = Memory::new(
            program,
            &plan.programs[0],
            plan.arena_bytes,
            blueprint.footprint(),
        );
        Ok(Self {
            network: name.to_owned(),
            batch: options.batch,
            budget: options.budget.map(|budget| budget.0),
            device: DeviceDescription::from(facts),
            layers: Layer::all(program, &memory.blocks, &steps, &stashes, None),
            filters: explain_filters(graph, facts, options, &[])?,
            curve: curve.collect(),
            stashes,
            bounds: Vec::new(),
            steps,
            memory,
            footprint: blueprint.footprint().clone(),
            reserved: None,
            times: None,
        })
    }

    /// The same with the cosines that were measured between filtered and exact gradients.
    #[must_use]
    pub fn with_closeness(mut self, close: &[Closeness]) -> Self {
        for point in &mut self.filters {
            if let Some(found) = close.iter().find(|found| found.layer == point.layer) {
                point.cosine = Some(found.cosine);
                point.bias = Some(1.0 - found.cosine);
            }
        }
        self
    }

    /// The same with the errors of the weight gradients that were measured.
    #[must_use]
    pub fn with_gradient_errors(mut self, errors: &[GradientError]) -> Self {
        for layer in &mut self.layers {
            let found = errors.iter().find(|error| error.layer == layer.name);
            layer.gradient_error = found.map(|error| error.relative);
        }
        self
    }
}

/// The operations of a program, without times.
fn steps(program: &Program, launches: &[usize], predicted: &[f64]) -> Vec<Step> {
    let operations = program.operations.iter().zip(launches).zip(predicted);
    operations
        .map(|((operation, launches), predicted)| Step {
            layer: operation.layer.clone(),
            operation: verb(&operation.kind),
            phase: operation.phase,
            launches: *launches,
            multiply_adds: smidgen_plan::multiply_adds(program, &operation.kind),
            predicted: *predicted,
            seconds: None,
        })
        .collect()
}
