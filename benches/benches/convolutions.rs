//! The three passes of a convolution, over the table of cases and over sizes of real networks; throughput in operations, of which a
//! multiply-add is two.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};
use smidgen_benches::{Memory, device, measure};
use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, WeightGradient, forward, input_gradient,
    weight_gradient, workspace,
};
use smidgen_gpu::Region;
use smidgen_reference::convolution::{Case, cases};

/// Layers of ResNet-20 (batch 32), ResNet-18 and MobileNetV2 (batch 8), by the sizes that other projects are compared on.
fn networks() -> Vec<Case> {
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

fn passes(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let (shape, facts) = (shape(case), device().facts());
    let workspace_bytes = workspace(Pass::WeightGradient, &shape, facts, None)
        .unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let mut memory = Memory::new();
    let input = memory.values(shape.input_bytes());
    let weight = memory.values(shape.weight_bytes());
    let output = memory.values(shape.output_bytes());
    let result = memory.values(shape.input_bytes().max(shape.weight_bytes()));
    let workspace = (workspace_bytes > 0).then(|| memory.values(workspace_bytes));
    let sized = |region: Region, size| Region { size, ..region };
    let operations = Throughput::Elements(shape.multiply_adds() * 2);
    let mut measure = |pass, launches| {
        measure(
            group,
            pass,
            case.name,
            operations.clone(),
            &memory,
            launches,
        );
    };
    let regions = Forward {
        input: input.into(),
        weight,
        bias: None,
        output,
    };
    measure("forward", forward(&shape, facts, None, &regions));
    let regions = InputGradient {
        output_gradient: output,
        weight,
        input_gradient: sized(result, shape.input_bytes()),
        accumulate: false,
    };
    measure(
        "input gradient",
        input_gradient(&shape, facts, None, &regions),
    );
    let regions = WeightGradient {
        input: input.into(),
        output_gradient: output,
        weight_gradient: sized(result, shape.weight_bytes()),
        bias_gradient: None,
        workspace,
    };
    measure(
        "weight gradient",
        weight_gradient(&shape, facts, None, &regions),
    );
}

fn main() {
    let mut criterion = smidgen_benches::criterion(0.5);
    let mut group = criterion.benchmark_group("convolutions of networks");
    networks().iter().for_each(|case| passes(&mut group, case));
    group.finish();
    // Small and odd: what is measured here is mostly the cost of a launch.
    let mut criterion = smidgen_benches::criterion(0.1);
    let mut group = criterion.benchmark_group("convolutions of the tests");
    cases().iter().for_each(|case| passes(&mut group, case));
    group.finish();
    criterion.final_summary();
}
