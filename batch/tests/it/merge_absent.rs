//! A merge whose source is out of the pool for a while, as for a snapshot of its own: the target waits for that too, and
//! every end of the wait is heard.

use std::time::Duration;

use regionmeta::{Peer, RegionId};
use regionmeta_batch::apply::{AnswerError, ApplyError, Data, Entry};
use regionmeta_batch::peers::{Destroyed, Peers};
use regionmeta_batch::storage::{Storage, StorageError};

use crate::common::{Disk, at, on_each_storage};
use crate::merge::{Event, LEFT, MIDDLE, Merging, RIGHT, as_if_prepared, assert_merged_away, prepare, source_to_come};

on_each_storage!(
    a_source_that_was_stopped_is_waited_for,
    a_source_that_is_not_there_yet_is_waited_for,
    a_source_that_is_destroyed_meanwhile_ends_the_wait,
    who_waits_for_an_absent_source_can_be_stopped,
    who_waits_for_an_absent_source_is_answered_at_shutdown,
    who_waits_for_an_absent_source_hears_that_the_store_is_poisoned,
    a_circle_through_a_source_that_was_absent_ends,
    a_source_that_was_destroyed_before_is_not_waited_for,
);

/// The target is parked: it has been looked at, and nothing was answered.
#[track_caller]
fn assert_waits<S: Storage>(merging: &Merging<S>) {
    (0..20).for_each(|_| merging.write_and_expect(LEFT)); // every worker is free
    let heard = merging.events.recv_timeout(Duration::from_millis(20));
    assert!(heard.is_err(), "{heard:?}");
}

#[track_caller]
fn stop<S: Storage>(merging: &Merging<S>, region: RegionId) {
    assert!(merging.pool.router().stop(region));
    let stopped = merging.event();
    assert!(matches!(stopped, Event::Stopped(id) if id == region), "{stopped:?}");
}

/// The source is away, and the target waits for it; the index of its CommitMerge.
#[track_caller]
fn waiting<S: Storage>(merging: &Merging<S>) -> u64 {
    stop(merging, RIGHT);
    let index = merging.next(MIDDLE);
    merging.commit(MIDDLE, &source_to_come());
    assert_waits(merging);
    index
}

/// The source is added again and comes to its PrepareMerge; the target is answered.
#[track_caller]
fn come_back_and_merge<S: Storage>(merging: &Merging<S>, index: u64) {
    assert!(merging.pool.router().add(RIGHT));
    assert!(matches!(merging.event(), Event::CatchUp { target: MIDDLE, source: RIGHT }), "the host is asked now");
    assert_waits(merging);
    let (source, last) = (source_to_come(), merging.next(RIGHT));
    merging.send(RIGHT, last, merging.region(RIGHT).epoch(), prepare(&merging.region(MIDDLE), last));
    merging.expect_applied(RIGHT, last);
    merging.expect_applied(MIDDLE, index);
    assert!(matches!(merging.event(), Event::Stopped(RIGHT)));
    assert_merged_away(&merging.store, &source, MIDDLE);
}

fn a_source_that_was_stopped_is_waited_for(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let index = merging.next(MIDDLE);
    merging.commit(MIDDLE, &source_to_come());
    assert!(matches!(merging.event(), Event::CatchUp { .. }));
    for _ in 0..3 {
        stop(&merging, RIGHT);
        assert_waits(&merging);
        assert!(merging.pool.router().add(RIGHT));
        assert!(matches!(merging.event(), Event::CatchUp { target: MIDDLE, source: RIGHT }));
    }
    stop(&merging, RIGHT);
    come_back_and_merge(&merging, index);
}

/// A batch beside the pool has the source meanwhile, as its own snapshot would.
fn a_source_that_is_not_there_yet_is_waited_for(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let index = waiting(&merging);
    let mut batch = merging.store.begin();
    batch.advance(RIGHT, at(merging.next(RIGHT))).unwrap();
    drop(batch);
    assert_waits(&merging);
    come_back_and_merge(&merging, index);
}

#[track_caller]
fn destroy<S: Storage>(merging: &Merging<S>, region: RegionId) {
    let peers = Peers::new(merging.store.clone());
    let own = merging.region(region).peer_on(merging.store.ident().store_id).map(|peer: Peer| peer.id).unwrap();
    assert!(matches!(peers.destroy(region, own).unwrap(), Destroyed::Buried { .. }));
}

/// The command cannot be executed on this store any more, and skipping it would make the region another one than elsewhere.
#[track_caller]
fn expect_end<S: Storage>(merging: &Merging<S>, index: u64) {
    let ended = merging.event();
    let fatal =
        |error: &AnswerError| matches!(error, AnswerError::NotApplied(ApplyError::Fatal(_) | ApplyError::Waits(_)));
    assert!(
        matches!(&ended, Event::Answered(MIDDLE, found, Err(error)) if *found == index && fatal(error)),
        "{ended:?}"
    );
    assert!(matches!(merging.event(), Event::Stopped(MIDDLE)));
    assert_eq!(merging.next(MIDDLE), index, "the entry does not count");
}

fn a_source_that_is_destroyed_meanwhile_ends_the_wait(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let index = waiting(&merging);
    destroy(&merging, RIGHT);
    expect_end(&merging, index);
}

fn a_source_that_was_destroyed_before_is_not_waited_for(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    stop(&merging, RIGHT);
    destroy(&merging, RIGHT);
    let index = merging.next(MIDDLE);
    merging.commit(MIDDLE, &source_to_come());
    expect_end(&merging, index);
}

/// It comes back in front of its source, and waits as before.
fn who_waits_for_an_absent_source_can_be_stopped(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let index = waiting(&merging);
    for _ in 0..3 {
        assert!(merging.pool.router().stop(MIDDLE));
        let closed = merging.event();
        assert!(matches!(closed, Event::Answered(MIDDLE, found, Err(AnswerError::Closed { .. })) if found == index));
        assert!(matches!(merging.event(), Event::Stopped(MIDDLE)));
        assert!(merging.pool.router().add(MIDDLE));
        merging.commit(MIDDLE, &source_to_come());
        assert_waits(&merging);
    }
    come_back_and_merge(&merging, index);
}

fn who_waits_for_an_absent_source_is_answered_at_shutdown(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let index = waiting(&merging);
    let Merging { pool, events, .. } = merging;
    pool.shut_down();
    let closed =
        |event| matches!(event, Event::Answered(MIDDLE, found, Err(AnswerError::Closed { .. })) if found == index);
    assert_eq!(events.try_iter().filter(|event| matches!(event, Event::Answered(..))).map(closed).count(), 1);
}

fn who_waits_for_an_absent_source_hears_that_the_store_is_poisoned(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let index = waiting(&merging);
    let failing = Data::with(|_, _, _| {
        let (location, cause) = (String::new(), String::new());
        Err(StorageError::Backend { action: "put", location, cause })
    });
    let entry = Entry::write(at(merging.next(LEFT)), merging.region(LEFT).epoch(), failing, ());
    merging.pool.router().send(LEFT, entry).unwrap();
    let mut poisoned: Vec<_> = (0..2)
        .map(|_| match merging.event() {
            Event::Answered(region, index, Err(AnswerError::Poisoned(_))) => (region, index),
            other => panic!("{other:?}"),
        })
        .collect();
    poisoned.sort_unstable();
    assert_eq!(poisoned, [(LEFT, merging.next(LEFT)), (MIDDLE, index)]);
}

/// The circle is closed when the source is back; nobody waits for it any more then, though it is on this store.
fn a_circle_through_a_source_that_was_absent_ends(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let (middle, right) = (merging.region(MIDDLE), merging.region(RIGHT));
    stop(&merging, RIGHT);
    merging.commit(MIDDLE, &as_if_prepared(&right, &middle, 9));
    assert_waits(&merging);
    assert!(merging.pool.router().add(RIGHT));
    merging.commit(RIGHT, &as_if_prepared(&middle, &right, 9));
    let (mut stopped, mut circles) = (0, 0);
    while stopped < 2 {
        match merging.event() {
            Event::CatchUp { .. } => {}
            Event::Answered(_, _, Err(AnswerError::NotApplied(error))) => {
                circles += usize::from(matches!(error, ApplyError::MergeCircle { .. }));
                assert!(matches!(error, ApplyError::MergeCircle { .. } | ApplyError::Waits(_)), "{error}");
            }
            Event::Stopped(_) => stopped += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(circles, 1);
    // Who comes late to the end of a circle ends as well, until the host has its source again.
    let index = merging.next(LEFT);
    merging.commit(LEFT, &as_if_prepared(&middle, &merging.region(LEFT), 9));
    let ended = merging.event();
    let waits = |error: &AnswerError| matches!(error, AnswerError::NotApplied(ApplyError::Waits(_)));
    assert!(matches!(&ended, Event::Answered(LEFT, found, Err(error)) if *found == index && waits(error)), "{ended:?}");
}
