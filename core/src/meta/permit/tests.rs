//! A writer that panics with the lock in its hand: the others go on, and what it held is free.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::ids::{RegionId, Sequence};
use crate::keys::KeyRange;
use crate::{Changeset, Peer, Reason, Region, RegionDraft, RegionEpoch, StoreMeta};

/// Where a writer may die, each time under the lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moment {
    /// The changeset was found to be right, and is not reserved yet.
    Checked,
    /// The next index is made, and nobody has seen it.
    Edited,
    /// Readers see it, the feed does not have it.
    Swapped,
}

thread_local! {
    static DIES_AT: Cell<Option<Moment>> = const { Cell::new(None) };
}

pub(super) fn may_die_at(moment: Moment) {
    if DIES_AT.get() == Some(moment) {
        DIES_AT.set(None);
        panic!("a writer dies at the moment that the test has chosen: {moment:?}");
    }
}

/// Version `conf_ver` of the region that owns the keys which begin with the byte `id`.
fn region(id: u8, conf_ver: u64) -> Region {
    let (keys, epoch) = ([id, id + 1], RegionEpoch::new(conf_ver, 1));
    let range = KeyRange::from_wire(&keys[..1], &keys[1..]);
    RegionDraft::new(u64::from(id).into(), range, epoch, vec![Peer::voter(1.into(), 1.into())]).build().unwrap()
}

/// The next version of a region, computed from what the map shows.
fn change(meta: &StoreMeta, id: u8) -> Changeset {
    let state = meta.snapshot();
    let current = state.get(RegionId::from(u64::from(id))).unwrap();
    let next = region(id, current.region().epoch().conf_ver + 1);
    Changeset::new().update(current.changed_at(), next, Reason::ChangePeer)
}

fn conf_ver(meta: &StoreMeta, id: u8) -> u64 {
    meta.snapshot().get(u64::from(id).into()).unwrap().region().epoch().conf_ver
}

#[test]
fn a_writer_that_dies_under_the_lock_stops_nobody() {
    for moment in [Moment::Checked, Moment::Edited, Moment::Swapped] {
        let meta = StoreMeta::new(None);
        let all = (1..4).fold(Changeset::new(), |all, id| all.create(region(id, 1)));
        meta.prepare(all).unwrap().publish();
        let mut feed = meta.read_handle().subscribe_from(meta.sequence());
        let under_way = meta.prepare(change(&meta, 2)).unwrap();

        DIES_AT.set(Some(moment));
        let died = catch_unwind(AssertUnwindSafe(|| meta.prepare(change(&meta, 1)).unwrap().publish()));
        assert!(died.is_err(), "{moment:?} was never reached");
        let seen = u64::from(moment == Moment::Swapped);
        assert_eq!(conf_ver(&meta, 1), 1 + seen, "all of it or nothing, {moment:?}");

        // Who was under way publishes, and both that region and the dead one's can be changed again.
        assert_eq!(under_way.publish().validate(), []);
        for id in [1, 2, 3] {
            assert_eq!(meta.prepare(change(&meta, id)).unwrap().publish().validate(), [], "{moment:?}");
        }
        assert_eq!([1, 2, 3].map(|id| conf_ver(&meta, id)), [2 + seen, 3, 2], "{moment:?}");
        assert_eq!(meta.sequence(), Sequence::new(1 + 4 + seen));

        // A subscriber gets every event, or is told that it missed the one that the feed does not have.
        let first = feed.next();
        assert_eq!(first.is_err(), moment == Moment::Swapped, "{first:?}");
        let events = std::iter::from_fn(|| feed.next().unwrap()).count();
        assert_eq!(events, if first.is_err() { 0 } else { 3 }, "{moment:?}");
    }
}
