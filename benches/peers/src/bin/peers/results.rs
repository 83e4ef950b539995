//! What was measured, kept in a file, so that a table can be measured in pieces.

use serde::{Deserialize, Serialize};
use smidgen_peers::{Case, Hello};
use std::path::Path;
use std::process::Command;

/// Everything on one machine, of one commit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Of this repository.
    pub(crate) commit: String,
    /// Cores of the processor.
    pub(crate) cores: usize,
    pub(crate) runners: Vec<Hello>,
    pub(crate) rows: Vec<Row>,
}

/// A case, and what each runner made of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) runner: String,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Measured(Measured),
    /// Why not.
    Failed(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) first_seconds: f64,
    pub(crate) parameters: Option<u64>,
    /// Of one run, round by round.
    pub(crate) seconds: Vec<f64>,
}

impl Measured {
    /// The median of the rounds.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[length / 2],
            length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
        }
    }

    /// The fastest round, which other processes disturbed least.
    pub(crate) fn fastest(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::NAN, f64::min)
    }
}

impl Row {
    /// The entry of this runner, if it measured the case.
    pub(crate) fn measured(&self, runner: &str) -> Option<&Measured> {
        match self.outcome(runner)? {
            Outcome::Measured(measured) => Some(measured),
            Outcome::Failed(_) => None,
        }
    }

    pub(crate) fn outcome(&self, runner: &str) -> Option<&Outcome> {
        let mut entries = self.entries.iter();
        Some(&entries.find(|entry| entry.runner == runner)?.outcome)
    }

    /// Whether all trained the same network, as far as its parameters tell.
    pub(crate) fn check(&self) -> Result<(), String> {
        let counts: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| match &entry.outcome {
                Outcome::Measured(measured) => Some((&entry.runner, measured.parameters)),
                Outcome::Failed(_) => None,
            })
            .collect();
        match counts.iter().find(|(_, count)| *count != counts[0].1) {
            Some(other) => Err(format!(
                "{}: not the same network: {:?} and {other:?}",
                self.case.name(),
                counts[0]
            )),
            None => Ok(()),
        }
    }
}

impl Results {
    /// Those of `path` if they are of the same commit, machine and frameworks, or else none yet.
    pub(crate) fn open(path: &Path, runners: Vec<Hello>) -> Result<Self, String> {
        let fresh = Self {
            commit: commit(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            runners,
            rows: Vec::new(),
        };
        let Ok(text) = std::fs::read_to_string(path) else {
            return Ok(fresh);
        };
        let kept: Self = serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}; remove it to start afresh", path.display()))?;
        let same = kept.commit == fresh.commit
            && kept.cores == fresh.cores
            && kept.runners == fresh.runners;
        if same {
            return Ok(kept);
        }
        eprintln!(
            "peers: what was measured before is of another commit, machine or framework, and starts afresh"
        );
        Ok(fresh)
    }

    /// In place of what was measured of the same case before, in the order of the table.
    pub(crate) fn add(&mut self, row: Row, order: &[Case]) {
        let place = |row: &Row| order.iter().position(|case| *case == row.case);
        self.rows.retain(|old| old.case != row.case);
        self.rows.push(row);
        self.rows.sort_by_key(place);
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(&error))?;
        std::fs::write(path, text + "\n").map_err(|error| failed(&error))
    }
}

/// The commit of the repository, with a mark if what is measured differs from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=7", "HEAD"]) else {
        return "unknown".into();
    };
    let changes = [
        "status",
        "--porcelain",
        "--",
        "crates",
        "shaders",
        "benches",
    ];
    match git(&changes) {
        Some(changes) if !changes.is_empty() => format!("{commit} with changes"),
        _ => commit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(seconds: &[f64], parameters: u64) -> Measured {
        Measured {
            first_seconds: 1.0,
            parameters: Some(parameters),
            seconds: seconds.to_vec(),
        }
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!(measured(&[3.0, 1.0, 2.0], 0).median(), 2.0);
        assert_eq!(measured(&[4.0, 1.0, 2.0, 3.0], 0).median(), 2.5);
        assert!(measured(&[], 0).median().is_nan());
    }

    #[test]
    fn networks_that_differ_are_noticed() {
        let entry = |runner: &str, parameters| Entry {
            runner: runner.into(),
            outcome: Outcome::Measured(measured(&[1.0], parameters)),
        };
        let mut row = Row {
            case: smidgen_peers::cases::all(None).remove(0),
            entries: vec![entry("a", 7), entry("b", 7)],
        };
        assert!(row.check().is_ok());
        row.entries.push(entry("c", 8));
        assert!(row.check().is_err());
    }
}
