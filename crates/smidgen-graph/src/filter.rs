//! Which convolutions have a filtered backward pass.

use crate::attributes::ConvolutionAttributes;
use crate::error::GraphError;
use crate::graph::{Graph, Layer};
use crate::operation::Optimizer;
use crate::program::Layout;
use crate::shape::MapShape;
use serde::{Deserialize, Serialize};

/// The largest patch there is.
pub const LARGEST_PATCH: u32 = 8;

/// How the gradient of a filtered weight, which is the same at every tap, and its optimiser's state are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterState {
    /// For every tap, as those of any weight.
    #[default]
    Tap,
    /// Once a pair of channels: a ninth of the bytes for a kernel of 3x3. SGD's weight decay, which differs from tap to tap, is then taken from the
    /// weight itself and does not enter the momentum; all else is the same.
    Pair,
}

impl FilterState {
    /// What keeps gradient and state from being held once a pair, if anything does.
    #[must_use]
    pub fn against_pairs(optimizer: &Optimizer, clip_norm: Option<f32>) -> Option<&'static str> {
        if clip_norm.is_some() {
            Some(
                "gradients are clipped, or maps are in f16 with a loss scale: either takes a norm of all gradients, which counts every tap",
            )
        } else if !optimizer.takes_pairs() {
            Some(
                "Adam's weight decay enters the moments and differs from tap to tap (AdamW's does not)",
            )
        } else {
            None
        }
    }
}

/// Gradient filtering (Yang, Li and Marculescu, CVPR 2023): the backward pass of a convolution at the resolution of patches. The forward pass
/// stays exact; the gradients of the layer, and of those before it, become biased.
impl Graph {
    /// Filters the backward pass of the convolution called `layer` by patches of `patch` by `patch` output pixels.
    ///
    /// # Errors
    /// If there is no such layer, if it is no convolution over maps, dense or depthwise, or if the patch is not from 1 to
    /// [`LARGEST_PATCH`]. That a filtered layer is frozen is found by [`lower`](Self::lower).
    pub fn filter(&mut self, layer: &str, patch: u32) -> Result<(), GraphError> {
        let found = (0..self.nodes.len()).find(|&node| self.nodes[node].name == layer);
        let node = found.ok_or_else(|| GraphError::UnknownLayer {
            network: self.name.clone(),
            layer: layer.to_owned(),
            convolutions: self.examples(),
        })?;
        self.filter_node(node, patch)
    }

    /// Filters the last `convolutions` convolutions, in the order in which layers were added.
    ///
    /// # Errors
    /// If there are fewer, and as [`filter`](Self::filter).
    pub fn filter_last(&mut self, convolutions: usize, patch: u32) -> Result<(), GraphError> {
        let places = self.convolutions();
        let first = places.len().checked_sub(convolutions).ok_or_else(|| {
            GraphError::TooFewConvolutions {
                network: self.name.clone(),
                convolutions: places.len(),
                asked: convolutions,
            }
        })?;
        (places[first..].iter()).try_for_each(|&node| self.filter_node(node, patch))
    }

    /// Makes the backward pass of every convolution exact again.
    pub fn clear_filters(&mut self) {
        self.filters.clear();
    }

    /// The filtered convolutions and their patches, in the order of the layers.
    pub fn filters(&self) -> impl Iterator<Item = (&str, u32)> {
        let filters = self.filters.iter();
        filters.map(|(&node, &patch)| (self.nodes[node].name.as_str(), patch))
    }

    /// The convolutions over maps whose weight is trained, in the order of the layers.
    #[must_use]
    pub fn trained_convolutions(&self) -> Vec<&str> {
        let trained = |&node: &usize| self.trains_weight(node);
        let places = self.convolutions().into_iter().filter(trained);
        places.map(|node| self.nodes[node].name.as_str()).collect()
    }

    fn convolutions(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|&node| self.is_convolution(node))
            .collect()
    }

    fn examples(&self) -> String {
        let places = self.convolutions();
        let last = places.iter().rev().take(4);
        let names: Vec<&str> = last.map(|&node| self.nodes[node].name.as_str()).collect();
        names.join(", ")
    }

    fn trains_weight(&self, node: usize) -> bool {
        match self.nodes[node].layer {
            Layer::Convolution { weight, .. } => self.parameters[weight.0].trainable,
            _ => false,
        }
    }

    fn filter_node(&mut self, node: usize, patch: u32) -> Result<(), GraphError> {
        if !(1..=LARGEST_PATCH).contains(&patch) {
            return Err(GraphError::Patch { patch });
        }
        let layer = &self.nodes[node];
        let grouped = matches!(&layer.layer, Layer::Convolution { attributes, .. }
            if attributes.groups > 1 && !attributes.is_depthwise());
        if !self.is_convolution(node) || grouped {
            return Err(GraphError::DoesNotFit {
                layer: layer.name.clone(),
                problem: "only a convolution over maps, dense or depthwise, can be filtered"
                    .to_owned(),
            });
        }
        let sparse = matches!(layer.layer, Layer::Convolution { weight, .. }
            if matches!(self.parameters[weight.0].layout, Layout::SparseWeight(..)));
        if sparse {
            return Err(GraphError::DoesNotFit {
                layer: layer.name.clone(),
                problem:
                    "its weight is sparse, so its gradient cannot be filtered: filter or sparsify"
                        .to_owned(),
            });
        }
        self.filters.insert(node, patch);
        Ok(())
    }

    /// Refuses to filter what is not trained, as lowering for training does.
    ///
    /// # Errors
    /// A filtered layer whose weight is frozen.
    pub fn check_filters(&self) -> Result<(), GraphError> {
        match self.filters.keys().find(|&&node| !self.trains_weight(node)) {
            None => Ok(()),
            Some(&node) => Err(GraphError::FilteredButFrozen {
                layer: self.nodes[node].name.clone(),
            }),
        }
    }
}

/// Whether the filtered input gradient reads the sums of the weight over its taps: not where there is but one, nor where the dilation is so wide that
/// taps reach different patches.
#[must_use]
pub fn reads_tap_sums(attributes: &ConvolutionAttributes, patch: u32) -> bool {
    let reaches = |axis: usize| {
        let dilation = attributes.dilation[axis];
        attributes.kernel[axis] > 1
            && dilation > 1
            && dilation >= patch.saturating_mul(attributes.stride[axis])
    };
    attributes.kernel != [1, 1] && !(0..2).any(reaches)
}

/// The patches of a map, as a map: of the output of a convolution, with the channels of its input.
pub(crate) fn patch_sums_shape(
    attributes: &ConvolutionAttributes,
    input: MapShape,
    patch: u32,
) -> Option<MapShape> {
    let size = attributes.output_size([input.height, input.width])?;
    Some(input.with_size(size.map(|extent| extent.div_ceil(patch))))
}
