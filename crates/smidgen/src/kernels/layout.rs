//! Between PyTorch's order of numbers and the layouts of the device.

use crate::Error;
use smidgen_conv::ConvolutionShape;
use smidgen_graph::{ConvolutionAttributes, Layout, Slabs};

pub(super) fn convolution_shape(
    attributes: &ConvolutionAttributes,
    [batch, height, width]: [u32; 3],
) -> ConvolutionShape {
    ConvolutionShape {
        batch,
        input_channels: attributes.input_channels,
        input_height: height,
        input_width: width,
        output_channels: attributes.output_channels,
        kernel: attributes.kernel,
        stride: attributes.stride,
        padding: attributes.padding,
        dilation: attributes.dilation,
        groups: attributes.groups,
    }
}

/// The shape of a convolution of which only the weight matters: one image of just the size of the kernel.
pub(super) fn weight_shape(attributes: &ConvolutionAttributes) -> ConvolutionShape {
    let extent = |at: usize| (attributes.kernel[at] - 1) * attributes.dilation[at] + 1;
    ConvolutionShape {
        padding: [0, 0],
        ..convolution_shape(attributes, [1, extent(0), extent(1)])
    }
}

/// The words of a value from its numbers in PyTorch's order, padding zero.
pub(crate) fn pack(name: &str, layout: &Layout, values: &[f32]) -> Result<Vec<f32>, Error> {
    let check = |expected: usize| {
        if values.len() == expected {
            Ok(())
        } else {
            Err(Error::ValueSize {
                name: name.into(),
                expected,
                found: values.len(),
            })
        }
    };
    match layout {
        Layout::Weight(attributes) => {
            let [height, width] = attributes.kernel.map(|size| size as usize);
            let inputs = (attributes.input_channels / attributes.groups) as usize;
            check(attributes.output_channels as usize * inputs * height * width)?;
            Ok(smidgen_conv::pack_weight(
                &weight_shape(attributes),
                values,
            )?)
        }
        Layout::Vector { channels } => {
            check(*channels as usize)?;
            let mut padded = values.to_vec();
            padded.resize(channels.next_multiple_of(4) as usize, 0.0);
            Ok(padded)
        }
        Layout::Map(shape) => {
            check(shape.elements() as usize)?;
            let mut quads = vec![0.0; (layout.bytes() / 4) as usize];
            for_each_element(*shape, |nchw, quad| quads[quad] = values[nchw]);
            Ok(quads)
        }
        Layout::Words { count } => check(*count as usize).map(|()| values.to_vec()),
        // Those of a sparse weight stand where its columns say: the session knows them.
        Layout::Taps { .. }
        | Layout::HalfMap(_)
        | Layout::Normalisation { .. }
        | Layout::Moments(_)
        | Layout::SparseWeight(..)
        | Layout::SparseValues(..) => Err(Error::UnknownValue { name: name.into() }),
    }
}

/// The numbers of a value in PyTorch's order from its words, those of a map in these slabs.
pub(crate) fn unpack(layout: &Layout, slabs: Slabs, words: &[u32]) -> Result<Vec<f32>, Error> {
    let of = |images| {
        layout
            .of_images(images)
            .map_or(0, |slab| slab.bytes() as usize / 4)
    };
    if slabs.count() <= 1 || of(1) == 0 {
        return unpack_whole(layout, words);
    }
    let stride = slabs.stride(|images| 4 * of(images) as u64) as usize / 4;
    let mut values = Vec::new();
    for (slab, images) in slabs.each().enumerate() {
        let slab = &words[slab * stride..][..of(images)];
        let layout = layout.of_images(images).unwrap_or(*layout);
        values.extend(unpack_whole(&layout, slab)?);
    }
    Ok(values)
}

fn unpack_whole(layout: &Layout, words: &[u32]) -> Result<Vec<f32>, Error> {
    let mut values: Vec<f32> = match layout {
        Layout::HalfMap(_) => {
            let halves = words
                .iter()
                .flat_map(|word| [*word as u16, (word >> 16) as u16]);
            halves.map(of_half).collect()
        }
        _ => words.iter().map(|word| f32::from_bits(*word)).collect(),
    };
    match layout {
        Layout::Weight(attributes) => Ok(smidgen_conv::unpack_weight(
            &weight_shape(attributes),
            &values,
        )?),
        Layout::Vector { channels } => {
            values.truncate(*channels as usize);
            Ok(values)
        }
        Layout::Map(shape) | Layout::HalfMap(shape) => {
            let mut ordered = vec![0.0; shape.elements() as usize];
            for_each_element(*shape, |nchw, quad| ordered[nchw] = values[quad]);
            Ok(ordered)
        }
        Layout::Words { .. }
        | Layout::Taps { .. }
        | Layout::Normalisation { .. }
        | Layout::Moments(_)
        | Layout::SparseWeight(..)
        | Layout::SparseValues(..) => Ok(values),
    }
}

/// The number that an f16 of these bits is.
fn of_half(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let sign = u32::from(bits & 0x8000) << 16;
    if magnitude >= 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | (magnitude & 0x3ff) << 13);
    }
    // The exponent of f32 is biased by 112 more.
    let value = f32::from_bits(magnitude << 13) * 2.0_f32.powi(112);
    f32::from_bits(value.to_bits() | sign)
}

/// Visits every element of a map with its index in NCHW and in planes of quads.
fn for_each_element(shape: smidgen_graph::MapShape, mut visit: impl FnMut(usize, usize)) {
    let pixels = shape.pixels() as usize;
    let (channels, plane) = (
        shape.channels as usize,
        (shape.height * shape.width) as usize,
    );
    for pixel in 0..pixels {
        for channel in 0..channels {
            let nchw = (pixel / plane * channels + channel) * plane + pixel % plane;
            visit(nchw, (channel / 4 * pixels + pixel) * 4 + channel % 4);
        }
    }
}
