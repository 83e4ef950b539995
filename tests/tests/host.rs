//! Stashes in the host's memory: the same bits, in bytes of their own.

use smidgen::forms::Form;
use smidgen::gpu::{Category, Device, DeviceFacts};
use smidgen::{Bytes, Error, Plans, Session, SessionOptions, StepOptions, Training};
use smidgen_tests::{device, network, shapes_batch};

/// A device that takes the memory it has for that of a host.
fn with_host_memory() -> Device {
    let device = device();
    let facts = DeviceFacts {
        host_memory: true,
        ..device.facts().clone()
    };
    device.taken_for(facts)
}

fn options(budget: Option<Bytes>, training: Training) -> SessionOptions {
    SessionOptions {
        batch: 8,
        training: Some(training),
        budget,
    }
}

fn within(host: Option<u64>) -> Training {
    Training {
        host_budget: host.map(Bytes),
        ..Training::default()
    }
}

/// All parameters and running statistics after some steps, as bits.
fn after_steps(session: &mut Session, guarded: bool) -> Vec<Vec<u32>> {
    let (images, labels) = shapes_batch(session.batch() as usize);
    for step in 0..3 {
        let options = StepOptions {
            step,
            learning_rate: 0.1,
            seed: 1,
        };
        if guarded {
            session
                .train_step_guarded(&images, &labels, &options)
                .unwrap();
        } else {
            session.train_step(&images, &labels, &options).unwrap();
            session.metrics().unwrap();
        }
    }
    let weights = session.weights().unwrap();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    (weights.tensors.values())
        .map(|tensor| bits(&tensor.values))
        .collect()
}

fn offloaded(session: &Session) -> usize {
    let forms = session.forms().values();
    forms.filter(|form| **form == Form::Offloaded).count()
}

#[test]
fn what_waits_on_the_host_changes_no_bit_and_counts_apart() {
    let graph = network("resnet20");
    let mut whole = Session::new(device(), &graph, &options(None, within(None)), 1).unwrap();
    let expected = after_steps(&mut whole, false);
    let keep_all = whole.footprint().total();
    drop(whole);
    let facts = with_host_memory().facts().clone();
    let least = |host| {
        let plans = Plans::new(&graph, &facts, &options(None, within(host))).unwrap();
        plans.least().unwrap().footprint().total()
    };
    let middle = Bytes((least(None).0 + keep_all.0) / 2);
    for host in [1 << 20, 1 << 30] {
        // What the device can do alone it can do with the host.
        assert!(least(Some(host)) <= least(None));
        let options = options(Some(middle), within(Some(host)));
        let mut session = Session::new(with_host_memory(), &graph, &options, 1).unwrap();
        assert!(offloaded(&session) > 0);
        assert!(after_steps(&mut session, false) == expected, "{host}");
        let footprint = session.footprint().clone();
        let held = session.device().ledger().reserved_in(Category::Host);
        assert!(held > 0 && held <= host);
        assert_eq!(held, footprint.host);
        assert_eq!(session.device().ledger().reserved(), footprint.ledger().0);
        assert!(footprint.total() <= middle);
    }
    let options = options(Some(middle), within(Some(1 << 30)));
    let mut session = Session::new(with_host_memory(), &graph, &options, 1).unwrap();
    assert!(after_steps(&mut session, true) == expected, "guarded");
}

#[test]
fn a_written_plan_keeps_to_the_host_budget() {
    let graph = network("resnet20");
    let facts = with_host_memory().facts().clone();
    let plans = Plans::new(&graph, &facts, &options(None, within(Some(1 << 30)))).unwrap();
    let least = plans.least().unwrap();
    let written = |host| Training {
        plan: Some(plans.file(least.forms())),
        ..within(host)
    };
    let open = |host| Session::new(with_host_memory(), &graph, &options(None, written(host)), 1);
    let held = least.footprint().host;
    assert_eq!(open(Some(held)).unwrap().footprint().host, held);
    assert!(matches!(
        open(Some(held - 1)),
        Err(Error::PlanOverHostBudget { .. })
    ));
    let error = open(None).unwrap_err().to_string();
    assert!(error.contains("host"), "{error}");
}

#[test]
fn a_device_without_memory_of_its_own_refuses_a_host_budget() {
    let graph = network("resnet20");
    let facts = DeviceFacts {
        host_memory: false,
        ..device().facts().clone()
    };
    let refused = Plans::new(&graph, &facts, &options(None, within(Some(1 << 30)))).unwrap_err();
    assert!(matches!(refused, Error::NoHostMemory { .. }));
    assert!(refused.to_string().contains(&facts.name), "{refused}");
}
