//! A network as its user thinks of it.

use crate::attributes::{Activation, ConvolutionAttributes, PoolAttributes};
use crate::error::GraphError;
use crate::init::Initial;
use crate::program::Layout;
use std::collections::BTreeMap;

/// What a layer returned: the input of the next ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// Its place in [`Graph::nodes`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// Index of a parameter in [`Graph::parameters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParameterId(pub usize);

/// Index of a buffer in [`Graph::buffers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferId(pub usize);

/// What a layer does to its inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layer {
    /// The pictures.
    Input,
    /// A convolution, or a linear layer: its kernel is then the whole map.
    Convolution {
        /// Sizes.
        attributes: ConvolutionAttributes,
        /// The weight.
        weight: ParameterId,
        /// The bias, if any.
        bias: Option<ParameterId>,
    },
    /// Normalisation over the batch.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Share of the new batch in the running statistics.
        momentum: f32,
        /// Factor of each channel (PyTorch's `weight`).
        scale: ParameterId,
        /// Summand of each channel (PyTorch's `bias`).
        shift: ParameterId,
        /// Running mean.
        running_mean: BufferId,
        /// Running variance.
        running_variance: BufferId,
    },
    /// An elementwise function.
    Activation(Activation),
    /// The sum of two maps.
    Add,
    /// Maps one after the other along the channels.
    Concat,
    /// Every `stride`-th pixel, among zero channels.
    Shortcut {
        /// Steps between pixels.
        stride: u32,
        /// Zero channels before; the rest stands behind.
        channel_offset: u32,
    },
    /// The largest of a window.
    MaxPool(PoolAttributes),
    /// The average of a window.
    AveragePool(PoolAttributes),
    /// The average of each channel.
    GlobalAveragePool,
    /// A map seen as one long vector; nothing moves.
    Flatten,
    /// While training, drops elements at random and scales up the rest.
    Dropout {
        /// Of dropping an element.
        probability: f32,
    },
}

/// A layer in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique.
    pub name: String,
    /// What it does.
    pub layer: Layer,
    /// What it works on.
    pub inputs: Vec<NodeId>,
    /// Channels, rows and columns of an image of its output.
    pub shape: [u32; 3],
    /// Whether a larger map than one pixel is to be seen as one long vector.
    pub flat: bool,
}

/// Something learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// As PyTorch calls it: `layer1.0.conv1.weight`.
    pub name: String,
    /// As PyTorch has it: `[output, input / groups, rows, columns]`, `[output, input]` or `[channels]`.
    pub shape: Vec<usize>,
    /// How the device holds it.
    pub layout: Layout,
    /// How it starts.
    pub initial: Initial,
    /// Whether training changes it.
    pub trainable: bool,
}

impl Parameter {
    /// Numbers in it, as PyTorch counts.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }
}

/// Something that is kept but not learned: one number a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// As PyTorch calls it: `bn1.running_mean`.
    pub name: String,
    /// Channels.
    pub channels: u32,
    /// What every channel starts with.
    pub initial: f32,
}

/// A network: layers, shapes, parameters. Made by a [`Builder`](crate::Builder) or by [`zoo::build`](crate::zoo::build).
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) output: NodeId,
    /// The patch of every convolution whose backward pass is filtered, by its place among the nodes.
    pub(crate) filters: BTreeMap<usize, u32>,
    /// Whether batch norms that are frozen use their running statistics while training.
    pub(crate) frozen_statistics: bool,
    /// Weights that are sparse, and their densities relative to the network's.
    pub(crate) shares: Vec<(ParameterId, f64)>,
}

impl Graph {
    /// What it was called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The layers; each comes after those it works on, the input first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What is learned, in the order of the layers.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Running statistics, in the order of the layers.
    #[must_use]
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The layer whose result is the logits.
    #[must_use]
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// Channels, rows and columns of a picture.
    #[must_use]
    pub fn input_shape(&self) -> [u32; 3] {
        self.nodes[0].shape
    }

    /// How many classes it tells apart.
    #[must_use]
    pub fn classes(&self) -> u32 {
        self.nodes[self.output.0].shape[0]
    }

    /// Numbers in all parameters, as PyTorch counts.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(Parameter::elements).sum()
    }

    /// Multiply-adds of the convolutions and linear layers for one picture, forward; of sparse ones those of all slots.
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        self.nodes
            .iter()
            .map(|node| match &node.layer {
                Layer::Convolution {
                    attributes, weight, ..
                } => {
                    let pixels = u64::from(node.shape[1]) * u64::from(node.shape[2]);
                    let layout = self.parameters[weight.0].layout;
                    layout
                        .multiply_adds_per_pixel(attributes)
                        .saturating_mul(pixels)
                }
                _ => 0,
            })
            .sum()
    }

    /// How many layers, and the output, use what each layer returns.
    pub(crate) fn consumers(&self) -> Vec<usize> {
        let mut consumers = vec![0; self.nodes.len()];
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            consumers[input.0] += 1;
        }
        consumers[self.output.0] += 1;
        consumers
    }
}

/// Freezing.
impl Graph {
    /// Freezes the parameters of a layer and all within it (`layer1` freezes `layer1.0.conv1.weight`); `*` stands for any run
    /// of characters (`*bn*`). Returns how many parameters match.
    ///
    /// # Errors
    /// If none does: a frozen network because of a typing error would be found too late.
    pub fn freeze(&mut self, pattern: &str) -> Result<usize, GraphError> {
        let within = format!("{pattern}.*");
        let mut matching = 0;
        for parameter in &mut self.parameters {
            if matches(pattern, &parameter.name) || matches(&within, &parameter.name) {
                parameter.trainable = false;
                matching += 1;
            }
        }
        if matching == 0 {
            let names: Vec<_> = self
                .parameters
                .iter()
                .take(4)
                .map(|p| p.name.as_str())
                .collect();
            return Err(GraphError::NothingMatches {
                network: self.name.clone(),
                pattern: pattern.to_owned(),
                examples: names.join(", "),
            });
        }
        Ok(matching)
    }

    /// Leaves only the last `convolutions` convolutions and every layer after the first of them trainable, in the order in which
    /// layers were added. Linear layers do not count as convolutions: with 0, what stands behind the last convolution is trained.
    ///
    /// # Errors
    /// If there are fewer convolutions.
    pub fn train_last(&mut self, convolutions: usize) -> Result<(), GraphError> {
        let places: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.is_convolution(node))
            .collect();
        let too_few = || GraphError::TooFewConvolutions {
            network: self.name.clone(),
            convolutions: places.len(),
            asked: convolutions,
        };
        let kept = places.len().checked_sub(convolutions).ok_or_else(too_few)?;
        let first = match places.get(kept) {
            Some(&place) => place,
            None => places.last().map_or(0, |last| last + 1),
        };
        for index in 0..self.nodes.len() {
            for ParameterId(parameter) in self.nodes[index].layer.parameters() {
                self.parameters[parameter].trainable = index >= first;
            }
        }
        Ok(())
    }

    /// While training, batch norms whose scale and shift are frozen use their running statistics and leave them as they are, as in
    /// evaluation. Their backward pass is then a multiplication, and needs no more of the forward pass than where the activation
    /// behind them was flat.
    pub fn freeze_statistics(&mut self) {
        self.frozen_statistics = true;
    }

    pub(crate) fn is_convolution(&self, node: usize) -> bool {
        match self.nodes[node].layer {
            Layer::Convolution { weight, .. } => self.parameters[weight.0].shape.len() == 4,
            _ => false,
        }
    }
}

impl Layer {
    /// The parameters of the layer.
    #[must_use]
    pub fn parameters(&self) -> Vec<ParameterId> {
        match self {
            Self::Convolution { weight, bias, .. } => [*weight].into_iter().chain(*bias).collect(),
            Self::BatchNorm { scale, shift, .. } => vec![*scale, *shift],
            _ => Vec::new(),
        }
    }
}

/// Whether the whole name fits the pattern, in which `*` stands for any run of characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        assert!(matches("layer1.*", "layer1.0.conv1.weight"));
        assert!(!matches("layer1.*", "layer10.conv1.weight"));
        assert!(matches("*bn*.weight", "layer1.0.bn2.weight"));
        assert!(!matches("*bn*.weight", "layer1.0.bn2.bias"));
        assert!(!matches("ab*b", "ab"));
        assert!(matches("*", "anything"));
        assert!(!matches("conv1", "conv1.weight"));
    }
}
