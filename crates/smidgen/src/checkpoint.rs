//! Everything a run needs to go on, in one file that is replaced as a whole.

use crate::{Error, Session};
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
/// The device failed, or the file cannot be written; the old checkpoint is then intact.
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
    let refuse = |what: String| Error::Checkpoint {
        path: path.to_owned(),
        what,
    };
    let progress = serde_json::to_string(progress).map_err(|error| refuse(error.to_string()))?;
    weights.metadata.insert(METADATA_KEY.to_owned(), progress);
    Ok(weights.save(path)?)
}

/// Reads the progress noted in a checkpoint.
///
/// # Errors
/// The file is missing, damaged, or no checkpoint.
pub fn progress(path: &Path) -> Result<Progress, Error> {
    Ok(read(path)?.0)
}

/// Sets `session` to the state of a checkpoint.
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
    session.load(&weights)?;
    for (name, tensor) in &state {
        session.write(name, &tensor.values)?;
    }
    Ok(progress)
}

fn read(path: &Path) -> Result<(Progress, Weights, BTreeMap<String, Tensor>), Error> {
    let refuse = |what: String| Error::Checkpoint {
        path: path.to_owned(),
        what,
    };
    let mut weights = Weights::load(path)?;
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
/// The file is missing or damaged.
pub fn read_weights(path: &Path) -> Result<Weights, Error> {
    let mut weights = Weights::load(path)?;
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
