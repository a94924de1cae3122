//! How long does it take to build the whole map from sorted descriptors?

mod common;

use criterion::{Criterion, criterion_group, criterion_main};

fn bulk_build(criterion: &mut Criterion) {
    common::at_each_size(|roster, regions| {
        common::ask(criterion, &format!("bulk_build/{regions}"), regions as u64, roster.bulk_build());
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = bulk_build }
criterion_main!(benches);
