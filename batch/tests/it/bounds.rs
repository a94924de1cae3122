//! What a batch may hold, and that it is given back (T25, M25, rocksdb#13042): the pool writes at 4 MiB or 1,024 entries, and
//! after 100,000 changes a process is as large as before.
//!
//! `REGIONMETA_BOUNDS_CHANGES` says how many changes, 100,000 by default.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use regionmeta::{AdminHeader, AdminRequest, KeyRange, RegionEpoch, RegionId};
use regionmeta_batch::Store;
use regionmeta_batch::apply::{Answer, ApplyHost, ApplyPool, ApplySettings, Data, Entry, Mutation};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Durability, Family, MemStorage, RocksStorage, Storage, StorageError, Visit};

use crate::child::{self, Running};
use crate::common::{CLUSTER, Disk, Rocks, add_learner, at, builder, learner, remove, setting};

const FIRST: RegionId = RegionId::new(2);

/// Notes how large the largest batch was.
#[derive(Clone, Debug, Default)]
struct Weighing {
    inner: MemStorage,
    /// Relaxed, both: they are read when the pool is idle.
    bytes_max: Arc<AtomicUsize>,
    keys_max: Arc<AtomicUsize>,
}

/// A batch that knows how many keys are in it.
struct Weighed {
    inner: <MemStorage as Storage>::Batch,
    keys: usize,
}

impl Storage for Weighing {
    type Batch = Weighed;

    fn batch(&self) -> Weighed {
        Weighed { inner: self.inner.batch(), keys: 0 }
    }

    fn put(&self, batch: &mut Weighed, family: Family, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        batch.keys += 1;
        self.inner.put(&mut batch.inner, family, key, value)
    }

    fn delete(&self, batch: &mut Weighed, family: Family, key: &[u8]) -> Result<(), StorageError> {
        batch.keys += 1;
        self.inner.delete(&mut batch.inner, family, key)
    }

    fn batch_bytes(&self, batch: &Weighed) -> usize {
        self.inner.batch_bytes(&batch.inner)
    }

    fn write(&self, batch: Weighed, durability: Durability) -> Result<(), StorageError> {
        self.bytes_max.fetch_max(self.batch_bytes(&batch), Ordering::Relaxed);
        self.keys_max.fetch_max(batch.keys, Ordering::Relaxed);
        self.inner.write(batch.inner, durability)
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.inner.get(family, key)
    }

    fn scan(&self, family: Family, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        self.inner.scan(family, range, visit)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.inner.sync()
    }
}

/// Passes on that an entry was answered.
struct Answers(Sender<()>);

impl<S: Storage> ApplyHost<S> for Answers {
    type Tag = ();

    fn answer(&self, answer: Answer<()>) {
        assert!(answer.result.is_ok(), "{:?}", answer.result);
        self.0.send(()).unwrap();
    }
}

/// A pool over a store with one region, and its history so far.
struct Driver<S: Storage> {
    store: Arc<Store<S>>,
    pool: ApplyPool<S, Answers>,
    answers: Receiver<()>,
    applied: u64,
}

impl<S: Storage> Driver<S> {
    fn start(storage: S) -> Self {
        let store = Arc::new(builder().bootstrap_storage(storage, &EmbeddedPd::new(CLUSTER)).unwrap());
        let (sender, answers) = unbounded();
        // One region's turn may be as long as a batch, so that batches fill up.
        let settings = ApplySettings { turn_entries_max: 1 << 20, turn_bytes_max: 1 << 40, ..Default::default() };
        let pool = ApplyPool::start(store.clone(), Answers(sender), settings).unwrap();
        Self { store, pool, answers, applied: 5 }
    }

    fn epoch(&self) -> RegionEpoch {
        self.store.meta().snapshot().get(FIRST).unwrap().region().epoch()
    }

    /// Sends entries at once, and waits for every answer.
    fn apply(&mut self, mut entries: VecDeque<Entry<S, ()>>) {
        let count = entries.len();
        self.pool.router().region(FIRST).unwrap().try_send_all(&mut entries).unwrap();
        assert!(entries.is_empty());
        (0..count).for_each(|_| self.answers.recv_timeout(Duration::from_secs(60)).unwrap());
        self.applied += count as u64;
    }

    fn write(&mut self, count: u64, value_bytes: usize) {
        let epoch = self.epoch();
        let entry = |number: u64| {
            let key = format!("zkey {:06}", number % 1_000).into_bytes();
            let data = Data::List(vec![Mutation::Put { key, value: vec![1; value_bytes] }]);
            Entry::write(at(self.applied + 1 + number), epoch, data, ())
        };
        self.apply((0..count).map(entry).collect());
    }

    /// A learner comes and goes, again and again.
    fn change_peers(&mut self, count: u64) {
        let epoch = self.epoch();
        let entry = |number: u64| {
            let epoch = RegionEpoch::new(epoch.conf_ver + number, epoch.version);
            let peer = learner(1_000, 2);
            let command = if number.is_multiple_of(2) { add_learner(peer) } else { remove(peer) };
            let request = AdminRequest { header: AdminHeader::new(FIRST, epoch), command };
            Entry::admin(at(self.applied + 1 + number), request, ())
        };
        self.apply((0..count).map(entry).collect());
    }
}

const ENTRIES_AT_ONCE: u64 = 4_000;

#[test]
fn a_batch_is_written_at_four_mebibytes_or_1024_entries() {
    let storage = Weighing::default();
    let mut driver = Driver::start(storage.clone());
    driver.write(ENTRIES_AT_ONCE, 16);
    // With the region's apply state.
    assert_eq!(storage.keys_max.load(Ordering::Relaxed), 1_024 + 1);
    assert!(storage.bytes_max.load(Ordering::Relaxed) < 100_000);
    let value_bytes = 300_000;
    driver.write(200, value_bytes);
    let bytes = storage.bytes_max.load(Ordering::Relaxed);
    let limit = 4 * 1024 * 1024;
    assert!((limit..limit + value_bytes + 1_000).contains(&bytes), "{bytes}");
}

/// The child: goes through changes, and says how large it was before and after them.
pub(crate) fn child_changes(path: &Path) {
    let changes = setting("REGIONMETA_BOUNDS_CHANGES", 100_000);
    let mut driver = Driver::start(RocksStorage::create(path, Durability::Buffered).unwrap());
    let mut round = |changes: u64| {
        let mut left = changes;
        while left > 0 {
            let count = left.min(ENTRIES_AT_ONCE);
            driver.change_peers(count / 2 * 2);
            left -= count;
        }
        // Batches as large as they may be: what keeps one keeps 4 MiB.
        driver.write(64, 1024 * 1024);
        flush(&driver.store);
        resident_kib()
    };
    // Whatever has a bound, such as RocksDB's buffers and the change feed, has reached it after the first.
    let before = round(changes);
    child::say(&format!("{before} {}", round(changes)));
}

fn flush(store: &Store<RocksStorage>) {
    let db = store.storage().db();
    Family::ALL.iter().for_each(|family| db.flush_cf(db.cf_handle(family.name()).unwrap()).unwrap());
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// In a process of its own, which nothing else makes larger.
#[test]
#[cfg(target_os = "linux")]
fn a_process_is_as_large_after_100_000_changes_as_before() {
    let disk = Rocks::empty();
    let mut command = child::command("change", &disk.path());
    // What is free goes back to the system, so that what is left is in use.
    command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "65536").env("MALLOC_MMAP_THRESHOLD_", "65536");
    let heard = Running::from_command(command).unwrap().heard().unwrap();
    let [before, after]: [u64; 2] =
        heard.split(' ').map(|kib| kib.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
    println!("{before} KiB before, {after} KiB after");
    assert!(after * 10 <= before * 11, "{before} KiB before, {after} KiB after");
}
