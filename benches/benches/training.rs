//! Training steps of ResNet-20 on random pictures of 32 by 32: upload, forward, loss, backward, update, metrics; throughput in images.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, SamplingMode, Throughput};
use smidgen_benches::training::Run;
use std::time::Instant;

fn train(group: &mut BenchmarkGroup<'_, WallTime>, batch: usize) {
    let name = format!("ResNet-20 at batch {batch}");
    // Criterion calls the closure for every sample, and not at all for what the command line leaves out.
    let mut run = None;
    group
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Elements(batch as u64))
        .bench_function(format!("batch {batch}"), |bencher| {
            let run = run.get_or_insert_with(|| {
                Run::new("resnet20", batch, 32).unwrap_or_else(|error| panic!("{name}: {error}"))
            });
            bencher.iter_custom(|steps| {
                let start = Instant::now();
                run.steps(steps)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                start.elapsed()
            });
        });
}

fn main() {
    let mut criterion = smidgen_benches::criterion(3.0);
    let mut group = criterion.benchmark_group("resnet20");
    [128, 32]
        .into_iter()
        .for_each(|batch| train(&mut group, batch));
    group.finish();
    criterion.final_summary();
}
