//! Some classes of a data set.

use smidgen::data::{DataError, Dataset, ImageShape};
use std::sync::Arc;

/// The pictures of some classes, at most so many.
pub(crate) struct Classes {
    all: Arc<dyn Dataset>,
    pictures: Vec<usize>,
}

impl Classes {
    pub(crate) fn of(all: &Arc<dyn Dataset>, classes: &[u32], most: usize) -> Arc<dyn Dataset> {
        let wanted = (0..all.len()).filter(|&index| classes.contains(&all.label(index)));
        let pictures = wanted.take(most).collect();
        let all = Arc::clone(all);
        Arc::new(Self { all, pictures })
    }
}

impl Dataset for Classes {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn classes(&self) -> usize {
        self.all.classes()
    }

    fn image_shape(&self) -> ImageShape {
        self.all.image_shape()
    }

    fn label(&self, index: usize) -> u32 {
        self.all.label(self.pictures[index])
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        self.all.decode(self.pictures[index], image)
    }
}
