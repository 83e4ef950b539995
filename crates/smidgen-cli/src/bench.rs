use crate::arguments::BenchArguments;
use crate::devices;
use crate::output::Output;
use serde::Serialize;
use smidgen::bench::{BenchOptions, Comparison, DeviceDescription, Report, Row, run as measure};
use smidgen::cache_folder;
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Error, Tuning};

#[derive(Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<&'a Comparison>,
}

pub(crate) fn run(
    arguments: &BenchArguments,
    adapter: Option<String>,
    output: &Output,
) -> Result<(), Error> {
    // Before anything is measured, so that a wrong file costs no time.
    let old = arguments.compare.as_deref().map(Report::read).transpose()?;
    let device = Device::open(&DeviceRequest {
        adapter,
        cache: cache_folder(),
        ..Default::default()
    })?;
    let tuning = Tuning::from_environment(device.facts())?;
    let options = BenchOptions {
        quick: arguments.quick,
    };
    if !arguments.markdown {
        let description = DeviceDescription::from(device.facts());
        devices::describe(&description.title(), &description, output);
        output.text(&format!("\n{}", Row::headings()));
    }
    let report = measure(&device, &options, &tuning, |row| {
        if !arguments.markdown {
            output.text(&row.line());
        }
    })?;
    let comparison = old.map(|old| report.compare(&old));
    if arguments.markdown {
        output.document(&report.markdown());
        if let Some(comparison) = &comparison {
            output.document(&format!("\n{}", comparison.markdown()));
        }
        return Ok(());
    }
    output.json(&Object {
        report: &report,
        comparison: comparison.as_ref(),
    });
    if let Some(comparison) = &comparison {
        output.text(&format!("\n{}", comparison.text()));
    }
    Ok(())
}
