//! T28, I7: a million reads beside a writer that never pauses allocate nothing and take no lock, whatever the way, also when
//! the reader lets go of the last handle on a version. `system_calls.rs` shows the same of system calls.

use std::ops::ControlFlow;
use std::time::Duration;

use regionmeta::testkit::locks_taken_here;

use crate::alloc::{self, Allocated};
use crate::every_read::{Looker, WAYS};
use crate::readers::{Read, beside_a_writer, change, tiled};
use crate::seed::rng;

#[test]
fn a_million_reads_beside_a_writer_allocate_nothing_and_take_no_lock() {
    let mut rng = rng("a_million_reads_beside_a_writer_allocate_nothing_and_take_no_lock");
    let meta = tiled();
    let mut looker = Looker::new(&meta, rng.u64(..));
    let mut allocated = [Allocated::default(); WAYS.len()];
    let mut locks = [0; WAYS.len()];
    let reads: Read<'_> = Box::new(|| {
        drop(meta.snapshot()); // the first load of a thread registers it with arc-swap, once
        looker.look_a_million_times(|looker, way| {
            let before = locks_taken_here();
            let (more, ()) = alloc::count(|| looker.look(way));
            allocated[way].times += more.times;
            allocated[way].bytes += more.bytes;
            locks[way] += locks_taken_here() - before;
        });
        ControlFlow::Break(())
    });
    let publishes = beside_a_writer(&meta, Duration::from_secs(120), rng.u64(..), vec![reads]);
    println!("{publishes} publishes, {} last drops, {} changes heard of", looker.last_drops, looker.news);
    assert!(looker.news > 100);
    for (way, (name, _)) in WAYS.iter().enumerate() {
        assert_eq!(allocated[way], Allocated::default(), "{name}");
        // Over the twin a lock stands in the place of arc-swap, and is seen to be counted.
        let may_lock = cfg!(feature = "lock-swap");
        assert!(if may_lock { locks[way] > 0 || !name.contains("::snapshot,") } else { locks[way] == 0 }, "{name}");
    }
}

#[test]
fn a_writers_locks_are_counted() {
    let (meta, before) = (tiled(), locks_taken_here());
    change(&meta, &mut fastrand::Rng::with_seed(1), &mut 1_000);
    assert!(locks_taken_here() > before);
}
