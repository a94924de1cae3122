//! The publish protocol, in every interleaving that loom can tell apart.
//!
//! Over `core/src/sync/modelled.rs`: loom cannot see into arc-swap, so what is proven is the order in which root, counter and
//! reservations are touched. That arc-swap is such a cell is for `tests/it` to show. `LOOM_MAX_PREEMPTIONS` bounds how often
//! a thread is stopped where it could have gone on; `./dev loom` sets it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking; clippy knows test functions, not helpers"
)]

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use regionmeta::{
    Changeset, KeyRange, Peer, Permit, ReadHandle, Reason, Refusal, Region, RegionDraft, RegionEpoch, Removal,
    Sequence, Snapshot, StoreId, StoreMeta, Subscription,
};

const STORE: StoreId = StoreId::new(1);
/// The map begins with two regions that meet at "m".
const LEFT: u64 = 1;
const RIGHT: u64 = 2;

fn region(id: u64, start: &[u8], end: &[u8], epoch: (u64, u64)) -> Region {
    region_of_peer(id, id + 100, start, end, epoch)
}

fn region_of_peer(id: u64, peer: u64, start: &[u8], end: &[u8], epoch: (u64, u64)) -> Region {
    let peers = vec![Peer::voter(peer.into(), STORE)];
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
    /// Another peer under the id of the left region.
    left_again: Region,
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
            left_again: region_of_peer(LEFT, 900, b"", b"m", (5, 5)),
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

    fn destroy_left(&self) -> Changeset {
        Changeset::new().remove(LEFT.into(), BASE, Removal::Destroyed, Some((LEFT + 100).into()))
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

/// The same when the writer panics with the permit in its hands: unwinding gives the reservation back.
#[test]
fn a_writer_that_panics_before_publishing_leaves_nothing() {
    let regions = Regions::new();
    loom::model(move || {
        let meta = regions.published();
        let dying = thread::spawn({
            let (meta, regions) = (meta.clone(), regions.clone());
            move || {
                let die = || {
                    let _permit = meta.prepare(regions.merge());
                    std::panic::resume_unwind(Box::new(())) // a panic without the message
                };
                let died: Result<(), _> = std::panic::catch_unwind(std::panic::AssertUnwindSafe(die));
                assert!(died.is_err());
            }
        });
        let changed = publish_or_hear_why_not(&meta, regions.change_left());
        dying.join().unwrap();
        let last = meta.snapshot();
        assert_eq!((last.sequence().get(), last.validate()), (if changed { 2 } else { 1 }, vec![]));
        assert!(holds(&last, &regions.right) && !holds(&last, &regions.merged), "it was never published");
        assert_all_is_free(&meta);
    });
}

/// What a subscriber is told, and that it is told in order, once, and never before the state is there.
struct Listener {
    feed: Subscription,
    handle: ReadHandle,
    last: u64,
    lagged: bool,
}

impl Listener {
    fn new(meta: &StoreMeta, from: u64) -> Self {
        let handle = meta.read_handle();
        Self { feed: handle.subscribe_from(from.into()), handle, last: from, lagged: false }
    }

    /// Whether there was any news.
    fn listen(&mut self) -> bool {
        match self.feed.next() {
            Ok(None) => return false,
            Ok(Some(published)) => {
                assert_eq!(published.sequence().get(), self.last + 1, "each change once, in order");
                self.last += 1;
            }
            Err(lagged) => {
                assert!(lagged.resync.sequence().get() > self.last, "sent to {lagged}, and knows {}", self.last);
                self.last = lagged.resync.sequence().get();
                self.lagged = true;
            }
        }
        assert!(self.handle.snapshot().sequence().get() >= self.last, "told of #{} before it can be seen", self.last);
        true
    }
}

/// The ring holds two events here, so the subscriber that begins at 0 may be overrun by the second publish, and the one that
/// begins at 1 is not.
#[test]
fn a_subscriber_hears_of_each_change_once_or_is_told_that_it_lags() {
    let regions = Regions::new();
    for from in [0, 1] {
        let regions = regions.clone();
        loom::model(move || {
            let meta = regions.published();
            let listening = thread::spawn({
                let mut listener = Listener::new(&meta, from);
                move || {
                    listener.listen();
                    listener.listen();
                    listener
                }
            });
            publish(&meta, meta.prepare(regions.merge()).unwrap());
            let again = Changeset::new().update(Sequence::new(2), regions.merged_changed.clone(), Reason::ChangePeer);
            publish(&meta, meta.prepare(again).unwrap());
            let mut listener = listening.join().unwrap();
            while listener.listen() {}
            assert_eq!(listener.last, 3, "a change was kept back");
            assert!(from == 0 || !listener.lagged, "nothing had been lost, and it was sent away");
        });
    }
}

/// M22: a view that is asked again finds what it was told of by another thread, and nothing older.
#[test]
fn a_view_is_never_older_than_what_its_thread_was_told() {
    let regions = Regions::new();
    loom::model(move || {
        let meta = regions.published();
        let told = Arc::new(AtomicU64::new(0));
        let mut view = meta.read_handle().view(LEFT.into()).unwrap();
        let viewer = thread::spawn({
            let (told, regions) = (told.clone(), regions.clone());
            move || {
                let first = view.current().unwrap().clone();
                let told = told.load(Ordering::Acquire); // with the teller's Release
                let second = view.current().unwrap();
                assert!(!second.epoch().is_behind_any(first.epoch()), "I2: {second} after {first}");
                assert!(told < 2 || second.same_buffer(&regions.left_changed), "told of #{told}, and sees {second}");
            }
        });
        let teller = thread::spawn({
            let (handle, told) = (meta.read_handle(), told.clone());
            move || told.store(handle.snapshot().sequence().get(), Ordering::Release) // with the viewer's Acquire
        });
        publish(&meta, meta.prepare(regions.change_left()).unwrap());
        viewer.join().unwrap();
        teller.join().unwrap();
    });
}

/// M28, I12: destroyed and made anew as another peer while the view is looked at. It ends, for ever, and never has the other.
#[test]
fn a_view_does_not_outlive_its_peer() {
    let regions = Regions::new();
    loom::model(move || {
        let meta = regions.published();
        let mut view = meta.read_handle().view(LEFT.into()).unwrap();
        let viewer = thread::spawn({
            let regions = regions.clone();
            move || {
                let seen = [view.current().cloned(), view.current().cloned()];
                for found in seen.iter().flatten() {
                    assert!(found.same_buffer(&regions.left), "{found} is another peer's");
                }
                assert!(seen[0].is_ok() || seen[1].is_err(), "it came back");
                view
            }
        });
        publish(&meta, meta.prepare(regions.destroy_left()).unwrap());
        publish(&meta, meta.prepare(Changeset::new().create(regions.left_again.clone())).unwrap());
        let mut view = viewer.join().unwrap();
        assert!(view.current().is_err() && !view.is_current());
        assert!(meta.read_handle().view(LEFT.into()).unwrap().current().unwrap().same_buffer(&regions.left_again));
    });
}
