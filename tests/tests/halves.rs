//! Maps in f16 between operations, and the loss scale that goes with them.

use smidgen::{
    Error, Growth, LossScale, PlanFile, Plans, Session, SessionOptions, StepOptions, Training,
};
use smidgen_graph::{Layout, ValueId};
use smidgen_tests::{device, network, shapes_batch};

const BATCH: u32 = 8;
const SCALE: &str = "loss scale";

fn training(half_maps: bool) -> Training {
    Training {
        half_maps,
        keep_gradients: true,
        ..Training::default()
    }
}

fn options(training: Training) -> SessionOptions {
    SessionOptions {
        batch: BATCH,
        training: Some(training),
        budget: None,
    }
}

fn session(model: &str, half_maps: bool) -> Session {
    Session::new(device(), &network(model), &options(training(half_maps)), 1).unwrap()
}

/// One step, and its loss.
fn step(session: &mut Session, step: u64) -> f64 {
    let (images, labels) = shapes_batch(BATCH as usize);
    let options = StepOptions {
        step,
        learning_rate: 0.01,
        seed: 5,
    };
    session.train_step(&images, &labels, &options).unwrap();
    session.metrics().unwrap().unwrap().loss()
}

fn parameters(session: &mut Session) -> Vec<(String, Vec<f32>)> {
    let weights = session.weights().unwrap();
    let tensors = weights.tensors.into_iter();
    tensors
        .map(|(name, tensor)| (name, tensor.values))
        .collect()
}

fn scale(session: &mut Session) -> LossScale {
    session.loss_scale().unwrap().unwrap()
}

#[test]
fn gradients_are_close_and_maps_take_half_the_bytes() {
    let model = "resnet20";
    let (mut whole, mut halves) = (session(model, false), session(model, true));
    halves.write(SCALE, &[1024.0, 0.0, 0.0, 0.0]).unwrap();
    let names: Vec<String> = (whole.graph().parameters().iter())
        .filter(|parameter| parameter.shape.len() == 4)
        .map(|parameter| format!("gradient of {}", parameter.name))
        .collect();
    let losses = [&mut whole, &mut halves].map(|session| step(session, 0));
    assert!(
        (losses[0] - losses[1]).abs() < 0.01 * losses[0],
        "{model}: {losses:?}"
    );
    let (mut difference, mut square) = (0.0, 0.0);
    for name in &names {
        let [one, other] = [&mut whole, &mut halves].map(|session| session.read(name).unwrap());
        for (one, other) in one.iter().zip(other) {
            difference += f64::from(one - other).powi(2);
            square += f64::from(*one).powi(2);
        }
    }
    let error = (difference / square).sqrt();
    // Roundings to 11 bits at every layer, and slopes that they turn.
    assert!((1e-5..0.1).contains(&error), "{model}: {error}");
    let transient = |session: &Session| {
        let peak = &session.plan().programs[0].peak;
        peak.height - peak.persistent
    };
    let (before, after) = (transient(&whole), transient(&halves));
    assert!(after * 10 < before * 8, "{model}: {after} of {before}");
    let program = halves.main_program();
    let mut halved = 0;
    for (at, value) in program.values.iter().enumerate() {
        if let Layout::HalfMap(_) = value.layout {
            let same = whole.main_program().find(&value.name).unwrap();
            let bytes = whole.main_program().bytes(same);
            assert_eq!(2 * program.bytes(ValueId(at)), bytes, "{}", value.name);
            halved += 1;
        }
    }
    assert!(halved > 40, "{halved}");
    let arena = session_arena(&halves);
    assert_eq!(arena, halves.plan().arena_bytes, "{model}");
    assert!(whole.loss_scale().unwrap().is_none());
    assert_eq!(
        (scale(&mut halves).steps, scale(&mut halves).last),
        (1.0, 1024.0)
    );
}

fn session_arena(session: &Session) -> u64 {
    let ledger = session.device().ledger();
    ledger.reserved_in(smidgen::gpu::Category::Arena)
}

#[test]
fn a_step_that_overflows_is_skipped_and_the_next_is_not() {
    let mut session = session("resnet20", true);
    session
        .write(SCALE, &[2.0_f32.powi(60), 3.0, 0.0, 0.0])
        .unwrap();
    let before = parameters(&mut session);
    assert!(step(&mut session, 0).is_finite());
    assert!(!session.is_halted().unwrap());
    let state = scale(&mut session);
    assert_eq!(
        (state.scale, state.steps, state.skipped),
        (2.0_f32.powi(59), 0.0, 1.0)
    );
    for ((name, before), (_, after)) in before.iter().zip(parameters(&mut session)) {
        // Statistics of the forward pass are no affair of the gradients.
        if !name.contains("running") {
            assert_eq!(*before, after, "{name}");
        }
    }
    session.write(SCALE, &[1024.0, 0.0, 1.0, 0.0]).unwrap();
    step(&mut session, 1);
    assert_eq!(scale(&mut session).steps, 1.0);
    assert!(
        (before.iter())
            .zip(parameters(&mut session))
            .any(|(before, after)| before.0.ends_with("weight") && before.1 != after.1)
    );
}

#[test]
fn a_run_goes_on_bit_for_bit_in_less_memory_too() {
    let mut one = session("resnet20", true);
    // A scale at which no step overflows.
    one.write(SCALE, &[1024.0, 0.0, 0.0, 0.0]).unwrap();
    step(&mut one, 0);
    let graph = network("resnet20");
    let plans = Plans::new(&graph, device().facts(), &options(training(true))).unwrap();
    let least = plans.least().unwrap();
    let predicted = least.plan().arena_bytes;
    let mut other = Session::planned(device(), &graph, &options(training(true)), 7, least).unwrap();
    assert_eq!(session_arena(&other), predicted);
    assert!(predicted < one.plan().arena_bytes);
    other.load(&one.weights().unwrap()).unwrap();
    assert!(one.state_names().contains(&SCALE.to_owned()));
    for name in one.state_names() {
        let state = one.read(&name).unwrap();
        other.write(&name, &state).unwrap();
    }
    let before = parameters(&mut one);
    for at in 1..3 {
        assert_eq!(step(&mut one, at), step(&mut other, at));
    }
    assert_eq!((scale(&mut one).steps, scale(&mut one).skipped), (3.0, 0.0));
    assert_ne!(before, parameters(&mut one));
    assert_eq!(parameters(&mut one), parameters(&mut other));
    assert_eq!(scale(&mut one), scale(&mut other));

    let (images, labels) = shapes_batch(BATCH as usize);
    let last = StepOptions {
        step: 3,
        learning_rate: 0.01,
        seed: 5,
    };
    other.train_step_guarded(&images, &labels, &last).unwrap();
    step(&mut one, 3);
    assert_eq!(parameters(&mut one), parameters(&mut other));
}

#[test]
fn a_plan_for_other_maps_is_refused() {
    let plan = PlanFile::of(&session("resnet20", true));
    let other = Training {
        plan: Some(plan),
        ..training(false)
    };
    let error = Session::new(device(), &network("resnet20"), &options(other), 1).unwrap_err();
    assert!(matches!(error, Error::PlanFile { .. }), "{error}");
    assert!(error.to_string().contains("f16"), "{error}");
}

#[test]
fn masks_do_not_grow_by_gradients_that_may_overflow() {
    let wanted = Training {
        growth: Growth::Gradient,
        ..training(true)
    };
    let error = Session::new(device(), &network("resnet20"), &options(wanted), 1).unwrap_err();
    assert!(matches!(error, Error::Recipe { .. }), "{error}");
    assert!(error.to_string().contains("f16"), "{error}");
}
