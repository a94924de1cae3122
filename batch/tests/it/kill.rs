//! kill -9 in the middle of the writes, on real RocksDB (T2): what was acknowledged is there, and nothing is half there.
//!
//! A child process splits regions and changes their peers, each change with host data in the same batch, and says after each
//! commit what it has committed. The parent kills it at a random instant, opens the store, and compares.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use regionmeta::layout::{DATA_PREFIX, data_key};
use regionmeta::{KeyRange, Region, RegionEpoch, RegionId};
use regionmeta_batch::apply::ApplyBatch;
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Durability, Family, RocksStorage, Storage};
use regionmeta_batch::{OpenError, Store, StoreBuilder};
use tempfile::TempDir;

use crate::child::{self, Running};
use crate::common::{CLUSTER, add_learner, at, builder, covers_everything, learner, remove, seeded, setting, split};

/// Entries in one batch of the child.
const ENTRIES_MAX: u64 = 4;

fn with_durability(synced: bool) -> StoreBuilder {
    builder().durability(if synced { Durability::Synced } else { Durability::Buffered })
}

fn open_or_bootstrap(path: &Path, synced: bool) -> Store<RocksStorage> {
    match with_durability(synced).open(path) {
        Err(OpenError::Storage(_)) => with_durability(synced).bootstrap(path, &EmbeddedPd::new(CLUSTER)).unwrap(),
        result => result.unwrap(),
    }
}

/// The entries that all regions have applied; each change is one entry of one region.
fn entries_applied<S: Storage>(store: &Store<S>) -> u64 {
    let snapshot = store.meta().snapshot();
    snapshot.regions().map(|region| store.apply_state(region.id()).applied_index.get() - 5).sum()
}

/// The host data of a region: its epoch and applied index, as the entry that wrote it left them.
fn host_value(epoch: RegionEpoch, applied: u64) -> Vec<u8> {
    [epoch.conf_ver, epoch.version, applied].map(u64::to_be_bytes).concat()
}

fn host_key(region: RegionId) -> Vec<u8> {
    data_key(&region.get().to_be_bytes())
}

/// The child's work, until it is killed.
pub(crate) fn child_commits(path: &Path, synced: bool) {
    let store = open_or_bootstrap(path, synced);
    let ids = |region: &Region| region.peers().map(|peer| peer.id.get()).max().max(Some(region.id().get()));
    let last_id = store.meta().snapshot().regions().filter_map(ids).max().unwrap();
    let mut work = Work { store: &store, rng: fastrand::Rng::new(), last_id: last_id + 1_000, applied: HashMap::new() };
    let mut total = entries_applied(&store);
    child::say("ready");
    loop {
        let mut batch = store.begin();
        let entries = work.rng.u64(1..=ENTRIES_MAX);
        let touched: Vec<_> = (0..entries).flat_map(|_| work.change_one(&mut batch)).collect();
        let mut said = String::new();
        for id in touched {
            let (epoch, applied) = (batch.region(id).unwrap().epoch(), work.applied(id));
            store.storage().put(batch.data(), Family::Default, &host_key(id), &host_value(epoch, applied)).unwrap();
            said += &format!(" {id} {} {}", epoch.conf_ver, epoch.version);
        }
        batch.commit().unwrap();
        total += entries;
        child::say(&format!("{total}{said}"));
    }
}

struct Work<'a> {
    store: &'a Store<RocksStorage>,
    rng: fastrand::Rng,
    last_id: u64,
    /// Applied indexes, with the entries of the running batch.
    applied: HashMap<RegionId, u64>,
}

impl Work<'_> {
    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn applied(&self, id: RegionId) -> u64 {
        self.applied.get(&id).copied().unwrap_or_else(|| self.store.apply_state(id).applied_index.get())
    }

    /// Applies one more entry of a random region, and returns the regions that it changed.
    fn change_one(&mut self, batch: &mut ApplyBatch<'_, RocksStorage>) -> Vec<RegionId> {
        let key = format!("{:08x}", self.rng.u32(..));
        let id = self.store.meta().snapshot().locate(key.as_bytes()).unwrap().region().id();
        let region = batch.region(id).unwrap();
        let peers: Vec<_> = region.peers().collect();
        let (command, child) = if peers.len() == 1 {
            (add_learner(learner(self.new_id(), 2)), None)
        } else if region.range().contains_inside(key.as_bytes()) && self.rng.bool() {
            let (child, ids) = (self.new_id(), [self.new_id(), self.new_id()]);
            (split(&key, child, &ids), Some(RegionId::new(child)))
        } else {
            (remove(peers[1]), None)
        };
        let index = self.applied(id) + 1;
        batch.apply(id, at(index), region.epoch(), &command).unwrap();
        self.applied.insert(id, index);
        if let Some(child) = child {
            self.applied.insert(child, 5);
        }
        [id].into_iter().chain(child).collect()
    }
}

/// What the child has acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    total: u64,
    commits: u64,
    epochs: HashMap<u64, RegionEpoch>,
}

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        self.total = numbers[0];
        self.commits += 1;
        for region in numbers[1..].chunks_exact(3) {
            self.epochs.insert(region[0], RegionEpoch::new(region[1], region[2]));
        }
    }

    /// Everything that was acknowledged is there, with at most the one batch that was in flight.
    #[track_caller]
    fn check(&mut self, store: &Store<RocksStorage>) {
        let snapshot = store.meta().snapshot();
        let regions: Vec<_> = snapshot.regions().cloned().collect();
        assert_eq!(snapshot.validate(), []);
        assert!(covers_everything(&regions), "the regions leave a hole: {regions:?}");
        for (id, acknowledged) in &self.epochs {
            let found = snapshot.get((*id).into()).expect("an acknowledged region is gone").region().epoch();
            assert!(!found.is_behind_any(*acknowledged), "region {id}: {found} is behind {acknowledged}");
        }
        let total = entries_applied(store);
        assert!((self.total..=self.total + ENTRIES_MAX).contains(&total), "{total} after {}", self.total);
        self.total = total;
        assert_host_data_fits(store, &regions);
    }
}

/// I5: the data of each region was written with the descriptor and the apply state that are there.
#[track_caller]
fn assert_host_data_fits(store: &Store<RocksStorage>, regions: &[Region]) {
    let mut data = HashMap::new();
    let range = KeyRange::from_wire(&[DATA_PREFIX], &[DATA_PREFIX + 1]);
    let mut visit = |key: &[u8], value: &[u8]| {
        data.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    };
    store.storage().scan(Family::Default, range, &mut visit).unwrap();
    for region in regions {
        let applied = store.apply_state(region.id()).applied_index.get();
        match data.remove(&host_key(region.id())) {
            Some(value) => assert_eq!(value, host_value(region.epoch(), applied), "{region}"),
            None => assert_eq!((region.epoch(), applied), (RegionEpoch::INITIAL, 5), "{region} has no data"),
        }
    }
    assert!(data.is_empty(), "data of regions that are not there: {data:?}");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let (_, mut rng) = seeded("what_was_acknowledged_survives_a_kill");
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    let mut acknowledged = Acknowledged::default();
    for round in 0..setting("REGIONMETA_KILLS", 8) {
        let synced = round % 2 == 0;
        let mut child = Running::spawn(if synced { "commit synced" } else { "commit buffered" }, &path);
        // The first time the store must have been made: its placement driver dies with the child. Later kills may come while
        // the child is still opening it.
        let ready = round == 0;
        if ready {
            assert_eq!(child.heard().as_deref(), Some("ready"));
        }
        let said = child.kill_after(Duration::from_micros(rng.u64(5_000..400_000)));
        said.iter().filter(|line| *line != "ready").for_each(|line| acknowledged.hear(line));
        acknowledged.check(&with_durability(synced).open(&path).unwrap());
    }
    assert!(acknowledged.commits > 0, "no child lived long enough to commit anything");
    println!("{} commits acknowledged, {} entries kept", acknowledged.commits, acknowledged.total);
}
