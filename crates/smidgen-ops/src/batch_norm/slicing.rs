use crate::MapShape;
use smidgen_gpu::{DeviceFacts, DeviceKind, params};

params! { pub(super) struct SliceParams { pixels: u32, slice_pixels: u32, slices: u32 } }
params! { pub(super) struct ReduceParams { pixels: u32, slice_pixels: u32, slices: u32, first_slice: u32 } }

/// Invocations of a workgroup that reduces. A software device takes every barrier lane by lane, so fewer are better there.
pub(super) fn lanes(facts: &DeviceFacts) -> (&'static str, String) {
    let lanes = if facts.kind == DeviceKind::Software {
        64
    } else {
        256
    };
    ("LANES", lanes.to_string())
}

/// How the pixels of a quad are divided among workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slicing {
    pub(super) slices: u32,
    pub(super) slice_pixels: u32,
}

impl Slicing {
    pub(super) fn of(shape: &MapShape, facts: &DeviceFacts) -> Self {
        let pixels = shape.pixels().max(1);
        let busy_groups = if facts.kind == DeviceKind::Software {
            16
        } else {
            512
        };
        let wanted = busy_groups / shape.quads().max(1);
        let slices = wanted
            .max(pixels.div_ceil(16_384))
            .clamp(1, pixels.div_ceil(1024).min(256));
        let slice_pixels = pixels.div_ceil(slices).next_multiple_of(256);
        Self {
            slices: pixels.div_ceil(slice_pixels),
            slice_pixels,
        }
    }

    pub(super) fn params(self, shape: &MapShape) -> SliceParams {
        SliceParams {
            pixels: shape.pixels(),
            slice_pixels: self.slice_pixels,
            slices: self.slices,
        }
    }

    /// Quads of the two sums of every slice.
    pub(super) fn elements(self, shape: &MapShape) -> u64 {
        2 * u64::from(shape.quads()) * u64::from(self.slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::{assert_params_match, device};

    #[test]
    fn parameters_match_their_shaders() {
        assert_params_match::<SliceParams>("ops/batch_norm_statistics.wgsl");
        assert_params_match::<ReduceParams>("ops/batch_norm_backward_reduce.wgsl");
    }

    #[test]
    fn slices_cover_all_pixels_and_none_is_empty() {
        let mut facts = device(false).facts().clone();
        for kind in [DeviceKind::Software, DeviceKind::Discrete] {
            facts.kind = kind;
            for (batch, channels, side) in [
                (1, 1, 1),
                (1, 3, 300),
                (128, 16, 32),
                (7, 64, 17),
                (64, 32, 224),
            ] {
                let shape = MapShape::new(batch, channels, side, side);
                let Slicing {
                    slices,
                    slice_pixels,
                } = Slicing::of(&shape, &facts);
                assert!(slices <= 256 && slice_pixels % 256 == 0);
                assert!(slices * slice_pixels >= shape.pixels());
                assert!((slices - 1) * slice_pixels < shape.pixels());
            }
        }
    }
}
