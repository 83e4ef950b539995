//! Shapes that cannot be computed, and regions that are too small, are refused with a reason.

use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, ShapeError, WeightGradient, forward,
    input_gradient, weight_gradient, workspace,
};
use smidgen_gpu::{DeviceFacts, DeviceKind, Region};

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

fn facts() -> DeviceFacts {
    DeviceFacts {
        name: String::new(),
        driver: String::new(),
        backend: String::new(),
        kind: DeviceKind::Discrete,
        max_buffer_bytes: 1 << 28,
        max_binding_bytes: 1 << 27,
        storage_alignment: 256,
        uniform_alignment: 256,
        workgroup_memory_bytes: 16 << 10,
        max_invocations: 256,
        subgroup_sizes: None,
        timestamps: false,
        half_precision: false,
        host_memory: false,
    }
}

/// The regions of all passes, exactly as large as needed.
fn regions(shape: &ConvolutionShape) -> (Forward, InputGradient, WeightGradient) {
    let input = Region::whole(0, shape.input_bytes());
    let weight = Region::whole(1, shape.weight_bytes());
    let output = Region::whole(2, shape.output_bytes());
    let bias = Some(Region::whole(3, shape.bias_bytes()));
    let forward = Forward {
        input: input.into(),
        weight,
        bias,
        output,
        workspace: None,
    };
    let by_input = InputGradient {
        output_gradient: output,
        weight,
        input_gradient: input,
        accumulate: false,
        derivative: None,
        workspace: None,
    };
    let by_weight = WeightGradient {
        input: input.into(),
        output_gradient: output,
        weight_gradient: weight,
        bias_gradient: bias,
        workspace: None,
    };
    (forward, by_input, by_weight)
}

#[test]
fn every_pass_refuses_a_shape_that_is_not_valid() {
    let (by_output, by_input, by_weight) = regions(&shape());
    let (wrong, facts) = (shape().with_stride(0), facts());
    let expected = ShapeError::Zero { name: "stride" };
    assert_eq!(
        forward(&wrong, &facts, None, &by_output),
        Err(expected.clone())
    );
    assert_eq!(
        input_gradient(&wrong, &facts, None, &by_input),
        Err(expected.clone())
    );
    assert_eq!(
        weight_gradient(&wrong, &facts, None, &by_weight),
        Err(expected.clone())
    );
    assert_eq!(
        workspace(Pass::WeightGradient, &wrong, &facts, None),
        Err(expected)
    );
}

#[test]
fn every_region_must_be_as_large_as_the_shape_needs() {
    let (shape, facts) = (shape(), facts());
    let (by_output, by_input, by_weight) = regions(&shape);
    assert!(
        !forward(&shape, &facts, None, &by_output)
            .unwrap()
            .is_empty()
    );
    assert!(
        !input_gradient(&shape, &facts, None, &by_input)
            .unwrap()
            .is_empty()
    );
    assert!(
        !weight_gradient(&shape, &facts, None, &by_weight)
            .unwrap()
            .is_empty()
    );

    let short = |region: &mut Region| region.size -= 16;
    let forward_without = |change: fn(&mut Forward) -> &mut Region| {
        let mut regions = by_output;
        short(change(&mut regions));
        forward(&shape, &facts, None, &regions)
    };
    let input_gradient_without = |change: fn(&mut InputGradient) -> &mut Region| {
        let mut regions = by_input;
        short(change(&mut regions));
        input_gradient(&shape, &facts, None, &regions)
    };
    let weight_gradient_without = |change: fn(&mut WeightGradient) -> &mut Region| {
        let mut regions = by_weight;
        short(change(&mut regions));
        weight_gradient(&shape, &facts, None, &regions)
    };
    for (name, needed, refused) in [
        (
            "input",
            shape.input_bytes(),
            forward_without(|regions| &mut regions.input.region),
        ),
        (
            "weight",
            shape.weight_bytes(),
            forward_without(|regions| &mut regions.weight),
        ),
        (
            "bias",
            shape.bias_bytes(),
            forward_without(|regions| regions.bias.as_mut().unwrap()),
        ),
        (
            "output",
            shape.output_bytes(),
            forward_without(|regions| &mut regions.output),
        ),
        (
            "output gradient",
            shape.output_bytes(),
            input_gradient_without(|regions| &mut regions.output_gradient),
        ),
        (
            "weight",
            shape.weight_bytes(),
            input_gradient_without(|regions| &mut regions.weight),
        ),
        (
            "input gradient",
            shape.input_bytes(),
            input_gradient_without(|regions| &mut regions.input_gradient),
        ),
        (
            "input",
            shape.input_bytes(),
            weight_gradient_without(|regions| &mut regions.input.region),
        ),
        (
            "output gradient",
            shape.output_bytes(),
            weight_gradient_without(|regions| &mut regions.output_gradient),
        ),
        (
            "weight gradient",
            shape.weight_bytes(),
            weight_gradient_without(|regions| &mut regions.weight_gradient),
        ),
        (
            "bias gradient",
            shape.bias_bytes(),
            weight_gradient_without(|regions| regions.bias_gradient.as_mut().unwrap()),
        ),
    ] {
        let expected = ShapeError::RegionTooSmall {
            region: name,
            given: needed - 16,
            needed,
        };
        assert_eq!(refused, Err(expected), "{name}");
    }
}

#[test]
fn a_workspace_of_any_size_is_used_as_far_as_it_reaches() {
    let (shape, facts) = (ConvolutionShape::new(32, [8, 32, 32], 8, [3, 3]), facts());
    let wanted = workspace(Pass::WeightGradient, &shape, &facts, None).unwrap();
    assert!(wanted > 2 * shape.weight_bytes());
    for size in [0, 4, shape.weight_bytes(), wanted / 2, wanted, 2 * wanted] {
        let workspace = Region::whole(4, size);
        let regions = WeightGradient {
            workspace: Some(workspace),
            ..regions(&shape).2
        };
        for launch in weight_gradient(&shape, &facts, None, &regions).unwrap() {
            for region in launch.regions.iter().filter(|region| region.buffer == 4) {
                assert!(region.size <= size, "{size}: {launch:?}");
            }
        }
    }
}

#[test]
fn any_shape_may_be_asked_for_its_sizes() {
    let values = [0, 1, 3, 7, 1 << 16, u32::MAX];
    let mut seen = 0;
    for at in 0..2000_u32 {
        // A different mixture of extremes every time, the same in every run.
        let mut state = at.wrapping_mul(2_654_435_761);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            values[(state >> 24) as usize % values.len()]
        };
        let shape = ConvolutionShape {
            batch: next(),
            input_channels: next(),
            input_height: next(),
            input_width: next(),
            output_channels: next().min(1 << 16),
            kernel: [next(), next()],
            stride: [next(), next()],
            padding: [next(), next()],
            dilation: [next(), next()],
            groups: [0, 1, 2, 3, 1 << 16][next() as usize % 5],
        };
        let huge = ConvolutionShape {
            batch: u32::MAX,
            kernel: [u32::MAX; 2],
            ..shape
        };
        for shape in [shape, huge] {
            let valid = shape.validate().is_ok();
            let bytes = [
                shape.input_bytes(),
                shape.output_bytes(),
                shape.weight_bytes(),
                shape.bias_bytes(),
            ];
            assert!(!valid || bytes.iter().all(|bytes| *bytes > 0));
            let _ = (shape.multiply_adds(), shape.first_input_quad(5));
            seen += u32::from(valid);
        }
    }
    assert!(seen > 0, "{seen} valid shapes");
}
