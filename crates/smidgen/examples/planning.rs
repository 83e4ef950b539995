//! What planning takes: exact forms and slices, codes as well, and a refusal with what it proposes. Needs no GPU:
//!
//! ```sh
//! cargo run --release -p smidgen --example planning
//! ```

#![allow(clippy::print_stdout)]

use smidgen::gpu::{DeviceFacts, DeviceKind};
use smidgen::{Blueprint, Bytes, Error, Plans, SessionOptions, Training, zoo};
use std::time::Instant;

/// Medians are of so many.
const REPEATS: usize = 5;

/// A discrete GPU whose bindings are as large as the largest of these tensors.
fn facts() -> DeviceFacts {
    DeviceFacts {
        name: "a discrete GPU, by its facts".into(),
        driver: String::new(),
        backend: "vulkan".into(),
        kind: DeviceKind::Discrete,
        max_buffer_bytes: 1 << 36,
        max_binding_bytes: 1 << 36,
        storage_alignment: 256,
        uniform_alignment: 256,
        workgroup_memory_bytes: 32 << 10,
        max_invocations: 256,
        subgroup_sizes: None,
        timestamps: false,
        half_precision: false,
        host_memory: false,
    }
}

/// Median seconds of `work`.
fn median(mut work: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[REPEATS / 2])
}

fn main() -> Result<(), Error> {
    println!("| network | side | batch | quality | plans | least | within half | refusal |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut refusals = Vec::new();
    for (model, classes, side, batch) in [
        ("resnet50", 1000, 224, 256),
        ("mobilenet_v2", 1000, 224, 272),
        ("vgg16_bn", 1000, 224, 64),
        ("resnet20", 10, 32, 7),
        ("mobilenet_v2", 10, 32, 7),
    ] {
        let graph = zoo::build(model, classes, [3, side, side])?;
        for quality in [0.0, 0.02, 0.6] {
            let options = SessionOptions {
                batch,
                training: Some(Training {
                    quality,
                    ..Training::default()
                }),
                budget: None,
            };
            let plans = Plans::new(&graph, &facts(), &options)?;
            let least = plans.least()?.footprint().total();
            let all = Blueprint::new(&graph, &facts(), &options)?
                .footprint()
                .total();
            let half = Bytes((all.0 / 2).max(least.0));
            let planning = median(|| Plans::new(&graph, &facts(), &options).map(drop))?;
            let smallest = median(|| plans.least().map(drop))?;
            let within = median(|| plans.within(&graph, &options, half).map(drop))?;
            let start = Instant::now();
            let refused = plans.within(&graph, &options, Bytes(least.0 - 1)).err();
            let refusal = start.elapsed().as_secs_f64();
            println!(
                "| {model} | {side} | {batch} | {quality} | {planning:.3} s | {smallest:.3} s | {within:.3} s | {refusal:.2} s |"
            );
            refusals.extend(refused);
        }
    }
    println!();
    for refusal in refusals {
        println!("{refusal}");
    }
    Ok(())
}
