//! Batches in the layout of the device.

use crate::ImageShape;
use crate::preprocess::View;

/// The label of places in a batch that hold no picture: losses and accuracies leave them out.
pub const IGNORE_LABEL: u32 = u32::MAX;

/// Some pictures, ready to be uploaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Normalised pixels as planes of quads: of `P = batch * height * width` pixels, channel `c` of pixel
    /// `p = (picture * height + row) * width + column` is at `((c / 4) * P + p) * 4 + c % 4`. Channels that
    /// fill up the last quad are zero, and so are pictures from `count` on.
    pub images: Vec<f32>,
    /// The class of each picture, [`IGNORE_LABEL`] from `count` on.
    pub labels: Vec<u32>,
    /// The number of each picture in its data set, [`IGNORE_LABEL`] from `count` on.
    pub examples: Vec<u32>,
    /// How many pictures there are; fewer than places only in the last batch of an evaluation.
    pub count: usize,
    /// Which batch of its epoch this is.
    pub index: usize,
}

impl Batch {
    /// The labels, then the numbers of the examples: what a session that keeps something of single examples wants.
    pub fn words(&self) -> Vec<u32> {
        [self.labels.as_slice(), &self.examples].concat()
    }
}

/// Writes one decoded picture to its place in a batch of `places` pictures, whose images are zero there.
pub(crate) fn place_image(
    images: &mut [f32],
    places: usize,
    place: usize,
    shape: ImageShape,
    decoded: &[u8],
    view: View,
    table: &[[f32; 256]],
) {
    let pixels = shape.pixels();
    let plane = places * pixels;
    for (channel, (values, bytes)) in table.iter().zip(decoded.chunks_exact(pixels)).enumerate() {
        let start = ((channel / 4) * plane + place * pixels) * 4;
        let quads = images[start..start + pixels * 4].chunks_exact_mut(4);
        for (pixel, quad) in quads.enumerate() {
            let source = view.source(shape, pixel / shape.width, pixel % shape.width);
            let byte = source.map_or(0, |source| bytes[source]);
            quad[channel % 4] = values[usize::from(byte)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five channels need two planes of quads; the bytes name their channel, row and column.
    fn five_channels() -> (ImageShape, Vec<u8>, Vec<[f32; 256]>) {
        let shape = ImageShape {
            channels: 5,
            height: 3,
            width: 4,
        };
        let decoded = (0..60).map(|byte| byte + 1).collect();
        let identity = std::array::from_fn(|byte| byte as f32);
        (shape, decoded, vec![identity; 5])
    }

    #[test]
    fn pixels_are_where_the_layout_says() {
        let (shape, decoded, table) = five_channels();
        let places = 2;
        let plane = places * 12;
        let mut images = vec![0.0; shape.quads() * plane * 4];
        place_image(
            &mut images,
            places,
            1,
            shape,
            &decoded,
            View::default(),
            &table,
        );
        let mut expected = vec![0.0; images.len()];
        for channel in 0..5 {
            for row in 0..3 {
                for column in 0..4 {
                    let pixel = (3 + row) * 4 + column;
                    expected[((channel / 4) * plane + pixel) * 4 + channel % 4] =
                        (channel * 12 + row * 4 + column + 1) as f32;
                }
            }
        }
        assert_eq!(images, expected);
    }

    #[test]
    fn a_view_shifts_then_mirrors_with_black_outside() {
        let (shape, decoded, mut table) = five_channels();
        // Black is the normalised zero byte, not the number zero.
        table[0][0] = -7.0;
        let view = View {
            shift: (1, -1),
            mirrored: true,
        };
        let mut images = vec![0.0; shape.quads() * 12 * 4];
        place_image(&mut images, 1, 0, shape, &decoded, view, &table);
        let first_channel: Vec<f32> = images[..48].iter().copied().step_by(4).collect();
        assert_eq!(
            first_channel,
            [
                7.0, 6.0, 5.0, -7.0, //
                11.0, 10.0, 9.0, -7.0, //
                -7.0, -7.0, -7.0, -7.0,
            ]
        );
    }
}
