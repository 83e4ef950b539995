//! Clipping by the common norm.

use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_ops::control::Control;
use smidgen_ops::{OpsError, clip};
use smidgen_reference::layout::{pad_channels, widen};
use smidgen_reference::numbers::normal;
use smidgen_reference::optimizer as twin;

/// Norm and control block after clipping these gradients; the padding behind each holds NaN.
fn run(gradients: &[Vec<f32>], max_norm: f32) -> (f32, Control) {
    let facts = device(false).facts();
    let mut memory = Guarded::new();
    let counts: Vec<u32> = gradients.iter().map(|values| values.len() as u32).collect();
    let slots: u32 = counts.iter().map(|count| clip::slots(*count)).sum();
    let regions = clip::ClipRegions {
        slots: memory.output(slots as usize),
        norm: memory.output(1),
        control: memory.input(&[Control::default()]),
        loss_scale: None,
    };
    let mut values = Vec::new();
    for (gradient, count) in gradients.iter().zip(counts) {
        let mut padded = gradient.clone();
        padded.resize(gradient.len().next_multiple_of(4), f32::NAN);
        values.push((memory.input(&padded), count));
    }
    let mut launches = clip::sums_of_squares(&values, facts, regions.slots).unwrap();
    launches.push(clip::clip(max_norm, slots, facts, &regions).unwrap());
    let outcome = memory.run(&launches).unwrap();
    let control: Vec<Control> = outcome.read(regions.control);
    (outcome.read::<f32>(regions.norm)[0], control[0])
}

#[test]
fn norm_and_scale_agree_with_the_twin() {
    for counts in [
        vec![1],
        vec![2, 3, 5],
        vec![16_384, 16_385, 7],
        vec![100_003, 1, 40_000],
    ] {
        let gradients: Vec<Vec<f32>> = counts
            .iter()
            .map(|count| normal(*count as u64, *count))
            .collect();
        let wide: Vec<Vec<f64>> = gradients.iter().map(|values| widen(values)).collect();
        let wide: Vec<&[f64]> = wide.iter().map(Vec::as_slice).collect();
        for max_norm in [0.01, 1.0, 1e6] {
            let (norm, control) = run(&gradients, max_norm);
            let (expected, scale) = twin::clip(&wide, f64::from(max_norm));
            assert!(relative_error(&[norm], &[expected]) < 1e-6);
            assert!(relative_error(&[control.gradient_scale], &[scale]) < 1e-6);
            assert_eq!(control.halted, 0);
        }
    }
}

#[test]
fn a_zero_gradient_is_left_alone() {
    let (norm, control) = run(&[vec![0.0; 9]], 1.0);
    assert_eq!(
        (norm, control.gradient_scale, control.halted),
        (0.0, 1.0, 0)
    );
}

#[test]
fn a_norm_that_is_not_finite_halts() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
        for at in [0, 20_000] {
            let mut values = normal(1, 20_001);
            values[at] = value;
            let (_, control) = run(&[normal(2, 5), values], 1.0);
            assert_eq!(control.halted, 1, "{value} at {at}");
            assert_eq!(control.gradient_scale, 1.0);
        }
    }
}

#[test]
fn nonsense_is_refused() {
    let facts = device(false).facts();
    let mut memory = Guarded::new();
    let values = memory.input(&pad_channels(&normal(1, 5)));
    let slots = memory.output(1);
    assert!(matches!(
        clip::sums_of_squares(&[(values, 5), (values, 5)], facts, slots),
        Err(OpsError::Region {
            region: "slots",
            needed: 8,
            ..
        })
    ));
    assert!(clip::sums_of_squares(&[(values, 0)], facts, slots).is_err());
    let regions = clip::ClipRegions {
        slots,
        norm: values,
        control: values,
        loss_scale: None,
    };
    for max_norm in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(clip::clip(max_norm, 1, facts, &regions).is_err());
    }
}
