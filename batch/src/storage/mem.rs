//! [`MemStorage`]: a storage in memory, which can be made to lose what was not synced.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regionmeta::{EndKey, KeyRange};

use super::{Durability, Family, Storage, StorageError, Visit};

/// A storage in memory. Clones share their content, so a test can drop a store, [`crash`](Self::crash) and open it again.
#[derive(Clone, Debug, Default)]
pub struct MemStorage {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    durable: Families,
    /// Batches that were written and not yet synced, in order.
    buffered: Vec<MemBatch>,
    /// `durable` with `buffered` on top: what reads see.
    current: Families,
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug, Default)]
struct Families {
    default: Records,
    raft: Records,
}

/// The batch of a [`MemStorage`].
#[derive(Clone, Debug, Default)]
pub struct MemBatch {
    mutations: Vec<(Family, Vec<u8>, Option<Vec<u8>>)>,
    bytes: usize,
}

impl Families {
    fn of(&self, family: Family) -> &Records {
        match family {
            Family::Default => &self.default,
            Family::Raft => &self.raft,
        }
    }

    fn apply(&mut self, batch: &MemBatch) {
        for (family, key, value) in &batch.mutations {
            let records = match family {
                Family::Default => &mut self.default,
                Family::Raft => &mut self.raft,
            };
            match value {
                Some(value) => records.insert(key.clone(), value.clone()),
                None => records.remove(key),
            };
        }
    }
}

impl MemStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another storage with the same content, which goes its own way from here.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// A power loss: of the batches that were written and not synced, only the first `kept` are still there.
    pub fn crash(&self, kept: usize) {
        let mut state = self.lock();
        let kept: Vec<_> = state.buffered.drain(..).take(kept).collect();
        for batch in &kept {
            state.durable.apply(batch);
        }
        state.current = state.durable.clone();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sync(&mut self) {
        for batch in std::mem::take(&mut self.buffered) {
            self.durable.apply(&batch);
        }
    }
}

impl Storage for MemStorage {
    type Batch = MemBatch;

    fn batch(&self) -> MemBatch {
        MemBatch::default()
    }

    fn batch_bytes(&self, batch: &MemBatch) -> usize {
        batch.bytes
    }

    fn put(&self, batch: &mut MemBatch, family: Family, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        batch.bytes += key.len() + value.len();
        batch.mutations.push((family, key.to_vec(), Some(value.to_vec())));
        Ok(())
    }

    fn delete(&self, batch: &mut MemBatch, family: Family, key: &[u8]) -> Result<(), StorageError> {
        batch.bytes += key.len();
        batch.mutations.push((family, key.to_vec(), None));
        Ok(())
    }

    fn write(&self, batch: MemBatch, durability: Durability) -> Result<(), StorageError> {
        let mut state = self.lock();
        state.current.apply(&batch);
        state.buffered.push(batch);
        if durability == Durability::Synced {
            state.sync();
        }
        Ok(())
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.lock().current.of(family).get(key).cloned())
    }

    fn scan(&self, family: Family, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        if range.is_empty() {
            return Ok(());
        }
        // A copy, so that the visitor may write.
        let records = self.lock().current.of(family).clone();
        let end = match range.end {
            EndKey::Finite(end) => Bound::Excluded(end),
            EndKey::Infinite => Bound::Unbounded,
        };
        for (key, value) in records.range::<[u8], _>((Bound::Included(range.start), end)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.lock().sync();
        Ok(())
    }
}
