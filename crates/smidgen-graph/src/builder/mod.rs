//! Networks, layer by layer.

mod parts;

use crate::attributes::{Activation, ConvolutionAttributes};
use crate::error::GraphError;
use crate::graph::{Buffer, BufferId, Graph, Layer, Node, NodeId, Parameter};
use crate::init::{Fan, Initial};
use crate::layers::{Convolution, Pool};
use crate::program::Layout;
use parts::{misfit, text};
use std::collections::BTreeMap;
use std::collections::HashSet;

/// Builds a [`Graph`]: every call adds a layer, checks that it fits, and returns what the next layer works on.
///
/// Layers with parameters are named, as PyTorch names them; the others are called after what they work on (`bn1.relu`).
///
/// ```
/// use smidgen_graph::{Builder, Convolution, Pool};
///
/// let mut network = Builder::new("tiny", [3, 32, 32])?;
/// let x = network.input();
/// let x = network.convolution("conv1", x, Convolution::new(16, 3).padding(1).without_bias())?;
/// let x = network.batch_norm("bn1", x)?;
/// let x = network.relu(x)?;
/// let x = network.max_pool(x, Pool::new(2))?;
/// let x = network.flatten(x)?;
/// let x = network.linear("fc", x, 10)?;
/// let graph = network.finish(x)?;
/// assert_eq!(graph.parameter_count(), 16 * 27 + 2 * 16 + 10 * 16 * 256 + 10);
/// # Ok::<(), smidgen_graph::GraphError>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    name: String,
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
    buffers: Vec<Buffer>,
    names: HashSet<String>,
    fan: Fan,
}

impl Builder {
    /// A network of this name over pictures of `[channels, rows, columns]`.
    ///
    /// # Errors
    /// If a size is 0 or beyond reason.
    pub fn new(name: impl Into<String>, shape: [u32; 3]) -> Result<Self, GraphError> {
        let mut builder = Self {
            name: name.into(),
            nodes: Vec::new(),
            parameters: Vec::new(),
            buffers: Vec::new(),
            names: HashSet::new(),
            fan: Fan::default(),
        };
        builder.add_node("input".to_owned(), Layer::Input, &[], shape, false)?;
        Ok(builder)
    }

    /// How the weights of convolutions added from here on start.
    pub fn initialize_by(&mut self, fan: Fan) {
        self.fan = fan;
    }

    /// The pictures.
    #[must_use]
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// Channels, rows and columns of what a layer returned.
    ///
    /// # Errors
    /// If it is of another builder.
    pub fn shape(&self, node: NodeId) -> Result<[u32; 3], GraphError> {
        Ok(self.at("shape", node)?.shape)
    }

    /// A convolution with the parameters `name.weight` and, unless without, `name.bias`.
    ///
    /// # Errors
    /// If it does not fit its input, or the name is taken.
    pub fn convolution(
        &mut self,
        name: &str,
        input: NodeId,
        settings: Convolution,
    ) -> Result<NodeId, GraphError> {
        let [channels, height, width] = self.map(name, input)?;
        let attributes = ConvolutionAttributes {
            input_channels: channels,
            output_channels: settings.output_channels,
            kernel: settings.kernel,
            stride: settings.stride,
            padding: settings.padding,
            dilation: settings.dilation,
            groups: settings.groups,
        };
        let sizes = [attributes.kernel, attributes.stride, attributes.dilation].concat();
        if sizes.contains(&0) || attributes.output_channels == 0 || attributes.groups == 0 {
            let problem = "output channels, kernel, stride, dilation and groups must be at least 1";
            return Err(misfit(name, problem));
        }
        for (kind, count) in [("input", channels), ("output", attributes.output_channels)] {
            if count % attributes.groups != 0 {
                let groups = attributes.groups;
                let problem = format!("{count} {kind} channels do not divide into {groups} groups");
                return Err(misfit(name, problem));
            }
        }
        let Some([rows, columns]) = attributes.output_size([height, width]) else {
            let [kernel, dilation, padding] =
                [attributes.kernel, attributes.dilation, attributes.padding];
            let problem = format!(
                "a kernel of {kernel:?} with dilation {dilation:?} is larger than its input of {height}x{width} with padding {padding:?}"
            );
            return Err(misfit(name, problem));
        };
        let shape = vec![
            attributes.output_channels as usize,
            (channels / attributes.groups) as usize,
            attributes.kernel[0] as usize,
            attributes.kernel[1] as usize,
        ];
        let fan = match self.fan {
            Fan::Input => u64::from(channels / attributes.groups) * attributes.taps(),
            Fan::Output => u64::from(attributes.output_channels) * attributes.taps(),
        };
        let bias = settings.bias.then_some(Initial::Constant(0.0));
        let output = [attributes.output_channels, rows, columns];
        self.add_convolution(
            name,
            input,
            attributes,
            (shape, Initial::kaiming(fan)),
            bias,
            output,
        )
    }

    /// A linear layer with the parameters `name.weight` and `name.bias`, over a flattened map or one of a single pixel.
    ///
    /// # Errors
    /// If the map is not flattened, or the name is taken.
    pub fn linear(
        &mut self,
        name: &str,
        input: NodeId,
        outputs: u32,
    ) -> Result<NodeId, GraphError> {
        let node = self.at(name, input)?;
        let [channels, height, width] = node.shape;
        if !node.flat && (height, width) != (1, 1) {
            let problem = format!(
                "a linear layer over a map of {channels}x{height}x{width}: flatten it or pool it to one pixel first"
            );
            return Err(misfit(name, problem));
        }
        if outputs == 0 {
            return Err(misfit(name, "a linear layer without outputs"));
        }
        let attributes = ConvolutionAttributes {
            input_channels: channels,
            output_channels: outputs,
            kernel: [height, width],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        };
        let inputs = u64::from(channels) * attributes.taps();
        let shape = vec![outputs as usize, inputs as usize];
        let initial = Initial::linear(inputs);
        self.add_convolution(
            name,
            input,
            attributes,
            (shape, initial),
            Some(initial),
            [outputs, 1, 1],
        )
    }

    /// Batch normalisation with PyTorch's defaults, and its names: `name.weight`, `name.bias`, `name.running_mean`,
    /// `name.running_var`.
    ///
    /// # Errors
    /// If the map is flattened, or the name is taken.
    pub fn batch_norm(&mut self, name: &str, input: NodeId) -> Result<NodeId, GraphError> {
        let shape = self.map(name, input)?;
        let channels = shape[0];
        let mut parameter = |kind, value| {
            let initial = Initial::Constant(value);
            self.add_parameter(
                name,
                kind,
                vec![channels as usize],
                Layout::Vector { channels },
                initial,
            )
        };
        let scale = parameter("weight", 1.0)?;
        let shift = parameter("bias", 0.0)?;
        let mut buffer = |kind, initial| {
            let name = format!("{name}.{kind}");
            self.take_name(&name)?;
            self.buffers.push(Buffer {
                name,
                channels,
                initial,
            });
            Ok(BufferId(self.buffers.len() - 1))
        };
        let layer = Layer::BatchNorm {
            epsilon: 1e-5,
            momentum: 0.1,
            scale,
            shift,
            running_mean: buffer("running_mean", 0.0)?,
            running_variance: buffer("running_var", 1.0)?,
        };
        self.add_node(name.to_owned(), layer, &[input], shape, false)
    }

    /// An elementwise function.
    ///
    /// # Errors
    /// If the input is of another builder.
    pub fn activation(
        &mut self,
        input: NodeId,
        activation: Activation,
    ) -> Result<NodeId, GraphError> {
        let (shape, flat) = self.any(activation.name(), input)?;
        if activation == Activation::Identity {
            return Ok(input);
        }
        let name = self.derived(input, activation.name());
        self.add_node(name, Layer::Activation(activation), &[input], shape, flat)
    }

    /// `max(x, 0)`.
    ///
    /// # Errors
    /// As [`activation`](Self::activation).
    pub fn relu(&mut self, input: NodeId) -> Result<NodeId, GraphError> {
        self.activation(input, Activation::Relu)
    }

    /// The sum of two maps of one shape.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn add(&mut self, left: NodeId, right: NodeId) -> Result<NodeId, GraphError> {
        let (shape, flat) = self.any("add", left)?;
        let (other, other_flat) = self.any("add", right)?;
        let name = self.derived(left, "add");
        if (shape, flat) != (other, other_flat) {
            let (left, right) = (&self.nodes[left.0].name, &self.nodes[right.0].name);
            let problem = format!(
                "`{left}` of {} and `{right}` of {} cannot be added",
                text(shape, flat),
                text(other, other_flat)
            );
            return Err(misfit(&name, problem));
        }
        self.add_node(name, Layer::Add, &[left, right], shape, flat)
    }

    /// Maps one after the other along the channels.
    ///
    /// # Errors
    /// If there is none, or rows and columns differ.
    pub fn concat(&mut self, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let Some(&first) = inputs.first() else {
            return Err(misfit("concat", "nothing to concatenate"));
        };
        let ([_, height, width], flat) = self.any("concat", first)?;
        let name = self.derived(first, "concat");
        let mut channels = 0_u32;
        for &input in inputs {
            let (shape, other_flat) = self.any("concat", input)?;
            if ([shape[1], shape[2]], other_flat) != ([height, width], flat) {
                let problem = format!(
                    "`{}` of {} does not stand beside a map of {height}x{width}",
                    self.nodes[input.0].name,
                    text(shape, other_flat)
                );
                return Err(misfit(&name, problem));
            }
            channels = channels.saturating_add(shape[0]);
        }
        self.add_node(name, Layer::Concat, inputs, [channels, height, width], flat)
    }

    /// The parameter-free shortcut of He's CIFAR networks (option A): every `stride`-th pixel, with as many zero channels on both
    /// sides as make `output_channels`.
    ///
    /// # Errors
    /// If there are fewer output channels than inputs.
    pub fn shortcut(
        &mut self,
        input: NodeId,
        stride: u32,
        output_channels: u32,
    ) -> Result<NodeId, GraphError> {
        let [channels, height, width] = self.map("shortcut", input)?;
        let name = self.derived(input, "shortcut");
        let Some(more) = output_channels.checked_sub(channels) else {
            let problem = format!("{channels} channels cannot be padded to {output_channels}");
            return Err(misfit(&name, problem));
        };
        if stride == 0 {
            return Err(misfit(&name, "a stride of 0"));
        }
        let layer = Layer::Shortcut {
            stride,
            channel_offset: more / 2,
        };
        let shape = [
            output_channels,
            height.div_ceil(stride),
            width.div_ceil(stride),
        ];
        self.add_node(name, layer, &[input], shape, false)
    }

    /// The largest of each window, of at most 256 pixels.
    ///
    /// # Errors
    /// If the window does not fit.
    pub fn max_pool(&mut self, input: NodeId, settings: Pool) -> Result<NodeId, GraphError> {
        let (attributes, name, shape) = self.pool(input, settings, "max_pool")?;
        if u64::from(attributes.kernel[0]) * u64::from(attributes.kernel[1]) > 256 {
            let problem =
                "a window of more than 256 pixels: where a maximum was found is held in one byte";
            return Err(misfit(&name, problem));
        }
        self.add_node(name, Layer::MaxPool(attributes), &[input], shape, false)
    }

    /// The average of each window.
    ///
    /// # Errors
    /// If the window does not fit.
    pub fn average_pool(&mut self, input: NodeId, settings: Pool) -> Result<NodeId, GraphError> {
        let (attributes, name, shape) = self.pool(input, settings, "average_pool")?;
        self.add_node(name, Layer::AveragePool(attributes), &[input], shape, false)
    }

    /// The average of each channel.
    ///
    /// # Errors
    /// If the map is flattened.
    pub fn global_average_pool(&mut self, input: NodeId) -> Result<NodeId, GraphError> {
        let [channels, ..] = self.map("global_average_pool", input)?;
        let name = self.derived(input, "pool");
        self.add_node(
            name,
            Layer::GlobalAveragePool,
            &[input],
            [channels, 1, 1],
            false,
        )
    }

    /// The map as one long vector, for [`linear`](Self::linear). Nothing moves.
    ///
    /// # Errors
    /// If the input is of another builder.
    pub fn flatten(&mut self, input: NodeId) -> Result<NodeId, GraphError> {
        let (shape, _) = self.any("flatten", input)?;
        let name = self.derived(input, "flatten");
        let flat = shape[1..] != [1, 1];
        self.add_node(name, Layer::Flatten, &[input], shape, flat)
    }

    /// While training, drops elements with this probability and scales up the rest.
    ///
    /// # Errors
    /// If the probability is not in `0.0..1.0`.
    pub fn dropout(&mut self, input: NodeId, probability: f32) -> Result<NodeId, GraphError> {
        let (shape, flat) = self.any("dropout", input)?;
        let name = self.derived(input, "dropout");
        if !(0.0..1.0).contains(&probability) {
            let problem =
                format!("a probability of {probability}: it must be at least 0 and below 1");
            return Err(misfit(&name, problem));
        }
        self.add_node(name, Layer::Dropout { probability }, &[input], shape, flat)
    }

    /// The network whose logits are what this layer returned.
    ///
    /// # Errors
    /// If that is a map of more than one pixel, or a layer does not contribute to it.
    pub fn finish(self, output: NodeId) -> Result<Graph, GraphError> {
        let (shape, flat) = self.any("output", output)?;
        if shape[1..] != [1, 1] {
            let layer = &self.nodes[output.0].name;
            let problem = format!(
                "the output is {}, not one number a class: end with a linear layer or a global average pool",
                text(shape, flat)
            );
            return Err(misfit(layer, problem));
        }
        let mut used = vec![false; self.nodes.len()];
        used[output.0] = true;
        for index in (0..self.nodes.len()).rev() {
            if !used[index] {
                let layer = self.nodes[index].name.clone();
                return Err(GraphError::Unused { layer });
            }
            for input in &self.nodes[index].inputs {
                used[input.0] = true;
            }
        }
        Ok(Graph {
            filters: BTreeMap::new(),
            frozen_statistics: false,
            name: self.name,
            nodes: self.nodes,
            parameters: self.parameters,
            buffers: self.buffers,
            output,
            shares: Vec::new(),
        })
    }
}
