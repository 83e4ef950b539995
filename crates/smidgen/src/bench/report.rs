//! The report of a run as a whole.

use super::row::{Peaks, Row};
use super::{BenchOptions, DeviceDescription};
use crate::Error;
use serde::{Deserialize, Serialize};
use smidgen_gpu::DeviceFacts;
use std::path::Path;

/// The form of the report; another number means that its members changed.
const FORM: u64 = 1;
const MARK: &str = "smidgen_bench";

/// What a run measured, and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this report, 1.
    pub smidgen_bench: u64,
    /// The version of Smidgen.
    pub version: String,
    /// Whether training steps and the largest kernels were left out.
    pub quick: bool,
    /// The device.
    pub device: DeviceDescription,
    /// What the shares in the rows are shares of.
    pub peaks: Peaks,
    /// The results, in the order they were measured.
    pub rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(
        facts: &DeviceFacts,
        options: BenchOptions,
        peaks: Peaks,
        rows: Vec<Row>,
    ) -> Self {
        Self {
            smidgen_bench: FORM,
            version: env!("CARGO_PKG_VERSION").into(),
            quick: options.quick,
            device: facts.into(),
            peaks,
            rows,
        }
    }

    /// Reads a report that was written as JSON.
    ///
    /// # Errors
    /// The file cannot be read, is no report, or one of another form.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let refuse = |what: String| Error::Report {
            path: path.to_owned(),
            what,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        Self::parse(&text).map_err(refuse)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let remedy = "write one with `smidgen bench --json > FILE`";
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| format!("is no JSON object ({error}); {remedy}"))?;
        match value.get(MARK).map(serde_json::Value::as_u64) {
            None => Err(format!("is no report of `smidgen bench`; {remedy}")),
            Some(Some(FORM)) => serde_json::from_value(value)
                .map_err(|error| format!("is a damaged report ({error}); {remedy}")),
            Some(_) => Err(format!(
                "is a report of another version of Smidgen, whose form this one does not know; {remedy}"
            )),
        }
    }

    /// A report to paste into an issue.
    #[must_use]
    pub fn markdown(&self) -> String {
        let quick = if self.quick { ", quick" } else { "" };
        let mut lines = vec![
            format!("### smidgen bench {}{quick}", self.version),
            String::new(),
            format!("- device: {}", self.device.title()),
        ];
        let details = self.device.details();
        lines.extend(details.map(|(heading, text)| format!("- {heading}: {text}")));
        lines.extend([
            String::new(),
            "| | time | rate | of peak | variant |".into(),
            "|---|--:|--:|--:|---|".into(),
        ]);
        lines.extend(self.rows.iter().map(Row::markdown));
        lines.join("\n")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::row::tests::row;
    use crate::bench::{Kind, Unit};

    /// A report with rows of these names and rates.
    pub(in crate::bench) fn report(rows: &[(&str, f64)]) -> Report {
        let rows: Vec<Row> = rows
            .iter()
            .map(|(name, rate)| row(Kind::Convolution, name, Unit::Arithmetic, *rate))
            .collect();
        Report {
            smidgen_bench: FORM,
            version: "0.0.0".into(),
            quick: true,
            device: DeviceDescription {
                name: "Abacus".into(),
                kind: "software".into(),
                backend: "vulkan".into(),
                driver: "beads 1".into(),
                max_buffer_bytes: 1 << 30,
                max_binding_bytes: 1 << 27,
                workgroup_memory_bytes: 1 << 15,
                max_invocations: 256,
                subgroup_sizes: Some((8, 8)),
                timestamps: true,
                half_precision: false,
            },
            peaks: Peaks {
                gflops: 100.0,
                gigabytes_per_second: 10.0,
            },
            rows,
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = report(&[("a", 12.5), ("b", 1.0 / 3.0)]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(Report::parse(&text), Ok(report));
    }

    #[test]
    fn what_is_no_report_is_refused_by_what_it_is() {
        let sound = serde_json::to_value(report(&[("a", 1.0)])).unwrap();
        let with = |name: &str, value: serde_json::Value| {
            let mut changed = sound.clone();
            changed[name] = value;
            changed.to_string()
        };
        for (text, words) in [
            (String::new(), "no JSON"),
            ("{\"loss\": 1}".into(), "no report"),
            ("[1, 2]".into(), "no report"),
            (with("smidgen_bench", 2.into()), "another version"),
            (with("smidgen_bench", "1".into()), "another version"),
            (with("rows", 1.into()), "damaged"),
        ] {
            let message = Report::parse(&text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn markdown_is_one_table_under_the_device() {
        let text = report(&[("conv a | b", 50.0), ("c", 25.0)]).markdown();
        assert!(text.starts_with("### smidgen bench 0.0.0, quick\n\n- device: Abacus (software, vulkan)\n- driver: beads 1\n"), "{text}");
        let table: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(table.len(), 4);
        assert!(table[2].starts_with("| conv a \\| b | "), "{text}");
        for line in table {
            assert_eq!(line.replace("\\|", "").matches('|').count(), 6, "{line}");
        }
    }
}
