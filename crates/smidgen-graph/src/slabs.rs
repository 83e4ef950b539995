//! Maps in slabs: ranges of the pictures of a batch, for devices that cannot bind a whole map at once.

use crate::operation::OperationKind;
use crate::program::{Layout, Program, ValueId};
use crate::shape::MapShape;

/// Where a slab begins: at a multiple of this, which every device can bind from.
const ALIGNMENT: u64 = 256;

/// How the pictures of a batch are divided into slabs: all of the same size, but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slabs {
    /// Images of the batch.
    pub batch: u32,
    /// Images of a slab.
    pub images: u32,
}

impl Slabs {
    /// How many there are.
    #[must_use]
    pub fn count(self) -> u32 {
        self.batch.div_ceil(self.images.max(1))
    }

    /// The images of each, in order.
    pub fn each(self) -> impl Iterator<Item = u32> {
        let first = move |slab: u32| slab * self.images;
        (0..self.count()).map(move |slab| self.images.min(self.batch - first(slab)))
    }

    /// Bytes from one slab to the next of what takes `of(images)` bytes.
    pub fn stride(self, of: impl Fn(u32) -> u64) -> u64 {
        of(self.images).next_multiple_of(ALIGNMENT)
    }

    /// Bytes of all slabs, one behind the other, of what takes `of(images)` bytes.
    pub fn bytes(self, of: impl Fn(u32) -> u64) -> u64 {
        if self.count() <= 1 {
            return of(self.batch);
        }
        let before = u64::from(self.count() - 1);
        let last = self.batch - (self.count() - 1) * self.images;
        before
            .saturating_mul(self.stride(&of))
            .saturating_add(of(last))
    }
}

impl Layout {
    /// The same for so many images; `None` of what holds nothing of single images.
    #[must_use]
    pub fn of_images(&self, images: u32) -> Option<Self> {
        let of = |shape: MapShape| MapShape {
            batch: images,
            ..shape
        };
        match *self {
            Self::Map(shape) => Some(Self::Map(of(shape))),
            Self::HalfMap(shape) => Some(Self::HalfMap(of(shape))),
            Self::Moments(shape) => Some(Self::Moments(of(shape))),
            Self::Taps { shape, bits } => Some(Self::Taps {
                shape: of(shape),
                bits,
            }),
            _ => None,
        }
    }
}

impl Program {
    /// How its maps stand in memory.
    #[must_use]
    pub fn slabs(&self) -> Slabs {
        Slabs {
            batch: self.batch,
            images: self.slab,
        }
    }

    /// Bytes of a value, all slabs together.
    #[must_use]
    pub fn bytes(&self, id: ValueId) -> u64 {
        let layout = self.value(id).layout;
        match layout.of_images(self.slab) {
            Some(_) if self.slab < self.batch => (self.slabs())
                .bytes(|images| layout.of_images(images).map_or(0, |slab| slab.bytes())),
            _ => layout.bytes(),
        }
    }

    /// The most bytes of a value that an operation binds at once: those of a slab; of moments, which are merged together, all.
    #[must_use]
    pub fn bound_bytes(&self, id: ValueId) -> u64 {
        match self.value(id).layout {
            Layout::Moments(_) => self.bytes(id),
            // Launches are made as if it were f32.
            Layout::HalfMap(shape) => Layout::Map(MapShape {
                batch: self.slab,
                ..shape
            })
            .bytes(),
            layout => {
                (layout.of_images(self.slab)).map_or_else(|| self.bytes(id), |slab| slab.bytes())
            }
        }
    }

    /// Whether every operation can be computed a slab at a time, or touches no map.
    #[must_use]
    pub fn divides_into_slabs(&self) -> bool {
        let dense = |id: &ValueId| matches!(self.value(*id).layout, Layout::Weight(_));
        let mut operations = self.operations.iter();
        operations.all(|operation| match &operation.kind {
            OperationKind::Convolution { weight, .. }
            | OperationKind::ConvolutionInputGradient { weight, .. }
            | OperationKind::ConvolutionWeightGradient {
                weight_gradient: weight,
                ..
            } => dense(weight),
            OperationKind::CrossEntropy { rehearsal, .. } => rehearsal.is_none(),
            OperationKind::FilterPatchSums { .. }
            | OperationKind::FilterPatchAverages { .. }
            | OperationKind::FilterWeightGradient { .. }
            | OperationKind::FilterBiasGradient { .. }
            | OperationKind::FilterTapSums { .. }
            | OperationKind::FilterPatchGradient { .. }
            | OperationKind::FilterInputGradient { .. }
            | OperationKind::KeepSlopes { .. }
            | OperationKind::SlopesBackward { .. }
            | OperationKind::InSlices { .. }
            | OperationKind::Rehearse { .. }
            | OperationKind::GrowthScores { .. }
            | OperationKind::Mutation { .. } => false,
            _ => true,
        })
    }
}

impl OperationKind {
    /// The same on so many images.
    #[must_use]
    pub fn of_images(&self, images: u32) -> Self {
        let mut kind = self.clone();
        if let Some(shape) = kind.shape_mut() {
            shape.batch = images;
        }
        kind
    }

    /// The shape of the maps it computes with; `None` where it computes with none.
    fn shape_mut(&mut self) -> Option<&mut MapShape> {
        match self {
            Self::Convolution { shape, .. }
            | Self::ConvolutionInputGradient { shape, .. }
            | Self::ConvolutionWeightGradient { shape, .. }
            | Self::ConvolutionBackward { shape, .. }
            | Self::FilterPatchSums { shape, .. }
            | Self::FilterPatchAverages { shape, .. }
            | Self::FilterWeightGradient { shape, .. }
            | Self::FilterBiasGradient { shape, .. }
            | Self::FilterTapSums { shape, .. }
            | Self::FilterInputGradient { shape, .. }
            | Self::FilterPatchGradient { shape, .. }
            | Self::KeepSlopes { shape, .. }
            | Self::SlopesBackward { shape, .. }
            | Self::BatchNormStatistics { shape, .. }
            | Self::BatchNormBackward { shape, .. }
            | Self::Apply { shape, .. }
            | Self::ActivationBackward { shape, .. }
            | Self::Add { shape, .. }
            | Self::Accumulate { shape, .. }
            | Self::Copy { shape, .. }
            | Self::Concat { shape, .. }
            | Self::ConcatBackward { shape, .. }
            | Self::Shortcut { shape, .. }
            | Self::ShortcutBackward { shape, .. }
            | Self::MaxPool { shape, .. }
            | Self::MaxPoolBackward { shape, .. }
            | Self::AveragePool { shape, .. }
            | Self::AveragePoolBackward { shape, .. }
            | Self::GlobalAveragePool { shape, .. }
            | Self::GlobalAveragePoolBackward { shape, .. }
            | Self::Dropout { shape, .. }
            | Self::DropoutBackward { shape, .. }
            | Self::Encode { shape, .. }
            | Self::Decode { shape, .. }
            | Self::CrossEntropy { shape, .. }
            | Self::ScaleLoss { shape, .. }
            | Self::Rehearse { shape, .. }
            | Self::GrowthScores { shape, .. } => Some(shape),
            Self::BatchNormPrepare { .. }
            | Self::InSlices { .. }
            | Self::ClipNorm { .. }
            | Self::Update { .. }
            | Self::Mutation { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_hold_every_image_once_and_begin_where_they_can_be_bound() {
        for (batch, images) in [(1, 1), (12, 12), (12, 5), (64, 10), (7, 1), (3, 8)] {
            let slabs = Slabs { batch, images };
            let each: Vec<u32> = slabs.each().collect();
            assert_eq!(each.len(), slabs.count() as usize);
            assert_eq!(each.iter().sum::<u32>(), batch);
            let (last, full) = each.split_last().unwrap();
            assert!(full.iter().all(|count| *count == images) && (1..=images).contains(last));
            let of = |images: u32| u64::from(images) * 48;
            assert_eq!(slabs.stride(of) % ALIGNMENT, 0);
            let end = full.len() as u64 * slabs.stride(of) + of(*last);
            assert_eq!(slabs.bytes(of), end);
        }
    }
}
