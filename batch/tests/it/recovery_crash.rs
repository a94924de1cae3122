//! Crashes inside of recovery, five deep (T3): whatever became of the recoveries before, the next one that comes to its end
//! leaves the same bytes, and another changes none of them (sled#851, sled#411, tikv#12470).
//!
//! `REGIONMETA_RECOVERY_CRASHES` says how many stores go through it, 50 by default.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use regionmeta::KeyRange;
use regionmeta_batch::storage::{Durability, Family, MemStorage, Storage, StorageError, Visit};
use tempfile::TempDir;

use crate::common::{Disk, Dump, Mem, Rocks, builder, copy_directory, dump, scratch, seeded, setting};
use crate::recovery::seed_repairs;

/// Recoveries of one store that do not come to their end.
const DEPTH: usize = 5;

/// A storage that stops at its n-th operation, and does nothing from then on: each read of a record, each visit of a scan, each
/// write, which may still be done.
#[derive(Clone, Debug)]
struct Stopping {
    inner: MemStorage,
    /// Relaxed: it only counts.
    left: Arc<AtomicU64>,
    last_write_is_done: bool,
}

impl Stopping {
    fn new(inner: MemStorage, at: u64, last_write_is_done: bool) -> Self {
        Self { inner, left: Arc::new(AtomicU64::new(at)), last_write_is_done }
    }

    /// Counts an operation, and says what is left of the count before it.
    fn count(&self) -> u64 {
        let down = |left: u64| Some(left.saturating_sub(1));
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, down).unwrap()
    }

    fn read<T>(&self, read: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
        if self.count() > 1 { read() } else { Err(stopped()) }
    }
}

fn stopped() -> StorageError {
    StorageError::Backend { action: "go on", location: "a storage that stops".to_owned(), cause: "stopped".to_owned() }
}

impl Storage for Stopping {
    type Batch = <MemStorage as Storage>::Batch;

    fn batch(&self) -> Self::Batch {
        self.inner.batch()
    }

    fn put(&self, batch: &mut Self::Batch, family: Family, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        self.inner.put(batch, family, key, value)
    }

    fn delete(&self, batch: &mut Self::Batch, family: Family, key: &[u8]) -> Result<(), StorageError> {
        self.inner.delete(batch, family, key)
    }

    fn batch_bytes(&self, batch: &Self::Batch) -> usize {
        self.inner.batch_bytes(batch)
    }

    fn write(&self, batch: Self::Batch, durability: Durability) -> Result<(), StorageError> {
        match self.count() {
            0 => Err(stopped()),
            1 if !self.last_write_is_done => Err(stopped()),
            1 => self.inner.write(batch, durability).and(Err(stopped())),
            _ => self.inner.write(batch, durability),
        }
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.read(|| self.inner.get(family, key))
    }

    fn scan(&self, family: Family, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let mut outcome = Ok(());
        self.inner.scan(family, range, &mut |key, value| {
            outcome = self.read(|| Ok(()));
            if outcome.is_ok() { visit(key, value) } else { ControlFlow::Break(()) }
        })?;
        outcome
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.read(|| self.inner.sync())
    }
}

/// What a store with something to repair is before and after an undisturbed recovery.
fn before_and_after(disk: &impl Disk) -> (Dump, Dump) {
    seed_repairs(disk);
    let before = dump(&disk.storage());
    disk.open().unwrap().close().unwrap();
    (before, dump(&disk.storage()))
}

/// Opens to the end, twice.
#[track_caller]
fn assert_recovers_to(disk: &impl Disk, repaired: &Dump, what: &str) {
    for _ in 0..2 {
        let store = disk.open().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(store.meta().snapshot().validate(), [], "{what}");
        store.close().unwrap();
        assert_eq!(dump(&disk.storage()), *repaired, "{what}");
    }
}

/// Each operation of a recovery is the last one, once.
#[test]
fn a_recovery_may_stop_at_any_operation() {
    let (_, repaired) = before_and_after(&Mem::empty());
    let mut writes_seen = 0;
    for at in 1.. {
        let disk = Mem::empty();
        seed_repairs(&disk);
        let before = dump(&disk.0);
        match builder().open_storage(Stopping::new(disk.0.clone(), at, true)) {
            Ok(_) => {
                // Fourteen records, the identity and the mark of a bootstrap, and seven writes.
                assert!(at > 20 && writes_seen > 5, "{at} operations, {writes_seen} with writes before them");
                return;
            }
            Err(error) => assert!(error.to_string().contains("stopped"), "{error}"),
        }
        writes_seen += u64::from(dump(&disk.0) != before);
        assert_recovers_to(&disk, &repaired, &format!("stopped at {at}"));
    }
}

#[test]
fn five_recoveries_may_stop_one_after_the_other() {
    let (_, mut rng) = seeded("five_recoveries_may_stop_one_after_the_other");
    let (_, repaired) = before_and_after(&Mem::empty());
    for _ in 0..10 * setting("REGIONMETA_RECOVERY_CRASHES", 50) {
        let disk = Mem::empty();
        seed_repairs(&disk);
        let stops: Vec<_> = (0..DEPTH).map(|_| (rng.u64(1..40), rng.bool())).collect();
        for (at, last_write_is_done) in &stops {
            let _ = builder().open_storage(Stopping::new(disk.0.clone(), *at, *last_write_is_done));
        }
        assert_recovers_to(&disk, &repaired, &format!("stopped at {stops:?}"));
    }
}

/// The child: recovers, if it is not killed before.
pub(crate) fn child_recovers(path: &Path) {
    builder().open(path).unwrap().close().unwrap();
}

/// The n-th change that a recovery makes to its files is its last, and a write is then done half: RocksDB's own recovery, with
/// its flush and its manifest, included.
#[test]
#[cfg(target_os = "linux")]
fn five_recoveries_on_rocksdb_may_be_killed_one_after_the_other() {
    let (seed, _) = seeded("five_recoveries_on_rocksdb_may_be_killed_one_after_the_other");
    let tools = scratch();
    let Some(shim) = crate::power::shim(tools.path()) else { return };
    let (before, repaired) = before_and_after(&Rocks::empty());
    let disk = Rocks(scratch());
    seed_repairs(&disk);
    assert_ne!(before, repaired);
    let (next, killed) = (AtomicU64::new(0), AtomicU64::new(0));
    let stores = setting("REGIONMETA_RECOVERY_CRASHES", 50);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= stores {
                        break;
                    }
                    let mut rng = fastrand::Rng::with_seed(seed ^ round);
                    let copy = Rocks(scratch());
                    copy_directory(&disk.path(), &copy.path());
                    let kills: Vec<_> = (0..DEPTH).map(|_| rng.u64(1..90)).collect();
                    let died = kills.iter().filter(|at| is_killed(&shim, &copy.0, **at)).count();
                    killed.fetch_add(died as u64, Ordering::Relaxed);
                    assert_recovers_to(&copy, &repaired, &format!("round {round}: killed at {kills:?}"));
                }
            });
        }
    });
    println!("{killed:?} of {} recoveries were killed", stores * DEPTH as u64);
    assert!(
        killed.into_inner() > stores * DEPTH as u64 / 2,
        "too few recoveries were still running when they were to die"
    );
}

/// Recovers in a process that kills itself at its n-th change. True if it did not come to its end.
#[cfg(target_os = "linux")]
fn is_killed(shim: &Path, root: &TempDir, at: u64) -> bool {
    let mut command = crate::child::command("recover", &root.path().join("store"));
    command.env("LD_PRELOAD", shim).env("POWER_ROOT", root.path()).env("POWER_KILL_AT", at.to_string());
    crate::child::Running::from_command(command).unwrap().was_killed()
}
