//! From the attributes of a graph to the shapes of the kernel crates.

use super::layout;
use smidgen_conv::ConvolutionShape;
use smidgen_graph::{Activation, ConvolutionAttributes, MapShape, PoolAttributes, RehearsalMemory};
use smidgen_ops::batch_norm::StatisticsKind;
use smidgen_ops::{loss, pool, rehearsal, shortcut};

pub(super) fn map_shape(shape: MapShape) -> smidgen_ops::MapShape {
    smidgen_ops::MapShape::new(shape.batch, shape.channels, shape.height, shape.width)
}

pub(super) fn activation_kind(activation: Activation) -> smidgen_ops::Activation {
    match activation {
        Activation::Identity => smidgen_ops::Activation::Identity,
        Activation::Relu => smidgen_ops::Activation::Relu,
        Activation::Relu6 => smidgen_ops::Activation::Relu6,
        Activation::HardSwish => smidgen_ops::Activation::HardSwish,
        Activation::Silu => smidgen_ops::Activation::Silu,
        Activation::Gelu => smidgen_ops::Activation::Gelu,
    }
}

pub(super) fn statistics_kind(of_batch: bool) -> StatisticsKind {
    if of_batch {
        StatisticsKind::Batch
    } else {
        StatisticsKind::Constant
    }
}

pub(super) fn convolution_shape(
    attributes: &ConvolutionAttributes,
    input: MapShape,
) -> ConvolutionShape {
    layout::convolution_shape(attributes, [input.batch, input.height, input.width])
}

pub(super) fn cross_entropy(shape: MapShape, label_smoothing: f32) -> loss::CrossEntropy {
    loss::CrossEntropy {
        samples: shape.batch,
        classes: shape.channels,
        label_smoothing,
        scale: 1.0,
    }
}

pub(super) fn rehearsal_of(
    images: MapShape,
    classes: u32,
    memory: &RehearsalMemory,
) -> rehearsal::Rehearsal {
    let options = memory.options;
    rehearsal::Rehearsal {
        images: map_shape(images),
        classes,
        slots: options.slots,
        distillation: options.distillation,
        repetition: options.repetition,
        to_bytes: options.to_bytes,
    }
}

pub(super) fn option_a(
    input: MapShape,
    stride: u32,
    output_channels: u32,
    channel_offset: u32,
) -> shortcut::Shortcut {
    shortcut::Shortcut {
        input: map_shape(input),
        output_channels,
        channel_offset,
        stride,
    }
}

pub(super) fn window(input: MapShape, attributes: &PoolAttributes) -> pool::Pool {
    let PoolAttributes {
        kernel,
        stride,
        padding,
        ..
    } = *attributes;
    pool::Pool {
        input: map_shape(input),
        kernel,
        stride,
        padding,
    }
}

pub(super) fn divisor(attributes: &PoolAttributes) -> pool::Divisor {
    if attributes.count_include_pad {
        pool::Divisor::Window
    } else {
        pool::Divisor::Inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_graph::Layout;

    #[test]
    fn programs_hold_as_many_bytes_of_taps_as_kernels_write() {
        for kernel in 1..=5 {
            for [height, width] in [[1, 1], [7, 9], [8, 8], [5, 13], [19, 27], [40, 64]] {
                let attributes = PoolAttributes {
                    kernel: [kernel; 2],
                    stride: [1, 1],
                    padding: [0, 0],
                    count_include_pad: true,
                };
                let input = MapShape::new(1, 7, height + kernel - 1, width + kernel - 1);
                let bits = attributes.tap_bits();
                let shape = attributes.output_shape(input).unwrap();
                let pool = window(input, &attributes);
                assert_eq!(bits, pool.tap_bits());
                let bytes = Layout::Taps { shape, bits }.bytes();
                assert_eq!(
                    bytes,
                    pool.taps_bytes().unwrap(),
                    "{attributes:?} {shape:?}"
                );
            }
        }
    }
}
