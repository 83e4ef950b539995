//! The passes of a convolution as launches.

use crate::{IntoLaunches, Memory, device};
use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, ShapeError, Variant, WeightGradient, forward,
    input_gradient, weight_gradient, workspace,
};
use smidgen_gpu::{Launch, Region};
use smidgen_reference::convolution::Case;

/// The layers that `smidgen bench` measures, as cases.
#[must_use]
pub fn networks() -> Vec<Case> {
    let size = |size: u32| size as usize;
    let pair = |pair: [u32; 2]| pair.map(size);
    let case = |(name, shape): (String, ConvolutionShape)| Case {
        name: name.leak(),
        batch: size(shape.batch),
        input: [shape.input_channels, shape.input_height, shape.input_width].map(size),
        output_channels: size(shape.output_channels),
        kernel: pair(shape.kernel),
        stride: pair(shape.stride),
        padding: pair(shape.padding),
        dilation: pair(shape.dilation),
        groups: size(shape.groups),
    };
    smidgen::bench::networks().into_iter().map(case).collect()
}

/// In the order of a training step.
pub const PASSES: [Pass; 3] = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];

fn shape(case: &Case) -> ConvolutionShape {
    let pair = |pair: [usize; 2]| pair.map(|size| size as u32);
    ConvolutionShape {
        stride: pair(case.stride),
        padding: pair(case.padding),
        dilation: pair(case.dilation),
        groups: case.groups as u32,
        ..ConvolutionShape::new(
            case.batch as u32,
            case.input.map(|size| size as u32),
            case.output_channels as u32,
            pair(case.kernel),
        )
    }
}

/// Multiplications with an addition that a pass takes; taps on the padding count.
#[must_use]
pub fn multiply_adds(case: &Case) -> u64 {
    shape(case).multiply_adds()
}

/// What computes a pass, and filled memory for it.
///
/// # Panics
/// If the convolution is refused.
#[must_use]
pub fn launches(case: &Case, pass: Pass) -> (Memory, Vec<Launch>) {
    let (shape, facts) = (shape(case), device().facts());
    let mut memory = Memory::new();
    let bytes = workspace(pass, &shape, facts, None)
        .unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let workspace = (bytes > 0).then(|| memory.values(bytes));
    let launches = match pass {
        Pass::Forward => {
            let regions = Forward {
                input: memory.values(shape.input_bytes()).into(),
                weight: memory.values(shape.weight_bytes()),
                bias: None,
                output: memory.values(shape.output_bytes()),
                workspace,
            };
            forward(&shape, facts, None, &regions).into_launches()
        }
        Pass::InputGradient => {
            let regions = InputGradient {
                output_gradient: memory.values(shape.output_bytes()),
                weight: memory.values(shape.weight_bytes()),
                input_gradient: memory.values(shape.input_bytes()),
                accumulate: false,
                derivative: None,
                workspace,
            };
            input_gradient(&shape, facts, None, &regions).into_launches()
        }
        Pass::WeightGradient => {
            let regions = WeightGradient {
                input: memory.values(shape.input_bytes()).into(),
                output_gradient: memory.values(shape.output_bytes()),
                weight_gradient: memory.values(shape.weight_bytes()),
                bias_gradient: None,
                workspace,
            };
            weight_gradient(&shape, facts, None, &regions).into_launches()
        }
    };
    (memory, launches)
}

/// A pass by a variant (without one, by the default for this workspace). Regions: input, output, input gradient, weight, weight gradient; the
/// output stands for its own gradient.
///
/// # Errors
/// If the convolution is refused.
pub fn dense(
    shape: &ConvolutionShape,
    pass: Pass,
    variant: Option<Variant>,
    [input, output, by_input, weight, by_weight]: [Region; 5],
    workspace: Option<Region>,
) -> Result<Vec<Launch>, ShapeError> {
    let facts = device().facts();
    match pass {
        Pass::Forward => {
            let regions = Forward {
                input: input.into(),
                weight,
                bias: None,
                output,
                workspace,
            };
            forward(shape, facts, variant, &regions)
        }
        Pass::InputGradient => {
            let regions = InputGradient {
                output_gradient: output,
                weight,
                input_gradient: by_input,
                accumulate: false,
                derivative: None,
                workspace,
            };
            input_gradient(shape, facts, variant, &regions)
        }
        Pass::WeightGradient => {
            let regions = WeightGradient {
                input: input.into(),
                output_gradient: output,
                weight_gradient: by_weight,
                bias_gradient: None,
                workspace,
            };
            weight_gradient(shape, facts, variant, &regions)
        }
    }
}
