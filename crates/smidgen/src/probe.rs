//! Running one batch to compare the weight gradients of two ways to compute them.

use crate::session::largest;
use crate::{
    Blueprint, Bytes, Error, Session, SessionOptions, StashPoint, StepOptions, Training,
    largest_batch,
};
use smidgen_gpu::{Device, DeviceFacts, DeviceRequest};
use smidgen_graph::forms::Form;
use smidgen_graph::{Graph, Layout, Optimizer, Weights};
use std::collections::BTreeMap;

/// The batch on which gradients are compared, and the network's parameters.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// Planes of quads, as [`Session::train_step`] takes them.
    pub images: &'a [f32],
    /// One a picture.
    pub labels: &'a [u32],
    /// The parameters; those of the seed where there are none.
    pub weights: Option<&'a Weights>,
    /// Of the parameters.
    pub seed: u64,
    /// What each of the two passes may reserve.
    pub budget: Option<Bytes>,
}

impl Probe<'_> {
    /// A session for one pass, planned for the budget.
    pub(crate) fn session(&self, request: &DeviceRequest, graph: &Graph) -> Result<Session, Error> {
        Session::new(Device::open(request)?, graph, &self.options(), self.seed)
    }

    fn options(&self) -> SessionOptions {
        probing(self.labels.len() as u32, self.budget)
    }
}

/// How far the gradient of a layer's weight is from the exact one.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct GradientError {
    /// The layer.
    pub layer: String,
    /// The norm of the difference by the norm of the exact gradient; 0 where the bits are the same.
    pub relative: f64,
}

/// Compares the weight gradients of a network whose stashes are held in the forms of `stashes`, and with its filters, with those of the same network
/// without filters and with exact stashes, on a probe batch, in one draw of the random rounding. Two sessions are built one after the other;
/// nothing is trained. Sparse layers are left out.
///
/// # Errors
/// As [`Session::new`] and [`Session::train_step`], or forms of another network.
pub fn gradient_errors(
    request: &DeviceRequest,
    graph: &Graph,
    stashes: &[StashPoint],
    probe: &Probe<'_>,
) -> Result<Vec<GradientError>, Error> {
    let mut exact = graph.clone();
    exact.clear_filters();
    let expected = weight_gradients(probe.session(request, &exact)?, probe)?;
    let device = Device::open(request)?;
    let blueprint = Blueprint::holding(graph, device.facts(), &probe.options(), &forms(stashes))?;
    let session = Session::planned(device, graph, &probe.options(), probe.seed, blueprint)?;
    let found = weight_gradients(session, probe)?;
    Ok(found
        .into_iter()
        .filter_map(|(layer, found)| {
            let expected = expected.get(&layer)?;
            let difference: Vec<f32> = (found.iter().zip(expected))
                .map(|(found, expected)| found - expected)
                .collect();
            let [difference, norm] = [&difference, expected].map(|of| dot(of, of).sqrt());
            let relative = if difference == 0.0 {
                0.0
            } else {
                difference / norm
            };
            Some(GradientError { layer, relative })
        })
        .collect())
}

/// The most pictures, up to `most`, that gradients can be compared on within a budget, in which the exact gradients have to fit.
///
/// # Errors
/// As [`largest_batch`].
pub fn probe_pictures(
    graph: &Graph,
    facts: &DeviceFacts,
    budget: Option<Bytes>,
    most: u32,
) -> Result<u32, Error> {
    let Some(budget) = budget else {
        return Ok(most);
    };
    let mut exact = graph.clone();
    exact.clear_filters();
    let found = largest_batch(&exact, facts, &probing(most, None), budget, most)?;
    // Where not even one fits, the session says what the least would be.
    Ok(found.unwrap_or(most))
}

/// The most pictures, up to `most`, with which [`gradient_errors`] keeps to a budget.
///
/// # Errors
/// Forms of another network.
pub fn gradient_error_pictures(
    graph: &Graph,
    facts: &DeviceFacts,
    stashes: &[StashPoint],
    budget: Option<Bytes>,
    most: u32,
) -> Result<u32, Error> {
    let most = probe_pictures(graph, facts, budget, most)?;
    let fits = |pictures: u32| {
        let options = probing(pictures, budget);
        let blueprint = Blueprint::holding(graph, facts, &options, &forms(stashes));
        blueprint.is_ok_and(|blueprint| {
            budget.is_none_or(|budget| blueprint.footprint().total() <= budget)
        })
    };
    Ok(if fits(most) {
        most
    } else {
        largest(0, most, fits).unwrap_or(most)
    })
}

/// The forms of stashes by name. What is made again in slices is made again whole: to the same bits, and with any batch.
fn forms(stashes: &[StashPoint]) -> BTreeMap<String, Form> {
    let changed = stashes.iter().filter(|stash| stash.form != Form::Whole);
    changed
        .map(|stash| {
            let form = match stash.form {
                Form::Sliced(_) => Form::Recomputed,
                form => form,
            };
            (stash.value.clone(), form)
        })
        .collect()
}

/// How a probe batch is run: gradients kept, and no state of an optimiser.
pub(crate) fn probing(batch: u32, budget: Option<Bytes>) -> SessionOptions {
    SessionOptions {
        batch,
        training: Some(Training {
            optimizer: Optimizer::Sgd {
                momentum: 0.0,
                nesterov: false,
                weight_decay: 0.0,
            },
            keep_gradients: true,
            ..Training::default()
        }),
        budget,
    }
}

/// The gradients of all dense weights, by the names of their layers.
pub(crate) fn weight_gradients(
    mut session: Session,
    probe: &Probe<'_>,
) -> Result<BTreeMap<String, Vec<f32>>, Error> {
    if let Some(weights) = probe.weights {
        session.load(weights)?;
    }
    let step = StepOptions {
        step: 0,
        learning_rate: 0.0,
        seed: 0,
    };
    session.train_step(probe.images, probe.labels, &step)?;
    session.metrics()?;
    let values = session.main_program().values.iter();
    let layers: Vec<String> = values
        .filter(|value| matches!(value.layout, Layout::Weight(_)))
        .filter_map(|value| {
            value
                .name
                .strip_prefix("gradient of ")?
                .strip_suffix(".weight")
        })
        .map(str::to_owned)
        .collect();
    layers
        .into_iter()
        .map(|layer| {
            let gradient = session.read(&format!("gradient of {layer}.weight"))?;
            Ok((layer, gradient))
        })
        .collect()
}

pub(crate) fn dot(left: &[f32], right: &[f32]) -> f64 {
    let pairs = left.iter().zip(right);
    pairs
        .map(|(left, right)| f64::from(*left) * f64::from(*right))
        .sum()
}
