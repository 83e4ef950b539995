//! The dynamic programme against brute force.

use proptest::prelude::*;
use smidgen_plan::chain::{Arc, undominated};

/// Peak and cost of every path, by trying all.
fn paths(
    arcs: &[Arc],
    blocks: usize,
    at: usize,
    state: usize,
    below: u64,
    so_far: (u64, f64),
    all: &mut Vec<(u64, f64)>,
) {
    if at == blocks {
        all.push(so_far);
        return;
    }
    for arc in arcs
        .iter()
        .filter(|arc| arc.from == at && arc.entry == state)
    {
        // Forward and backward stand on the same prefix: the stack below, and the block's own peak above it.
        let height = so_far.0.max(below + arc.peak);
        let reached = (height, so_far.1 + arc.cost);
        paths(
            arcs,
            blocks,
            arc.to,
            arc.exit,
            below + arc.kept,
            reached,
            all,
        );
    }
}

fn arc(blocks: usize) -> impl Strategy<Value = Arc> {
    (
        0..blocks,
        1..=2_usize,
        0..2_usize,
        0..2_usize,
        0..40_u64,
        0..40_u64,
        0..20_u32,
    )
        .prop_map(move |(from, length, entry, exit, kept, above, cost)| Arc {
            from,
            to: (from + length).min(blocks),
            entry,
            exit,
            kept,
            peak: kept + above,
            cost: f64::from(cost),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_dynamic_programme_equals_brute_force(
        (blocks, arcs) in (1..6_usize).prop_flat_map(|blocks| (Just(blocks), prop::collection::vec(arc(blocks), 6..28))),
    ) {
        let found = undominated(blocks, 2, &arcs, usize::MAX);
        let mut all = Vec::new();
        paths(&arcs, blocks, 0, 0, 0, (0, 0.0), &mut all);
        prop_assume!(!all.is_empty());
        // For every budget, the same least cost; and none where there is none.
        for budget in 0..320 {
            let least = |points: &mut dyn Iterator<Item = (u64, f64)>| {
                points.filter(|point| point.0 <= budget).map(|point| point.1).min_by(f64::total_cmp)
            };
            let brute = least(&mut all.iter().copied());
            let dynamic = least(&mut found.iter().map(|path| (path.height, path.cost)));
            prop_assert_eq!(brute, dynamic, "budget {}", budget);
        }
        // The paths are what they say they are.
        for path in &found {
            let (mut at, mut state, mut below, mut height, mut cost) = (0, 0, 0, 0, 0.0);
            for index in &path.arcs {
                let arc = &arcs[*index];
                prop_assert_eq!((arc.from, arc.entry), (at, state));
                height = height.max(below + arc.peak);
                (at, state, below, cost) = (arc.to, arc.exit, below + arc.kept, cost + arc.cost);
            }
            prop_assert_eq!((at, height, cost), (blocks, path.height, path.cost));
        }
    }

    #[test]
    fn a_thinned_front_still_holds_paths_and_both_ends(
        arcs in prop::collection::vec(arc(4), 8..40),
    ) {
        let all = undominated(4, 2, &arcs, usize::MAX);
        let thinned = undominated(4, 2, &arcs, 3);
        let ends = |paths: &[smidgen_plan::chain::Path]| {
            (paths.iter().map(|path| path.height).min(), paths.first().map(|path| path.cost))
        };
        prop_assert_eq!(ends(&all), ends(&thinned));
    }
}
