//! The networks of `pytorch.py`, layer for layer.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn::tensor::ops::PadMode;

pub(super) const CLASSES: usize = 10;

/// A ResNet: of three stages for small pictures, of four for large ones.
#[derive(Module, Debug)]
pub(super) struct Network {
    stem: Unit,
    #[module(skip)]
    pooled: bool,
    blocks: Vec<Block>,
    head: Linear,
}

/// A convolution and the normalisation of its output.
#[derive(Module, Debug)]
struct Unit {
    convolution: Conv2d,
    normalisation: BatchNorm,
}

/// Two convolutions, added to what they were given.
#[derive(Module, Debug)]
struct Block {
    first: Unit,
    second: Unit,
    projection: Option<Unit>,
    /// Channels of zeros on each side of a shortcut that has no projection and yet changes its shape.
    #[module(skip)]
    padding: usize,
}

impl Network {
    pub(super) fn new(name: &str, device: &Device) -> Result<Self, String> {
        let (stem, stages, large): (_, &[_], _) = match name {
            "resnet20" => ([3, 16, 3, 1], &[(16, 3), (32, 3), (64, 3)], false),
            "resnet18" => (
                [3, 64, 7, 2],
                &[(64, 2), (128, 2), (256, 2), (512, 2)],
                true,
            ),
            _ => return Err(format!("no network {name}")),
        };
        let mut channels = stages[0].0;
        let mut blocks = Vec::new();
        for (stage, &(width, count)) in stages.iter().enumerate() {
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                blocks.push(Block::new(channels, width, stride, large, device));
                channels = width;
            }
        }
        Ok(Self {
            stem: Unit::new(stem, device),
            pooled: large,
            blocks,
            head: LinearConfig::new(channels, CLASSES).init(device),
        })
    }

    /// Trained numbers: without running statistics, which `num_params` counts as well.
    pub(super) fn trained(&self) -> usize {
        let blocks = self.blocks.iter().flat_map(|block| {
            let units = [
                Some(&block.first),
                Some(&block.second),
                block.projection.as_ref(),
            ];
            units.into_iter().flatten()
        });
        let channels = |unit: &Unit| unit.normalisation.gamma.dims()[0];
        let normalised: usize = std::iter::once(&self.stem)
            .chain(blocks)
            .map(channels)
            .sum();
        self.num_params() - 2 * normalised
    }

    /// Images `[batch, channel, y, x]` to logits `[batch, class]`.
    pub(super) fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.stem.forward(images));
        if self.pooled {
            let pool = MaxPool2dConfig::new([3, 3])
                .with_strides([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
            x = pool.init().forward(x);
        }
        x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = AdaptiveAvgPool2dConfig::new([1, 1]).init().forward(x);
        self.head.forward(x.flatten(1, 3))
    }
}

impl Unit {
    /// Input and output channels, width and height of the kernel, stride.
    fn new([inputs, outputs, kernel, stride]: [usize; 4], device: &Device) -> Self {
        let padding = kernel / 2;
        let convolution = Conv2dConfig::new([inputs, outputs], [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(
                padding, padding, padding, padding,
            ))
            .with_bias(false);
        Self {
            convolution: convolution.init(device),
            normalisation: BatchNormConfig::new(outputs).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.normalisation.forward(self.convolution.forward(x))
    }
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize, project: bool, device: &Device) -> Self {
        let changes = stride > 1 || inputs != outputs;
        Self {
            first: Unit::new([inputs, outputs, 3, stride], device),
            second: Unit::new([outputs, outputs, 3, 1], device),
            projection: (project && changes)
                .then(|| Unit::new([inputs, outputs, 1, stride], device)),
            padding: if changes && !project {
                (outputs - inputs) / 2
            } else {
                0
            },
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.first.forward(x.clone());
        let y = self.second.forward(relu(y));
        let x = match &self.projection {
            Some(projection) => projection.forward(x),
            None if self.padding > 0 => {
                let sides = (self.padding, self.padding);
                x.slice(s![.., .., ..;2, ..;2])
                    .pad([(0, 0), sides, (0, 0), (0, 0)], PadMode::Constant(0.0))
            }
            None => x,
        };
        relu(y + x)
    }
}
