//! The table of layers.

use super::Step;
use super::memory::{Block, Category, layers};
use crate::StashPoint;
use serde::Serialize;
use smidgen_graph::{Layout, OperationKind, Phase, Program, Role};

/// One layer of the network, in the order of the forward pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Batch, channels, height and width of what it gives; `None` where that is no map.
    pub shape: Option<[u32; 4]>,
    /// Numbers that are learned or frozen.
    pub parameters: u64,
    /// Multiply-adds of its forward pass over the batch.
    pub multiply_adds: u64,
    /// Bytes that it holds for the backward pass.
    pub stash_bytes: u64,
    /// In which forms, each named once.
    pub forms: Vec<String>,
    /// Median seconds of its operations in the forward pass (and loss); `None` if nothing was measured.
    pub forward_seconds: Option<f64>,
    /// Of those in the backward pass.
    pub backward_seconds: Option<f64>,
    /// Of these, the seconds for making stashes again: operations of the forward pass that run once more.
    pub again_seconds: Option<f64>,
    /// Seconds for holding stashes in fewer bits, of all passes.
    pub encode_seconds: Option<f64>,
    /// Seconds for reading these again.
    pub decode_seconds: Option<f64>,
    /// Seconds that the planner reckons with for all of its operations.
    pub predicted_seconds: f64,
    /// Of its optimiser.
    pub update_seconds: Option<f64>,
    /// The arithmetic of all its passes over their time, as a share of the device's measured peak.
    pub of_peak: Option<f64>,
    /// The norm of what the gradient of its weight is off the exact one, by the norm of that; `None` if it was not compared.
    pub gradient_error: Option<f64>,
}

impl Layer {
    /// Every layer of `program`. `peak_flops` is the arithmetic peak of the device, where it was measured.
    pub(super) fn all(
        program: &Program,
        blocks: &[Block],
        steps: &[Step],
        stashes: &[StashPoint],
        peak_flops: Option<f64>,
    ) -> Vec<Self> {
        let mut names: Vec<&str> = Vec::new();
        for operation in &program.operations {
            if !names.contains(&operation.layer.as_str()) {
                names.push(&operation.layer);
            }
        }
        let of_values = layers(program);
        names
            .into_iter()
            .map(|name| {
                let mine = || steps.iter().filter(|step| step.layer == name);
                let values = || {
                    let values = program.values.iter().zip(&of_values);
                    values
                        .filter(|(_, layer)| **layer == name)
                        .map(|(value, _)| value)
                };
                let seconds = |phases: &[Phase]| {
                    let times: Option<Vec<f64>> = mine()
                        .filter(|step| phases.contains(&step.phase))
                        .map(|step| step.seconds)
                        .collect();
                    times.map(|times| times.iter().sum())
                };
                let repeated = |step: &&Step| {
                    let same = |other: &Step| other.operation == step.operation;
                    step.phase == Phase::Backward
                        && mine().any(|other| other.phase == Phase::Forward && same(other))
                };
                let again: Option<Vec<f64>> =
                    mine().filter(repeated).map(|step| step.seconds).collect();
                let again = again.map(|times| times.iter().sum());
                let of = |names: &[&str]| -> Option<f64> {
                    let mine = mine().filter(|step| names.contains(&step.operation.as_str()));
                    mine.map(|step| step.seconds).sum()
                };
                let forward = seconds(&[Phase::Forward, Phase::Loss]);
                let backward = seconds(&[Phase::Prepare, Phase::Backward]);
                let all: u64 = mine().map(|step| step.multiply_adds).sum();
                let busy: Option<f64> = mine()
                    .filter(|step| step.multiply_adds > 0)
                    .map(|step| step.seconds)
                    .sum();
                let of_peak = match (busy, peak_flops) {
                    (Some(busy), Some(peak)) if busy > 0.0 => Some(2.0 * all as f64 / busy / peak),
                    _ => None,
                };
                Self {
                    name: name.to_owned(),
                    shape: shape(program, name),
                    parameters: values()
                        .filter(|value| value.role == Role::Parameter)
                        .map(|value| parameters(&value.layout))
                        .sum(),
                    multiply_adds: mine()
                        .filter(|step| step.phase == Phase::Forward)
                        .map(|step| step.multiply_adds)
                        .sum(),
                    stash_bytes: blocks
                        .iter()
                        .filter(|block| block.category == Category::Stash && block.layer == name)
                        .map(|block| block.bytes)
                        .sum(),
                    forms: forms(stashes, name),
                    forward_seconds: forward,
                    backward_seconds: backward,
                    again_seconds: again.filter(|_| forward.is_some()),
                    encode_seconds: of(&["encode"]).filter(|_| forward.is_some()),
                    decode_seconds: of(&["decode"]).filter(|_| forward.is_some()),
                    predicted_seconds: mine().map(|step| step.predicted).sum(),
                    update_seconds: seconds(&[Phase::Update]),
                    of_peak,
                    gradient_error: None,
                }
            })
            .collect()
    }
}

/// The forms of the stashes that a layer makes.
fn forms(stashes: &[StashPoint], layer: &str) -> Vec<String> {
    let mine = stashes.iter().filter(|stash| stash.layer == layer);
    let mut forms: Vec<String> = mine.map(|stash| stash.form.to_string()).collect();
    forms.dedup();
    forms
}

/// The last map that a layer writes in the forward pass; codes of it are none.
fn shape(program: &Program, layer: &str) -> Option<[u32; 4]> {
    let operations = program.operations.iter().rev();
    let mut written = operations
        .filter(|operation| operation.layer == layer && operation.phase == Phase::Forward)
        .flat_map(|operation| operation.writes());
    let map = written.find_map(|id| program.value(id).layout.map())?;
    Some([map.batch, map.channels, map.height, map.width])
}

/// Numbers of a parameter, without those that pad it.
fn parameters(layout: &Layout) -> u64 {
    match layout {
        Layout::Vector { channels } => u64::from(*channels),
        Layout::Weight(attributes) => {
            let [rows, columns] = attributes.kernel;
            let inputs = attributes.input_channels / attributes.groups;
            [attributes.output_channels, inputs, rows, columns]
                .iter()
                .map(|size| u64::from(*size))
                .product()
        }
        other => other.bytes() / 4,
    }
}

/// What an operation does, in a word or two.
pub(super) fn verb(kind: &OperationKind) -> String {
    let text = format!("{kind:?}");
    let name = text.split([' ', '{', '(']).next().unwrap_or_default();
    let mut words = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
