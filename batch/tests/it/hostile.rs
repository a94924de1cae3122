//! Stores that no healthy run leaves behind (T22): one outcome each, whatever the order in which their records are met.
//!
//! Recovery scans by region id, so each store is made again and again with other ids for the same regions. The second column is
//! the documentation: `opens` with what recovery counted, or `refused` with the kind of the error. A refusal writes nothing, and
//! opening what opened a second time finds the same.
//!
//! `REGIONMETA_HOSTILE_ORDERS` says how often each store is made, 20 by default.

use std::collections::HashMap;
use std::sync::Arc;

use regionmeta::layout::{
    PREPARE_BOOTSTRAP_KEY, REGION_META_PREFIX, STORE_IDENT_KEY, apply_state_key, raft_log_key, raft_state_key,
    region_state_key, snapshot_raft_state_key,
};
use regionmeta::{
    ApplyState, HardState, LogIndex, MergeState, Peer, PeerState, RaftState, Record, Region, RegionDraft, RegionEpoch,
    RegionId, StoreIdent,
};
use regionmeta_batch::bootstrap::BootstrapError;
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::raft_engine::{RaftEngine, StorageRaftEngine};
use regionmeta_batch::records::ReadError;
use regionmeta_batch::recovery::RecoveryError;
use regionmeta_batch::storage::{Family, MemStorage, StorageError};
use regionmeta_batch::{OpenError, Store};

use crate::common::{CLUSTER, Disk, HERE, IDENT, Mem, at, builder, dump, put_raw, seeded, setting};

/// The records of a store in the making. Regions are numbered 0, 1, ..., and stand in that order in the key space.
struct Draft {
    ids: Vec<u64>,
    records: Vec<(Family, Vec<u8>, Vec<u8>)>,
}

impl Draft {
    fn id(&self, region: usize) -> RegionId {
        self.ids[region].into()
    }

    fn put(&mut self, family: Family, key: &[u8], record: &impl Record) {
        let mut value = Vec::new();
        record.encode(key, &mut value);
        self.records.push((family, key.to_vec(), value));
    }

    fn draft(&self, region: usize, start: &'static str, end: &'static str, version: u64) -> RegionDraft<'static> {
        let range = regionmeta::KeyRange::from_wire(start.as_bytes(), end.as_bytes());
        let peer = Peer::voter((self.ids[region] + 10_000).into(), HERE);
        RegionDraft::new(self.id(region), range, RegionEpoch::new(1, version), vec![peer])
    }

    fn region(&mut self, region: usize, start: &'static str, end: &'static str, version: u64) -> Region {
        self.in_state(region, start, end, version, PeerState::Normal)
    }

    fn in_state(
        &mut self,
        id: usize,
        start: &'static str,
        end: &'static str,
        version: u64,
        state: PeerState,
    ) -> Region {
        let region = RegionDraft { state, ..self.draft(id, start, end, version) }.build().unwrap();
        self.put(Family::Raft, &region_state_key(region.id()), &region);
        region
    }

    fn tombstone(&mut self, region: usize, version: u64) {
        let peers = vec![Peer::voter(9.into(), 2.into())];
        let destroyed_peer = Some((self.ids[region] + 10_000).into());
        let draft =
            RegionDraft { state: PeerState::Tombstone, peers, destroyed_peer, ..self.draft(region, "b", "c", version) };
        self.put(Family::Raft, &region_state_key(draft.id), &draft.build().unwrap());
    }

    fn merge(&mut self, source: usize, target: &Region, state: PeerState) {
        let merge_state = Some(MergeState { min_index: 6.into(), commit: 7.into(), target: target.as_ref() });
        let merging = RegionDraft { state, merge_state, ..self.draft(source, "b", "c", 3) }.build().unwrap();
        self.put(Family::Raft, &region_state_key(merging.id()), &merging);
    }

    fn applied(&mut self, region: usize, applied: u64, truncated: u64) {
        let state = ApplyState { applied_index: applied.into(), truncated: at(truncated), commit: at(applied) };
        self.put(Family::Raft, &apply_state_key(self.id(region)), &state);
    }

    fn logged(&mut self, region: usize, last: u64, commit: u64, term: u64) {
        let state = raft_state(last, commit, term);
        self.put(Family::Raft, &raft_state_key(self.id(region)), &state);
    }

    fn last_value(&mut self) -> &mut Vec<u8> {
        &mut self.records.last_mut().unwrap().2
    }
}

fn raft_state(last: u64, commit: u64, term: u64) -> RaftState {
    let hard_state = HardState { term: term.into(), vote: 0.into(), commit: commit.into() };
    RaftState { hard_state, last_index: last.into() }
}

type Case = (&'static str, &'static str, fn(&mut Draft));

/// The stores. Each has a healthy region 0 with ["", b) beside what is wrong with it.
const STORES: [Case; 31] = [
    ("two regions overlap, the newer one on the left", "refused: overlap", |store| {
        store.region(1, "b", "e", 9);
        store.region(2, "d", "f", 2);
    }),
    ("two regions overlap, the newer one on the right", "refused: overlap", |store| {
        store.region(1, "b", "e", 2);
        store.region(2, "d", "f", 9);
    }),
    ("two regions of one version overlap (tikv#15253)", "refused: overlap", |store| {
        store.region(1, "b", "e", 4);
        store.region(2, "d", "f", 4);
    }),
    ("one region inside of another", "refused: overlap", |store| {
        store.region(1, "b", "z", 4);
        store.region(2, "d", "f", 5);
    }),
    ("one range twice", "refused: overlap", |store| {
        store.region(1, "b", "c", 4);
        store.region(2, "b", "c", 5);
    }),
    ("two regions that both have no end", "refused: overlap", |store| {
        store.region(1, "b", "", 4);
        store.region(2, "y", "", 4);
    }),
    ("one id twice: a copy under another region's key", "refused: misplaced", |store| {
        let region = store.region(1, "b", "c", 4);
        let key = region_state_key(store.id(2));
        store.put(Family::Raft, &key, &region);
    }),
    ("a hole", "opens: 2 regions", |store| {
        store.region(1, "d", "e", 4);
    }),
    ("a tombstone where a region lives (raft-engine#142)", "opens: 2 regions, 1 tombstones", |store| {
        store.region(1, "b", "c", 2);
        store.tombstone(2, 9);
    }),
    ("a tombstone whose Raft records are left", "opens: 1 regions, 1 tombstones, 1 destroys finished", |store| {
        store.tombstone(1, 9);
        store.applied(1, 9, 5);
        store.logged(1, 9, 9, 6);
    }),
    ("a tombstone whose apply state is left", "opens: 1 regions, 1 tombstones, 1 orphans", |store| {
        store.tombstone(1, 9);
        store.applied(1, 9, 5);
    }),
    ("a tombstone without an epoch (tikv#12048)", "opens: 1 regions, 1 tombstones", |store| {
        let draft = store.draft(1, "", "", 0);
        let empty = RegionDraft { state: PeerState::Tombstone, epoch: RegionEpoch::new(0, 0), ..draft };
        store.put(Family::Raft, &region_state_key(empty.id), &empty.build().unwrap());
    }),
    ("half a merge: prepared, the target as it was (tikv#15633)", "opens: 3 regions, 1 merging", |store| {
        let target = store.region(2, "c", "d", 4);
        store.merge(1, &target, PeerState::Merging);
    }),
    ("half a merge: prepared, the target not here", "opens: 2 regions, 1 merging", |store| {
        let target = store.draft(2, "c", "d", 4).build().unwrap();
        store.merge(1, &target, PeerState::Merging);
    }),
    ("half a merge: the target has the keys, the source lives (cockroach#33120)", "refused: overlap", |store| {
        let target = store.region(2, "b", "d", 5);
        store.merge(1, &target, PeerState::Merging);
    }),
    ("a whole merge", "opens: 2 regions, 1 tombstones", |store| {
        let target = store.region(2, "b", "d", 5);
        let merged = MergeState { min_index: 0.into(), commit: 0.into(), target: target.as_ref() };
        let draft =
            RegionDraft { state: PeerState::Tombstone, merge_state: Some(merged), ..store.draft(1, "b", "c", 3) };
        store.put(Family::Raft, &region_state_key(draft.id), &draft.build().unwrap());
    }),
    ("Applying without a snapshot (tikv#12470)", "refused: no snapshot", |store| {
        store.in_state(1, "b", "c", 2, PeerState::Applying);
    }),
    ("Applying, the Raft engine behind", "opens: 2 regions, 1 applying, 1 snapshots finished", |store| {
        store.in_state(1, "b", "c", 2, PeerState::Applying);
        store.applied(1, 20, 20);
        store.logged(1, 9, 9, 6);
        let key = snapshot_raft_state_key(store.id(1));
        store.put(Family::Raft, &key, &raft_state(20, 20, 6));
    }),
    ("a region of another store (its copy, or this store's new name)", "refused: foreign", |store| {
        let peers = vec![Peer::voter(77.into(), 2.into())];
        let foreign = RegionDraft { peers, ..store.draft(1, "b", "c", 2) }.build().unwrap();
        store.put(Family::Raft, &region_state_key(foreign.id()), &foreign);
    }),
    ("an applied index behind the log's truncation", "refused: apply state behind", |store| {
        store.region(1, "b", "c", 2);
        store.applied(1, 8, 9);
    }),
    (
        "a log that begins behind what was applied: it was truncated before a power loss",
        "refused: log truncated",
        |store| {
            store.region(1, "b", "c", 2);
            store.applied(1, 8, 5);
            let key = raft_log_key(store.id(1), 10.into());
            store.records.push((Family::Raft, key.to_vec(), b"an entry of the host".to_vec()));
        },
    ),
    ("a log that begins right behind what was applied", "opens: 2 regions", |store| {
        store.region(1, "b", "c", 2);
        store.applied(1, 9, 5);
        for entry in [10, 11] {
            let key = raft_log_key(store.id(1), entry.into());
            store.records.push((Family::Raft, key.to_vec(), b"an entry of the host".to_vec()));
        }
    }),
    ("a log that ends before its truncation", "refused: log behind", |store| {
        store.region(1, "b", "c", 2);
        store.applied(1, 30, 20);
        store.logged(1, 19, 19, 6);
    }),
    ("a commit beyond the log", "refused: commit beyond log", |store| {
        store.region(1, "b", "c", 2);
        store.logged(1, 9, 10, 6);
    }),
    ("a Raft state without a term", "refused: no term", |store| {
        store.region(1, "b", "c", 2);
        store.logged(1, 9, 9, 0);
    }),
    ("an apply state without a region", "opens: 1 regions, 1 orphans", |store| store.applied(1, 9, 5)),
    ("a newer format", "refused: damaged", |store| {
        store.region(1, "b", "c", 2);
        reseal_as_version(store, 9);
    }),
    ("a record of another kind", "refused: damaged", |store| {
        store.region(1, "b", "c", 2);
        store.applied(2, 9, 5);
        let key = region_state_key(store.id(2));
        let mut value = Vec::new();
        ApplyState::INITIAL.encode(&key, &mut value);
        *store.records.last_mut().unwrap() = (Family::Raft, key.to_vec(), value);
    }),
    ("a record that is cut off", "refused: damaged", |store| {
        store.region(1, "b", "c", 2);
        let length = store.last_value().len();
        store.last_value().truncate(length - 1);
    }),
    ("a key that is none", "refused: unknown key", |store| {
        let key = [&REGION_META_PREFIX[..], b"short"].concat();
        store.records.push((Family::Raft, key, b"value".to_vec()));
    }),
    ("half a bootstrap (tikv#1761, cockroach#97616)", "refused: unfinished bootstrap", |store| {
        let region = store.draft(1, "", "", 1).build().unwrap();
        store.put(Family::Default, PREPARE_BOOTSTRAP_KEY, &region);
    }),
];

/// Gives the last record another format version, with a checksum that holds.
fn reseal_as_version(store: &mut Draft, version: u8) {
    let (_, key, value) = store.records.last_mut().unwrap();
    value[4] = version;
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), &value[..12]), &value[16..]);
    value[12..16].copy_from_slice(&sum.to_le_bytes());
}

fn outcome<S: regionmeta_batch::storage::Storage>(opened: &Result<Store<S>, OpenError>) -> String {
    let kind = match opened {
        Ok(store) => return format!("opens: {}", counted(store)),
        Err(OpenError::Recovery(error)) => match error {
            RecoveryError::Tiling(regionmeta::Refusal::Overlap { .. }) => "overlap",
            RecoveryError::Misplaced { .. } => "misplaced",
            RecoveryError::Foreign { .. } => "foreign",
            RecoveryError::SnapshotStateMissing { .. } => "no snapshot",
            RecoveryError::ApplyBehindTruncation { .. } => "apply state behind",
            RecoveryError::ApplyBehindLog { .. } => "log truncated",
            RecoveryError::LogBehindTruncation { .. } => "log behind",
            RecoveryError::CommitBeyondLog { .. } => "commit beyond log",
            RecoveryError::NoTerm { .. } => "no term",
            RecoveryError::Damaged { .. } => "damaged",
            RecoveryError::UnknownKey { .. } => "unknown key",
            other => panic!("{other}"),
        },
        Err(OpenError::Bootstrap(error)) => match error {
            BootstrapError::ForeignCluster { .. } => "foreign cluster",
            BootstrapError::NotBootstrapped => "no identity",
            BootstrapError::Unfinished => "unfinished bootstrap",
            other => panic!("{other}"),
        },
        Err(other) => panic!("{other}"),
    };
    format!("refused: {kind}")
}

fn counted<S: regionmeta_batch::storage::Storage>(store: &Store<S>) -> String {
    let report = store.recovery();
    let counts = [
        (report.regions, "regions"),
        (report.tombstones, "tombstones"),
        (report.merging.len(), "merging"),
        (report.applying.len(), "applying"),
        (report.destroys_finished, "destroys finished"),
        (report.snapshots_finished, "snapshots finished"),
        (report.orphan_apply_states, "orphans"),
    ];
    let seen = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    seen.collect::<Vec<_>>().join(", ")
}

/// Makes the store with these ids, opens it, and checks what has to hold whatever the outcome.
fn opened((what, _, make): &Case, ids: Vec<u64>, ident: Option<StoreIdent>) -> String {
    let disk = Mem::empty();
    let mut draft = Draft { ids, records: Vec::new() };
    draft.region(0, "", "b", 1);
    make(&mut draft);
    if let Some(ident) = ident {
        draft.put(Family::Default, STORE_IDENT_KEY, &ident);
    }
    draft.records.iter().for_each(|(family, key, value)| put_raw(&disk.0, *family, key, value));
    let before = dump(&disk.0);
    let first = disk.open();
    let outcome = outcome(&first);
    match first {
        Err(_) => assert_eq!(dump(&disk.0), before, "{what}: a refusal wrote something"),
        Ok(store) => {
            assert_eq!(store.meta().snapshot().validate(), [], "{what}");
            drop(store);
            let repaired = dump(&disk.0);
            disk.open().unwrap_or_else(|error| panic!("{what}: the second time: {error}"));
            assert_eq!(dump(&disk.0), repaired, "{what}");
        }
    }
    outcome
}

fn shuffled_ids(rng: &mut fastrand::Rng) -> Vec<u64> {
    let mut ids: Vec<u64> = (1..=3).map(|number| number * 100 + rng.u64(..100)).collect();
    rng.shuffle(&mut ids);
    ids
}

#[test]
fn every_hostile_store_has_one_outcome_in_any_order() {
    let (_, mut rng) = seeded("every_hostile_store_has_one_outcome_in_any_order");
    for case in &STORES {
        for _ in 0..setting("REGIONMETA_HOSTILE_ORDERS", 20) {
            let ids = shuffled_ids(&mut rng);
            assert_eq!(opened(case, ids.clone(), Some(IDENT)), case.1, "{}, ids {ids:?}", case.0);
        }
    }
}

#[test]
fn a_store_with_a_foreign_identity_or_none_is_refused() {
    let healthy: Case = ("healthy", "opens: 1 regions", |_| ());
    let with = |ident| opened(&healthy, vec![2, 3, 4], ident);
    assert_eq!(with(Some(IDENT)), healthy.1);
    assert_eq!(with(Some(StoreIdent { cluster_id: 8.into(), ..IDENT })), "refused: foreign cluster");
    assert_eq!(with(Some(StoreIdent { store_id: 2.into(), ..IDENT })), "refused: foreign");
    assert_eq!(with(None), "refused: no identity");
    let other_api = builder().api_version(2);
    let disk = Mem::empty();
    crate::common::put_ident(&disk.0);
    let error = other_api.open_storage(disk.0).unwrap_err();
    assert!(matches!(error, OpenError::Bootstrap(BootstrapError::ApiVersion { expected: 2, found: 1 })), "{error}");
}

/// A host's own Raft engine, whose logs begin where a truncation left them.
#[derive(Debug)]
struct Truncated(StorageRaftEngine<MemStorage>, HashMap<RegionId, LogIndex>);

impl RaftEngine for Truncated {
    fn raft_state(&self, region: RegionId) -> Result<Option<RaftState>, ReadError> {
        self.0.raft_state(region)
    }

    fn raft_states(&self) -> Result<HashMap<RegionId, RaftState>, ReadError> {
        self.0.raft_states()
    }

    fn first_indexes(&self) -> Result<HashMap<RegionId, LogIndex>, ReadError> {
        Ok(self.1.clone())
    }

    fn put_raft_state(&self, region: RegionId, state: &RaftState) -> Result<(), StorageError> {
        self.0.put_raft_state(region, state)
    }

    fn clean(&self, region: RegionId) -> Result<(), StorageError> {
        self.0.clean(region)
    }
}

/// The host truncated its log because an entry was applied, and the power loss took the batch that had applied it.
#[test]
fn a_log_of_the_host_that_was_truncated_too_far_is_refused() {
    let disk = Mem::empty();
    let store = builder().bootstrap_storage(disk.0.clone(), &EmbeddedPd::new(CLUSTER)).unwrap();
    let region = store.meta().snapshot().locate(b"").unwrap().region().id();
    drop(store);
    let open = |first: u64| {
        let engine = StorageRaftEngine::new(Arc::new(MemStorage::new()));
        let engine = Truncated(engine, [(region, first.into())].into());
        builder().raft_engine(Arc::new(engine)).open_storage(disk.0.clone())
    };
    let error = open(7).unwrap_err();
    let OpenError::Recovery(RecoveryError::ApplyBehindLog { region: named, first, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!((*named, first.get()), (region, 7));
    open(6).unwrap();
}
