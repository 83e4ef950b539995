//! The three passes of a convolution, over the table of cases and over sizes of real networks; throughput in operations, of which a
//! multiply-add is two.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};
use smidgen_benches::convolution::{PASSES, launches, multiply_adds, networks};
use smidgen_benches::measure;
use smidgen_reference::convolution::{Case, cases};

fn passes(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let operations = Throughput::Elements(multiply_adds(case) * 2);
    for pass in PASSES {
        let (memory, launches) = launches(case, pass);
        measure(
            group,
            &pass.to_string(),
            case.name,
            operations.clone(),
            &memory,
            launches,
        );
    }
}

fn main() {
    let mut criterion = smidgen_benches::criterion(0.5);
    let mut group = criterion.benchmark_group("convolutions of networks");
    networks().iter().for_each(|case| passes(&mut group, case));
    group.finish();
    // Small and odd: what is measured here is mostly the cost of a launch.
    let mut criterion = smidgen_benches::criterion(0.1);
    let mut group = criterion.benchmark_group("convolutions of the tests");
    cases().iter().for_each(|case| passes(&mut group, case));
    group.finish();
    criterion.final_summary();
}
