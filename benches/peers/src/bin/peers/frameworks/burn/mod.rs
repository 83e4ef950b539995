//! Burn: f32, its defaults, which fuse and tune on wgpu.

mod networks;

use burn::backend::Dispatch;
use burn::backend::ops::ModuleOps;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::prelude::*;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Distribution, Transaction};
use networks::Network;
use smidgen_peers::serve::{Subject, serve};
use smidgen_peers::{Case, Convolution, Hello, Pass, Training};
use smidgen_reference::numbers::{below, normal};
use std::time::{Duration, Instant};

const VERSION: &str = "Burn 0.22.1";

/// On the adapter that wgpu prefers.
pub(super) fn wgpu() -> std::io::Result<()> {
    let (device, setup) = burn::tensor::wgpu::WgpuOptions::default()
        .init_with_setup()
        .map_err(std::io::Error::other)?;
    let adapter = setup.adapter.get_info();
    let hello = Hello {
        name: format!("{VERSION} wgpu"),
        device: format!(
            "{} ({} {})",
            adapter.name, adapter.driver, adapter.driver_info
        ),
        settings: "WGSL on wgpu, fusion, tuned".into(),
    };
    serve(&hello, |case| build(case, &device))
}

/// On the CPU.
pub(super) fn flex() -> std::io::Result<()> {
    let hello = Hello {
        name: format!("{VERSION} flex"),
        device: "CPU".into(),
        settings: "SIMD, AVX-512 where there is, all cores".into(),
    };
    serve(&hello, |case| build(case, &Device::flex()))
}

fn build(case: &Case, device: &Device) -> Result<Box<dyn Subject>, String> {
    Ok(match case {
        Case::Training(training) => Box::new(Steps::new(training, device)?),
        Case::Convolution(convolution) => Box::new(Passes::new(convolution, device)),
    })
}

fn failed(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

struct Steps {
    device: Device,
    /// Taken while a step changes it.
    network: Option<Network>,
    optimizer: ModuleOptimizer,
    criterion: CrossEntropyLoss,
    images: TensorData,
    labels: TensorData,
    loss: f64,
    parameters: u64,
}

impl Steps {
    fn new(training: &Training, device: &Device) -> Result<Self, String> {
        let device = device.clone().autodiff();
        let &Training { batch, side, .. } = training;
        let network = Network::new(&training.network, &device)?;
        let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
        let optimizer = SgdConfig::new()
            .with_momentum(Some(momentum))
            .with_weight_decay(Some(WeightDecayConfig::new(1e-4)));
        let labels: Vec<i32> = below(2, networks::CLASSES as u32, batch)
            .into_iter()
            .map(|label| label as i32)
            .collect();
        Ok(Self {
            parameters: network.trained() as u64,
            network: Some(network),
            optimizer: optimizer.init(),
            criterion: CrossEntropyLossConfig::new().init(&device),
            images: TensorData::new(normal(1, batch * 3 * side * side), [batch, 3, side, side]),
            labels: TensorData::new(labels, [batch]),
            loss: f64::NAN,
            device,
        })
    }

    fn step(&mut self) -> Result<(), String> {
        let network = self.network.take().ok_or("a step failed before")?;
        let images = Tensor::<4>::from_data(self.images.clone(), &self.device);
        let labels = Tensor::<1, Int>::from_data(self.labels.clone(), &self.device);
        let logits = network.forward(images);
        let loss = self.criterion.forward(logits.clone(), labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        self.network = Some(self.optimizer.step(0.01, network, gradients));
        let hits = logits
            .argmax(1)
            .flatten::<1>(0, 1)
            .equal(labels)
            .int()
            .sum();
        let metrics = Transaction::default()
            .register(loss)
            .register(hits)
            .try_execute()
            .map_err(failed)?;
        self.loss = metrics[0].iter::<f64>().next().unwrap_or(f64::NAN);
        Ok(())
    }
}

impl Subject for Steps {
    fn run(&mut self, times: u64) -> Result<Duration, String> {
        let start = Instant::now();
        for _ in 0..times {
            self.step()?;
        }
        self.device.sync().map_err(failed)?;
        Ok(start.elapsed())
    }

    fn parameters(&self) -> Option<u64> {
        Some(self.parameters)
    }

    fn loss(&self) -> Option<f64> {
        Some(self.loss)
    }
}

/// One pass of a convolution, called as automatic differentiation calls it.
struct Passes {
    device: Device,
    pass: Pass,
    options: ConvOptions<2>,
    input: Tensor<4>,
    weight: Tensor<4>,
    output_gradient: Tensor<4>,
}

impl Passes {
    fn new(case: &Convolution, device: &Device) -> Self {
        let &Convolution {
            batch,
            channels,
            side,
            outputs,
            kernel,
            groups,
            pass,
        } = case;
        let random =
            |shape: [usize; 4]| Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
        Self {
            device: device.clone(),
            pass,
            options: ConvOptions::new([1, 1], [kernel / 2; 2], [1, 1], groups),
            input: random([batch, channels, side, side]),
            weight: random([outputs, channels / groups, kernel, kernel]),
            output_gradient: random([batch, outputs, side, side]),
        }
    }
}

impl Subject for Passes {
    fn run(&mut self, times: u64) -> Result<Duration, String> {
        self.device.sync().map_err(failed)?;
        let start = Instant::now();
        for _ in 0..times {
            let [input, weight, gradient] = [&self.input, &self.weight, &self.output_gradient]
                .map(|tensor| tensor.clone().into_dispatch());
            let options = self.options.clone();
            drop(match self.pass {
                Pass::Forward => Dispatch::conv2d(input, weight, None, options),
                Pass::InputGradient => {
                    Dispatch::conv2d_x_backward(input, weight, gradient, options)
                }
                Pass::WeightGradient => {
                    Dispatch::conv2d_weight_backward(input, weight, gradient, options)
                }
            });
        }
        self.device.sync().map_err(failed)?;
        Ok(start.elapsed())
    }
}
