use crate::output::Output;
use serde::Serialize;
use smidgen::Error;
use smidgen::bench::DeviceDescription;
use smidgen::gpu::{AdapterSummary, GpuError, adapters};

#[derive(Serialize)]
struct Line<'a> {
    index: usize,
    #[serde(flatten)]
    device: &'a DeviceDescription,
}

pub(crate) fn run(output: &Output) -> Result<(), Error> {
    let adapters = adapters();
    if adapters.is_empty() {
        return Err(GpuError::NoAdapter.into());
    }
    for AdapterSummary { index, facts } in &adapters {
        let device = DeviceDescription::from(facts);
        output.json(&Line {
            index: *index,
            device: &device,
        });
        describe(&format!("{index}: {}", device.title()), &device, output);
    }
    Ok(())
}

/// What a device offers, for a person.
pub(crate) fn describe(title: &str, device: &DeviceDescription, output: &Output) {
    output.text(title);
    for (heading, text) in device.details() {
        output.text(&format!("   {heading:10} {text}"));
    }
}
