//! Kept slopes, and optimisers of weights whose gradient is the same at every tap.

mod maps;

use maps::{place, read, shape};
use smidgen_gpu::Source;
use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_ops::control::Control;
use smidgen_ops::optimizer::{AdamDecay, AdamOptions, AdamRegions, SgdOptions, SgdRegions};
use smidgen_ops::pairs::{self, Pairs};
use smidgen_ops::{Activation, slopes};
use smidgen_reference::elementwise::MapCase;
use smidgen_reference::numbers::normal;

#[test]
fn a_gradient_is_multiplied_with_kept_slopes_and_scales() {
    for (name, sizes) in [("odd", [3, 6, 5, 7]), ("one pixel", [1, 4, 1, 1])] {
        let map = MapCase::new(name, sizes);
        let (values, gradient) = (normal(1, map.count()), normal(2, map.count()));
        let (scale, shift) = (normal(3, map.channels), normal(4, map.channels));
        let pixels = map.image_pixels();
        for (activation, normalised) in [
            (Activation::Relu, true),
            (Activation::Relu6, true),
            (Activation::Relu, false),
            (Activation::Identity, true),
        ] {
            let mut memory = Guarded::new();
            let padded = map.channels.next_multiple_of(4);
            // Four vectors a quad: scale, shift, and two that are not read here.
            let mut vectors = vec![0.5_f32; padded * 4];
            for channel in 0..padded {
                let at = channel / 4 * 16 + channel % 4;
                vectors[at] = scale.get(channel).copied().unwrap_or(0.0);
                vectors[at + 4] = shift.get(channel).copied().unwrap_or(0.0);
            }
            let normalisation = normalised.then(|| memory.input(&vectors));
            let source = Source {
                region: place(&mut memory, &map, &values),
                normalisation,
                activation,
            };
            let changed = place(&mut memory, &map, &gradient);
            let (mut launches, mut kept) = (Vec::new(), None);
            if activation != Activation::Identity {
                let bits = memory.output(slopes::bytes(&shape(&map)) as usize / 4);
                launches = slopes::keep(&shape(&map), &source, bits).unwrap();
                kept = Some(bits);
            }
            launches.extend(
                slopes::backward(&shape(&map), changed, kept, normalisation, changed).unwrap(),
            );
            let found = read(&memory.run(&launches).unwrap(), &map, changed);
            let expected: Vec<f64> = (0..map.count())
                .map(|at| {
                    let channel = at / pixels % map.channels;
                    let (factor, offset) = if normalised {
                        (f64::from(scale[channel]), f64::from(shift[channel]))
                    } else {
                        (1.0, 0.0)
                    };
                    let x = f64::from(values[at]) * factor + offset;
                    let passes = match activation {
                        Activation::Relu => x > 0.0,
                        Activation::Relu6 => x > 0.0 && x < 6.0,
                        _ => true,
                    };
                    f64::from(gradient[at]) * factor * f64::from(u8::from(passes))
                })
                .collect();
            let error = relative_error(&found, &expected);
            assert!(error < 1e-6, "{name}, {activation:?}: {error:e}");
        }
    }
}

#[test]
fn other_slopes_are_refused() {
    let map = MapCase::new("odd", [1, 4, 2, 2]);
    let mut memory = Guarded::new();
    let region = place(&mut memory, &map, &normal(1, map.count()));
    let source = Source {
        region,
        normalisation: None,
        activation: Activation::Silu,
    };
    let bits = memory.output(4);
    assert!(slopes::keep(&shape(&map), &source, bits).is_err());
}

const PAIRS: Pairs = Pairs {
    count: 6,
    inner: 3,
    taps: 5,
};

/// The pair that a number of the weight belongs to.
fn pair_of(element: usize) -> usize {
    let (vector, lane) = (element / 4, element % 4);
    let output_quad = vector / 15;
    (output_quad * 3 + vector % 3) * 4 + lane
}

#[test]
fn pairs_are_updated_as_every_tap_would_be() {
    let facts = device(false).facts();
    let (weight, gradient) = (normal(1, 2 * 5 * 3 * 4), normal(2, 6 * 4));
    let (first, second) = (normal(3, 24), normal(4, 24).iter().map(|x| x * x).collect());
    let second: Vec<f32> = second;
    let control = Control {
        learning_rate: 0.1,
        gradient_scale: 0.5,
        first_correction: 0.3,
        second_correction: 0.2,
        ..Control::default()
    };
    for nesterov in [false, true] {
        let mut memory = Guarded::new();
        let regions = SgdRegions {
            parameter: memory.input(&weight),
            gradient: memory.input(&gradient),
            momentum: Some(memory.input(&first)),
            control: memory.input(&[control]),
        };
        let options = SgdOptions {
            momentum: 0.9,
            nesterov,
            weight_decay: 0.01,
        };
        let launch = pairs::sgd(&options, facts, &regions, PAIRS).unwrap();
        let outcome = memory.run(&[launch]).unwrap();
        let slope: Vec<f64> = gradient.iter().map(|g| 0.5 * f64::from(*g)).collect();
        let momentum: Vec<f64> = (first.iter().zip(&slope))
            .map(|(m, g)| 0.9 * f64::from(*m) + g)
            .collect();
        let expected: Vec<f64> = (weight.iter().enumerate())
            .map(|(at, w)| {
                let pair = pair_of(at);
                let step = if nesterov {
                    slope[pair] + 0.9 * momentum[pair]
                } else {
                    momentum[pair]
                };
                f64::from(*w) - 0.1 * (step + 0.01 * f64::from(*w))
            })
            .collect();
        let found: Vec<f32> = outcome.read(regions.parameter);
        assert!(relative_error(&found, &expected) < 1e-6);
        let found: Vec<f32> = outcome.read(regions.momentum.unwrap());
        assert!(relative_error(&found, &momentum) < 1e-6);
    }

    let mut memory = Guarded::new();
    let regions = AdamRegions {
        parameter: memory.input(&weight),
        gradient: memory.input(&gradient),
        mean: memory.input(&first),
        square: memory.input(&second),
        control: memory.input(&[control]),
    };
    let options = AdamOptions {
        weight_decay: 0.01,
        ..AdamOptions::default()
    };
    let launch = pairs::adam(&options, facts, &regions, PAIRS).unwrap();
    let outcome = memory.run(&[launch]).unwrap();
    let steps: Vec<f64> = (0..24)
        .map(|at| {
            let g = 0.5 * f64::from(gradient[at]);
            let mean = 0.9 * f64::from(first[at]) + 0.1 * g;
            let square = 0.999 * f64::from(second[at]) + 0.001 * g * g;
            let [one, two] = [control.first_correction, control.second_correction].map(f64::from);
            mean / one / ((square / two).sqrt() + 1e-8)
        })
        .collect();
    let expected: Vec<f64> = (weight.iter().enumerate())
        .map(|(at, w)| f64::from(*w) - 0.1 * (steps[pair_of(at)] + 0.01 * f64::from(*w)))
        .collect();
    let found: Vec<f32> = outcome.read(regions.parameter);
    assert!(relative_error(&found, &expected) < 1e-5);
    let coupled = AdamOptions {
        decay: AdamDecay::Gradient,
        ..options
    };
    assert!(pairs::adam(&coupled, facts, &regions, PAIRS).is_err());
}
