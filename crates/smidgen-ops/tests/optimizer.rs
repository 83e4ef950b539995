//! Five steps of every optimiser on the device against its twin.

use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_gpu::{Launch, Region};
use smidgen_ops::OpsError;
use smidgen_ops::control::Control;
use smidgen_ops::optimizer::{
    AdamDecay, AdamOptions, AdamRegions, SgdOptions, SgdRegions, adam, adam_all, sgd, sgd_all,
};
use smidgen_reference::layout::{pad_channels, widen};
use smidgen_reference::numbers::normal;
use smidgen_reference::optimizer::{self as twin, Rule, State};

/// Parameter, both states (empty where the rule has none) and the control block, as they stand on the device.
#[derive(Clone, PartialEq, Debug)]
struct Held {
    parameter: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    control: Control,
}

struct Placed {
    parameter: Region,
    gradient: Region,
    first: Region,
    second: Region,
    control: Region,
}

fn sgd_of(rule: &Rule, placed: &Placed) -> Option<(SgdOptions, SgdRegions)> {
    let Rule::Sgd {
        momentum,
        nesterov,
        weight_decay,
    } = *rule
    else {
        return None;
    };
    let options = SgdOptions {
        momentum: momentum as f32,
        nesterov,
        weight_decay: weight_decay as f32,
    };
    let regions = SgdRegions {
        parameter: placed.parameter,
        gradient: placed.gradient,
        momentum: (momentum > 0.0).then_some(placed.first),
        control: placed.control,
    };
    Some((options, regions))
}

fn adam_of(rule: &Rule, placed: &Placed) -> Option<(AdamOptions, AdamRegions)> {
    let Rule::Adam {
        betas,
        epsilon,
        weight_decay,
        decoupled,
    } = *rule
    else {
        return None;
    };
    let options = AdamOptions {
        betas,
        epsilon: epsilon as f32,
        weight_decay: weight_decay as f32,
        decay: if decoupled {
            AdamDecay::Decoupled
        } else {
            AdamDecay::Gradient
        },
    };
    let regions = AdamRegions {
        parameter: placed.parameter,
        gradient: placed.gradient,
        mean: placed.first,
        square: placed.second,
        control: placed.control,
    };
    Some((options, regions))
}

fn launch(rule: &Rule, placed: &Placed, count: u32) -> Launch {
    let facts = device(false).facts();
    let by_sgd = sgd_of(rule, placed)
        .map(|(options, regions)| sgd(&options, facts, &regions, count).unwrap());
    by_sgd
        .or_else(|| {
            adam_of(rule, placed)
                .map(|(options, regions)| adam(&options, facts, &regions, count).unwrap())
        })
        .unwrap()
}

/// The same for many parameters at once.
fn launches(rule: &Rule, all: &[Placed], counts: &[u32]) -> Vec<Launch> {
    let facts = device(false).facts();
    let by_sgd: Vec<_> = all
        .iter()
        .filter_map(|placed| sgd_of(rule, placed))
        .collect();
    if let Some((options, _)) = by_sgd.first() {
        let updates: Vec<_> = (by_sgd.iter().zip(counts))
            .map(|((_, regions), count)| (*regions, *count))
            .collect();
        return sgd_all(options, facts, &updates).unwrap();
    }
    let by_adam: Vec<_> = all
        .iter()
        .filter_map(|placed| adam_of(rule, placed))
        .collect();
    let updates: Vec<_> = (by_adam.iter().zip(counts))
        .map(|((_, regions), count)| (*regions, *count))
        .collect();
    adam_all(&by_adam[0].0, facts, &updates).unwrap()
}

/// One update on the device; the padding behind `count` must stay what it was.
fn step(rule: &Rule, held: &Held, gradient: &[f32]) -> Held {
    const PADDING: f32 = 7.5;
    let count = held.parameter.len();
    let padded = |values: &[f32]| {
        let mut values = values.to_vec();
        values.resize(count.next_multiple_of(4), PADDING);
        values
    };
    let mut memory = Guarded::new();
    let placed = Placed {
        parameter: memory.input(&padded(&held.parameter)),
        gradient: memory.input(&padded(gradient)),
        first: memory.input(&padded(&held.first)),
        second: memory.input(&padded(&held.second)),
        control: memory.input(&[held.control]),
    };
    let outcome = memory.run(&[launch(rule, &placed, count as u32)]).unwrap();
    let read = |region| {
        let values: Vec<f32> = outcome.read(region);
        assert!(values[count..].iter().all(|value| *value == PADDING));
        values[..count].to_vec()
    };
    assert_eq!(outcome.read::<Control>(placed.control), [held.control]);
    Held {
        parameter: read(placed.parameter),
        first: read(placed.first),
        second: read(placed.second),
        control: held.control,
    }
}

fn start(count: usize) -> Held {
    Held {
        // Away from zero, so that no parameter crosses it and makes relative errors meaningless.
        parameter: normal(1, count).iter().map(|value| value + 6.0).collect(),
        first: vec![0.0; count],
        second: vec![0.0; count],
        control: Control::default(),
    }
}

#[test]
fn five_steps_agree_with_the_twin() {
    for case in twin::cases() {
        for count in twin::COUNTS {
            let mut held = start(count);
            let mut parameters = widen(&held.parameter);
            let mut states = vec![State::default(); count];
            for at in 1..=5 {
                let gradient = normal(10 + at, count);
                let learning_rate = 0.1 / at as f32;
                held.control.learning_rate = learning_rate;
                // The device applies the scale of clipping, the twin is given the scaled gradient.
                held.control.gradient_scale = 0.75;
                if let Rule::Adam { betas, .. } = case.rule {
                    let corrections = Control::corrections(betas, at);
                    (
                        held.control.first_correction,
                        held.control.second_correction,
                    ) = corrections;
                }
                held = step(&case.rule, &held, &gradient);
                for (element, parameter) in parameters.iter_mut().enumerate() {
                    twin::update(
                        &case.rule,
                        f64::from(learning_rate),
                        at as i32,
                        0.75 * f64::from(gradient[element]),
                        parameter,
                        &mut states[element],
                    );
                }
                let error = relative_error(&held.parameter, &parameters);
                assert!(
                    error < 1e-6,
                    "{} of {count}, step {at}: off by {error}",
                    case.name
                );
                let first: Vec<f64> = states.iter().map(|state| state.first).collect();
                let second: Vec<f64> = states.iter().map(|state| state.second).collect();
                // Without momentum the device holds no state.
                if !matches!(case.rule, Rule::Sgd { momentum: 0.0, .. }) {
                    assert!(relative_error(&held.first, &first) < 1e-5, "{}", case.name);
                }
                assert!(
                    relative_error(&held.second, &second) < 1e-5,
                    "{}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn nothing_changes_while_halted() {
    for case in twin::cases() {
        let mut held = start(37);
        held.first = normal(5, 37);
        held.second = vec![0.5; 37];
        held.control.learning_rate = 0.1;
        held.control.halted = 1;
        assert_eq!(step(&case.rule, &held, &normal(2, 37)), held);
        // And a gradient full of NaN neither.
        assert_eq!(step(&case.rule, &held, &[f32::NAN; 37]), held);
    }
}

#[test]
fn many_parameters_take_few_launches_and_get_the_same_bits() {
    // More than a table holds, of sizes around those of quads and workgroups.
    let counts: Vec<u32> = (0..70)
        .map(|at| [1, 6, 16, 1024, 1027, 2500][at % 6])
        .collect();
    let control = Control {
        learning_rate: 0.1,
        gradient_scale: 0.5,
        ..Control::default()
    };
    for case in twin::cases() {
        for together in [true, false] {
            let mut memory = Guarded::new();
            let control = memory.input(&[control]);
            let mut region = |seed: u64, count: u32| {
                let mut values = normal(seed, count as usize);
                values.resize(values.len().next_multiple_of(4), 0.0);
                // Squares of gradients are not negative.
                values.iter_mut().for_each(|value| *value = value.abs());
                memory.input(&values)
            };
            let mut kinds = [const { Vec::new() }; 4];
            if together {
                for (kind, regions) in kinds.iter_mut().enumerate() {
                    regions.extend(counts.iter().map(|count| region(kind as u64, *count)));
                }
            } else {
                for count in &counts {
                    for (kind, regions) in kinds.iter_mut().enumerate() {
                        regions.push(region(kind as u64, *count));
                    }
                }
            }
            let all: Vec<Placed> = (0..counts.len())
                .map(|at| Placed {
                    parameter: kinds[0][at],
                    gradient: kinds[1][at],
                    first: kinds[2][at],
                    second: kinds[3][at],
                    control,
                })
                .collect();
            let many = launches(&case.rule, &all, &counts);
            // Regions that lie in between each other cannot be bound as one.
            let expected = if together { 2 } else { counts.len() };
            assert_eq!(many.len(), expected, "{}", case.name);
            let single: Vec<Launch> = (all.iter().zip(&counts))
                .map(|(placed, count)| launch(&case.rule, placed, *count))
                .collect();
            let many = memory.run_unchecked(&many).unwrap();
            let single = memory.run_unchecked(&single).unwrap();
            for placed in &all {
                for region in [placed.parameter, placed.first, placed.second] {
                    assert_eq!(
                        many.read::<u32>(region),
                        single.read::<u32>(region),
                        "{}",
                        case.name
                    );
                }
            }
        }
    }
}

#[test]
fn states_that_cannot_be_bound_at_once_are_bound_apart() {
    let region = |buffer, offset| Region {
        buffer,
        offset,
        size: 64,
    };
    let regions = |square| AdamRegions {
        parameter: region(0, 0),
        gradient: region(0, 256),
        mean: region(0, 512),
        square,
        control: region(0, 1024),
    };
    let options = AdamOptions {
        betas: (0.9, 0.999),
        epsilon: 1e-8,
        weight_decay: 0.0,
        decay: AdamDecay::Gradient,
    };
    let mut facts = device(false).facts().clone();
    facts.max_binding_bytes = 1024;
    for square in [region(1, 0), region(0, 4096)] {
        let updates = [(regions(square), 16)];
        let found = adam_all(&options, &facts, &updates).unwrap();
        let alone = adam(&options, &facts, &updates[0].0, 16).unwrap();
        assert_eq!(found, [alone]);
    }
}

#[test]
fn nonsense_is_refused() {
    let mut memory = Guarded::new();
    let values = memory.input(&pad_channels(&normal(1, 5)));
    let facts = device(false).facts();
    let regions = SgdRegions {
        parameter: values,
        gradient: values,
        momentum: None,
        control: memory.input(&[Control::default()]),
    };
    let plain = SgdOptions::default();
    assert!(sgd(&plain, facts, &regions, 8).is_ok());
    assert!(matches!(
        sgd(&plain, facts, &regions, 9),
        Err(OpsError::Region { needed: 48, .. })
    ));
    let with_momentum = SgdRegions {
        momentum: Some(values),
        ..regions
    };
    let bad = [
        (plain, regions, 0),
        (
            SgdOptions {
                momentum: 0.9,
                ..plain
            },
            regions,
            5,
        ),
        (plain, with_momentum, 5),
        (
            SgdOptions {
                momentum: 1.0,
                ..plain
            },
            with_momentum,
            5,
        ),
        (
            SgdOptions {
                nesterov: true,
                ..plain
            },
            regions,
            5,
        ),
        (
            SgdOptions {
                weight_decay: f32::NAN,
                ..plain
            },
            regions,
            5,
        ),
    ];
    for (options, regions, count) in bad {
        assert!(matches!(
            sgd(&options, facts, &regions, count),
            Err(OpsError::Shape { .. })
        ));
    }
    let regions = AdamRegions {
        parameter: values,
        gradient: values,
        mean: values,
        square: values,
        control: regions.control,
    };
    let options = AdamOptions {
        betas: (0.9, 1.0),
        ..AdamOptions::default()
    };
    assert!(matches!(
        adam(&options, facts, &regions, 5),
        Err(OpsError::Shape { .. })
    ));
}
