//! What is refused, and the bytes that shapes name.

use smidgen_filter::{FilterError, FilterShape, PatchSums, patch_sums, weight_gradient_workspace};
use smidgen_gpu::Region;
use smidgen_gpu::testing::device;

fn shape() -> FilterShape {
    FilterShape::new(2, [8, 7, 7], 8, [3, 3], 2).with_padding(1)
}

#[test]
fn bad_patches_and_sizes_are_refused_by_name() {
    for patch in [0, 9, u32::MAX] {
        let wrong = FilterShape { patch, ..shape() };
        assert_eq!(wrong.validate(), Err(FilterError::Patch { patch }));
    }
    assert_eq!(
        FilterShape {
            patch: 9,
            ..shape()
        }
        .validate()
        .unwrap_err()
        .to_string(),
        "a patch of 9; it must be from 1 to 8"
    );
    let wrong = FilterShape {
        output_channels: 4,
        ..shape().depthwise()
    };
    assert_eq!(
        wrong.validate(),
        Err(FilterError::Depthwise {
            input: 8,
            output: 4
        })
    );
    let wrong = FilterShape {
        batch: 0,
        ..shape()
    };
    assert_eq!(wrong.validate(), Err(FilterError::Zero { name: "batch" }));
    assert_eq!(
        shape().with_dilation(9).validate(),
        Err(FilterError::KernelTooLarge)
    );
    let wrong = FilterShape {
        batch: u32::MAX,
        ..shape()
    };
    assert!(matches!(
        wrong.validate(),
        Err(FilterError::TooLarge { .. })
    ));
    assert!(weight_gradient_workspace(&wrong, device(false).facts()).is_err());
}

#[test]
fn a_region_that_is_too_small_is_refused() {
    let regions = PatchSums {
        input: Region::whole(0, shape().input_bytes()).into(),
        patch_sums: Region::whole(1, shape().patch_sums_bytes() - 4),
        slope_counts: None,
    };
    assert!(matches!(
        patch_sums(&shape(), device(false).facts(), &regions),
        Err(FilterError::RegionTooSmall {
            region: "patch sums",
            ..
        })
    ));
}

/// The inputs of the last four convolutions of ResNet-18 at 224, one image: 490 KiB, and their patch sums 112 KiB.
#[test]
fn the_bytes_of_the_published_example() {
    let layers = [
        FilterShape::new(1, [256, 14, 14], 512, [3, 3], 2).with_stride(2),
        FilterShape::new(1, [512, 7, 7], 512, [3, 3], 2),
        FilterShape::new(1, [512, 7, 7], 512, [3, 3], 2),
        FilterShape::new(1, [512, 7, 7], 512, [3, 3], 2),
    ]
    .map(|shape| shape.with_padding(1));
    let sum = |bytes: fn(&FilterShape) -> u64| layers.iter().map(bytes).sum::<u64>();
    assert_eq!(sum(FilterShape::input_bytes), 490 << 10);
    assert_eq!(sum(FilterShape::patch_sums_bytes), 112 << 10);
}

#[test]
fn the_products_shrink_by_taps_and_patch() {
    let shape = FilterShape::new(1, [64, 56, 56], 64, [3, 3], 4).with_padding(1);
    assert_eq!(shape.exact_multiply_adds(), 144 * shape.multiply_adds());
    assert_eq!(9 * shape.tap_sums_bytes(), shape.weight_bytes());
}
