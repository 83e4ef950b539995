//! Continual learning: the memory's bytes in the plan, masked gradients, live blocks that change, and tasks one after another.

use smidgen::data::{Dataset, Normalization, Shapes, Split};
use smidgen::{Bytes, Error, Graph, Session, SessionOptions, Sparsity, StepOptions, Training};
use smidgen_graph::{Builder, Convolution, Role};
use smidgen_recipes::{
    Choice, DataRemoval, GradientMask, Masking, Pick, Sparcl, SparclOptions, TaskReport,
};
use smidgen_tests::device;
use std::sync::Arc;

const DENSITY: f64 = 0.5;
const MASKING: Masking = Masking {
    density: DENSITY,
    share: 0.1,
    alpha: 0.5,
};

fn network() -> Graph {
    let mut network = Builder::new("small", [3, 32, 32]).unwrap();
    let x = network.input();
    let stem = Convolution::new(8, 3).stride(4).padding(1);
    let x = network.convolution("stem", x, stem).unwrap();
    let x = network.batch_norm("norm", x).unwrap();
    let x = network.relu(x).unwrap();
    let middle = Convolution::new(16, 3).stride(2).padding(1);
    let x = network.convolution("middle", x, middle).unwrap();
    let x = network.relu(x).unwrap();
    let x = network.global_average_pool(x).unwrap();
    let x = network.linear("classes", x, 10).unwrap();
    let mut graph = network.finish(x).unwrap();
    graph
        .sparsify(&Sparsity {
            most: MASKING.most(),
            masks_gradient: true,
            ..Sparsity::uniform(DENSITY)
        })
        .unwrap();
    graph
}

fn options(memory: Option<u32>) -> SparclOptions {
    SparclOptions {
        memory,
        weights: [0.1, 0.5],
        masking: Some(MASKING),
        removal: Some(DataRemoval {
            share: 0.25,
            choice: Choice::LeastForgotten,
        }),
        gradient: Some(GradientMask {
            share: 0.5,
            interval: 3,
            pick: Pick::Largest,
        }),
        batch: 4,
        epochs: 4,
        learning_rate: 0.05,
        normalization: Normalization::colour(),
        seed: 1,
    }
}

fn open(options: &SparclOptions, examples: u32, budget: Option<Bytes>) -> Result<Session, Error> {
    let session = SessionOptions {
        batch: options.session_batch(),
        training: Some(options.training(examples)),
        budget,
    };
    Session::new(device(), &network(), &session, 3)
}

#[test]
fn the_memory_is_in_the_plan_and_in_the_budget() {
    let session = open(&options(Some(200)), 40, None).unwrap();
    let places = &session.plan().programs[0].values;
    let values = session.main_program().values.iter().zip(places);
    let bytes = |role| {
        let own = values.clone().filter(|(value, _)| value.role == role);
        own.map(|(_, place)| place.unwrap().bytes).sum::<u64>()
    };
    // Pictures: a word a pixel; logits: ten, padded to twelve; a word for every example.
    assert_eq!(bytes(Role::Examples), 200 * (1024 + 12) * 4 + 40 * 4);
    let without = open(&options(Some(1)), 40, None)
        .unwrap()
        .footprint()
        .total();
    // Beyond what an allocator rounds up to.
    let budget = Some(Bytes(without.0 + (8 << 20)));
    let refused = open(&options(Some(10_000)), 40, budget).err();
    assert!(
        matches!(refused, Some(Error::BudgetTooSmall { .. })),
        "{refused:?}"
    );
    let odd = SessionOptions {
        batch: 4,
        training: Some(options(Some(8)).training(40)),
        budget: None,
    };
    let refused = Session::new(device(), &network(), &odd, 3).unwrap_err();
    assert!(refused.to_string().contains("multiple of 3"), "{refused}");
}

#[test]
fn gradients_that_were_not_chosen_are_zero_and_the_others_as_they_were() {
    let step = |chosen: fn(usize) -> bool| {
        let training = Training {
            keep_gradients: true,
            ..Training::default()
        };
        let options = SessionOptions {
            batch: 4,
            training: Some(training),
            budget: None,
        };
        let mut session = Session::new(device(), &network(), &options, 3).unwrap();
        session.choose_gradients("middle.weight", chosen).unwrap();
        let (images, labels) = smidgen_tests::shapes_batch(4);
        let options = StepOptions {
            step: 0,
            learning_rate: 0.1,
            seed: 0,
        };
        session.train_step(&images, &labels, &options).unwrap();
        session.metrics().unwrap();
        let blocks = session.live_blocks("middle.weight").unwrap();
        (session.read("gradient of middle.weight").unwrap(), blocks)
    };
    let (all, blocks) = step(|_| true);
    let (some, _) = step(|slot| slot % 3 == 0);
    let slots = blocks.len() / 4;
    for (at, (one, other)) in some.iter().zip(&all).enumerate() {
        let (tap, input, output) = (at % 9, at / 9 % 8, at / 72);
        let block = (input / 4 * 9 + tap) as u32;
        let group = output / 4;
        let own = blocks[group * slots..][..slots].iter();
        let slot = own.clone().position(|live| *live == Some(block));
        let chosen = slot.is_some_and(|slot| (group * slots + slot).is_multiple_of(3));
        assert_eq!(*one, if chosen { *other } else { 0.0 }, "element {at}");
    }
    assert!(all.iter().filter(|value| **value != 0.0).count() > some.len() / 4);
}

/// The classes of the network's five tasks, and the pictures of each.
fn learn(memory: Option<u32>, tasks: u16) -> (Session, Vec<TaskReport>) {
    let data: Arc<dyn Dataset> = Arc::new(Shapes::with_len(1, Split::Train, 80));
    let options = options(memory);
    let mut session = open(&options, 80, None).unwrap();
    let mut learner = Sparcl::new(&mut session, &network(), Arc::clone(&data), options).unwrap();
    let reports = (0..tasks).map(|task| {
        let own = (0..80).filter(|at| data.label(*at as usize) / 2 == u32::from(task));
        let own: Vec<u32> = own.collect();
        learner.learn(&own, 2 * task..2 * task + 2).unwrap()
    });
    let reports = reports.collect();
    drop(learner);
    (session, reports)
}

#[test]
fn tasks_are_learned_one_after_another() {
    for memory in [None, Some(20)] {
        let (mut session, reports) = learn(memory, 2);
        // The masks are back at their density, in every output group.
        let layer = &network().sparse_layers()[0];
        let blocks = session.live_blocks(&layer.name).unwrap();
        for own in blocks.chunks(layer.blocks.slots as usize) {
            let mut live: Vec<u32> = own.iter().flatten().copied().collect();
            assert_eq!(live.len() as u32, layer.live(DENSITY));
            live.sort_unstable();
            live.dedup();
            assert_eq!(live.len() as u32, layer.live(DENSITY));
        }
        // A quarter of the examples of both tasks is gone, and gradients were left out.
        let records = session.example_records().unwrap();
        let gone = records.iter().filter(|record| record.is_removed()).count();
        assert_eq!(gone, 8);
        for report in &reports {
            let [computed, all] = report.gradients;
            assert!(report.steps > 0 && computed < all && computed > all / 2);
        }
        // It is the same every time.
        let (mut again, same) = learn(memory, 2);
        assert_eq!(same, reports);
        assert_eq!(again.weights().unwrap(), session.weights().unwrap());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let data: Arc<dyn Dataset> = Arc::new(Shapes::with_len(1, Split::Train, 80));
    let graph = network();
    let mut session = open(&options(Some(8)), 80, None).unwrap();
    let mut refuse = |options: SparclOptions| {
        Sparcl::new(&mut session, &graph, Arc::clone(&data), options)
            .err()
            .unwrap()
            .to_string()
    };
    let other = refuse(options(Some(9)));
    assert!(other.contains("session_batch"), "{other}");
    let wide = Masking {
        share: 0.4,
        ..MASKING
    };
    let most = refuse(SparclOptions {
        masking: Some(wide),
        ..options(Some(8))
    });
    assert!(most.contains("has slots for"), "{most}");
    let short = refuse(SparclOptions {
        masking: Some(MASKING),
        epochs: 1,
        ..options(Some(8))
    });
    assert!(short.contains("at least two epochs"), "{short}");
    let mut learner = Sparcl::new(&mut session, &graph, data, options(Some(8))).unwrap();
    assert!(learner.learn(&[1, 2], 0..2).is_err());
    assert!(learner.learn(&[1, 2, 3, 4, 5], 9..11).is_err());
    let beyond = learner.learn(&[1, 2, 3, 4, 80], 0..2).unwrap_err();
    assert!(beyond.to_string().contains("no picture 80"), "{beyond}");
}
