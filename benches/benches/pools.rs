//! The pool workloads under criterion: a group per workload, a line per contender. The time is what the workload itself
//! takes, without making the pool: processor time for one thread, on the wall for two.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use fibra_benches::{Workload, measure};

fn pools(criterion: &mut Criterion) {
    for workload in Workload::ALL.into_iter().filter(|workload| workload.is_pool()) {
        // What an iteration is: enough for the clock, or what the workload is defined for.
        let n = workload.fixed_size().unwrap_or_else(|| (100_000 / workload.operations(1)).max(1));
        let mut group = criterion.benchmark_group(workload.name());
        group
            .throughput(Throughput::Elements(workload.operations(n)))
            .sampling_mode(SamplingMode::Flat)
            .sample_size(if workload.fixed_size().is_some() { 10 } else { 30 })
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        for contender in workload.contenders() {
            let id = BenchmarkId::from_parameter(contender.name);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| measure::run(workload, contender, n).time).sum());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, pools);
criterion_main!(benches);
