//! I9: memory does not grow with the number of changes. After tens of thousands of splits, merges and membership changes, with
//! snapshots held across for a while, the map has as much in use as before. `./dev perf churn` does the same a million times
//! and more, with threads.

use std::collections::VecDeque;

use regionmeta::{Changeset, Snapshot, StoreMeta};

use crate::alloc;
use crate::readers::{change, tiled};
use crate::seed::rng;

#[test]
fn memory_does_not_grow_with_the_number_of_changes() {
    let mut rng = rng("memory_does_not_grow_with_the_number_of_changes");
    let (meta, mut next_id) = (tiled(), 1_000);
    let mut churn = |changes: u32| {
        let mut held: VecDeque<Snapshot> = VecDeque::new();
        let mut most = 0;
        for _ in 0..changes {
            change(&meta, &mut rng, &mut next_id);
            if rng.u8(0..8) == 0 {
                held.push_back(meta.snapshot());
            }
            held.truncate(16);
            if rng.u8(0..16) == 0 {
                held.pop_front();
            }
            most = alloc::in_use_here().max(most);
        }
        drop(held);
        settle(&meta);
        most
    };
    churn(5_000); // the feed's ring is full now
    let before = alloc::in_use_here();
    let most = churn(40_000);
    let grown = alloc::in_use_here() - before;
    println!("{before} bytes before, {most} at most, {grown} more at the end");
    // One of 128 regions more or less is split when it ends; 40,000 bytes are one for every change.
    assert!(grown.abs() < 30_000, "{grown} bytes more than before");
}

/// What writers free later, they have freed after a few more publishes.
fn settle(meta: &StoreMeta) {
    (0..4).for_each(|_| drop(meta.prepare(Changeset::new()).unwrap().publish()));
}
