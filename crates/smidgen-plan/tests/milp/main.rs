//! The planner beside an integer programme on random networks: `cargo test --release -p smidgen-plan --features milp`.

#![allow(clippy::print_stdout)]

mod networks;
mod oracle;

use networks::{Random, device, program};
use oracle::Oracle;
use smidgen_graph::forms::Outline;
use smidgen_plan::Planner;

const ALIGNMENT: u64 = 256;
const NETWORKS: u64 = 100;

#[test]
fn exact_plans_are_within_a_hundredth_of_the_optimum() {
    let mut gaps = Vec::new();
    for seed in 0..NETWORKS {
        let mut random = Random(seed);
        let program = program(&mut random).unwrap();
        let costs = device(&mut random);
        let outline = Outline::new(&program);
        let workspaces = vec![0; program.operations.len()];
        let planner = Planner::new(&program, &outline, &workspaces, ALIGNMENT, &costs);
        let oracle = Oracle {
            program: &program,
            outline: &outline,
            planner: &planner,
            costs: &costs,
            alignment: ALIGNMENT,
        };
        let curve = planner.curve(0.0);
        let (most, least) = (curve[0].height, curve[curve.len() - 1].height);
        for share in [0.0, 0.25, 0.5, 0.75] {
            let height = least + (share * (most - least) as f64) as u64;
            let planned = curve.iter().find(|choice| choice.height <= height).unwrap();
            let bound = oracle.seconds(height).unwrap();
            let gap = planned.seconds / bound - 1.0;
            assert!(
                gap > -1e-3,
                "network {seed}: the oracle takes {bound} s for what takes {}",
                planned.seconds
            );
            gaps.push(gap);
        }
    }
    gaps.sort_by(f64::total_cmp);
    let (middle, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!(
        "{} plans: slower by {:.4} % in the median, {:.4} % at worst",
        gaps.len(),
        100.0 * middle,
        100.0 * worst
    );
    assert!(worst <= 0.01, "slower by {worst}");
}
