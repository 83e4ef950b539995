use crate::arguments::FitArguments;
use crate::micro_batch::divide;
use crate::output::Output;
use crate::profile::{session, write};
use smidgen::cache_folder;
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Error, Fit};
use std::io;

pub(crate) fn run(
    arguments: &FitArguments,
    adapter: Option<String>,
    output: &Output,
) -> Result<(), Error> {
    let network = &arguments.network;
    let (graph, mut options) = session(network, network.image, network.classes)?;
    let device = Device::open(&DeviceRequest {
        adapter,
        cache: cache_folder(),
        ..Default::default()
    })?;
    divide(network.micro_batch, &graph, device.facts(), &mut options)?;
    let fit = Fit::new(device.facts(), &graph, &options, &arguments.network.model)?;
    output.json(&fit);
    output.text(fit.text().trim_end());
    if let (Some(path), Some(plan)) = (&arguments.plan, &fit.plan) {
        let text = serde_json::to_string_pretty(plan).map_err(io::Error::from);
        write(path, text, output)?;
    }
    Ok(())
}
