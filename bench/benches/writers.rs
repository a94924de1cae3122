//! What does a change cost where several threads publish, each changing regions of its own, without and with a persist
//! between the check and the swap? The time is that of all threads together: half as long is twice as many changes.

mod common;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use regionmeta_bench::tasks::{Kind, Writers};

const THREADS: [usize; 4] = [1, 2, 4, 8];
const PERSISTS: [Duration; 2] = [Duration::ZERO, Duration::from_micros(50)];
const KINDS: [(&str, Kind); 2] = [("conf_change", Kind::ChangePeer), ("split", Kind::SplitOrMerge)];

fn writers(criterion: &mut Criterion) {
    common::at_each_size(|roster, regions| {
        for (name, kind) in KINDS {
            for persist in PERSISTS {
                for threads in THREADS {
                    let question =
                        format!("writers/{name}/persist_us_{}/threads_{threads}/{regions}", persist.as_micros());
                    let entrants = roster.publish_on_threads(Writers { threads, kind, persist });
                    common::ask(criterion, &question, 1, entrants);
                }
            }
        }
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = writers }
criterion_main!(benches);
