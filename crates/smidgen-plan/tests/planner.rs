//! What the planner promises, on the networks of the zoo.

use smidgen_graph::forms::{Form, Forms, Outline};
use smidgen_graph::{
    FilterState, Lowering, Mode, OperationKind, Optimizer, Program, Sparsity, zoo,
};
use smidgen_plan::{Choice, Limits, Plan, Planner, Roofline};
use std::time::Instant;

const LIMITS: Limits = Limits {
    alignment: 256,
    max_binding_bytes: 1 << 40,
    max_buffer_bytes: 1 << 44,
};

const DEVICE: Roofline = Roofline {
    flops: 1e13,
    bytes: 4e11,
    host: 2e10,
    launch: 5e-6,
};

fn program(model: &str, side: u32, batch: u32, clip_norm: Option<f32>) -> Program {
    let optimizer = Optimizer::Sgd {
        momentum: 0.9,
        nesterov: false,
        weight_decay: 1e-4,
    };
    let mode = Mode::Train {
        optimizer,
        label_smoothing: 0.0,
        clip_norm,
        keep_gradients: false,
        filter_state: FilterState::Tap,
        examples: smidgen_graph::ExampleMemory::default(),
        micro_batches: 1,
    };
    let graph = zoo::build(model, 10, [3, side, side]).unwrap();
    graph.lower(&Lowering { batch, mode }).unwrap()
}

fn curve(program: &Program) -> (Outline, Vec<Choice>) {
    let outline = Outline::new(program).with_slices(program, &|kind| Some(slice(program, kind)));
    let workspaces = vec![0; program.operations.len()];
    let curve = Planner::new(program, &outline, &workspaces, 256, &DEVICE).curve(0.0);
    (outline, curve)
}

/// Bytes of a slice of the map that is made in slices; 0 of any other operation.
fn slice(program: &Program, kind: &OperationKind) -> u64 {
    match kind {
        OperationKind::InSlices {
            slices, producer, ..
        } => match **producer {
            OperationKind::Convolution { output, .. } => {
                program.value(output).layout.bytes() / u64::from(*slices)
            }
            _ => 0,
        },
        _ => 0,
    }
}

#[test]
fn more_bytes_never_take_more_time() {
    for (model, side, batch) in [
        ("resnet20", 32, 64),
        ("vgg11_bn", 32, 8),
        ("resnet50", 64, 4),
        ("mobilenet_v2", 64, 4),
    ] {
        for clip in [None, Some(1.0)] {
            let program = program(model, side, batch, clip);
            let (_, curve) = curve(&program);
            assert!(curve.len() > 1, "{model}: {} choices", curve.len());
            for pair in curve.windows(2) {
                assert!(
                    pair[0].height > pair[1].height && pair[0].seconds <= pair[1].seconds,
                    "{model}"
                );
            }
            let share = curve[curve.len() - 1].height as f64 / curve[0].height as f64;
            // Where all gradients are clipped together, they hold until the end, whatever becomes of the stashes.
            assert!(share < 0.7 || clip.is_some(), "{model}: {share}");
        }
    }
}

#[test]
fn what_is_weighed_is_what_is_packed() {
    for (model, side, batch) in [
        ("resnet20", 32, 16),
        ("resnet50", 64, 2),
        ("mobilenet_v2", 64, 2),
    ] {
        let program = program(model, side, batch, None);
        let (outline, curve) = curve(&program);
        for choice in curve.iter().step_by(curve.len().div_ceil(8)) {
            let applied = outline.apply(&program, &choice.forms).unwrap();
            let operations = applied.operations.iter();
            let workspaces = operations.map(|one| slice(&applied, &one.kind)).collect();
            let plan = Plan::new(&[&applied], &[workspaces], LIMITS).unwrap();
            let peak = &plan.programs[0].peak;
            assert!(
                peak.height >= choice.height,
                "{model}: {} placed in {}",
                choice.height,
                peak.height
            );
            assert!(
                peak.height as f64 <= choice.height as f64 * 1.05,
                "{model}: {} placed in {}",
                choice.height,
                peak.height
            );
        }
    }
}

#[test]
fn the_curve_is_no_worse_than_the_trivial_plans() {
    for (model, side) in [
        ("resnet20", 32),
        ("resnet50", 64),
        ("mobilenet_v2", 64),
        ("vgg16_bn", 32),
    ] {
        let program = program(model, side, 8, None);
        let outline = Outline::new(&program);
        let workspaces = vec![0; program.operations.len()];
        let planner = Planner::new(&program, &outline, &workspaces, 256, &DEVICE);
        let curve = planner.curve(0.0);
        let all: Forms = (outline.stashes().iter().filter(|stash| stash.repeatable))
            .map(|stash| (stash.value, Form::Recomputed))
            .collect();
        for trivial in [Forms::new(), all] {
            let Ok(trivial) = planner.weigh(trivial) else {
                continue;
            };
            let best = curve
                .iter()
                .find(|choice| choice.height <= trivial.height)
                .unwrap();
            assert!(best.seconds <= trivial.seconds, "{model}");
        }
    }
}

/// Thinned fronts once lost what leads to the lowest plans. Bytes above the persistent part, with no workspace but that of slices; packing included.
#[test]
fn the_lowest_plans_stay_as_low() {
    const MIB: u64 = 1 << 20;
    for (model, side, batch, least, packed) in [
        ("resnet50", 224, 256, 4170 * MIB, 4220 * MIB),
        ("mobilenet_v2", 224, 272, 2031 * MIB, 2106 * MIB),
        ("resnet20", 32, 128, 51 * MIB, 51 * MIB),
    ] {
        let program = program(model, side, batch, None);
        let (outline, curve) = curve(&program);
        let lowest = &curve[curve.len() - 1];
        assert!(lowest.height <= least, "{model}: {}", lowest.height);
        let placed = curve.iter().rev().take(4).map(|choice| {
            let applied = outline.apply(&program, &choice.forms).unwrap();
            let operations = applied.operations.iter();
            let workspaces = operations.map(|one| slice(&applied, &one.kind)).collect();
            let plan = Plan::new(&[&applied], &[workspaces], LIMITS).unwrap();
            let peak = &plan.programs[0].peak;
            peak.height - peak.persistent
        });
        let placed = placed.min().unwrap();
        assert!(placed <= packed, "{model}: {placed}");
    }
}

/// A map that bounds the peak is made again in slices, in as many as the bytes ask for; where there are bytes enough, none is.
#[test]
fn slices_lower_what_the_widest_maps_bound() {
    let program = program("mobilenet_v2", 224, 8, None);
    let (outline, curve) = curve(&program);
    let unsliced = Outline::new(&program);
    let workspaces = vec![0; program.operations.len()];
    let without = Planner::new(&program, &unsliced, &workspaces, 256, &DEVICE).curve(0.0);
    let slices = |choice: &Choice| -> u32 {
        let counts = choice.forms.values().map(|form| match form {
            Form::Sliced(count) => *count,
            _ => 0,
        });
        counts.sum()
    };
    let [first, last] = [&curve[0], &curve[curve.len() - 1]];
    assert_eq!(slices(first), 0);
    assert!(slices(last) > 0);
    let least = &without[without.len() - 1];
    let share = last.height as f64 / least.height as f64;
    assert!(share < 0.75, "{share}");
    // What can be had without slices is never slower with them.
    for point in &without {
        let found = curve.iter().find(|choice| choice.height <= point.height);
        assert!(found.is_some_and(|found| found.seconds <= point.seconds * 1.001));
    }
    assert!(outline.apply(&program, &last.forms).is_ok());
}

#[test]
fn planning_takes_no_time() {
    for (model, side, batch) in [
        ("resnet50", 224, 256),
        ("mobilenet_v2", 224, 272),
        ("vgg16_bn", 224, 64),
    ] {
        let program = program(model, side, batch, None);
        let start = Instant::now();
        assert!(!curve(&program).1.is_empty(), "{model}");
        let seconds = start.elapsed().as_secs_f64();
        // 0.1 s on a quiet machine; others may be at work on this one.
        assert!(seconds < 20.0, "{model}: {seconds} s");
    }
}

#[test]
fn sparse_layers_cost_what_their_slots_do() {
    let graph = |density: Option<f64>| {
        let mut graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
        if let Some(density) = density {
            graph.sparsify(&Sparsity::uniform(density)).unwrap();
        }
        let mode = Mode::Evaluate;
        graph.lower(&Lowering { batch: 4, mode }).unwrap()
    };
    let [sparse, dense] = [Some(0.1), None].map(|density| {
        let program = graph(density);
        let operations = program.operations.iter();
        let work = operations.map(|one| smidgen_plan::multiply_adds(&program, &one.kind));
        work.sum::<u64>() as f64
    });
    assert!((0.1..0.2).contains(&(sparse / dense)), "{}", sparse / dense);
}
