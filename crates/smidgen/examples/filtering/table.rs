//! What the runs came to, as two tables in Markdown.

use crate::Run;
use crate::arm::Arm;
use std::fmt::Write;

/// The runs of one arm.
struct Row<'a> {
    arm: Arm,
    /// One a seed.
    runs: Vec<&'a Run>,
}

impl Row<'_> {
    fn multiply_adds(&self) -> u64 {
        self.runs[0].cost.multiply_adds
    }
}

fn rows(runs: &[Run]) -> Vec<Row<'_>> {
    let all = Arm::every().into_iter().map(|arm| Row {
        arm,
        runs: runs.iter().filter(|run| run.arm == arm).collect(),
    });
    all.filter(|row| !row.runs.is_empty()).collect()
}

/// Mean, least and most, in points.
fn spread(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!(
        "{:.1} ({:.1} to {:.1})",
        100.0 * mean,
        100.0 * least,
        100.0 * most
    )
}

fn millions(multiply_adds: u64) -> String {
    format!("{:.2} M", multiply_adds as f64 / 1e6)
}

/// Every arm: accuracy, and what a step of one picture costs backward.
pub(crate) fn arms(runs: &[Run]) -> String {
    let mut text = String::from(
        "| trained | accuracy, % | backward multiply-adds | stored inputs | all stashes | cosine of each layer |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in rows(runs) {
        let accuracies: Vec<f64> = row.runs.iter().map(|run| run.accuracy).collect();
        let first = row.runs[0];
        let kibibytes = |bytes: u64| format!("{:.1} KiB", bytes as f64 / 1024.0);
        let cosines: Vec<String> = (first.cosines.iter())
            .map(|cosine| format!("{cosine:.2}"))
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            row.arm.name(),
            spread(&accuracies),
            millions(row.multiply_adds()),
            kibibytes(first.cost.input_bytes),
            kibibytes(first.cost.stashed_bytes),
            cosines.join(" ")
        );
    }
    text
}

/// Every filtered arm beside the exact ones whose backward operations are the next fewer and the next more: its accuracy less theirs, seed by
/// seed.
pub(crate) fn equal_operations(runs: &[Run]) -> String {
    let rows = rows(runs);
    let exact = |row: &&Row<'_>| row.arm.patch.is_none();
    let mut text = String::from(
        "| filtered | next fewer | points more than it | next more | points more than it | exact, as many layers | points more than it |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows.iter().filter(|row| row.arm.patch.is_some()) {
        let cost = row.multiply_adds();
        let beside = |other: Option<&Row<'_>>| {
            let Some(other) = other else {
                return "| none | ".to_owned();
            };
            let pairs = row.runs.iter().zip(&other.runs);
            let differences: Vec<f64> = pairs
                .map(|(filtered, exact)| filtered.accuracy - exact.accuracy)
                .collect();
            let name = other.arm.name();
            let cost = millions(other.multiply_adds());
            format!("| {name}, {cost} | {} ", spread(&differences))
        };
        let fewer = (rows.iter().filter(exact))
            .filter(|other| other.multiply_adds() <= cost)
            .max_by_key(|other| other.multiply_adds());
        let more = (rows.iter().filter(exact))
            .filter(|other| other.multiply_adds() > cost)
            .min_by_key(|other| other.multiply_adds());
        let same = (rows.iter().filter(exact))
            .find(|other| other.arm.convolutions == row.arm.convolutions);
        let _ = writeln!(
            text,
            "| {}, {} {}{}{}|",
            row.arm.name(),
            millions(cost),
            beside(fewer),
            beside(more),
            beside(same),
        );
    }
    text
}
