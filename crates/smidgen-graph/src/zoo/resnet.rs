//! The ResNets of He et al. for large pictures, as torchvision builds them.

use crate::builder::Builder;
use crate::error::GraphError;
use crate::graph::{Graph, NodeId};
use crate::init::Fan;
use crate::layers::{Convolution, Pool};

/// A block's convolutions: output channels, kernel, stride.
type Convolutions = Vec<(u32, u32, u32)>;

pub(super) fn basic(
    name: &str,
    blocks: [u32; 4],
    classes: u32,
    shape: [u32; 3],
) -> Result<Graph, GraphError> {
    build(name, blocks, classes, shape, |width, stride| {
        vec![(width, 3, stride), (width, 3, 1)]
    })
}

pub(super) fn bottleneck(
    name: &str,
    blocks: [u32; 4],
    classes: u32,
    shape: [u32; 3],
) -> Result<Graph, GraphError> {
    build(name, blocks, classes, shape, |width, stride| {
        vec![(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
    })
}

fn build(
    name: &str,
    blocks: [u32; 4],
    classes: u32,
    shape: [u32; 3],
    convolutions: fn(u32, u32) -> Convolutions,
) -> Result<Graph, GraphError> {
    let mut network = Builder::new(name, shape)?;
    network.initialize_by(Fan::Output);
    let x = network.input();
    let x = network.convolution(
        "conv1",
        x,
        Convolution::new(64, 7).stride(2).padding(3).without_bias(),
    )?;
    let x = network.batch_norm("bn1", x)?;
    let x = network.relu(x)?;
    let mut x = network.max_pool(x, Pool::new(3).stride(2).padding(1))?;
    for (stage, (width, count)) in (1..).zip([64, 128, 256, 512].into_iter().zip(blocks)) {
        for index in 0..count {
            let stride = if stage > 1 && index == 0 { 2 } else { 1 };
            x = block(
                &mut network,
                &format!("layer{stage}.{index}"),
                x,
                &convolutions(width, stride),
                stride,
            )?;
        }
    }
    let x = network.global_average_pool(x)?;
    let x = network.linear("fc", x, classes)?;
    network.finish(x)
}

fn block(
    network: &mut Builder,
    name: &str,
    input: NodeId,
    convolutions: &[(u32, u32, u32)],
    stride: u32,
) -> Result<NodeId, GraphError> {
    let mut x = input;
    for (number, &(channels, kernel, stride)) in (1..).zip(convolutions) {
        if number > 1 {
            x = network.relu(x)?;
        }
        let settings = Convolution::new(channels, kernel)
            .stride(stride)
            .padding(kernel / 2)
            .without_bias();
        x = network.convolution(&format!("{name}.conv{number}"), x, settings)?;
        x = network.batch_norm(&format!("{name}.bn{number}"), x)?;
    }
    let (before, [channels, ..]) = (network.shape(input)?, network.shape(x)?);
    let shortcut = if stride == 1 && before[0] == channels {
        input
    } else {
        let settings = Convolution::new(channels, 1).stride(stride).without_bias();
        let y = network.convolution(&format!("{name}.downsample.0"), input, settings)?;
        network.batch_norm(&format!("{name}.downsample.1"), y)?
    };
    let x = network.add(x, shortcut)?;
    network.relu(x)
}
