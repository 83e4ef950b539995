//! Pooling and enlargement against their twins and PyTorch.

mod maps;

use maps::{assert_close, place, read, room, shape};
use smidgen_gpu::Region;
use smidgen_gpu::testing::Guarded;
use smidgen_ops::pool::{self, Divisor, Pool};
use smidgen_ops::{MapShape, resize};
use smidgen_reference::elementwise::{self, MapCase};
use smidgen_reference::golden::Golden;
use smidgen_reference::layout::widen;
use smidgen_reference::numbers::{below, normal};
use smidgen_reference::pool::{self as reference, PoolCase};
use smidgen_reference::resize as resize_reference;

fn windows(case: &PoolCase) -> Pool {
    Pool {
        input: shape(&case.map),
        kernel: case.kernel.map(|size| size as u32),
        stride: case.stride.map(|step| step as u32),
        padding: case.padding.map(|size| size as u32),
    }
}

/// Output and input gradient of a max pool, and its output without taps; and the words of its taps.
fn run_max(case: &PoolCase, input: &[f32], output_gradient: &[f32]) -> ([Vec<f32>; 3], Vec<u32>) {
    let windows = windows(case);
    let mut memory = Guarded::new();
    let from = place(&mut memory, &case.map, input);
    let to = room(&mut memory, &case.output());
    let without_taps = room(&mut memory, &case.output());
    let taps = memory.output(windows.taps_bytes().unwrap() as usize / 4);
    let gradient = place(&mut memory, &case.output(), output_gradient);
    let input_gradient = room(&mut memory, &case.map);
    let mut launches = pool::max(&windows, &from.into(), to, Some(taps)).unwrap();
    launches.extend(pool::max(&windows, &from.into(), without_taps, None).unwrap());
    launches.extend(pool::max_backward(&windows, taps, gradient, None, input_gradient).unwrap());
    let outcome = memory.run(&launches).unwrap();
    let maps = [
        read(&outcome, &case.output(), to),
        read(&outcome, &case.map, input_gradient),
        read(&outcome, &case.output(), without_taps),
    ];
    (maps, outcome.read(taps))
}

/// The taps of every element in NCHW, of words that hold them in a window's bits: those of pixels that are 64 apart side by side.
fn unpacked(case: &PoolCase, words: &[u32]) -> Vec<usize> {
    let (bits, output) = (windows(case).tap_bits() as usize, case.output());
    let (plane, parts) = (output.height * output.width, 8 / bits);
    let row = words.len() / output.channels.div_ceil(4);
    let tap = |at: usize| {
        let (image, channel) = (at / plane / output.channels, at / plane % output.channels);
        let pixel = image * plane + at % plane;
        let word = words[channel / 4 * row + pixel / (64 * parts) * 64 + pixel % 64];
        let shift = (pixel / 64 % parts * 4 + channel % 4) * bits;
        (word >> shift) as usize & ((1 << bits) - 1)
    };
    (0..output.count()).map(tap).collect()
}

/// Output and input gradient of an average pool.
fn run_average(
    case: &PoolCase,
    divisor: Divisor,
    input: &[f32],
    output_gradient: &[f32],
) -> [Vec<f32>; 2] {
    let windows = windows(case);
    let mut memory = Guarded::new();
    let from = place(&mut memory, &case.map, input);
    let to = room(&mut memory, &case.output());
    let gradient = place(&mut memory, &case.output(), output_gradient);
    let input_gradient = room(&mut memory, &case.map);
    let mut launches = pool::average(&windows, divisor, &from.into(), to).unwrap();
    launches
        .extend(pool::average_backward(&windows, divisor, gradient, None, input_gradient).unwrap());
    let outcome = memory.run(&launches).unwrap();
    [
        read(&outcome, &case.output(), to),
        read(&outcome, &case.map, input_gradient),
    ]
}

/// Output and input gradient of a global average pool.
fn run_global(map: &MapCase, input: &[f32], output_gradient: &[f32]) -> [Vec<f32>; 2] {
    let pooled = MapCase {
        height: 1,
        width: 1,
        ..*map
    };
    let mut memory = Guarded::new();
    let from = place(&mut memory, map, input);
    let to = room(&mut memory, &pooled);
    let gradient = place(&mut memory, &pooled, output_gradient);
    let input_gradient = room(&mut memory, map);
    let mut launches = pool::global_average(&shape(map), &from.into(), to).unwrap();
    launches.extend(
        pool::global_average_backward(&shape(map), gradient, None, input_gradient).unwrap(),
    );
    let outcome = memory.run(&launches).unwrap();
    [
        read(&outcome, &pooled, to),
        read(&outcome, map, input_gradient),
    ]
}

/// Output and input gradient of an enlargement.
fn run_upsample(map: &MapCase, input: &[f32], output_gradient: &[f32]) -> [Vec<f32>; 2] {
    let large = resize_reference::output(map);
    let mut memory = Guarded::new();
    let from = place(&mut memory, map, input);
    let to = room(&mut memory, &large);
    let gradient = place(&mut memory, &large, output_gradient);
    let input_gradient = room(&mut memory, map);
    let mut launches = resize::upsample(&shape(map), from, to).unwrap();
    launches.extend(resize::upsample_backward(&shape(map), gradient, input_gradient).unwrap());
    let outcome = memory.run(&launches).unwrap();
    [
        read(&outcome, &large, to),
        read(&outcome, map, input_gradient),
    ]
}

#[test]
fn max_pools_agree_with_the_twin_ties_included() {
    for case in reference::cases() {
        assert_eq!(windows(&case).output().unwrap(), shape(&case.output()));
        let ties = below(3, 3, case.map.count())
            .iter()
            .map(|value| *value as f32 - 5.0)
            .collect();
        for input in [normal(1, case.map.count()), ties] {
            let output_gradient = normal(2, case.output().count());
            let ([output, gradient, without_taps], words) =
                run_max(&case, &input, &output_gradient);
            let (expected, taps) = reference::max(&case, &widen(&input));
            assert_eq!(unpacked(&case, &words), taps, "{}", case.map.name);
            assert_eq!(widen(&output), expected, "{}", case.map.name);
            assert_eq!(output, without_taps);
            let expected = reference::max_backward(&case, &taps, &widen(&output_gradient));
            assert_close(case.map.name, &gradient, &expected, 1e-6);
        }
    }
}

#[test]
fn average_pools_agree_with_the_twin() {
    for case in reference::cases() {
        for (divisor, include_padding) in [(Divisor::Window, true), (Divisor::Inside, false)] {
            let input = normal(1, case.map.count());
            let output_gradient = normal(2, case.output().count());
            let [output, gradient] = run_average(&case, divisor, &input, &output_gradient);
            let expected = reference::average(&case, include_padding, &widen(&input));
            assert_close(case.map.name, &output, &expected, 1e-6);
            let expected =
                reference::average_backward(&case, include_padding, &widen(&output_gradient));
            assert_close(case.map.name, &gradient, &expected, 1e-6);
        }
    }
}

#[test]
fn global_average_pools_agree_with_the_twin() {
    for map in elementwise::cases() {
        let input = normal(1, map.count());
        let output_gradient = normal(2, map.batch * map.channels);
        let [output, gradient] = run_global(&map, &input, &output_gradient);
        assert_close(
            map.name,
            &output,
            &reference::global_average(&map, &widen(&input)),
            1e-6,
        );
        let expected = reference::global_average_backward(&map, &widen(&output_gradient));
        assert_close(map.name, &gradient, &expected, 1e-6);
    }
}

#[test]
fn enlargements_agree_with_the_twin() {
    for map in elementwise::cases() {
        let input = normal(1, map.count());
        let output_gradient = normal(2, 4 * map.count());
        let [output, gradient] = run_upsample(&map, &input, &output_gradient);
        assert_close(
            map.name,
            &output,
            &resize_reference::upsample(&map, &widen(&input)),
            1e-6,
        );
        let expected = resize_reference::upsample_backward(&map, &widen(&output_gradient));
        assert_close(map.name, &gradient, &expected, 1e-6);
    }
}

#[test]
fn golden_cases_agree_with_pytorch() {
    let Some(golden) = Golden::open("operators.safetensors") else {
        return;
    };
    let mut seen = 0;
    for case in golden.cases() {
        let name = case["name"].as_str().unwrap();
        let op = case["op"].as_str().unwrap();
        if !(op.ends_with("pool2d") || op == "global_avg_pool" || op == "bilinear_x2") {
            continue;
        }
        seen += 1;
        let tensor = |part: &str| golden.tensor(&format!("{name}.{part}")).unwrap();
        let (sizes, x) = tensor("x");
        let map = MapCase::new("golden", sizes.try_into().unwrap());
        let dy = tensor("dy").1;
        let number = |key: &str| [case[key].as_u64().unwrap_or(0) as usize; 2];
        let windows = PoolCase {
            map,
            kernel: number("kernel"),
            stride: number("stride"),
            padding: number("padding"),
        };
        let [output, gradient] = match op {
            "max_pool2d" => {
                let ([output, gradient, _], _) = run_max(&windows, &x, &dy);
                [output, gradient]
            }
            "avg_pool2d" if case["count_include_pad"] == false => {
                run_average(&windows, Divisor::Inside, &x, &dy)
            }
            "avg_pool2d" => run_average(&windows, Divisor::Window, &x, &dy),
            "global_avg_pool" => run_global(&map, &x, &dy),
            _ => run_upsample(&map, &x, &dy),
        };
        assert_close(name, &output, &widen(&tensor("y").1), 1e-5);
        assert_close(name, &gradient, &widen(&tensor("dx").1), 1e-5);
    }
    assert_eq!(seen, 6);
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let input = MapShape::new(1, 4, 5, 7);
    let good = Pool {
        input,
        kernel: [3, 4],
        stride: [2, 1],
        padding: [1, 2],
    };
    assert_eq!(good.output().unwrap(), MapShape::new(1, 4, 3, 8));
    let refused = |bad: Pool| {
        assert!(bad.output().is_err(), "{bad:?}");
        let region = Region::whole(0, 1 << 20);
        assert!(
            pool::max(&bad, &region.into(), region, None).is_err(),
            "{bad:?}"
        );
    };
    for axis in 0..2 {
        for (kernel, stride, padding) in [
            (0, 1, 0),
            (3, 0, 1),
            (3, 2, 2),
            (8, 1, 0),
            (17, 1, 8),
            (3, 1, u32::MAX),
        ] {
            let mut bad = good;
            (bad.kernel[axis], bad.stride[axis], bad.padding[axis]) = (kernel, stride, padding);
            refused(bad);
        }
    }
    refused(Pool {
        input: MapShape::new((1 << 20) + 1, 4, 5, 7),
        ..good
    });
    let one_step = Pool {
        stride: [u32::MAX, u32::MAX],
        ..good
    };
    assert_eq!(one_step.output().unwrap(), MapShape::new(1, 4, 1, 1));
}
