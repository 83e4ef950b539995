//! VGG with batch norm, as torchvision builds it for pictures of 224 pixels; for others with a single linear layer at the end.

use crate::builder::Builder;
use crate::error::GraphError;
use crate::graph::Graph;
use crate::init::Fan;
use crate::layers::{Convolution, Pool};

/// Output channels of the convolutions between pools.
type Stages = [&'static [u32]; 5];

pub(super) const ELEVEN: Stages = [&[64], &[128], &[256, 256], &[512, 512], &[512, 512]];
pub(super) const SIXTEEN: Stages = [
    &[64, 64],
    &[128, 128],
    &[256, 256, 256],
    &[512, 512, 512],
    &[512, 512, 512],
];

pub(super) fn build(
    name: &str,
    stages: &Stages,
    classes: u32,
    shape: [u32; 3],
) -> Result<Graph, GraphError> {
    let mut network = Builder::new(name, shape)?;
    network.initialize_by(Fan::Output);
    let mut x = network.input();
    // Every layer counts in PyTorch's names, those without parameters too.
    let mut place = 0;
    for stage in stages {
        for &channels in *stage {
            x = network.convolution(
                &format!("features.{place}"),
                x,
                Convolution::new(channels, 3).padding(1),
            )?;
            x = network.batch_norm(&format!("features.{}", place + 1), x)?;
            x = network.relu(x)?;
            place += 3;
        }
        x = network.max_pool(x, Pool::new(2))?;
        place += 1;
    }
    if network.shape(x)?[1..] == [7, 7] {
        x = network.flatten(x)?;
        for layer in ["classifier.0", "classifier.3"] {
            x = network.linear(layer, x, 4096)?;
            x = network.relu(x)?;
            x = network.dropout(x, 0.5)?;
        }
        x = network.linear("classifier.6", x, classes)?;
    } else {
        x = network.global_average_pool(x)?;
        x = network.linear("classifier", x, classes)?;
    }
    network.finish(x)
}
