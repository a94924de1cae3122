//! What writers cost one another: a permit that is under way, however large, must not slow down or stop the others.

use std::time::{Duration, Instant};

use regionmeta::{Changeset, KeyRange, Peer, RegionDraft, RegionEpoch, Removal, StoreMeta};

use crate::alloc;

/// Creates of as many regions as `ids`, each owning a key of its own.
fn creates(ids: std::ops::Range<u32>) -> Changeset {
    ids.fold(Changeset::new(), |changeset, id| {
        let (start, end) = (id.to_be_bytes(), (id + 1).to_be_bytes());
        let range = KeyRange::from_wire(&start, &end);
        let peers = vec![Peer::voter(1.into(), 1.into())];
        changeset.create(RegionDraft::new(u64::from(id).into(), range, RegionEpoch::INITIAL, peers).build().unwrap())
    })
}

fn time_to_prepare(meta: &StoreMeta, changeset: Changeset) -> Duration {
    let started = Instant::now();
    drop(meta.prepare(changeset).unwrap());
    started.elapsed()
}

/// If every change were held against every reserved range, the second time would be thousands of times the first.
#[test]
fn a_large_changeset_is_checked_quickly_beside_a_large_permit() {
    const CHANGES: u32 = 20_000;
    let meta = StoreMeta::new(None);
    let changeset = creates(1..CHANGES);
    let alone = time_to_prepare(&meta, changeset.clone());
    let _permit = meta.prepare(creates(CHANGES..2 * CHANGES)).unwrap();
    let beside = time_to_prepare(&meta, changeset);
    println!("{alone:?} alone, {beside:?} beside a permit");
    assert!(beside < 20 * alone, "{beside:?} beside a permit, {alone:?} alone");
}

/// The last handle on a version may be the publish that replaces it. Others go on while it frees what may be millions of
/// allocations: here it is far from done when the next writer gets its turn.
#[test]
fn freeing_the_replaced_version_holds_up_no_writer() {
    const REGIONS: u32 = 2_000;
    let meta = StoreMeta::new(None);
    meta.prepare(creates(1..REGIONS + 1)).unwrap().publish();
    let base = meta.sequence();
    let ids = (1..=u64::from(REGIONS)).map(Into::into);
    let all = ids.fold(Changeset::new(), |all, id| all.remove(id, base, Removal::Destroyed, None));
    let permit = meta.prepare(all).unwrap();
    let freed_before_the_others_turn = std::thread::scope(|scope| {
        scope.spawn(|| alloc::free_slowly(|| drop(permit.publish())));
        while meta.sequence() == base {
            std::thread::yield_now();
        }
        drop(meta.prepare(Changeset::new()).unwrap());
        alloc::freed_slowly()
    });
    let freed_afterwards = alloc::freed_slowly() - freed_before_the_others_turn;
    println!("{freed_before_the_others_turn} before, {freed_afterwards} afterwards");
    assert!(freed_afterwards > u64::from(REGIONS) / 2, "{freed_afterwards} of the old version were freed afterwards");
}
