//! What does a change cost on its whole way, mailbox to published and answered, beside raw RocksDB writes of the same bytes?

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mimalloc::MiMalloc;
use regionmeta_bench::apply::{Bed, ways};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[expect(clippy::unwrap_used, reason = "a suite has nobody to hand an error to")]
fn apply(criterion: &mut Criterion) {
    for synced in [false, true] {
        let mut bed = Bed::new(10_000, synced).unwrap();
        let mut group = criterion.benchmark_group(if synced { "apply_synced" } else { "apply_unsynced" });
        for way in ways().into_iter().filter(|way| way.synced == synced) {
            let changes = if synced { way.batch.max(64) } else { way.batch.max(4_096) };
            group.throughput(Throughput::Elements(changes as u64));
            let name = if way.workers == 0 { "raw".to_owned() } else { format!("{}_workers", way.workers) };
            group.bench_function(BenchmarkId::new(name, way.batch), |bencher| {
                bencher.iter_custom(|ops| (0..ops).map(|_| bed.measure(way, changes).unwrap()).sum());
            });
        }
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
}

criterion_group! { name = benches; config = settings(); targets = apply }
criterion_main!(benches);
