//! The apply path: entries become one batch, one write, one published changeset, or nothing at all.

use regionmeta::layout::{apply_state_key, data_key, region_state_key, snapshot_raft_state_key};
use regionmeta::{
    AdminCommand, AdminError, BatchSplit, Change, Outcome, PeerState, RaftState, Reason, Region, RegionEpoch, RegionId,
    Removal, SplitRequest,
};
use regionmeta_batch::apply::{ApplyBatch, ApplyError, CommitError};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::fault::{Fault, FaultyStorage};
use regionmeta_batch::storage::{Durability, Family, MemStorage, Storage};
use regionmeta_batch::{CloseError, Store, records};

use crate::common::{
    CLUSTER, Disk, Mem, add, add_learner, at, builder, covers_everything, dump, learner, on_each_storage, remove,
    restore, split, stored_payload, voter,
};

on_each_storage!(
    nothing_is_seen_before_the_commit,
    a_batch_that_is_dropped_changes_nothing,
    five_changes_of_one_region_are_one_step,
    a_child_changes_in_the_batch_that_creates_it,
    what_readers_see_is_what_is_stored,
    a_destroyed_peer_leaves_a_tombstone_and_never_comes_back,
    a_region_is_not_created_and_destroyed_in_one_batch,
    a_refused_command_counts_and_changes_nothing_else,
    entries_that_do_not_follow_are_refused,
    a_child_that_exists_is_left_as_it_is,
    a_split_that_meets_another_batch_can_be_tried_again,
    a_region_is_in_one_batch_at_a_time,
    an_entry_that_meets_a_failure_does_not_count,
    a_suspended_region_applies_nothing,
    host_data_is_written_with_its_descriptor_or_not_at_all,
    a_failed_write_poisons_the_store,
    reopening_after_a_failed_write_finds_before_or_after,
);

/// The first region of a cluster whose ids the embedded PD handed out: store 1, region 2, peer 3.
const FIRST: RegionId = RegionId::new(2);
const CHILD: RegionId = RegionId::new(10);

fn bootstrapped<S: Storage>(storage: S) -> Store<S> {
    let store = builder().bootstrap_storage(storage, &EmbeddedPd::new(CLUSTER)).unwrap();
    assert_eq!(store.meta().snapshot().locate(b"").unwrap().region().peers().collect::<Vec<_>>(), [voter(3, 1)]);
    store
}

fn epoch(conf_ver: u64, version: u64) -> RegionEpoch {
    RegionEpoch::new(conf_ver, version)
}

fn published<S: Storage>(store: &Store<S>) -> Vec<Region> {
    store.meta().snapshot().regions().cloned().collect()
}

fn find<S: Storage>(store: &Store<S>, id: RegionId) -> Option<Region> {
    store.meta().snapshot().get(id).map(|entry| entry.region().clone())
}

fn stored_state<S: Storage>(store: &Store<S>, id: RegionId) -> Region {
    records::read(store.storage(), Family::Raft, &region_state_key(id)).unwrap().unwrap()
}

/// The split of the first region at "m", as its next entry.
fn split_first<S: Storage>(batch: &mut ApplyBatch<'_, S>) -> Outcome {
    batch.apply(FIRST, at(6), epoch(1, 1), &split("m", 10, &[11])).unwrap()
}

fn nothing_is_seen_before_the_commit(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let (before, sequence, stored) = (store.meta().snapshot(), store.meta().sequence(), dump(store.storage()));

    let mut batch = store.begin();
    split_first(&mut batch);
    batch.apply(FIRST, at(7), epoch(1, 2), &add_learner(learner(20, 2))).unwrap();
    assert_eq!(batch.region(FIRST).unwrap().epoch(), epoch(2, 2), "the batch looks ahead");
    assert_eq!(batch.region(CHILD).unwrap().range(), regionmeta::KeyRange::from_wire(b"m", b""));
    // I4: nobody else does.
    assert_eq!((store.meta().sequence(), dump(store.storage())), (sequence, stored));
    assert_eq!(find(&store, FIRST), before.get(FIRST).map(|entry| entry.region().clone()));
    assert!(find(&store, CHILD).is_none());

    let committed = batch.commit().unwrap();
    let after = store.meta().snapshot();
    assert_eq!((committed.sequence, after.sequence().get()), (after.sequence(), sequence.get() + 1), "one step");
    assert_eq!((after.len(), after.validate(), before.validate_change_to(&after, |_| false)), (2, vec![], vec![]));
    assert_eq!(after.locate(b"lzz").unwrap().region().id(), FIRST);
    assert_eq!(after.locate(b"m").unwrap().region().id(), CHILD);
    assert_eq!((before.len(), before.locate(b"m").unwrap().region().id()), (1, FIRST), "a held snapshot stays");
}

fn a_batch_that_is_dropped_changes_nothing(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let (before, sequence) = (dump(store.storage()), store.meta().sequence());
    let mut batch = store.begin();
    split_first(&mut batch);
    drop(batch);
    assert_eq!((dump(store.storage()), store.meta().sequence()), (before, sequence));
    let mut batch = store.begin();
    split_first(&mut batch);
    batch.commit().unwrap();
}

fn five_changes_of_one_region_are_one_step(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let sequence = store.meta().sequence().get();
    let mut batch = store.begin();
    let commands = [
        (epoch(1, 1), add_learner(learner(20, 2))),
        (epoch(2, 1), add(voter(20, 2))),
        (epoch(3, 1), add_learner(learner(21, 3))),
        (epoch(4, 1), remove(learner(21, 3))),
        (epoch(5, 1), split("m", 10, &[11, 12])),
    ];
    for (index, (epoch, command)) in (6..).zip(&commands) {
        batch.apply(FIRST, at(index), *epoch, command).unwrap();
    }
    let committed = batch.commit().unwrap();
    assert_eq!(committed.sequence.get(), sequence + 1);
    assert!(matches!(
        &committed.changes[..],
        [Change::Update { region, reason: Reason::Split, .. }, Change::Create { region: child }]
            if region.id() == FIRST && child.id() == CHILD
    ));
    let [first, child] = &published(&store)[..] else { panic!() };
    assert_eq!((first.epoch(), child.epoch()), (epoch(5, 2), epoch(5, 2)));
    assert_eq!(first.peers().collect::<Vec<_>>(), [voter(3, 1), voter(20, 2)]);
    assert_eq!(child.peers().collect::<Vec<_>>(), [voter(11, 1), voter(12, 2)]);
    assert_eq!(store.apply_state(FIRST).applied_index.get(), 10);
    assert_eq!(store.apply_state(CHILD).applied_index.get(), 5);

    let expected = published(&store);
    drop(store);
    let store = disk.open().unwrap();
    assert_eq!(published(&store), expected);
    assert_eq!(store.apply_state(FIRST).applied_index.get(), 10);
}

fn a_child_changes_in_the_batch_that_creates_it(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let mut batch = store.begin();
    split_first(&mut batch);
    batch.apply(CHILD, at(6), epoch(1, 2), &add_learner(learner(20, 2))).unwrap();
    batch.apply(CHILD, at(7), epoch(2, 2), &split("t", 30, &[31, 32])).unwrap();
    let committed = batch.commit().unwrap();
    assert_eq!(committed.changes.iter().filter(|change| change.base().is_none()).count(), 2);
    let epochs: Vec<_> = published(&store).iter().map(|region| (region.id().get(), region.epoch())).collect();
    assert_eq!(epochs, [(2, epoch(1, 2)), (10, epoch(2, 3)), (30, epoch(2, 3))]);
    assert_eq!(store.apply_state(CHILD).applied_index.get(), 7);
    let expected = published(&store);
    drop(store);
    assert_eq!(published(&disk.open().unwrap()), expected);
}

/// I6: one buffer for every view, and its bytes are the stored ones.
fn what_readers_see_is_what_is_stored(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let mut batch = store.begin();
    split_first(&mut batch);
    batch.apply(FIRST, at(7), epoch(1, 2), &add_learner(learner(20, 2))).unwrap();
    let ahead = [FIRST, CHILD].map(|id| batch.region(id).unwrap());
    let committed = batch.commit().unwrap();
    let snapshot = store.meta().snapshot();
    for region in ahead {
        let by_id = snapshot.get(region.id()).unwrap().region();
        let by_key = snapshot.locate(region.start_key()).unwrap().region();
        assert!(by_id.same_buffer(&region) && by_key.same_buffer(&region));
        assert!(committed.changes.iter().any(|change| change.after().unwrap().same_buffer(&region)));
        assert_eq!(stored_payload(store.storage(), region.id()), region.as_bytes());
    }
}

/// Splits, adds a second peer to the child and removes this store's: the child leaves the store.
fn destroy_child<S: Storage>(store: &Store<S>) {
    let mut batch = store.begin();
    split_first(&mut batch);
    batch.apply(CHILD, at(6), epoch(1, 2), &add(voter(20, 2))).unwrap();
    batch.commit().unwrap();
    let mut batch = store.begin();
    let outcome = batch.apply(CHILD, at(7), epoch(2, 2), &remove(voter(11, 1))).unwrap();
    assert!(matches!(outcome, Outcome::Destroyed { peer, .. } if peer.get() == 11));
    assert!(batch.region(CHILD).is_none());
    let again = batch.apply(CHILD, at(8), epoch(3, 2), &add(voter(21, 3))).unwrap_err();
    assert!(matches!(again, ApplyError::RegionNotFound { region: CHILD }), "{again}");
    assert!(find(store, CHILD).is_some(), "readers see it until the commit");
    let committed = batch.commit().unwrap();
    assert!(matches!(
        committed.changes[..],
        [Change::Remove { id: CHILD, removal: Removal::Destroyed, peer: Some(peer), .. }] if peer.get() == 11
    ));
}

#[track_caller]
fn assert_child_is_buried<S: Storage>(store: &Store<S>) {
    assert!(find(store, CHILD).is_none());
    assert!(store.meta().snapshot().locate(b"m").is_none(), "its range is a hole");
    assert_eq!(store.meta().snapshot().validate(), []);
    let tombstone = stored_state(store, CHILD);
    assert_eq!((tombstone.state(), tombstone.epoch()), (PeerState::Tombstone, epoch(3, 2)));
    assert_eq!(tombstone.peers().collect::<Vec<_>>(), [voter(20, 2)]);
    assert_eq!(store.storage().get(Family::Raft, &apply_state_key(CHILD)).unwrap(), None);
}

fn a_destroyed_peer_leaves_a_tombstone_and_never_comes_back(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    destroy_child(&store);
    assert_child_is_buried(&store);
    // I12: a split cannot bring it back, now or after a restart; the parent gives up the keys all the same.
    split_beside_child(&store, 7, "c", epoch(1, 2));
    assert_child_is_buried(&store);
    drop(store);
    let store = disk.open().unwrap();
    assert_child_is_buried(&store);
    assert_eq!(store.recovery().tombstones, 1);
    split_beside_child(&store, 8, "b", epoch(1, 3));
    assert_child_is_buried(&store);
}

/// A split of the first region whose child has a record already: only the derived region changes.
fn split_beside_child<S: Storage>(store: &Store<S>, entry: u64, key: &str, before: RegionEpoch) {
    let mut batch = store.begin();
    let outcome = batch.apply(FIRST, at(entry), before, &split(key, 10, &[50])).unwrap();
    let Outcome::Split { regions, derived, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((regions.len(), regions[0].id(), derived), (1, FIRST, FIRST));
    batch.commit().unwrap();
    let derived = find(store, FIRST).unwrap();
    assert_eq!(derived.range(), regionmeta::KeyRange::from_wire(b"", key.as_bytes()));
    assert_eq!(derived.epoch(), before.with_version_moved(1).unwrap());
}

/// I12: a tombstone is synced whatever the host chose, because a peer that comes back votes twice.
#[test]
fn a_tombstone_survives_a_power_loss_though_the_host_does_not_sync() {
    let disk = MemStorage::new();
    let buffered = || builder().durability(Durability::Buffered);
    let store = buffered().bootstrap_storage(disk.clone(), &EmbeddedPd::new(CLUSTER)).unwrap();
    destroy_child(&store);
    disk.crash(0);
    let store = buffered().open_storage(disk.clone()).unwrap();
    assert_child_is_buried(&store);
    // What the host did not sync is gone, as it asked for.
    let mut batch = store.begin();
    batch.apply(FIRST, at(7), epoch(1, 2), &add(voter(60, 3))).unwrap();
    batch.commit().unwrap();
    disk.crash(0);
    assert_eq!(find(&buffered().open_storage(disk.clone()).unwrap(), FIRST).unwrap().epoch(), epoch(1, 2));
    // Unless it closes the store.
    let store = buffered().open_storage(disk.clone()).unwrap();
    let mut batch = store.begin();
    batch.apply(FIRST, at(7), epoch(1, 2), &add(voter(60, 3))).unwrap();
    batch.commit().unwrap();
    store.close().unwrap();
    disk.crash(0);
    assert_eq!(find(&buffered().open_storage(disk).unwrap(), FIRST).unwrap().epoch(), epoch(2, 2));
}

/// A region that a batch creates and destroys was in nobody's map: the changeset had no word for it, the parent's split left
/// a hole, and the whole batch was refused for ever.
fn a_region_is_not_created_and_destroyed_in_one_batch(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let mut batch = store.begin();
    split_first(&mut batch);
    batch.apply(CHILD, at(6), epoch(1, 2), &add(voter(20, 2))).unwrap();
    let error = batch.apply(CHILD, at(7), epoch(2, 2), &remove(voter(11, 1))).unwrap_err();
    assert!(matches!(error, ApplyError::CommitFirst { region: CHILD }), "{error}");
    batch.commit().unwrap();
    // The entry did not count: it is applied in a batch of its own.
    let mut batch = store.begin();
    batch.apply(CHILD, at(7), epoch(2, 2), &remove(voter(11, 1))).unwrap();
    batch.commit().unwrap();
    assert_child_is_buried(&store);
}

fn a_refused_command_counts_and_changes_nothing_else(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let (before, sequence, region) = (dump(store.storage()), store.meta().sequence(), find(&store, FIRST).unwrap());
    let refused = [
        (epoch(1, 2), split("m", 10, &[11])),
        (epoch(1, 0), split("m", 10, &[11])),
        (epoch(2, 1), add(voter(20, 2))),
        (epoch(1, 1), split("", 10, &[11])),
        (epoch(1, 1), split("m", 10, &[])),
        (epoch(1, 1), add(voter(20, 1))),
        (epoch(1, 1), remove(voter(20, 2))),
        (epoch(1, 1), remove(voter(3, 1))),
    ];
    let mut batch = store.begin();
    for (index, (epoch, command)) in (6..).zip(&refused) {
        let error = batch.apply(FIRST, at(index), *epoch, command).unwrap_err();
        assert!(matches!(error, ApplyError::Refused(_)), "{error}");
        assert!(batch.region(FIRST).unwrap().same_buffer(&region));
    }
    let ApplyError::Refused(AdminError::EpochNotMatch { request, current, .. }) =
        batch.apply(FIRST, at(14), epoch(7, 7), &split("m", 10, &[11])).unwrap_err()
    else {
        panic!()
    };
    assert!(request == epoch(7, 7) && current.same_buffer(&region), "a refusal carries the current descriptor");
    let committed = batch.commit().unwrap();
    assert!(committed.changes.is_empty() && committed.sequence == sequence && store.meta().sequence() == sequence);
    assert_eq!(store.apply_state(FIRST).applied_index.get(), 14);
    let but_apply_state = |dump: Vec<(Family, Vec<u8>, Vec<u8>)>| {
        dump.into_iter().filter(|(_, key, _)| *key != apply_state_key(FIRST)).collect::<Vec<_>>()
    };
    assert_eq!(but_apply_state(dump(store.storage())), but_apply_state(before));
    drop(store);
    assert_eq!(disk.open().unwrap().apply_state(FIRST).applied_index.get(), 14);
}

fn entries_that_do_not_follow_are_refused(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let before = dump(store.storage());
    let mut batch = store.begin();
    let command = add_learner(learner(20, 2));
    for index in [0, 4, 5] {
        let error = batch.apply(FIRST, at(index), epoch(1, 1), &command).unwrap_err();
        assert!(matches!(error, ApplyError::AlreadyApplied { region: FIRST, .. }), "{error}");
        assert!(batch.advance(FIRST, at(index)).is_err());
    }
    for index in [7, u64::MAX] {
        let error = batch.apply(FIRST, at(index), epoch(1, 1), &command).unwrap_err();
        assert!(matches!(error, ApplyError::Gap { region: FIRST, .. }), "{error}");
    }
    let error = batch.apply(99.into(), at(6), epoch(1, 1), &command).unwrap_err();
    assert!(matches!(error, ApplyError::RegionNotFound { region } if region.get() == 99), "{error}");
    batch.commit().unwrap();
    assert_eq!(dump(store.storage()), before);

    let mut batch = store.begin();
    assert_eq!(batch.advance(FIRST, at(6)).unwrap().id(), FIRST);
    assert!(matches!(batch.advance(FIRST, at(6)), Err(ApplyError::AlreadyApplied { .. })));
    batch.apply(FIRST, at(7), epoch(1, 1), &command).unwrap();
    batch.commit().unwrap();
    let state = store.apply_state(FIRST);
    assert_eq!((state.applied_index.get(), state.commit), (7, at(7)));
}

/// Spec section 5.5: the derived region changes in every case. A replica that refused the split where its child had a record
/// would stay behind all others for ever (tikv#8967).
fn a_child_that_exists_is_left_as_it_is(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let mut batch = store.begin();
    split_first(&mut batch);
    // In the same batch, not stored yet.
    let outcome = batch.apply(FIRST, at(7), epoch(1, 2), &split("c", 10, &[12])).unwrap();
    assert!(matches!(outcome, Outcome::Split { regions, .. } if regions.len() == 1));
    batch.commit().unwrap();
    let child = find(&store, CHILD).unwrap();
    // On disk.
    split_beside_child(&store, 8, "b", epoch(1, 3));
    assert!(find(&store, CHILD).unwrap().same_buffer(&child));
    assert!(store.meta().snapshot().locate(b"c").is_none(), "the keys are left to the other peer");
    assert_eq!(store.meta().snapshot().validate(), []);
    let before = published(&store);
    drop(store);
    assert_eq!(published(&disk.open().unwrap()), before);
}

/// One of its children is in another batch. What it has reserved for the others must not keep them from coming to be later.
fn a_split_that_meets_another_batch_can_be_tried_again(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let mut batch = store.begin();
    batch.apply(FIRST, at(6), epoch(1, 1), &split("t", 20, &[21])).unwrap();
    batch.commit().unwrap();
    let mut other = store.begin();
    other.advance(20.into(), at(6)).unwrap();
    let request = |key: &str, id: u64| SplitRequest {
        split_key: key.into(),
        new_region_id: id.into(),
        new_peer_ids: vec![(id + 1).into()],
    };
    let requests = vec![request("m", 10), request("p", 20)];
    let command = AdminCommand::BatchSplit(BatchSplit { requests, right_derive: false, shares_size: false });
    let mut batch = store.begin();
    let busy = batch.apply(FIRST, at(7), epoch(1, 2), &command);
    assert!(matches!(busy, Err(ApplyError::Busy { region }) if region.get() == 20), "{busy:?}");
    drop(other);
    let Outcome::Split { regions, skipped, .. } = batch.apply(FIRST, at(7), epoch(1, 2), &command).unwrap() else {
        panic!("no split");
    };
    let ids = |regions: &[Region]| regions.iter().map(|region| region.id().get()).collect::<Vec<_>>();
    assert_eq!((ids(&regions), ids(&skipped)), (vec![2, 10], vec![20]));
    batch.commit().unwrap();
    assert_eq!(find(&store, CHILD).unwrap().epoch(), epoch(1, 4));
}

/// A region belongs to one batch at a time. Otherwise the second one would check its entries against a region that the first
/// has changed meanwhile, or put the applied index back, and entries would be applied twice after a restart.
fn a_region_is_in_one_batch_at_a_time(disk: &impl Disk) {
    let store = bootstrapped(disk.storage());
    let (mut first, mut second) = (store.begin(), store.begin());
    split_first(&mut first);
    let before = dump(store.storage());
    let busy = |error: ApplyError, id| assert!(matches!(error, ApplyError::Busy { region } if region == id), "{error}");
    busy(second.advance(FIRST, at(6)).unwrap_err(), FIRST);
    busy(second.apply(FIRST, at(6), epoch(1, 1), &add_learner(learner(20, 2))).unwrap_err(), FIRST);
    assert!(second.commit().unwrap().changes.is_empty());
    assert_eq!(dump(store.storage()), before, "nothing was written");
    first.commit().unwrap();
    // A batch that is dropped gives its regions back, with nothing changed.
    let mut dropped = store.begin();
    dropped.advance(CHILD, at(6)).unwrap();
    drop(dropped);
    let mut batch = store.begin();
    batch.advance(CHILD, at(6)).unwrap();
    batch.apply(FIRST, at(7), epoch(1, 2), &add_learner(learner(20, 2))).unwrap();
    batch.commit().unwrap();
    assert_eq!((store.apply_state(FIRST).applied_index.get(), store.apply_state(CHILD).applied_index.get()), (7, 6));
}

/// A read that fails in the middle of a split once left the entry counted, and the split lost for ever.
fn an_entry_that_meets_a_failure_does_not_count(disk: &impl Disk) {
    drop(bootstrapped(disk.storage()));
    let store = builder().open_storage(FaultyStorage::new(disk.storage(), 0, Fault::Lost)).unwrap();
    let mut batch = store.begin();
    store.storage().fail_next_read();
    let error = batch.apply(FIRST, at(6), epoch(1, 1), &split("m", 10, &[11])).unwrap_err();
    assert!(matches!(error, ApplyError::Storage(_)), "{error}");
    assert_eq!(batch.applied_index(FIRST).get(), 5);
    split_first(&mut batch);
    batch.commit().unwrap();
    assert!(find(&store, CHILD).is_some());
}

/// Until a region's data is there, the host must not apply to it; and a refusal that counts would be this store's alone.
fn a_suspended_region_applies_nothing(disk: &impl Disk) {
    drop(bootstrapped(disk.storage()));
    for state in [PeerState::Applying, PeerState::Unavailable] {
        let storage = disk.storage();
        let mut batch = storage.batch();
        let first: Region = records::read(&storage, Family::Raft, &region_state_key(FIRST)).unwrap().unwrap();
        records::write_peer_state(&storage, &mut batch, &first, state, None).unwrap();
        let snapshot = snapshot_raft_state_key(FIRST);
        records::put(&storage, &mut batch, Family::Raft, &snapshot, &RaftState::INITIAL).unwrap();
        storage.write(batch, Durability::Synced).unwrap();
        drop(storage);
        let store = disk.open().unwrap();
        let mut batch = store.begin();
        let suspended =
            |error| matches!(error, ApplyError::Suspended { region: FIRST, state: found } if found == state);
        assert!(suspended(batch.advance(FIRST, at(6)).unwrap_err()));
        assert!(suspended(batch.apply(FIRST, at(6), epoch(1, 1), &split("m", 10, &[11])).unwrap_err()));
        assert_eq!(batch.applied_index(FIRST).get(), 5);
    }
}

/// A panic between the write and its publication leaves disk and memory apart: the next commit would be computed from the
/// old region, and the store could never be opened again.
#[test]
fn a_panic_in_the_middle_of_a_commit_poisons_the_store() {
    let disk = MemStorage::new();
    drop(bootstrapped(disk.clone()));
    let store = builder().open_storage(FaultyStorage::new(disk.clone(), 1, Fault::Panics)).unwrap();
    let commit = || {
        let mut batch = store.begin();
        split_first(&mut batch);
        batch.commit()
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(commit)).unwrap_err();
    store.check_writable().unwrap_err();
    assert!(matches!(store.begin().commit(), Err(CommitError::Poisoned(_))));
    assert!(find(&store, CHILD).is_none(), "readers go on, and see what was published");
    assert!(matches!(store.close(), Err(CloseError::Poisoned(_))));
    let store = builder().open_storage(disk).unwrap();
    assert!(find(&store, CHILD).is_some());
}

/// Several workers that wrongly share a region: each entry is acknowledged by one of them only.
#[test]
fn of_workers_that_race_for_an_entry_one_applies_it() {
    let store = bootstrapped(MemStorage::new());
    let last = 2_000;
    let acknowledged: u64 = std::thread::scope(|scope| {
        let work = || {
            let mut acknowledged = 0;
            loop {
                let (mut batch, next) = (store.begin(), store.apply_state(FIRST).applied_index.get() + 1);
                if next > last {
                    return acknowledged;
                }
                if batch.advance(FIRST, at(next)).is_err() {
                    continue; // another worker was faster
                }
                batch.commit().unwrap();
                acknowledged += 1;
            }
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!((acknowledged, store.apply_state(FIRST).applied_index.get()), (last - 5, last));
}

/// I5: the host's data of an entry, the descriptors and the apply state are in one batch.
fn host_data_is_written_with_its_descriptor_or_not_at_all(disk: &impl Disk) {
    drop(bootstrapped(disk.storage()));
    for (fault, index) in [(Fault::Lost, 6), (Fault::Applied, 6)] {
        let store = builder().open_storage(FaultyStorage::new(disk.storage(), 1, fault)).unwrap();
        let mut batch = store.begin();
        batch.apply(FIRST, at(index), epoch(1, 1), &split("m", 10, &[11])).unwrap();
        store.storage().put(batch.data(), Family::Default, &data_key(b"k"), b"host data").unwrap();
        assert!(matches!(batch.commit(), Err(CommitError::Write(_))));
        drop(store);
        let store = disk.open().unwrap();
        let data = store.storage().get(Family::Default, &data_key(b"k")).unwrap();
        let found = (published(&store).len(), data.is_some(), store.apply_state(FIRST).applied_index.get());
        assert_eq!(found, if fault == Fault::Applied { (2, true, 6) } else { (1, false, 5) });
    }
}

/// I14, M12: after a write whose outcome is unknown nothing is published or acknowledged; readers go on.
fn a_failed_write_poisons_the_store(disk: &impl Disk) {
    drop(bootstrapped(disk.storage()));
    let store = builder().open_storage(FaultyStorage::new(disk.storage(), 2, Fault::Lost)).unwrap();
    let begun_before = store.begin();
    let mut batch = store.begin();
    batch.advance(FIRST, at(6)).unwrap();
    batch.commit().unwrap();
    let (before, sequence) = (published(&store), store.meta().sequence());
    let mut batch = store.begin();
    batch.apply(FIRST, at(7), epoch(1, 1), &split("m", 10, &[11])).unwrap();
    let error = batch.commit().unwrap_err();
    assert!(matches!(error, CommitError::Write(_)) && error.to_string().contains("poisoned"), "{error}");

    assert_eq!((published(&store), store.meta().sequence()), (before, sequence), "nothing is published");
    assert_eq!(store.apply_state(FIRST).applied_index.get(), 6, "nothing is acknowledged");
    let cause = store.check_writable().unwrap_err().cause;
    assert!(cause.contains("injected"), "{cause}");
    let stored = dump(store.storage());
    let mut after = store.begin();
    after.advance(FIRST, at(7)).unwrap();
    for batch in [begun_before, after] {
        assert!(matches!(batch.commit(), Err(CommitError::Poisoned(poisoned)) if poisoned.cause == cause));
    }
    assert_eq!(dump(store.storage()), stored, "a poisoned store writes nothing");
    assert_eq!(store.meta().snapshot().locate(b"z").unwrap().region().id(), FIRST, "readers go on");
    assert!(matches!(store.close(), Err(CloseError::Poisoned(_))), "what survives is unknown");
}

/// Each of several commits fails in turn: reopening finds the state before it or after it, and never a mixture.
fn reopening_after_a_failed_write_finds_before_or_after(disk: &impl Disk) {
    let states = ["m", "h", "d", "b"];
    drop(bootstrapped(disk.storage()));
    let fresh = dump(&disk.storage());
    for fault in [Fault::Lost, Fault::Applied] {
        for nth in 1..=states.len() {
            restore(&disk.storage(), &fresh);
            let store = builder().open_storage(FaultyStorage::new(disk.storage(), nth as u64, fault)).unwrap();
            let committed = (1..).zip(states).take_while(|&(step, key)| split_in_step(&store, step, key)).count();
            assert_eq!(committed, nth - 1);
            drop(store);
            let store = disk.open().unwrap();
            let expected = if fault == Fault::Applied { nth } else { nth - 1 };
            let found = published(&store);
            assert_eq!(found.len(), expected + 1, "{fault:?} at {nth}");
            assert!(found.iter().any(|region| region.epoch() == epoch(1, 1 + expected as u64)));
            assert_eq!(store.meta().snapshot().validate(), []);
            assert_eq!(store.apply_state(FIRST).applied_index.get(), 5 + expected as u64);
            assert!(covers_everything(&found));
        }
    }
}

fn split_in_step<S: Storage>(store: &Store<S>, step: u64, key: &str) -> bool {
    let mut batch = store.begin();
    let command = split(key, 100 + step, &[200 + step]);
    batch.apply(FIRST, at(5 + step), epoch(1, step), &command).unwrap();
    batch.commit().is_ok()
}

#[test]
fn disks_of_the_two_kinds_hold_the_same_bytes_after_the_same_entries() {
    let run = |store: Store<_>| {
        destroy_child(&store);
        dump(store.storage())
    };
    let on_rocks = {
        let disk = <crate::common::Rocks as Disk>::empty();
        let store = bootstrapped(disk.storage());
        destroy_child(&store);
        dump(store.storage())
    };
    assert_eq!(run(bootstrapped(Mem::empty().storage())), on_rocks);
}
