//! What changes a region beside its log: its peer is destroyed, or a snapshot takes the place of what is known of it. Peers
//! come here; the way of the batch is the same as that of an entry.

use regionmeta::layout::snapshot_raft_state_key;
use regionmeta::{
    ApplyState, ChildReservation, LogPosition, PeerId, PeerState, RaftState, Reason, Region, RegionDraft, RegionId,
    Removal,
};

use super::{After, ApplyBatch, ApplyError, Base, Pending};
use crate::creating::Reserved;
use crate::peers::DestroyError;
use crate::records;
use crate::storage::{Durability, Family, Storage};

impl<S: Storage> ApplyBatch<'_, S> {
    /// Destroys this store's peer of a region, whatever its group thinks of it. Returns the tombstone.
    pub(crate) fn destroy(&mut self, region: RegionId, peer: PeerId) -> Result<Region, DestroyError> {
        let current = self.pending(region)?.region().cloned().ok_or(ApplyError::RegionNotFound { region })?;
        let own = current.peer_on(self.store.ident().store_id).map(|own| own.id);
        if own != Some(peer) {
            return Err(DestroyError::NotHere { region, peer, own });
        }
        let tombstone = RegionDraft {
            state: PeerState::Tombstone,
            merge_state: None,
            destroyed_peer: Some(peer),
            ..current.to_draft()
        };
        let tombstone = tombstone.build()?;
        self.remove(&tombstone, Removal::Destroyed, Some(peer))?;
        self.store.storage().delete(&mut self.batch, Family::Raft, &snapshot_raft_state_key(region))?;
        Ok(tombstone)
    }

    /// Reserves an uninitialized peer that this batch is about to initialize, until it is committed or dropped.
    pub(crate) fn keep_from_others(&mut self, reserved: &mut Reserved, region: RegionId, peer: PeerId) {
        let before = reserved.insert(region, ChildReservation { peer, by_split: true });
        self.reserved.push((region, before));
    }

    /// A snapshot takes the place of what is known of a region, all of it: descriptor, apply state, log.
    pub(crate) fn take_snapshot(
        &mut self,
        region: &Region,
        position: LogPosition,
        raft_state: &RaftState,
    ) -> Result<(), ApplyError> {
        let id = region.id();
        let applied = self.claim(id)?;
        let known = self.store.meta().snapshot().get(id).map(|entry| entry.changed_at());
        let base = known.map(|changed_at| Base { changed_at, applied: applied.unwrap_or(ApplyState::INITIAL) });
        self.put_state(region)?;
        self.incomplete = true;
        let key = snapshot_raft_state_key(id);
        records::put(self.store.storage(), &mut self.batch, Family::Raft, &key, raft_state)?;
        self.incomplete = false;
        let apply = ApplyState { applied_index: position.index, truncated: position, commit: position };
        let after = After::Changed(region.clone(), Reason::Snapshot);
        self.pending.insert(id, Pending { base, apply, after, absorbed: false });
        self.durability = Durability::Synced;
        Ok(())
    }

    /// The data of a region's snapshot is there.
    pub(crate) fn finish_snapshot(&mut self, region: &Region) -> Result<(), ApplyError> {
        let id = region.id();
        if self.pending(id)?.region().is_none_or(|current| current.state() != PeerState::Applying) {
            return Err(ApplyError::Busy { region: id });
        }
        self.change(region, Reason::Snapshot)?;
        self.incomplete = true;
        self.store.storage().delete(&mut self.batch, Family::Raft, &snapshot_raft_state_key(region.id()))?;
        self.incomplete = false;
        self.durability = Durability::Synced;
        Ok(())
    }
}
