//! Where a device stands: its bandwidth and arithmetic peak, and what share of them the kernels reach.
//!
//! ```no_run
//! use smidgen::Tuning;
//! use smidgen::bench::{BenchOptions, run};
//! use smidgen::gpu::{Device, DeviceRequest};
//!
//! let device = Device::open(&DeviceRequest::default())?;
//! let report = run(&device, &BenchOptions { quick: true }, &Tuning::Off, |row| println!("{}", row.line()))?;
//! println!("{}", report.markdown());
//! # Ok::<(), smidgen::Error>(())
//! ```

mod compare;
mod device;
mod kernels;
mod measure;
mod probes;
mod report;
mod row;
mod training;

pub use compare::{Comparison, Ratio};
pub use device::DeviceDescription;
pub use report::Report;
pub use row::{Kind, Peaks, Row, Unit};

use crate::Error;
use crate::tuning::{self, Choices, Tuning};
pub use kernels::networks;
use kernels::{Case, convolutions};
use measure::Bench;
pub(crate) use measure::noise;
use smidgen_gpu::Device;

/// What [`run`] measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BenchOptions {
    /// Leave out the training steps and the kernels of most operations, for a first look in seconds.
    pub quick: bool,
}

/// Measures the peaks, then the kernels, then training steps, with the variants of `tuning`; `on_row` sees each result as it arrives.
///
/// # Errors
/// The device failed, has no memory left, or cannot hold a case.
pub fn run(
    device: &Device,
    options: &BenchOptions,
    tuning: &Tuning,
    mut on_row: impl FnMut(&Row),
) -> Result<Report, Error> {
    let mut rows = Vec::new();
    let mut add = |row: Row| {
        on_row(&row);
        rows.push(row);
    };
    let classes: Vec<_> = convolutions(options)
        .iter()
        .flat_map(Case::classes)
        .collect();
    let choices = tuning::choices(device, &classes, tuning)?;
    let bench = Bench::new(device, options, &choices);
    let copies = probes::copies(&bench)?;
    let fma = probes::fma_peak(&bench)?;
    let peaks = Peaks::of(copies.iter().chain([&fma]));
    for probe in copies.into_iter().chain([fma]) {
        add(probe.with_share(&peaks));
    }
    for case in convolutions(options) {
        for row in case.rows(&bench)? {
            add(row.with_share(&peaks));
        }
    }
    if !options.quick {
        for case in training::CASES {
            add(case.row(device, tuning)?);
        }
    }
    Ok(Report::new(device.facts(), *options, peaks, rows))
}

/// The arithmetic peak of a device, in operations a second.
///
/// # Errors
/// The device failed or has no memory left.
pub(crate) fn peak_flops(device: &Device) -> Result<f64, Error> {
    let choices = Choices::default();
    let bench = Bench::new(device, &BenchOptions { quick: true }, &choices);
    Ok(1e9 * Peaks::of([&probes::fma_peak(&bench)?].into_iter()).gflops)
}
