//! Published policies and this planner's plans, in bytes and predicted time, for the settings their authors report. Needs no GPU:
//!
//! ```sh
//! cargo run --release -p smidgen --example policies
//! ```

#![allow(clippy::print_stdout)]

use smidgen::forms::Forms;
use smidgen::gpu::{DeviceFacts, DeviceKind};
use smidgen::plan::Preset;
use smidgen::{Blueprint, Bytes, Error, Plans, SessionOptions, Training, zoo};
use std::time::Instant;

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

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1_u64 << 30) as f64
}

fn row(name: &str, blueprint: &Blueprint, seconds: f64, whole: f64) {
    let peak = &blueprint.plan().programs[0].peak;
    println!(
        "| {name} | {:.2} | {:.2} | {:+.0} % |",
        gib(peak.stash),
        gib(blueprint.footprint().total().0),
        100.0 * (seconds / whole - 1.0)
    );
}

fn main() -> Result<(), Error> {
    for (model, batch) in [("resnet50", 256), ("resnet50", 184), ("mobilenet_v2", 272)] {
        let graph = zoo::build(model, 1000, [3, 224, 224])?;
        let options = |quality| SessionOptions {
            batch,
            training: Some(Training {
                quality,
                ..Training::default()
            }),
            budget: None,
        };
        println!("\n{model} at 224, batch {batch}\n");
        println!("| plan | stashed, GiB | true peak, GiB | predicted time |");
        println!("|---|---|---|---|");
        // A quality beyond every code, so that all are open.
        let lossy = Plans::new(&graph, &facts(), &options(1.0))?;
        let mut whole = f64::NAN;
        for preset in Preset::ALL {
            let blueprint = lossy.preset(preset)?;
            let seconds = lossy.seconds(blueprint.forms())?;
            if preset == Preset::KeepAll {
                whole = seconds;
            }
            row(preset.name(), &blueprint, seconds, whole);
        }
        for (name, quality) in [("exact", 0.0), ("quality 0.02", 0.02), ("quality 0.6", 0.6)] {
            let start = Instant::now();
            let plans = Plans::new(&graph, &facts(), &options(quality))?;
            let took = start.elapsed().as_secs_f64();
            let all = lossy.preset(Preset::KeepAll)?.footprint().total().0;
            let least = plans.least()?;
            for share in [0.5, 0.25] {
                let budget = Bytes((all as f64 * share) as u64);
                if budget >= least.footprint().total() {
                    let blueprint = plans.within(&graph, &options(quality), budget)?;
                    let seconds = plans.seconds(blueprint.forms())?;
                    row(
                        &format!("{name}, within {share} of keep-all"),
                        &blueprint,
                        seconds,
                        whole,
                    );
                }
            }
            let seconds = plans.seconds(least.forms())?;
            row(&format!("{name}, the least"), &least, seconds, whole);
            // The least on the stack, among plans that are at most that slow.
            let stashed = |forms: &Forms| -> Result<u64, Error> {
                let explained = plans.explain(forms)?;
                Ok(explained.iter().map(|stash| stash.held_bytes).sum())
            };
            let mut lowest: Option<(u64, _)> = None;
            for point in plans.points()? {
                let held = stashed(&point.forms)?;
                if lowest.as_ref().is_none_or(|(least, _)| held < *least) {
                    lowest = Some((held, point));
                }
            }
            if let Some((held, point)) = lowest {
                println!(
                    "| {name}, the least on the stack | {:.2} | {:.2} | {:+.0} % |",
                    gib(held),
                    gib(point.bytes.0),
                    100.0 * (point.seconds / whole - 1.0)
                );
                let mut split: std::collections::BTreeMap<String, (usize, u64)> =
                    Default::default();
                for stash in plans.explain(&point.forms)? {
                    let entry = split.entry(format!("{:?}", stash.form)).or_default();
                    *entry = (entry.0 + 1, entry.1 + stash.held_bytes);
                }
                for (form, (count, bytes)) in split {
                    println!("|     {count} {form} | {:.3} | | |", gib(bytes));
                }
            }
            println!("| ({name}: planned in {took:.2} s) | | | |");
        }
    }
    Ok(())
}
