//! The account of bytes: predicted peak, arena, ledger and the allocator's own report.

use proptest::prelude::*;
use smidgen::gpu::{Category, DeviceFacts, DeviceKind};
use smidgen::{
    Blueprint, Bytes, Error, Optimizer, Plans, Remedy, Session, SessionOptions, Training, zoo,
};
use smidgen_tests::{device, network};

/// Network, side of the pictures, batch.
const NETWORKS: [(&str, u32, u32); 10] = [
    ("resnet20", 32, 1),
    ("resnet20", 32, 7),
    ("resnet20", 32, 64),
    ("resnet32", 32, 16),
    ("resnet56", 32, 8),
    ("resnet18", 64, 2),
    ("resnet50", 64, 1),
    ("vgg11_bn", 32, 4),
    ("mobilenet_v2", 64, 3),
    ("mobilenet_v2", 96, 1),
];

fn options(batch: u32) -> SessionOptions {
    SessionOptions {
        batch,
        training: Some(Training::default()),
        budget: None,
    }
}

#[test]
fn predicted_arena_ledger_and_allocator_agree() {
    for (model, side, batch) in NETWORKS {
        let graph = zoo::build(model, 10, [3, side, side]).unwrap();
        let blueprint = Blueprint::new(&graph, device().facts(), &options(batch)).unwrap();
        let predicted = blueprint.footprint().clone();
        let peak = &blueprint.plan().programs[0].peak;
        assert_eq!(
            blueprint.plan().arena_bytes,
            peak.persistent + peak.height,
            "{model} {batch}: the peak is the arena"
        );

        let session = Session::new(device(), &graph, &options(batch), 1).unwrap();
        let ledger = session.device().ledger();
        let of = |category: Category| -> u64 {
            ledger
                .entries()
                .iter()
                .filter(|entry| entry.category == category)
                .map(|entry| entry.bytes)
                .sum()
        };
        assert_eq!(of(Category::Arena), predicted.arena, "{model} {batch}");
        assert_eq!(of(Category::Uniform), predicted.uniforms, "{model} {batch}");
        assert_eq!(of(Category::Staging), predicted.staging, "{model} {batch}");
        assert_eq!(
            of(Category::Readback),
            predicted.readback,
            "{model} {batch}"
        );
        assert_eq!(
            Bytes(ledger.reserved()),
            predicted.ledger(),
            "{model} {batch}"
        );
        // Not every backend has a report.
        if let Some(report) = session.device().wgpu().generate_allocator_report() {
            let reserved = report.total_reserved_bytes;
            assert!(
                reserved >= ledger.reserved(),
                "{model} {batch}: the ledger knows of more than there is"
            );
            assert!(
                reserved <= predicted.total().0,
                "{model} {batch}: the allocator reserved {reserved}, predicted were at most {}",
                predicted.total().0
            );
        }
    }
}

#[test]
fn a_step_reserves_nothing() {
    let mut session = smidgen_tests::session("resnet20", 4, Some(Training::default()));
    let before = session
        .device()
        .wgpu()
        .generate_allocator_report()
        .map(|report| report.total_reserved_bytes);
    let (images, labels) = smidgen_tests::shapes_batch(4);
    for step in 0..5 {
        session
            .train_step(
                &images,
                &labels,
                &smidgen::StepOptions {
                    step,
                    learning_rate: 0.1,
                    seed: 1,
                },
            )
            .unwrap();
        session.metrics().unwrap();
    }
    session.weights().unwrap();
    let after = session
        .device()
        .wgpu()
        .generate_allocator_report()
        .map(|report| report.total_reserved_bytes);
    assert_eq!(before, after);
}

#[test]
fn the_stash_of_resnet20_is_what_the_layers_say() {
    // A picture of 32x32 has 1024 pixels; the three stages have 16, 32 and 64 channels on 32x32, 16x16 and 8x8 pixels, that is
    // 64, 32 and 16 KiB a map in f32. Kept are:
    let picture = 16.0; // 3 channels, padded to 4
    let sums = 3.0 * 64.0 + 3.0 * 32.0 + 2.0 * 16.0; // what the first convolution of a block reads
    let norm_inputs = 7.0 * 64.0 + 6.0 * 32.0 + 6.0 * 16.0; // every convolution's output
    let last = 16.0 // the output of the last block: the mask of its activation
        + 64.0 * 4.0 / 1024.0; // the pooled features, input of the linear layer
    // The published table has 1468.0 KiB for convolution and norm inputs, with the picture counted as 3 channels (12 KiB). Of these,
    // what a convolution reads behind a norm is not held, but made of the norm's input: the map of the first block, and one a block.
    let behind_norms = 64.0 + 3.0 * 64.0 + 3.0 * 32.0 + 3.0 * 16.0;
    assert_eq!(picture - 4.0 + sums + behind_norms + norm_inputs, 1468.0);
    let expected = (picture + sums + norm_inputs + last) * 1024.0;

    let plan = |batch| {
        Blueprint::new(&network("resnet20"), device().facts(), &options(batch))
            .unwrap()
            .plan()
            .clone()
    };
    let stash = |batch| plan(batch).programs[0].peak.stash as f64;
    // The difference of two batches leaves out what does not grow with the batch: the statistics of the 19 normalisations.
    assert_eq!((stash(65) - stash(1)) / 64.0, expected);
}

/// By plan, as a published table has it; the arena is as large as the plan says, which smaller batches prove. The widest map alone is 1.22 GiB.
#[test]
fn mobilenet_v2_of_272_pictures_is_planned_within_its_goals() {
    let graph = zoo::build("mobilenet_v2", 1000, [3, 224, 224]).unwrap();
    let facts = DeviceFacts {
        kind: DeviceKind::Discrete,
        max_buffer_bytes: 1 << 36,
        max_binding_bytes: 1 << 36,
        ..device().facts().clone()
    };
    let least = |quality| {
        let options = SessionOptions {
            training: Some(Training {
                quality,
                ..Training::default()
            }),
            ..options(272)
        };
        let plans = Plans::new(&graph, &facts, &options).unwrap();
        plans.least().unwrap().footprint().total().0
    };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let (lossy, exact) = (gib(least(0.02)), gib(least(0.0)));
    assert!(lossy <= 2.4, "{lossy:.2} GiB at a quality of 0.02");
    assert!(exact <= 2.5, "{exact:.2} GiB");
}

#[test]
fn a_budget_is_refused_with_the_least_that_would_do() {
    let graph = network("resnet20");
    let with = |budget: u64| SessionOptions {
        budget: Some(Bytes(budget)),
        ..options(16)
    };
    let Err(Error::BudgetTooSmall {
        least, remedies, ..
    }) = Session::new(device(), &graph, &with(10 << 20), 1)
    else {
        panic!("10 MiB are not enough");
    };
    assert!(matches!(
        Session::new(device(), &graph, &with(least.0 - 1), 1),
        Err(Error::BudgetTooSmall { .. })
    ));
    let session = Session::new(device(), &graph, &with(least.0), 1).unwrap();
    assert_eq!(session.footprint().total(), least);
    let batch = remedies.iter().find_map(|remedy| match remedy {
        Remedy::Batch(images) => Some(*images),
        _ => None,
    });
    let batch = batch.unwrap();
    let smaller = SessionOptions {
        batch,
        ..with(10 << 20)
    };
    Session::new(device(), &graph, &smaller, 1).unwrap();
    assert!(
        Session::new(
            device(),
            &graph,
            &SessionOptions {
                batch: batch + 1,
                ..smaller
            },
            1
        )
        .is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_network_and_batch_stays_within_its_footprint(which in 0_usize..4, batch in 1_u32..24, adam: bool, clip: bool, last in 1_usize..8) {
        let model = ["resnet20", "resnet32", "resnet44", "vgg11_bn"][which];
        let mut graph = network(model);
        graph.train_last(last).unwrap();
        let optimizer = if adam {
            Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, decoupled: true }
        } else {
            Training::default().optimizer
        };
        let training = Training { optimizer, clip_norm: clip.then_some(1.0), ..Training::default() };
        let options = SessionOptions { batch, training: Some(training), budget: None };
        let session = Session::new(device(), &graph, &options, 1).unwrap();
        prop_assert_eq!(Bytes(session.device().ledger().reserved()), session.footprint().ledger());
        if let Some(report) = session.device().wgpu().generate_allocator_report() {
            prop_assert!(report.total_reserved_bytes <= session.footprint().total().0);
        }
    }
}
