//! A history whose every batch has a number, and its model: what must be stored after each of them, byte for byte.
//!
//! A seed decides everything, so another process, or a storage in memory, goes through the very same states. Whatever a disk
//! has made of a store, the number that is found in it says which of the states it claims to be.

use regionmeta::layout::data_key;
use regionmeta::{Outcome, PeerRole, Region, RegionId};
use regionmeta_batch::Store;
use regionmeta_batch::apply::ApplyBatch;
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Family, MemStorage, Storage};

use crate::common::{
    CLUSTER, Dump, add, add_learner, at, builder, covers_everything, dump, learner, remove, split, voter,
};

/// The region that bootstrap makes. It stays; others may be destroyed.
const FIRST: RegionId = RegionId::new(2);
const ENTRIES_MAX: u64 = 4;
/// Values around the sizes of a disk's sector, of its page, and of a block of RocksDB's log.
const VALUE_BYTES: [usize; 5] = [30, 600, 5_000, 9_000, 40_000];

/// A numbered history, and how far it has come.
pub(crate) struct History {
    rng: fastrand::Rng,
    last_id: u64,
    number: u64,
}

impl History {
    /// From the state after bootstrap, which has the number 0.
    pub(crate) fn begin(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), last_id: 1_000, number: 0 }
    }

    /// Commits the next batch. True if it is synced whatever the store's durability, because it buries a peer.
    pub(crate) fn commit_next<S: Storage>(&mut self, store: &Store<S>) -> bool {
        self.number += 1;
        let mut batch = store.begin();
        let entries = self.rng.u64(1..=ENTRIES_MAX);
        let buried = (0..entries).fold(false, |buried, _| self.apply_one(store, &mut batch) || buried);
        let number = self.number.to_be_bytes();
        store.storage().put(batch.data(), Family::Default, &number_key(), &number).unwrap();
        batch.commit().unwrap();
        buried
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Applies one more entry to a random region. True if it buries a peer.
    fn apply_one<S: Storage>(&mut self, store: &Store<S>, batch: &mut ApplyBatch<'_, S>) -> bool {
        let key = format!("{:08x}", self.rng.u32(..));
        let snapshot = store.meta().snapshot();
        let id = snapshot.locate(key.as_bytes()).map_or(FIRST, |entry| entry.region().id());
        let Some(region) = batch.region(id) else { return false };
        match self.rng.u8(..5) {
            0 | 1 => self.write(store.storage(), batch, &region, &key),
            2 if region.range().contains_inside(key.as_bytes()) => self.split(batch, &region, &key),
            _ => return self.change_peers(batch, &region),
        }
        false
    }

    fn write<S: Storage>(&mut self, storage: &S, batch: &mut ApplyBatch<'_, S>, region: &Region, key: &str) {
        let entry = next_entry(batch, region);
        batch.write(region.id(), at(entry), region.epoch()).unwrap();
        let longest = VALUE_BYTES[self.rng.usize(..VALUE_BYTES.len())];
        let value: Vec<u8> = (0..self.rng.usize(1..longest)).map(|_| self.rng.u8(1..)).collect();
        storage.put(batch.data(), Family::Default, &data_key(key.as_bytes()), &value).unwrap();
    }

    fn split<S: Storage>(&mut self, batch: &mut ApplyBatch<'_, S>, region: &Region, key: &str) {
        let child = self.new_id();
        let peers: Vec<_> = region.peers().map(|_| self.new_id()).collect();
        let entry = next_entry(batch, region);
        batch.apply(region.id(), at(entry), region.epoch(), &split(key, child, &peers)).unwrap();
    }

    fn change_peers<S: Storage>(&mut self, batch: &mut ApplyBatch<'_, S>, region: &Region) -> bool {
        let peers: Vec<_> = region.peers().collect();
        let command = match &peers[..] {
            [_] if self.rng.bool() => add_learner(learner(self.new_id(), 2)),
            [_] => add(voter(self.new_id(), 2)),
            [here, other] if region.id() != FIRST && other.role == PeerRole::Voter && self.rng.u8(..4) == 0 => {
                remove(*here)
            }
            [_, other, ..] => remove(*other),
            [] => unreachable!("a region has a peer"),
        };
        let entry = next_entry(batch, region);
        let outcome = batch.apply(region.id(), at(entry), region.epoch(), &command).unwrap();
        matches!(outcome, Outcome::Destroyed { .. })
    }
}

fn next_entry<S: Storage>(batch: &ApplyBatch<'_, S>, region: &Region) -> u64 {
    batch.applied_index(region.id()).get() + 1
}

/// Where each batch writes its number, with everything else that it writes.
fn number_key() -> Vec<u8> {
    data_key(b"~number")
}

/// The number of the last batch in a storage.
pub(crate) fn number_in(storage: &impl Storage) -> usize {
    let number = storage.get(Family::Default, &number_key()).unwrap();
    number.map_or(0, |number| usize::try_from(u64::from_be_bytes(number.try_into().unwrap())).unwrap())
}

/// What is stored after each batch of a history, from the bootstrapped store on.
pub(crate) struct Model {
    pub(crate) states: Vec<Dump>,
}

impl Model {
    pub(crate) fn of(seed: u64, batches: usize) -> Self {
        let store = builder().bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(CLUSTER)).unwrap();
        let mut history = History::begin(seed);
        let mut states = vec![dump(store.storage())];
        for _ in 0..batches {
            history.commit_next(&store);
            states.push(dump(store.storage()));
        }
        Self { states }
    }

    /// A store that was opened is exactly one of the states: every record of every batch up to its number, and of no later
    /// one. Returns that number.
    #[track_caller]
    pub(crate) fn assert_is_a_state(&self, store: &Store<impl Storage>, what: &str) -> usize {
        let number = number_in(store.storage());
        let found = dump(store.storage());
        if found != self.states[number] {
            panic!("{what}: neither state {number} nor any other: {}", first_difference(&found, &self.states[number]));
        }
        let snapshot = store.meta().snapshot();
        assert_eq!(snapshot.validate(), [], "{what}");
        let regions: Vec<_> = snapshot.regions().cloned().collect();
        assert!(covers_everything(&regions) || store.recovery().tombstones > 0, "{what}: {regions:?}");
        number
    }
}

fn first_difference(found: &Dump, expected: &Dump) -> String {
    let lost = expected.iter().find(|record| !found.contains(record));
    let foreign = found.iter().find(|record| !expected.contains(record));
    let name = |record: Option<&(Family, Vec<u8>, Vec<u8>)>| {
        record.map(|(family, key, value)| format!("{family} {} ({} bytes)", regionmeta::Key(key), value.len()))
    };
    format!("lost {:?}, foreign {:?}", name(lost), name(foreign))
}

/// Every kind of entry occurs, and a history is a function of its seed.
#[test]
fn a_history_has_everything_and_can_be_repeated() {
    let model = Model::of(1, 60);
    assert_eq!(model.states, Model::of(1, 60).states);
    let disk = MemStorage::new();
    let store = builder().bootstrap_storage(disk.clone(), &EmbeddedPd::new(CLUSTER)).unwrap();
    let mut history = History::begin(1);
    let buried = (0..60).filter(|_| history.commit_next(&store)).count();
    assert!(buried > 0 && store.meta().snapshot().len() > 10, "{buried} {}", store.meta().snapshot().len());
    drop(store);
    assert_eq!(model.assert_is_a_state(&builder().open_storage(disk).unwrap(), "reopened"), 60);
}
