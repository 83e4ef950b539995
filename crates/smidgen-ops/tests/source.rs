//! Every operator that reads a map through a normalisation and an activation gives what it gives of the map so made.

mod maps;

use maps::{assert_close, place, read, reads, room, shape, twin};
use smidgen_gpu::testing::Guarded;
use smidgen_gpu::{Region, Source};
use smidgen_ops::concat::{self, Part};
use smidgen_ops::control::Control;
use smidgen_ops::dropout::{self, Dropout};
use smidgen_ops::elementwise::{self, Add};
use smidgen_ops::pool::{self, Divisor, Pool};
use smidgen_ops::shortcut::{self, Shortcut};
use smidgen_ops::{Activation, activation};
use smidgen_reference::elementwise::{self as reference, MapCase};
use smidgen_reference::numbers::normal;

const MAPS: [(&str, [usize; 4]); 2] = [("odd channels", [3, 6, 5, 7]), ("one pixel", [2, 8, 1, 1])];

#[test]
fn copies_pools_and_shortcuts_read_through_normalisation_and_activation() {
    for (name, sizes) in MAPS {
        let map = MapCase::new(name, sizes);
        let values = normal(1, map.count());
        for way in reads(map.channels) {
            let mut memory = Guarded::new();
            let region = place(&mut memory, &map, &values);
            let input = way.source(&mut memory, region);
            // As the operators are tested without it: on what was written before.
            let made = room(&mut memory, &map);
            let mut launches = activation::apply(&shape(&map), &input, made).unwrap();
            let windows = Pool {
                input: shape(&map),
                kernel: [3, 2],
                stride: [2, 1],
                padding: [1, 1],
            };
            let windows = if map.height == 1 {
                Pool {
                    kernel: [1, 1],
                    padding: [0, 0],
                    ..windows
                }
            } else {
                windows
            };
            let pooled = windows.output().unwrap();
            let option_a = Shortcut {
                input: shape(&map),
                output_channels: 13,
                channel_offset: 3,
                stride: 2,
            };
            let cut = option_a.output().unwrap();
            let whole = smidgen_ops::MapShape {
                channels: 2 * map.channels as u32,
                ..shape(&map)
            };
            let control = memory.input(&[Control {
                seed: 5,
                ..Control::default()
            }]);
            let layer = Dropout {
                rate: 0.4,
                layer: 2,
            };
            let mut pairs: Vec<(Region, Region)> = Vec::new();
            for (words, run) in [
                (
                    pooled.bytes(),
                    &(|from: Source, to: Region| pool::max(&windows, &from, to, None).unwrap())
                        as &dyn Fn(Source, Region) -> Vec<smidgen_gpu::Launch>,
                ),
                (pooled.bytes(), &|from, to| {
                    pool::average(&windows, Divisor::Inside, &from, to).unwrap()
                }),
                (
                    map.batch as u64 * shape(&map).vector_bytes(),
                    &|from, to| pool::global_average(&shape(&map), &from, to).unwrap(),
                ),
                (cut.bytes(), &|from, to| {
                    shortcut::forward(&option_a, &from, to).unwrap()
                }),
                (whole.bytes(), &|from, to| {
                    let channels = map.channels as u32;
                    let part = Part {
                        channels,
                        map: from,
                    };
                    concat::forward(&whole, &[part, part], to).unwrap()
                }),
                (shape(&map).bytes(), &|input, output| {
                    let regions = dropout::Regions {
                        control,
                        input,
                        output,
                    };
                    dropout::dropout(&shape(&map), &layer, &regions).unwrap()
                }),
            ] {
                let [fused, apart] = [0; 2].map(|_| memory.output(words as usize / 4));
                launches.extend(run(input, fused));
                launches.extend(run(made.into(), apart));
                pairs.push((fused, apart));
            }
            let outcome = memory.run(&launches).unwrap();
            let what = format!("{name} {way:?}");
            let (expected, _) = way.values(&map, &values);
            assert_close(&what, &read(&outcome, &map, made), &expected, 1e-6);
            for (at, (fused, apart)) in pairs.into_iter().enumerate() {
                let (fused, apart) = (outcome.read::<f32>(fused), outcome.read::<f32>(apart));
                assert_eq!(fused, apart, "{what}, operator {at}");
            }
        }
    }
}

#[test]
fn sums_read_both_terms_through_theirs() {
    let map = MapCase::new("sum", [3, 6, 5, 7]);
    let (a, b) = (normal(1, map.count()), normal(2, map.count()));
    for left in reads(map.channels) {
        for right in reads(map.channels) {
            for activation in [Activation::Identity, Activation::Relu] {
                let mut memory = Guarded::new();
                let regions = [&a, &b].map(|values| place(&mut memory, &map, values));
                let regions = Add {
                    left: left.source(&mut memory, regions[0]),
                    right: right.source(&mut memory, regions[1]),
                    output: room(&mut memory, &map),
                };
                let mut kinds = vec![left.activation, right.activation, activation];
                kinds.retain(|kind| *kind != Activation::Identity);
                kinds.dedup();
                let launches = elementwise::add(&shape(&map), activation, &regions);
                if kinds.len() > 1 && kinds.iter().any(|kind| *kind != kinds[0]) {
                    launches.unwrap_err();
                    continue;
                }
                let outcome = memory.run_unchecked(&launches.unwrap()).unwrap();
                let terms = (left.values(&map, &a).0, right.values(&map, &b).0);
                let sum = reference::add(&terms.0, &terms.1);
                let expected = smidgen_reference::activation::forward(twin(activation), &sum);
                let what = format!("{left:?} + {right:?}, {activation:?}");
                assert_close(
                    &what,
                    &read(&outcome, &map, regions.output),
                    &expected,
                    1e-6,
                );
            }
        }
    }
}

#[test]
fn a_value_is_added_to_itself() {
    let map = MapCase::new("double", [2, 5, 4, 3]);
    let values = normal(1, map.count());
    for way in reads(map.channels) {
        let mut memory = Guarded::new();
        let region = place(&mut memory, &map, &values);
        let term = way.source(&mut memory, region);
        let regions = Add {
            left: term,
            right: term,
            output: room(&mut memory, &map),
        };
        let launches = elementwise::add(&shape(&map), Activation::Identity, &regions).unwrap();
        let outcome = memory.run(&launches).unwrap();
        let (term, _) = way.values(&map, &values);
        let expected = reference::add(&term, &term);
        assert_close(
            "double",
            &read(&outcome, &map, regions.output),
            &expected,
            1e-6,
        );
    }
}

#[test]
fn the_derivative_of_an_activation_behind_a_normalisation() {
    let map = MapCase::new("derivative", [3, 6, 5, 7]);
    let (values, gradient) = (normal(1, map.count()), normal(2, map.count()));
    for way in reads(map.channels) {
        for in_place in [false, true] {
            let mut memory = Guarded::new();
            let region = place(&mut memory, &map, &values);
            let output_gradient = place(&mut memory, &map, &gradient);
            let regions = activation::Backward {
                value: way.source(&mut memory, region),
                output_gradient,
                input_gradient: if in_place {
                    output_gradient
                } else {
                    room(&mut memory, &map)
                },
            };
            let launches = activation::backward(&shape(&map), &regions).unwrap();
            let outcome = memory.run(&launches).unwrap();
            let (_, scaled) = way.values(&map, &values);
            let gradient = smidgen_reference::layout::widen(&gradient);
            let twin = twin(way.activation);
            let expected = smidgen_reference::activation::backward(twin, &scaled, &gradient);
            let found = read(&outcome, &map, regions.input_gradient);
            assert_close(&format!("{way:?}"), &found, &expected, 1e-6);
        }
    }
}

#[test]
fn the_gradients_of_pools_are_taken_through_the_activation_in_front() {
    let map = MapCase::new("pooled", [3, 6, 6, 7]);
    let windows = Pool {
        input: shape(&map),
        kernel: [3, 2],
        stride: [2, 1],
        padding: [1, 1],
    };
    let pooled = windows.output().unwrap();
    let values = normal(1, map.count());
    for way in reads(map.channels) {
        if way.activation == Activation::Identity {
            continue;
        }
        let mut memory = Guarded::new();
        let region = place(&mut memory, &map, &values);
        let source = way.source(&mut memory, region);
        let small = MapCase::new("pool", [map.batch, map.channels, 3, 8]);
        assert_eq!(shape(&small), pooled);
        let gradient = place(&mut memory, &small, &normal(2, small.count()));
        let taps = memory.output(windows.taps_bytes().unwrap() as usize / 4);
        let to = room(&mut memory, &small);
        let mut launches = pool::max(&windows, &source, to, Some(taps)).unwrap();
        let mut pairs = Vec::new();
        for which in 0..3 {
            let run = |derivative: Option<&Source>, to: Region| match which {
                0 => pool::max_backward(&windows, taps, gradient, derivative, to),
                1 => pool::average_backward(&windows, Divisor::Inside, gradient, derivative, to),
                _ => pool::global_average_backward(&shape(&map), gradient, derivative, to),
            };
            let [fused, apart] = [0; 2].map(|_| room(&mut memory, &map));
            launches.extend(run(Some(&source), fused).unwrap());
            launches.extend(run(None, apart).unwrap());
            let regions = activation::Backward {
                value: source,
                output_gradient: apart,
                input_gradient: apart,
            };
            launches.extend(activation::backward(&shape(&map), &regions).unwrap());
            pairs.push((fused, apart));
        }
        let outcome = memory.run(&launches).unwrap();
        for (fused, apart) in pairs {
            let (fused, apart) = (outcome.read::<f32>(fused), outcome.read::<f32>(apart));
            assert_eq!(fused, apart, "{way:?}");
        }
    }
}
