//! What does a reader notice of a writer that never pauses?

mod common;

use criterion::{Criterion, criterion_group, criterion_main};

fn mixed(criterion: &mut Criterion) {
    common::at_each_size(|roster, regions| {
        common::ask(criterion, &format!("locate_beside_writer/{regions}"), 1, roster.locate_beside_writer());
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = mixed }
criterion_main!(benches);
