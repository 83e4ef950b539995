//! Common corruptions of pictures, as test-time adaptation is judged on.
//!
//! Ten of the corruptions of the CIFAR-10-C benchmark at its greatest severity, 5. They work on planar pictures
//! of values from 0 to 1 and keep full precision, where the benchmark's files hold whole bytes.

use crate::ImageShape;
use crate::random::{Draws, Purpose};

/// What can befall a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Corruption {
    /// Normal noise of deviation 0.1.
    GaussianNoise,
    /// Each value counted as photons, 50 for full brightness.
    ShotNoise,
    /// 7 % of all values become 0 or 1.
    ImpulseNoise,
    /// Normal noise of deviation 0.2 times the value.
    SpeckleNoise,
    /// Blurred by a bell of deviation 1 pixel.
    GaussianBlur,
    /// Blurred by a disc of radius 1.5 pixels.
    DefocusBlur,
    /// 15 % of the distance from each channel's mean.
    Contrast,
    /// The HSV value raised by 0.3.
    Brightness,
    /// The HSV saturation times 2.5, plus 0.2.
    Saturate,
    /// Shrunk to 65 % of its size and enlarged again, without smoothing.
    Pixelate,
}

impl Corruption {
    /// All corruptions.
    pub const ALL: [Self; 10] = [
        Self::GaussianNoise,
        Self::ShotNoise,
        Self::ImpulseNoise,
        Self::SpeckleNoise,
        Self::GaussianBlur,
        Self::DefocusBlur,
        Self::Contrast,
        Self::Brightness,
        Self::Saturate,
        Self::Pixelate,
    ];

    /// Corrupts a planar picture of values from 0 to 1; noise is a function of `seed` and `picture`.
    ///
    /// # Panics
    /// If `image` is not [`ImageShape::bytes`] values long.
    pub fn apply(self, image: &mut [f32], shape: ImageShape, seed: u64, picture: u64) {
        assert_eq!(image.len(), shape.bytes(), "one value a channel and pixel");
        let mut draws = Draws::new(Purpose::Corruption, seed, picture, self as u64);
        match self {
            Self::GaussianNoise => each(image, |value| value + 0.1 * draws.normal()),
            Self::ShotNoise => each(image, |value| poisson(50.0 * value, &mut draws) / 50.0),
            Self::ImpulseNoise => each(image, |value| match (draws.unit() < 0.07, draws.coin()) {
                (false, _) => value,
                (true, salt) => f32::from(u8::from(salt)),
            }),
            Self::SpeckleNoise => each(image, |value| value + 0.2 * value * draws.normal()),
            Self::GaussianBlur => gaussian_blur(image, shape),
            Self::DefocusBlur => defocus_blur(image, shape),
            Self::Contrast => {
                for plane in image.chunks_exact_mut(shape.pixels()) {
                    let mean = plane.iter().sum::<f32>() / plane.len() as f32;
                    each(plane, |value| (value - mean) * 0.15 + mean);
                }
            }
            Self::Brightness => each_colour(image, shape, |saturation, value| {
                (saturation, (value + 0.3).min(1.0))
            }),
            Self::Saturate => each_colour(image, shape, |saturation, value| {
                ((saturation * 2.5 + 0.2).min(1.0), value)
            }),
            Self::Pixelate => pixelate(image, shape),
        }
    }
}

fn each(values: &mut [f32], mut change: impl FnMut(f32) -> f32) {
    for value in values {
        *value = change(*value).clamp(0.0, 1.0);
    }
}

/// How many events there are when `mean` are expected: uniform draws are multiplied until they pass `exp(-mean)`.
fn poisson(mean: f32, draws: &mut Draws) -> f32 {
    let limit = (-f64::from(mean)).exp();
    let mut product = 1.0;
    let mut events = 0;
    loop {
        product *= 1.0 - f64::from(draws.unit());
        if product <= limit {
            return events as f32;
        }
        events += 1;
    }
}

/// Changes HSV saturation and value of every pixel, keeping its hue.
fn each_colour(image: &mut [f32], shape: ImageShape, change: impl Fn(f32, f32) -> (f32, f32)) {
    let pixels = shape.pixels();
    for pixel in 0..pixels {
        let channels = || (0..shape.channels).map(|channel| channel * pixels + pixel);
        let (least, greatest) = channels().fold((1.0f32, 0.0f32), |(least, greatest), index| {
            (least.min(image[index]), greatest.max(image[index]))
        });
        let range = greatest - least;
        let saturation = if greatest > 0.0 {
            range / greatest
        } else {
            0.0
        };
        let (saturation, value) = change(saturation, greatest);
        for (channel, index) in channels().enumerate() {
            // Where between the greatest channel (0) and the least (1): this is what hue fixes. Grey has
            // hue 0 by convention, which is red.
            let position = if range > 0.0 {
                (greatest - image[index]) / range
            } else {
                f32::from(u8::from(channel > 0))
            };
            image[index] = (value * (1.0 - saturation * position)).clamp(0.0, 1.0);
        }
    }
}

/// A weighted sum over neighbours, given by how far down and right they are; `place` maps positions outside.
fn filter(
    image: &mut [f32],
    shape: ImageShape,
    taps: &[(isize, isize, f32)],
    place: impl Fn(isize, usize) -> usize,
) {
    for plane in image.chunks_exact_mut(shape.pixels()) {
        let source = plane.to_vec();
        for (pixel, value) in plane.iter_mut().enumerate() {
            let row = (pixel / shape.width) as isize;
            let column = (pixel % shape.width) as isize;
            let sum: f32 = taps
                .iter()
                .map(|&(down, right, weight)| {
                    let row = place(row + down, shape.height);
                    let column = place(column + right, shape.width);
                    weight * source[row * shape.width + column]
                })
                .sum();
            *value = sum.clamp(0.0, 1.0);
        }
    }
}

/// Cut at four deviations; beyond the edge the outermost pixel goes on.
fn gaussian_blur(image: &mut [f32], shape: ImageShape) {
    let bell: Vec<(isize, f32)> = (-4..=4)
        .map(|offset: isize| (offset, (-0.5 * (offset * offset) as f32).exp()))
        .collect();
    let sum: f32 = bell.iter().map(|(_, weight)| weight).sum();
    let nearest = |position: isize, size: usize| position.clamp(0, size as isize - 1) as usize;
    let down: Vec<_> = bell
        .iter()
        .map(|&(by, weight)| (by, 0, weight / sum))
        .collect();
    let right: Vec<_> = bell
        .iter()
        .map(|&(by, weight)| (0, by, weight / sum))
        .collect();
    filter(image, shape, &down, nearest);
    filter(image, shape, &right, nearest);
}

/// On the pixel grid the disc is a square of 3 x 3: its corners are sqrt(2) away. The benchmark then smooths the
/// disc by a bell of deviation 0.1 pixels, which changes no weight by more than 1e-21. Beyond the edge the
/// picture is mirrored about its outermost pixel.
fn defocus_blur(image: &mut [f32], shape: ImageShape) {
    let taps: Vec<_> = (-1..=1)
        .flat_map(|down| (-1..=1).map(move |right| (down, right, 1.0 / 9.0)))
        .collect();
    filter(image, shape, &taps, |position, size| {
        let last = size as isize - 1;
        let mirrored = last - (last - position.abs()).abs();
        mirrored.max(0) as usize
    });
}

fn pixelate(image: &mut [f32], shape: ImageShape) {
    let small = |size: usize| ((size as f32 * 0.65) as usize).max(1);
    let (small_height, small_width) = (small(shape.height), small(shape.width));
    for plane in image.chunks_exact_mut(shape.pixels()) {
        let mut boxes = vec![0.0; small_height * small_width];
        for row in 0..small_height {
            let rows = box_of(row, small_height, shape.height);
            for column in 0..small_width {
                let columns = box_of(column, small_width, shape.width);
                let covered = rows.clone().flat_map(|row| {
                    columns
                        .clone()
                        .map(move |column| row * shape.width + column)
                });
                let sum: f32 = covered.map(|pixel| plane[pixel]).sum();
                boxes[row * small_width + column] = sum / (rows.len() * columns.len()) as f32;
            }
        }
        for (pixel, value) in plane.iter_mut().enumerate() {
            // The box in which the pixel's centre lies.
            let row = (2 * (pixel / shape.width) + 1) * small_height / (2 * shape.height);
            let column = (2 * (pixel % shape.width) + 1) * small_width / (2 * shape.width);
            *value = boxes[row * small_width + column];
        }
    }
}

/// The pixels, of `size`, whose centres lie in box `index` of `count` equal ones; a centre on the border between
/// two belongs to the left one.
fn box_of(index: usize, count: usize, size: usize) -> std::ops::Range<usize> {
    // Pixel p is in box i if i/count < (2p + 1) / (2 size) <= (i + 1)/count.
    let first_after = |boundary: usize| (2 * size * boundary + count) / (2 * count);
    first_after(index)..first_after(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };

    fn corrupted(corruption: Corruption, image: &[f32]) -> Vec<f32> {
        let mut image = image.to_vec();
        corruption.apply(&mut image, SHAPE, 1, 2);
        image
    }

    /// Mean and standard deviation.
    fn moments(values: impl Iterator<Item = f32> + Clone) -> (f32, f32) {
        let count = values.clone().count() as f32;
        let mean = values.clone().sum::<f32>() / count;
        let variance = values.map(|value| (value - mean).powi(2)).sum::<f32>() / count;
        (mean, variance.sqrt())
    }

    #[test]
    fn all_stay_in_range_change_something_and_repeat() {
        let mut draws = Draws::new(Purpose::Order, 1, 1, 1);
        let image: Vec<f32> = (0..SHAPE.bytes()).map(|_| draws.unit()).collect();
        for corruption in Corruption::ALL {
            let result = corrupted(corruption, &image);
            assert!(result.iter().all(|value| (0.0..=1.0).contains(value)));
            assert_ne!(result, image, "{corruption:?}");
            assert_eq!(result, corrupted(corruption, &image), "{corruption:?}");
        }
    }

    #[test]
    fn noises_have_their_deviations() {
        let image = vec![0.5; SHAPE.bytes()];
        for (corruption, deviation) in [
            (Corruption::GaussianNoise, 0.1),
            (Corruption::ShotNoise, (0.5f32 / 50.0).sqrt()),
            (Corruption::SpeckleNoise, 0.1),
            // 7 % of the values are 0.5 away.
            (Corruption::ImpulseNoise, (0.07f32 * 0.25).sqrt()),
        ] {
            let result = corrupted(corruption, &image);
            let (mean, measured) = moments(result.iter().copied());
            assert!((mean - 0.5).abs() < 0.01, "{corruption:?}: mean {mean}");
            let error = (measured / deviation - 1.0).abs();
            assert!(error < 0.1, "{corruption:?}: {measured} for {deviation}");
        }
    }

    #[test]
    fn blurs_spread_a_point_and_keep_its_sum() {
        let mut image = vec![0.0; SHAPE.bytes()];
        image[10 * 32 + 12] = 1.0;
        let blurred = corrupted(Corruption::GaussianBlur, &image);
        // The middle of a bell of deviation 1 in two dimensions: 1 / (2 pi), nearly.
        assert!((blurred[10 * 32 + 12] - 0.1592).abs() < 1e-3);
        assert!((blurred[11 * 32 + 13] / blurred[10 * 32 + 12] - (-1.0f32).exp()).abs() < 1e-4);
        let defocused = corrupted(Corruption::DefocusBlur, &image);
        assert!((defocused[9 * 32 + 11] - 1.0 / 9.0).abs() < 1e-6);
        assert_eq!(defocused[8 * 32 + 12], 0.0);
        for result in [blurred, defocused] {
            assert!((result.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
    }

    #[test]
    fn defocus_mirrors_at_the_edge() {
        let mut image = vec![0.0; SHAPE.bytes()];
        image[33] = 0.9;
        // Row -1 is row 1 and column -1 is column 1, so the corner sees the point four times.
        let result = corrupted(Corruption::DefocusBlur, &image);
        assert!((result[0] - 0.4).abs() < 1e-6, "{}", result[0]);
    }

    #[test]
    fn contrast_and_colours_follow_their_formulas() {
        let pixel_of = |corruption, colour: [f32; 3]| {
            let image: Vec<f32> = colour.iter().flat_map(|&value| [value; 1024]).collect();
            let result = corrupted(corruption, &image);
            [result[0], result[1024], result[2048]]
        };
        let close = |actual: [f32; 3], expected: [f32; 3]| {
            let error = actual.iter().zip(expected).map(|(a, e)| (a - e).abs());
            assert!(error.fold(0.0, f32::max) < 1e-5, "{actual:?}, {expected:?}");
        };
        // Value 0.4 becomes 0.7 at the same hue and saturation.
        close(
            pixel_of(Corruption::Brightness, [0.4, 0.2, 0.1]),
            [0.7, 0.35, 0.175],
        );
        close(pixel_of(Corruption::Brightness, [0.0; 3]), [0.3; 3]);
        // Saturation 0.2 becomes 0.7: the least channel is 30 % of the greatest, the other half way.
        close(
            pixel_of(Corruption::Saturate, [0.9, 1.0, 0.8]),
            [0.65, 1.0, 0.3],
        );
        close(pixel_of(Corruption::Saturate, [0.5; 3]), [0.5, 0.4, 0.4]);

        let mut image = vec![0.0; SHAPE.bytes()];
        image[..512].fill(1.0);
        let result = corrupted(Corruption::Contrast, &image);
        assert!((result[0] - 0.575).abs() < 1e-5 && (result[600] - 0.425).abs() < 1e-5);
    }

    #[test]
    fn pixelate_leaves_20_by_20_even_boxes() {
        let image: Vec<f32> = (0..SHAPE.bytes())
            .map(|index| (index % 32) as f32 / 32.0)
            .collect();
        let result = corrupted(Corruption::Pixelate, &image);
        let mut columns: Vec<f32> = result[..32].to_vec();
        columns.dedup();
        assert_eq!(columns.len(), 20);
        // Boxes are 1.6 pixels wide: pixel 0 is 0.5 into the first, pixel 1 at 1.5, pixel 2 in the second.
        assert_eq!(result[0], 0.5 / 32.0);
        assert_eq!(result[1], 0.5 / 32.0);
        assert_eq!(result[2], 2.0 / 32.0);
    }
}
