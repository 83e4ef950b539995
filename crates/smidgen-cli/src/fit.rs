use crate::arguments::NetworkArguments;
use crate::output::Output;
use crate::profile::session;
use smidgen::cache_folder;
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Error, Fit};

pub(crate) fn run(
    network: &NetworkArguments,
    adapter: Option<String>,
    output: &Output,
) -> Result<(), Error> {
    let (graph, options) = session(network, network.image, network.classes)?;
    let device = Device::open(&DeviceRequest {
        adapter,
        cache: cache_folder(),
        ..Default::default()
    })?;
    let fit = Fit::new(device.facts(), &graph, &options, &network.model)?;
    output.json(&fit);
    output.text(fit.text().trim_end());
    Ok(())
}
