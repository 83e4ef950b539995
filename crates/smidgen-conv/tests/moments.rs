//! The moments that a convolution takes of what it writes, against those of what it wrote.

use smidgen_conv::sparse::{
    SparseForward, SparseShape, Transpose, sparse_forward, sparse_forward_with_moments, transpose,
};
use smidgen_conv::{
    ConvolutionShape, Forward, GatherTile, Pass, ShapeError, Variant, fits, forward,
    forward_with_moments, pack_weight, takes_moments,
};
use smidgen_gpu::testing::{Guarded, Outcome, device};
use smidgen_gpu::{Activation, DeviceFacts, DeviceKind, Region, Source, moments_bytes};
use smidgen_reference::numbers::normal;

/// The kernels of each kind: weights shared by a subgroup, as far as this device can, or loaded by every invocation.
fn kinds() -> [DeviceFacts; 2] {
    let facts = device(false).facts();
    let alone = DeviceFacts {
        kind: DeviceKind::Discrete,
        subgroup_sizes: None,
        ..facts.clone()
    };
    [facts.clone(), alone]
}

/// The same, and tiles in workgroup memory where one fits.
fn ways(shape: &ConvolutionShape) -> Vec<(DeviceFacts, Option<Variant>)> {
    let [shared, alone] = kinds();
    let tile: Variant = "tiles 2x2 lanes 32x2 depth 1".parse().unwrap();
    let tile = fits(tile, Pass::Forward, shape, &alone).then(|| (alone.clone(), Some(tile)));
    let mut ways = vec![(shared, None), (alone, None)];
    ways.extend(tile);
    ways
}

fn shapes() -> Vec<ConvolutionShape> {
    let shape = ConvolutionShape::new;
    vec![
        shape(3, [5, 13, 11], 20, [3, 3]).with_padding(1),
        shape(2, [8, 17, 9], 12, [3, 3]).with_stride(2),
        shape(5, [7, 9, 9], 10, [1, 1]),
        shape(1, [4, 1, 1], 3, [1, 1]),
        shape(2, [8, 9, 7], 8, [3, 3])
            .with_padding(1)
            .with_groups(2),
        shape(3, [6, 10, 7], 6, [3, 3])
            .with_padding(1)
            .with_groups(6),
        // More strips than lanes, of which some are beyond the bottom.
        shape(4, [9, 23, 21], 9, [3, 3])
            .with_padding(1)
            .with_stride(2)
            .with_groups(9),
    ]
}

fn pixels(shape: &ConvolutionShape) -> usize {
    (shape.batch * shape.output_height() * shape.output_width()) as usize
}

struct Layer {
    memory: Guarded,
    regions: Forward,
    moments: Region,
}

/// A layer whose outputs are about `mean`.
fn layer(shape: &ConvolutionShape, mean: f32) -> Layer {
    let mut memory = Guarded::new();
    let weights = (shape.output_channels * shape.input_channels / shape.groups
        * shape.kernel[0]
        * shape.kernel[1]) as usize;
    let padded = shape.bias_bytes() as usize / 4;
    let mut bias = vec![mean; shape.output_channels as usize];
    bias.resize(padded, 0.0);
    let quads = normal(1, shape.input_bytes() as usize / 4);
    let regions = Forward {
        input: Source {
            activation: Activation::Relu,
            ..memory.input(&quads).into()
        },
        weight: memory.input(&pack_weight(shape, &normal(2, weights)).unwrap()),
        bias: Some(memory.input(&bias)),
        output: memory.output(shape.output_bytes() as usize / 4),
        workspace: None,
    };
    let bytes = moments_bytes(shape.output_channels, pixels(shape) as u64);
    let moments = memory.output(bytes as usize / 4);
    Layer {
        memory,
        regions,
        moments,
    }
}

/// What of the moments is written: as many records as there are workgroups.
fn written(shape: &ConvolutionShape, moments: Region, outcome: &Outcome) -> Vec<f32> {
    let head = Region {
        size: 16,
        ..moments
    };
    let groups = outcome.read::<f32>(head)[0] as u64;
    outcome.read(Region {
        size: 16 + 48 * groups * u64::from(shape.output_channels.div_ceil(4)),
        ..moments
    })
}

/// Merges the records of every channel in double precision and compares with the values of the output.
fn check(shape: &ConvolutionShape, [output, moments]: [Region; 2], outcome: &Outcome) {
    let (pixels, quads) = (pixels(shape), shape.output_channels.div_ceil(4) as usize);
    let output: Vec<f32> = outcome.read(output);
    let moments = written(shape, moments, outcome);
    let groups = moments[0] as usize;
    for channel in 0..shape.output_channels as usize {
        let (quad, lane) = (channel / 4, channel % 4);
        let values: Vec<f64> = (0..pixels)
            .map(|pixel| f64::from(output[(quad * pixels + pixel) * 4 + lane]))
            .collect();
        let mean = values.iter().sum::<f64>() / pixels as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let records: Vec<[f64; 3]> = (0..groups)
            .map(|group| {
                let record = (1 + 3 * (group * quads + quad)) * 4 + lane;
                [0, 4, 8].map(|at| f64::from(moments[record + at]))
            })
            .collect();
        let count: f64 = records.iter().map(|record| record[2]).sum();
        assert_eq!(count, pixels as f64, "every pixel counts once; {shape:?}");
        let merged = records.iter().map(|[mean, _, count]| mean * count);
        let merged = merged.sum::<f64>() / count;
        let spread = records
            .iter()
            .map(|[own, squares, count]| squares + count * (own - mean).powi(2));
        let spread: f64 = spread.sum();
        let deviation = (squares / count).sqrt();
        assert!(
            (merged - mean).abs() <= 1e-6 * (mean.abs() + deviation),
            "channel {channel}: mean {merged}, not {mean}; {shape:?}"
        );
        // Every record's mean is rounded to a number as large as itself.
        let rounding = 1e-7 * mean.abs();
        let limit = 1e-5 * squares + count * rounding * (rounding + deviation) + 1e-30;
        assert!(
            (spread - squares).abs() <= limit,
            "channel {channel}: squares {spread}, not {squares}; {shape:?}"
        );
    }
}

#[test]
fn moments_are_those_of_what_is_written() {
    for (at, shape) in shapes().iter().enumerate() {
        for (facts, variant) in ways(shape) {
            // Far from zero, where sums of squares would cancel.
            let layer = layer(shape, [0.5, 3000.0][at % 2]);
            let launches =
                forward_with_moments(shape, &facts, variant, &layer.regions, layer.moments)
                    .unwrap();
            // The first with run-time checks as well, which change nothing.
            let outcome = if at == 0 {
                layer.memory.run(&launches).unwrap()
            } else {
                layer.memory.run_unchecked(&launches).unwrap()
            };
            check(shape, [layer.regions.output, layer.moments], &outcome);
            let plain = forward(shape, &facts, variant, &layer.regions).unwrap();
            let plain = layer.memory.run_unchecked(&plain).unwrap();
            assert_eq!(
                outcome.read::<u32>(layer.regions.output),
                plain.read::<u32>(layer.regions.output),
                "the output is the same to the bit; {shape:?}"
            );
        }
    }
}

#[test]
fn sparse_layers_take_the_moments_of_what_they_write() {
    let wide = ConvolutionShape::new(2, [8, 11, 9], 72, [3, 3]).with_padding(1);
    let dense = shapes().into_iter().chain([wide]);
    for (at, shape) in dense.filter(|shape| shape.groups < 6).enumerate() {
        for (facts, block_quads) in kinds().iter().zip([1, 2]) {
            let fits = shape.groups == 1 && shape.output_channels.div_ceil(4) % 2 == 0;
            let block_quads = if fits { block_quads } else { 1 };
            let sparse = SparseShape::with_blocks(shape, block_quads, 0.5)
                .or_else(|_| SparseShape::with_blocks(shape, block_quads, 1.0))
                .unwrap();
            let layer = layer(&shape, [0.5, 3000.0][at % 2]);
            let mut memory = layer.memory;
            let scores = normal(3, (sparse.output_groups() * sparse.candidates()) as usize);
            let mut scores = scores.into_iter();
            let columns = sparse.choose(|_, _| f64::from(scores.next().unwrap()));
            let columns = memory.input(&columns);
            let values = normal(4, sparse.value_bytes() as usize / 4);
            let values = memory.input(&values);
            let [starts, entries, walk] = [
                sparse.start_bytes(),
                sparse.entry_bytes(),
                sparse.walk_bytes(),
            ]
            .map(|bytes| memory.output(bytes as usize / 4));
            let lists = Transpose {
                columns,
                starts,
                entries,
                walk,
            };
            let regions = SparseForward {
                input: layer.regions.input,
                columns,
                values,
                walk,
                bias: layer.regions.bias,
                output: layer.regions.output,
            };
            let mut launches = transpose(&sparse, &lists).unwrap();
            let plain = sparse_forward(&sparse, facts, &regions).unwrap();
            let plain = [launches.clone(), plain].concat();
            launches.extend(
                sparse_forward_with_moments(&sparse, facts, &regions, layer.moments).unwrap(),
            );
            let outcome = if at == 0 {
                memory.run(&launches).unwrap()
            } else {
                memory.run_unchecked(&launches).unwrap()
            };
            check(&shape, [regions.output, layer.moments], &outcome);
            let plain = memory.run_unchecked(&plain).unwrap();
            assert_eq!(
                outcome.read::<u32>(regions.output),
                plain.read::<u32>(regions.output),
                "the output is the same to the bit; {shape:?}"
            );
        }
    }
}

#[test]
fn what_takes_no_moments_says_so() {
    let shape = ConvolutionShape::new(1, [32, 8, 8], 32, [3, 3]).with_padding(1);
    let facts = device(false).facts();
    let wide = Variant::Gather(GatherTile {
        pixels: 4,
        quads: 8,
        subgroup: None,
    });
    assert_eq!(takes_moments(&shape, facts, None), Ok(true));
    for variant in [wide, Variant::Winograd(4)] {
        assert_eq!(takes_moments(&shape, facts, Some(variant)), Ok(false));
        let layer = layer(&shape, 0.0);
        let refused =
            forward_with_moments(&shape, facts, Some(variant), &layer.regions, layer.moments);
        assert!(matches!(refused, Err(ShapeError::UnfitVariant { .. })));
    }
    let layer = layer(&shape, 0.0);
    let short = Region {
        size: layer.moments.size - 16,
        ..layer.moments
    };
    let refused = forward_with_moments(&shape, facts, None, &layer.regions, short);
    assert!(matches!(
        refused,
        Err(ShapeError::RegionTooSmall {
            region: "moments",
            ..
        })
    ));
}
