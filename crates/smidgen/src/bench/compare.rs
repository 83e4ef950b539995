//! Two reports beside each other.

use super::{DeviceDescription, Report, Unit};
use serde::Serialize;

/// A row that both reports have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// Its name.
    pub name: String,
    /// The rate in the old report.
    pub old: f64,
    /// The rate in the new report.
    pub new: f64,
    /// New over old: above 1 where the new one is faster.
    pub ratio: f64,
    /// What the rates count.
    pub unit: Unit,
}

/// What became faster and what slower.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The version that the old report is of.
    pub old_version: String,
    /// The device that the old report is of.
    pub old_device: DeviceDescription,
    /// Whether name and driver of the device are the same in both reports.
    pub same_device: bool,
    /// The rows that both have, in the order of the new report.
    pub ratios: Vec<Ratio>,
    /// Names of rows that only the old report has.
    pub only_old: Vec<String>,
    /// Names of rows that only the new report has.
    pub only_new: Vec<String>,
}

impl Report {
    /// This report beside an older one, or one of another device.
    #[must_use]
    pub fn compare(&self, old: &Self) -> Comparison {
        let key = |device: &DeviceDescription| (device.name.clone(), device.driver.clone());
        let mut comparison = Comparison {
            old_version: old.version.clone(),
            old_device: old.device.clone(),
            same_device: key(&self.device) == key(&old.device),
            ratios: Vec::new(),
            only_old: Vec::new(),
            only_new: Vec::new(),
        };
        for row in &self.rows {
            let same = |other: &&super::Row| other.name == row.name && other.unit == row.unit;
            match old.rows.iter().find(same) {
                Some(before) => comparison.ratios.push(Ratio {
                    name: row.name.clone(),
                    old: before.rate,
                    new: row.rate,
                    ratio: row.rate / before.rate,
                    unit: row.unit,
                }),
                None => comparison.only_new.push(row.name.clone()),
            }
        }
        let names: Vec<_> = comparison.ratios.iter().map(|ratio| &ratio.name).collect();
        comparison.only_old = old
            .rows
            .iter()
            .filter(|row| !names.contains(&&row.name))
            .map(|row| row.name.clone())
            .collect();
        comparison
    }
}

impl Comparison {
    /// A table in plain text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![self.title(), String::new()];
        lines.push(format!(
            "{:48} {:>9} {:>9} {:>9}",
            "", "old", "new", "new/old"
        ));
        lines.extend(self.ratios.iter().map(|row| {
            format!(
                "{:48} {:>9.1} {:>9.1} {:>8.2}x  {}",
                row.name,
                row.old,
                row.new,
                row.ratio,
                row.unit.name()
            )
        }));
        lines.extend(self.rest());
        lines.join("\n")
    }

    /// A table in Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut lines = vec![self.title(), String::new()];
        lines.push("| | old | new | new/old |".into());
        lines.push("|---|--:|--:|--:|".into());
        lines.extend(self.ratios.iter().map(|row| {
            format!(
                "| {} | {:.1} {unit} | {:.1} {unit} | {:.2} |",
                row.name.replace('|', "\\|"),
                row.old,
                row.new,
                row.ratio,
                unit = row.unit.name()
            )
        }));
        let rest = self.rest();
        if !rest.is_empty() {
            lines.push(String::new());
        }
        lines.extend(rest);
        lines.join("\n")
    }

    fn title(&self) -> String {
        let device = if self.same_device {
            "the same device and driver".into()
        } else {
            let (title, driver) = (self.old_device.title(), &self.old_device.driver);
            format!("ANOTHER DEVICE OR DRIVER: {title}, {driver}")
        };
        format!("Compared with Smidgen {} on {device}", self.old_version)
    }

    fn rest(&self) -> Vec<String> {
        [("old", &self.only_old), ("new", &self.only_new)]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(which, names)| format!("Only in the {which} report: {}", names.join("; ")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::bench::report::tests::report;

    #[test]
    fn a_report_is_as_fast_as_itself() {
        let report = report(&[("a", 2.0), ("b", 30.0)]);
        let comparison = report.compare(&report);
        assert!(comparison.same_device);
        assert!(comparison.only_old.is_empty() && comparison.only_new.is_empty());
        let ratios: Vec<f64> = comparison.ratios.iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [1.0, 1.0]);
        assert_eq!(comparison.text().lines().count(), 5);
        assert!(comparison.text().contains("the same device"));
    }

    #[test]
    fn ratios_are_new_over_old_and_the_rest_is_named() {
        let old = report(&[("a", 2.0), ("gone", 1.0), ("b", 30.0)]);
        let mut new = report(&[("b", 15.0), ("a", 4.0), ("fresh", 1.0)]);
        new.device.driver = "beads 2".into();
        let comparison = new.compare(&old);
        let ratios: Vec<_> = comparison
            .ratios
            .iter()
            .map(|row| (row.name.as_str(), row.ratio))
            .collect();
        assert_eq!(ratios, [("b", 0.5), ("a", 2.0)]);
        assert_eq!(comparison.only_old, ["gone"]);
        assert_eq!(comparison.only_new, ["fresh"]);
        for text in [comparison.text(), comparison.markdown()] {
            for words in [
                "ANOTHER DEVICE",
                "beads 1",
                "0.50",
                "2.00",
                "old report: gone",
                "new report: fresh",
            ] {
                assert!(text.contains(words), "`{words}` is missing in\n{text}");
            }
        }
    }
}
