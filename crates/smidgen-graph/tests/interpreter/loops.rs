//! The loops that operations and their gradients have in common.

use smidgen_graph::{Activation, ConvolutionAttributes, MapShape, PoolAttributes};

fn index(shape: MapShape, image: u32, channel: u32, y: u32, x: u32) -> usize {
    (((image * shape.channels + channel) * shape.height + y) * shape.width + x) as usize
}

pub(super) fn each(shape: MapShape, mut visit: impl FnMut(usize, usize)) {
    let plane = (shape.height * shape.width) as usize;
    (0..shape.elements() as usize).for_each(|at| visit(at / plane % shape.channels as usize, at));
}

pub(super) fn channel_sums(shape: MapShape, value: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; shape.channels as usize];
    each(shape, |channel, at| sums[channel] += value(at));
    sums
}

/// Where tap `tap` of output `place` reads, if inside.
fn source(place: u32, stride: u32, tap: u32, padding: u32, size: u32) -> Option<u32> {
    (place * stride + tap)
        .checked_sub(padding)
        .filter(|at| *at < size)
}

/// Every product of a convolution: index of the input, the weight and the output.
pub(super) fn taps(
    attributes: ConvolutionAttributes,
    shape: MapShape,
    mut visit: impl FnMut(usize, usize, usize),
) {
    let ConvolutionAttributes {
        kernel: [rows, columns],
        stride,
        padding,
        dilation,
        groups,
        ..
    } = attributes;
    let out = attributes.output_shape(shape).expect("fits");
    let (inputs, outputs) = (shape.channels / groups, out.channels / groups);
    for (image, output) in (0..out.batch).flat_map(|n| (0..out.channels).map(move |c| (n, c))) {
        for (y, x) in (0..out.height).flat_map(|y| (0..out.width).map(move |x| (y, x))) {
            for (input, row, column) in (0..inputs)
                .flat_map(|c| (0..rows).map(move |r| (c, r)))
                .flat_map(|(c, r)| (0..columns).map(move |k| (c, r, k)))
            {
                let from_y = source(y, stride[0], row * dilation[0], padding[0], shape.height);
                let from_x = source(x, stride[1], column * dilation[1], padding[1], shape.width);
                if let (Some(from_y), Some(from_x)) = (from_y, from_x) {
                    let channel = output / outputs * inputs + input;
                    let weight = ((output * inputs + input) * rows + row) * columns + column;
                    let from = index(shape, image, channel, from_y, from_x);
                    visit(from, weight as usize, index(out, image, output, y, x));
                }
            }
        }
    }
}

/// Every pixel of every window of a pool: index of the input and the output, share in an average.
pub(super) fn windows(
    attributes: PoolAttributes,
    shape: MapShape,
    mut visit: impl FnMut(usize, usize, f64),
) {
    let PoolAttributes {
        kernel: [rows, columns],
        stride,
        padding,
        count_include_pad,
    } = attributes;
    let out = attributes.output_shape(shape).expect("fits");
    for at in 0..out.elements() as u32 {
        let (x, y) = (at % out.width, at / out.width % out.height);
        let plane = at / (out.width * out.height);
        let inside: Vec<(u32, u32)> = (0..rows * columns)
            .filter_map(|tap| {
                let from_y = source(y, stride[0], tap / columns, padding[0], shape.height)?;
                Some((
                    from_y,
                    source(x, stride[1], tap % columns, padding[1], shape.width)?,
                ))
            })
            .collect();
        let count = if count_include_pad {
            rows * columns
        } else {
            inside.len() as u32
        };
        for (from_y, from_x) in inside {
            let from = (plane * shape.height + from_y) * shape.width + from_x;
            visit(from as usize, at as usize, 1.0 / f64::from(count));
        }
    }
}

pub(super) fn strided(shape: MapShape, stride: u32, channels: u32) -> MapShape {
    shape
        .with_channels(channels)
        .with_size([shape.height.div_ceil(stride), shape.width.div_ceil(stride)])
}

pub(super) fn shortcut(
    shape: MapShape,
    out: MapShape,
    stride: u32,
    offset: u32,
    mut visit: impl FnMut(usize, usize),
) {
    for (image, channel) in (0..shape.batch).flat_map(|n| (0..shape.channels).map(move |c| (n, c)))
    {
        for (y, x) in (0..out.height).flat_map(|y| (0..out.width).map(move |x| (y, x))) {
            visit(
                index(shape, image, channel, y * stride, x * stride),
                index(out, image, channel + offset, y, x),
            );
        }
    }
}

/// A fixed choice that only depends on where and which.
pub(super) fn kept(probability: f32, stream: u32, at: u64) -> f64 {
    let mixed = (at + 1 + u64::from(stream) * 1000).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let unit = mixed as f64 / f64::from(1 << 24);
    let probability = f64::from(probability);
    if unit < probability {
        0.0
    } else {
        1.0 / (1.0 - probability)
    }
}

pub(super) fn apply(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Silu => x / (1.0 + (-x).exp()),
        // Simpson's rule over the density: the error function is not in the standard library.
        Activation::Gelu => {
            let steps = 200;
            let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let width = x / f64::from(steps);
            let factor = |at: i32| {
                if at == 0 || at == steps {
                    1.0
                } else {
                    f64::from(2 + at % 2 * 2)
                }
            };
            let sum: f64 = (0..=steps)
                .map(|at| factor(at) * density(f64::from(at) * width))
                .sum();
            x * (0.5 + sum * width / 3.0)
        }
    }
}

/// The derivative, at the input; for masks also at the output.
pub(super) fn slope(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => f64::from(u8::from(x > 0.0)),
        Activation::Relu6 => f64::from(u8::from(x > 0.0 && x < 6.0)),
        _ => (apply(activation, x + 1e-5) - apply(activation, x - 1e-5)) / 2e-5,
    }
}
