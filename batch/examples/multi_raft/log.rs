//! One region's Raft log, in the RocksDB of its store: entries and raft state under the keys of [`regionmeta::layout`].
//!
//! Raft's thread alone reads and writes it. Where it begins is kept here and not looked up: the apply pool may be further than
//! Raft has heard, and even have taken the region away.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use protobuf::Message;
use raft::eraftpb::{self, ConfState, Entry, Snapshot};
use raft::{GetEntriesContext, StorageError};
use regionmeta::layout::{raft_log_key, raft_state_key};
use regionmeta::{EndKey, HardState, KeyRange, LogEntry, LogIndex, LogPosition, PeerRole, RaftState, Region, RegionId};
use regionmeta_batch::storage::{Durability, Family, RocksStorage, Storage};
use regionmeta_batch::{Store, records};

use super::{Done, snapshot};

/// What Raft reads of one region. The configuration of its group is not stored at all: the descriptor has it.
pub(crate) struct Log {
    store: Arc<Store<RocksStorage>>,
    region: RegionId,
    state: RaftState,
    /// The last entry that is not here any more.
    truncated: LogPosition,
}

impl Log {
    /// The log as it was left. That of a region which was just split off has no record yet, and begins where every region's
    /// does; that of a peer which does not know its region has nothing.
    pub(crate) fn open(store: Arc<Store<RocksStorage>>, region: RegionId) -> Done<Self> {
        let stored = records::read(store.storage(), Family::Raft, &raft_state_key(region))?;
        let (state, truncated) = match store.meta().snapshot().get(region) {
            Some(_) => (stored.unwrap_or(RaftState::INITIAL), store.apply_state(region).truncated),
            None => (RaftState::default(), LogPosition::default()),
        };
        Ok(Self { store, region, state, truncated })
    }

    /// A snapshot was persisted: the log begins behind it.
    pub(crate) fn reopen(&mut self) -> Done {
        *self = Self::open(self.store.clone(), self.region)?;
        Ok(())
    }

    /// Appends entries, over what another leader may have left from the first of them on, and notes the hard state. Both are
    /// durable when it returns.
    ///
    /// A peer that waits for its first snapshot stores nothing: a split that makes the same peer must find no log of it.
    pub(crate) fn append(&mut self, entries: &[Entry], hard_state: &eraftpb::HardState) -> Done {
        let (term, vote, commit) = (hard_state.term.into(), hard_state.vote.into(), hard_state.commit.into());
        let last_index = entries.last().map_or(self.state.last_index, |entry| entry.index.into());
        let state = RaftState { hard_state: HardState { term, vote, commit }, last_index };
        if (state == self.state && entries.is_empty()) || last_index.get() == 0 {
            return Ok(());
        }
        let storage = self.store.storage();
        let mut batch = storage.batch();
        for entry in entries {
            let key = raft_log_key(self.region, entry.index.into());
            storage.put(&mut batch, Family::Raft, &key, &entry.write_to_bytes()?)?;
        }
        records::put(storage, &mut batch, Family::Raft, &raft_state_key(self.region), &state)?;
        storage.write(batch, Durability::Synced)?;
        self.state = state;
        Ok(())
    }

    /// Deletes the entries up to this one. The apply state has said so before: what a crash leaves goes the next time.
    pub(crate) fn compact(&mut self, truncated: LogPosition) -> Done {
        let storage = self.store.storage();
        let mut batch = storage.batch();
        for key in self.stored_keys(truncated.index)? {
            storage.delete(&mut batch, Family::Raft, &key)?;
        }
        storage.write(batch, Durability::Buffered)?;
        self.truncated = truncated;
        Ok(())
    }

    /// The keys of the entries up to this one.
    pub(crate) fn stored_keys(&self, last: LogIndex) -> Done<Vec<Vec<u8>>> {
        let end = last.next().ok_or("the log is full")?;
        let (start, end) = (raft_log_key(self.region, 0.into()), raft_log_key(self.region, end));
        let mut keys = Vec::new();
        self.store.storage().scan(Family::Raft, KeyRange::new(&start, EndKey::Finite(&end)), &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(keys)
    }

    /// Entries as a CommitMerge carries them to replicas that may lack them.
    pub(crate) fn for_merge(&self, from: LogIndex, to: LogIndex) -> Done<Vec<LogEntry>> {
        let pack = |index: u64| {
            let entry = self.entry(index)?;
            Ok(LogEntry { index: index.into(), term: entry.term.into(), data: entry.write_to_bytes()? })
        };
        (from.get()..=to.get()).map(pack).collect()
    }

    fn entry(&self, index: u64) -> Done<Entry> {
        let bytes = self.store.storage().get(Family::Raft, &raft_log_key(self.region, index.into()))?;
        Ok(Entry::parse_from_bytes(&bytes.ok_or_else(|| format!("region {} has no entry {index}", self.region))?)?)
    }
}

impl raft::Storage for Log {
    fn initial_state(&self) -> raft::Result<raft::RaftState> {
        let mut hard_state = eraftpb::HardState::default();
        let stored = self.state.hard_state;
        (hard_state.term, hard_state.vote, hard_state.commit) =
            (stored.term.get(), stored.vote.get(), stored.commit.get());
        let snapshot = self.store.meta().snapshot();
        let conf_state = snapshot.get(self.region).map(|entry| configuration(entry.region())).unwrap_or_default();
        Ok(raft::RaftState { hard_state, conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index.get() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let mut entries = (low..high).map(|index| self.entry(index).map_err(for_raft)).collect::<raft::Result<_>>()?;
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    /// Of the last entry that is gone the term is still known: the first one that is left has to fit behind it.
    fn term(&self, index: u64) -> raft::Result<u64> {
        match index {
            _ if index == self.truncated.index.get() => Ok(self.truncated.term.get()),
            _ if index < self.truncated.index.get() => Err(raft::Error::Store(StorageError::Compacted)),
            _ if index > self.state.last_index.get() => Err(raft::Error::Store(StorageError::Unavailable)),
            _ => self.entry(index).map(|entry| entry.term).map_err(for_raft),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index.get() + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.state.last_index.get())
    }

    /// Raft asks for one when a peer needs entries that are gone.
    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        let made = snapshot::make(&self.store, self.region).map_err(for_raft)?;
        made.ok_or(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// What Raft has to know of a region's peers.
pub(crate) fn configuration(region: &Region) -> ConfState {
    let of = |roles: &[PeerRole]| {
        let peers = region.peers().filter(|peer| roles.contains(&peer.role));
        let mut ids = peers.map(|peer| peer.id.get()).collect::<Vec<_>>();
        ids.sort_unstable();
        ids
    };
    let is_joint = region.peers().any(|peer| peer.role.is_joint());
    ConfState {
        voters: of(&[PeerRole::Voter, PeerRole::IncomingVoter]),
        learners: of(&[PeerRole::Learner]),
        voters_outgoing: if is_joint { of(&[PeerRole::Voter, PeerRole::DemotingVoter]) } else { Vec::new() },
        learners_next: of(&[PeerRole::DemotingVoter]),
        ..ConfState::default()
    }
}

fn for_raft(error: impl fmt::Display) -> raft::Error {
    raft::Error::Store(StorageError::Other(error.to_string().into()))
}
