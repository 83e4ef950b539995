//! Properties that every plan must have, on random programs.

use proptest::prelude::*;
use smidgen_graph::{Activation, MapShape};
use smidgen_graph::{Layout, Operation, OperationKind, Phase, Program, Role, Value, ValueId};
use smidgen_plan::{Limits, Place, Placement, Plan, PlanError, placements};

const LIMITS: Limits = Limits {
    alignment: 256,
    max_binding_bytes: 1 << 27,
    max_buffer_bytes: 1 << 31,
};

fn value(name: String, words: u32, role: Role) -> Value {
    Value {
        name,
        layout: Layout::Words { count: words },
        role,
    }
}

/// A forward chain with backward operations that read random earlier values again. `sizes` are words, `again[i]` picks what
/// backward operation `i` reads.
fn program(sizes: &[u32], again: &[usize], kept: bool) -> Program {
    let shape = MapShape {
        batch: 1,
        channels: 4,
        height: 1,
        width: 1,
    };
    let mut values = vec![
        value("images".into(), sizes[0], Role::Images),
        value("labels".into(), 4, Role::Labels),
        value("control".into(), 8, Role::Control),
        value("metrics".into(), 16, Role::Metrics),
        value("weight".into(), 99, Role::Parameter),
    ];
    let mut operations = Vec::new();
    let mut current = ValueId(0);
    let mut made = vec![current];
    for (at, words) in sizes.iter().enumerate() {
        let output = ValueId(values.len());
        values.push(value(format!("map {at}"), *words, Role::Activation));
        operations.push(Operation {
            layer: format!("layer{at}"),
            phase: Phase::Forward,
            kind: OperationKind::Copy {
                shape,
                source: current,
                target: output,
            },
        });
        current = output;
        made.push(current);
    }
    let gradient = ValueId(values.len());
    values.push(value("gradient of the logits".into(), 4, Role::Gradient));
    operations.push(Operation {
        layer: "loss".into(),
        phase: Phase::Loss,
        kind: OperationKind::CrossEntropy {
            shape,
            label_smoothing: 0.0,
            logits: current,
            labels: ValueId(1),
            control: ValueId(2),
            metrics: ValueId(3),
            logit_gradient: Some(gradient),
            forgetting: None,
            rehearsal: None,
        },
    });
    let mut kept_values = Vec::new();
    let mut carried = gradient;
    for (at, words) in sizes.iter().enumerate().rev() {
        let output = ValueId(values.len());
        values.push(value(format!("gradient {at}"), *words, Role::Gradient));
        operations.push(Operation {
            layer: format!("layer{at}"),
            phase: Phase::Backward,
            kind: OperationKind::Add {
                shape,
                activation: Activation::Identity,
                left: carried.into(),
                right: made[again[at] % (at + 1)].into(),
                output,
            },
        });
        carried = output;
        if kept {
            kept_values.push(output);
        }
    }
    Program {
        micro_batches: 1,
        batch: 1,
        slab: 1,
        values,
        operations,
        images: ValueId(0),
        labels: ValueId(1),
        logits: current,
        control: ValueId(2),
        metrics: ValueId(3),
        kept: kept_values,
    }
}

fn disjoint(a: &Place, b: &Place) -> bool {
    a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset
}

fn check(
    programs: &[&Program],
    workspaces: &[Vec<u64>],
    limits: Limits,
) -> Result<(), TestCaseError> {
    let plan = Plan::new(programs, workspaces, limits).unwrap();
    prop_assert_eq!(plan.buffers().iter().sum::<u64>(), plan.arena_bytes);
    for (which, program) in programs.iter().enumerate() {
        let places = &plan.programs[which];
        let placements = placements(program);
        let alive = |id: usize, at: usize| match placements[id] {
            Placement::Persistent => true,
            Placement::Stash(lifetime) | Placement::Transient(lifetime) => {
                (lifetime.first..=lifetime.last).contains(&at)
            }
            Placement::Host | Placement::Unused => false,
        };
        let mut reach = 0;
        for at in 0..program.operations.len() {
            let workspace = places.workspaces[at].into_iter();
            let held: Vec<Place> = (0..program.values.len())
                .filter(|id| alive(*id, at))
                .filter_map(|id| places.values[id])
                .chain(workspace)
                .collect();
            for (index, place) in held.iter().enumerate() {
                prop_assert_eq!(place.offset % limits.alignment, 0);
                prop_assert!(place.offset + place.bytes <= plan.arena_bytes);
                let first = place.offset / limits.max_buffer_bytes;
                let last = (place.offset + place.bytes.max(1) - 1) / limits.max_buffer_bytes;
                prop_assert_eq!(first, last, "a tensor lies across two buffers");
                reach = reach.max(place.offset + place.bytes);
                for other in &held[..index] {
                    prop_assert!(
                        disjoint(place, other),
                        "two living values overlap at operation {}",
                        at
                    );
                }
            }
        }
        prop_assert!(places.peak.height >= places.peak.bound);
        prop_assert!(reach <= plan.arena_bytes);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_lives_together_never_overlaps(
        sizes in prop::collection::vec(1_u32..5_000, 1..24),
        again in prop::collection::vec(0_usize..100, 24),
        workspace in prop::collection::vec(0_u64..20_000, 64),
        kept: bool,
    ) {
        let program = program(&sizes, &again, kept);
        let workspaces = vec![workspace[..program.operations.len()].to_vec()];
        check(&[&program], &workspaces, LIMITS)?;
        let small = Limits { max_binding_bytes: 32_768, max_buffer_bytes: 32_768, ..LIMITS };
        check(&[&program], &workspaces, small)?;
        prop_assert_eq!(Plan::new(&[&program], &workspaces, LIMITS), Plan::new(&[&program], &workspaces, LIMITS));
    }

    #[test]
    fn programs_share_their_persistent_values(
        sizes in prop::collection::vec(1_u32..5_000, 1..12),
        again in prop::collection::vec(0_usize..100, 12),
    ) {
        let train = program(&sizes, &again, false);
        let mut evaluate = train.clone();
        evaluate.operations.truncate(sizes.len() + 1);
        let workspaces = vec![vec![0; train.operations.len()], vec![0; evaluate.operations.len()]];
        check(&[&train, &evaluate], &workspaces, LIMITS)?;
        let plan = Plan::new(&[&train, &evaluate], &workspaces, LIMITS).unwrap();
        prop_assert_eq!(plan.programs[0].values[4], plan.programs[1].values[4]);
        prop_assert!(plan.programs[1].peak.height <= plan.programs[0].peak.height);
    }
}

#[test]
fn a_chain_of_equal_maps_needs_its_stashes_and_two_gradients() {
    // Backward operation i reads map i-1 (made before it): all but the last map are stashes.
    let again: Vec<usize> = (0..8).collect();
    let program = program(&[64; 8], &again, false);
    let plan = Plan::new(&[&program], &[vec![0; program.operations.len()]], LIMITS).unwrap();
    let peak = &plan.programs[0].peak;
    assert_eq!(peak.stash, 8 * 256, "the images and maps 0 to 6");
    assert_eq!(peak.bound, peak.height, "the packing reaches the bound");
    assert_eq!(plan.arena_bytes, peak.persistent + peak.height);
}

#[test]
fn a_tensor_above_the_binding_limit_is_refused_by_name() {
    let program = program(&[10_000], &[0], false);
    let limits = Limits {
        max_binding_bytes: 1_024,
        ..LIMITS
    };
    let error = Plan::new(&[&program], &[vec![0; program.operations.len()]], limits).unwrap_err();
    assert!(
        matches!(&error, PlanError::TooLarge { value, bytes: 40_000, limit: 1_024, .. } if value == "images"),
        "{error}"
    );
}

#[test]
fn what_is_too_large_to_bind_names_what_helps() {
    let refusal = |model: &str, side: u32, batch: u32| {
        let graph = smidgen_graph::zoo::build(model, 10, [3, side, side]).unwrap();
        let mode = smidgen_graph::Mode::Evaluate;
        let program = graph
            .lower(&smidgen_graph::Lowering { batch, mode })
            .unwrap();
        Plan::new(&[&program], &[vec![0; program.operations.len()]], LIMITS).unwrap_err()
    };
    // The first map of 16 channels has 64 KiB a picture; the pictures, which come first in the program, have less.
    let error = refusal("resnet20", 32, 20_000);
    assert!(
        matches!(
            error,
            PlanError::TooLarge {
                batch: Some(2_048),
                ..
            }
        ),
        "{error}"
    );
    // 4096 x 25088 numbers.
    let error = refusal("vgg16_bn", 224, 400);
    assert!(
        matches!(&error, PlanError::TooLarge { value, batch: None, .. } if value == "classifier.0.weight"),
        "{error}"
    );
    assert!(
        error.to_string().contains("no batch makes it fit"),
        "{error}"
    );
}
