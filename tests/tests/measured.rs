//! Plans that were measured, raced and written down.

use smidgen::forms::Form;
use smidgen::gpu::{Category, DeviceFacts};
use smidgen::{
    Blueprint, Bytes, Error, PlanFile, Plans, Session, SessionOptions, Training, Tuning,
};
use smidgen_graph::{Builder, Convolution, Graph};
use smidgen_tests::{device, network, shapes_batch};

fn options(
    batch: u32,
    quality: f64,
    budget: Option<Bytes>,
    plan: Option<PlanFile>,
) -> SessionOptions {
    SessionOptions {
        batch,
        training: Some(Training {
            quality,
            plan,
            ..Training::default()
        }),
        budget,
    }
}

fn weights_after_a_step(session: &mut Session) -> Vec<u32> {
    let (images, labels) = shapes_batch(session.batch() as usize);
    let step = smidgen::StepOptions {
        step: 0,
        learning_rate: 0.1,
        seed: 1,
    };
    session.train_step(&images, &labels, &step).unwrap();
    session.metrics().unwrap();
    let weights = session.weights().unwrap();
    let values = weights.tensors.values().flat_map(|tensor| &tensor.values);
    values.map(|value| value.to_bits()).collect()
}

/// Few shapes, because every variant of every shape is compiled to be measured.
fn small() -> Graph {
    let mut network = Builder::new("small", [3, 32, 32]).unwrap();
    let mut node = network.input();
    for (at, channels) in [8, 8, 8, 8].into_iter().enumerate() {
        let convolution = Convolution::new(channels, 3).padding(1);
        node = network
            .convolution(&format!("conv{at}"), node, convolution)
            .unwrap();
        node = network.batch_norm(&format!("bn{at}"), node).unwrap();
        node = network.relu(node).unwrap();
    }
    node = network.global_average_pool(node).unwrap();
    node = network.linear("fc", node, 10).unwrap();
    network.finish(node).unwrap()
}

#[test]
fn what_is_measured_and_raced_stays_within_the_budget_and_changes_no_bit() {
    let graph = small();
    let folder = tempfile::tempdir().unwrap();
    let tuning = Tuning::On {
        cache: Some(folder.path().into()),
    };
    let session = |options: &SessionOptions, tuning: &Tuning| {
        Session::tuned(device(), &graph, options, 1, tuning, |_, _| {}).unwrap()
    };
    let plans = Plans::new(&graph, device().facts(), &options(16, 0.0, None, None)).unwrap();
    let points = plans.points().unwrap();
    let budget = points[points.len() / 2].bytes;
    let mut tuned = session(&options(16, 0.0, Some(budget), None), &tuning);
    let report = tuned.tuning().clone();
    let costs = &report.costs;
    assert!(
        costs.operations > 10 && costs.measured + costs.left == costs.operations,
        "{report:?}"
    );
    assert!(tuned.device().ledger().reserved() <= budget.0);
    assert!(tuned.forms().values().all(|form| form.is_made_again()));
    // The same kernels without a budget: the same bits.
    let choices = Tuning::Recorded(tuned.choices().clone());
    let mut whole = session(&options(16, 0.0, None, None), &choices);
    assert!(whole.forms().is_empty());
    assert_eq!(whole.choices(), tuned.choices());
    assert!(weights_after_a_step(&mut tuned) == weights_after_a_step(&mut whole));

    // With codes there are others to race with, of which the fastest wins.
    let coded = session(&options(16, 0.6, Some(budget), None), &tuning);
    let race = &coded.tuning().race;
    assert_eq!(race[0].plan, "planned");
    assert!(race.len() > 1, "nothing to race with: {race:?}");
    let own = (race.iter()).find(|entry| &entry.forms == coded.forms());
    let own = own.and_then(|entry| entry.seconds).unwrap();
    assert!(own <= race[0].seconds.unwrap(), "{race:?}");
    assert!(coded.device().ledger().reserved() <= budget.0);

    // Copies to the host's memory and back are measured, too, and only once.
    let host_budget = Bytes(1 << 20);
    let mut options = options(16, 0.0, Some(budget), None);
    if let Some(training) = &mut options.training {
        training.host_budget = Some(host_budget);
    }
    let with_host = || {
        let facts = DeviceFacts {
            host_memory: true,
            ..device().facts().clone()
        };
        let device = device().taken_for(facts);
        Session::tuned(device, &graph, &options, 1, &tuning, |_, _| {}).unwrap()
    };
    let first = with_host();
    let costs = &first.tuning().costs;
    assert!(costs.measured >= 2 && costs.left == 0, "{costs:?}");
    let ledger = first.device().ledger();
    assert!(ledger.reserved() <= budget.0);
    assert!(ledger.reserved_in(Category::Host) <= host_budget.0);
    drop(ledger);
    assert_eq!(with_host().tuning().costs.measured, 0);
}

#[test]
fn a_plan_is_written_down_and_followed() {
    let graph = network("resnet20");
    let facts = device().facts().clone();
    let lossy = options(4, 0.02, None, None);
    let plans = Plans::new(&graph, &facts, &lossy).unwrap();
    let least = plans.least().unwrap();
    let file = serde_json::to_string(&plans.file(least.forms())).unwrap();
    let plan = PlanFile::from_json(&file).unwrap();
    // Followed whatever the planner would choose: here there is no budget and nothing lossy is asked for.
    let with_plan = |graph, batch, budget| {
        Blueprint::new(
            graph,
            &facts,
            &options(batch, 0.0, budget, Some(plan.clone())),
        )
    };
    let followed = with_plan(&graph, 4, None).unwrap();
    assert_eq!(followed.forms(), least.forms());
    assert!(
        followed
            .forms()
            .values()
            .any(|form| matches!(form, Form::Coded(_) | Form::Masked(_)))
    );
    assert_eq!(followed.footprint().total(), least.footprint().total());
    let session = Session::new(
        device(),
        &graph,
        &options(4, 0.0, None, Some(plan.clone())),
        1,
    )
    .unwrap();
    assert_eq!(PlanFile::of(&session), plan);

    let message = |result: Result<Blueprint, Error>| result.unwrap_err().to_string();
    let other = network("vgg11_bn");
    let text = message(with_plan(&other, 4, None));
    assert!(text.contains("another network"), "{text}");
    let text = message(with_plan(&graph, 8, None));
    assert!(
        text.contains("a batch of 4, and this one is of 8"),
        "{text}"
    );
    let text = message(with_plan(&graph, 4, Some(Bytes(1 << 20))));
    assert!(text.contains("name a larger one, or plan anew"), "{text}");
    let mut other = facts.clone();
    other.max_binding_bytes /= 2;
    let text = message(Blueprint::new(
        &graph,
        &other,
        &options(4, 0.0, None, Some(plan.clone())),
    ));
    assert!(text.contains("other limits"), "{text}");
    let text = PlanFile::from_json("{").unwrap_err().to_string();
    assert!(text.contains("it is no plan"), "{text}");
}
