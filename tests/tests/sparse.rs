//! Sparse layers in whole networks: the bytes they take, dense training under the same mask, resuming, and what is refused.

use smidgen::data::{Shapes, Split};
use smidgen::{
    Blueprint, Checkpoints, Distribution, Graph, Growth, Optimizer, Order, Session, SessionOptions,
    Sparsity, StepOptions, Trainer, TrainerOptions, Training, checkpoint, zoo,
};
use smidgen_graph::Role;
use smidgen_recipes::{Mest, MestOptions};
use smidgen_tests::{device, sparse_network};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Weights, gradients and optimiser state of a training program, in bytes.
fn parameter_bytes(graph: &Graph) -> u64 {
    let options = SessionOptions {
        batch: 4,
        training: Some(Training::default()),
        budget: None,
    };
    let session = Session::new(device(), graph, &options, 1).unwrap();
    let program = session.main_program();
    let roles = [
        Role::Parameter,
        Role::ParameterGradient,
        Role::OptimizerState,
    ];
    let values = program
        .values
        .iter()
        .zip(&session.plan().programs[0].values);
    values
        .filter(|(value, _)| roles.contains(&value.role))
        .filter_map(|(_, place)| *place)
        .map(|place| place.bytes)
        .sum()
}

fn small(density: Option<f64>) -> Graph {
    sparse_network([8, 16, 24], density)
}

fn session(graph: &Graph) -> Session {
    growing(graph, Growth::Random)
}

fn growing(graph: &Graph, growth: Growth) -> Session {
    let training = Training {
        growth,
        ..Training::default()
    };
    let options = SessionOptions {
        batch: 4,
        training: Some(training),
        budget: None,
    };
    Session::new(device(), graph, &options, 3).unwrap()
}

#[test]
fn a_ninety_percent_sparse_wide_resnet32_takes_a_seventh_of_the_bytes() {
    let mut graph = zoo::build("resnet32x2", 10, [3, 32, 32]).unwrap();
    let dense = parameter_bytes(&graph);
    graph.sparsify(&Sparsity::uniform(0.1)).unwrap();
    let sparse = parameter_bytes(&graph);
    let share = sparse as f64 / dense as f64;
    assert!(share <= 0.15, "{sparse} of {dense} bytes are {share:.4}");
}

#[test]
fn a_step_is_that_of_the_dense_network_under_the_same_mask() {
    let mut sparse = session(&small(Some(0.5)));
    let names = ["middle.weight", "point.weight", "hidden.weight"];
    let weights = sparse.weights().unwrap();
    let mut dense = session(&small(None));
    // The dense network takes the weights under their masks: what is masked starts at zero.
    dense.load(&weights).unwrap();
    let (images, labels) = smidgen_tests::shapes_batch(4);
    let options = StepOptions {
        step: 0,
        learning_rate: 0.1,
        seed: 0,
    };
    let mut losses = [0.0; 2];
    for (session, loss) in [&mut sparse, &mut dense].into_iter().zip(&mut losses) {
        session.train_step(&images, &labels, &options).unwrap();
        *loss = session.metrics().unwrap().unwrap().loss();
    }
    assert!((losses[0] - losses[1]).abs() < 1e-5, "{losses:?}");
    let (sparse, dense) = (sparse.weights().unwrap(), dense.weights().unwrap());
    for (name, tensor) in &dense.tensors {
        let own = &sparse.tensors[name].values;
        let mask = sparse.tensors.get(&format!("{name}_mask"));
        assert_eq!(mask.is_some(), names.contains(&name.as_str()), "{name}");
        for (at, value) in tensor.values.iter().enumerate() {
            let live = mask.is_none_or(|mask| mask.values[at] == 1.0);
            let expected = if live { *value } else { 0.0 };
            assert!(
                (own[at] - expected).abs() < 1e-5,
                "{name}, element {at}: {} instead of {expected}",
                own[at]
            );
        }
    }
}

#[test]
fn masks_mutate_between_steps_and_optimiser_state_goes_with_what_is_pruned() {
    let graph = small(Some(0.5));
    let mut session = session(&graph);
    let (images, labels) = smidgen_tests::shapes_batch(4);
    let options = StepOptions {
        step: 0,
        learning_rate: 0.1,
        seed: 0,
    };
    session.train_step(&images, &labels, &options).unwrap();
    session.metrics().unwrap();
    let layers = graph.sparse_layers();
    let before = session.weights().unwrap();
    let orders: Vec<Order> = (0..)
        .zip(&layers)
        .map(|(stream, layer)| Order {
            keep: layer.blocks.slots - 1,
            grow: 1,
            seed: 4,
            stream,
        })
        .collect();
    assert!(session.mutate(&orders[1..]).is_err());
    let impossible: Vec<Order> = orders
        .iter()
        .map(|order| Order { grow: 2, ..*order })
        .collect();
    assert!(session.mutate(&impossible).is_err());
    session.mutate(&orders).unwrap();
    let after = session.weights().unwrap();
    for layer in &layers {
        let mask = format!("{}_mask", layer.name);
        let (old, new) = (&before.tensors[&mask].values, &after.tensors[&mask].values);
        let momentum = session
            .read(&format!("momentum of {}", layer.name))
            .unwrap();
        let (mut grown, mut pruned) = (0, 0);
        for at in 0..old.len() {
            let weight = after.tensors[&layer.name].values[at];
            match (old[at] == 1.0, new[at] == 1.0) {
                (true, true) => assert_eq!(weight, before.tensors[&layer.name].values[at]),
                (false, true) => {
                    grown += 1;
                    assert_eq!((weight, momentum[at]), (0.0, 0.0));
                }
                (true, false) => {
                    pruned += 1;
                    assert_eq!((weight, momentum[at]), (0.0, 0.0));
                }
                (false, false) => assert_eq!(weight, 0.0),
            }
        }
        assert!(
            grown > 0 && grown == pruned,
            "{}: {grown} grew, {pruned} went",
            layer.name
        );
    }
    // It still trains: the transposed lists are those of the new columns.
    session.train_step(&images, &labels, &options).unwrap();
    assert!(session.metrics().unwrap().unwrap().loss().is_finite());
}

/// Trains with MEST to the end, or for `stop` steps and then on from the checkpoint, and returns all that the checkpoint holds.
fn train(folder: &Path, growth: Growth, stop: Option<u64>) -> BTreeMap<String, Vec<u32>> {
    const EPOCHS: u32 = 6;
    let mest = MestOptions::soft(0.4, EPOCHS);
    let mut graph = small(None);
    let sparsity = Sparsity {
        most: mest.most(),
        ..Sparsity::uniform(0.4)
    };
    graph.sparsify(&sparsity).unwrap();
    let path = checkpoint::path_in(folder);
    for steps in [stop, None] {
        let mut session = growing(&graph, growth);
        let options = TrainerOptions {
            epochs: EPOCHS,
            checkpoints: Some(Checkpoints {
                path: path.clone(),
                every: 1000,
                run: serde_json::Value::Null,
            }),
            ..TrainerOptions::default()
        };
        let data = Arc::new(Shapes::with_len(1, Split::Train, 12));
        let mut trainer = Trainer::new(&mut session, data, None, options)
            .unwrap()
            .with_recipe(Mest::new(&graph, &mest).unwrap())
            .unwrap();
        if steps.is_none() && stop.is_some() {
            trainer.resume().unwrap();
        }
        let mut seen = 0;
        trainer
            .run(|_| {
                seen += 1;
                if Some(seen) == steps {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        if stop.is_none() {
            break;
        }
    }
    let file = smidgen_graph::Weights::load(&path).unwrap();
    let bits = |values: &Vec<f32>| values.iter().map(|value| value.to_bits()).collect();
    (file.tensors.iter())
        .map(|(name, tensor)| (name.clone(), bits(&tensor.values)))
        .collect()
}

#[test]
fn a_resumed_run_with_changing_masks_is_the_same_bit_for_bit() {
    let [random, gradient] = [Growth::Random, Growth::Gradient].map(|growth| {
        let folders = [0, 1, 2].map(|_| tempfile::tempdir().unwrap());
        let whole = train(folders[0].path(), growth, None);
        assert!(whole.keys().any(|name| name.contains("columns of")));
        // Within an epoch, and where one ends.
        for (folder, stop) in folders[1..].iter().zip([5, 9]) {
            let resumed = train(folder.path(), growth, Some(stop));
            for (name, bits) in &whole {
                assert_eq!(&resumed[name], bits, "{name} after a stop at step {stop}");
            }
        }
        whole
    });
    assert!(random != gradient);
}

#[test]
fn the_plan_has_room_for_the_largest_stage_of_a_schedule() {
    for mest in [MestOptions::soft(0.1, 160), MestOptions::elastic(0.1, 160)] {
        let mut graph = zoo::build("resnet32x2", 10, [3, 32, 32]).unwrap();
        let sparsity = Sparsity {
            most: mest.most(),
            ..Sparsity::uniform(0.1)
        };
        graph.sparsify(&sparsity).unwrap();
        let options = SessionOptions {
            batch: 1,
            training: Some(Training::default()),
            budget: None,
        };
        let blueprint = Blueprint::new(&graph, device().facts(), &options).unwrap();
        let program = blueprint.program();
        let planned: u64 = (graph.sparse_layers().iter())
            .flat_map(|layer| {
                ["", "gradient of ", "momentum of "].map(|of| format!("{of}{}", layer.name))
            })
            .map(|name| program.value(program.find(&name).unwrap()).layout.bytes())
            .sum();
        let stages = Mest::new(&graph, &mest).unwrap().stages(1);
        let most = stages.iter().map(|stage| stage.bytes).max().unwrap();
        assert_eq!(most, planned);
    }
}

#[test]
fn a_budget_below_the_largest_stage_is_refused_before_training() {
    let blueprint = |most, budget| {
        let mut graph = zoo::build("resnet32x2", 10, [3, 32, 32]).unwrap();
        let sparsity = Sparsity {
            most,
            ..Sparsity::uniform(0.1)
        };
        graph.sparsify(&sparsity).unwrap();
        let options = SessionOptions {
            batch: 1,
            training: Some(Training::default()),
            budget,
        };
        smidgen::Blueprint::new(&graph, device().facts(), &options)
    };
    let target = blueprint(0.1, None).unwrap().footprint().total();
    assert!(blueprint(0.1, Some(target)).is_ok());
    // Its masks would end at the same density, but one stage needs all blocks.
    let error = blueprint(1.0, Some(target)).unwrap_err().to_string();
    assert!(error.contains("budget"), "{error}");
}

#[test]
fn networks_that_cannot_be_sparse_are_refused_with_a_reason() {
    let message = |model: &str, sparsity: Sparsity| {
        let mut graph = zoo::build(model, 10, [3, 32, 32]).unwrap();
        graph.sparsify(&sparsity).unwrap_err().to_string()
    };
    for density in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(message("resnet20", Sparsity::uniform(density)).contains("outside (0, 1]"));
    }
    let small = message("resnet20", Sparsity::uniform(0.01));
    assert!(
        small.contains("less than one of the 36 blocks") && small.contains("layer1.0.conv1"),
        "{small}"
    );
    let blocks = Sparsity {
        block_quads: 3,
        ..Sparsity::uniform(0.5)
    };
    assert!(message("resnet20", blocks).contains("use blocks of 4"));
    let falling = Sparsity {
        most: 0.2,
        ..Sparsity::uniform(0.5)
    };
    assert!(message("resnet20", falling).contains("below the density of 0.5"));

    // What is refused leaves the network as it was; what is sparse can be made sparse otherwise, and is not filtered.
    let mut graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    assert!(graph.sparsify(&Sparsity::uniform(0.01)).is_err());
    assert!(graph.sparse_layers().is_empty());
    graph.sparsify(&Sparsity::uniform(0.5)).unwrap();
    let layers = graph.sparse_layers().len();
    graph.sparsify(&Sparsity::uniform(0.25)).unwrap();
    assert_eq!(graph.sparse_layers().len(), layers);
    assert!(
        graph
            .sparse_layers()
            .iter()
            .all(|layer| layer.live(1.0) * 4 == layer.candidates)
    );
    let filtered = graph.filter_last(2, 2).unwrap_err().to_string();
    assert!(filtered.contains("its weight is sparse"), "{filtered}");
}

#[test]
fn columns_that_name_no_block_are_refused() {
    let mut session = session(&small(Some(0.5)));
    let name = "middle.weight";
    let blocks = session.live_blocks(name).unwrap();
    let mut wrong = |change: fn(&mut Vec<Option<u32>>)| {
        let mut other = blocks.clone();
        change(&mut other);
        session
            .set_live_blocks(name, &other)
            .unwrap_err()
            .to_string()
    };
    assert!(wrong(|blocks| blocks[0] = Some(10_000)).contains("names no block"));
    assert!(wrong(|blocks| blocks[0] = blocks[1]).contains("another slot holds"));
    assert!(wrong(|blocks| blocks.truncate(3)).contains("columns of 3 elements"));
    assert_eq!(session.live_blocks(name).unwrap(), blocks);
}

#[test]
fn erdos_renyi_keeps_the_total_and_leaves_small_layers_denser() {
    let mut graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    let sparsity = Sparsity {
        distribution: Distribution::ErdosRenyi,
        ..Sparsity::uniform(0.2)
    };
    graph.sparsify(&sparsity).unwrap();
    let layers = graph.sparse_layers();
    let weights = |layer: &smidgen::SparseLayer| layer.attributes.weight_elements() as f64;
    let all: f64 = layers.iter().map(weights).sum();
    let live: f64 = layers
        .iter()
        .map(|layer| weights(layer) * f64::from(layer.live(0.2)) / f64::from(layer.candidates))
        .sum();
    assert!((live / all - 0.2).abs() < 0.005, "{}", live / all);
    let (first, last) = (&layers[0], &layers[layers.len() - 1]);
    assert!(first.share > 2.0 * last.share);
    assert!(
        layers
            .iter()
            .all(|layer| layer.live(0.2) <= layer.candidates)
    );
}

#[test]
fn masks_change_whatever_the_optimiser_keeps() {
    let sgd = Optimizer::Sgd {
        momentum: 0.0,
        nesterov: false,
        weight_decay: 0.0,
    };
    let adam = Optimizer::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
    };
    let graph = small(Some(0.5));
    for optimizer in [sgd, adam] {
        let options = SessionOptions {
            batch: 4,
            training: Some(Training {
                optimizer,
                ..Training::default()
            }),
            budget: None,
        };
        let mut session = Session::new(device(), &graph, &options, 3).unwrap();
        let orders: Vec<Order> = (graph.sparse_layers().iter())
            .map(|layer| Order {
                keep: layer.blocks.slots - 1,
                grow: 1,
                seed: 1,
                stream: 0,
            })
            .collect();
        session.mutate(&orders).unwrap();
    }
}

#[test]
fn the_arithmetic_of_sparse_layers_is_counted_by_their_slots() {
    let [mut sparse, dense] = [(); 2].map(|()| zoo::build("resnet32x2", 10, [3, 32, 32]).unwrap());
    sparse.sparsify(&Sparsity::uniform(0.1)).unwrap();
    let share = sparse.multiply_adds() as f64 / dense.multiply_adds() as f64;
    // The first convolution, shortcuts and the classifier stay dense.
    assert!((0.1..0.13).contains(&share), "{share}");
}
