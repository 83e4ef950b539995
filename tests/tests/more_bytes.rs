//! What more bytes buy, on random networks: never a slower step, never a smaller batch.

#[path = "../../crates/smidgen-plan/tests/milp/graphs.rs"]
mod graphs;

use graphs::Random;
use smidgen::{Bytes, Plans, SessionOptions, Training, largest_batch};
use smidgen_tests::device;

const QUALITIES: [f64; 3] = [0.0, 0.02, 0.6];
/// So many budgets of a network, from below its least to beyond what keeping all takes.
const BUDGETS: u64 = 40;
/// No batch larger than this is asked for.
const MOST: u32 = 64;

fn options(batch: u32, quality: f64) -> SessionOptions {
    SessionOptions {
        batch,
        training: Some(Training {
            quality,
            ..Training::default()
        }),
        budget: None,
    }
}

#[test]
fn no_step_is_predicted_to_be_slower() {
    let device = device();
    for seed in 0..16 {
        let graph = graphs::graph(&mut Random(seed)).unwrap();
        let mut less_quality = vec![f64::INFINITY; BUDGETS as usize];
        let mut range = None;
        for quality in QUALITIES {
            let options = options(16, quality);
            let plans = Plans::new(&graph, device.facts(), &options).unwrap();
            let points = plans.points().unwrap();
            let (first, last) = (points[0].bytes.0, points[points.len() - 1].bytes.0);
            let (low, high) = *range.get_or_insert((last / 2, first + first / 10));
            let mut slower = f64::INFINITY;
            for (at, known) in less_quality.iter_mut().enumerate() {
                let budget = Bytes(low + (high - low) * at as u64 / (BUDGETS - 1));
                let seconds = plans.seconds_within(budget).unwrap();
                let seconds = seconds.unwrap_or(f64::INFINITY);
                assert!(seconds <= slower, "network {seed} at {quality} in {budget}");
                assert!(
                    seconds <= *known,
                    "network {seed} in {budget}: slower at {quality}"
                );
                (slower, *known) = (seconds, seconds);
            }
        }
    }
}

#[test]
fn no_batch_is_smaller() {
    let device = device();
    for seed in 0..4 {
        let graph = graphs::graph(&mut Random(seed)).unwrap();
        let options = options(1, [0.0, 0.02][seed as usize % 2]);
        let needs = |batch| {
            let options = SessionOptions {
                batch,
                ..options.clone()
            };
            let plans = Plans::new(&graph, device.facts(), &options).unwrap();
            plans.least().unwrap().footprint().total()
        };
        let (low, high) = (needs(2).0, needs(MOST / 2).0);
        let mut smaller = 0;
        for at in 0..6 {
            let budget = Bytes(low + (high - low) * at / 5);
            let found = largest_batch(&graph, device.facts(), &options, budget, MOST);
            let found = found.unwrap().unwrap_or(0);
            assert!(
                found >= smaller,
                "network {seed} in {budget}: {found} after {smaller}"
            );
            assert!(
                needs(found.max(1)) <= budget,
                "network {seed} in {budget}: {found}"
            );
            assert!(
                found == MOST || needs(found + 1) > budget,
                "network {seed} in {budget}: more than {found}"
            );
            smaller = found;
        }
    }
}
