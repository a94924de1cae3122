//! Recovery of stores that no healthy run leaves behind (T22), of what a crash leaves behind (T3), and of large ones (I8).

use std::collections::HashMap;

use regionmeta::layout::{
    REGION_META_PREFIX, apply_state_key, raft_log_key, raft_state_key, region_state_key, snapshot_raft_state_key,
};
use regionmeta::{
    ApplyState, DecodeError, HardState, MergeState, Peer, PeerState, RaftState, Record, Refusal, Region, RegionDraft,
    RegionEpoch, RegionId,
};
use regionmeta_batch::recovery::{RecoveryError, RecoveryReport};
use regionmeta_batch::storage::fault::{Fault, FaultyStorage};
use regionmeta_batch::storage::{Durability, Family, Storage};
use regionmeta_batch::{OpenError, Store, records};

use crate::common::{
    Disk, Dump, HERE, Mem, Rocks, at, builder, draft, dump, learner, on_each_storage, put, put_ident, put_raw,
    put_region, region, restore, stored_payload,
};

on_each_storage!(
    overlap_is_refused_whichever_version_is_larger,
    a_region_under_a_foreign_key_is_refused,
    a_foreign_stores_region_is_refused,
    damage_names_region_and_key,
    of_two_damaged_records_the_first_is_named,
    an_undecodable_key_is_refused,
    an_unknown_suffix_is_skipped,
    an_unknown_format_version_is_named,
    an_unfinished_destroy_is_finished,
    an_unfinished_snapshot_is_finished,
    a_finished_snapshot_is_left_alone,
    a_snapshot_without_raft_state_is_refused_before_anything_is_repaired,
    waiting_states_are_reported,
    apply_state_behind_its_truncation_is_refused,
    log_behind_its_truncation_is_refused,
    orphans_and_holes_are_no_errors,
    opening_twice_changes_nothing,
    a_crash_inside_a_repair_is_repaired,
);

/// A store's records, written by hand.
fn seed<D: Disk>(disk: &D, write: impl FnOnce(&D::Storage)) {
    let storage = disk.storage();
    put_ident(&storage);
    write(&storage);
}

fn epoch(version: u64) -> RegionEpoch {
    RegionEpoch::new(1, version)
}

fn in_state(region: &Region, state: PeerState) -> Region {
    RegionDraft { state, ..region.to_draft() }.build().unwrap()
}

/// What this store keeps of a region that it lost: the other peers.
fn tombstone(id: u64) -> Region {
    let draft = draft(id, "t", "u", epoch(4));
    RegionDraft { state: PeerState::Tombstone, peers: vec![Peer::voter(999.into(), 2.into())], ..draft }
        .build()
        .unwrap()
}

fn raft_state(last: u64) -> RaftState {
    let hard_state = HardState { term: 6.into(), vote: 0.into(), commit: last.into() };
    RaftState { hard_state, last_index: last.into() }
}

fn apply_state(applied: u64, truncated: u64) -> ApplyState {
    ApplyState { applied_index: applied.into(), truncated: at(truncated), commit: at(applied) }
}

/// Opens with any number of threads; each must refuse with the same words, and nothing may be written.
#[track_caller]
fn refused(disk: &impl Disk) -> RecoveryError {
    let before = dump(&disk.storage());
    let mut errors: Vec<_> = [1, 2, 7]
        .into_iter()
        .map(|threads| match builder().recovery_threads(threads).open_storage(disk.storage()) {
            Err(OpenError::Recovery(error)) => error,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(dump(&disk.storage()), before, "a refused recovery wrote something");
    let last = errors.pop().unwrap();
    assert!(errors.iter().all(|error| error.to_string() == last.to_string()), "{errors:?} {last:?}");
    last
}

fn overlap_is_refused_whichever_version_is_larger(disk: &impl Disk) {
    seed(disk, |storage| put_region(storage, &region(2, "a", "m")));
    for version in [1, 2, 9] {
        put_region(&disk.storage(), &draft(3, "k", "z", epoch(version)).build().unwrap());
        let error = refused(disk);
        let RecoveryError::Tiling(Refusal::Overlap { new, other }) = &error else { panic!("{error}") };
        assert_eq!([new.id(), other.id()], [3, 2].map(RegionId::new));
    }
    // With a destroy to finish beside it: nothing is repaired in a store that is refused.
    put_region(&disk.storage(), &tombstone(60));
    put(&disk.storage(), Family::Raft, &raft_state_key(60.into()), &raft_state(9));
    refused(disk);
    // The same start, and one inside the other.
    put_region(&disk.storage(), &draft(3, "a", "", epoch(2)).build().unwrap());
    assert!(matches!(refused(disk), RecoveryError::Tiling(Refusal::Overlap { .. })));
}

fn a_region_under_a_foreign_key_is_refused(disk: &impl Disk) {
    seed(disk, |storage| put(storage, Family::Raft, &region_state_key(9.into()), &region(2, "", "")));
    let error = refused(disk);
    let RecoveryError::Misplaced { region, at, found } = &error else { panic!("{error}") };
    assert_eq!((region.get(), at.key.as_bytes(), found.id().get()), (9, &region_state_key(9.into())[..], 2));
}

fn a_foreign_stores_region_is_refused(disk: &impl Disk) {
    let peers = vec![Peer::voter(20.into(), 2.into())];
    let foreign = RegionDraft { peers, ..draft(2, "", "", epoch(1)) }.build().unwrap();
    seed(disk, |storage| put_region(storage, &foreign));
    let error = refused(disk);
    assert!(matches!(&error, RecoveryError::Foreign { region, store } if *region == foreign && *store == HERE));
}

/// Flips one bit in the middle of a stored value, and returns the value as it was.
fn damage(storage: &impl Storage, key: &[u8]) -> Vec<u8> {
    let value = storage.get(Family::Raft, key).unwrap().unwrap();
    let mut damaged = value.clone();
    damaged[value.len() / 2] ^= 0x10;
    put_raw(storage, Family::Raft, key, &damaged);
    value
}

/// Every kind of record that recovery reads says which region it is of, under which key it stands, and why it was refused.
fn damage_names_region_and_key(disk: &impl Disk) {
    let id = RegionId::new(4711);
    let applying = in_state(&region(4711, "a", "b"), PeerState::Applying);
    let keys =
        [region_state_key(id), apply_state_key(id), raft_state_key(id), snapshot_raft_state_key(id)].map(Vec::from);
    seed(disk, |storage| {
        put_region(storage, &applying);
        put(storage, Family::Raft, &keys[1], &ApplyState::INITIAL);
        put(storage, Family::Raft, &keys[2], &raft_state(9));
        put(storage, Family::Raft, &keys[3], &raft_state(9));
    });
    disk.open().unwrap();
    for key in &keys {
        let intact = damage(&disk.storage(), key);
        let text = refused(disk).to_string();
        assert!(text.contains("region 4711"), "{text}");
        assert!(text.contains(&regionmeta::Key(key).to_string()), "{text}");
        assert!(text.contains("checksum"), "{text}");
        put_raw(&disk.storage(), Family::Raft, key, &intact);
    }
    disk.open().unwrap();
}

/// Whichever decoder meets its own first.
fn of_two_damaged_records_the_first_is_named(disk: &impl Disk) {
    let keys: Vec<_> = (1..=9_000).map(|id| format!("{id:05}")).collect();
    seed(disk, |storage| {
        let mut batch = storage.batch();
        for (id, ends) in (1..).zip(keys.windows(2)) {
            let region = region(id, &ends[0], &ends[1]);
            records::put(storage, &mut batch, Family::Raft, &region_state_key(region.id()), &region).unwrap();
        }
        storage.write(batch, Durability::Synced).unwrap();
        for id in [100, 8_000] {
            damage(storage, &region_state_key(id.into()));
        }
    });
    let error = refused(disk);
    assert!(matches!(&error, RecoveryError::Damaged { region: Some(id), .. } if id.get() == 100), "{error}");
}

fn an_undecodable_key_is_refused(disk: &impl Disk) {
    let short = [&REGION_META_PREFIX[..], b"short"].concat();
    seed(disk, |storage| put_raw(storage, Family::Raft, &short, b"value"));
    let error = refused(disk);
    assert!(matches!(&error, RecoveryError::UnknownKey { key, .. } if key.as_bytes() == short), "{error}");
}

fn an_unknown_suffix_is_skipped(disk: &impl Disk) {
    let mut other = region_state_key(2.into());
    other[10] = 0x7f;
    let mut raft = raft_state_key(2.into());
    raft[10] = 0x7f;
    seed(disk, |storage| {
        put_region(storage, &region(2, "", ""));
        put_raw(storage, Family::Raft, &other, b"a later version's");
        put_raw(storage, Family::Raft, &raft, b"a later version's");
        put_raw(storage, Family::Raft, &raft_log_key(2.into(), 6.into()), b"the host's log");
    });
    let before = dump(&disk.storage());
    assert_eq!(disk.open().unwrap().recovery().regions, 1);
    assert_eq!(dump(&disk.storage()), before);
}

/// What a later version of this library would write: the checksum holds, so it is no damage.
fn an_unknown_format_version_is_named(disk: &impl Disk) {
    let (region, key) = (region(2, "", ""), region_state_key(2.into()));
    let mut value = Vec::new();
    region.encode(&key, &mut value);
    value[4] = 9;
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&key), &value[..12]), &value[16..]);
    value[12..16].copy_from_slice(&sum.to_le_bytes());
    seed(disk, |storage| put_raw(storage, Family::Raft, &key, &value));
    let error = refused(disk);
    let RecoveryError::Damaged { region: Some(id), error: records::ReadError::Damaged { cause, .. } } = &error else {
        panic!("{error}")
    };
    assert_eq!((id.get(), cause), (2, &DecodeError::UnknownVersion { found: 9 }));
    assert!(error.to_string().contains("version 9"), "{error}");
}

fn without_raft_records(dump: &Dump, id: RegionId) -> Dump {
    let gone = [raft_state_key(id).to_vec(), apply_state_key(id).to_vec(), raft_log_key(id, 6.into()).to_vec()];
    dump.iter().filter(|(_, key, _)| !gone.contains(key)).cloned().collect()
}

fn an_unfinished_destroy_is_finished(disk: &impl Disk) {
    let buried = tombstone(3);
    seed(disk, |storage| {
        put_region(storage, &region(2, "a", "t"));
        put_region(storage, &buried);
        put(storage, Family::Raft, &apply_state_key(3.into()), &ApplyState::INITIAL);
        put(storage, Family::Raft, &raft_state_key(3.into()), &raft_state(9));
        put_raw(storage, Family::Raft, &raft_log_key(3.into(), 6.into()), b"entry");
    });
    let before = dump(&disk.storage());
    let report = disk.open().unwrap().recovery().clone();
    assert_eq!((report.regions, report.tombstones, report.destroys_finished, report.orphan_apply_states), (1, 1, 1, 0));
    let repaired = dump(&disk.storage());
    assert_eq!(repaired, without_raft_records(&before, 3.into()), "the tombstone stays, byte for byte; leftovers go");

    let report = disk.open().unwrap().recovery().clone();
    assert_eq!((report.tombstones, report.destroys_finished), (1, 0));
    assert_eq!(dump(&disk.storage()), repaired);
}

/// A region whose snapshot is durable, with the raft state that the Raft engine has of it.
fn seed_snapshot(disk: &impl Disk, known: Option<RaftState>) {
    seed(disk, |storage| {
        put_region(storage, &in_state(&region(2, "", ""), PeerState::Applying));
        put(storage, Family::Raft, &apply_state_key(2.into()), &apply_state(20, 20));
        put(storage, Family::Raft, &snapshot_raft_state_key(2.into()), &raft_state(20));
        if let Some(known) = known {
            put(storage, Family::Raft, &raft_state_key(2.into()), &known);
            put_raw(storage, Family::Raft, &raft_log_key(2.into(), 6.into()), b"an entry before the snapshot");
        }
    });
}

fn an_unfinished_snapshot_is_finished(disk: &impl Disk) {
    for known in [None, Some(raft_state(9))] {
        seed_snapshot(disk, known);
        let store = disk.open().unwrap();
        assert_eq!(store.recovery().snapshots_finished, 1);
        assert_eq!(store.recovery().applying, [RegionId::new(2)]);
        assert_eq!(store.raft().raft_state(2.into()).unwrap(), Some(raft_state(20)));
        assert_eq!(store.storage().get(Family::Raft, &raft_log_key(2.into(), 6.into())).unwrap(), None);
        drop(store);
        let repaired = dump(&disk.storage());
        assert_eq!(disk.open().unwrap().recovery().snapshots_finished, 0);
        assert_eq!(dump(&disk.storage()), repaired);
    }
}

fn a_finished_snapshot_is_left_alone(disk: &impl Disk) {
    seed_snapshot(disk, Some(raft_state(20)));
    let before = dump(&disk.storage());
    let store = disk.open().unwrap();
    assert_eq!((store.recovery().snapshots_finished, store.recovery().applying.len()), (0, 1));
    drop(store);
    assert_eq!(dump(&disk.storage()), before);
}

/// tikv#12470: "Applying" without a snapshot. The destroy beside it could be finished, but not in a store that is refused.
fn a_snapshot_without_raft_state_is_refused_before_anything_is_repaired(disk: &impl Disk) {
    seed(disk, |storage| {
        put_region(storage, &in_state(&region(2, "", "t"), PeerState::Applying));
        put_region(storage, &tombstone(3));
        put(storage, Family::Raft, &raft_state_key(3.into()), &raft_state(9));
    });
    let error = refused(disk);
    assert!(matches!(&error, RecoveryError::SnapshotStateMissing { region } if region.get() == 2), "{error}");
}

fn waiting_states_are_reported(disk: &impl Disk) {
    let target = region(3, "b", "c");
    let merge_state = Some(MergeState { min_index: 6.into(), commit: 7.into(), target: target.as_ref() });
    let merging = RegionDraft { state: PeerState::Merging, merge_state, ..draft(2, "a", "b", epoch(2)) }.build();
    seed(disk, |storage| {
        put_region(storage, &merging.unwrap());
        put_region(storage, &target);
        put_region(storage, &in_state(&region(4, "c", "d"), PeerState::Unavailable));
        put_region(storage, &in_state(&region(5, "d", "e"), PeerState::Applying));
        put(storage, Family::Raft, &snapshot_raft_state_key(5.into()), &raft_state(9));
        put(storage, Family::Raft, &raft_state_key(5.into()), &raft_state(9));
    });
    let store = disk.open().unwrap();
    let RecoveryReport { regions, merging, unavailable, applying, .. } = store.recovery().clone();
    assert_eq!((regions, merging, unavailable, applying), (4, vec![2.into()], vec![4.into()], vec![5.into()]));
    let snapshot = store.meta().snapshot();
    assert_eq!(snapshot.get(2.into()).unwrap().region().merge_state().unwrap().target.id(), target.id());
    assert_eq!(snapshot.validate(), []);
}

fn apply_state_behind_its_truncation_is_refused(disk: &impl Disk) {
    seed(disk, |storage| {
        put_region(storage, &region(2, "", ""));
        put(storage, Family::Raft, &apply_state_key(2.into()), &apply_state(8, 9));
    });
    let error = refused(disk);
    assert!(matches!(&error, RecoveryError::ApplyBehindTruncation { region, .. } if region.get() == 2), "{error}");
    put(&disk.storage(), Family::Raft, &apply_state_key(2.into()), &apply_state(9, 9));
    disk.open().unwrap();
}

/// The host's log was truncated further than it reaches: it was lost, or is another region's.
fn log_behind_its_truncation_is_refused(disk: &impl Disk) {
    seed(disk, |storage| {
        put_region(storage, &region(2, "", ""));
        put(storage, Family::Raft, &apply_state_key(2.into()), &apply_state(30, 20));
        put(storage, Family::Raft, &raft_state_key(2.into()), &raft_state(19));
    });
    let error = refused(disk);
    assert!(matches!(&error, RecoveryError::LogBehindTruncation { region, .. } if region.get() == 2), "{error}");
    put(&disk.storage(), Family::Raft, &raft_state_key(2.into()), &raft_state(20));
    disk.open().unwrap();
}

fn orphans_and_holes_are_no_errors(disk: &impl Disk) {
    seed(disk, |storage| {
        put_region(storage, &region(2, "b", "c"));
        put_region(storage, &region(3, "d", "e"));
        put(storage, Family::Raft, &apply_state_key(9.into()), &ApplyState::default());
        put(storage, Family::Raft, &apply_state_key(3.into()), &apply_state(8, 5));
    });
    let before = dump(&disk.storage());
    let store = disk.open().unwrap();
    assert_eq!((store.recovery().regions, store.recovery().orphan_apply_states), (2, 1));
    assert_eq!(store.apply_state(2.into()), ApplyState::INITIAL, "a missing apply state is the initial one");
    assert_eq!(store.apply_state(3.into()), apply_state(8, 5));
    let snapshot = store.meta().snapshot();
    assert!(snapshot.locate(b"a").is_none() && snapshot.locate(b"c").is_none() && snapshot.locate(b"e").is_none());
    assert_eq!(snapshot.locate(b"d").unwrap().region().id().get(), 3);
    drop(store);
    assert_eq!(dump(&disk.storage()), before, "orphans are not touched");
}

/// One of everything that recovery repairs.
pub(crate) fn seed_repairs(disk: &impl Disk) {
    seed(disk, |storage| {
        for id in [3, 4] {
            put_region(storage, &tombstone(id));
            put(storage, Family::Raft, &apply_state_key(id.into()), &ApplyState::INITIAL);
            put(storage, Family::Raft, &raft_state_key(id.into()), &raft_state(9));
        }
        for (id, start, end) in [(5, "a", "b"), (6, "b", "c")] {
            put_region(storage, &in_state(&region(id, start, end), PeerState::Applying));
            put(storage, Family::Raft, &apply_state_key(id.into()), &apply_state(20, 20));
            put(storage, Family::Raft, &snapshot_raft_state_key(id.into()), &raft_state(20));
            put(storage, Family::Raft, &raft_state_key(id.into()), &raft_state(9));
        }
        put_region(storage, &region(7, "c", "d"));
    });
}

fn opening_twice_changes_nothing(disk: &impl Disk) {
    seed_repairs(disk);
    disk.open().unwrap().close().unwrap();
    let once = dump(&disk.storage());
    for _ in 0..2 {
        disk.open().unwrap().close().unwrap();
        assert_eq!(dump(&disk.storage()), once);
    }
}

/// T3: each write of the repair fails, and the next recovery ends where an undisturbed one does.
fn a_crash_inside_a_repair_is_repaired(disk: &impl Disk) {
    seed_repairs(disk);
    let before = dump(&disk.storage());
    disk.open().unwrap();
    let repaired = dump(&disk.storage());
    for fault in [Fault::Lost, Fault::Applied] {
        let mut nth = 1;
        loop {
            restore(&disk.storage(), &before);
            match builder().open_storage(FaultyStorage::new(disk.storage(), nth, fault)) {
                Ok(_) => break,
                Err(error) => assert!(error.to_string().contains("injected"), "{error}"),
            }
            disk.open().unwrap();
            assert_eq!(dump(&disk.storage()), repaired, "after write {nth} was {fault:?}");
            nth += 1;
        }
        // One for the tombstones, one for each of their Raft records, two for each snapshot.
        assert_eq!(nth, 8, "every write of the repair was made to fail");
    }
}

/// The descriptors of a store as large as a test can afford, in the order of their keys.
fn many_regions(count: u64) -> Vec<Region> {
    let keys: Vec<_> = (1..count).map(|at| format!("t{:08}_r", at * 7)).collect();
    let starts = [""].into_iter().chain(keys.iter().map(String::as_str));
    let ends = keys.iter().map(String::as_str).chain([""]);
    let regions = starts.zip(ends).zip(1..).map(|((start, end), at)| {
        // Ids do not follow the keys, as after years of splits.
        let id = (at * 7_919) % 20_011 + 1;
        let epoch = RegionEpoch::new(at % 5 + 1, at % 11 + 1);
        let peers = vec![Peer::voter((id * 10).into(), HERE), learner(id * 10 + 1, 2)];
        RegionDraft { peers, ..draft(id, start, end, epoch) }.build().unwrap()
    });
    regions.collect()
}

#[track_caller]
fn assert_recovered<S: Storage>(store: &Store<S>, expected: &[Region]) {
    let snapshot = store.meta().snapshot();
    assert!(snapshot.regions().eq(expected.iter()), "the regions differ");
    assert_eq!(snapshot.validate(), []);
    assert_eq!(store.recovery().regions, expected.len());
}

#[test]
fn twenty_thousand_regions_are_recovered_as_they_were_written() {
    let (disk, regions) = (Rocks::empty(), many_regions(20_000));
    seed(&disk, |storage| {
        for regions in regions.chunks(1_000) {
            let mut batch = storage.batch();
            for region in regions {
                records::write_peer_state(storage, &mut batch, region, PeerState::Normal, None).unwrap();
                let state = apply_state(region.id().get() + 5, 5);
                records::write_apply_state(storage, &mut batch, region.id(), &state).unwrap();
            }
            storage.write(batch, Durability::Buffered).unwrap();
        }
    });
    let mut states = HashMap::new();
    for threads in [1, 2, 7] {
        let store = builder().recovery_threads(threads).open_storage(disk.storage()).unwrap();
        assert_recovered(&store, &regions);
        for region in &regions {
            let state = store.apply_state(region.id());
            assert_eq!(state.applied_index.get(), region.id().get() + 5);
            assert_eq!(*states.entry(region.id()).or_insert(state), state);
        }
        // I6: what readers see are the stored bytes.
        for region in regions.iter().step_by(101) {
            let published = store.meta().snapshot().get(region.id()).unwrap().region().clone();
            assert_eq!(published.as_bytes(), stored_payload(store.storage(), region.id()));
            assert_eq!(published.as_bytes(), region.as_bytes());
        }
    }
}

#[test]
fn an_empty_store_is_recovered() {
    let disk = Mem::empty();
    seed(&disk, |_| {});
    assert_recovered(&disk.open().unwrap(), &[]);
}
