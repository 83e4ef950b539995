//! What published policies for stashes cost in bytes and in the error of weight gradients, on real pictures and trained weights:
//!
//! ```sh
//! cargo run --release -p smidgen --example code_errors
//! ```
//!
//! It reads ResNet-20 and CIFAR-10 below `SMIDGEN_DATA` (`../shared/data` if unset) and skips where there are none.

#![allow(clippy::print_stdout)] // A table is what this program is for.

use smidgen::data::{Augment, DataSource, Loader, Split};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::plan::Preset;
use smidgen::{
    Bytes, Error, Plans, Probe, SessionOptions, StashPoint, Training, checkpoint, gradient_errors,
    zoo,
};
use std::path::PathBuf;

const PICTURES: u32 = 32;

fn main() -> Result<(), Error> {
    let folder = std::env::var_os("SMIDGEN_DATA").map_or("../shared/data".into(), PathBuf::from);
    let weights = folder.join("models/resnet20_cifar10.safetensors");
    if !weights.exists() {
        println!("no trained weights at {}", weights.display());
        return Ok(());
    }
    let source = DataSource::Cifar10(folder.join("cifar-10-batches-bin"));
    let pictures = source.open(Split::Train)?;
    let loader = Loader::training(
        pictures,
        PICTURES as usize,
        source.normalization(),
        Augment::default(),
        1,
    )?;
    let Some(batch) = loader.epoch(0, 0).next().transpose()? else {
        return Ok(());
    };
    let weights = checkpoint::read_weights(&weights)?;
    let probe = Probe {
        images: &batch.images,
        labels: &batch.labels,
        weights: Some(&weights),
        seed: 1,
        budget: None,
    };
    let graph = zoo::build("resnet20", 10, [3, 32, 32])?;
    let options = SessionOptions {
        batch: PICTURES,
        training: Some(Training {
            quality: 1.0,
            ..Training::default()
        }),
        budget: None,
    };
    let request = DeviceRequest::default();
    let plans = Plans::new(&graph, Device::open(&request)?.facts(), &options)?;
    println!("| policy | stashed | weight gradient off, median of the layers | at most |");
    println!("|---|---|---|---|");
    for preset in [
        Preset::EightBits,
        Preset::Gact,
        Preset::Comet,
        Preset::ActNn,
    ] {
        let stashes = plans.explain(plans.preset(preset)?.forms())?;
        row(
            preset.name(),
            &stashes,
            &gradient_errors(&request, &graph, &stashes, &probe)?,
        );
    }
    Ok(())
}

fn row(name: &str, stashes: &[StashPoint], errors: &[smidgen::GradientError]) {
    let held: u64 = stashes.iter().map(|stash| stash.held_bytes).sum();
    let mut errors: Vec<f64> = errors.iter().map(|error| error.relative).collect();
    errors.sort_by(f64::total_cmp);
    let [median, most] = [errors[errors.len() / 2], errors[errors.len() - 1]];
    println!(
        "| {name} | {} | {:.2} % | {:.2} % |",
        Bytes(held),
        100.0 * median,
        100.0 * most
    );
}
