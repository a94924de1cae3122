//! Which region has this id?

mod common;

use criterion::{Criterion, criterion_group, criterion_main};

fn get(criterion: &mut Criterion) {
    common::at_each_size(|roster, regions| {
        common::ask(criterion, &format!("get/{regions}"), 1, roster.get());
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = get }
criterion_main!(benches);
