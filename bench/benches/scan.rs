//! Which hundred regions come from this key on?

mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use regionmeta_bench::roster::REGIONS_PER_SCAN;

fn scan(criterion: &mut Criterion) {
    common::at_each_size(|roster, regions| {
        common::ask(criterion, &format!("scan/{regions}"), REGIONS_PER_SCAN as u64, roster.scan());
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = scan }
criterion_main!(benches);
