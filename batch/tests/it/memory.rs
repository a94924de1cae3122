//! M25: what a batch has taken of memory is given back. rust-rocksdb's batches keep what they once had, so one that is kept
//! for the next round is as large as the largest ever was.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use regionmeta::{KeyRange, RegionEpoch, RegionId};
use regionmeta_batch::apply::{ApplySettings, Data, Entry, Mutation, SyncPolicy};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Durability, Family, MemStorage, RocksStorage, Storage, StorageError, Visit};
use rocksdb::DB;
use tempfile::TempDir;

use crate::child::{self, Running as Child};
use crate::common::{CLUSTER, at, builder};
use crate::pool::Running;
use crate::storage::host_options;

const FIRST: RegionId = RegionId::new(2);
const MIB: usize = 1024 * 1024;

fn write<S: Storage>(index: u64, bytes: usize) -> Entry<S, u64> {
    let put = Mutation::Put { key: b"zkey".to_vec(), value: vec![index as u8; bytes] };
    Entry::write(at(index), RegionEpoch::new(1, 1), Data::List(vec![put]), index)
}

/// Counts the batches that exist, and what is in them.
#[derive(Clone, Debug)]
struct Counting {
    inner: MemStorage,
    batches: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

struct Counted {
    batch: Option<<MemStorage as Storage>::Batch>,
    of: Counting,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of.batches.fetch_sub(1, Ordering::Relaxed);
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Counted {
    fn takes(&mut self, bytes: usize) -> &mut <MemStorage as Storage>::Batch {
        self.bytes += bytes;
        self.of.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.batch.as_mut().unwrap()
    }
}

impl Storage for Counting {
    type Batch = Counted;

    fn batch(&self) -> Counted {
        self.batches.fetch_add(1, Ordering::Relaxed);
        Counted { batch: Some(self.inner.batch()), of: self.clone(), bytes: 0 }
    }

    fn put(&self, batch: &mut Counted, family: Family, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        self.inner.put(batch.takes(key.len() + value.len()), family, key, value)
    }

    fn delete(&self, batch: &mut Counted, family: Family, key: &[u8]) -> Result<(), StorageError> {
        self.inner.delete(batch.takes(key.len()), family, key)
    }

    fn batch_bytes(&self, batch: &Counted) -> usize {
        batch.bytes
    }

    fn write(&self, mut batch: Counted, durability: Durability) -> Result<(), StorageError> {
        self.inner.write(batch.batch.take().unwrap(), durability)
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

#[test]
fn no_batch_outlives_its_round() {
    let storage = Counting { inner: MemStorage::new(), batches: Arc::default(), bytes: Arc::default() };
    let running = Running::bootstrapped(storage.clone(), ApplySettings { workers: 2, ..ApplySettings::default() });
    let started = std::time::Instant::now();
    for index in 6..106 {
        running.send(FIRST, write(index, 64 * 1024));
        running.answer().result.unwrap();
    }
    // The last round ends after its last answer.
    while storage.batches.load(Ordering::Relaxed) > 0 {
        assert!(started.elapsed() < crate::pool::WATCHDOG, "idle workers keep batches: {storage:?}");
        std::thread::yield_now();
    }
    assert_eq!(storage.bytes.load(Ordering::Relaxed), 0);
    running.shut_down();
}

/// On RocksDB, whose batches no allocator of ours sees: after as many bytes again, the process is no larger.
#[test]
fn the_process_does_not_grow_with_its_batches() {
    let root = TempDir::new().unwrap();
    let mut command = child::command("large batches", root.path());
    // The C library keeps freed blocks of a size that it has seen freed before; what it keeps is not what is looked for.
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    let mut child = Child::from_command(command).unwrap();
    let said = std::iter::from_fn(|| child.heard()).last().expect("the child said nothing");
    let sizes: Vec<usize> = said.split(' ').map(|size| size.parse().unwrap()).collect();
    let &[before, after] = &sizes[..] else { panic!("{said}") };
    assert!(after < before + WRITTEN_BYTES / 2, "{} MiB, then {} MiB", before / MIB, after / MIB);
}

const LARGE_BATCH_BYTES: usize = 4 * MIB;
const LARGE_BATCHES: u64 = 80;
const WRITTEN_BYTES: usize = LARGE_BATCHES as usize * LARGE_BATCH_BYTES;

/// The child's work: as much as fills RocksDB's own buffers, which are small here, and the same again.
pub(crate) fn child_writes_large_batches(root: &Path) {
    let mut options = host_options();
    options.set_db_write_buffer_size(4 * MIB);
    let db = DB::open_cf(&options, root.join("store"), ["default", "raft"]).unwrap();
    let storage = RocksStorage::attach(Arc::new(db)).unwrap();
    let opened = builder().durability(Durability::Buffered);
    let store = opened.bootstrap_storage(storage, &EmbeddedPd::new(CLUSTER)).unwrap();
    let settings = ApplySettings { workers: 1, sync: SyncPolicy::Never, ..ApplySettings::default() };
    let running = Running::over(store, settings);
    let mut next = 6;
    let mut sizes = Vec::new();
    for _ in 0..2 {
        for index in next..next + LARGE_BATCHES {
            running.send(FIRST, write(index, LARGE_BATCH_BYTES));
            running.answer().result.unwrap();
        }
        next += LARGE_BATCHES;
        sizes.push(resident_bytes().to_string());
    }
    running.shut_down();
    child::say(&sizes.join(" "));
}

/// What the system says that this process holds.
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}
