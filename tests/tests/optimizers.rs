//! The optimisers and clipping as a session wires them, against their double-precision twins, over several steps.

use smidgen::{Optimizer, Session, SessionOptions, StepOptions, Training, zoo};
use smidgen_reference::layout::to_quads;
use smidgen_reference::numbers::{below, normal};
use smidgen_reference::optimizer::{Rule, State, clip, update};
use smidgen_tests::device;
use std::collections::BTreeMap;

const BATCH: usize = 4;
const SIDE: usize = 8;
const STEPS: u64 = 4;

type Parameters = BTreeMap<String, Vec<f32>>;

fn parameters(session: &mut Session) -> Parameters {
    let graph = session.graph().clone();
    let names = graph.parameters().iter().map(|one| one.name.clone());
    names
        .map(|name| {
            let values = session.read(&name).unwrap();
            (name, values)
        })
        .collect()
}

/// Trains some steps, and compares every parameter with the twin's, which is given the gradients that the device found.
fn compare(optimizer: Optimizer, rule: Rule, clip_norm: Option<f32>) {
    let side = SIDE as u32;
    let graph = zoo::build("resnet20", 10, [3, side, side]).unwrap();
    let training = Training {
        optimizer,
        clip_norm,
        keep_gradients: true,
        ..Training::default()
    };
    let options = SessionOptions {
        batch: BATCH as u32,
        training: Some(training),
        budget: None,
    };
    let mut session = Session::new(device(), &graph, &options, 1).unwrap();
    let mut expected = parameters(&mut session);
    let mut states: BTreeMap<String, Vec<State>> = BTreeMap::new();
    let mut clipped = 0;
    for step in 0..STEPS {
        let images = normal(step + 1, BATCH * 3 * SIDE * SIDE);
        let images = to_quads(&images, BATCH, 3, SIDE * SIDE);
        let labels = below(step + 9, 10, BATCH);
        let learning_rate = 0.01 / (step + 1) as f32;
        let options = StepOptions {
            step,
            learning_rate,
            seed: 0,
        };
        session.train_step(&images, &labels, &options).unwrap();
        assert!(session.metrics().unwrap().unwrap().loss().is_finite());
        let gradients: Vec<Vec<f64>> = expected
            .keys()
            .map(|name| session.read(&format!("gradient of {name}")).unwrap())
            .map(|values| values.into_iter().map(f64::from).collect())
            .collect();
        let scale = clip_norm.map_or(1.0, |norm| {
            let all: Vec<&[f64]> = gradients.iter().map(Vec::as_slice).collect();
            clip(&all, f64::from(norm)).1
        });
        clipped += u32::from(scale < 1.0);
        for ((name, values), gradient) in expected.iter_mut().zip(&gradients) {
            let states = states.entry(name.clone()).or_default();
            states.resize(values.len(), State::default());
            for ((value, gradient), state) in values.iter_mut().zip(gradient).zip(states) {
                let mut parameter = f64::from(*value);
                let number = step as i32 + 1;
                let rate = f64::from(learning_rate);
                update(&rule, rate, number, scale * gradient, &mut parameter, state);
                *value = parameter as f32;
            }
        }
        for (name, actual) in parameters(&mut session) {
            let pairs = actual.iter().zip(&expected[&name]);
            let worst = pairs.fold(0.0_f32, |worst, (a, e)| worst.max((a - e).abs()));
            assert!(worst <= 1e-6, "step {step}: {name} is off by {worst:e}");
        }
        // The device's own numbers go on, so that rounding does not add up.
        expected = parameters(&mut session);
    }
    assert_eq!(clipped > 0, clip_norm.is_some(), "{clipped} steps clipped");
}

#[test]
fn adam_and_adamw() {
    for decoupled in [false, true] {
        let optimizer = Optimizer::Adam {
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-3,
            weight_decay: 0.02,
            decoupled,
        };
        let rule = Rule::Adam {
            betas: (0.9, 0.99),
            epsilon: 1e-3,
            weight_decay: 0.02,
            decoupled,
        };
        compare(optimizer, rule, None);
    }
}

#[test]
fn nesterov_momentum_with_gradients_clipped() {
    let optimizer = Optimizer::Sgd {
        momentum: 0.9,
        nesterov: true,
        weight_decay: 5e-4,
    };
    let rule = Rule::Sgd {
        momentum: 0.9,
        nesterov: true,
        weight_decay: 5e-4,
    };
    compare(optimizer, rule, Some(0.5));
}
