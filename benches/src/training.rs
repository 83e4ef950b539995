//! Training steps on random pictures: upload, forward, loss, backward, update, metrics.

use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Error, STEPS_IN_FLIGHT, Session, SessionOptions, StepOptions, Training, zoo};
use smidgen_reference::layout::to_quads;
use smidgen_reference::numbers::{below, normal};

const CLASSES: u32 = 10;

/// A session, the batch it sees again and again, and the number of the next step.
#[derive(Debug)]
pub struct Run {
    session: Session,
    images: Vec<f32>,
    labels: Vec<u32>,
    step: u64,
    loss: f64,
    parameters: u64,
}

impl Run {
    /// A network of the zoo on batches of coloured pictures, `side` pixels wide and high.
    ///
    /// # Errors
    /// If there is no such network or no device, or the session cannot be made.
    pub fn new(network: &str, batch: usize, side: usize) -> Result<Self, Error> {
        let graph = zoo::build(network, CLASSES, [3, side as u32, side as u32])?;
        let options = SessionOptions {
            batch: batch as u32,
            training: Some(Training::default()),
            budget: None,
        };
        let device = Device::open(&DeviceRequest::default())?;
        let pictures = normal(1, batch * 3 * side * side);
        Ok(Self {
            session: Session::new(device, &graph, &options, 1)?,
            images: to_quads(&pictures, batch, 3, side * side),
            labels: below(2, CLASSES, batch),
            step: 0,
            loss: f64::NAN,
            parameters: graph.parameter_count(),
        })
    }

    /// Submits steps as a trainer does, a few ahead of the device, and waits until all are done.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If the loss is not finite: a step after that changes nothing and measures nothing.
    pub fn steps(&mut self, count: u64) -> Result<(), Error> {
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
        if let Some(metrics) = self.session.metrics()? {
            self.loss = metrics.loss();
            assert!(self.loss.is_finite(), "training must go on to be measured");
        }
        Ok(())
    }

    /// The loss of the last step.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// Trained numbers of the network.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters
    }
}
