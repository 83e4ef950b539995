//! Whole training steps.

use super::measure::{Subject, noise};
use super::{Kind, Row, Unit};
use crate::{Error, STEPS_IN_FLIGHT, Session, SessionOptions, StepOptions, Training, Tuning};
use smidgen_gpu::Device;
use smidgen_graph::zoo;
use std::time::Instant;

const CLASSES: u32 = 10;
const SAMPLES: usize = 5;
/// A sample takes about so long, or else one step.
const SAMPLE_SECONDS: f64 = 0.3;

/// A network and a batch of coloured pictures.
pub(super) struct Case {
    model: &'static str,
    batch: u32,
    side: u32,
}

/// What is trained.
pub(super) const CASES: [Case; 3] = [
    Case {
        model: "resnet20",
        batch: 32,
        side: 32,
    },
    Case {
        model: "resnet20",
        batch: 128,
        side: 32,
    },
    Case {
        model: "resnet18",
        batch: 8,
        side: 64,
    },
];

impl Case {
    /// Upload, forward, loss, backward, update and metrics, submitted a few steps ahead as a trainer does.
    pub(super) fn row(&self, device: &Device, tuning: &Tuning) -> Result<Row, Error> {
        let Self { model, batch, side } = *self;
        let mut run = Run::new(self, device, tuning)?;
        let mut time = |steps: u32| -> Result<f64, Error> {
            let start = Instant::now();
            run.steps(steps)?;
            Ok(start.elapsed().as_secs_f64() / f64::from(steps))
        };
        // The first step compiles; the second tells how many make a sample.
        time(1)?;
        let steps = (SAMPLE_SECONDS / time(1)?).ceil().clamp(1.0, 1000.0) as u32;
        let seconds = (0..SAMPLES)
            .map(|_| time(steps))
            .collect::<Result<Vec<_>, _>>()?;
        let subject = Subject {
            kind: Kind::Training,
            name: format!("train {model}, batch {batch}, {side}x{side}"),
            unit: Unit::Images,
            work: u64::from(batch),
        };
        let host = run.session.host_time();
        Ok(Row {
            host_seconds: Some(host.time.as_secs_f64() / host.batches as f64),
            ..Row::new(subject, seconds, None)
        })
    }
}

/// A session, the batch it sees again and again, and the number of the next step.
struct Run<'a> {
    device: &'a Device,
    session: Session,
    images: Vec<f32>,
    labels: Vec<u32>,
    step: u64,
}

impl<'a> Run<'a> {
    fn new(case: &Case, device: &'a Device, tuning: &Tuning) -> Result<Self, Error> {
        let graph = zoo::build(case.model, CLASSES, [3, case.side, case.side])?;
        let options = SessionOptions {
            batch: case.batch,
            training: Some(Training::default()),
            budget: None,
        };
        // A session keeps its device, and seals its ledger: it gets a ledger of its own.
        let own = Device::wrap(device.wgpu().clone(), device.queue().clone());
        let session = Session::tuned(own, &graph, &options, 1, tuning, |_, _| {})?;
        let pixels = (case.batch * case.side * case.side) as usize;
        // One quad a pixel, its fourth channel padding.
        let images = noise()
            .zip([1.0, 1.0, 1.0, 0.0].into_iter().cycle())
            .map(|(value, mask)| value * mask)
            .take(4 * pixels)
            .collect();
        Ok(Self {
            device,
            session,
            images,
            labels: (0..case.batch).map(|image| image % CLASSES).collect(),
            step: 0,
        })
    }

    fn steps(&mut self, count: u32) -> Result<(), Error> {
        for _ in 0..count {
            if self.session.pending() == STEPS_IN_FLIGHT {
                self.metrics()?;
            }
            let options = StepOptions {
                step: self.step,
                learning_rate: 1e-3,
                seed: 0,
            };
            self.session
                .train_step(&self.images, &self.labels, &options)?;
            self.step += 1;
        }
        while self.session.pending() > 0 {
            self.metrics()?;
        }
        // Faults are reported to the device that the caller opened.
        Ok(self.device.check()?)
    }

    /// Reads the metrics of a step. After a loss that is not finite a step changes nothing, and its time says nothing.
    fn metrics(&mut self) -> Result<(), Error> {
        match self.session.metrics()? {
            Some(metrics) if !metrics.loss().is_finite() => Err(Error::NotFinite {
                step: self.step,
                place: "a training step of the benchmark".into(),
            }),
            _ => Ok(()),
        }
    }
}
