//! The built-in data set: pictures of ten kinds of shape, drawn from a seed.
//!
//! A picture holds one shape under random colour, size, place, rotation, proportions and line width, on a graded
//! and striped background with clutter, a line or two across everything, and noise. Colours say nothing about
//! the class and the shape may be lighter or darker than its background, so no weighted sum of pixels tells
//! the classes apart, but a small convolutional network does.

mod figure;
mod scene;

use std::sync::OnceLock;

use crate::random::{Draws, Purpose};
use crate::{DataError, Dataset, ImageShape, Split};
use scene::Scene;

pub use figure::ShapeKind;

/// How hard the set is. Lengths are in pixels, colours and amplitudes fractions of full brightness.
mod difficulty {
    /// From the centre of the shape to its rim.
    pub(super) const RADIUS: (f32, f32) = (9.0, 13.0);
    /// How far the shape may reach beyond the picture's edge.
    pub(super) const OVERHANG: f32 = 1.0;
    /// One side of the shape's proportions; the other is 1.
    pub(super) const SQUASH: (f32, f32) = (0.9, 1.0);
    /// How much wider or narrower lines of the shape may be than usual.
    pub(super) const LINE_WIDTH: (f32, f32) = (0.8, 1.2);
    /// The least distance, in RGB, between the shape's colour and every colour of its background.
    pub(super) const CONTRAST: f32 = 0.6;
    /// How far the background's colour goes each way from its mean across the picture.
    pub(super) const GRADIENT: f32 = 0.12;
    /// The amplitude of the background's stripes.
    pub(super) const STRIPES: f32 = 0.05;
    /// The most pieces of clutter behind the shape.
    pub(super) const CLUTTER: u32 = 2;
    /// The most thin lines in front of it.
    pub(super) const LINES: u32 = 1;
    /// The greatest deviation of the noise.
    pub(super) const NOISE: f32 = 0.05;
}

/// The side of a picture.
const SIZE: usize = 32;

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: SIZE,
    width: SIZE,
};

/// The built-in set of 32 x 32 colour pictures of ten kinds of shape.
///
/// A picture is a function of seed, split and number. It is drawn when first asked for, and then kept: drawing
/// costs far more than the 3 KiB it takes.
pub struct Shapes {
    seed: u64,
    split: Split,
    drawn: Vec<OnceLock<Box<[u8]>>>,
}

impl Shapes {
    /// The seed that `shapes` on a command line stands for.
    pub const DEFAULT_SEED: u64 = 1;
    /// How many pictures [`Split::Train`] has.
    pub const TRAIN_LEN: usize = 10_000;
    /// How many pictures [`Split::Test`] has.
    pub const TEST_LEN: usize = 2_000;

    /// A split of the usual length.
    pub fn new(seed: u64, split: Split) -> Self {
        let len = match split {
            Split::Train => Self::TRAIN_LEN,
            Split::Test => Self::TEST_LEN,
        };
        Self::with_len(seed, split, len)
    }

    /// The first `len` pictures of an endless split.
    pub fn with_len(seed: u64, split: Split, len: usize) -> Self {
        Self {
            seed,
            split,
            drawn: (0..len).map(|_| OnceLock::new()).collect(),
        }
    }

    /// What picture `index` shows. The kinds take turns, so any ten successive pictures show each once.
    pub fn kind(index: usize) -> ShapeKind {
        ShapeKind::ALL[index % ShapeKind::ALL.len()]
    }

    fn draw(&self, index: usize) -> Box<[u8]> {
        let purpose = match self.split {
            Split::Train => Purpose::ShapesTrain,
            Split::Test => Purpose::ShapesTest,
        };
        let mut draws = Draws::new(purpose, self.seed, index as u64, 0);
        Scene::draw(Self::kind(index), &mut draws).paint(&mut draws)
    }
}

impl Dataset for Shapes {
    fn len(&self) -> usize {
        self.drawn.len()
    }

    fn classes(&self) -> usize {
        ShapeKind::ALL.len()
    }

    fn image_shape(&self) -> ImageShape {
        SHAPE
    }

    fn label(&self, index: usize) -> u32 {
        assert!(index < self.len(), "picture {index} of {}", self.len());
        (index % ShapeKind::ALL.len()) as u32
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        image.copy_from_slice(self.drawn[index].get_or_init(|| self.draw(index)));
        Ok(())
    }
}
