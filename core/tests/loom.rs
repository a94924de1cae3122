//! The publish protocol, in every interleaving that loom can tell apart.
//!
//! Over `core/src/sync/modelled.rs`: loom cannot see into arc-swap, so what is proven is the order in which root, counter and
//! reservations are touched. That arc-swap is such a cell is for `tests/it` to show. `LOOM_MAX_PREEMPTIONS` bounds how often
//! a thread is stopped where it could have gone on; `./dev loom` sets it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail by panicking; clippy knows test functions, not helpers"
)]

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use regionmeta::{
    Changeset, KeyRange, Peer, Permit, ReadHandle, Reason, Refusal, Region, RegionDraft, RegionEpoch, Removal,
    Sequence, Snapshot, StoreId, StoreMeta,
};

const STORE: StoreId = StoreId::new(1);
/// The map begins with two regions that meet at "m".
const LEFT: u64 = 1;
const RIGHT: u64 = 2;

fn region(id: u64, start: &[u8], end: &[u8], epoch: (u64, u64)) -> Region {
    let peers = vec![Peer::voter((id + 100).into(), STORE)];
    let epoch = RegionEpoch::new(epoch.0, epoch.1);
    RegionDraft::new(id.into(), KeyRange::from_wire(start, end), epoch, peers).build().unwrap()
}

/// Built once, outside of the model: a region is bytes, and its making is no part of the protocol.
struct Regions {
    left: Region,
    right: Region,
    left_changed: Region,
    right_changed: Region,
    merged: Region,
    merged_changed: Region,
}

impl Regions {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            left: region(LEFT, b"", b"m", (1, 2)),
            right: region(RIGHT, b"m", b"", (1, 2)),
            left_changed: region(LEFT, b"", b"m", (2, 2)),
            right_changed: region(RIGHT, b"m", b"", (2, 2)),
            merged: region(LEFT, b"", b"", (1, 3)),
            merged_changed: region(LEFT, b"", b"", (2, 3)),
        })
    }

    /// The map with both regions; the next publish is number 2.
    fn published(&self) -> Arc<StoreMeta> {
        let meta = StoreMeta::new(Some(STORE));
        meta.prepare(Changeset::new().create(self.left.clone()).create(self.right.clone())).unwrap().publish();
        Arc::new(meta)
    }

    fn change_left(&self) -> Changeset {
        Changeset::new().update(BASE, self.left_changed.clone(), Reason::ChangePeer)
    }

    fn change_right(&self) -> Changeset {
        Changeset::new().update(BASE, self.right_changed.clone(), Reason::ChangePeer)
    }

    fn merge(&self) -> Changeset {
        let merged = Changeset::new().update(BASE, self.merged.clone(), Reason::CommitMerge);
        merged.remove(RIGHT.into(), BASE, Removal::Merged, Some((RIGHT + 100).into()))
    }
}

const BASE: Sequence = Sequence::new(1);

/// What one thread has seen of the map, by whichever view, and what its next look must agree with.
struct Witness {
    last: Snapshot,
}

impl Witness {
    fn new(first: Snapshot) -> Self {
        assert_eq!(first.validate(), []);
        Self { last: first }
    }

    /// I1 and I11 in each state, I1 to I3 from one to the next.
    fn saw(&mut self, next: &Snapshot) -> u64 {
        assert!(next.sequence() >= self.last.sequence(), "I2: {next:?} after {:?}", self.last);
        assert_eq!(next.validate(), []);
        assert_eq!(self.last.validate_change_to(next, |_| false), []);
        self.last = next.clone();
        next.sequence().get()
    }
}

/// What a writer was answered has happened, for itself at once.
fn publish(meta: &StoreMeta, permit: Permit<'_>) -> Snapshot {
    let published = permit.publish();
    assert!(meta.sequence() >= published.sequence(), "the counter is behind {published:?}");
    assert!(meta.snapshot().sequence() >= published.sequence(), "the root is behind {published:?}");
    published
}

/// Every view in turn: the counter, the root, and a cached snapshot.
fn look(witness: &mut Witness, handle: &ReadHandle, reader: &mut regionmeta::Reader) -> u64 {
    witness.saw(reader.snapshot());
    witness.saw(&handle.snapshot());
    witness.saw(reader.snapshot())
}

/// I2 within a thread, across its views, and across threads: what one reader has seen, the one that it tells sees as well.
#[test]
fn no_reader_goes_back_beside_a_writer() {
    let regions = Regions::new();
    loom::model(move || {
        let meta = regions.published();
        let told = Arc::new(AtomicU64::new(0));
        let teller = thread::spawn({
            let (handle, told) = (meta.read_handle(), told.clone());
            move || {
                let mut witness = Witness::new(handle.snapshot());
                let seen = witness.saw(&handle.snapshot());
                told.store(seen, Ordering::Release); // with the listener's Acquire
            }
        });
        let listener = thread::spawn({
            let mut reader = meta.reader();
            move || {
                let mut witness = Witness::new(reader.snapshot().clone());
                let told = told.load(Ordering::Acquire); // with the teller's Release
                let seen = witness.saw(reader.snapshot());
                assert!(seen >= told, "I2: told of {told}, and sees {seen}");
            }
        });
        publish(&meta, meta.prepare(regions.merge()).unwrap());
        let again = Changeset::new().update(Sequence::new(2), regions.merged_changed.clone(), Reason::ChangePeer);
        publish(&meta, meta.prepare(again).unwrap());
        teller.join().unwrap();
        listener.join().unwrap();
        assert_eq!(meta.snapshot().sequence().get(), 3);
    });
}

/// Both are published, one on top of the other, and a reader sees none, one or both.
#[test]
fn two_writers_of_two_regions_lose_no_update() {
    let regions = Regions::new();
    loom::model(move || {
        let meta = regions.published();
        let reader = thread::spawn({
            let (handle, mut reader) = (meta.read_handle(), meta.reader());
            move || {
                let mut witness = Witness::new(handle.snapshot());
                look(&mut witness, &handle, &mut reader);
            }
        });
        let writer = thread::spawn({
            let (meta, regions) = (meta.clone(), regions.clone());
            move || {
                let published = publish(&meta, meta.prepare(regions.change_left()).unwrap());
                assert!(holds(&published, &regions.left_changed));
            }
        });
        let published = publish(&meta, meta.prepare(regions.change_right()).unwrap());
        assert!(holds(&published, &regions.right_changed));
        writer.join().unwrap();
        reader.join().unwrap();
        let last = meta.snapshot();
        Witness::new(last.clone());
        assert_eq!((last.sequence().get(), meta.sequence().get()), (3, 3));
        assert!(holds(&last, &regions.left_changed) && holds(&last, &regions.right_changed), "an update was lost");
    });
}

fn holds(snapshot: &Snapshot, region: &Region) -> bool {
    snapshot.get(region.id()).is_some_and(|entry| entry.region().same_buffer(region))
}

/// One is refused, whichever it is, and leaves no trace; the region is free for the next afterwards.
#[test]
fn of_two_writers_of_one_region_one_is_refused() {
    let regions = Regions::new();
    loom::model(move || {
        let meta = regions.published();
        let reader = thread::spawn({
            let (handle, mut reader) = (meta.read_handle(), meta.reader());
            move || {
                let mut witness = Witness::new(handle.snapshot());
                look(&mut witness, &handle, &mut reader);
            }
        });
        let writer = thread::spawn({
            let (meta, regions) = (meta.clone(), regions.clone());
            move || publish_or_hear_why_not(&meta, regions.change_left())
        });
        let merged = publish_or_hear_why_not(&meta, regions.merge());
        let changed = writer.join().unwrap();
        reader.join().unwrap();

        let last = meta.snapshot();
        Witness::new(last.clone());
        assert_eq!((merged, last.sequence().get()), (!changed, 2));
        let (winner, loser) =
            if merged { (&regions.merged, &regions.left_changed) } else { (&regions.left_changed, &regions.merged) };
        assert!(holds(&last, winner) && !holds(&last, loser));
        assert_eq!(holds(&last, &regions.right), changed, "refused means untouched");
        assert_all_is_free(&meta);
    });
}

fn publish_or_hear_why_not(meta: &StoreMeta, changeset: Changeset) -> bool {
    match meta.prepare(changeset) {
        Ok(permit) => {
            publish(meta, permit);
            true
        }
        Err(Refusal::Reserved { .. } | Refusal::Stale { .. } | Refusal::NotFound { .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

/// Every region can be changed: no reservation outlived its permit.
fn assert_all_is_free(meta: &StoreMeta) {
    let snapshot = meta.snapshot();
    let destroy = |all: Changeset, region: &Region| {
        let base = snapshot.get(region.id()).unwrap().changed_at();
        all.remove(region.id(), base, Removal::Destroyed, None)
    };
    let all = snapshot.regions().fold(Changeset::new(), destroy);
    drop(meta.prepare(all).unwrap());
}

/// Nothing of a changeset that was given up is ever seen, and whoever was refused for its sake finds the region free.
#[test]
fn a_writer_that_dies_half_way_leaves_nothing() {
    let regions = Regions::new();
    loom::model(move || {
        let meta = regions.published();
        let reader = thread::spawn({
            let (handle, mut reader, regions) = (meta.read_handle(), meta.reader(), regions.clone());
            move || {
                let mut witness = Witness::new(handle.snapshot());
                look(&mut witness, &handle, &mut reader);
                assert!(!holds(&witness.last, &regions.merged), "it was never published");
            }
        });
        let dying = thread::spawn({
            let (meta, regions) = (meta.clone(), regions.clone());
            move || meta.prepare(regions.merge()).is_ok_and(|permit| permit.changeset().changes().len() == 2)
        });
        let changed = publish_or_hear_why_not(&meta, regions.change_left());
        let reserved = dying.join().unwrap();
        reader.join().unwrap();

        assert!(changed || reserved, "one of two is let through");
        let last = meta.snapshot();
        Witness::new(last.clone());
        assert_eq!(last.sequence().get(), if changed { 2 } else { 1 });
        assert_eq!((holds(&last, &regions.left_changed), holds(&last, &regions.left)), (changed, !changed));
        assert!(holds(&last, &regions.right), "it was never published");
        assert_all_is_free(&meta);
    });
}
