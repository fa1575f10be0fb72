//! The pool workloads under criterion: a group per workload, fibra's size classes and `malloc`, wall time.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fibra_benches::Workload;

fn pools(criterion: &mut Criterion) {
    for (workload, n) in [
        (Workload::PoolTight, 100_000),
        (Workload::PoolInOrder, 100),
        (Workload::PoolReversed, 100),
        (Workload::PoolRandom, 100),
    ] {
        let mut group = criterion.benchmark_group(workload.name());
        group
            .throughput(Throughput::Elements(workload.operations(n)))
            .sample_size(30)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        for contender in workload.contenders() {
            let id = BenchmarkId::from_parameter(contender.name);
            group.bench_with_input(id, &n, |bencher, &n| bencher.iter(|| (contender.run)(black_box(n))));
        }
        group.finish();
    }
}

criterion_group!(benches, pools);
criterion_main!(benches);
