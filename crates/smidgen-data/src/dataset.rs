//! What every data set offers.

use std::fmt;

use crate::DataError;

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// The pictures to learn from.
    Train,
    /// The pictures to be judged on.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Split::Train => "train",
            Split::Test => "test",
        })
    }
}

/// The size that all pictures of a data set share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageShape {
    /// Colour channels: 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// Pixels of one picture.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Bytes of one decoded picture: one byte a channel and pixel.
    pub fn bytes(&self) -> usize {
        self.channels * self.pixels()
    }

    /// Quads a pixel: groups of four channels, the last one padded with zeros.
    pub fn quads(&self) -> usize {
        self.channels.div_ceil(4)
    }
}

/// A labelled set of pictures of one size.
///
/// A set is checked when it is opened, so labels are always below [`classes`](Dataset::classes). Worker threads
/// share it.
pub trait Dataset: Send + Sync {
    /// How many pictures there are; never zero for the sets of this crate.
    fn len(&self) -> usize;

    /// Whether there are no pictures.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many classes the labels name.
    fn classes(&self) -> usize;

    /// The size of every picture.
    fn image_shape(&self) -> ImageShape;

    /// The class of picture `index`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Dataset::len).
    fn label(&self, index: usize) -> u32;

    /// Writes picture `index` to `image` as planes: all of channel 0 row by row, then channel 1 and so on.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Dataset::len), or `image` is not [`ImageShape::bytes`] long.
    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError>;
}
