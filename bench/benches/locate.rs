//! Which region owns this key? One thread, two threads, uniform and zipfian keys, one by one and 16 at once.

mod common;

use criterion::{Criterion, criterion_group, criterion_main};

fn locate(criterion: &mut Criterion) {
    common::at_each_size(|roster, regions| {
        common::ask(criterion, &format!("locate/{regions}"), 1, roster.locate());
        common::ask(criterion, &format!("locate_zipf/{regions}"), 1, roster.locate_zipf());
        common::ask(criterion, &format!("locate_batched/{regions}"), 1, roster.locate_batched());
        common::ask(criterion, &format!("locate_two_threads/{regions}"), 1, roster.locate_two_threads());
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = locate }
criterion_main!(benches);
