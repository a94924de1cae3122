//! How many regions share a key with this range: about 100, about 10,000, half of all?

mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use regionmeta_bench::roster::REGIONS_PER_COUNT;

fn count(criterion: &mut Criterion) {
    common::at_each_size(|roster, regions| {
        for ((name, _), entrants) in REGIONS_PER_COUNT.into_iter().zip(roster.count()) {
            common::ask(criterion, &format!("{name}/{regions}"), 1, entrants);
        }
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = count }
criterion_main!(benches);
