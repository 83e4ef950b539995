//! The forward pass and the input gradient.

use crate::ConvolutionShape;
use crate::gather::Gather;
use crate::geometry::{Axis, Extent};
use smidgen_gpu::{DeviceFacts, Launch, Region};

/// What the forward pass reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Planes of quads, `shape.input_bytes()`.
    pub input: Region,
    /// Stacks of blocks, `shape.weight_bytes()`.
    pub weight: Region,
    /// One value an output channel, padded with zeros to a multiple of four: `shape.bias_bytes()`.
    pub bias: Option<Region>,
    /// Planes of quads, `shape.output_bytes()`; written whole, padding channels zero.
    pub output: Region,
}

/// What the input gradient reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputGradient {
    /// Planes of quads, `shape.output_bytes()`.
    pub output_gradient: Region,
    /// Stacks of blocks, `shape.weight_bytes()`.
    pub weight: Region,
    /// Planes of quads, `shape.input_bytes()`; written whole, padding channels zero.
    pub input_gradient: Region,
    /// Add to what `input_gradient` holds instead of replacing it.
    pub accumulate: bool,
}

/// The first `size` bytes of a region, so that a launch binds what it uses and preparation finds a region that is too small.
pub(crate) fn sized(region: Region, size: u64) -> Region {
    Region { size, ..region }
}

fn extents(shape: &ConvolutionShape) -> [Extent; 2] {
    let inputs = [shape.input_height, shape.input_width];
    let outputs = [shape.output_height(), shape.output_width()];
    [0, 1].map(|axis| Extent {
        input: inputs[axis],
        output: outputs[axis],
        kernel: shape.kernel[axis],
        stride: shape.stride[axis],
        padding: shape.padding[axis],
        dilation: shape.dilation[axis],
    })
}

/// Launches of `output = convolution(input, weight) + bias`; none for a shape that is not valid.
#[must_use]
pub fn forward(shape: &ConvolutionShape, facts: &DeviceFacts, regions: &Forward) -> Vec<Launch> {
    if shape.validate().is_err() {
        return Vec::new();
    }
    let mut bound = vec![
        sized(regions.input, shape.input_bytes()),
        sized(regions.weight, shape.weight_bytes()),
    ];
    bound.extend(regions.bias.map(|bias| sized(bias, shape.bias_bytes())));
    bound.push(sized(regions.output, shape.output_bytes()));
    let gather = Gather {
        shape,
        facts,
        transposed: false,
        accumulate: false,
        bias: regions.bias.is_some(),
        regions: bound,
    };
    if shape.is_pointwise() && shape.groups == 1 {
        return vec![gather.pointwise()];
    }
    let flattened = shape.flattened();
    let [y, x] = extents(&flattened).map(Axis::forward);
    let gather = Gather {
        shape: &flattened,
        ..gather
    };
    gather.taps(y, x).into_iter().collect()
}

/// Launches of the gradient with respect to the input: one, or one for every residue of a pixel modulo the stride, so that none computes
/// with taps that cannot reach it. None for a shape that is not valid.
#[must_use]
pub fn input_gradient(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    regions: &InputGradient,
) -> Vec<Launch> {
    if shape.validate().is_err() {
        return Vec::new();
    }
    let gather = Gather {
        shape,
        facts,
        transposed: true,
        accumulate: regions.accumulate,
        bias: false,
        regions: vec![
            sized(regions.output_gradient, shape.output_bytes()),
            sized(regions.weight, shape.weight_bytes()),
            sized(regions.input_gradient, shape.input_bytes()),
        ],
    };
    if shape.is_pointwise() && shape.groups == 1 {
        return vec![gather.pointwise()];
    }
    let flattened = shape.flattened();
    let [rows, columns] = extents(&flattened).map(Axis::input_gradient);
    let gather = Gather {
        shape: &flattened,
        ..gather
    };
    rows.iter()
        .flat_map(|y| columns.iter().filter_map(|x| gather.taps(*y, *x)))
        .collect()
}
