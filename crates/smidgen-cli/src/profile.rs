use crate::arguments::{FilterArgument, NetworkArguments, OptimizerName, ProfileArguments};
use crate::comparison::Comparison;
use crate::micro_batch::divide;
use crate::output::Output;
use smidgen::cache_folder;
use smidgen::data::Split;
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::profile::{Profile, ProfileOptions};
use smidgen::{Error, Graph, Optimizer, SessionOptions, Training, Tuning, replace_file, zoo};
use std::io;
use std::path::Path;

pub(crate) fn run(
    arguments: &ProfileArguments,
    adapter: Option<String>,
    output: &Output,
) -> Result<(), Error> {
    let network = &arguments.network;
    let pictures = match &arguments.data {
        Some(data) => Some((data, data.0.open(Split::Train)?)),
        None => None,
    };
    let (image, classes) = match &pictures {
        Some((_, train)) => {
            let shape = train.image_shape();
            let sizes = [shape.channels, shape.height, shape.width];
            (sizes.map(|size| size as u32), train.classes() as u32)
        }
        None => (network.image, network.classes),
    };
    let (mut graph, mut options) = session(network, image, classes)?;
    let request = DeviceRequest {
        adapter,
        cache: cache_folder(),
        ..Default::default()
    };
    let device = Device::open(&request)?;
    let facts = device.facts().clone();
    let comparison = pictures.as_ref().map(|(data, train)| Comparison {
        pictures: train,
        source: &data.0,
        most: network.batch,
        weights: arguments.weights.as_deref(),
        seed: 1,
        budget: network.budget,
    });
    let closeness = match &comparison {
        Some(comparison) => comparison.run(&request, device.facts(), &mut graph, None)?,
        None => Vec::new(),
    };
    divide(network.micro_batch, &graph, device.facts(), &mut options)?;
    let profile = if arguments.plan_only {
        Profile::planned(device.facts(), &graph, &options, &network.model)?
    } else {
        let options_of_profile = ProfileOptions {
            name: network.model.clone(),
            samples: arguments.steps as usize,
            tuning: Tuning::from_environment(device.facts())?,
        };
        Profile::measure(device, &graph, &options, &options_of_profile)?
    };
    let mut profile = profile.with_closeness(&closeness);
    if let Some(comparison) = &comparison {
        // What was measured is told even where the budget has no room for this.
        match comparison.errors(&request, &facts, &graph, &profile.stashes) {
            Ok(errors) => profile = profile.with_gradient_errors(&errors),
            Err(error) => output.hint(&format!("the gradients were not compared: {error}")),
        }
    }
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
pub(crate) fn session(
    network: &NetworkArguments,
    image: [u32; 3],
    classes: u32,
) -> Result<(Graph, SessionOptions), Error> {
    let mut graph = zoo::build(&network.model, classes, image)?;
    if let Some(convolutions) = network.train_last {
        graph.train_last(convolutions)?;
    }
    if network.freeze_statistics {
        graph.freeze_statistics();
    }
    if let Some(FilterArgument(choice)) = &network.filter {
        choice.apply(&mut graph, network.patch)?;
    }
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
        filter_state: network.filter_state.map(Into::into),
        quality: network.quality,
        half_maps: network.half_maps,
        host_budget: network.host_budget,
        ..Training::default()
    };
    let options = SessionOptions {
        batch: network.batch,
        training: Some(training),
        budget: network.budget,
    };
    Ok((graph, options))
}

pub(crate) fn write(path: &Path, text: io::Result<String>, output: &Output) -> Result<(), Error> {
    let written = text.and_then(|text| replace_file(path, text.as_bytes()));
    written.map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })?;
    output.text(&format!("wrote {}", path.display()));
    Ok(())
}
