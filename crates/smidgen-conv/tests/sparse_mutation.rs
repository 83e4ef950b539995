//! Prune and grow: the live count is exact, nothing just pruned comes back, and what grows starts from zero.

use proptest::prelude::*;
use smidgen_conv::ConvolutionShape;
use smidgen_conv::sparse::{
    EMPTY, Mutation, Order, SparseError, SparseShape, block_norms, column_parts, mutate,
};
use smidgen_gpu::testing::{Guarded, relative_error};
use smidgen_reference::numbers::normal;
use std::collections::HashSet;

struct Outcome {
    columns: Vec<u32>,
    values: Vec<f32>,
    states: Vec<Vec<f32>>,
}

fn chosen(shape: &SparseShape, seed: u64) -> Vec<u32> {
    let scores = normal(seed, (shape.output_groups() * shape.candidates()) as usize);
    let mut scores = scores.into_iter();
    shape.choose(|_, _| f64::from(scores.next().unwrap()))
}

fn run(shape: &SparseShape, before: &Outcome, order: Order, growth: Option<&[f32]>) -> Outcome {
    let mut memory = Guarded::new();
    let order = memory.input(&[order]);
    let columns = memory.input(&before.columns);
    let values = memory.input(&before.values);
    let states: Vec<_> = before
        .states
        .iter()
        .map(|state| memory.input(state))
        .collect();
    let growth = growth.map(|scores| memory.input(scores));
    let regions = Mutation {
        order,
        columns,
        values,
        states: states.clone(),
        growth,
    };
    let outcome = memory.run(&[mutate(shape, &regions).unwrap()]).unwrap();
    Outcome {
        columns: outcome.read(columns),
        values: outcome.read(values),
        states: states.iter().map(|state| outcome.read(*state)).collect(),
    }
}

/// Norms in the order of additions of the kernel do not matter: they are apart by more than rounding.
fn energy(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum()
}

fn check(shape: &SparseShape, before: &Outcome, after: &Outcome, order: Order) {
    shape.check_columns(&after.columns).unwrap();
    let (slots, elements) = (shape.live as usize, shape.block_elements() as usize);
    for group in 0..shape.output_groups() as usize {
        let range = group * slots..(group + 1) * slots;
        let live = |columns: &[u32]| -> HashSet<u32> {
            columns[range.clone()]
                .iter()
                .copied()
                .filter(|column| *column != EMPTY)
                .collect()
        };
        let (old, new) = (live(&before.columns), live(&after.columns));
        assert_eq!(
            new.len(),
            (order.keep + order.grow) as usize,
            "the live count"
        );
        assert_eq!(
            new.intersection(&old).count(),
            order.keep as usize,
            "what stays"
        );
        let mut least_kept = f64::INFINITY;
        let mut largest_pruned = 0.0_f64;
        for slot in range.clone() {
            let block = slot * elements..(slot + 1) * elements;
            let stays = after.columns[slot] == before.columns[slot] && after.columns[slot] != EMPTY;
            if stays {
                assert_eq!(after.values[block.clone()], before.values[block.clone()]);
                least_kept = least_kept.min(energy(&before.values[block.clone()]));
            } else {
                assert!(
                    after.values[block.clone()]
                        .iter()
                        .all(|value| *value == 0.0),
                    "a grown weight is not zero"
                );
                if before.columns[slot] != EMPTY {
                    largest_pruned = largest_pruned.max(energy(&before.values[block.clone()]));
                }
            }
            for (old, new) in before.states.iter().zip(&after.states) {
                for at in block.clone() {
                    assert_eq!(new[at], if stays { old[at] } else { 0.0 });
                }
            }
        }
        assert!(
            largest_pruned <= least_kept * (1.0 + 1e-6),
            "the smallest go"
        );
    }
}

fn filled(shape: &SparseShape, columns: Vec<u32>, states: usize) -> Outcome {
    let length = (shape.blocks() * shape.block_elements()) as usize;
    let mut values = normal(3, length);
    let mut state: Vec<Vec<f32>> = (0..states)
        .map(|state| normal(4 + state as u64, length))
        .collect();
    for (block, _) in columns
        .iter()
        .enumerate()
        .filter(|(_, column)| **column == EMPTY)
    {
        let range =
            block * shape.block_elements() as usize..(block + 1) * shape.block_elements() as usize;
        values[range.clone()].fill(0.0);
        state
            .iter_mut()
            .for_each(|state| state[range.clone()].fill(0.0));
    }
    Outcome {
        columns,
        values,
        states: state,
    }
}

#[test]
fn prune_and_grow_over_several_rounds() {
    let convolution = ConvolutionShape::new(1, [20, 6, 6], 14, [3, 3]).with_padding(1);
    let shape = SparseShape::with_density(convolution, 0.4).unwrap();
    let mut state = filled(&shape, chosen(&shape, 1), 1);
    let mut seen = HashSet::new();
    for seed in 0..4 {
        // The third round prunes to fewer, the last grows again.
        let [keep, grow] = [[14, 4], [9, 9], [10, 2], [12, 6]][seed as usize];
        let order = Order {
            keep,
            grow,
            seed,
            stream: 7,
        };
        order
            .check(
                &shape,
                state.columns[..18]
                    .iter()
                    .filter(|column| **column != EMPTY)
                    .count() as u32,
            )
            .unwrap();
        let after = run(&shape, &state, order, None);
        check(&shape, &state, &after, order);
        seen.insert(after.columns.clone());
        state = filled(&shape, after.columns, 1);
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn the_same_seed_grows_the_same_and_another_stream_does_not() {
    let convolution = ConvolutionShape::new(1, [32, 6, 6], 16, [3, 3]).with_padding(1);
    let shape = SparseShape::with_blocks(convolution, 2, 0.25).unwrap();
    let state = filled(&shape, chosen(&shape, 2), 1);
    let order = |stream| Order {
        keep: 10,
        grow: 8,
        seed: 5,
        stream,
    };
    let [first, again, other] =
        [1, 1, 2].map(|stream| run(&shape, &state, order(stream), None).columns);
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn growth_follows_the_scores() {
    let convolution = ConvolutionShape::new(1, [12, 6, 6], 8, [3, 3]).with_padding(1);
    let shape = SparseShape::with_density(convolution, 0.3).unwrap();
    let state = filled(&shape, chosen(&shape, 3), 1);
    let dense = normal(9, (convolution.weight_bytes() / 4) as usize);
    let oihw = smidgen_conv::unpack_weight(&convolution, &dense).unwrap();
    let mut memory = Guarded::new();
    let at_dense = memory.input(&dense);
    let at_norms = memory.output(shape.score_bytes() as usize / 4);
    let outcome = memory
        .run(&[block_norms(&shape, at_dense, at_norms).unwrap()])
        .unwrap();
    let norms: Vec<f32> = outcome.read(at_norms);
    let expected: Vec<f64> = shape
        .block_energies(&oihw)
        .concat()
        .iter()
        .map(|energy| energy.sqrt())
        .collect();
    assert!(relative_error(&norms, &expected) < 1e-6);

    let order = Order {
        keep: 5,
        grow: 3,
        seed: 0,
        stream: 0,
    };
    let after = run(&shape, &state, order, Some(&norms));
    check(&shape, &state, &after, order);
    for group in 0..2 {
        let range = group * 8..(group + 1) * 8;
        let old: HashSet<u32> = state.columns[range.clone()].iter().copied().collect();
        let score = |column: u32| {
            let [quad, y, x] = column_parts(column);
            norms[group * 27 + (quad * 9 + y * 3 + x) as usize]
        };
        let new: Vec<u32> = after.columns[range]
            .iter()
            .copied()
            .filter(|column| !old.contains(column))
            .collect();
        let least = new
            .iter()
            .map(|column| score(*column))
            .fold(f32::INFINITY, f32::min);
        let better = shape
            .candidate_columns(group as u32)
            .filter(|column| !old.contains(column) && score(*column) > least)
            .count();
        assert_eq!((new.len(), better), (3, 2));
    }
}

#[test]
fn what_cannot_be_exact_is_refused() {
    let shape =
        SparseShape::with_density(ConvolutionShape::new(1, [16, 6, 6], 8, [1, 1]), 0.5).unwrap();
    let order = |keep, grow| Order {
        keep,
        grow,
        seed: 0,
        stream: 0,
    };
    assert_eq!((shape.live, shape.candidates()), (2, 4));
    assert_eq!(order(1, 1).check(&shape, 2), Ok(()));
    for (keep, grow, before) in [(3, 0, 2), (2, 1, 2), (0, 3, 2), (2, 0, 1), (2, 0, 3)] {
        let error = order(keep, grow).check(&shape, before).unwrap_err();
        assert!(matches!(error, SparseError::Mutation { .. }));
    }
    // All but one of the blocks are live: two cannot grow.
    let nearly = SparseShape { live: 3, ..shape };
    assert!(order(1, 2).check(&nearly, 3).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_mutation_keeps_the_count_and_never_regrows(
        channels in (1..30_u32, 1..20_u32), kernel in 1..4_u32, density in 0.05..0.9_f64, shares in (0.0..1.0_f64, 0.0..1.0_f64), seed: u32,
    ) {
        let convolution = ConvolutionShape::new(1, [channels.0, 5, 5], channels.1, [kernel; 2]);
        let least = 1.0 / f64::from(SparseShape::with_density(convolution, 1.0).unwrap().candidates());
        let shape = SparseShape::with_density(convolution, density.max(least)).unwrap();
        let keep = (f64::from(shape.live) * shares.0) as u32;
        let room = (shape.live - keep).min(shape.candidates() - shape.live);
        let order = Order { keep, grow: (f64::from(room) * shares.1).round() as u32, seed, stream: 3 };
        prop_assert_eq!(order.check(&shape, shape.live), Ok(()));
        let state = filled(&shape, chosen(&shape, u64::from(seed)), 1);
        let after = run(&shape, &state, order, None);
        check(&shape, &state, &after, order);
    }
}
