//! Stashes in error-bounded codes: a plan that says so, and the errors that a run tells.

use smidgen::forms::{Code, Form};
use smidgen::plan::Preset;
use smidgen::{PlanFile, Plans, Session, SessionOptions, StashBound, StepOptions, Training};
use smidgen_graph::{Builder, Convolution, Pool};
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

/// COMET's prediction: errors that are independent and even between -e and e leave the weight gradient of an output channel with a deviation of e / sqrt(3) times the root of the
/// share of numbers that have one, times the norm of the output gradient.
#[test]
fn the_deviation_of_a_weight_gradient_is_predicted() {
    let mut network = Builder::new("small", [8, 26, 26]).unwrap();
    let mut node = network.input();
    for at in 1..=2 {
        let convolution = Convolution::new(16, 3);
        node = network
            .convolution(&format!("conv{at}"), node, convolution)
            .unwrap();
        node = network.relu(node).unwrap();
        if at == 1 {
            node = network.max_pool(node, Pool::new(2).stride(2)).unwrap();
        }
    }
    node = network.global_average_pool(node).unwrap();
    node = network.linear("fc", node, 4).unwrap();
    let mut graph = network.finish(node).unwrap();
    // With nothing learned before it, nothing follows the weight gradient of the second, whose output gradient is left.
    graph.freeze("conv1").unwrap();
    let mut random = 1_u64;
    let mut uniform = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        (random >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let images: Vec<f32> = (0..BATCH * 8 * 26 * 26).map(|_| uniform()).collect();
    let step = |session: &mut Session| {
        let options = StepOptions {
            step: 0,
            learning_rate: 0.0,
            seed: 5,
        };
        session
            .train_step(&images, &[0, 1, 2, 3], &options)
            .unwrap();
        session.metrics().unwrap();
        let weight = session.read("gradient of conv2.weight").unwrap();
        (weight, session.read("gradient of conv2").unwrap())
    };
    let mut whole = Session::new(device(), &graph, &options(None), 1).unwrap();
    let (exact, output_gradient) = step(&mut whole);
    let plans = Plans::new(&graph, whole.device().facts(), &options(None)).unwrap();
    let stashes = plans.explain(&Default::default()).unwrap();
    let pooled = stashes
        .iter()
        .find(|stash| stash.whole_bytes == u64::from(BATCH * 16 * 12 * 12 * 4))
        .unwrap();
    for code in [Code::Bounded, Code::BoundedEight] {
        let mut file = serde_json::to_value(PlanFile::of(&whole)).unwrap();
        file["forms"] = serde_json::json!({ &pooled.value: { "Coded": code } });
        let plan = PlanFile::from_json(&file.to_string()).unwrap();
        let mut session = Session::new(device(), &graph, &options(Some(plan)), 1).unwrap();
        let (coded, _) = step(&mut session);
        let bound = &session.bounds().unwrap()[0];
        let square = |values: &[f32]| -> f64 {
            let squares = values.iter().map(|value| f64::from(*value).powi(2));
            squares.sum()
        };
        let off: Vec<f32> = (coded.iter().zip(&exact))
            .map(|(coded, exact)| coded - exact)
            .collect();
        let of_a_channel = (16 * 3 * 3) as f64;
        let predicted = bound.error.powi(2) / 3.0 * bound.nonzero * square(&output_gradient);
        let ratio = (square(&off) / (predicted * of_a_channel)).sqrt();
        assert!((0.9..1.1).contains(&ratio), "{code:?}: {ratio}, {bound:?}");
    }
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
