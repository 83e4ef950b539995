//! The table in Markdown, and the page it is written into.

use crate::results::{Measured, Outcome, Results, Row};
use smidgen_peers::Case;
use std::fmt::Write;
use std::path::Path;

/// What is between these is written by this program.
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Whether there is a page to write into, before hours are spent on measuring.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    read(path).map(drop)
}

/// The text around the table.
fn read(path: &Path) -> Result<(String, String), String> {
    let failed = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before.to_owned(), after.to_owned()))
    });
    parts.ok_or_else(|| failed(&format!("it needs the lines `{BEGIN}` and `{END}`")))
}

/// Replaces the table of the page.
pub(crate) fn write(path: &Path, results: &Results) -> Result<(), String> {
    let (before, after) = read(path)?;
    let text = format!("{before}{BEGIN}\n\n{}\n{END}{after}", table(results));
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn table(results: &Results) -> String {
    let mut text = format!("Commit {}, {} cores.\n\n", results.commit, results.cores);
    text += "| framework | device | settings |\n|---|---|---|\n";
    for runner in &results.runners {
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            runner.name, runner.device, runner.settings
        );
    }
    let training = |row: &&Row| matches!(row.case, Case::Training(_));
    let (trainings, convolutions): (Vec<_>, Vec<_>) = results.rows.iter().partition(training);
    if !trainings.is_empty() {
        text += "\nWhole training steps, images a second:\n\n";
        rates(&mut text, results, &trainings);
        text += "\nSeconds from asking for a network to the end of its first step:\n\n";
        firsts(&mut text, results, &trainings);
    }
    if !convolutions.is_empty() {
        text += "\nConvolutions, GFLOP/s:\n\n";
        rates(&mut text, results, &convolutions);
    }
    text
}

/// A line for every case: the rates of all (in brackets that of the fastest round), then Smidgen's over each of the others'.
fn rates(text: &mut String, results: &Results, rows: &[&Row]) {
    let names: Vec<_> = results.runners.iter().map(|it| it.name.as_str()).collect();
    let Some((ours, peers)) = names.split_first() else {
        return;
    };
    let ratios: Vec<_> = peers.iter().map(|peer| format!("over {peer}")).collect();
    header(
        text,
        names
            .iter()
            .copied()
            .chain(ratios.iter().map(String::as_str)),
    );
    for row in rows {
        let rate = |measured: &Measured| row.case.rate(measured.median());
        let _ = write!(text, "| {} |", row.case.name());
        for name in &names {
            let cell = cell(row, name, |measured| {
                let fastest = row.case.rate(measured.fastest());
                format!("{} ({})", digits(rate(measured)), digits(fastest))
            });
            let _ = write!(text, " {cell} |");
        }
        for peer in peers {
            let ratio = row.measured(ours).zip(row.measured(peer));
            let ratio = ratio.map(|(ours, peer)| rate(ours) / rate(peer));
            let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let _ = write!(text, " {ratio} |");
        }
        text.push('\n');
    }
}

fn firsts(text: &mut String, results: &Results, rows: &[&Row]) {
    let names: Vec<_> = results.runners.iter().map(|it| it.name.as_str()).collect();
    header(text, names.iter().copied());
    for row in rows {
        let _ = write!(text, "| {} |", row.case.name());
        for name in &names {
            let _ = write!(
                text,
                " {} |",
                cell(row, name, |it| digits(it.first_seconds))
            );
        }
        text.push('\n');
    }
}

fn header<'a>(text: &mut String, columns: impl Iterator<Item = &'a str>) {
    let (mut titles, mut rule) = ("| |".to_owned(), "|---|".to_owned());
    for column in columns {
        let _ = write!(titles, " {column} |");
        rule += "---|";
    }
    let _ = writeln!(text, "{titles}\n{rule}");
}

/// What was measured, or why nothing was.
fn cell(row: &Row, runner: &str, text: impl Fn(&Measured) -> String) -> String {
    match row.outcome(runner) {
        Some(Outcome::Measured(measured)) => text(measured),
        Some(Outcome::Failed(problem)) => problem.replace(['|', '\n'], " "),
        None => "-".into(),
    }
}

/// Three that mean something.
fn digits(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
