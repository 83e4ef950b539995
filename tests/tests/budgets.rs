//! The budget as a promise: what a plan under a budget computes, and that it stays within it.

use smidgen::forms::Form;
use smidgen::plan::Preset;
use smidgen::{
    Blueprint, Bytes, Error, PlanFile, Plans, Remedy, Session, SessionOptions, StepOptions,
    Training, Tuning,
};
use smidgen_graph::{Builder, Convolution};
use smidgen_reference::numbers::{below, normal};
use smidgen_tests::{device, network, shapes_batch};

fn options(batch: u32, budget: Option<Bytes>) -> SessionOptions {
    SessionOptions {
        batch,
        training: Some(Training::default()),
        budget,
    }
}

/// All parameters and running statistics after some steps, as bits.
fn after_steps(session: &mut Session, steps: u64) -> Vec<(String, Vec<u32>)> {
    let (images, labels) = shapes_batch(session.batch() as usize);
    for step in 0..steps {
        let options = StepOptions {
            step,
            learning_rate: 0.1,
            seed: 1,
        };
        session.train_step(&images, &labels, &options).unwrap();
        session.metrics().unwrap();
    }
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    let weights = session.weights().unwrap();
    (weights.tensors.iter())
        .map(|(name, tensor)| (name.clone(), bits(&tensor.values)))
        .collect()
}

#[test]
fn exact_plans_change_no_bit_and_stay_within_the_budget() {
    for (model, batch) in [("resnet20", 8), ("mobilenet_v2", 2), ("vgg11_bn", 2)] {
        let graph = network(model);
        let mut whole = Session::new(device(), &graph, &options(batch, None), 1).unwrap();
        let expected = after_steps(&mut whole, 3);
        let keep_all = whole.footprint().total();
        drop(whole);
        let plans = Plans::new(&graph, device().facts(), &options(batch, None)).unwrap();
        let least = plans.least().unwrap().footprint().total();
        for budget in [least, Bytes((least.0 + keep_all.0) / 2)] {
            let mut session =
                Session::new(device(), &graph, &options(batch, Some(budget)), 1).unwrap();
            assert!(
                session.forms().values().any(|form| form.is_made_again()),
                "{model}"
            );
            assert!(session.footprint().total() <= budget);
            assert!(
                after_steps(&mut session, 3) == expected,
                "{model} in {budget}"
            );
            assert!(session.device().ledger().reserved() <= budget.0);
            if let Some(report) = session.device().wgpu().generate_allocator_report() {
                assert!(
                    report.total_reserved_bytes <= budget.0,
                    "{model} in {budget}"
                );
            }
        }
        let below = options(batch, Some(Bytes(least.0 - 1)));
        match Session::new(device(), &graph, &below, 1) {
            Err(Error::BudgetTooSmall { least: named, .. }) => assert_eq!(named, least),
            other => panic!("{model}: {other:?}"),
        }
    }
}

#[test]
fn slices_change_no_bit() {
    let graph = network("mobilenet_v2");
    let mut whole = Session::new(device(), &graph, &options(4, None), 1).unwrap();
    let expected = after_steps(&mut whole, 3);
    drop(whole);
    let plans = Plans::new(&graph, device().facts(), &options(4, None)).unwrap();
    let blueprint = Blueprint::new(&graph, device().facts(), &options(4, None)).unwrap();
    let program = blueprint.program();
    let sliced = |slices: &[(&str, u32)]| {
        let forms = slices.iter().map(|(name, count)| {
            let id = program.find(name).unwrap_or_else(|| panic!("{name}"));
            (id, Form::Sliced(*count))
        });
        let training = Training {
            plan: Some(plans.file(&forms.collect())),
            ..Training::default()
        };
        let options = SessionOptions {
            batch: 4,
            training: Some(training),
            budget: None,
        };
        Session::new(device(), &graph, &options, 1)
    };
    // The stem, whose kernel has nine taps; wide maps, in each number of slices; and one before a sum.
    let mut session = sliced(&[
        ("features.0.0", 2),
        ("features.2.conv.0.0", 24),
        ("features.3.conv.0.0", 4),
        ("features.5.conv.0.0", 8),
        ("features.3.conv.2", 2),
    ])
    .unwrap();
    assert!(after_steps(&mut session, 3) == expected);
    assert_eq!(session.forms().len(), 5);
    let error = sliced(&[("features.2.conv.0.0", 5)]).unwrap_err();
    assert!(error.to_string().contains("5 slices"), "{error}");
}

#[test]
fn what_cannot_compute_slices_gives_way_to_the_rule() {
    let mut network = Builder::new("wide", [4, 16, 16]).unwrap();
    let x = network.input();
    let wide = Convolution::new(16, 3).padding(1);
    let x = network.convolution("wide", x, wide).unwrap();
    let x = network.batch_norm("norm", x).unwrap();
    let x = network.relu(x).unwrap();
    let depthwise = wide.groups(16).without_bias();
    let x = network.convolution("depthwise", x, depthwise).unwrap();
    let x = network.global_average_pool(x).unwrap();
    let x = network.linear("fc", x, 10).unwrap();
    let graph = network.finish(x).unwrap();
    let class = "forward 8x4x16x16 to 16, 3x3, padding 1x1";
    let json = format!(r#"{{"{class}":"winograd 2"}}"#);
    let recorded = Tuning::Recorded(serde_json::from_str(&json).unwrap());
    let run = |plan: Option<PlanFile>, tuning: &Tuning| {
        let options = SessionOptions {
            training: Some(Training {
                plan,
                ..Training::default()
            }),
            ..options(8, None)
        };
        let mut session = Session::tuned(device(), &graph, &options, 1, tuning, |_, _| {}).unwrap();
        let pictures = normal(1, 8 * 4 * 16 * 16);
        let step = StepOptions {
            step: 0,
            learning_rate: 0.1,
            seed: 1,
        };
        session
            .train_step(&pictures, &below(2, 10, 8), &step)
            .unwrap();
        let weights = session.weights().unwrap().tensors;
        let mut choices = session.choices().iter();
        let (_, chosen) = choices.find(|(known, _)| *known == class).unwrap();
        (chosen, weights)
    };
    let plans = Plans::new(&graph, device().facts(), &options(8, None)).unwrap();
    let blueprint = Blueprint::new(&graph, device().facts(), &options(8, None)).unwrap();
    let map = blueprint.program().find("wide").unwrap();
    let sliced = plans.file(&[(map, Form::Sliced(2))].into());
    let (by_rule, expected) = run(None, &Tuning::Off);
    assert_ne!(by_rule, "winograd 2");
    assert_eq!(run(None, &recorded).0, "winograd 2");
    assert_eq!(run(Some(sliced), &recorded), (by_rule, expected));
}

#[test]
fn a_larger_budget_is_never_slower() {
    let graph = network("resnet20");
    let plans = Plans::new(&graph, device().facts(), &options(64, None)).unwrap();
    let points = plans.points().unwrap();
    for pair in points.windows(2) {
        assert!(pair[0].bytes > pair[1].bytes && pair[0].seconds <= pair[1].seconds);
    }
    // What is named is what is needed: each point is the answer to its own bytes, and one byte less gives the next.
    for (at, point) in points.iter().enumerate().step_by(9) {
        let within = |budget| plans.within(&graph, &options(64, None), budget);
        assert_eq!(within(point.bytes).unwrap().forms(), &point.forms);
        if let Some(next) = points.get(at + 1) {
            assert_eq!(
                within(Bytes(point.bytes.0 - 1)).unwrap().forms(),
                &next.forms
            );
        }
    }
    let held = |forms| -> u64 {
        let explained = plans.explain(forms).unwrap();
        explained.iter().map(|stash| stash.held_bytes).sum()
    };
    assert!(held(&points[points.len() - 1].forms) < held(&points[0].forms) / 2);
}

/// Each change that a refusal proposes does it; a larger batch, or one layer more that is trained, would not.
#[test]
fn remedies_do_what_they_say() {
    let graph = network("resnet20");
    let quality = |quality| Training {
        quality,
        ..Training::default()
    };
    let options = |batch, training| SessionOptions {
        batch,
        training: Some(training),
        budget: None,
    };
    // Between what 4 bits need and what any exact plan does.
    let least = |lossy| {
        let plans = Plans::new(&graph, device().facts(), &options(16, quality(lossy))).unwrap();
        plans.least().unwrap().footprint().total().0
    };
    let budget = smidgen::Bytes((least(0.02) + least(0.0)) / 2);
    let limited = SessionOptions {
        budget: Some(budget),
        ..options(16, quality(0.0))
    };
    let Err(Error::BudgetTooSmall { remedies, .. }) = Session::new(device(), &graph, &limited, 1)
    else {
        panic!("no exact plan is that small");
    };
    let fits = |graph: &smidgen::Graph, batch, lossy| {
        let limited = SessionOptions {
            budget: Some(budget),
            ..options(batch, quality(lossy))
        };
        Blueprint::new(graph, device().facts(), &limited).is_ok()
    };
    let trained = |last| {
        let mut graph = graph.clone();
        graph.train_last(last).unwrap();
        fits(&graph, 16, 0.0)
    };
    let mut kinds = Vec::new();
    for remedy in remedies {
        kinds.push(match remedy {
            Remedy::Quality(lossy) => {
                assert!(fits(&graph, 16, lossy));
                "quality"
            }
            Remedy::MicroBatch(images) => {
                let training = Training {
                    micro_batch: Some(images),
                    ..quality(0.0)
                };
                let limited = SessionOptions {
                    budget: Some(budget),
                    ..options(16, training)
                };
                Blueprint::new(&graph, device().facts(), &limited).unwrap();
                "parts"
            }
            Remedy::Batch(images) => {
                assert!(fits(&graph, images, 0.0) && !fits(&graph, images + 1, 0.0));
                "batch"
            }
            Remedy::FilterLast(last) => {
                let mut graph = graph.clone();
                graph.filter_last(last, 2).unwrap();
                assert!(fits(&graph, 16, 0.0));
                "filter"
            }
            Remedy::TrainLast(last) => {
                assert!(trained(last) && !trained(last + 1));
                "train"
            }
            other => panic!("{other}"),
        });
    }
    // Sums of gradients from part to part may take what smaller parts save.
    kinds.retain(|kind| *kind != "parts");
    assert_eq!(kinds, ["quality", "batch", "filter", "train"]);
}

/// A tight budget is one that a plan needs to the last byte. What it needs is the arena, which at its fullest moment holds nothing that is not alive but for what
/// packing leaves between; and what stands beside it, which depends on no plan.
#[test]
fn a_tight_budget_is_used_at_the_binding_step() {
    for (model, batch, quality) in [
        ("resnet20", 64, 0.0),
        ("resnet20", 16, 0.02),
        ("vgg11_bn", 8, 0.0),
        ("mobilenet_v2", 4, 0.0),
    ] {
        let graph = network(model);
        let training = Training {
            quality,
            ..Training::default()
        };
        let options = SessionOptions {
            batch,
            training: Some(training),
            budget: None,
        };
        let plans = Plans::new(&graph, device().facts(), &options).unwrap();
        let [least, all] = [plans.least(), plans.preset(Preset::KeepAll)]
            .map(|blueprint| blueprint.unwrap().footprint().total().0);
        for quarter in 0..4 {
            let budget = Bytes(least + (all - least) * quarter / 4);
            let tight = plans.within(&graph, &options, budget).unwrap();
            let peak = &tight.plan().programs[0].peak;
            let alive = peak.persistent + peak.bound;
            let used = alive as f64 / tight.plan().arena_bytes as f64;
            assert!(used >= 0.97, "{model}, quality {quality}, {budget}: {used}");
        }
    }
}

#[test]
fn freed_memory_is_not_read_and_nothing_is_written_beside_its_place() {
    let graph = network("resnet20");
    for quality in [0.0, 0.05] {
        let training = Training {
            quality,
            ..Training::default()
        };
        let options = |budget| SessionOptions {
            batch: 3,
            training: Some(training.clone()),
            budget,
        };
        let plans = Plans::new(&graph, device().facts(), &options(None)).unwrap();
        let least = plans.least().unwrap().footprint().total();
        let mut session = Session::new(device(), &graph, &options(Some(least)), 1).unwrap();
        let start = session.weights().unwrap();
        let expected = after_steps(&mut session, 1);
        let mut session = Session::new(device(), &graph, &options(Some(least)), 1).unwrap();
        session.load(&start).unwrap();
        let (images, labels) = shapes_batch(3);
        let step = StepOptions {
            step: 0,
            learning_rate: 0.1,
            seed: 1,
        };
        session.train_step_guarded(&images, &labels, &step).unwrap();
        assert!(
            after_steps(&mut session, 0) == expected,
            "quality {quality}"
        );
    }
}

/// A session that keeps its gradients, with its forms forced by a budget.
fn gradients(quality: f64, budget: Option<Bytes>, seeds: u32) -> (Vec<Vec<f64>>, Session) {
    let training = Training {
        keep_gradients: true,
        quality,
        ..Training::default()
    };
    let options = SessionOptions {
        batch: 4,
        training: Some(training),
        budget,
    };
    let graph = network("resnet20");
    let mut session = Session::new(device(), &graph, &options, 1).unwrap();
    let start = session.weights().unwrap();
    let (images, labels) = shapes_batch(4);
    let names: Vec<String> = (graph.parameters().iter())
        .filter(|parameter| parameter.shape.len() == 4)
        .map(|parameter| format!("gradient of {}", parameter.name))
        .collect();
    let runs = (0..seeds).map(|seed| {
        session.load(&start).unwrap();
        let options = StepOptions {
            step: 0,
            learning_rate: 0.0,
            seed,
        };
        session.train_step(&images, &labels, &options).unwrap();
        session.metrics().unwrap();
        let read = names.iter().flat_map(|name| session.read(name).unwrap());
        read.map(f64::from).collect()
    });
    (runs.collect(), session)
}

fn distance(left: &[f64], right: &[f64]) -> f64 {
    let squares = left
        .iter()
        .zip(right)
        .map(|(left, right)| (left - right).powi(2));
    squares.sum::<f64>().sqrt()
}

#[test]
fn lossy_gradients_are_right_on_the_mean() {
    let exact = gradients(0.0, None, 1).0.remove(0);
    let norm = distance(&exact, &vec![0.0; exact.len()]);
    let graph = network("resnet20");
    let training = Training {
        keep_gradients: true,
        quality: 0.02,
        ..Training::default()
    };
    let options = SessionOptions {
        batch: 4,
        training: Some(training),
        budget: None,
    };
    let plans = Plans::new(&graph, device().facts(), &options).unwrap();
    let budget = plans.least().unwrap().footprint().total();
    let (runs, session) = gradients(0.02, Some(budget), 16);
    let coded = session
        .forms()
        .values()
        .filter(|form| matches!(form, Form::Coded(_) | Form::Masked(_)))
        .count();
    assert!(coded > 0, "the least plan holds something in a code");
    assert!(session.device().ledger().reserved() <= budget.0);
    let single = runs
        .iter()
        .map(|run| distance(run, &exact) / norm)
        .sum::<f64>()
        / 16.0;
    let mean: Vec<f64> = (0..exact.len())
        .map(|at| runs.iter().map(|run| run[at]).sum::<f64>() / 16.0)
        .collect();
    let mean = distance(&mean, &exact) / norm;
    // Without bias, the mean of 16 is four times as near.
    assert!(single > 1e-4 && single < 0.5, "one seed is {single} off");
    assert!(
        mean < single / 2.5,
        "one seed is {single} off, the mean of 16 {mean}"
    );
}
