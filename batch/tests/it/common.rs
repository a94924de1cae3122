//! What the tests share: disks that survive a restart, descriptors, commands, dumps.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regionmeta::layout::{STORE_IDENT_KEY, region_state_key};
use regionmeta::{
    AdminCommand, BatchSplit, ChangeKind, ClusterId, KeyRange, LogPosition, Peer, PeerChange, Record, Region,
    RegionDraft, RegionEpoch, RegionId, SplitRequest, StoreId, StoreIdent,
};
use regionmeta_batch::StoreBuilder;
use regionmeta_batch::storage::{Durability, Family, MemStorage, RocksStorage, Storage};
use regionmeta_batch::{OpenError, Store, records};
use tempfile::TempDir;

pub(crate) const CLUSTER: ClusterId = ClusterId::new(7);
/// The store whose records the tests write by hand.
pub(crate) const HERE: StoreId = StoreId::new(1);
pub(crate) const IDENT: StoreIdent = StoreIdent { cluster_id: CLUSTER, store_id: HERE, api_version: 1 };

pub(crate) fn builder() -> StoreBuilder {
    StoreBuilder::new(CLUSTER).pd_patience(3, Duration::ZERO).recovery_threads(2)
}

/// Something that keeps its content while stores on it come and go.
pub(crate) trait Disk {
    type Storage: Storage;

    fn empty() -> Self;
    fn storage(&self) -> Self::Storage;

    fn open(&self) -> Result<Store<Self::Storage>, OpenError> {
        builder().open_storage(self.storage())
    }
}

pub(crate) struct Mem(pub(crate) MemStorage);

impl Disk for Mem {
    type Storage = MemStorage;

    fn empty() -> Self {
        Self(MemStorage::new())
    }

    fn storage(&self) -> MemStorage {
        self.0.clone()
    }
}

pub(crate) struct Rocks(pub(crate) TempDir);

impl Rocks {
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }
}

impl Disk for Rocks {
    type Storage = RocksStorage;

    fn empty() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn storage(&self) -> RocksStorage {
        RocksStorage::create(&self.path(), Durability::Synced).unwrap()
    }
}

/// Runs each of these functions, which take an empty disk, as a test in memory and as a test on RocksDB.
macro_rules! on_each_storage {
    ($($name:ident),* $(,)?) => {
        mod mem {
            $(#[test] fn $name() { super::$name(&<$crate::common::Mem as $crate::common::Disk>::empty()); })*
        }
        mod rocks {
            $(#[test] fn $name() { super::$name(&<$crate::common::Rocks as $crate::common::Disk>::empty()); })*
        }
    };
}
pub(crate) use on_each_storage;

pub(crate) type Dump = Vec<(Family, Vec<u8>, Vec<u8>)>;

/// Everything that is stored, in order.
pub(crate) fn dump(storage: &impl Storage) -> Dump {
    let mut records = Vec::new();
    for family in Family::ALL {
        let mut visit = |key: &[u8], value: &[u8]| {
            records.push((family, key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        storage.scan(family, KeyRange::ALL, &mut visit).unwrap();
    }
    records
}

/// Makes the storage hold exactly what a dump says.
pub(crate) fn restore(storage: &impl Storage, content: &Dump) {
    let mut batch = storage.batch();
    for (family, key, _) in dump(storage) {
        storage.delete(&mut batch, family, &key).unwrap();
    }
    for (family, key, value) in content {
        storage.put(&mut batch, *family, key, value).unwrap();
    }
    storage.write(batch, Durability::Synced).unwrap();
}

pub(crate) fn put_raw(storage: &impl Storage, family: Family, key: &[u8], value: &[u8]) {
    let mut batch = storage.batch();
    storage.put(&mut batch, family, key, value).unwrap();
    storage.write(batch, Durability::Synced).unwrap();
}

pub(crate) fn put(storage: &impl Storage, family: Family, key: &[u8], record: &impl Record) {
    let mut batch = storage.batch();
    records::put(storage, &mut batch, family, key, record).unwrap();
    storage.write(batch, Durability::Synced).unwrap();
}

pub(crate) fn put_ident(storage: &impl Storage) {
    put(storage, Family::Default, STORE_IDENT_KEY, &IDENT);
}

pub(crate) fn put_region(storage: &impl Storage, region: &Region) {
    put(storage, Family::Raft, &region_state_key(region.id()), region);
}

/// The payload of a region's stored record: the bytes behind the envelope.
pub(crate) fn stored_payload(storage: &impl Storage, id: RegionId) -> Vec<u8> {
    storage.get(Family::Raft, &region_state_key(id)).unwrap().unwrap()[regionmeta::ENVELOPE_BYTES..].to_vec()
}

/// Whether regions in key order tile every key, without a hole or an overlap (I1).
pub(crate) fn covers_everything(regions: &[Region]) -> bool {
    let starts = regions.iter().map(Region::start_key).chain([&b""[..]]);
    let ends = [&b""[..]].into_iter().chain(regions.iter().map(|region| region.end_key().to_wire()));
    !regions.is_empty() && starts.eq(ends)
}

/// A draft of a region with one voter here, whose peer id is ten times the region's.
pub(crate) fn draft<'a>(id: u64, start: &'a str, end: &'a str, epoch: RegionEpoch) -> RegionDraft<'a> {
    let range = KeyRange::from_wire(start.as_bytes(), end.as_bytes());
    RegionDraft::new(id.into(), range, epoch, vec![Peer::voter((id * 10).into(), HERE)])
}

pub(crate) fn region(id: u64, start: &str, end: &str) -> Region {
    draft(id, start, end, RegionEpoch::INITIAL).build().unwrap()
}

/// A log position of the tests' term.
pub(crate) fn at(index: u64) -> LogPosition {
    LogPosition { index: index.into(), term: 6.into() }
}

/// A split at one key; the parent keeps the left part.
pub(crate) fn split(key: &str, child: u64, peers: &[u64]) -> AdminCommand {
    let new_peer_ids = peers.iter().map(|&id| id.into()).collect();
    let request = SplitRequest { split_key: key.into(), new_region_id: child.into(), new_peer_ids };
    AdminCommand::BatchSplit(BatchSplit { requests: vec![request], right_derive: false, shares_size: false })
}

pub(crate) fn change(kind: ChangeKind, peer: Peer) -> AdminCommand {
    AdminCommand::ChangePeer(PeerChange { kind, peer })
}

pub(crate) fn learner(id: u64, store: u64) -> Peer {
    Peer::learner(id.into(), store.into())
}

pub(crate) fn voter(id: u64, store: u64) -> Peer {
    Peer::voter(id.into(), store.into())
}

pub(crate) fn add(peer: Peer) -> AdminCommand {
    change(ChangeKind::AddNode, peer)
}

pub(crate) fn add_learner(peer: Peer) -> AdminCommand {
    change(ChangeKind::AddLearner, peer)
}

pub(crate) fn remove(peer: Peer) -> AdminCommand {
    change(ChangeKind::RemoveNode, peer)
}

/// A generator whose seed is printed, so that a failure replays: `REGIONMETA_SEED` overrides it.
pub(crate) fn seeded(test: &str) -> (u64, fastrand::Rng) {
    let given = std::env::var("REGIONMETA_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: REGIONMETA_SEED={seed}");
    (seed, fastrand::Rng::with_seed(seed))
}

/// A number from the environment, for longer runs than the everyday one.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A directory for states of which there are many: in memory, where the system has such a place.
pub(crate) fn scratch() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    let made = if in_memory.is_dir() { TempDir::new_in(in_memory) } else { TempDir::new() };
    made.unwrap()
}

/// Copies the files of a directory into a new one.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
