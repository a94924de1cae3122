//! Where Raft states are kept. The log is the host's; this library needs the few records that bootstrap, recovery and
//! destruction touch.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use regionmeta::layout::{RAFT_STATE_SUFFIX, REGION_RAFT_RANGE, decode_region_raft_key, raft_log_key, raft_state_key};
use regionmeta::{EndKey, KeyRange, LogIndex, RaftState, RegionId};

use crate::records::{self, ReadError};
use crate::storage::{Durability, Family, Storage, StorageError};

/// The host's Raft engine, as far as region metadata needs it. Every write is durable when it returns.
pub trait RaftEngine: Send + Sync + fmt::Debug {
    /// The raft state of a region, if it has one.
    ///
    /// # Errors
    /// [`ReadError`] if it cannot be read or is damaged.
    fn raft_state(&self, region: RegionId) -> Result<Option<RaftState>, ReadError>;

    /// The raft states of all regions, in one pass: what recovery asks for.
    ///
    /// # Errors
    /// [`ReadError`] if one cannot be read or is damaged.
    fn raft_states(&self) -> Result<HashMap<RegionId, RaftState>, ReadError>;

    /// The first entry of each region's log, for the regions whose log has any. Recovery refuses a region that has not applied
    /// the entry before it: a log that was truncated ahead of what a power loss has left cannot bring the region up again.
    ///
    /// An engine that answers nothing, as it does unless it overrides this, is not checked. A log under TiKV's keys in the
    /// store's own storage is checked anyhow.
    ///
    /// # Errors
    /// [`ReadError`] if one cannot be read.
    fn first_indexes(&self) -> Result<HashMap<RegionId, LogIndex>, ReadError> {
        Ok(HashMap::new())
    }

    /// Replaces the raft state of a region, synced.
    ///
    /// # Errors
    /// [`StorageError`]; the outcome is then unknown.
    fn put_raft_state(&self, region: RegionId, state: &RaftState) -> Result<(), StorageError>;

    /// Removes raft state and log of a region, synced. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`StorageError`]; the outcome is then unknown.
    fn clean(&self, region: RegionId) -> Result<(), StorageError>;
}

/// Raft states in the raft family of the same storage, under TiKV's keys: for hosts without a log engine of their own.
#[derive(Debug)]
pub struct StorageRaftEngine<S> {
    storage: Arc<S>,
}

impl<S: Storage> StorageRaftEngine<S> {
    /// Keeps raft states in `storage`.
    pub fn new(storage: Arc<S>) -> Self {
        Self { storage }
    }
}

impl<S: Storage> RaftEngine for StorageRaftEngine<S> {
    fn raft_state(&self, region: RegionId) -> Result<Option<RaftState>, ReadError> {
        records::read(&*self.storage, Family::Raft, &raft_state_key(region))
    }

    fn raft_states(&self) -> Result<HashMap<RegionId, RaftState>, ReadError> {
        let mut states = HashMap::new();
        let mut outcome = Ok(());
        self.storage.scan(Family::Raft, REGION_RAFT_RANGE, &mut |key, value| {
            // Other lengths are log entries, other suffixes are not the Raft engine's.
            let Ok((region, RAFT_STATE_SUFFIX)) = decode_region_raft_key(key) else { return ControlFlow::Continue(()) };
            match records::decode(Family::Raft, key, value) {
                Ok(state) => {
                    states.insert(region, state);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        outcome.map(|()| states)
    }

    fn put_raft_state(&self, region: RegionId, state: &RaftState) -> Result<(), StorageError> {
        let mut batch = self.storage.batch();
        records::put(&*self.storage, &mut batch, Family::Raft, &raft_state_key(region), state)?;
        self.storage.write(batch, Durability::Synced)
    }

    fn clean(&self, region: RegionId) -> Result<(), StorageError> {
        let (first, end) = (raft_log_key(region, LogIndex::new(0)), raft_state_key(region));
        let log = KeyRange::new(&first, EndKey::Finite(&end));
        let mut batch = Deletes::new(&*self.storage);
        let mut outcome = Ok(());
        self.storage.scan(Family::Raft, log, &mut |key, _| {
            outcome = batch.delete(key);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome?;
        // The raft state goes last: it is the mark by which an interrupted cleaning is found again.
        batch.delete(&end)?;
        batch.write()
    }
}

/// Deletes that are written every so often, so that a long log does not become one large batch.
struct Deletes<'a, S: Storage> {
    storage: &'a S,
    batch: S::Batch,
    count: usize,
}

const DELETES_PER_BATCH: usize = 4096;

impl<'a, S: Storage> Deletes<'a, S> {
    fn new(storage: &'a S) -> Self {
        Self { storage, batch: storage.batch(), count: 0 }
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StorageError> {
        self.storage.delete(&mut self.batch, Family::Raft, key)?;
        self.count += 1;
        if self.count < DELETES_PER_BATCH {
            return Ok(());
        }
        self.count = 0;
        let full = std::mem::replace(&mut self.batch, self.storage.batch());
        // Synced, though more follows: where all else is synced, a write that is not would look like rot if it were torn.
        self.storage.write(full, Durability::Synced)
    }

    fn write(self) -> Result<(), StorageError> {
        self.storage.write(self.batch, Durability::Synced)
    }
}
