//! The ResNets of He et al. for small pictures: three stages of 16, 32 and 64 channels times a width, shortcuts without parameters.

use crate::builder::Builder;
use crate::error::GraphError;
use crate::graph::{Graph, NodeId};
use crate::layers::Convolution;

pub(super) fn build(
    name: &str,
    blocks: u32,
    width: u32,
    classes: u32,
    shape: [u32; 3],
) -> Result<Graph, GraphError> {
    let mut network = Builder::new(name, shape)?;
    let x = network.input();
    let x = network.convolution("conv1", x, three(16 * width, 1))?;
    let x = network.batch_norm("bn1", x)?;
    let mut x = network.relu(x)?;
    for (stage, channels) in (1..).zip([16, 32, 64].map(|channels| channels * width)) {
        for index in 0..blocks {
            let stride = if stage > 1 && index == 0 { 2 } else { 1 };
            x = block(
                &mut network,
                &format!("layer{stage}.{index}"),
                x,
                channels,
                stride,
            )?;
        }
    }
    let x = network.global_average_pool(x)?;
    let x = network.linear("linear", x, classes)?;
    network.finish(x)
}

fn block(
    network: &mut Builder,
    name: &str,
    input: NodeId,
    channels: u32,
    stride: u32,
) -> Result<NodeId, GraphError> {
    let x = network.convolution(&format!("{name}.conv1"), input, three(channels, stride))?;
    let x = network.batch_norm(&format!("{name}.bn1"), x)?;
    let x = network.relu(x)?;
    let x = network.convolution(&format!("{name}.conv2"), x, three(channels, 1))?;
    let x = network.batch_norm(&format!("{name}.bn2"), x)?;
    let shortcut = if network.shape(input)? == network.shape(x)? {
        input
    } else {
        network.shortcut(input, stride, channels)?
    };
    let x = network.add(x, shortcut)?;
    network.relu(x)
}

fn three(channels: u32, stride: u32) -> Convolution {
    Convolution::new(channels, 3)
        .stride(stride)
        .padding(1)
        .without_bias()
}
