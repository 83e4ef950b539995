//! The dynamic programme against brute force.

use proptest::prelude::*;
use smidgen_plan::chain::{Arc, Path, undominated};

/// Every path from `at` on behind `before`, by trying all.
fn paths(arcs: &[Arc], blocks: usize, before: &mut Vec<Arc>, all: &mut Vec<(u64, f64)>) {
    let (at, state) = before.last().map_or((0, 0), |last| (last.to, last.exit));
    if at == blocks {
        all.push(taken(before));
        return;
    }
    for arc in arcs
        .iter()
        .filter(|arc| arc.from == at && arc.entry == state)
    {
        before.push(*arc);
        paths(arcs, blocks, before, all);
        before.pop();
    }
}

/// Height and cost of a path: forward and backward stand on the same prefix, and a block that is entered with a copy stands, once that is read, on all that
/// was made again for it, too.
fn taken(path: &[Arc]) -> (u64, f64) {
    let (mut height, mut cost, mut below, mut copies) = (0, 0.0, 0, 0);
    let mut before: Option<&Arc> = None;
    for arc in path {
        copies = match before {
            Some(before) if arc.copied => {
                before.made
                    + if before.linked && before.copied {
                        copies
                    } else {
                        0
                    }
            }
            _ => 0,
        };
        height = height.max(below + arc.before);
        height = height.max(below + copies + arc.behind);
        cost += arc.cost;
        below += arc.kept;
        before = Some(arc);
    }
    (height, cost)
}

fn arc(blocks: usize) -> impl Strategy<Value = Arc> {
    let states = (0..2_usize, 0..2_usize);
    (
        0..blocks,
        1..=2_usize,
        states,
        (0..40_u64, 0..40_u64, 0..40_u64),
        0..30_u64,
        any::<bool>(),
        0..20_u32,
    )
        .prop_map(
            move |(from, length, (entry, exit), (kept, ahead, back), made, linked, cost)| Arc {
                from,
                to: (from + length).min(blocks),
                entry,
                exit,
                kept,
                before: kept + ahead,
                behind: kept + back,
                // Only for what is left to be made again, as state 1 says, and behind the last block nothing is.
                made: made * u64::from(exit == 1 && from + length < blocks),
                linked: linked && exit == 1,
                copied: entry == 1,
                cost: f64::from(cost),
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_dynamic_programme_equals_brute_force(
        (blocks, arcs) in (1..6_usize).prop_flat_map(|blocks| (Just(blocks), prop::collection::vec(arc(blocks), 6..28))),
    ) {
        let found = undominated(blocks, 2, &arcs, usize::MAX, u64::MAX);
        let mut all = Vec::new();
        paths(&arcs, blocks, &mut Vec::new(), &mut all);
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
            let arcs: Vec<Arc> = path.arcs.iter().map(|index| arcs[*index]).collect();
            let (mut at, mut state) = (0, 0);
            for arc in &arcs {
                prop_assert_eq!((arc.from, arc.entry), (at, state));
                (at, state) = (arc.to, arc.exit);
            }
            prop_assert_eq!(at, blocks);
            prop_assert_eq!(taken(&arcs), (path.height, path.cost));
        }
    }

    #[test]
    fn a_thinned_front_still_holds_paths_the_cheapest_and_the_lowest(
        arcs in prop::collection::vec(arc(4), 8..40),
    ) {
        let all = undominated(4, 2, &arcs, usize::MAX, u64::MAX);
        let thinned = undominated(4, 2, &arcs, 3, u64::MAX);
        prop_assert_eq!(all.first().map(|path| path.cost), thinned.first().map(|path| path.cost));
        prop_assert_eq!(all.last().map(|path| path.height), thinned.last().map(|path| path.height));
        let ceiling = all.get(all.len() / 2).map_or(0, |path| path.height);
        let below = undominated(4, 2, &arcs, usize::MAX, ceiling);
        let least = |paths: &[Path], budget| {
            let fitting = paths.iter().filter(|path| path.height <= budget);
            fitting.map(|path| path.cost).min_by(f64::total_cmp)
        };
        for budget in 0..=ceiling {
            prop_assert_eq!(least(&all, budget), least(&below, budget));
        }
        for path in &thinned {
            let arcs: Vec<Arc> = path.arcs.iter().map(|index| arcs[*index]).collect();
            prop_assert_eq!(taken(&arcs), (path.height, path.cost));
        }
    }
}
