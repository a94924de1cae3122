//! [`FaultyStorage`]: any storage, with one write that fails on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use regionmeta::KeyRange;

use super::{Durability, Family, Storage, StorageError, Visit};

/// What became of the write that failed. The caller cannot tell: that is the point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing was written.
    Lost,
    /// All of it was written.
    Applied,
    /// All of it was written, and then the storage panics.
    Panics,
}

/// Passes everything on to another storage, and fails the n-th write.
#[derive(Clone, Debug)]
pub struct FaultyStorage<S> {
    inner: S,
    fault: Fault,
    /// Counts down with each write; the one that finds 1 fails. Relaxed: nothing else is published through it.
    writes_left: Arc<AtomicU64>,
    /// Whether the next read fails.
    read_fails: Arc<AtomicBool>,
}

impl<S> FaultyStorage<S> {
    /// Fails the `nth` write, counted from 1; 0 for none.
    pub fn new(inner: S, nth: u64, fault: Fault) -> Self {
        Self { inner, fault, writes_left: Arc::new(AtomicU64::new(nth)), read_fails: Arc::default() }
    }

    /// Fails the next read of a key.
    pub fn fail_next_read(&self) {
        self.read_fails.store(true, Ordering::Relaxed);
    }

    /// Whether the write that was to fail has come; true from the start if none was to fail.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.writes_left.load(Ordering::Relaxed) == 0
    }

    fn must_fail(&self) -> bool {
        let count_down = |left: u64| left.checked_sub(1);
        self.writes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_down) == Ok(1)
    }
}

impl<S: Storage> Storage for FaultyStorage<S> {
    type Batch = S::Batch;

    fn batch(&self) -> S::Batch {
        self.inner.batch()
    }

    fn put(&self, batch: &mut S::Batch, family: Family, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        self.inner.put(batch, family, key, value)
    }

    fn delete(&self, batch: &mut S::Batch, family: Family, key: &[u8]) -> Result<(), StorageError> {
        self.inner.delete(batch, family, key)
    }

    fn batch_bytes(&self, batch: &S::Batch) -> usize {
        self.inner.batch_bytes(batch)
    }

    /// # Panics
    /// If the fault is [`Fault::Panics`] and this is its write.
    fn write(&self, batch: S::Batch, durability: Durability) -> Result<(), StorageError> {
        if !self.must_fail() {
            return self.inner.write(batch, durability);
        }
        if self.fault != Fault::Lost {
            self.inner.write(batch, durability)?;
        }
        assert_ne!(self.fault, Fault::Panics, "injected");
        Err(injected("write a batch"))
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        if self.read_fails.swap(false, Ordering::Relaxed) {
            return Err(injected("read a key"));
        }
        self.inner.get(family, key)
    }

    fn scan(&self, family: Family, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        self.inner.scan(family, range, visit)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.inner.sync()
    }
}

fn injected(action: &'static str) -> StorageError {
    StorageError::Backend { action, location: "a storage with faults".to_owned(), cause: "injected".to_owned() }
}
