//! What the layers of a builder have in common: names, parameters, checks.

use super::Builder;
use crate::attributes::{ConvolutionAttributes, PoolAttributes};
use crate::error::GraphError;
use crate::graph::{Layer, Node, NodeId, Parameter, ParameterId};
use crate::init::Initial;
use crate::layers::Pool;
use crate::program::Layout;

/// More channels, rows or columns than this are a mistake; products of sizes stay far from overflowing.
const LARGEST_SIZE: u32 = 1 << 20;

impl Builder {
    pub(super) fn add_convolution(
        &mut self,
        name: &str,
        input: NodeId,
        attributes: ConvolutionAttributes,
        (shape, initial): (Vec<usize>, Initial),
        bias: Option<Initial>,
        output: [u32; 3],
    ) -> Result<NodeId, GraphError> {
        if attributes.output_channels > LARGEST_SIZE || attributes.weight_elements() > 1 << 38 {
            return Err(misfit(
                name,
                format!("a weight of {shape:?} is beyond reason"),
            ));
        }
        let weight =
            self.add_parameter(name, "weight", shape, Layout::Weight(attributes), initial)?;
        let channels = attributes.output_channels;
        let vector = Layout::Vector { channels };
        let bias = match bias {
            Some(initial) => {
                Some(self.add_parameter(name, "bias", vec![channels as usize], vector, initial)?)
            }
            None => None,
        };
        let layer = Layer::Convolution {
            attributes,
            weight,
            bias,
        };
        self.add_node(name.to_owned(), layer, &[input], output, false)
    }

    pub(super) fn pool(
        &self,
        input: NodeId,
        settings: Pool,
        kind: &str,
    ) -> Result<(PoolAttributes, String, [u32; 3]), GraphError> {
        let [channels, height, width] = self.map(kind, input)?;
        let name = self.derived(input, kind);
        let attributes = PoolAttributes {
            kernel: settings.kernel,
            stride: settings.stride,
            padding: settings.padding,
            count_include_pad: settings.count_include_pad,
        };
        let [kernel, stride, padding] = [attributes.kernel, attributes.stride, attributes.padding];
        if [kernel, stride].concat().contains(&0) {
            return Err(misfit(&name, "window and stride must be at least 1"));
        }
        if padding[0] > kernel[0] / 2 || padding[1] > kernel[1] / 2 {
            let problem =
                format!("a padding of {padding:?} is more than half the window of {kernel:?}");
            return Err(misfit(&name, problem));
        }
        let Some([rows, columns]) = attributes.output_size([height, width]) else {
            let problem = format!(
                "a window of {kernel:?} is larger than its input of {height}x{width} with padding {padding:?}"
            );
            return Err(misfit(&name, problem));
        };
        Ok((attributes, name, [channels, rows, columns]))
    }

    pub(super) fn at(&self, layer: &str, node: NodeId) -> Result<&Node, GraphError> {
        self.nodes
            .get(node.0)
            .ok_or_else(|| misfit(layer, "its input is of another builder"))
    }

    pub(super) fn any(&self, layer: &str, node: NodeId) -> Result<([u32; 3], bool), GraphError> {
        self.at(layer, node).map(|node| (node.shape, node.flat))
    }

    pub(super) fn map(&self, layer: &str, node: NodeId) -> Result<[u32; 3], GraphError> {
        let node = self.at(layer, node)?;
        if node.flat {
            let problem = format!("`{}` is flattened: it works on maps only", node.name);
            return Err(misfit(layer, problem));
        }
        Ok(node.shape)
    }

    /// A free name for a layer without parameters.
    pub(super) fn derived(&self, input: NodeId, kind: &str) -> String {
        let base = match self.nodes.get(input.0) {
            Some(node) => format!("{}.{kind}", node.name),
            None => kind.to_owned(),
        };
        let mut name = base.clone();
        let mut number = 2;
        while self.names.contains(&name) {
            name = format!("{base}{number}");
            number += 1;
        }
        name
    }

    pub(super) fn take_name(&mut self, name: &str) -> Result<(), GraphError> {
        if self.names.insert(name.to_owned()) {
            return Ok(());
        }
        Err(GraphError::DuplicateName {
            name: name.to_owned(),
        })
    }

    pub(super) fn add_parameter(
        &mut self,
        layer: &str,
        kind: &str,
        shape: Vec<usize>,
        layout: Layout,
        initial: Initial,
    ) -> Result<ParameterId, GraphError> {
        if self.names.contains(layer) {
            return Err(GraphError::DuplicateName {
                name: layer.to_owned(),
            });
        }
        let name = format!("{layer}.{kind}");
        self.take_name(&name)?;
        self.parameters.push(Parameter {
            name,
            shape,
            layout,
            initial,
            trainable: true,
        });
        Ok(ParameterId(self.parameters.len() - 1))
    }

    pub(super) fn add_node(
        &mut self,
        name: String,
        layer: Layer,
        inputs: &[NodeId],
        shape: [u32; 3],
        flat: bool,
    ) -> Result<NodeId, GraphError> {
        if shape.iter().any(|size| *size == 0 || *size > LARGEST_SIZE) {
            let [channels, height, width] = shape;
            let problem =
                format!("a map of {channels}x{height}x{width}: sizes must be 1 to {LARGEST_SIZE}");
            return Err(misfit(&name, problem));
        }
        self.take_name(&name)?;
        self.nodes.push(Node {
            name,
            layer,
            inputs: inputs.to_vec(),
            shape,
            flat,
        });
        Ok(NodeId(self.nodes.len() - 1))
    }
}

pub(super) fn misfit(layer: &str, problem: impl Into<String>) -> GraphError {
    GraphError::DoesNotFit {
        layer: layer.to_owned(),
        problem: problem.into(),
    }
}

pub(super) fn text([channels, height, width]: [u32; 3], flat: bool) -> String {
    let flattened = if flat { ", flattened" } else { "" };
    format!("{channels}x{height}x{width}{flattened}")
}
