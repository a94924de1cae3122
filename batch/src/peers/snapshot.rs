//! A Raft snapshot replaces what a peer knows, and the regions whose keys it takes (spec section 10).
//!
//! 1. [`accept_snapshot`](Peers::accept_snapshot) looks at it, and keeps its range from other snapshots.
//! 2. [`persist_snapshot`](Peers::persist_snapshot): one batch, with the tombstones of the regions that it takes keys from, and
//!    one changeset. The region is `Applying` then: its descriptor is there and its data is not.
//! 3. The host replaces the data. After a crash recovery names the region, and the host does it again.
//! 4. [`finish_snapshot`](Peers::finish_snapshot): the region is `Normal`.

use std::collections::HashMap;

use regionmeta::{
    Change, HardState, LogPosition, PeerId, PeerState, RaftState, Region, RegionDraft, RegionError, RegionId, Removal,
    Term,
};

use super::{DestroyError, Effect, Peers};
use crate::apply::{ApplyBatch, ApplyError, CommitError};
use crate::storage::{Storage, StorageError};

/// Why a snapshot is not taken. But for failures of the storage, nothing has changed; drop the snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum SnapshotError {
    #[error("region {region}: the snapshot is for peer {target:?}, the store's peer is {own:?}")]
    OtherPeer { region: RegionId, target: Option<PeerId>, own: Option<PeerId> },
    #[error("region {region}: the snapshot's index {} is behind what was applied", position.index)]
    Behind { region: RegionId, position: LogPosition },
    #[error("the snapshot of {new} overlaps that of {pending}, which is not persisted yet")]
    OverlapsSnapshot { new: Region, pending: Region },
    #[error("the snapshot of {new} takes keys of {other}, which may not be destroyed for it")]
    Overlaps { new: Region, other: Region },
    #[error("region {region}: a split has initialized the peer since the snapshot was accepted")]
    Replaced { region: RegionId },
    #[error("region {region}: no snapshot was accepted")]
    NotAccepted { region: RegionId },
    #[error("region {region} applies no snapshot, it is {state:?}")]
    NotApplying { region: RegionId, state: PeerState },
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Snapshots that were accepted and are not persisted: each keeps its range from the others.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    by_region: HashMap<RegionId, Snapshot>,
}

#[derive(Clone, Debug)]
struct Snapshot {
    region: Region,
    peer: PeerId,
    /// Whether the peer waited for it.
    is_first: bool,
    position: LogPosition,
    /// The regions that go with it.
    sources: Vec<RegionId>,
}

impl Accepted {
    pub(super) fn forget(&mut self, region: RegionId) {
        self.by_region.remove(&region);
    }

    /// Whose snapshot destroys this region.
    pub(super) fn taker_of(&self, source: RegionId) -> Option<RegionId> {
        self.by_region.values().find(|snapshot| snapshot.sources.contains(&source)).map(|taker| taker.region.id())
    }

    fn overlapped_by(&self, region: &Region) -> Option<&Region> {
        let others = self.by_region.values().map(|snapshot| &snapshot.region).filter(|other| other.id() != region.id());
        others.into_iter().find(|other| other.range().overlaps(region.range()))
    }
}

impl<S: Storage> Peers<S> {
    /// Looks at a snapshot before Raft is given it: `region` is its descriptor, `position` the last entry that is in it. If it
    /// is accepted, its range is kept from other snapshots until it is persisted or given up. A later one of the same region
    /// takes its place.
    ///
    /// `destroyable` are the regions that may go for it: the host knows that they were merged into this one.
    ///
    /// # Errors
    /// [`SnapshotError`], and nothing is kept.
    pub fn accept_snapshot(
        &self,
        region: &Region,
        position: LogPosition,
        destroyable: &[RegionId],
    ) -> Result<(), SnapshotError> {
        let (peer, is_first) = self.check_snapshot(region, position)?;
        let meta = self.store().meta().snapshot();
        let mut sources = Vec::new();
        for other in meta.overlapping(region.range()).filter(|other| other.id() != region.id()) {
            if !destroyable.contains(&other.id()) {
                return Err(SnapshotError::Overlaps { new: region.clone(), other: other.clone() });
            }
            sources.push(other.id());
        }
        let mut state = self.lock();
        if let Some(pending) = state.accepted.overlapped_by(region) {
            return Err(SnapshotError::OverlapsSnapshot { new: region.clone(), pending: pending.clone() });
        }
        let snapshot = Snapshot { region: region.clone(), peer, is_first, position, sources };
        state.accepted.by_region.insert(region.id(), snapshot);
        Ok(())
    }

    /// Gives up a snapshot that was accepted, such as one that Raft did not want.
    pub fn give_up_snapshot(&self, region: RegionId) {
        self.lock().accepted.forget(region);
    }

    /// Persists an accepted snapshot and publishes its region, in state Applying; what it takes keys from is destroyed with
    /// it. `term` and `vote` are Raft's own. The result says which peers are gone.
    ///
    /// The region, if it is initialized, and every region that goes must have been [stopped](crate::apply::Router::stop). Two
    /// synced writes, and one for each region that goes.
    ///
    /// # Errors
    /// [`SnapshotError`]. The snapshot stays accepted if it was refused; after a failed write the store is poisoned, and
    /// opening it finishes what was begun.
    pub fn persist_snapshot(&self, region: RegionId, term: Term, vote: PeerId) -> Result<Vec<Effect>, SnapshotError> {
        let accepted = self.lock().accepted.by_region.get(&region).cloned();
        let snapshot = accepted.ok_or(SnapshotError::NotAccepted { region })?;
        let applying = applying(&snapshot.region)?;
        let hard_state = HardState { term, vote, commit: snapshot.position.index };
        let raft_state = RaftState { hard_state, last_index: snapshot.position.index };
        let mut batch = self.store().begin();
        for &source in &snapshot.sources {
            // One that has gone by itself takes no keys any more.
            if let Some(peer) = self.own_peer(&self.store().meta().snapshot(), source) {
                batch.destroy(source, peer)?;
            }
        }
        self.keep_waiting(&snapshot, &mut batch)?;
        batch.take_snapshot(&applying, snapshot.position, &raft_state)?;
        // From here on the region is this batch's, and what it has applied stays.
        self.check_snapshot(&snapshot.region, snapshot.position)?;
        let committed = batch.commit()?;
        let mut state = self.lock();
        state.accepted.forget(region);
        state.uninitialized.remove(&region);
        drop(state);
        self.replace_raft_state(region, &raft_state)?;
        self.destroyed_for(region, &committed.changes)
    }

    /// The data of the region is there: it is Normal from now on. One synced write.
    ///
    /// # Errors
    /// [`SnapshotError`]; after a failed write the store is poisoned.
    pub fn finish_snapshot(&self, region: RegionId) -> Result<Region, SnapshotError> {
        let mut batch = self.store().begin();
        let current = batch.region(region).ok_or(ApplyError::RegionNotFound { region })?;
        if current.state() != PeerState::Applying {
            return Err(SnapshotError::NotApplying { region, state: current.state() });
        }
        let normal = RegionDraft { state: PeerState::Normal, ..current.to_draft() }.build()?;
        batch.finish_snapshot(&normal)?;
        batch.commit()?;
        Ok(normal)
    }

    /// The store's peer, if the snapshot is for it and brings something new; and whether it waits for its first one.
    fn check_snapshot(&self, region: &Region, position: LogPosition) -> Result<(PeerId, bool), SnapshotError> {
        let id = region.id();
        let (target, peer) = (self.peer_here(region), self.peer(id));
        let own = peer.as_ref().map(|peer| peer.peer_id);
        let Some(peer) = peer.filter(|peer| target == Some(peer.peer_id)) else {
            return Err(SnapshotError::OtherPeer { region: id, target, own });
        };
        if peer.is_initialized() && position.index < self.store().apply_state(id).applied_index {
            return Err(SnapshotError::Behind { region: id, position });
        }
        Ok((peer.peer_id, !peer.is_initialized()))
    }

    /// An uninitialized peer may be destroyed, or replaced by a split, at any time before it is kept from that.
    fn keep_waiting(&self, snapshot: &Snapshot, batch: &mut ApplyBatch<'_, S>) -> Result<(), SnapshotError> {
        if !snapshot.is_first {
            return Ok(());
        }
        let (region, peer) = (snapshot.region.id(), snapshot.peer);
        let mut creating = self.store().creating().lock();
        let by_split = creating.get(&region).is_some_and(|reserved| reserved.by_split);
        match self.peer(region) {
            Some(known) if known.is_initialized() || by_split => Err(SnapshotError::Replaced { region }),
            Some(known) if known.peer_id == peer => {
                batch.keep_from_others(&mut creating, region, peer);
                Ok(())
            }
            known => {
                let own = known.map(|known| known.peer_id);
                Err(SnapshotError::OtherPeer { region, target: Some(peer), own })
            }
        }
    }

    /// The log begins anew behind the snapshot. Recovery does the same if this does not come about.
    fn replace_raft_state(&self, region: RegionId, state: &RaftState) -> Result<(), StorageError> {
        let raft = self.store().raft();
        let replaced = raft.clean(region).and_then(|()| raft.put_raft_state(region, state));
        replaced.inspect_err(|error| self.store().poison().set(error))
    }

    fn destroyed_for(&self, target: RegionId, changes: &[Change]) -> Result<Vec<Effect>, SnapshotError> {
        let mut effects = Vec::new();
        for change in changes {
            if let Change::Remove { id, peer: Some(peer), removal: Removal::Destroyed, .. } = change {
                self.clean(*id, *peer)?;
                effects.push(Effect::Destroy { region: *id, peer: *peer, merged_into: Some(target) });
            }
        }
        Ok(effects)
    }
}

fn applying(region: &Region) -> Result<Region, RegionError> {
    let draft = RegionDraft { state: PeerState::Applying, merge_state: None, ..region.to_draft() };
    draft.build()
}
