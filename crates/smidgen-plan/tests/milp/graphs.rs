//! Random networks of blocks, as people build them.

use smidgen_graph::{Activation, Builder, Convolution, Graph, GraphError, NodeId, Pool};

/// A generator of small random numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    pub(crate) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

struct Layers {
    network: Builder,
    count: usize,
}

impl Layers {
    /// A convolution with a normalisation behind it.
    fn normalised(&mut self, from: NodeId, settings: Convolution) -> Result<NodeId, GraphError> {
        self.count += 1;
        let count = self.count;
        let made =
            self.network
                .convolution(&format!("conv{count}"), from, settings.without_bias())?;
        self.network.batch_norm(&format!("norm{count}"), made)
    }

    /// Some layers with a residual around them, or without.
    fn block(&mut self, from: NodeId, random: &mut Random) -> Result<NodeId, GraphError> {
        let [channels, height, _] = self.network.shape(from)?;
        let three = |channels| Convolution::new(channels, 3).padding(1);
        let one = |channels| Convolution::new(channels, 1);
        match random.below(6) {
            0 if height > 4 => self.network.max_pool(from, Pool::new(2).stride(2)),
            1 if height > 4 => {
                let made = self.normalised(from, three(2 * channels).stride(2))?;
                self.network.relu(made)
            }
            2 => {
                let wide = self.normalised(from, one(4 * channels))?;
                let wide = self.network.activation(wide, Activation::Relu6)?;
                let deep = three(4 * channels).groups(4 * channels);
                let deep = self.normalised(wide, deep)?;
                let deep = self.network.activation(deep, Activation::Relu6)?;
                let narrow = self.normalised(deep, one(channels))?;
                self.network.add(narrow, from)
            }
            3 => {
                let narrow = self.normalised(from, one((channels / 2).max(4)))?;
                let narrow = self.network.relu(narrow)?;
                let made = self.normalised(narrow, three(channels))?;
                let sum = self.network.add(made, from)?;
                self.network.relu(sum)
            }
            4 => {
                let made = self.normalised(from, three(channels))?;
                self.network.relu(made)
            }
            _ => {
                let made = self.normalised(from, three(channels))?;
                let made = self.network.relu(made)?;
                let made = self.normalised(made, three(channels))?;
                let sum = self.network.add(made, from)?;
                self.network.relu(sum)
            }
        }
    }
}

/// A random network of three to six blocks for ten classes.
pub(crate) fn graph(random: &mut Random) -> Result<Graph, GraphError> {
    let side = random.of(&[16, 24, 32]);
    let mut layers = Layers {
        network: Builder::new("random", [3, side, side])?,
        count: 0,
    };
    let first = Convolution::new(random.of(&[8, 16, 24]), 3).padding(1);
    let mut node = layers.normalised(layers.network.input(), first)?;
    node = layers.network.relu(node)?;
    for _ in 0..3 + random.below(4) {
        node = layers.block(node, random)?;
    }
    node = layers.network.global_average_pool(node)?;
    node = layers.network.linear("fc", node, 10)?;
    layers.network.finish(node)
}
