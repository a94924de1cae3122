//! One region's Raft log, in the RocksDB of its store: entries and raft state under the keys of [`regionmeta::layout`].

use std::fmt;
use std::sync::Arc;

use protobuf::Message;
use raft::eraftpb::{self, ConfState, Entry, Snapshot};
use raft::{GetEntriesContext, StorageError};
use regionmeta::layout::{raft_log_key, raft_state_key};
use regionmeta::{HardState, INIT_LOG_INDEX, INIT_LOG_TERM, PeerRole, RaftState, Region, RegionId};
use regionmeta_batch::storage::{Durability, Family, RocksStorage, Storage};
use regionmeta_batch::{Store, records};

use super::Done;

/// What Raft reads of one region. The configuration of its group is not stored at all: the descriptor has it.
pub(crate) struct Log {
    store: Arc<Store<RocksStorage>>,
    region: RegionId,
}

impl Log {
    pub(crate) fn new(store: Arc<Store<RocksStorage>>, region: RegionId) -> Self {
        Self { store, region }
    }

    /// A region that was just split off has no record yet: its log begins where every region's does.
    pub(crate) fn state(&self) -> Done<RaftState> {
        let stored = records::read(self.store.storage(), Family::Raft, &raft_state_key(self.region))?;
        Ok(stored.unwrap_or(RaftState::INITIAL))
    }

    /// Appends entries, over what another leader may have left from the first of them on, and notes the hard state. Both are
    /// durable when it returns.
    pub(crate) fn append(&self, entries: &[Entry], hard_state: &eraftpb::HardState) -> Done {
        let storage = self.store.storage();
        let mut batch = storage.batch();
        for entry in entries {
            let key = raft_log_key(self.region, entry.index.into());
            storage.put(&mut batch, Family::Raft, &key, &entry.write_to_bytes()?)?;
        }
        let last_index = entries.last().map_or(self.state()?.last_index, |entry| entry.index.into());
        let (term, vote, commit) = (hard_state.term.into(), hard_state.vote.into(), hard_state.commit.into());
        let state = RaftState { hard_state: HardState { term, vote, commit }, last_index };
        records::put(storage, &mut batch, Family::Raft, &raft_state_key(self.region), &state)?;
        Ok(storage.write(batch, Durability::Synced)?)
    }

    fn entry(&self, index: u64) -> Done<Entry> {
        let bytes = self.store.storage().get(Family::Raft, &raft_log_key(self.region, index.into()))?;
        Ok(Entry::parse_from_bytes(&bytes.ok_or_else(|| format!("region {} has no entry {index}", self.region))?)?)
    }
}

impl raft::Storage for Log {
    fn initial_state(&self) -> raft::Result<raft::RaftState> {
        let stored = self.state().map_err(for_raft)?.hard_state;
        let mut hard_state = eraftpb::HardState::default();
        (hard_state.term, hard_state.vote, hard_state.commit) =
            (stored.term.get(), stored.vote.get(), stored.commit.get());
        let snapshot = self.store.meta().snapshot();
        let region = snapshot.get(self.region).ok_or_else(|| for_raft("the region is not here"))?;
        Ok(raft::RaftState { hard_state, conf_state: configuration(region.region()) })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let mut entries = (low..high).map(|index| self.entry(index).map_err(for_raft)).collect::<raft::Result<_>>()?;
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match index == INIT_LOG_INDEX.get() {
            true => Ok(INIT_LOG_TERM.get()),
            false => self.entry(index).map(|entry| entry.term).map_err(for_raft),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(INIT_LOG_INDEX.get() + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.state().map_err(for_raft)?.last_index.get())
    }

    /// Logs are never compacted here, so nobody needs one.
    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// What Raft has to know of a region's peers.
pub(crate) fn configuration(region: &Region) -> ConfState {
    let of = |roles: &[PeerRole]| {
        let peers = region.peers().filter(|peer| roles.contains(&peer.role));
        peers.map(|peer| peer.id.get()).collect::<Vec<_>>()
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
