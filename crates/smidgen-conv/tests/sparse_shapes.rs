//! Sparse layers that cannot be are refused with a reason.

use smidgen_conv::sparse::{EMPTY, SparseError, SparseShape, column};
use smidgen_conv::{ConvolutionShape, ShapeError};

fn convolution() -> ConvolutionShape {
    ConvolutionShape::new(2, [64, 8, 8], 32, [3, 3]).with_padding(1)
}

#[test]
fn bytes_follow_the_live_blocks() {
    let dense = convolution();
    let shape = SparseShape::with_density(dense, 0.1).unwrap();
    // 16 * 9 blocks of an output quad, of which 14 are live.
    assert_eq!(
        (shape.candidates(), shape.live, shape.output_groups()),
        (144, 14, 8)
    );
    assert_eq!(shape.value_bytes(), 8 * 14 * 64);
    assert_eq!(shape.column_bytes(), 8 * 14 * 4);
    assert_eq!(shape.start_bytes(), 17 * 4);
    assert_eq!(shape.multiply_adds(), 2 * 64 * 8 * 14 * 16);
    assert_eq!(
        SparseShape::with_density(dense, 1.0).unwrap().value_bytes(),
        dense.weight_bytes()
    );
}

#[test]
fn a_density_outside_its_range_is_refused() {
    for given in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
        let error = SparseShape::with_density(convolution(), given).unwrap_err();
        assert!(
            matches!(error, SparseError::Density { .. }),
            "{given}: {error}"
        );
        assert!(error.to_string().contains("outside (0, 1]"));
    }
}

#[test]
fn a_layer_too_small_for_its_blocks_is_refused_with_the_least_density() {
    let small = ConvolutionShape::new(1, [16, 8, 8], 16, [1, 1]);
    let error = SparseShape::with_density(small, 0.1).unwrap_err();
    assert_eq!(
        error,
        SparseError::TooSmall {
            density: 0.1,
            candidates: 4,
            least: 0.25
        }
    );
    assert_eq!(SparseShape::with_density(small, 0.25).unwrap().live, 1);
    // One block of one of three: the density that the message names is enough, whatever rounding does to it.
    let three = ConvolutionShape::new(1, [12, 8, 8], 16, [1, 1]);
    assert_eq!(SparseShape::with_density(three, 1.0 / 3.0).unwrap().live, 1);
}

#[test]
fn blocks_that_do_not_divide_and_depthwise_layers_are_refused() {
    let odd = ConvolutionShape::new(1, [16, 8, 8], 20, [3, 3]);
    assert!(matches!(
        SparseShape::with_blocks(odd, 2, 0.5),
        Err(SparseError::Blocks { .. })
    ));
    assert!(SparseShape::with_blocks(odd, 1, 0.5).is_ok());
    assert!(matches!(
        SparseShape::with_blocks(convolution(), 3, 0.5),
        Err(SparseError::Blocks { .. })
    ));
    let grouped = convolution().with_groups(2);
    assert!(matches!(
        SparseShape::with_blocks(grouped, 2, 0.5),
        Err(SparseError::Blocks { .. })
    ));
    let depthwise = ConvolutionShape::new(1, [16, 8, 8], 16, [3, 3]).with_groups(16);
    assert_eq!(
        SparseShape::with_density(depthwise, 0.5),
        Err(SparseError::Depthwise)
    );
    let none = ConvolutionShape {
        batch: 0,
        ..convolution()
    };
    assert_eq!(
        SparseShape::with_density(none, 0.5),
        Err(SparseError::Shape(ShapeError::Zero { name: "batch" }))
    );
}

#[test]
fn masks_and_columns_of_another_layer_are_refused() {
    let shape = SparseShape::with_density(convolution(), 0.1).unwrap();
    let weights = vec![0.0; 32 * 64 * 9];
    let wrong = shape.import(&weights, &[true; 10]).unwrap_err();
    assert_eq!(
        wrong,
        SparseError::Length {
            what: "a mask",
            given: 10,
            expected: 18432
        }
    );
    assert!(shape.import(&[0.0; 3], &[true; 18432]).is_err());
    let mut columns = shape.choose(|_, _| 0.0);
    assert_eq!(shape.check_columns(&columns), Ok(()));
    columns[1] = columns[0];
    assert_eq!(
        shape.check_columns(&columns),
        Err(SparseError::Column {
            group: 0,
            column: columns[0]
        })
    );
    columns[1] = column(16, 0, 0);
    assert!(matches!(
        shape.check_columns(&columns),
        Err(SparseError::Column { .. })
    ));
    columns[1] = EMPTY;
    assert_eq!(shape.check_columns(&columns), Ok(()));
    assert!(shape.check_columns(&columns[1..]).is_err());
}
