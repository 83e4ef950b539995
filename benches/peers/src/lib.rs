//! What the measured programs and the one that measures them agree on.
//!
//! A *runner* is a program that measures one framework. It says who it is with a [`Hello`], then answers every [`Request`] on standard
//! input with a [`Reply`] on standard output, each a line of JSON. It stays alive between rounds, so that what it compiles and tunes is
//! paid for once.

pub mod cases;
pub mod serve;

use serde::{Deserialize, Serialize};

/// Who answers, and on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The framework and its version.
    pub name: String,
    /// The device and its driver, as the framework names them.
    pub device: String,
    /// Settings that matter for the result, such as the number of threads.
    pub settings: String,
}

/// What is asked of a runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Forget the case before, build this one and run it until it is warm.
    Prepare(Case),
    /// Run the case for about so many seconds, at least once.
    Run(f64),
}

/// What a runner answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The case is warm.
    Ready(Ready),
    /// The case was run.
    Sample(Sample),
    /// It could not be done; the runner goes on.
    Failed(String),
}

/// The answer to [`Request::Prepare`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Seconds from the request to the end of the first run: building, compiling, tuning.
    pub first_seconds: f64,
    /// Trained numbers of a network.
    pub parameters: Option<u64>,
}

/// The answer to [`Request::Run`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds of one run, the mean of as many as fit.
    pub seconds: f64,
    /// The loss of the last training step.
    pub loss: Option<f64>,
}

/// Something to measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Whole training steps.
    Training(Training),
    /// One pass of a convolution.
    Convolution(Convolution),
}

/// Training steps: upload of the batch, forward, cross entropy, backward, SGD with momentum, loss and hits read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// `resnet20` or `resnet18`.
    pub network: String,
    /// Images in a batch.
    pub batch: usize,
    /// Width and height of the coloured images.
    pub side: usize,
}

/// A convolution of stride 1 whose output is as large as its input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convolution {
    /// Images in a batch.
    pub batch: usize,
    /// Input channels.
    pub channels: usize,
    /// Width and height of the maps.
    pub side: usize,
    /// Output channels.
    pub outputs: usize,
    /// Width and height of the kernel, odd.
    pub kernel: usize,
    /// Groups that channels are divided into.
    pub groups: usize,
    /// What is computed.
    pub pass: Pass,
}

/// A pass of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// Output from input and weight.
    Forward,
    /// Gradient of the input from that of the output.
    InputGradient,
    /// Gradient of the weight from that of the output.
    WeightGradient,
}
