//! Sums, copies, concatenation and shortcuts against their twins.

mod maps;

use maps::{assert_close, place, read, room, shape, twin};
use smidgen_gpu::Region;
use smidgen_gpu::testing::Guarded;
use smidgen_ops::concat::{self, Part};
use smidgen_ops::elementwise::{self, Add};
use smidgen_ops::shortcut::{self, Shortcut};
use smidgen_ops::{Activation, MapShape};
use smidgen_reference::activation;
use smidgen_reference::elementwise::{self as reference, ConcatCase, MapCase, ShortcutCase};
use smidgen_reference::layout::widen;
use smidgen_reference::numbers::normal;

#[test]
fn sums_agree_with_the_twin() {
    for map in reference::cases() {
        for activation in Activation::ALL {
            let (a, b) = (normal(1, map.count()), normal(2, map.count()));
            let mut memory = Guarded::new();
            let regions = Add {
                left: place(&mut memory, &map, &a).into(),
                right: place(&mut memory, &map, &b).into(),
                output: room(&mut memory, &map),
            };
            let launches = elementwise::add(&shape(&map), activation, &regions).unwrap();
            let outcome = memory.run(&launches).unwrap();
            let sum = reference::add(&widen(&a), &widen(&b));
            let expected = activation::forward(twin(activation), &sum);
            let name = format!("{} {activation:?}", map.name);
            let found = read(&outcome, &map, regions.output);
            assert_close(&name, &found, &expected, 1e-6);
        }
    }
}

#[test]
fn accumulating_and_copying_are_exact() {
    for count in [4, 1020, 4096, 100_000] {
        let (a, b) = (normal(1, count), normal(2, count));
        let mut memory = Guarded::new();
        let (target, source) = (memory.input(&a), memory.input(&b));
        let copied = memory.output(count);
        let mut launches = elementwise::copy(target.size, target, copied).unwrap();
        launches.extend(elementwise::accumulate(target.size, target, source).unwrap());
        let outcome = memory.run(&launches).unwrap();
        assert_eq!(outcome.read::<f32>(copied), a);
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(outcome.read::<f32>(target), sum);
    }
    let region = Region::whole(0, 64);
    assert!(elementwise::copy(64, region, region).unwrap().is_empty());
    for bytes in [0, 24, 128] {
        assert!(elementwise::accumulate(bytes, region, Region::whole(1, 64)).is_err());
    }
}

#[test]
fn parts_are_copied_to_where_they_belong() {
    let a = normal(1, 5000);
    let mut memory = Guarded::new();
    let source = memory.input(&a);
    let target = memory.output(5000);
    // Two parts change places.
    let bytes = [1232, 4 * 5000 - 1232];
    let parts = [(0, bytes[1], bytes[0]), (bytes[0], 0, bytes[1])];
    let launches = parts.map(|(from, to, bytes)| {
        elementwise::copy_part(bytes, (source, from), (target, to)).unwrap()
    });
    let outcome = memory.run(&launches).unwrap();
    let (head, tail) = a.split_at(1232 / 4);
    assert_eq!(outcome.read::<f32>(target), [tail, head].concat());
    for (first, bytes) in [(8, 16), (64, 16), (16, 64), (u64::MAX, 16)] {
        let region = Region::whole(0, 64);
        assert!(elementwise::copy_part(bytes, (region, first), (region, 0)).is_err());
    }
}

fn part_map(case: &ConcatCase, channels: usize) -> MapCase {
    MapCase::new(case.name, [case.batch, channels, case.height, case.width])
}

#[test]
fn concatenation_and_its_gradient_are_exact() {
    for case in reference::concat_cases() {
        let whole = part_map(&case, case.channels.iter().sum());
        let inputs: Vec<Vec<f32>> = (0..)
            .zip(&case.channels)
            .map(|(seed, channels)| normal(seed, part_map(&case, *channels).count()))
            .collect();
        let output_gradient = normal(100, whole.count());
        let mut memory = Guarded::new();
        let mut parts = Vec::new();
        let mut gradients = Vec::new();
        for (values, channels) in inputs.iter().zip(&case.channels) {
            let map = part_map(&case, *channels);
            let region = place(&mut memory, &map, values);
            parts.push(Part {
                channels: *channels as u32,
                map: region.into(),
            });
            let region = room(&mut memory, &map);
            gradients.push(Part {
                channels: *channels as u32,
                map: region.into(),
            });
        }
        let output = room(&mut memory, &whole);
        let gradient = place(&mut memory, &whole, &output_gradient);
        let mut launches = concat::forward(&shape(&whole), &parts, output).unwrap();
        launches.extend(concat::backward(&shape(&whole), gradient, &gradients).unwrap());
        let outcome = memory.run(&launches).unwrap();

        let pixels = case.height * case.width;
        let wide: Vec<Vec<f64>> = inputs.iter().map(|values| widen(values)).collect();
        let pairs: Vec<_> = wide
            .iter()
            .map(Vec::as_slice)
            .zip(case.channels.iter().copied())
            .collect();
        let expected = reference::concat(&pairs, case.batch, pixels);
        assert_eq!(
            widen(&read(&outcome, &whole, output)),
            expected,
            "{}",
            case.name
        );
        let expected = reference::concat_backward(
            &widen(&output_gradient),
            &case.channels,
            case.batch,
            pixels,
        );
        for ((part, expected), channels) in gradients.iter().zip(expected).zip(&case.channels) {
            let actual = read(&outcome, &part_map(&case, *channels), part.map.region);
            assert_eq!(widen(&actual), expected, "{}", case.name);
        }
    }
}

#[test]
fn parts_that_do_not_add_up_are_refused() {
    let region = Region::whole(0, 1 << 20);
    let shape = MapShape::new(1, 8, 2, 2);
    for channels in [vec![], vec![4], vec![8, 0], vec![5, 4]] {
        let parts: Vec<Part> = channels
            .into_iter()
            .map(|channels| Part {
                channels,
                map: region.into(),
            })
            .collect();
        assert!(concat::forward(&shape, &parts, region).is_err());
        assert!(concat::backward(&shape, region, &parts).is_err());
    }
}

fn layer(case: &ShortcutCase) -> Shortcut {
    Shortcut {
        input: shape(&case.map),
        output_channels: case.output_channels as u32,
        channel_offset: case.channel_offset as u32,
        stride: case.stride as u32,
    }
}

#[test]
fn shortcuts_and_their_gradients_are_exact() {
    for case in reference::shortcut_cases() {
        let layer = layer(&case);
        assert_eq!(layer.output().unwrap(), shape(&case.output()));
        let input = normal(1, case.map.count());
        let output_gradient = normal(2, case.output().count());
        let held = normal(3, case.map.count());
        let mut memory = Guarded::new();
        let from = place(&mut memory, &case.map, &input);
        let to = room(&mut memory, &case.output());
        let gradient = place(&mut memory, &case.output(), &output_gradient);
        let written = room(&mut memory, &case.map);
        let accumulated = place(&mut memory, &case.map, &held);
        let mut launches = shortcut::forward(&layer, &from.into(), to).unwrap();
        launches.extend(shortcut::backward(&layer, false, gradient, written).unwrap());
        launches.extend(shortcut::backward(&layer, true, gradient, accumulated).unwrap());
        let outcome = memory.run(&launches).unwrap();
        let name = case.map.name;
        let expected = reference::shortcut(&case, &widen(&input));
        assert_eq!(
            widen(&read(&outcome, &case.output(), to)),
            expected,
            "{name}"
        );
        let expected = reference::shortcut_backward(&case, &widen(&output_gradient));
        assert_eq!(
            widen(&read(&outcome, &case.map, written)),
            expected,
            "{name}"
        );
        let expected = reference::add(&expected, &widen(&held));
        assert_close(
            name,
            &read(&outcome, &case.map, accumulated),
            &expected,
            1e-6,
        );
    }
}

#[test]
fn shortcuts_that_do_not_fit_are_refused() {
    let good = layer(&reference::shortcut_cases()[0]);
    assert!(good.output().is_ok());
    assert!(Shortcut { stride: 0, ..good }.output().is_err());
    assert!(
        Shortcut {
            output_channels: 20,
            ..good
        }
        .output()
        .is_err()
    );
    assert!(
        Shortcut {
            channel_offset: u32::MAX,
            ..good
        }
        .output()
        .is_err()
    );
}
