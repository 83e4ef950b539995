//! Which layers hold live blocks only, and how many.

use crate::attributes::ConvolutionAttributes;
use crate::error::GraphError;
use crate::graph::{Graph, Layer, ParameterId};
use crate::program::Layout;
use serde::{Deserialize, Serialize};

/// Parts of a sparse weight start at multiples of this.
const ALIGNMENT: u64 = 256;

/// How the weight of a sparse layer is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SparseBlocks {
    /// Output quads of a block; an output group is that many quads.
    pub block_quads: u32,
    /// Slots of every output group: room for the most live blocks it ever has.
    pub slots: u32,
    /// Whether gradients may be computed of some live blocks only.
    pub masks_gradient: bool,
}

impl SparseBlocks {
    fn groups(&self, attributes: &ConvolutionAttributes) -> u32 {
        attributes.output_channels.div_ceil(4) / self.block_quads.max(1)
    }

    fn blocks(&self, attributes: &ConvolutionAttributes) -> u64 {
        u64::from(self.groups(attributes)) * u64::from(self.slots)
    }

    /// Blocks of all output groups, if all were live.
    #[must_use]
    pub fn candidates(&self, attributes: &ConvolutionAttributes) -> u32 {
        self.groups(attributes) * candidates(attributes)
    }

    /// Multiply-adds of one output pixel, all slots being live.
    #[must_use]
    pub fn multiply_adds_per_pixel(&self, attributes: &ConvolutionAttributes) -> u64 {
        self.value_bytes(attributes) / 4
    }

    /// Bytes of the values of all slots, of their gradient, and of each part of an optimiser's state.
    #[must_use]
    pub fn value_bytes(&self, attributes: &ConvolutionAttributes) -> u64 {
        self.blocks(attributes) * u64::from(self.block_quads) * 64
    }

    /// Bytes of the parts of a sparse weight, in this order, each from a multiple of 256 on: values, columns, where each input quad's
    /// entries begin, entries, the lists that kernels walk, the order of the next mutation, and the columns of the blocks whose gradient is
    /// computed (where that may be some only).
    #[must_use]
    pub fn parts(&self, attributes: &ConvolutionAttributes) -> [u64; 7] {
        let words = self.blocks(attributes) * 4;
        let starts = (u64::from(attributes.input_channels.div_ceil(4)) + 1) * 4;
        let chosen = if self.masks_gradient { words } else { 0 };
        [
            self.value_bytes(attributes),
            words,
            starts,
            words,
            2 * words * u64::from(self.block_quads),
            16,
            chosen,
        ]
    }

    /// Bytes of a sparse weight with all that belongs to it.
    #[must_use]
    pub fn weight_bytes(&self, attributes: &ConvolutionAttributes) -> u64 {
        self.parts(attributes)
            .map(|bytes| bytes.next_multiple_of(ALIGNMENT))
            .iter()
            .sum()
    }
}

/// How the live blocks are shared out among layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Distribution {
    /// Every layer has the same density.
    #[default]
    Uniform,
    /// Erdős-Rényi with the kernel (Mocanu et al. 2018, Evci et al. 2020): a layer's density follows its sum of channels and kernel sides
    /// over their product, so small layers stay denser; at most 1.
    ErdosRenyi,
}

/// What is to be sparse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sparsity {
    /// The share of blocks that are live, over all sparse layers: above 0, at most 1.
    pub density: f64,
    /// The largest share at any stage of a run, which decides how many slots there are; at least `density`.
    pub most: f64,
    /// How it differs from layer to layer.
    pub distribution: Distribution,
    /// Output quads of a block: 1, 2 or 4.
    pub block_quads: u32,
    /// Whether gradients may be computed of some live blocks only (dynamic gradient masking): four bytes a block more.
    pub masks_gradient: bool,
}

impl Sparsity {
    /// Blocks of 4 by 4, the same density everywhere and at every stage.
    #[must_use]
    pub fn uniform(density: f64) -> Self {
        Self {
            density,
            most: density,
            distribution: Distribution::Uniform,
            block_quads: 1,
            masks_gradient: false,
        }
    }
}

/// A sparse layer.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseLayer {
    /// Its weight.
    pub weight: ParameterId,
    /// The name of its weight.
    pub name: String,
    /// Sizes.
    pub attributes: ConvolutionAttributes,
    /// How it is cut.
    pub blocks: SparseBlocks,
    /// Blocks of an output group, if all were live.
    pub candidates: u32,
    /// Its own density relative to the network's: 1 where that is uniform.
    pub share: f64,
}

impl SparseLayer {
    /// Live blocks of an output group where the network's density is `density`: at least one, at most all slots.
    #[must_use]
    pub fn live(&self, density: f64) -> u32 {
        let blocks = f64::from(self.candidates) * (density * self.share).min(1.0);
        (blocks.round() as u32).clamp(1, self.blocks.slots)
    }

    /// Bytes of the weight, of its gradient and of so many states of its optimiser, as far as they are live where the network's density is
    /// `density`. A plan has room for all slots throughout: for the largest density of any stage.
    #[must_use]
    pub fn bytes(&self, density: f64, states: usize) -> u64 {
        let blocks = SparseBlocks {
            slots: self.live(density),
            ..self.blocks
        };
        let values = blocks.value_bytes(&self.attributes);
        blocks.weight_bytes(&self.attributes) + (1 + states as u64) * values
    }
}

impl Graph {
    /// Makes convolutions and linear layers sparse: all but the first convolution, strided 1x1 convolutions (shortcuts), depthwise
    /// ones and the last linear layer, which are small or take the pictures and give the classes.
    ///
    /// # Errors
    /// A density outside (0, 1], a largest density below it, no layer that could be sparse, or a layer too small for its blocks.
    pub fn sparsify(&mut self, sparsity: &Sparsity) -> Result<(), GraphError> {
        for density in [sparsity.density, sparsity.most] {
            if !(density > 0.0 && density <= 1.0) {
                let given = density.to_string();
                return Err(GraphError::Density { given });
            }
        }
        if let Some(node) = self.filters.keys().next() {
            return Err(GraphError::DoesNotFit {
                layer: self.nodes[*node].name.clone(),
                problem:
                    "its gradient is filtered, which sparse layers cannot do: filter or sparsify"
                        .to_owned(),
            });
        }
        if sparsity.most < sparsity.density {
            return Err(GraphError::LargestDensity {
                most: sparsity.most.to_string(),
                density: sparsity.density.to_string(),
            });
        }
        let chosen = self.can_be_sparse();
        if chosen.is_empty() {
            let network = self.name.clone();
            return Err(GraphError::NothingSparse { network });
        }
        let shares = match sparsity.distribution {
            Distribution::Uniform => vec![1.0; chosen.len()],
            Distribution::ErdosRenyi => erdos_renyi(&chosen, sparsity.density),
        };
        // All layers or none.
        let mut sparse = Vec::with_capacity(chosen.len());
        for ((weight, attributes), share) in chosen.into_iter().zip(shares) {
            let parameter = &self.parameters[weight.0];
            let wrong = |problem: String| GraphError::DoesNotFit {
                layer: parameter.name.clone(),
                problem,
            };
            let output_quads = attributes.output_channels.div_ceil(4);
            let fits = matches!(sparsity.block_quads, 1 | 2 | 4)
                && output_quads.is_multiple_of(sparsity.block_quads)
                && (attributes.groups == 1 || sparsity.block_quads == 1);
            if !fits {
                return Err(wrong(format!(
                    "blocks of {} output channels do not fit its {} in {} groups: use blocks of 4",
                    4 * sparsity.block_quads,
                    attributes.output_channels,
                    attributes.groups
                )));
            }
            let candidates = candidates(&attributes);
            let own = f64::from(candidates) * (sparsity.density * share).min(1.0);
            if own < 1.0 - 1e-9 {
                return Err(wrong(format!(
                    "a density of {} leaves less than one of the {candidates} blocks of an output group: give at least {:.4}, or wider \
                     layers",
                    sparsity.density,
                    1.0 / f64::from(candidates) / share
                )));
            }
            let slots = f64::from(candidates) * (sparsity.most * share).min(1.0);
            let blocks = SparseBlocks {
                block_quads: sparsity.block_quads,
                slots: (slots.round() as u32).clamp(1, candidates),
                masks_gradient: sparsity.masks_gradient,
            };
            sparse.push((weight, share, Layout::SparseWeight(attributes, blocks)));
        }
        self.shares.clear();
        for (weight, share, layout) in sparse {
            self.parameters[weight.0].layout = layout;
            self.shares.push((weight, share));
        }
        Ok(())
    }

    /// The sparse layers, in the order of the layers.
    #[must_use]
    pub fn sparse_layers(&self) -> Vec<SparseLayer> {
        let layer = |&(weight, share): &(ParameterId, f64)| {
            let parameter = &self.parameters[weight.0];
            let Layout::SparseWeight(attributes, blocks) = parameter.layout else {
                return None;
            };
            Some(SparseLayer {
                weight,
                name: parameter.name.clone(),
                attributes,
                blocks,
                candidates: candidates(&attributes),
                share,
            })
        };
        self.shares.iter().filter_map(layer).collect()
    }

    fn can_be_sparse(&self) -> Vec<(ParameterId, ConvolutionAttributes)> {
        let layers: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|node| match node.layer {
                Layer::Convolution {
                    attributes, weight, ..
                } => Some((weight, attributes)),
                _ => None,
            })
            .collect();
        let last = layers.len().saturating_sub(1);
        layers
            .into_iter()
            .enumerate()
            .filter(|(at, (weight, attributes))| {
                let linear = self.parameters[weight.0].shape.len() == 2;
                let shortcut = attributes.kernel == [1, 1] && attributes.stride != [1, 1];
                let first_or_classifier = *at == 0 || (linear && *at == last);
                !(first_or_classifier || shortcut || attributes.is_depthwise())
            })
            .map(|(_, layer)| layer)
            .collect()
    }
}

/// Blocks of an output group that is dense.
fn candidates(attributes: &ConvolutionAttributes) -> u32 {
    attributes.input_quad_slots() * attributes.taps() as u32
}

/// What each layer's density is to be multiplied by, so that all together have `density`.
fn erdos_renyi(layers: &[(ParameterId, ConvolutionAttributes)], density: f64) -> Vec<f64> {
    let sizes: Vec<f64> = layers
        .iter()
        .map(|(_, layer)| layer.weight_elements() as f64)
        .collect();
    let raw: Vec<f64> = layers
        .iter()
        .map(|(_, layer)| {
            let sides = [
                layer.input_channels / layer.groups.max(1),
                layer.output_channels,
                layer.kernel[0],
                layer.kernel[1],
            ]
            .map(f64::from);
            sides.iter().sum::<f64>() / sides.iter().product::<f64>()
        })
        .collect();
    let wanted = density * sizes.iter().sum::<f64>();
    let mut full = vec![false; layers.len()];
    loop {
        let held: f64 = (sizes.iter().zip(&full))
            .filter(|(_, full)| **full)
            .map(|(size, _)| size)
            .sum();
        let rest: f64 = (sizes.iter().zip(&raw).zip(&full))
            .filter(|(_, full)| !**full)
            .map(|((size, raw), _)| size * raw)
            .sum();
        let scale = if rest > 0.0 {
            (wanted - held) / rest
        } else {
            0.0
        };
        let over = (0..layers.len()).find(|at| !full[*at] && raw[*at] * scale > 1.0);
        match over {
            Some(at) => full[at] = true,
            None => {
                return (raw.iter().zip(&full))
                    .map(|(raw, full)| {
                        if *full {
                            1.0 / density
                        } else {
                            raw * scale / density
                        }
                    })
                    .collect();
            }
        }
    }
}
