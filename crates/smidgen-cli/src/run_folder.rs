//! The folder of a run: `run.json` (its settings), `checkpoint.safetensors`, `metrics.jsonl`, `weights.safetensors`.

use crate::arguments::RunArguments;
use serde::Serialize;
use smidgen::{Error, checkpoint};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) struct RunFolder {
    path: PathBuf,
    metrics: File,
}

impl RunFolder {
    /// Makes the folder of a new run and notes its settings there.
    ///
    /// A folder that holds a run already is refused, so that none is lost.
    pub(crate) fn create(path: &Path, settings: &RunArguments) -> Result<Self, Error> {
        let taken = settings_file(path);
        if taken.exists() {
            let what = format!(
                "the folder holds a run already; go on with it by --resume {0}, or name another --out",
                path.display()
            );
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                what,
            });
        }
        fs::create_dir_all(path).map_err(|source| write_error(path, source))?;
        let text = serde_json::to_string_pretty(settings)
            .map_err(|error| write_error(&taken, error.into()))?;
        fs::write(&taken, text).map_err(|source| write_error(&taken, source))?;
        Self::open(path)
    }

    /// Opens the folder of a run that is to go on.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = path.join("metrics.jsonl");
        let metrics = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .map_err(|source| write_error(&file, source))?;
        Ok(Self {
            path: path.to_owned(),
            metrics,
        })
    }

    /// The settings a run was started with.
    pub(crate) fn settings(path: &Path) -> Result<RunArguments, Error> {
        let file = settings_file(path);
        let refuse = |what: String| Error::Checkpoint {
            path: file.clone(),
            what,
        };
        let text = fs::read_to_string(&file)
            .map_err(|error| refuse(format!("there is no run to go on with: {error}")))?;
        serde_json::from_str(&text)
            .map_err(|error| refuse(format!("the settings of the run cannot be read: {error}")))
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        checkpoint::path_in(&self.path)
    }

    pub(crate) fn weights(&self) -> PathBuf {
        self.path.join("weights.safetensors")
    }

    /// Adds a line to the metrics.
    pub(crate) fn note(&mut self, event: &impl Serialize) -> Result<(), Error> {
        let mut line =
            serde_json::to_string(event).map_err(|error| write_error(&self.path, error.into()))?;
        line.push('\n');
        self.metrics
            .write_all(line.as_bytes())
            .map_err(|source| write_error(&self.path.join("metrics.jsonl"), source))
    }
}

fn settings_file(path: &Path) -> PathBuf {
    path.join("run.json")
}

fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: path.to_owned(),
        source,
    }
}
