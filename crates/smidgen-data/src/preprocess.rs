//! From bytes to the numbers a network sees.

use std::fmt;
use std::str::FromStr;

use crate::random::{Draws, Purpose};
use crate::{DataError, ImageShape};

/// How far [`Augment::crop`] shifts a picture at most, in pixels, each way.
pub const CROP_PADDING: usize = 4;

/// `(byte / 255 - mean) / deviation`, a mean and a deviation for each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// The mean of each channel, as a fraction of full brightness.
    pub mean: Vec<f32>,
    /// The standard deviation of each channel.
    pub deviation: Vec<f32>,
}

impl Normalization {
    /// For colour pictures: mean 0.485, 0.456, 0.406, deviation 0.229, 0.224, 0.225.
    ///
    /// The figures are ImageNet's; pretrained networks for CIFAR expect them too.
    pub fn colour() -> Self {
        Self {
            mean: vec![0.485, 0.456, 0.406],
            deviation: vec![0.229, 0.224, 0.225],
        }
    }

    /// For grey pictures: mean 0.1307, deviation 0.3081, those of MNIST.
    pub fn grey() -> Self {
        Self {
            mean: vec![0.1307],
            deviation: vec![0.3081],
        }
    }

    /// The normalised value of every byte, channel by channel.
    pub(crate) fn table(&self) -> Vec<[f32; 256]> {
        self.mean
            .iter()
            .zip(&self.deviation)
            .map(|(mean, deviation)| {
                std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / deviation)
            })
            .collect()
    }
}

/// Random changes to training pictures that keep their class.
///
/// They are drawn from the seed, the epoch and the picture's number in the set. Parsed from `crop,flip`, `crop`,
/// `flip` or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Shift by up to [`CROP_PADDING`] pixels each way; what comes into view is black.
    pub crop: bool,
    /// Mirror left and right, half of the time.
    pub flip: bool,
}

impl FromStr for Augment {
    type Err = DataError;

    fn from_str(spelling: &str) -> Result<Self, DataError> {
        let mut augment = Self::default();
        if spelling == "none" {
            return Ok(augment);
        }
        for word in spelling.split(',') {
            match word.trim() {
                "crop" => augment.crop = true,
                "flip" => augment.flip = true,
                _ => {
                    return Err(DataError::UnknownAugmentation {
                        spelling: spelling.to_owned(),
                    });
                }
            }
        }
        Ok(augment)
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match (self.crop, self.flip) {
            (true, true) => "crop,flip",
            (true, false) => "crop",
            (false, true) => "flip",
            (false, false) => "none",
        })
    }
}

/// What one picture goes through in one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The picture's row that becomes row 0, and its column that becomes column 0 before mirroring.
    pub(crate) shift: (isize, isize),
    pub(crate) mirrored: bool,
}

impl View {
    pub(crate) fn draw(augment: Augment, seed: u64, epoch: u64, picture: usize) -> Self {
        let mut draws = Draws::new(Purpose::Augmentation, seed, epoch, picture as u64);
        let mut view = Self::default();
        if augment.crop {
            let mut shift =
                || draws.below(2 * CROP_PADDING as u32 + 1) as isize - CROP_PADDING as isize;
            view.shift = (shift(), shift());
        }
        if augment.flip {
            view.mirrored = draws.coin();
        }
        view
    }

    /// Where the picture's `(row, column)` of the view comes from; `None` is outside and black.
    pub(crate) fn source(&self, shape: ImageShape, row: usize, column: usize) -> Option<usize> {
        let column = if self.mirrored {
            shape.width - 1 - column
        } else {
            column
        };
        let row = row.checked_add_signed(self.shift.0)?;
        let column = column.checked_add_signed(self.shift.1)?;
        (row < shape.height && column < shape.width).then_some(row * shape.width + column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn augmentations_are_parsed_and_printed() {
        for spelling in ["none", "crop", "flip", "crop,flip"] {
            let augment: Augment = spelling.parse().unwrap();
            assert_eq!(augment.to_string(), spelling);
        }
        for spelling in ["", "crops", "crop,", "crop flip", "none,flip"] {
            let error = spelling.parse::<Augment>().unwrap_err().to_string();
            assert!(error.contains("crop,flip or none"), "{error}");
        }
    }

    #[test]
    fn views_cover_all_shifts_and_both_sides() {
        let augment = Augment {
            crop: true,
            flip: true,
        };
        let views: Vec<View> = (0..5000)
            .map(|picture| View::draw(augment, 1, 0, picture))
            .collect();
        let mut distinct: Vec<_> = views
            .iter()
            .map(|view| (view.shift, view.mirrored))
            .collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 9 * 9 * 2);
        let limit = CROP_PADDING as isize;
        assert!(
            views
                .iter()
                .all(|view| view.shift.0.abs() <= limit && view.shift.1.abs() <= limit)
        );
        let mirrored = views.iter().filter(|view| view.mirrored).count();
        assert!((2350..2650).contains(&mirrored), "{mirrored}");
        assert_ne!(View::draw(augment, 1, 0, 5), View::draw(augment, 1, 1, 5));
        assert_eq!(View::draw(Augment::default(), 1, 0, 5), View::default());
    }

    #[test]
    fn normalization_matches_its_formula() {
        let table = Normalization::colour().table();
        assert_eq!(table[1][0], (0.0 - 0.456) / 0.224);
        assert_eq!(table[2][255], (1.0 - 0.406) / 0.225);
        assert_eq!(table[0][100], (100.0f32 / 255.0 - 0.485) / 0.229);
    }
}
