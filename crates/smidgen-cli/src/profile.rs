use crate::arguments::{NetworkArguments, OptimizerName, ProfileArguments};
use crate::output::Output;
use smidgen::cache_folder;
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::profile::{Profile, ProfileOptions};
use smidgen::{Error, Graph, Optimizer, SessionOptions, Training, replace_file, zoo};
use std::io;
use std::path::Path;

pub(crate) fn run(
    arguments: &ProfileArguments,
    adapter: Option<String>,
    output: &Output,
) -> Result<(), Error> {
    let network = &arguments.network;
    let (graph, options) = session(network)?;
    let device = Device::open(&DeviceRequest {
        adapter,
        cache: cache_folder(),
        ..Default::default()
    })?;
    let profile = if arguments.plan_only {
        Profile::planned(device.facts(), &graph, &options, &network.model)?
    } else {
        let options_of_profile = ProfileOptions {
            name: network.model.clone(),
            samples: arguments.steps as usize,
        };
        Profile::measure(device, &graph, &options, &options_of_profile)?
    };
    output.json(&profile);
    output.text(profile.text().trim_end());
    if let Some(path) = &arguments.html {
        write(path, profile.html().map_err(Into::into), output)?;
    }
    if let Some(path) = &arguments.trace {
        write(path, Ok(profile.trace()), output)?;
    }
    Ok(())
}

/// A network, and how it is trained.
pub(crate) fn session(network: &NetworkArguments) -> Result<(Graph, SessionOptions), Error> {
    let graph = zoo::build(&network.model, network.classes, network.image)?;
    let adam = |decoupled| Optimizer::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 1e-4,
        decoupled,
    };
    let optimizer = match network.optimizer {
        OptimizerName::Sgd => Training::default().optimizer,
        OptimizerName::Adam => adam(false),
        OptimizerName::Adamw => adam(true),
    };
    let training = Training {
        optimizer,
        ..Training::default()
    };
    let options = SessionOptions {
        batch: network.batch,
        training: Some(training),
        budget: network.budget,
    };
    Ok((graph, options))
}

fn write(path: &Path, text: io::Result<String>, output: &Output) -> Result<(), Error> {
    let written = text.and_then(|text| replace_file(path, text.as_bytes()));
    written.map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })?;
    output.text(&format!("wrote {}", path.display()));
    Ok(())
}
