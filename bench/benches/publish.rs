//! What does it cost to make a change visible: one split, one conf change, 256 splits at once?

mod common;

use criterion::{Criterion, criterion_group, criterion_main};

fn publish(criterion: &mut Criterion) {
    common::at_each_size(|roster, regions| {
        common::ask(criterion, &format!("publish_split/{regions}"), 1, roster.publish_split());
        common::ask(criterion, &format!("publish_conf_change/{regions}"), 1, roster.publish_conf_change());
        common::ask(criterion, &format!("publish_batch_256/{regions}"), 1, roster.publish_batch());
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = publish }
criterion_main!(benches);
