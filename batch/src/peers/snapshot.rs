//! A Raft snapshot replaces what a peer knows, and the regions whose keys it takes (spec section 10).
//!
//! 1. [`accept_snapshot`](Peers::accept_snapshot) looks at it, keeps its range from other snapshots, and says which regions
//!    are to be stopped or destroyed for it.
//! 2. [`persist_snapshot`](Peers::persist_snapshot): one batch, with the tombstones of the regions that it takes keys from, and
//!    one changeset. The region is `Applying` then: its descriptor is there and its data is not.
//! 3. [`start_ingestion`](Peers::start_ingestion), and the host clears the region's range and fills it. After a crash recovery
//!    names the region, and the host does it again.
//! 4. [`finish_snapshot`](Peers::finish_snapshot): the region is `Normal`, or gone if its peer was to be destroyed meanwhile.

use std::collections::HashMap;

use regionmeta::{
    Change, HardState, LogIndex, LogPosition, PeerId, PeerState, RaftState, Region, RegionDraft, RegionError, RegionId,
    Removal, Term,
};

use super::stale_source::MergedInto;
use super::{DataRange, DestroyError, Effect, Peers, State};
use crate::apply::{ApplyBatch, ApplyError, CommitError};
use crate::storage::{Storage, StorageError};

/// Why a snapshot is not taken. But for failures of the storage, nothing has changed; drop the snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum SnapshotError {
    #[error("region {region}: the snapshot is for peer {target:?}, the store's peer is {own:?}")]
    OtherPeer { region: RegionId, target: Option<PeerId>, own: Option<PeerId> },
    #[error("region {region}: the snapshot's index {} is behind what was applied; Raft may have it, and will ignore it", position.index)]
    Behind { region: RegionId, position: LogPosition },
    #[error("region {region}: the snapshot is an old one, of when its peer's witness flag was {witness}")]
    OtherWitness { region: RegionId, witness: bool },
    #[error("region {region}: an earlier snapshot, or what goes with it, is not finished")]
    InProgress { region: RegionId },
    #[error("region {region} has applied {applied} of {committed}, and a merge may be among the rest")]
    Unapplied { region: RegionId, applied: LogIndex, committed: LogIndex },
    #[error("region {region}: the data of {range:?} is still being deleted")]
    DataRemains { region: RegionId, range: DataRange },
    #[error("region {region}: {stale}, a stale source of it, is not destroyed yet")]
    StaleSourceStays { region: RegionId, stale: RegionId },
    #[error("the snapshot of {new} overlaps that of {pending}, which is not persisted yet")]
    OverlapsSnapshot { new: Region, pending: Region },
    #[error(
        "the snapshot of {new} takes keys of {other}, which may not be destroyed for it; wake that one if it is behind: {is_behind}"
    )]
    Overlaps { new: Region, other: Region, is_behind: bool },
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
    /// The regions that it takes keys from.
    sources: Vec<Source>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    region: RegionId,
    peer: PeerId,
    merged_into: MergedInto,
}

impl Source {
    /// Whether it goes in the same change; otherwise before.
    fn goes_along(self) -> bool {
        self.merged_into == MergedInto::ThisPeer
    }

    fn effect(self) -> Effect {
        let Self { region, peer, .. } = self;
        if self.goes_along() { Effect::StopSource { region } } else { Effect::DestroyStale { region, peer } }
    }
}

impl Accepted {
    fn forget(&mut self, region: RegionId) {
        self.by_region.remove(&region);
    }

    /// A peer is gone: its snapshot keeps no range any more.
    pub(super) fn forget_peer(&mut self, region: RegionId, peer: PeerId) {
        if self.by_region.get(&region).is_some_and(|snapshot| snapshot.peer == peer) {
            self.forget(region);
        }
    }

    /// Whose snapshot destroys this region.
    pub(super) fn taker_of(&self, source: RegionId) -> Option<RegionId> {
        let takes = |taken: &Source| taken.region == source && taken.goes_along();
        self.by_region.values().find(|snapshot| snapshot.sources.iter().any(takes)).map(|taker| taker.region.id())
    }

    /// Whether other regions go for this one's snapshot.
    pub(super) fn takes_others(&self, region: RegionId) -> bool {
        self.by_region.get(&region).is_some_and(|snapshot| !snapshot.sources.is_empty())
    }

    pub(super) fn regions(&self) -> impl Iterator<Item = &Region> {
        self.by_region.values().map(|snapshot| &snapshot.region)
    }

    fn overlapped_by(&self, region: &Region) -> Option<&Region> {
        let mut others = self.regions().filter(|other| other.id() != region.id());
        others.find(|other| other.range().overlaps(region.range()))
    }
}

impl<S: Storage> Peers<S> {
    /// Looks at a snapshot before it is persisted: `region` is its descriptor, `position` the last entry that is in it, and
    /// `committed` what Raft knows to be committed here. If it is accepted, its range is kept from other snapshots until it is
    /// persisted or given up. A later one of the same region takes its place.
    ///
    /// The result says which regions are to be stopped or destroyed for it, and which data is to be deleted because the earlier
    /// one was to replace it and this one does not. The regions are known to be merged into this one, so make
    /// sure before that Raft takes the snapshot: what was stopped for one that is given up has to be added to the pool again.
    ///
    /// # Errors
    /// [`SnapshotError`], and nothing is kept.
    pub fn accept_snapshot(
        &self,
        region: &Region,
        position: LogPosition,
        committed: LogIndex,
    ) -> Result<Vec<Effect>, SnapshotError> {
        let id = region.id();
        let (peer, is_first) = self.check_snapshot(region, position)?;
        let mut state = self.lock();
        if state.accepted.takes_others(id) {
            return Err(SnapshotError::InProgress { region: id });
        }
        // Who still holds it for waiting has not heard of the split yet.
        if state.uninitialized.contains_key(&id) && !is_first {
            return Err(SnapshotError::Replaced { region: id });
        }
        if let Some(pending) = state.accepted.overlapped_by(region) {
            return Err(SnapshotError::OverlapsSnapshot { new: region.clone(), pending: pending.clone() });
        }
        if let Some(range) = state.deletions.overlapped_by(region.range()) {
            return Err(SnapshotError::DataRemains { region: id, range: range.clone() });
        }
        let sources = self.sources(&state, region, peer)?;
        if !sources.is_empty() {
            self.check_may_take_others(&state, id, committed)?;
        }
        let mut effects: Vec<_> = sources.iter().map(|source| source.effect()).collect();
        let snapshot = Snapshot { region: region.clone(), peer, is_first, position, sources };
        state.accepted.by_region.insert(id, snapshot);
        drop(state);
        effects.extend(self.delete_data([]));
        Ok(effects)
    }

    /// The other regions whose keys a snapshot takes: each must be known to be merged into this one, before this version.
    fn sources(&self, state: &State, region: &Region, peer: PeerId) -> Result<Vec<Source>, SnapshotError> {
        let meta = self.store().meta().snapshot();
        let mut sources = Vec::new();
        let version = region.epoch().version;
        for other in meta.overlapping(region.range()).filter(|other| other.id() != region.id()) {
            let merged_into = state.stale_sources.may_go(other.id(), region.id(), peer, version);
            let Some((merged_into, peer)) = merged_into.zip(self.peer_here(other)) else {
                let is_behind = other.epoch().version < version;
                return Err(SnapshotError::Overlaps { new: region.clone(), other: other.clone(), is_behind });
            };
            sources.push(Source { region: other.id(), peer, merged_into });
        }
        Ok(sources)
    }

    /// A CommitMerge that waits to be applied would miss the source that the snapshot destroys.
    fn check_may_take_others(&self, state: &State, region: RegionId, committed: LogIndex) -> Result<(), SnapshotError> {
        let meta = self.store().meta().snapshot();
        let known = meta.get(region).map(|entry| entry.region());
        let applies = known.is_some_and(|known| known.state() == PeerState::Applying);
        if applies || state.accepted.by_region.contains_key(&region) {
            return Err(SnapshotError::InProgress { region });
        }
        let applied = known.map_or(LogIndex::new(0), |_| self.store().apply_state(region).applied_index);
        if applied < committed { Err(SnapshotError::Unapplied { region, applied, committed }) } else { Ok(()) }
    }

    /// Gives up a snapshot that was accepted, such as one that Raft did not want. The result says which data is to be deleted,
    /// because the snapshot was to replace it and nobody else owns it.
    #[must_use]
    pub fn give_up_snapshot(&self, region: RegionId) -> Vec<Effect> {
        self.lock().accepted.forget(region);
        self.delete_data([])
    }

    /// Persists an accepted snapshot and publishes its region, in state Applying; what was merged into it is destroyed with it.
    /// `term` and `vote` are Raft's own. The result says which peers are gone, and which data: what the region and its sources
    /// had outside of the new range. The new range is the host's to clear when it ingests.
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
        let regions: Vec<_> = snapshot.sources.iter().map(|source| source.region).chain([region]).collect();
        let busy = self.cancel_ingestions(&regions);
        let persisted = match busy {
            Some(region) => Err(SnapshotError::InProgress { region }),
            None => self.persist(&snapshot, term, vote),
        };
        let mut state = self.lock();
        regions.iter().for_each(|region| state.ingestions.cancelled(*region));
        persisted
    }

    /// Keeps data from coming in that is replaced in this very moment. The first region whose data does already.
    fn cancel_ingestions(&self, regions: &[RegionId]) -> Option<RegionId> {
        let mut state = self.lock();
        regions.iter().copied().find(|region| !state.ingestions.cancel(*region))
    }

    fn persist(&self, snapshot: &Snapshot, term: Term, vote: PeerId) -> Result<Vec<Effect>, SnapshotError> {
        let region = snapshot.region.id();
        let applying = applying(&snapshot.region)?;
        let hard_state = HardState { term, vote, commit: snapshot.position.index };
        let raft_state = RaftState { hard_state, last_index: snapshot.position.index };
        let mut batch = self.store().begin();
        self.destroy_sources(snapshot, &mut batch)?;
        self.keep_waiting(snapshot, &mut batch)?;
        batch.take_snapshot(&applying, snapshot.position, &raft_state)?;
        // From here on the region is this batch's, and what it has applied stays.
        self.check_snapshot(&snapshot.region, snapshot.position)?;
        let before = self.store().meta().snapshot();
        let committed = batch.commit()?;
        let mut state = self.lock();
        state.accepted.forget(region);
        state.uninitialized.remove(&region);
        drop(state);
        self.replace_raft_state(region, &raft_state)?;
        let mut effects = self.destroyed_for(region, &committed.changes)?;
        // The snapshot is of a state in which the merge was rolled back.
        let merged = before.get(region).is_some_and(|known| known.region().state() == PeerState::Merging);
        effects.extend(merged.then_some(Effect::ForgetMerge { region }));
        let changed = committed.changes.iter().filter_map(|change| before.get(change.id()));
        effects.extend(self.delete_data(changed.map(|entry| entry.region().range())));
        Ok(effects)
    }

    fn destroy_sources(&self, snapshot: &Snapshot, batch: &mut ApplyBatch<'_, S>) -> Result<(), SnapshotError> {
        for source in &snapshot.sources {
            // One that has gone by itself takes no keys any more.
            match self.own_peer(&self.store().meta().snapshot(), source.region) {
                None => {}
                Some(_) if !source.goes_along() => {
                    return Err(SnapshotError::StaleSourceStays { region: snapshot.region.id(), stale: source.region });
                }
                Some(peer) => {
                    batch.destroy(source.region, peer)?;
                }
            }
        }
        Ok(())
    }

    /// The store's peer, if the snapshot is for it and brings something new; and whether it waits for its first one.
    fn check_snapshot(&self, region: &Region, position: LogPosition) -> Result<(PeerId, bool), SnapshotError> {
        let id = region.id();
        let (target, peer) = (self.peer_here(region), self.peer(id));
        let own = peer.as_ref().map(|peer| peer.peer_id);
        let Some(peer) = peer.filter(|peer| target == Some(peer.peer_id)) else {
            return Err(SnapshotError::OtherPeer { region: id, target, own });
        };
        let is_behind = peer.is_initialized() && position.index < self.store().apply_state(id).applied_index;
        match is_behind.then(|| self.witness_flag(region)) {
            None => Ok((peer.peer_id, !peer.is_initialized())),
            Some(witness) if witness != self.witness_flag_here(id) => {
                Err(SnapshotError::OtherWitness { region: id, witness })
            }
            Some(_) => Err(SnapshotError::Behind { region: id, position }),
        }
    }

    fn witness_flag(&self, region: &Region) -> bool {
        region.peer_on(self.store().ident().store_id).is_some_and(|own| own.is_witness)
    }

    fn witness_flag_here(&self, region: RegionId) -> bool {
        self.store().meta().snapshot().get(region).is_some_and(|entry| self.witness_flag(entry.region()))
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
