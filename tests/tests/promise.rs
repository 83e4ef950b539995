//! Random networks, batches, budgets and forms: never over the budget, and exact plans exact to the bit.

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use smidgen::forms::Form;
use smidgen::{Bytes, Error, Graph, Plans, Session, SessionOptions, StepOptions, Training, zoo};
use smidgen_tests::device;

const NETWORKS: [(&str, u32); 5] = [
    ("resnet20", 32),
    ("resnet32", 16),
    ("vgg11_bn", 32),
    ("mobilenet_v2", 32),
    ("resnet18", 32),
];

/// Bits of all weights and the loss after two steps on made-up pictures.
fn trained(session: &mut Session, side: u32) -> Result<(Vec<u32>, bool), Error> {
    let batch = session.batch();
    let images: Vec<f32> = (0..batch * side * side * 4)
        .map(|at| {
            if at % 4 == 3 {
                0.0
            } else {
                ((at * 37 % 101) as f32 - 50.0) / 40.0
            }
        })
        .collect();
    let labels: Vec<u32> = (0..batch).map(|at| at % 10).collect();
    let mut finite = true;
    for step in 0..2 {
        let options = StepOptions {
            step,
            learning_rate: 0.05,
            seed: 3,
        };
        session.train_step(&images, &labels, &options)?;
        finite &= session
            .metrics()?
            .is_some_and(|metrics| metrics.loss().is_finite());
    }
    let weights = session.weights()?;
    let values = weights.tensors.values().flat_map(|tensor| &tensor.values);
    Ok((values.map(|value| value.to_bits()).collect(), finite))
}

fn reserved(session: &Session) -> u64 {
    let report = session.device().wgpu().generate_allocator_report();
    let allocator = report.map_or(0, |report| report.total_reserved_bytes);
    session.device().ledger().reserved().max(allocator)
}

fn run(graph: &Graph, side: u32, batch: u32, share: f64, quality: f64) -> Result<(), Error> {
    let training = Training {
        quality,
        ..Training::default()
    };
    let options = |budget| SessionOptions {
        batch,
        training: Some(training.clone()),
        budget,
    };
    let plans = Plans::new(graph, device().facts(), &options(None))?;
    let least = plans.least()?.footprint().total();
    let mut whole = Session::new(device(), graph, &options(None), 1)?;
    let all = whole.footprint().total();
    let budget = Bytes(least.0 + (share * (all.0 - least.0) as f64) as u64);
    let mut session = Session::new(device(), graph, &options(Some(budget)), 1)?;
    let (expected, _) = trained(&mut whole, side)?;
    let (found, finite) = trained(&mut session, side)?;
    let context = format!("{} {batch} in {budget}, quality {quality}", graph.name());
    assert!(finite, "{context}");
    assert!(
        reserved(&session) <= budget.0,
        "{context}: {}",
        reserved(&session)
    );
    let coded = session
        .forms()
        .values()
        .any(|form| matches!(form, Form::Coded(_) | Form::Masked(_)));
    assert!(
        coded || expected == found,
        "{context}: an exact plan changed a bit"
    );
    assert!(quality > 0.0 || !coded, "{context}: nobody allowed codes");
    match Session::new(device(), graph, &options(Some(Bytes(least.0 - 1))), 1) {
        Err(Error::BudgetTooSmall { least: named, .. }) => assert_eq!(named, least, "{context}"),
        other => panic!("{context}: {:?} below the least", other.map(|_| ())),
    }
    Ok(())
}

fn random_runs(cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let strategy = (0..NETWORKS.len(), 1_u32..7, 0.0..1.0_f64, 0..2_u32);
    TestRunner::new(config)
        .run(&strategy, |(which, batch, share, lossy)| {
            let (model, side) = NETWORKS[which];
            let graph = zoo::build(model, 10, [3, side, side]).unwrap();
            // Batch norm on a single pixel learns nothing and is refused.
            let batch = batch + 1;
            run(&graph, side, batch, share, f64::from(lossy) * 0.05)
                .map_err(|error| TestCaseError::fail(error.to_string()))
        })
        .unwrap();
}

#[test]
fn never_over() {
    random_runs(5);
}

/// Some minutes: `cargo test --release -p smidgen-tests --test promise -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn never_over_in_two_hundred_runs() {
    random_runs(200);
}
