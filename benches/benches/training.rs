//! Training steps of ResNet-20 on random pictures of 32 by 32: upload, forward, loss, backward, update, metrics; throughput in images.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, SamplingMode, Throughput};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Error, STEPS_IN_FLIGHT, Session, SessionOptions, StepOptions, Training, zoo};
use smidgen_reference::layout::to_quads;
use smidgen_reference::numbers::{below, normal};
use std::time::Instant;

const CLASSES: u32 = 10;
const SIDE: usize = 32;

/// A session, the batch it sees again and again, and the number of the next step.
struct Run {
    session: Session,
    images: Vec<f32>,
    labels: Vec<u32>,
    step: u64,
}

impl Run {
    fn new(batch: usize) -> Result<Self, Error> {
        let side = SIDE as u32;
        let graph = zoo::build("resnet20", CLASSES, [3, side, side])?;
        let options = SessionOptions {
            batch: batch as u32,
            training: Some(Training::default()),
            budget: None,
        };
        let device = Device::open(&DeviceRequest::default())?;
        let pictures = normal(1, batch * 3 * SIDE * SIDE);
        Ok(Self {
            session: Session::new(device, &graph, &options, 1)?,
            images: to_quads(&pictures, batch, 3, SIDE * SIDE),
            labels: below(2, CLASSES, batch),
            step: 0,
        })
    }

    /// Submits steps as a trainer does, a few ahead of the device, and waits until all are done.
    fn steps(&mut self, count: u64) -> Result<(), Error> {
        for _ in 0..count {
            if self.session.pending() == STEPS_IN_FLIGHT {
                self.metrics()?;
            }
            let options = StepOptions {
                step: self.step,
                learning_rate: 0.01,
                seed: 0,
            };
            self.session
                .train_step(&self.images, &self.labels, &options)?;
            self.step += 1;
        }
        while self.session.pending() > 0 {
            self.metrics()?;
        }
        Ok(())
    }

    fn metrics(&mut self) -> Result<(), Error> {
        // A step after a loss that is not finite changes nothing and measures nothing.
        let metrics = self.session.metrics()?;
        assert!(
            metrics.is_some_and(|metrics| metrics.loss().is_finite()),
            "training must go on to be measured"
        );
        Ok(())
    }
}

fn train(group: &mut BenchmarkGroup<'_, WallTime>, batch: usize) {
    let name = format!("ResNet-20 at batch {batch}");
    // Criterion calls the closure for every sample, and not at all for what the command line leaves out.
    let mut run = None;
    group
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Elements(batch as u64))
        .bench_function(format!("batch {batch}"), |bencher| {
            let run = run.get_or_insert_with(|| {
                Run::new(batch).unwrap_or_else(|error| panic!("{name}: {error}"))
            });
            bencher.iter_custom(|steps| {
                let start = Instant::now();
                run.steps(steps)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                start.elapsed()
            });
        });
}

fn main() {
    let mut criterion = smidgen_benches::criterion(3.0);
    let mut group = criterion.benchmark_group("resnet20");
    [128, 32]
        .into_iter()
        .for_each(|batch| train(&mut group, batch));
    group.finish();
    criterion.final_summary();
}
