//! Shapes that cannot be computed are refused with a reason.

use smidgen_conv::{ConvolutionShape, ShapeError};

fn shape() -> ConvolutionShape {
    ConvolutionShape::new(2, [8, 9, 9], 12, [3, 3])
}

#[test]
fn sizes_of_an_ordinary_convolution() {
    let shape = shape().with_stride(2).with_padding(1);
    assert_eq!(shape.validate(), Ok(()));
    assert_eq!((shape.output_height(), shape.output_width()), (5, 5));
    assert_eq!(shape.input_bytes(), 2 * 4 * 4 * 2 * 81);
    assert_eq!(shape.output_bytes(), 3 * 4 * 4 * 2 * 25);
    assert_eq!(shape.weight_bytes(), 3 * 9 * 2 * 64);
    assert_eq!(shape.bias_bytes(), 48);
    assert_eq!(shape.multiply_adds(), 2 * 25 * 12 * 8 * 9);
}

#[test]
fn a_size_of_zero_is_refused_by_name() {
    let zero = ConvolutionShape {
        batch: 0,
        ..shape()
    };
    assert_eq!(zero.validate(), Err(ShapeError::Zero { name: "batch" }));
    assert_eq!(
        shape().with_stride(0).validate(),
        Err(ShapeError::Zero { name: "stride" })
    );
    assert_eq!(
        shape().with_groups(0).validate(),
        Err(ShapeError::Zero { name: "groups" })
    );
}

#[test]
fn channels_must_divide_into_the_groups() {
    let error = shape().with_groups(3).validate().unwrap_err();
    assert_eq!(
        error,
        ShapeError::Groups {
            which: "input",
            channels: 8,
            groups: 3
        }
    );
    assert!(error.to_string().contains("3 groups"));
    assert!(matches!(
        shape().with_groups(8).validate(),
        Err(ShapeError::Groups {
            which: "output",
            ..
        })
    ));
}

#[test]
fn a_kernel_must_fit_the_padded_input() {
    let shape = shape().with_dilation(5);
    let expected = ShapeError::KernelTooLarge {
        axis: "y",
        span: 11,
        available: 9,
    };
    assert_eq!(shape.validate(), Err(expected));
    assert_eq!(shape.output_height(), 0);
    assert_eq!(shape.with_padding(1).validate(), Ok(()));
}

#[test]
fn more_than_a_kernel_can_index_is_refused() {
    let huge = ConvolutionShape::new(1 << 20, [64, 1 << 10, 1 << 10], 64, [1, 1]);
    assert!(matches!(
        huge.validate(),
        Err(ShapeError::TooLarge { what: "input", .. })
    ));
}
