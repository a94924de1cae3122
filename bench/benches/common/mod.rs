//! What all suites share: the sizes, the allocator, and how a task becomes a criterion benchmark.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use mimalloc::MiMalloc;
use regionmeta_bench::roster::{Roster, Workload};
use regionmeta_bench::tasks::Entrant;
use regionmeta_bench::workload::SEED;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Small, so that a run ends within minutes; `REGIONMETA_BENCH_REGIONS` asks for another size.
const REGIONS: [usize; 2] = [1_000, 100_000];

/// Short measurements: there are many contenders, and all that counts is how they compare.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
}

/// Builds all contenders at each size and asks.
#[expect(clippy::unwrap_used, reason = "a suite has nobody to hand an error to")]
pub(crate) fn at_each_size(mut ask: impl FnMut(&Roster<'_>, usize)) {
    let asked = std::env::var("REGIONMETA_BENCH_REGIONS").ok().and_then(|regions| regions.parse().ok());
    for regions in asked.map_or(REGIONS.to_vec(), |regions| vec![regions]) {
        let work = Workload::new(regions, SEED);
        ask(&Roster::build(&work).unwrap(), regions);
    }
}

/// One benchmark a contender. Wrong answers end the run.
#[expect(clippy::unwrap_used, reason = "a suite has nobody to hand an error to")]
pub(crate) fn ask(criterion: &mut Criterion, question: &str, units_per_op: u64, entrants: Vec<Entrant<'_>>) {
    let mut group = criterion.benchmark_group(question);
    group.throughput(Throughput::Elements(units_per_op));
    for mut entrant in entrants {
        group.bench_function(entrant.name, |bencher| {
            bencher.iter_custom(|ops| {
                let outcome = entrant.run(ops).unwrap();
                assert_eq!(outcome.wrong, 0, "{} answered wrongly in {question}", entrant.name);
                Duration::from_nanos((outcome.ns_per_op() * ops as f64) as u64)
            });
        });
    }
    group.finish();
}
