//! One result.

use super::measure::Subject;
use serde::{Deserialize, Serialize};

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Moving bytes.
    Copy,
    /// Multiply-adds in registers.
    Fma,
    /// A product of two matrices.
    MatrixProduct,
    /// A pass of a convolution.
    Convolution,
    /// Training steps.
    Training,
}

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// 10^9 multiplications and additions a second, counted apart.
    #[serde(rename = "GFLOP/s")]
    Arithmetic,
    /// 10^9 bytes a second, read plus written.
    #[serde(rename = "GB/s")]
    Bandwidth,
    /// Images a second.
    #[serde(rename = "images/s")]
    Images,
}

impl Unit {
    /// As it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "GFLOP/s",
            Self::Bandwidth => "GB/s",
            Self::Images => "images/s",
        }
    }

    /// What of the work makes one.
    fn size(self) -> f64 {
        match self {
            Self::Arithmetic | Self::Bandwidth => 1e9,
            Self::Images => 1.0,
        }
    }
}

/// The best the device was seen to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Of the probe of multiply-adds.
    pub gflops: f64,
    /// Of the fastest copy.
    pub gigabytes_per_second: f64,
}

impl Peaks {
    /// The fastest samples of these rows.
    pub(super) fn of<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Self {
        let best = |unit: Unit| {
            let rows = rows.clone().filter(|row| row.unit == unit);
            rows.map(Row::best_rate).fold(0.0, f64::max)
        };
        Self {
            gflops: best(Unit::Arithmetic),
            gigabytes_per_second: best(Unit::Bandwidth),
        }
    }
}

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is about.
    pub kind: Kind,
    /// What was measured; no two rows of a report have the same name.
    pub name: String,
    /// Median time of a run, or of a training step.
    pub seconds: f64,
    /// The fastest sample.
    pub fastest_seconds: f64,
    /// How many samples there are; each takes the mean over as many runs as it needs to be long enough.
    pub samples: usize,
    /// The rate of the median.
    pub rate: f64,
    /// What the rate counts.
    pub unit: Unit,
    /// The rate as a share of the measured peak of its unit.
    pub of_peak: Option<f64>,
    /// The shaders that were chosen and their defines, in the order they run.
    pub variant: Option<String>,
    /// Seconds of a training step that the host spends on filling buffers, recording and submitting, without waiting for the device.
    #[serde(default)]
    pub host_seconds: Option<f64>,
}

/// Defines that say what the operator is, not how it is computed.
const OF_THE_SHAPE: [&str; 8] = [
    "DILATION_X",
    "STRIDE_X",
    "TAPS_X",
    "TAPS",
    "KERNEL_X",
    "WINDOW",
    "TRANSPOSED",
    "GROUPED",
];

impl Row {
    /// A result from the seconds of each sample.
    pub(super) fn new(subject: Subject, mut samples: Vec<f64>, variant: Option<String>) -> Self {
        samples.sort_by(f64::total_cmp);
        // The clock may be too coarse to see a run at all.
        let at = |index: usize| samples.get(index).copied().unwrap_or(0.0).max(1e-12);
        let seconds = at(samples.len() / 2);
        Self {
            kind: subject.kind,
            name: subject.name,
            seconds,
            fastest_seconds: at(0),
            samples: samples.len(),
            rate: subject.work as f64 / seconds / subject.unit.size(),
            unit: subject.unit,
            of_peak: None,
            variant,
            host_seconds: None,
        }
    }

    /// The rate of the fastest sample.
    pub(super) fn best_rate(&self) -> f64 {
        self.rate * self.seconds / self.fastest_seconds
    }

    pub(super) fn with_share(self, peaks: &Peaks) -> Self {
        let peak = match self.unit {
            Unit::Arithmetic => peaks.gflops,
            Unit::Bandwidth => peaks.gigabytes_per_second,
            Unit::Images => 0.0,
        };
        let of_peak = (peak > 0.0).then(|| self.rate / peak);
        Self { of_peak, ..self }
    }

    /// The headings over [`line`](Self::line).
    #[must_use]
    pub fn headings() -> String {
        columns("", "time", "rate", "of peak", "variant")
    }

    /// The row of a table in plain text.
    #[must_use]
    pub fn line(&self) -> String {
        let [time, rate, share, variant] = self.cells();
        columns(&self.name, &time, &rate, &share, &variant)
    }

    /// The row of a table in Markdown.
    pub(super) fn markdown(&self) -> String {
        let [time, rate, share, variant] = self.cells();
        let name = self.name.replace('|', "\\|");
        format!("| {name} | {time} | {rate} | {share} | {variant} |")
    }

    fn cells(&self) -> [String; 4] {
        let share = self
            .of_peak
            .map(|share| format!("{:.0} %", 100.0 * share))
            .unwrap_or_default();
        let rate = format!("{} {}", figures(self.rate), self.unit.name());
        [time(self.seconds), rate, share, self.short_variant()]
    }

    /// The variant without what follows from the shape; of a training step, the host's share.
    fn short_variant(&self) -> String {
        if let Some(host) = self.host_seconds {
            return format!("host {:.1} %", 100.0 * host / self.seconds);
        }
        let chosen = |word: &&str| {
            let name = word.split('=').next().unwrap_or(word);
            !OF_THE_SHAPE.contains(&name)
        };
        let words = self.variant.as_deref().unwrap_or_default().split(' ');
        words.filter(chosen).collect::<Vec<_>>().join(" ")
    }
}

fn columns(name: &str, time: &str, rate: &str, share: &str, variant: &str) -> String {
    format!("{name:48} {time:>9} {rate:>17} {share:>8}  {variant}")
        .trim_end()
        .to_owned()
}

/// Three figures or more: `0.123`, `1.23`, `12.3`, `1234`.
fn figures(number: f64) -> String {
    let decimals = match number {
        number if number < 1.0 => 3,
        number if number < 10.0 => 2,
        number if number < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}")
}

fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1e-3 => format!("{} µs", figures(1e6 * seconds)),
        seconds if seconds < 1.0 => format!("{} ms", figures(1e3 * seconds)),
        _ => format!("{} s", figures(seconds)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn row(kind: Kind, name: &str, unit: Unit, rate: f64) -> Row {
        let subject = Subject {
            kind,
            name: name.into(),
            unit,
            work: (rate * unit.size()) as u64,
        };
        let variant = "direct QUADS=4 STRIDE_X=1 TILE=4 WINDOW=6 + sum_partials";
        let peaks = Peaks {
            gflops: 100.0,
            gigabytes_per_second: 10.0,
        };
        Row::new(subject, vec![3.0, 1.0, 0.5], Some(variant.into())).with_share(&peaks)
    }

    #[test]
    fn rates_are_of_the_median_and_peaks_of_the_fastest() {
        let row = row(Kind::Fma, "fma peak", Unit::Arithmetic, 50.0);
        assert_eq!(
            (row.seconds, row.fastest_seconds, row.samples),
            (1.0, 0.5, 3)
        );
        assert_eq!((row.rate, row.of_peak), (50.0, Some(0.5)));
        let peaks = Peaks::of([&row].into_iter());
        assert_eq!((peaks.gflops, peaks.gigabytes_per_second), (100.0, 0.0));
    }

    #[test]
    fn shares_are_of_the_peak_of_the_same_unit() {
        let copy = row(Kind::Copy, "copy", Unit::Bandwidth, 5.0);
        assert_eq!(copy.of_peak, Some(0.5));
        let training = row(Kind::Training, "train", Unit::Images, 5.0);
        assert_eq!(training.of_peak, None);
    }

    #[test]
    fn lines_stand_in_columns() {
        let line = row(Kind::Convolution, "conv", Unit::Arithmetic, 12.34).line();
        let headings = Row::headings();
        assert!(line.starts_with("conv  "), "{line}");
        assert!(
            line.ends_with("  direct QUADS=4 TILE=4 + sum_partials"),
            "{line}"
        );
        for (heading, cell) in [
            ("time", "1.00 s"),
            ("rate", "12.3 GFLOP/s"),
            ("of peak", "12 %"),
        ] {
            let end = |text: &str, word: &str| text.find(word).unwrap() + word.len();
            assert_eq!(
                end(&headings, heading),
                end(&line, cell),
                "{headings}\n{line}"
            );
        }
        let starts = (headings.find("variant"), line.find("direct"));
        assert_eq!(starts.0, starts.1, "{headings}\n{line}");
    }

    #[test]
    fn numbers_have_as_many_figures_as_they_need() {
        for (number, text) in [
            (0.1234, "0.123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (1234.0, "1234"),
        ] {
            assert_eq!(figures(number), text);
        }
        for (seconds, text) in [(2.5e-6, "2.50 µs"), (0.025, "25.0 ms"), (2.5, "2.50 s")] {
            assert_eq!(time(seconds), text);
        }
    }
}
