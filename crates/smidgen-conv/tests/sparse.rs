//! Sparse convolution against dense convolution under the same mask, in double precision.

use smidgen_conv::ConvolutionShape;
use smidgen_conv::sparse::{
    EMPTY, SparseForward, SparseInputGradient, SparseShape, SparseWeightGradient, Transpose,
    sparse_forward, sparse_input_gradient, sparse_weight_gradient,
    sparse_weight_gradient_workspace, transpose,
};
use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_gpu::{Activation, DeviceFacts, DeviceKind, Source};
use smidgen_reference::convolution::{self as twin, Case};
use smidgen_reference::layout::{from_quads, pad_channels, to_quads, widen};
use smidgen_reference::numbers::normal;

const TOLERANCE: f64 = 1e-5;

fn shape_of(case: &Case) -> ConvolutionShape {
    let pair = |values: [usize; 2]| values.map(|value| value as u32);
    ConvolutionShape {
        batch: case.batch as u32,
        input_channels: case.input[0] as u32,
        input_height: case.input[1] as u32,
        input_width: case.input[2] as u32,
        output_channels: case.output_channels as u32,
        kernel: pair(case.kernel),
        stride: pair(case.stride),
        padding: pair(case.padding),
        dilation: pair(case.dilation),
        groups: case.groups as u32,
    }
}

fn sharing() -> DeviceFacts {
    DeviceFacts {
        kind: DeviceKind::Software,
        ..device(false).facts().clone()
    }
}

fn alone() -> DeviceFacts {
    DeviceFacts {
        kind: DeviceKind::Discrete,
        subgroup_sizes: None,
        ..device(false).facts().clone()
    }
}

/// What becomes of the slots: how many there are, and which of them hold a block.
#[derive(Debug, Clone, Copy)]
enum Slots {
    /// A share of the blocks, all slots in use.
    Density(f64),
    /// Half the blocks; every third output group has none in use.
    EmptyGroups,
    /// Half the blocks; a single slot of the whole layer is in use, the last of the last group.
    OneBlock,
    /// Half the blocks; none in use.
    None,
    /// Half the blocks; every second slot is in use, and columns do not ascend.
    Holes,
}

impl Slots {
    fn density(self) -> f64 {
        match self {
            Self::Density(density) => density,
            _ => 0.5,
        }
    }

    fn keeps(self, shape: &SparseShape, slot: u32) -> bool {
        match self {
            Self::Density(_) => true,
            Self::EmptyGroups => !(slot / shape.live).is_multiple_of(3),
            Self::OneBlock => slot + 1 == shape.blocks(),
            Self::None => false,
            Self::Holes => slot.is_multiple_of(2),
        }
    }
}

/// Scale, shift and two vectors that no convolution reads, a quad at a time.
fn normalisation([scale, shift]: &[Vec<f32>; 2]) -> Vec<f32> {
    let (scale, shift) = (pad_channels(scale), pad_channels(shift));
    (scale.chunks(4).zip(shift.chunks(4)))
        .flat_map(|(scale, shift)| [scale, shift, &[f32::NAN; 4], &[f32::NAN; 4]].concat())
        .collect()
}

/// Plain, or with bias, accumulating, and reading the input through a normalisation and ReLU, whose derivative ends the input gradient.
fn check(
    case: &Case,
    block_quads: u32,
    slots: Slots,
    facts: &DeviceFacts,
    plain: bool,
    checked: bool,
) {
    let name = format!("{}, blocks of {block_quads} quads, {slots:?}", case.name);
    let density = slots.density();
    let convolution = shape_of(case);
    let full = SparseShape::with_blocks(convolution, block_quads, 1.0).unwrap();
    let least = 1.0 / f64::from(full.candidates());
    let shape = SparseShape::with_blocks(convolution, block_quads, density.max(least)).unwrap();
    let scores = normal(6, (shape.output_groups() * shape.candidates()) as usize);
    let mut scores = scores.into_iter().cycle();
    let mut columns = shape.choose(|_, _| f64::from(scores.next().unwrap()));
    for (slot, column) in (0..).zip(&mut columns) {
        if !slots.keeps(&shape, slot) {
            *column = EMPTY;
        }
    }
    if matches!(slots, Slots::Holes) {
        columns
            .chunks_mut(shape.live as usize)
            .for_each(<[u32]>::reverse);
    }
    let weight = normal(2, case.weight_len());
    let mask = shape.mask(&columns).unwrap();
    let masked: Vec<f32> = weight
        .iter()
        .zip(&mask)
        .map(|(weight, on)| if *on { *weight } else { 0.0 })
        .collect();
    let packed = shape.pack(&columns, &weight).unwrap();
    assert_eq!(shape.unpack(&columns, &packed).unwrap(), masked, "{name}");

    let [input, bias, output_gradient, before] = [
        normal(1, case.input_len()),
        normal(3, case.output_channels),
        normal(4, case.output_len()),
        normal(5, case.input_len()),
    ];
    let [input_pixels, output_pixels] = [
        case.input[1] * case.input[2],
        case.output_size().iter().product(),
    ];
    let input_quads = |values: &[f32]| to_quads(values, case.batch, case.input[0], input_pixels);
    let mut memory = Guarded::new();
    let at_input = memory.input(&input_quads(&input));
    let at_columns = memory.input(&columns);
    let at_values = memory.input(&packed);
    let at_bias = memory.input(&pad_channels(&bias));
    let at_output_gradient = memory.input(&to_quads(
        &output_gradient,
        case.batch,
        case.output_channels,
        output_pixels,
    ));
    let by_input = if plain {
        memory.output(convolution.input_bytes() as usize / 4)
    } else {
        memory.input(&input_quads(&before))
    };
    let output = memory.output(convolution.output_bytes() as usize / 4);
    let starts = memory.output(shape.start_bytes() as usize / 4);
    let entries = memory.output(shape.entry_bytes() as usize / 4);
    let walk = memory.output(shape.walk_bytes() as usize / 4);
    let by_value = memory.output(shape.value_bytes() as usize / 4);
    let by_value_alone = memory.output(shape.value_bytes() as usize / 4);
    let by_chosen = memory.output(shape.value_bytes() as usize / 4);
    let chosen: Vec<u32> = (columns.iter().enumerate())
        .map(|(slot, column)| if slot % 3 == 1 { EMPTY } else { *column })
        .collect();
    let at_chosen = memory.input(&chosen);
    let room = sparse_weight_gradient_workspace(&shape, facts).unwrap();
    let workspace = (room > 0).then(|| memory.output(room as usize / 4));

    let vectors = [normal(7, case.input[0]), normal(8, case.input[0])];
    let source = Source {
        region: at_input,
        normalisation: (!plain).then(|| memory.input(&normalisation(&vectors))),
        activation: if plain {
            Activation::Identity
        } else {
            Activation::Relu
        },
    };
    let regions = SparseForward {
        input: source,
        columns: at_columns,
        values: at_values,
        walk,
        bias: (!plain).then_some(at_bias),
        output,
    };
    let lists = Transpose {
        columns: at_columns,
        starts,
        entries,
        walk,
    };
    let mut launches = transpose(&shape, &lists).unwrap();
    launches.extend(sparse_forward(&shape, facts, &regions).unwrap());
    let regions = SparseInputGradient {
        output_gradient: at_output_gradient,
        columns: at_columns,
        values: at_values,
        starts,
        entries,
        walk,
        input_gradient: by_input,
        accumulate: !plain,
        derivative: (!plain).then_some(source),
    };
    launches.extend(sparse_input_gradient(&shape, facts, &regions).unwrap());
    for (columns, value_gradient, workspace) in [
        (at_columns, by_value, workspace),
        (at_columns, by_value_alone, None),
        (at_chosen, by_chosen, workspace),
    ] {
        let regions = SparseWeightGradient {
            input: source,
            output_gradient: at_output_gradient,
            columns,
            walk,
            value_gradient,
            workspace,
        };
        launches.extend(sparse_weight_gradient(&shape, facts, &regions).unwrap());
    }
    let outcome = if checked {
        memory.run(&launches)
    } else {
        memory.run_unchecked(&launches)
    }
    .unwrap();

    for (region, list) in [starts, entries, walk]
        .into_iter()
        .zip(shape.lists(&columns))
    {
        assert_eq!(outcome.read::<u32>(region), list, "{name}");
    }
    let close = |what: &str, actual: &[f32], expected: &[f64]| {
        let error = relative_error(actual, expected);
        assert!(error <= TOLERANCE, "{name}: {what} is off by {error:e}");
    };
    let [mut x, w, b, dy] = [&input, &masked, &bias, &output_gradient].map(|values| widen(values));
    if !plain {
        for (at, value) in x.iter_mut().enumerate() {
            let channel = at / input_pixels % case.input[0];
            let [scale, shift] = vectors.each_ref().map(|all| f64::from(all[channel]));
            *value = (scale * *value + shift).max(0.0);
        }
    }
    let y = from_quads(
        &outcome.read(output),
        case.batch,
        case.output_channels,
        output_pixels,
    );
    close(
        "output",
        &y,
        &twin::forward(case, &x, &w, if plain { &[] } else { &b }),
    );
    let dx = from_quads(
        &outcome.read(by_input),
        case.batch,
        case.input[0],
        input_pixels,
    );
    let mut expected = twin::input_gradient(case, &dy, &w);
    if !plain {
        expected
            .iter_mut()
            .zip(&before)
            .for_each(|(sum, before)| *sum += f64::from(*before));
        (expected.iter_mut().zip(&x))
            .filter(|(_, rectified)| **rectified <= 0.0)
            .for_each(|(sum, _)| *sum = 0.0);
    }
    close("input gradient", &dx, &expected);
    let mut expected = twin::weight_gradient(case, &x, &dy);
    expected
        .iter_mut()
        .zip(&mask)
        .filter(|(_, on)| !**on)
        .for_each(|(value, _)| *value = 0.0);
    for region in [by_value, by_value_alone] {
        let values: Vec<f32> = outcome.read(region);
        let gradient = shape.unpack(&columns, &values).unwrap();
        close("value gradient", &gradient, &expected);
        assert_eq!(
            shape.pack(&columns, &gradient).unwrap(),
            values,
            "{name}: an empty slot or an element that is no weight has a gradient"
        );
    }
    let mut expected: Vec<f32> = outcome.read(by_value);
    let values = expected.chunks_mut(shape.block_elements() as usize);
    (values.zip(&chosen))
        .filter(|(_, column)| **column == EMPTY)
        .for_each(|(values, _)| values.fill(0.0));
    assert_eq!(
        outcome.read::<f32>(by_chosen),
        expected,
        "{name}: the gradient of chosen blocks"
    );
}

fn sparse_cases() -> Vec<Case> {
    twin::cases()
        .into_iter()
        .filter(|case| !shape_of(case).is_depthwise())
        .collect()
}

/// The size of blocks for the case at this place: those that fit take turns.
fn quads_of(case: &Case, at: usize) -> u32 {
    let fits = |quads: &u32| {
        let output_quads = case.output_channels.div_ceil(4);
        *quads == 1 || case.groups == 1 && output_quads.is_multiple_of(*quads as usize)
    };
    let sizes: Vec<u32> = [1, 2, 4].into_iter().filter(fits).collect();
    sizes[at % sizes.len()]
}

#[test]
fn every_case_agrees_with_dense_convolution_under_its_mask() {
    // Densities take turns; the sizes of blocks where they fit.
    let densities = [0.1, 1.0, 0.3, 0.5, 0.05, 0.8];
    for (at, case) in sparse_cases().iter().enumerate() {
        let quads = quads_of(case, at);
        let checked = matches!(case.name, "3x3" | "1x1" | "groups of unequal quads");
        let slots = Slots::Density(densities[at % densities.len()]);
        check(case, quads, slots, &sharing(), at % 2 == 0, checked);
    }
}

#[test]
fn every_density_agrees() {
    let case = Case::new("3x3, stride 2, odd channels", 2, [18, 7, 9], 14, [3, 3])
        .stride(2, 2)
        .padding(1, 1);
    for tenth in 1..=10 {
        check(
            &case,
            1,
            Slots::Density(f64::from(tenth) / 10.0),
            &sharing(),
            true,
            false,
        );
    }
    for slots in [
        Slots::EmptyGroups,
        Slots::OneBlock,
        Slots::None,
        Slots::Holes,
    ] {
        check(&case, 1, slots, &sharing(), true, false);
        check(&case, 2, slots, &sharing(), false, false);
    }
}

#[test]
fn every_case_agrees_with_many_blocks() {
    // Of which strips pay for the weight gradient too, where a case allows them.
    let slots = [Slots::Density(1.0), Slots::Holes, Slots::Density(0.8)];
    for (at, case) in sparse_cases().iter().enumerate() {
        let (plain, checked) = (at % 2 == 1, at % 4 < 2);
        check(case, 1, slots[at % 3], &sharing(), plain, checked);
    }
}

#[test]
fn long_strips_of_several_spans_agree() {
    let case = Case::new("two spans", 2, [68, 23, 25], 72, [3, 3]).padding(1, 1);
    check(&case, 1, Slots::Density(0.1), &sharing(), true, false);
    // Blocks of several output quads are walked as pieces of one.
    let case = Case::new("coarse blocks", 1, [36, 11, 13], 80, [3, 3]).padding(1, 1);
    check(&case, 2, Slots::Density(0.4), &sharing(), true, false);
    check(&case, 4, Slots::Density(0.4), &sharing(), false, true);
    check(&case, 4, Slots::Holes, &sharing(), true, false);
    let case = Case::new("3x3, odd channels", 2, [18, 7, 9], 14, [3, 3]).padding(1, 1);
    for tenth in [1, 2, 4, 6, 9] {
        let slots = Slots::Density(f64::from(tenth) / 10.0);
        check(&case, 1, slots, &sharing(), tenth > 2, tenth == 9);
    }
    for slots in [
        Slots::EmptyGroups,
        Slots::OneBlock,
        Slots::None,
        Slots::Holes,
    ] {
        check(&case, 1, slots, &sharing(), false, true);
    }
}

#[test]
fn every_case_agrees_where_each_invocation_loads_its_weights() {
    let facts = alone();
    let slots = [Slots::Density(0.3), Slots::Holes, Slots::EmptyGroups];
    for (at, case) in sparse_cases().iter().enumerate() {
        let (plain, checked) = (at % 2 == 1, at % 3 == 0);
        check(
            case,
            quads_of(case, at),
            slots[at % 3],
            &facts,
            plain,
            checked,
        );
    }
}

#[test]
fn an_unstructured_mask_is_imported_and_what_is_lost_is_reported() {
    let convolution = ConvolutionShape::new(1, [8, 4, 4], 8, [3, 3]);
    let shape = SparseShape::with_density(convolution, 0.25).unwrap();
    let weight = normal(1, 8 * 8 * 9);
    let scattered: Vec<bool> = (0..weight.len()).map(|at| at % 7 == 0).collect();
    let imported = shape.import(&weight, &scattered).unwrap();
    let kept = scattered.iter().filter(|on| **on).count();
    assert_eq!(imported.kept, kept);
    let back = shape.unpack(&imported.columns, &imported.values).unwrap();
    let live = shape.mask(&imported.columns).unwrap();
    let lost = (0..weight.len())
        .filter(|at| scattered[*at] && !live[*at])
        .count();
    assert_eq!(imported.lost, lost);
    assert!(lost > 0 && imported.lost_energy > 0.0 && imported.lost_energy < 1.0);
    assert_eq!(
        imported.gained,
        (0..weight.len())
            .filter(|at| !scattered[*at] && live[*at])
            .count()
    );
    for at in 0..weight.len() {
        let expected = if scattered[at] && live[at] {
            weight[at]
        } else {
            0.0
        };
        assert_eq!(back[at], expected);
    }

    // A mask made of blocks loses nothing, and comes back as it was.
    let scores = normal(2, 2 * 18);
    let mut scores = scores.into_iter();
    let columns = shape.choose(|_, _| f64::from(scores.next().unwrap()));
    let mask = shape.mask(&columns).unwrap();
    let imported = shape.import(&weight, &mask).unwrap();
    assert_eq!(
        (imported.lost, imported.gained, imported.lost_energy),
        (0, 0, 0.0)
    );
    assert_eq!(imported.columns, columns);
}
