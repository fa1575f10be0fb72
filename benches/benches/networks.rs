//! The network workloads under criterion: a group per workload, a line per contender, wall time.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use fibra_benches::Workload;

fn networks(criterion: &mut Criterion) {
    for (workload, n) in [
        (Workload::OneToOne, 100_000),
        (Workload::Pipeline, 10_000),
        (Workload::Commstime, 25_000),
        (Workload::Ring, 200),
        (Workload::Spawn, 1_000),
        (Workload::Skynet, 100_000),
        (Workload::Call, 100_000),
    ] {
        let mut group = criterion.benchmark_group(workload.name());
        group
            .throughput(Throughput::Elements(workload.operations(n)))
            .sampling_mode(SamplingMode::Flat)
            .sample_size(20)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        for contender in workload.contenders() {
            let id = BenchmarkId::from_parameter(contender.name);
            group.bench_with_input(id, &n, |bencher, &n| bencher.iter(|| contender.run(black_box(n)).answer));
        }
        group.finish();
    }
}

criterion_group!(benches, networks);
criterion_main!(benches);
