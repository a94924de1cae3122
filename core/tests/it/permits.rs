//! What writers cost one another: a permit that is under way, however large or old, must not slow down or stop the others.

use std::time::{Duration, Instant};

use regionmeta::{Changeset, KeyRange, Peer, Reason, Refusal, Region, RegionDraft, RegionEpoch, Removal, StoreMeta};

use crate::alloc;

/// The region that owns the key `id`, and no other of four bytes.
fn region(id: u32, epoch: RegionEpoch) -> Region {
    let (start, end) = (id.to_be_bytes(), (id + 1).to_be_bytes());
    let peers = vec![Peer::voter(1.into(), 1.into())];
    RegionDraft::new(u64::from(id).into(), KeyRange::from_wire(&start, &end), epoch, peers).build().unwrap()
}

/// Creates of as many regions as `ids`, each owning a key of its own.
fn creates(ids: std::ops::Range<u32>) -> Changeset {
    ids.fold(Changeset::new(), |changeset, id| changeset.create(region(id, RegionEpoch::INITIAL)))
}

/// The next conf change of a region, computed from what the map shows.
fn conf_change(meta: &StoreMeta, id: u32) -> Changeset {
    let state = meta.snapshot();
    let current = state.get(u64::from(id).into()).unwrap();
    let RegionEpoch { conf_ver, version, .. } = current.region().epoch();
    Changeset::new().update(
        current.changed_at(),
        region(id, RegionEpoch::new(conf_ver + 1, version)),
        Reason::ChangePeer,
    )
}

/// Four threads change every one of `ids` twice, and hear no refusal.
fn writers_change_all(meta: &StoreMeta, ids: std::ops::Range<u32>) {
    let change_all_of = &|writer| {
        for id in ids.clone().chain(ids.clone()).filter(|id| id % 4 == writer) {
            meta.prepare(conf_change(meta, id)).unwrap().publish();
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|writer| drop(scope.spawn(move || change_all_of(writer)))));
}

fn conf_ver(meta: &StoreMeta, id: u32) -> u64 {
    meta.snapshot().get(u64::from(id).into()).unwrap().region().epoch().conf_ver
}

/// A writer whose disk never answers: its regions stay as they are, for readers too, and everybody else's change as ever.
#[test]
fn a_permit_that_is_held_for_ever_blocks_only_what_it_reserved() {
    let meta = StoreMeta::new(None);
    meta.prepare(creates(1..100)).unwrap().publish();
    let [update, create] = [conf_change(&meta, 7), creates(200..201)];
    let held = meta.prepare(update.with(create.changes()[0].clone())).unwrap();
    writers_change_all(&meta, 8..100);
    assert_eq!([1, 7, 8, 99].map(|id| conf_ver(&meta, id)), [1, 1, 3, 3]);
    assert_eq!(meta.prepare(conf_change(&meta, 7)).unwrap_err(), Refusal::Reserved { region: 7.into() });
    // The keys that it is going to have are taken as well, whoever asks for them.
    let (start, end) = (200_u32.to_be_bytes(), 201_u32.to_be_bytes());
    let peers = vec![Peer::voter(1.into(), 1.into())];
    let other = RegionDraft::new(999.into(), KeyRange::from_wire(&start, &end), RegionEpoch::INITIAL, peers);
    let refused = meta.prepare(Changeset::new().create(other.build().unwrap())).unwrap_err();
    assert_eq!(refused, Refusal::Reserved { region: 200.into() });
    assert_eq!(meta.snapshot().validate(), []);
    drop(held);
}

/// A writer that panics between the check and the publish takes its reservation with it.
#[test]
fn a_writer_that_dies_with_a_permit_gives_it_back() {
    let meta = StoreMeta::new(None);
    meta.prepare(creates(1..100)).unwrap().publish();
    std::thread::scope(|scope| {
        let dying = scope.spawn(|| {
            let _permit = meta.prepare(conf_change(&meta, 7)).unwrap();
            panic!("a writer dies while it persists, as this test wants it");
        });
        assert!(dying.join().is_err());
    });
    writers_change_all(&meta, 1..100);
    assert_eq!([1, 7, 99].map(|id| conf_ver(&meta, id)), [3, 3, 3]);
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
