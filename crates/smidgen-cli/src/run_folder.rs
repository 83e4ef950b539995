//! The folder of a run: `run.json` (its settings), `variants.json` (which kernels computed it), `plan.json` (how its stashes are held), `checkpoint.safetensors`, `metrics.jsonl`, `weights.safetensors`.

use crate::arguments::RunArguments;
use serde::Serialize;
use serde_json::Value;
use smidgen::{Choices, Error, PlanFile, Progress, checkpoint, replace_file};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A run's folder, opened for writing.
pub(crate) struct RunFolder {
    metrics_file: PathBuf,
    metrics: File,
}

impl RunFolder {
    /// Refuses a folder in which there is a run already, so that none is lost.
    pub(crate) fn check_free(path: &Path) -> Result<(), Error> {
        let files = [
            settings_file(path),
            checkpoint::path_in(path),
            metrics_file(path),
            Self::weights(path),
        ];
        if !files.iter().any(|file| file.exists()) {
            return Ok(());
        }
        let what = format!(
            "the folder holds a run already; go on with it by --resume {}, or name another --out",
            path.display()
        );
        Err(Error::Checkpoint {
            path: path.to_owned(),
            what,
        })
    }

    /// Makes the folder of a new run and notes its settings there.
    pub(crate) fn create(
        path: &Path,
        settings: &RunArguments,
        variants: &Choices,
        plan: &PlanFile,
    ) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| write_error(path, source))?;
        // The settings come last: a folder that has them has all that a run needs to go on.
        write_json(&variants_file(path), variants)?;
        write_json(&plan_file(path), plan)?;
        write_json(&settings_file(path), settings)?;
        Self::append(path)
    }

    /// The variants of kernels that the run was started with; `None` in a folder of a version that wrote none down.
    pub(crate) fn variants(path: &Path) -> Result<Option<Choices>, Error> {
        let file = variants_file(path);
        let refuse = |what: String| Error::Checkpoint {
            path: file.clone(),
            what: format!("the variants of the run cannot be read: {what}"),
        };
        match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| refuse(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    /// How the stashes of the run are held; `None` in a folder of a version that did not write it down.
    pub(crate) fn plan(path: &Path) -> Result<Option<PlanFile>, Error> {
        let file = plan_file(path);
        let refuse = |what: String| Error::Checkpoint {
            path: file.clone(),
            what,
        };
        match fs::read_to_string(&file) {
            Ok(text) => PlanFile::from_json(&text)
                .map(Some)
                .map_err(|error| refuse(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    /// Opens the folder of a run that goes on from `progress`.
    ///
    /// What the metrics say of steps after the checkpoint is dropped: these steps are done again, and would stand there twice.
    pub(crate) fn open(path: &Path, progress: &Progress) -> Result<Self, Error> {
        let file = metrics_file(path);
        let lines = match fs::read_to_string(&file) {
            Ok(lines) => lines,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(write_error(&file, error)),
        };
        let kept: String = lines
            .split_inclusive('\n')
            .filter(|line| is_before(line, progress))
            .collect();
        if kept.len() != lines.len() {
            replace_file(&file, kept.as_bytes()).map_err(|source| write_error(&file, source))?;
        }
        Self::append(path)
    }

    fn append(path: &Path) -> Result<Self, Error> {
        let metrics_file = metrics_file(path);
        let metrics = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&metrics_file)
            .map_err(|source| write_error(&metrics_file, source))?;
        Ok(Self {
            metrics_file,
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

    pub(crate) fn has_checkpoint(path: &Path) -> bool {
        checkpoint::path_in(path).exists()
    }

    pub(crate) fn weights(path: &Path) -> PathBuf {
        path.join("weights.safetensors")
    }

    /// Adds a line to the metrics, or nothing if there is no room for all of it.
    pub(crate) fn note(&mut self, event: &impl Serialize) -> Result<(), Error> {
        self.append_line(event)
            .map_err(|source| write_error(&self.metrics_file, source))
    }

    fn append_line(&mut self, event: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_string(event)?;
        line.push('\n');
        let before = self.metrics.metadata()?.len();
        let written = self.metrics.write_all(line.as_bytes());
        if written.is_err() {
            // The first error is the one to tell.
            let _ = self.metrics.set_len(before);
        }
        written
    }
}

/// Whether a line tells of what the checkpoint holds. A line that a crash cut off tells of nothing.
fn is_before(line: &str, progress: &Progress) -> bool {
    let Ok(event) = serde_json::from_str::<Value>(line) else {
        return false;
    };
    let Some(step) = event["step"].as_u64().filter(|_| line.ends_with('\n')) else {
        return false;
    };
    match event["event"].as_str() {
        Some("step") => step < progress.step,
        // An evaluation counts the steps done, and may be of the checkpoint's step and yet come after it.
        Some("evaluation") => progress.evaluation.is_some_and(|(last, _)| step <= last),
        _ => step <= progress.step,
    }
}

fn write_json(file: &Path, value: &impl Serialize) -> Result<(), Error> {
    serde_json::to_vec_pretty(value)
        .map_err(io::Error::from)
        .and_then(|text| replace_file(file, &text))
        .map_err(|source| write_error(file, source))
}

fn variants_file(path: &Path) -> PathBuf {
    path.join("variants.json")
}

fn plan_file(path: &Path) -> PathBuf {
    path.join("plan.json")
}

fn settings_file(path: &Path) -> PathBuf {
    path.join("run.json")
}

fn metrics_file(path: &Path) -> PathBuf {
    path.join("metrics.jsonl")
}

fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: path.to_owned(),
        source,
    }
}
