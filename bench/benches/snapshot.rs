//! What does it cost to take a consistent state of everything, and to let go of it?

mod common;

use criterion::{Criterion, criterion_group, criterion_main};

fn snapshot(criterion: &mut Criterion) {
    common::at_each_size(|roster, regions| {
        common::ask(criterion, &format!("snapshot/{regions}"), 1, roster.take_snapshot());
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = snapshot }
criterion_main!(benches);
