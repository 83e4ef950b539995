//! Operators on maps that are held in f16: what they give for the same numbers in f32, rounded once as it is written.

mod maps;

use maps::{place, place_vector, reads, room, shape, vector_room};
use smidgen_gpu::testing::{Guarded, device};
use smidgen_gpu::{Launch, Region, normalisation_bytes};
use smidgen_ops::batch_norm::{self, StatisticsKind};
use smidgen_ops::elementwise::{self, Add};
use smidgen_ops::{Activation, activation, clip};
use smidgen_reference::elementwise as reference;
use smidgen_reference::numbers::normal;
use smidgen_reference::stash::{from_half, half};

/// Normal numbers of f16.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let numbers = normal(seed, count).into_iter();
    numbers.map(|number| from_half(half(number))).collect()
}

/// Compares what launches leave in maps in f16 with what they leave in f32: the same, rounded to 11 bits (and in the last bit of f32, a compiler may
/// have fused otherwise).
fn check(what: &str, memory: &Guarded, launches: &[Launch], maps: &[Region]) {
    let whole = memory.run_unchecked(launches).unwrap();
    let halves = memory.run_in_halves(launches, maps).unwrap();
    for region in maps {
        let expected: Vec<f32> = whole.read(*region);
        for (found, expected) in halves.read::<f32>(*region).iter().zip(expected) {
            let room = expected.abs() * 1.001 / 2048.0 + 2.0_f32.powi(-25);
            assert!(
                (found - expected).abs() <= room,
                "{what}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest() {
    let mut values = vec![
        0.0,
        -0.0,
        1.0,
        65504.0,
        65519.0,
        65520.0,
        -1e9,
        f32::INFINITY,
    ];
    values.extend([
        6e-8,
        2.9e-8,
        3.0e-8,
        -6.1e-5,
        6.1035e-5,
        1e-30,
        1.0 + 1.0 / 2048.0,
        1.0 + 3.0 / 2048.0,
    ]);
    values.extend(
        normal(1, 4096)
            .iter()
            .zip(0..)
            .map(|(value, at)| value * 2.0_f32.powi(at % 44 - 28)),
    );
    let mut memory = Guarded::new();
    let (input, output) = (memory.input(&values), memory.output(values.len()));
    let launches = elementwise::copy(input.size, input, output).unwrap();
    // Only what is written is held in f16.
    let found: Vec<f32> = memory
        .run_in_halves(&launches, &[output])
        .unwrap()
        .read(output);
    for (value, found) in values.iter().zip(found) {
        let expected = match value.abs() {
            large if large >= 65520.0 => f32::INFINITY.copysign(*value),
            // Less than half of the least.
            small if small <= 2.0_f32.powi(-25) => 0.0_f32.copysign(*value),
            _ => from_half(half(*value)),
        };
        assert_eq!(found.to_bits(), expected.to_bits(), "{value}");
    }
    let mut memory = Guarded::new();
    let (input, output) = (memory.input(&[f32::NAN; 4]), memory.output(4));
    let launches = elementwise::copy(16, input, output).unwrap();
    let found: Vec<f32> = memory
        .run_in_halves(&launches, &[output])
        .unwrap()
        .read(output);
    assert!(found.iter().all(|value| value.is_nan()));
}

#[test]
fn sums_and_activations_are_rounded_once() {
    for map in reference::cases() {
        for (at, way) in reads(map.channels).iter().enumerate() {
            let mut memory = Guarded::new();
            let [left, right, gradient] =
                [1, 2, 3].map(|seed| place(&mut memory, &map, &numbers(seed, map.count())));
            let [output, applied, through] = [(); 3].map(|()| room(&mut memory, &map));
            let source = way.source(&mut memory, left);
            let add = Add {
                left: source,
                right: right.into(),
                output,
            };
            let activation = match way.activation {
                Activation::Identity => Activation::Relu,
                _ => Activation::Identity,
            };
            let mut launches = elementwise::add(&shape(&map), activation, &add).unwrap();
            launches.extend(activation::apply(&shape(&map), &source, applied).unwrap());
            let backward = activation::Backward {
                value: source,
                output_gradient: gradient,
                input_gradient: through,
            };
            launches.extend(activation::backward(&shape(&map), &backward).unwrap());
            launches.extend(elementwise::accumulate(right.size, gradient, right).unwrap());
            let maps = [left, right, gradient, output, applied, through];
            check(&format!("{} {at}", map.name), &memory, &launches, &maps);
        }
    }
}

#[test]
fn batch_norms_agree() {
    for map in reference::cases() {
        if map.batch * map.image_pixels() < 2 {
            continue;
        }
        for applied in [Activation::Identity, Activation::Relu] {
            let (facts, shape) = (device(false).facts(), shape(&map));
            let mut memory = Guarded::new();
            let [input, output_gradient] =
                [1, 2].map(|seed| place(&mut memory, &map, &numbers(seed, map.count())));
            let input_gradient = room(&mut memory, &map);
            let mut vector = |seed| place_vector(&mut memory, &normal(seed, map.channels));
            let [running_mean, running_variance, gamma, beta] = [3, 4, 5, 6].map(&mut vector);
            let words = |bytes: u64| bytes as usize / 4;
            let normalisation = memory.output(words(normalisation_bytes(map.channels as u32)));
            let workspace = memory.output(words(batch_norm::statistics_workspace(&shape, facts)));
            let statistics = batch_norm::Statistics {
                input,
                running_mean,
                running_variance,
                gamma,
                beta,
                normalisation,
                epsilon: 1e-5,
                momentum: 0.1,
            };
            let mut launches =
                batch_norm::statistics(&shape, facts, &statistics, workspace).unwrap();
            let backward = batch_norm::Backward {
                input,
                normalisation,
                output_gradient,
                workspace: memory.output(words(batch_norm::backward_workspace(&shape, facts))),
                gamma_gradient: vector_room(&mut memory, map.channels),
                beta_gradient: vector_room(&mut memory, map.channels),
                input_gradient,
            };
            let kind = StatisticsKind::Batch;
            launches.extend(batch_norm::backward(&shape, facts, applied, kind, &backward).unwrap());
            let maps = [input, output_gradient, input_gradient];
            check(map.name, &memory, &launches, &maps);
        }
    }
}

#[test]
fn a_loss_scale_falls_where_gradients_are_not_finite_and_rises_after_many_that_are() {
    let facts = device(false).facts();
    // Numbers, state before; then state, skipped, halted and the gradient scale after.
    let state = |scale, steps, skipped, last| [scale, steps, skipped, last];
    let big = 65536.0;
    for (value, before, after, skipped, halted) in [
        (
            4.0,
            state(big, 0.0, 0.0, 1.0),
            state(big, 1.0, 0.0, big),
            0,
            0,
        ),
        (
            4.0,
            state(big, 1999.0, 3.0, 1.0),
            state(2.0 * big, 0.0, 3.0, big),
            0,
            0,
        ),
        (
            f32::INFINITY,
            state(big, 7.0, 3.0, big),
            state(big / 2.0, 0.0, 4.0, big),
            1,
            0,
        ),
        (
            f32::NAN,
            state(2.0, 7.0, 3.0, big),
            state(1.0, 0.0, 4.0, 2.0),
            1,
            0,
        ),
        (
            f32::NAN,
            state(1.0, 7.0, 3.0, big),
            state(1.0, 0.0, 4.0, 1.0),
            1,
            1,
        ),
    ] {
        let mut memory = Guarded::new();
        let gradient = memory.input(&[0.0, value, 3.0, 0.0]);
        let control = smidgen_ops::control::Control {
            skipped: 1,
            ..Default::default()
        };
        let regions = clip::ClipRegions {
            slots: memory.output(1),
            norm: memory.output(1),
            control: memory.input(&[control]),
            loss_scale: Some(memory.input(&before)),
        };
        let mut launches = clip::sums_of_squares(&[(gradient, 4)], facts, regions.slots).unwrap();
        launches.push(clip::clip(1e30, 1, facts, &regions).unwrap());
        let scaled = memory.input(&[1.0_f32, -2.0, 0.5, 0.0]);
        let state = regions.loss_scale.unwrap();
        launches.push(clip::scale_loss(16, scaled, state).unwrap());
        let outcome = memory.run(&launches).unwrap();
        assert_eq!(outcome.read::<f32>(state), after);
        let control: Vec<smidgen_ops::control::Control> = outcome.read(regions.control);
        assert_eq!((control[0].skipped, control[0].halted), (skipped, halted));
        if skipped == 0 {
            assert_eq!(control[0].gradient_scale, 1.0 / before[0]);
            assert_eq!(outcome.read::<f32>(regions.norm), [5.0 / before[0]]);
        }
        let factor = after[0];
        assert_eq!(
            outcome.read::<f32>(scaled),
            [factor, -2.0 * factor, 0.5 * factor, 0.0]
        );
    }
    assert!(clip::scale_loss(0, Region::whole(0, 16), Region::whole(1, 16)).is_err());
}
