//! Convolution at listed pixels against the whole one of which only these pixels count, in double precision.

use smidgen_conv::listed::{
    Base, ListPixels, ListReached, ListedError, ListedForward, ListedInputGradient, ListedShape,
    ListedWeightGradient, PixelList, list_pixels, list_reached, listed_forward,
    listed_input_gradient, listed_weight_gradient, listed_weight_gradient_workspace,
};
use smidgen_conv::{ConvolutionShape, ShapeError, pack_weight, unpack_weight};
use smidgen_gpu::testing::{Guarded, Outcome, device, error_beside};
use smidgen_gpu::{Activation, DeviceFacts, DeviceKind, Region, Source};
use smidgen_reference::convolution::{self, Case};
use smidgen_reference::layout::{from_quads, pad_channels, to_quads, widen};
use smidgen_reference::listed as twin;
use smidgen_reference::numbers::normal;

const TOLERANCE: f64 = 1e-5;

fn shape_of(case: &Case) -> ConvolutionShape {
    let pair = |values: [usize; 2]| values.map(|value| value as u32);
    ConvolutionShape {
        stride: pair(case.stride),
        padding: pair(case.padding),
        dilation: pair(case.dilation),
        groups: case.groups as u32,
        ..ConvolutionShape::new(
            case.batch as u32,
            case.input.map(|size| size as u32),
            case.output_channels as u32,
            pair(case.kernel),
        )
    }
}

fn software() -> DeviceFacts {
    DeviceFacts {
        kind: DeviceKind::Software,
        ..device(false).facts().clone()
    }
}

fn discrete() -> DeviceFacts {
    DeviceFacts {
        kind: DeviceKind::Discrete,
        subgroup_sizes: None,
        ..device(false).facts().clone()
    }
}

/// Which output pixels are wanted, and how many of them fit.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// A share of all, at random places.
    Share(f64),
    None,
    All,
    /// The last of the batch.
    One,
    /// Half of all, of which a third fits.
    TooMany,
}

impl Wanted {
    fn gate(self, pixels: usize) -> Vec<f32> {
        let threshold = match self {
            Self::Share(share) => share,
            Self::TooMany => 0.5,
            Self::None => 0.0,
            Self::All => 1.0,
            Self::One => {
                let mut gate = vec![-1.0; pixels];
                gate[pixels - 1] = 1e-30;
                return gate;
            }
        };
        // Numbers that are not quite random, but any share of them is.
        let random = |pixel: usize| (pixel as f64 * 0.754_877_666 + 0.31).fract();
        (0..pixels)
            .map(|pixel| (threshold - random(pixel)) as f32)
            .collect()
    }

    fn capacity(self, pixels: usize) -> usize {
        match self {
            Self::TooMany => pixels.div_ceil(6),
            Self::One => 1,
            _ => pixels,
        }
    }
}

/// A list's counts and pixels, and its bits as pixels.
fn read_list(outcome: &Outcome, list: PixelList, pixels: usize) -> (Vec<u32>, Vec<usize>) {
    let entries: Vec<u32> = outcome.read(list.entries);
    let words: Vec<u32> = outcome.read(list.marks);
    let marked = (0..pixels).filter(|pixel| words[pixel / 32] >> (pixel % 32) & 1 == 1);
    (entries, marked.collect())
}

fn check(case: &Case, wanted: Wanted, base: Base, facts: &DeviceFacts, checked: bool) {
    let plain = base == Base::Zero;
    let name = format!("{}, {wanted:?}, {base:?}, {:?}", case.name, facts.kind);
    let convolution = shape_of(case);
    let [input_pixels, output_pixels] = [
        case.input[1] * case.input[2],
        case.output_size().iter().product(),
    ];
    let pixels = case.batch * output_pixels;
    let capacity = wanted.capacity(pixels);
    let shape = ListedShape {
        convolution,
        capacity: capacity as u32,
    };
    let gate = wanted.gate(pixels);
    let list = twin::list(&gate, capacity);
    let gate_quads: Vec<f32> = (gate.iter().flat_map(|value| [*value, 0.0, 0.0, 0.0])).collect();
    let [input, weight, bias, gradient, before, held] = [
        normal(1, case.input_len()),
        normal(2, case.weight_len()),
        normal(3, case.output_channels),
        normal(4, case.output_len()),
        normal(5, case.input_len()),
        normal(6, case.output_len()),
    ];
    let input_quads = |values: &[f32]| to_quads(values, case.batch, case.input[0], input_pixels);
    let output_quads =
        |values: &[f32]| to_quads(values, case.batch, case.output_channels, output_pixels);
    let mut memory = Guarded::new();
    let at_gate = memory.input(&gate_quads);
    let at_input = memory.input(&input_quads(&input));
    let at_weight = memory.input(&pack_weight(&convolution, &weight).unwrap());
    let at_bias = memory.input(&pad_channels(&bias));
    let at_gradient = memory.input(&output_quads(&gradient));
    let [output, by_input] = if plain {
        [convolution.output_bytes(), convolution.input_bytes()]
            .map(|bytes| memory.output(bytes as usize / 4))
    } else {
        [
            memory.input(&output_quads(&held)),
            memory.input(&input_quads(&before)),
        ]
    };
    let by_weight = memory.output(convolution.weight_bytes() as usize / 4);
    let by_weight_alone = memory.output(convolution.weight_bytes() as usize / 4);
    let by_bias = memory.output(convolution.bias_bytes() as usize / 4);
    let room = listed_weight_gradient_workspace(&shape, facts).unwrap();
    let workspace = (room > 0).then(|| memory.output(room as usize / 4));
    let mut a_list = |marks: u64, entries: u64| PixelList {
        marks: memory.output(marks as usize / 4),
        entries: memory.output(entries as usize / 4),
    };
    let at_list = a_list(shape.mark_bytes(), shape.entry_bytes());
    let at_reached = a_list(shape.reached_mark_bytes(), shape.reached_entry_bytes());
    // Scale, shift and two vectors that no convolution reads, a quad at a time.
    let vectors = [normal(7, case.input[0]), normal(8, case.input[0])];
    let [scale, shift] = vectors.each_ref().map(|vector| pad_channels(vector));
    let normalisation: Vec<f32> = (scale.chunks(4).zip(shift.chunks(4)))
        .flat_map(|(scale, shift)| [scale, shift, &[f32::NAN; 4], &[f32::NAN; 4]].concat())
        .collect();
    let source = Source {
        region: at_input,
        normalisation: (!plain).then(|| memory.input(&normalisation)),
        activation: if plain {
            Activation::Identity
        } else {
            Activation::Relu
        },
    };

    let regions = ListPixels {
        gate: at_gate,
        list: at_list,
    };
    let mut launches = list_pixels(&shape, &regions).unwrap();
    let regions = ListReached {
        list: at_list,
        reached: at_reached,
    };
    launches.extend(list_reached(&shape, &regions).unwrap());
    let regions = ListedForward {
        input: source,
        weight: at_weight,
        bias: (!plain).then_some(at_bias),
        list: at_list,
        output,
        base,
    };
    launches.extend(listed_forward(&shape, facts, &regions).unwrap());
    let regions = ListedInputGradient {
        output_gradient: at_gradient,
        weight: at_weight,
        list: at_list,
        reached: at_reached,
        input_gradient: by_input,
        base,
    };
    launches.extend(listed_input_gradient(&shape, facts, &regions).unwrap());
    for (weight_gradient, workspace, bias_gradient) in [
        (by_weight, workspace, Some(by_bias)),
        (by_weight_alone, None, None),
    ] {
        let regions = ListedWeightGradient {
            input: source,
            output_gradient: at_gradient,
            list: at_list,
            weight_gradient,
            bias_gradient,
            workspace,
        };
        launches.extend(listed_weight_gradient(&shape, facts, &regions).unwrap());
    }
    let outcome = if checked {
        memory.run(&launches)
    } else {
        memory.run_unchecked(&launches)
    }
    .unwrap();

    let reached = twin::reached(case, &list);
    let marked = gate.iter().filter(|value| **value > 0.0).count();
    for (region, expected, marked, pixels) in [
        (at_list, &list, marked, pixels),
        (
            at_reached,
            &reached,
            reached.len(),
            case.batch * input_pixels,
        ),
    ] {
        let (entries, marks) = read_list(&outcome, region, pixels);
        assert_eq!(
            entries[..2],
            [expected.len() as u32, marked as u32],
            "{name}"
        );
        let (listed, rest) = entries[2..].split_at(expected.len());
        assert!(
            (listed.iter().map(|pixel| *pixel as usize)).eq(expected.iter().copied()),
            "{name}"
        );
        assert!(rest.iter().all(|entry| *entry == u32::MAX), "{name}");
        assert_eq!(&marks, expected, "{name}");
    }

    let [mut x, w, b, dy, before, held] =
        [&input, &weight, &bias, &gradient, &before, &held].map(|values| widen(values));
    if !plain {
        for (at, value) in x.iter_mut().enumerate() {
            let channel = at / input_pixels % case.input[0];
            let [scale, shift] = vectors.each_ref().map(|all| f64::from(all[channel]));
            *value = (scale * *value + shift).max(0.0);
        }
    }
    let b = if plain { &[][..] } else { &b };
    let close = |what: &str, actual: &[f32], expected: &[f64], terms: &[f64]| {
        let error = error_beside(actual, expected, terms);
        assert!(error <= TOLERANCE, "{name}: {what} is off by {error:e}");
    };
    // What is found at pixels that were not computed stands there as before, to the bit.
    let based = |found: &mut [f64], held: &[f64], channels: usize, pixels: usize, of: &[usize]| {
        for (at, value) in found.iter_mut().enumerate() {
            let pixel = at / (pixels * channels) * pixels + at % pixels;
            match base {
                Base::Zero => {}
                Base::Added => *value += held[at],
                Base::Kept if of.contains(&pixel) => {}
                Base::Kept => *value = held[at],
            }
        }
    };
    let magnitude = |values: &[f64]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
    let [ax, aw, ady] = [&x, &w, &dy].map(|values| magnitude(values));

    let found = from_quads(
        &outcome.read(output),
        case.batch,
        case.output_channels,
        output_pixels,
    );
    let mut expected = twin::forward(case, &list, &x, &w, b);
    based(
        &mut expected,
        &held,
        case.output_channels,
        output_pixels,
        &list,
    );
    close(
        "output",
        &found,
        &expected,
        &convolution::forward(case, &ax, &aw, &[]),
    );
    let found = from_quads(
        &outcome.read(by_input),
        case.batch,
        case.input[0],
        input_pixels,
    );
    let mut expected = twin::input_gradient(case, &list, &dy, &w);
    based(
        &mut expected,
        &before,
        case.input[0],
        input_pixels,
        &reached,
    );
    close(
        "input gradient",
        &found,
        &expected,
        &convolution::input_gradient(case, &ady, &aw),
    );
    let expected = twin::weight_gradient(case, &list, &x, &dy);
    let terms = convolution::weight_gradient(case, &ax, &ady);
    for region in [by_weight, by_weight_alone] {
        let found = unpack_weight(&convolution, &outcome.read(region)).unwrap();
        close("weight gradient", &found, &expected, &terms);
    }
    let found: Vec<f32> = outcome.read(by_bias);
    close(
        "bias gradient",
        &found[..case.output_channels],
        &twin::bias_gradient(case, &list, &dy),
        &convolution::bias_gradient(case, &ady),
    );
}

#[test]
fn every_case_agrees_with_the_whole_convolution() {
    let all = [
        Wanted::Share(0.3),
        Wanted::All,
        Wanted::One,
        Wanted::TooMany,
        Wanted::None,
        Wanted::Share(0.8),
        Wanted::Share(0.1),
    ];
    let bases = [Base::Zero, Base::Added, Base::Kept];
    let cases = convolution::cases();
    let cases = cases.iter().filter(|case| case.groups == 1);
    for (at, case) in cases.enumerate() {
        let checked = at % 4 == 0;
        check(case, all[at % 7], bases[at % 3], &software(), checked);
        if at % 3 == 1 {
            check(case, all[(at + 2) % 7], bases[at % 3], &discrete(), false);
        }
    }
}

#[test]
fn every_choice_of_pixels_agrees() {
    let case = Case::new("3x3, stride 2, odd channels", 2, [18, 9, 7], 14, [3, 3])
        .stride(2, 2)
        .padding(1, 1);
    for wanted in [
        Wanted::None,
        Wanted::One,
        Wanted::Share(0.2),
        Wanted::TooMany,
        Wanted::All,
    ] {
        check(&case, wanted, Base::Zero, &software(), true);
        check(&case, wanted, Base::Added, &discrete(), true);
    }
}

#[test]
fn lists_of_several_blocks_agree() {
    // More than two blocks of 2048 pixels each, the last one not full.
    let case = Case::new("3x3 on a large map", 2, [3, 43, 51], 6, [3, 3]).padding(1, 1);
    for wanted in [Wanted::Share(0.4), Wanted::TooMany] {
        check(&case, wanted, Base::Kept, &software(), false);
    }
    check(&case, Wanted::Share(0.05), Base::Zero, &discrete(), false);
}

#[test]
fn what_cannot_be_listed_is_refused() {
    let convolution = ConvolutionShape::new(2, [8, 6, 6], 8, [3, 3]).with_padding(1);
    let shape = |capacity| ListedShape {
        convolution,
        capacity,
    };
    for capacity in [0, 73] {
        let refused = shape(capacity).validate();
        assert_eq!(
            refused,
            Err(ListedError::Capacity {
                given: capacity,
                pixels: 72
            })
        );
    }
    let grouped = ListedShape {
        convolution: convolution.with_groups(2),
        capacity: 9,
    };
    assert_eq!(grouped.validate(), Err(ListedError::Groups { groups: 2 }));
    let shape = shape(72);
    let whole = |bytes| Region::whole(0, bytes);
    let short = ListPixels {
        gate: whole(shape.gate_bytes()),
        list: PixelList {
            marks: whole(shape.mark_bytes()),
            entries: whole(shape.entry_bytes() - 4),
        },
    };
    assert_eq!(
        list_pixels(&shape, &short),
        Err(ListedError::Shape(ShapeError::RegionTooSmall {
            region: "entries",
            given: 292,
            needed: 296
        }))
    );
}
