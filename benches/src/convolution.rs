//! The passes of a convolution as launches.

use crate::{IntoLaunches, Memory, device};
use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, WeightGradient, forward, input_gradient,
    weight_gradient, workspace,
};
use smidgen_gpu::Launch;
use smidgen_reference::convolution::Case;

/// Layers of ResNet-20 (batch 32), ResNet-18 and MobileNetV2 (batch 8), by the sizes that other projects are compared on.
#[must_use]
pub fn networks() -> Vec<Case> {
    let dense = |name, batch, input: [usize; 3]| {
        Case::new(name, batch, input, input[0], [3, 3]).padding(1, 1)
    };
    vec![
        dense("32x16x32x32 to 16, 3x3", 32, [16, 32, 32]),
        dense("32x32x16x16 to 32, 3x3", 32, [32, 16, 16]),
        dense("32x64x8x8 to 64, 3x3", 32, [64, 8, 8]),
        dense("8x64x56x56 to 64, 3x3", 8, [64, 56, 56]),
        dense("8x128x28x28 to 128, 3x3", 8, [128, 28, 28]),
        dense("8x256x14x14 to 256, 3x3", 8, [256, 14, 14]),
        dense("8x96x28x28, depthwise 3x3", 8, [96, 28, 28]).groups(96),
        Case::new("8x64x28x28 to 384, 1x1", 8, [64, 28, 28], 384, [1, 1]),
    ]
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
    let launches = match pass {
        Pass::Forward => {
            let regions = Forward {
                input: memory.values(shape.input_bytes()).into(),
                weight: memory.values(shape.weight_bytes()),
                bias: None,
                output: memory.values(shape.output_bytes()),
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
            };
            input_gradient(&shape, facts, None, &regions).into_launches()
        }
        Pass::WeightGradient => {
            let bytes = workspace(pass, &shape, facts, None)
                .unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let regions = WeightGradient {
                input: memory.values(shape.input_bytes()).into(),
                output_gradient: memory.values(shape.output_bytes()),
                weight_gradient: memory.values(shape.weight_bytes()),
                bias_gradient: None,
                workspace: (bytes > 0).then(|| memory.values(bytes)),
            };
            weight_gradient(&shape, facts, None, &regions).into_launches()
        }
    };
    (memory, launches)
}
