//! Gradient filtering in whole networks, on the device.

use smidgen::forms::Form;
use smidgen::gpu::{DeviceFacts, DeviceKind, DeviceRequest};
use smidgen::{
    Blueprint, Bytes, Closeness, FilterChoice, FilterState, Graph, Optimizer, Plans, Probe,
    Session, SessionOptions, StashPoint, StepOptions, Training, closeness, explain_filters,
    filter_close_ones, filter_where_demanded, zoo,
};
use smidgen_graph::{Layer, Layout, OperationKind, ValueId};
use smidgen_tests::{device, network, shapes_batch};
use std::collections::BTreeSet;

fn training(keep_gradients: bool) -> Training {
    Training {
        optimizer: Optimizer::Sgd {
            momentum: 0.9,
            nesterov: false,
            weight_decay: 0.0,
        },
        keep_gradients,
        filter_state: (!keep_gradients).then_some(FilterState::Pair),
        ..Training::default()
    }
}

/// The last convolutions trained, batch norms fixed.
fn tuned(mut graph: Graph, convolutions: usize, patch: Option<u32>) -> Graph {
    graph.train_last(convolutions).unwrap();
    let norms: Vec<String> = (graph.nodes().iter())
        .filter(|node| matches!(node.layer, Layer::BatchNorm { .. }))
        .map(|node| node.name.clone())
        .collect();
    for norm in &norms {
        graph.freeze(norm).unwrap();
    }
    graph.freeze_statistics();
    if let Some(patch) = patch {
        graph.filter_last(convolutions, patch).unwrap();
    }
    graph
}

/// Bytes of what the weight gradients of convolutions read of the forward pass, as the ledger of a session has them that has taken a step; and those of
/// its arena there. As many can be read back.
fn stored_bytes(graph: &Graph) -> (u64, u64) {
    let options = SessionOptions {
        batch: 1,
        training: Some(training(false)),
        budget: None,
    };
    let mut session = Session::new(device(), graph, &options, 1).unwrap();
    let [channels, height, width] = graph.input_shape();
    let images = vec![0.5; (channels.next_multiple_of(4) * height * width) as usize];
    let step = StepOptions {
        step: 0,
        learning_rate: 0.01,
        seed: 1,
    };
    session.train_step(&images, &[3], &step).unwrap();
    session.metrics().unwrap();
    let program = session.main_program();
    let mut stored: BTreeSet<ValueId> = BTreeSet::new();
    for operation in &program.operations {
        let of_weight = match &operation.kind {
            OperationKind::ConvolutionWeightGradient { shape, .. } => shape.height > 1,
            OperationKind::FilterWeightGradient { .. } => true,
            _ => false,
        };
        if of_weight {
            let needs = operation.needs().into_iter().map(|(id, _)| id);
            stored.extend(needs.filter(|id| matches!(program.value(*id).layout, Layout::Map(_))));
        }
    }
    let names: Vec<String> = (stored.iter())
        .map(|id| program.value(*id).name.clone())
        .collect();
    let numbers = names.iter().map(|name| session.read(name).unwrap().len());
    let read = 4 * numbers.sum::<usize>() as u64;
    let ledger = session.device().ledger();
    let held = (ledger.held().iter())
        .filter(|held| held.within == "arena" && names.contains(&held.label))
        .map(|held| held.bytes);
    let bytes = held.sum();
    assert_eq!(bytes, read);
    let arena = (ledger.entries().iter())
        .filter(|entry| entry.category == smidgen::gpu::Category::Arena)
        .map(|entry| entry.bytes);
    (bytes, arena.sum())
}

/// The paper's example. What the ledger holds shrinks by more: gradients and momenta are held once for all nine taps.
#[test]
fn the_last_four_convolutions_of_resnet18_hold_490_kib_or_112() {
    let resnet = || zoo::build("resnet18", 10, [3, 224, 224]).unwrap();
    let (exact, arena) = stored_bytes(&tuned(resnet(), 4, None));
    let (filtered, smaller) = stored_bytes(&tuned(resnet(), 4, Some(2)));
    assert_eq!((exact, filtered), (490 << 10, 112 << 10));
    assert!(
        arena - smaller > exact - filtered,
        "the arena shrank from {arena} to {smaller} only"
    );
}

fn step(graph: &Graph) -> Vec<Vec<f32>> {
    let (images, labels) = shapes_batch(4);
    let options = SessionOptions {
        batch: 4,
        training: Some(training(false)),
        budget: None,
    };
    let mut session = Session::new(device(), graph, &options, 1).unwrap();
    for step in 0..2 {
        let options = StepOptions {
            step,
            learning_rate: 0.05,
            seed: 0,
        };
        session.train_step(&images, &labels, &options).unwrap();
        session.metrics().unwrap();
    }
    (graph.parameters().iter())
        .map(|parameter| session.read(&parameter.name).unwrap())
        .collect()
}

#[test]
fn the_gradient_behind_a_global_average_stays_close_and_auto_keeps_what_does() {
    let (images, labels) = shapes_batch(8);
    let probe = Probe {
        images: &images,
        labels: &labels,
        weights: None,
        seed: 1,
        budget: None,
    };
    let request = DeviceRequest::default();
    let graph = tuned(network("resnet20"), 1, Some(2));
    let found = closeness(&request, &graph, &probe).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].layer, "layer3.2.conv2");
    assert!(found[0].cosine > 0.8, "{found:?}");

    let mut graph = tuned(network("resnet20"), 4, None);
    FilterChoice::Auto.apply(&mut graph, 4).unwrap();
    assert_eq!(graph.filters().count(), 4);
    let worst = (closeness(&request, &graph, &probe).unwrap().iter())
        .map(|layer| layer.cosine)
        .fold(1.0, f64::min);
    let least = (worst + 1.0) / 2.0;
    let kept = filter_close_ones(&request, &mut graph, &probe, least).unwrap();
    assert!(kept.len() < 4);
    assert!(kept.iter().all(|layer| layer.cosine >= least));
    assert_eq!(graph.filters().count(), kept.len());
}

/// With a budget a filter is a form that the planner may choose: only where the budget demands it, and no more of them than it takes. What that is
/// depends on what a device is thought to be good at, so a discrete one is asked for as well, whichever this is.
#[test]
fn a_budget_takes_as_few_filters_as_it_needs() {
    let device = device();
    let here = device.facts();
    let discrete = DeviceFacts {
        kind: DeviceKind::Discrete,
        subgroup_sizes: Some((32, 32)),
        ..here.clone()
    };
    for facts in [here, &discrete] {
        few_filters(facts);
    }
}

fn few_filters(facts: &DeviceFacts) {
    let options = |budget| SessionOptions {
        batch: 8,
        training: Some(training(false)),
        budget,
    };
    let exact = tuned(network("resnet20"), 19, None);
    let mut all = exact.clone();
    FilterChoice::Auto.apply(&mut all, 2).unwrap();
    // The further back, the less close.
    let close: Vec<Closeness> = (all.filters().zip(1..))
        .map(|((layer, patch), at)| Closeness {
            layer: layer.to_owned(),
            patch,
            cosine: 0.8 + 0.01 * f64::from(at),
        })
        .collect();
    let kept = |budget: Option<Bytes>| -> BTreeSet<String> {
        let mut graph = all.clone();
        filter_where_demanded(&mut graph, facts, &options(budget), &close).unwrap();
        graph.filters().map(|(layer, _)| layer.to_owned()).collect()
    };
    let points = explain_filters(&all, facts, &options(None), &close).unwrap();
    assert_eq!(points.len(), 19);
    for point in &points {
        assert!(point.bytes < 0, "{point}");
        let (cosine, bias) = (point.cosine.unwrap(), point.bias.unwrap());
        assert!((cosine + bias - 1.0).abs() < 1e-12);
    }
    // Without a budget time alone demands: a filter that saves none goes.
    let faster = points.iter().filter(|point| point.seconds < 0.0);
    let faster: BTreeSet<String> = faster.map(|point| point.layer.clone()).collect();
    assert!(!faster.is_empty());
    assert_eq!(kept(None), faster);

    let whole = Plans::whole(&exact, facts, &options(None)).unwrap();
    assert!(kept(Some(whole.reserved)).is_empty());
    let least = |graph: &Graph| {
        let plans = Plans::new(graph, facts, &options(None)).unwrap();
        plans.least().unwrap().footprint().total()
    };
    let (exact_least, filtered_least) = (least(&exact), least(&all));
    assert!(filtered_least < exact_least);
    let seconds = |layers: &mut dyn Iterator<Item = &String>, budget| {
        let mut graph = exact.clone();
        layers.for_each(|layer| graph.filter(layer, 2).unwrap());
        let plans = Plans::new(&graph, facts, &options(None)).unwrap();
        plans.seconds_within(budget).unwrap()
    };
    let bias = |layers: &mut dyn Iterator<Item = &String>| -> f64 {
        let of = |layer: &String| points.iter().find(|point| point.layer == *layer).unwrap();
        layers.map(|layer| of(layer).bias.unwrap()).sum()
    };
    let by_closeness: Vec<&String> = close.iter().rev().map(|found| &found.layer).collect();
    // No more than it takes, and no worse than the closest so many that are enough.
    let few = |budget: Bytes| {
        let kept = kept(Some(budget));
        let best = seconds(&mut by_closeness.iter().copied(), budget).unwrap();
        let enough = |layers: &mut dyn Iterator<Item = &String>| {
            let aim = best.max(whole.seconds);
            seconds(layers, budget).is_some_and(|found| found <= aim)
        };
        assert!(enough(&mut kept.iter()), "{kept:?}");
        for missed in &kept {
            let others = &mut kept.iter().filter(|layer| *layer != missed);
            assert!(!enough(others), "{missed} of {kept:?}");
        }
        let closest = (1..=19)
            .find(|count| enough(&mut by_closeness[..*count].iter().copied()))
            .unwrap();
        let closest = &mut by_closeness[..closest].iter().copied();
        assert!(bias(&mut kept.iter()) <= bias(closest) + 1e-9, "{kept:?}");
        kept.len()
    };
    // Bytes demand: no exact plan fits.
    let of_bytes = few(Bytes(exact_least.0 - 1));
    assert!((1..19).contains(&of_bytes));
    assert!(few(filtered_least) > of_bytes);
    // Time demands: the exact plan fits, and is slower than keeping everything.
    let middle = Bytes((exact_least.0 + whole.reserved.0) / 2);
    let exactly = seconds(&mut std::iter::empty(), middle);
    assert!(exactly.unwrap() > whole.seconds);
    assert!((1..19).contains(&few(middle)));
}

/// Of all sets of five filters, each planned with all other forms, the one that is chosen has the least bias.
#[test]
fn no_set_of_five_filters_does_with_less_bias() {
    let device = device();
    let facts = device.facts();
    let options = |budget| SessionOptions {
        batch: 8,
        training: Some(training(false)),
        budget,
    };
    let exact = tuned(network("resnet20"), 5, None);
    let mut all = exact.clone();
    FilterChoice::Auto.apply(&mut all, 2).unwrap();
    let layers: Vec<String> = all.filters().map(|(layer, _)| layer.to_owned()).collect();
    let biases = [0.02, 0.07, 0.03, 0.05, 0.04];
    let close: Vec<Closeness> = (layers.iter().zip(biases))
        .map(|(layer, bias)| Closeness {
            layer: layer.clone(),
            patch: 2,
            cosine: 1.0 - bias,
        })
        .collect();
    let sets: Vec<(f64, Plans)> = (0..32_u32)
        .map(|bits| {
            let taken = (0..5).filter(|at| bits >> at & 1 == 1);
            let mut graph = exact.clone();
            let mut sum = 0.0;
            for at in taken {
                graph.filter(&layers[at], 2).unwrap();
                sum += biases[at];
            }
            (sum, Plans::new(&graph, facts, &options(None)).unwrap())
        })
        .collect();
    let whole = Plans::whole(&exact, facts, &options(None)).unwrap();
    let least = |plans: &Plans| plans.least().unwrap().footprint().total().0;
    let (low, high) = (least(&sets[31].1), least(&sets[0].1));
    let mut found = BTreeSet::new();
    for step in 0..6 {
        let budget = Bytes(low + (whole.reserved.0.max(high) - low) / 6 * step);
        let seconds = |plans: &Plans| plans.seconds_within(budget).unwrap();
        let aim = whole.seconds.max(seconds(&sets[31].1).unwrap());
        let enough = (sets.iter())
            .filter(|(_, plans)| seconds(plans).is_some_and(|found| found <= aim))
            .map(|(bias, _)| *bias);
        let best = enough.fold(f64::MAX, f64::min);
        let mut graph = all.clone();
        filter_where_demanded(&mut graph, facts, &options(Some(budget)), &close).unwrap();
        let kept: Vec<&str> = graph.filters().map(|(layer, _)| layer).collect();
        let at = |layer: &str| layers.iter().position(|one| one == layer).unwrap();
        let sum: f64 = kept.iter().map(|layer| biases[at(layer)]).sum();
        assert!((sum - best).abs() < 1e-9, "{budget}: {kept:?}, {best}");
        found.insert(kept.len());
    }
    assert!(found.len() > 2, "{found:?}");
}

/// Patch sums in fewer bits: a form like any other, whose error is zero on the mean.
#[test]
fn patch_sums_are_stashed_in_fewer_bits() {
    let device_facts = device().facts().clone();
    let graph = tuned(network("resnet20"), 19, Some(2));
    let options = |quality, budget| SessionOptions {
        batch: 4,
        training: Some(Training {
            quality,
            ..training(true)
        }),
        budget,
    };
    let plans = Plans::new(&graph, &device_facts, &options(0.01, None)).unwrap();
    let is_coded_sum = |stash: &StashPoint| {
        stash.value.ends_with("patch_sums") && matches!(stash.form, Form::Coded(_))
    };
    let point = (plans.points().unwrap().into_iter())
        .find(|point| {
            plans
                .explain(&point.forms)
                .unwrap()
                .iter()
                .any(is_coded_sum)
        })
        .expect("a plan that holds patch sums in a code");
    let explained = plans.explain(&point.forms).unwrap();
    for stash in explained.iter().filter(|stash| is_coded_sum(stash)) {
        let share = stash.held_bytes as f64 / stash.whole_bytes as f64;
        assert!(share < 0.6, "{stash:?}");
    }

    let (images, labels) = shapes_batch(4);
    let gradients = |quality, budget, seeds: u32| -> Vec<Vec<f64>> {
        let options = options(quality, budget);
        let mut session = Session::new(device(), &graph, &options, 1).unwrap();
        let names = graph
            .filters()
            .map(|(layer, _)| format!("gradient of {layer}.weight"));
        let names: Vec<String> = names.collect();
        let runs = (0..seeds).map(|seed| {
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
        runs.collect()
    };
    let exact = gradients(0.0, None, 1).remove(0);
    let runs = gradients(0.01, Some(point.bytes), 16);
    let norm = exact.iter().map(|value| value * value).sum::<f64>().sqrt();
    let off = |found: &dyn Fn(usize) -> f64| {
        let squares = exact
            .iter()
            .enumerate()
            .map(|(at, value)| (found(at) - value).powi(2));
        squares.sum::<f64>().sqrt() / norm
    };
    let single = runs.iter().map(|run| off(&|at| run[at])).sum::<f64>() / 16.0;
    let mean = off(&|at| runs.iter().map(|run| run[at]).sum::<f64>() / 16.0);
    assert!(single > 1e-7 && single < 0.2, "one seed is {single} off");
    assert!(
        mean < single / 2.5,
        "one seed is {single} off, the mean of 16 {mean}"
    );
}

/// A filtered step runs in every network of the zoo, also under the least budget that its plan asks for.
#[test]
fn filtered_networks_plan_and_run() {
    for model in ["resnet20", "mobilenet_v2"] {
        let mut graph = network(model);
        graph.filter_last(6, 2).unwrap();
        let options = SessionOptions {
            batch: 4,
            training: Some(Training::default()),
            budget: None,
        };
        let exact = Blueprint::new(&network(model), device().facts(), &options).unwrap();
        let filtered = Blueprint::new(&graph, device().facts(), &options).unwrap();
        let persistent = |blueprint: &Blueprint| blueprint.plan().programs[0].peak.persistent;
        assert!(persistent(&filtered) <= persistent(&exact), "{model}");
        let values = step(&graph);
        assert!(
            values.iter().flatten().all(|value| value.is_finite()),
            "{model}"
        );
    }
}

/// The loss falls along the gradient by as much as the gradient says, with frozen batch norms that use their running statistics.
#[test]
fn frozen_statistics_give_the_gradient_of_the_loss_on_the_device() {
    let convolutions = 5;
    let (images, labels) = shapes_batch(8);
    let graph = tuned(network("resnet20"), convolutions, None);
    let options = SessionOptions {
        batch: 8,
        training: Some(training(true)),
        budget: None,
    };
    let mut session = Session::new(device(), &graph, &options, 1).unwrap();
    let still = StepOptions {
        step: 0,
        learning_rate: 0.0,
        seed: 0,
    };
    let loss = |session: &mut Session| {
        session.train_step(&images, &labels, &still).unwrap();
        session.metrics().unwrap().unwrap().loss()
    };
    loss(&mut session);
    let mut moved = 0;
    for parameter in graph.parameters().iter().filter(|one| one.trainable) {
        let name = &parameter.name;
        let gradient = session.read(&format!("gradient of {name}")).unwrap();
        let square: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
        if square < 1e-12 {
            continue;
        }
        moved += 1;
        let weight = session.read(name).unwrap();
        // A change of about a hundredth of the loss.
        let step = 0.02 / square;
        let mut at = |along: f64| {
            let changed: Vec<f32> = (weight.iter().zip(&gradient))
                .map(|(w, g)| w + (along * step) as f32 * g)
                .collect();
            session.write(name, &changed).unwrap();
            loss(&mut session)
        };
        let found = (at(0.5) - at(-0.5)) / 0.02;
        session.write(name, &weight).unwrap();
        loss(&mut session);
        assert!((found - 1.0).abs() < 0.05, "{name}: {found}");
    }
    assert!(moved >= convolutions);
}

/// Steps on one batch bring its loss down, with gradients that are kept and with gradients whose memory is used again.
#[test]
fn frozen_statistics_learn_a_batch_whether_gradients_are_kept_or_not() {
    let (images, labels) = shapes_batch(8);
    for patch in [None, Some(2)] {
        let graph = tuned(network("resnet20"), 5, patch);
        let mut losses: Vec<Vec<f64>> = Vec::new();
        for keep_gradients in [true, false] {
            let options = SessionOptions {
                batch: 8,
                training: Some(training(keep_gradients)),
                budget: None,
            };
            let mut session = Session::new(device(), &graph, &options, 1).unwrap();
            let steps = (0..40).map(|step| {
                let options = StepOptions {
                    step,
                    learning_rate: 2e-5,
                    seed: 0,
                };
                session.train_step(&images, &labels, &options).unwrap();
                session.metrics().unwrap().unwrap().loss()
            });
            losses.push(steps.collect());
        }
        let (kept, reused) = (&losses[0], &losses[1]);
        assert!(kept[39] < 0.7 * kept[0], "{patch:?}: {kept:?}");
        for (a, b) in kept.iter().zip(reused) {
            assert!(
                (a - b).abs() < 1e-3 * a.abs().max(0.1),
                "{kept:?}\n{reused:?}"
            );
        }
    }
}
