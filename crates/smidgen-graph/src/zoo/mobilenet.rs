//! MobileNetV2, as torchvision builds it.

use crate::attributes::Activation;
use crate::builder::Builder;
use crate::error::GraphError;
use crate::graph::{Graph, NodeId};
use crate::init::Fan;
use crate::layers::Convolution;

/// Expansion, output channels, blocks and stride of the first block of every stage.
const STAGES: [(u32, u32, u32, u32); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

pub(super) fn build(name: &str, classes: u32, shape: [u32; 3]) -> Result<Graph, GraphError> {
    let mut network = Builder::new(name, shape)?;
    network.initialize_by(Fan::Output);
    let x = network.input();
    let mut x = unit(
        &mut network,
        "features.0",
        x,
        Convolution::new(32, 3).stride(2).padding(1),
    )?;
    let mut place = 1;
    for (expansion, channels, blocks, first_stride) in STAGES {
        for index in 0..blocks {
            let stride = if index == 0 { first_stride } else { 1 };
            x = block(
                &mut network,
                &format!("features.{place}.conv"),
                x,
                expansion,
                channels,
                stride,
            )?;
            place += 1;
        }
    }
    let x = unit(
        &mut network,
        &format!("features.{place}"),
        x,
        Convolution::new(1280, 1),
    )?;
    let x = network.global_average_pool(x)?;
    let x = network.dropout(x, 0.2)?;
    let x = network.linear("classifier.1", x, classes)?;
    network.finish(x)
}

/// Convolution, norm and activation.
fn unit(
    network: &mut Builder,
    name: &str,
    input: NodeId,
    settings: Convolution,
) -> Result<NodeId, GraphError> {
    let x = network.convolution(&format!("{name}.0"), input, settings.without_bias())?;
    let x = network.batch_norm(&format!("{name}.1"), x)?;
    network.activation(x, Activation::Relu6)
}

/// Widen, convolve each channel, narrow; added to its input where the shapes agree.
fn block(
    network: &mut Builder,
    name: &str,
    input: NodeId,
    expansion: u32,
    channels: u32,
    stride: u32,
) -> Result<NodeId, GraphError> {
    let [inputs, ..] = network.shape(input)?;
    let width = inputs * expansion;
    let mut x = input;
    let mut place = 0;
    if expansion > 1 {
        x = unit(network, &format!("{name}.0"), x, Convolution::new(width, 1))?;
        place = 1;
    }
    let depthwise = Convolution::new(width, 3)
        .stride(stride)
        .padding(1)
        .groups(width);
    let x = unit(network, &format!("{name}.{place}"), x, depthwise)?;
    let x = network.convolution(
        &format!("{name}.{}", place + 1),
        x,
        Convolution::new(channels, 1).without_bias(),
    )?;
    let x = network.batch_norm(&format!("{name}.{}", place + 2), x)?;
    if stride == 1 && inputs == channels {
        network.add(input, x)
    } else {
        Ok(x)
    }
}
