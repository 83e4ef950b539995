//! Everything a run needs to go on, in one file that is replaced as a whole.

use crate::{Error, Metrics, Session};
use serde::{Deserialize, Serialize};
use smidgen_graph::{Tensor, Weights};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// State that is no weight stands under this prefix, so that a checkpoint is also a file of weights.
pub const STATE_PREFIX: &str = "smidgen.state.";
const METADATA_KEY: &str = "smidgen.progress";

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Name of the network, as in the zoo.
    pub model: String,
    /// Steps done.
    pub step: u64,
    /// What must be the same for the run to go on bit for bit; compared as a whole.
    pub run: serde_json::Value,
    /// Best accuracy of an evaluation so far, and evaluations since, for stopping early.
    pub best: Option<(f64, u32)>,
    /// The last evaluation, and how many steps were done then.
    pub evaluation: Option<(u64, Metrics)>,
}

/// The file of a run's checkpoint in its folder.
#[must_use]
pub fn path_in(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

/// Writes parameters, running statistics, optimiser state and progress to a temporary file, then renames it over `path`: at every
/// moment `path` holds a whole checkpoint, the old one or the new one.
///
/// # Errors
/// The device failed, the file cannot be written, or there is a number to be saved that is not finite, with which no run can go on:
/// the old checkpoint is then intact.
pub fn save(session: &mut Session, progress: &Progress, path: &Path) -> Result<(), Error> {
    let mut weights = session.weights()?;
    for name in session.state_names() {
        let values = session.read(&name)?;
        weights.tensors.insert(
            format!("{STATE_PREFIX}{name}"),
            Tensor {
                shape: vec![values.len()],
                values,
            },
        );
    }
    refuse_not_finite(session, &weights, progress.step)?;
    let refuse = |what: String| Error::Checkpoint {
        path: path.to_owned(),
        what,
    };
    let progress = serde_json::to_string(progress).map_err(|error| refuse(error.to_string()))?;
    weights.metadata.insert(METADATA_KEY.to_owned(), progress);
    Ok(weights.save(path)?)
}

/// Checks that parameters and running statistics are finite after `steps` steps, and that every step updated them, but for those that a
/// loss scale skipped. A finite loss does not say so: a gradient may not have been.
///
/// # Errors
/// One is not, a step did nothing because its gradients were not finite, or the device failed.
pub fn check_finite(session: &mut Session, steps: u64) -> Result<(), Error> {
    let weights = session.weights()?;
    refuse_not_finite(session, &weights, steps)
}

/// Names the tensor that went bad first: the running statistics are of the forward pass, and gradients come from the last layer to the
/// first.
fn refuse_not_finite(session: &mut Session, weights: &Weights, steps: u64) -> Result<(), Error> {
    if session.is_halted()? {
        let step = steps.saturating_sub(1);
        return Err(Error::GradientNotFinite { step });
    }
    let (buffers, parameters) = (session.graph().buffers(), session.graph().parameters());
    let mut names = (buffers.iter().map(|buffer| &buffer.name))
        .chain(parameters.iter().rev().map(|parameter| &parameter.name))
        .chain(weights.tensors.keys());
    let Some(name) = names.find(|name| weights.tensors.get(*name).is_some_and(is_not_finite))
    else {
        return Ok(());
    };
    let name = name.strip_prefix(STATE_PREFIX).unwrap_or(name);
    Err(Error::NotFiniteState {
        step: steps.saturating_sub(1),
        layer: name.rsplit_once('.').map_or("", |(layer, _)| layer).into(),
        name: name.into(),
    })
}

pub(crate) fn is_not_finite(tensor: &Tensor) -> bool {
    tensor.values.iter().any(|value| !value.is_finite())
}

/// Reads a file in which every number is finite.
fn load_finite(path: &Path) -> Result<Weights, Error> {
    let weights = Weights::load(path)?;
    match weights
        .tensors
        .iter()
        .find(|(_, tensor)| is_not_finite(tensor))
    {
        None => Ok(weights),
        Some((name, _)) => Err(Error::Checkpoint {
            path: path.to_owned(),
            what: format!(
                "`{name}` holds numbers that are not finite; use a file from before the training went wrong"
            ),
        }),
    }
}

/// Reads the progress noted in a checkpoint.
///
/// # Errors
/// The file is missing, damaged, or no checkpoint.
pub fn progress(path: &Path) -> Result<Progress, Error> {
    Ok(read(path)?.0)
}

/// Sets `session` to the state of a checkpoint. The state of filtered weights may have been held for every tap, or once for all of them, in
/// either session.
///
/// # Errors
/// The file is missing, damaged, or of another network or optimiser: then nothing is changed.
pub fn load(session: &mut Session, path: &Path) -> Result<Progress, Error> {
    let (progress, weights, state) = read(path)?;
    let refuse = |what: String| Error::Checkpoint {
        path: path.to_owned(),
        what,
    };
    if progress.model != session.graph().name() {
        return Err(refuse(format!(
            "it is of `{}`, this run trains `{}`",
            progress.model,
            session.graph().name()
        )));
    }
    let names = session.state_names();
    let missing = names.iter().find(|name| !state.contains_key(*name));
    let unknown = state.keys().find(|name| !names.contains(*name));
    if let Some(name) = missing.or(unknown) {
        return Err(refuse(format!(
            "its optimiser state is that of another optimiser: `{name}`"
        )));
    }
    let mut held = Vec::new();
    for (name, tensor) in state {
        let values = session.as_held(&name, tensor.values).ok_or_else(|| {
            refuse(format!(
                "`{name}` differs from tap to tap: go on with the state of filtered weights held for every tap"
            ))
        })?;
        held.push((name, values));
    }
    session.load(&weights)?;
    for (name, values) in &held {
        session.write(name, values)?;
    }
    Ok(progress)
}

fn read(path: &Path) -> Result<(Progress, Weights, BTreeMap<String, Tensor>), Error> {
    let refuse = |what: String| Error::Checkpoint {
        path: path.to_owned(),
        what,
    };
    let mut weights = load_finite(path)?;
    let progress = weights
        .metadata
        .get(METADATA_KEY)
        .ok_or_else(|| refuse("it is no checkpoint of a run".into()))?;
    let progress = serde_json::from_str(progress)
        .map_err(|error| refuse(format!("its progress cannot be read: {error}")))?;
    let mut state = BTreeMap::new();
    for (name, tensor) in std::mem::take(&mut weights.tensors) {
        match name.strip_prefix(STATE_PREFIX) {
            Some(name) => state.insert(name.to_owned(), tensor),
            None => weights.tensors.insert(name, tensor),
        };
    }
    Ok((progress, weights, state))
}

/// Reads weights under PyTorch names; the state in a checkpoint is left out.
///
/// # Errors
/// The file is missing or damaged, or holds a number that is not finite.
pub fn read_weights(path: &Path) -> Result<Weights, Error> {
    let mut weights = load_finite(path)?;
    weights
        .tensors
        .retain(|name, _| !name.starts_with(STATE_PREFIX));
    Ok(weights)
}

/// Writes parameters and running statistics under PyTorch names, replacing `path` as a whole.
///
/// # Errors
/// The device failed, or the file cannot be written; what was there before is then intact.
pub fn save_weights(session: &mut Session, path: &Path) -> Result<(), Error> {
    Ok(session.weights()?.save(path)?)
}
