//! Stashes in error-bounded codes: a plan that says so, and the errors that a run tells.

use smidgen::forms::{Code, Form};
use smidgen::plan::Preset;
use smidgen::{PlanFile, Plans, Session, SessionOptions, StashBound, StepOptions, Training};
use smidgen_tests::{device, network, shapes_batch};

const BATCH: u32 = 4;

fn options(plan: Option<PlanFile>) -> SessionOptions {
    SessionOptions {
        batch: BATCH,
        training: Some(Training {
            keep_gradients: true,
            quality: 1.0,
            plan,
            ..Training::default()
        }),
        budget: None,
    }
}

/// The loss of a step, the gradients of all convolutions, and the errors that it told.
fn step(session: &mut Session) -> (u64, Vec<f32>, Vec<StashBound>) {
    let (images, labels) = shapes_batch(BATCH as usize);
    let options = StepOptions {
        step: 0,
        learning_rate: 0.0,
        seed: 5,
    };
    session.train_step(&images, &labels, &options).unwrap();
    let loss = session.metrics().unwrap().unwrap().loss().to_bits();
    let parameters = session.graph().parameters().iter();
    let names: Vec<String> = parameters
        .filter(|parameter| parameter.shape.len() == 4)
        .map(|parameter| format!("gradient of {}", parameter.name))
        .collect();
    let gradients = names.iter().flat_map(|name| session.read(name).unwrap());
    let gradients = gradients.collect();
    (loss, gradients, session.bounds().unwrap())
}

#[test]
fn bytes_are_kept_and_errors_are_told() {
    let graph = network("resnet20");
    let mut whole = Session::new(device(), &graph, &options(None), 1).unwrap();
    let (loss, exact, none) = step(&mut whole);
    assert!(none.is_empty());

    let plans = Plans::new(&graph, device().facts(), &options(None)).unwrap();
    let blueprint = plans.preset(Preset::Comet).unwrap();
    let predicted = blueprint.footprint().total();
    let mut session = Session::planned(device(), &graph, &options(None), 1, blueprint).unwrap();
    assert!(session.bounds().unwrap().is_empty(), "before any step");
    assert!(session.device().ledger().reserved() <= predicted.0);
    assert!(predicted < whole.footprint().total());
    let (coded_loss, gradients, bounds) = step(&mut session);
    assert_eq!(loss, coded_loss, "the forward pass is exact");
    let bounded =
        |form: &&Form| matches!(form, Form::Coded(code) | Form::Masked(code) if code.is_bounded());
    assert_eq!(
        bounds.len(),
        session.forms().values().filter(bounded).count()
    );
    assert!(bounds.len() > 10, "{bounds:?}");
    for bound in &bounds {
        // Half a step, of which seven reach the largest of a group.
        assert!((1e-3..8.0).contains(&bound.error), "{bound:?}");
        assert!((0.2..=1.0).contains(&bound.nonzero), "{bound:?}");
    }
    let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum()
    };
    let off = square(&mut gradients.iter().zip(&exact).map(|(one, other)| one - other));
    let off = (off / square(&mut exact.iter().copied())).sqrt();
    assert!((1e-4..0.5).contains(&off), "{off}");

    // Written down and followed, by name.
    let text = serde_json::to_string(&PlanFile::of(&session)).unwrap();
    assert!(text.contains(r#"{"Masked":"Bounded"}"#), "{text}");
    let plan = PlanFile::from_json(&text).unwrap();
    let mut again = Session::new(device(), &graph, &options(Some(plan)), 1).unwrap();
    assert_eq!(again.forms(), session.forms());
    assert_eq!(step(&mut again).2, bounds);
}

#[test]
fn a_bound_is_not_for_what_has_to_be_exact() {
    // The sum before a ReLU is its mask too.
    let graph = network("resnet20");
    let plans = Plans::new(&graph, device().facts(), &options(None)).unwrap();
    let stashes = plans.explain(&Default::default()).unwrap();
    let sum = stashes.iter().find(|stash| stash.value.ends_with("relu"));
    let name = sum.unwrap().value.clone();
    let blueprint = plans.preset(Preset::KeepAll).unwrap();
    let kept = Session::planned(device(), &graph, &options(None), 1, blueprint).unwrap();
    let mut file = serde_json::to_value(PlanFile::of(&kept)).unwrap();
    file["forms"] = serde_json::json!({ name: { "Coded": Code::Bounded } });
    let plan = PlanFile::from_json(&file.to_string()).unwrap();
    let error = Session::new(device(), &graph, &options(Some(plan)), 1).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("cannot be held as 4 bits, error-bounded"),
        "{error}"
    );
}
