//! Runs a session and times it.

use super::{Layer, Profile, ProfileOptions, Reserved, Times};
use crate::bench::{noise, peak_flops};
use crate::session::settle;
use crate::tuning::WARM_UP;
use crate::{Bytes, Error, Session, SessionOptions, StepOptions};
use smidgen_gpu::{Category, Device, DeviceKind, Timeline};
use smidgen_graph::{Graph, Layout};
use std::time::Instant;

impl Profile {
    /// Trains on noise for a few steps, with timestamps around every dispatch. The timestamps count towards a budget.
    ///
    /// # Errors
    /// As [`Session::new`], a session that does not train, a device without timestamps, or one that failed.
    pub fn measure(
        device: Device,
        graph: &Graph,
        options: &SessionOptions,
        profile: &ProfileOptions,
    ) -> Result<Self, Error> {
        if options.training.is_none() {
            return Err(Error::NotTraining);
        }
        // Of a ledger of its own: the session's may have no room for it.
        let peak = peak_flops(&Device::wrap(device.wgpu().clone(), device.queue().clone()))?;
        let whole = Self::planned(device.facts(), graph, options, &profile.name)?;
        let launches: usize = whole.steps.iter().map(|step| step.launches).sum();
        // With room for what a plan of a few bytes less may run more often.
        let timeline = Timeline::new(&device, 2 * launches)?;
        let reserved = device.ledger().reserved_in(Category::Query);
        let less = |Bytes(bytes)| Bytes(bytes.saturating_sub(reserved));
        let options = SessionOptions {
            budget: options.budget.map(less),
            ..options.clone()
        };
        let tuning = &profile.tuning;
        let settled = settle(&device, graph, &options, tuning, true, &mut |_, _| {})?;
        let planned = match &settled.plans {
            Some(plans) => Self::of(
                &settled.blueprint,
                plans,
                device.facts(),
                graph,
                &options,
                &profile.name,
            )?,
            None => Self::planned(device.facts(), graph, &options, &profile.name)?,
        };
        let mut result = Self {
            budget: whole.budget,
            ..planned
        };
        let mut session = Session::settled(device, graph, &options, 1, settled)?;
        let (images, labels) = batch(&session);
        let samples = profile.samples.max(1);
        let mut runs = Vec::with_capacity(samples);
        let mut steps = (0..).map(|step| StepOptions {
            step,
            learning_rate: 1e-3,
            seed: step as u32,
        });
        let mut options = || steps.next().expect("steps without an end");
        // The first step compiles, and a GPU needs more of them to raise its clocks.
        let start = Instant::now();
        loop {
            session.time_step(&timeline, &images, &labels, &options())?;
            let kind = session.device().facts().kind;
            if kind == DeviceKind::Software || start.elapsed() >= WARM_UP {
                break;
            }
        }
        for _ in 0..samples {
            runs.push(session.time_step(&timeline, &images, &labels, &options())?);
        }
        for (at, step) in result.steps.iter_mut().enumerate() {
            step.seconds = Some(median(runs.iter().map(|run| run[at]).collect()));
        }
        let mut whole = Vec::with_capacity(samples);
        for _ in 0..samples {
            let start = Instant::now();
            session.train_step(&images, &labels, &options())?;
            session.metrics()?;
            whole.push(start.elapsed().as_secs_f64());
        }
        result.bounds = session.bounds()?;
        result.layers = Layer::all(
            session.main_program(),
            &result.memory.blocks,
            &result.steps,
            &result.stashes,
            Some(peak),
        );
        result.times = Some(Times {
            device_seconds: median(runs.iter().map(|run| run.iter().sum()).collect()),
            predicted_seconds: result.steps.iter().map(|step| step.predicted).sum(),
            step_seconds: median(whole),
            peak_flops: peak,
            samples,
        });
        let report = session.device().wgpu().generate_allocator_report();
        let ledger = session.device().ledger();
        result.reserved = Some(Reserved {
            planned_arena: result.memory.arena_bytes,
            arena: ledger.reserved_in(Category::Arena),
            planned_ledger: result.footprint.ledger().0,
            ledger: ledger.reserved() - reserved,
            timestamps: reserved,
            allocator: report.map(|report| report.total_reserved_bytes),
        });
        drop(ledger);
        Ok(result)
    }
}

/// A batch of noise, zero where pictures have no channel, and labels in turn.
fn batch(session: &Session) -> (Vec<f32>, Vec<u32>) {
    let program = session.main_program();
    let classes = match program.value(program.logits).layout {
        Layout::Map(shape) => shape.channels,
        _ => 1,
    };
    let images = match program.value(program.images).layout {
        Layout::Map(shape) => {
            let pixels = shape.pixels() as usize * program.micro_batches as usize;
            let channel = |at: usize| (at / 4 / pixels * 4 + at % 4) as u32;
            let count = shape.channels.div_ceil(4) as usize * pixels * 4;
            noise()
                .take(count)
                .enumerate()
                .map(|(at, value)| {
                    if channel(at) < shape.channels {
                        value
                    } else {
                        0.0
                    }
                })
                .collect()
        }
        _ => Vec::new(),
    };
    let labels = (0..session.batch()).map(|image| image % classes).collect();
    (images, labels)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}
