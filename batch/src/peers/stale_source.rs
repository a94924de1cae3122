//! Sources of merges that this store has missed (spec section 9.3): their peers on other stores were merged, the one here has
//! not heard the end of it. Messages tell. From then on the source may be destroyed as soon as its target is known to be past
//! the merge: by the map, by a tombstone, or by the snapshot or the message that brings a later version.

use std::collections::HashMap;

use regionmeta::{PeerId, PeerState, Region, RegionId};

use super::{CreateError, MessageAction, Peers};
use crate::records::ReadError;
use crate::storage::Storage;

/// What messages have said; at most one entry for each peer of the store.
#[derive(Debug, Default)]
pub(super) struct StaleSources {
    by_source: HashMap<RegionId, Told>,
}

/// A peer of this store, and the region that took over its region elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Told {
    pub(super) source_peer: PeerId,
    pub(super) target: RegionId,
    /// The target's peer on this store at the time of the merge.
    pub(super) target_peer: PeerId,
    /// The target's version at the time of the merge.
    pub(super) target_version: u64,
}

/// Into which peer of its target a source that may go was merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MergedInto {
    /// The one that wants its keys: both change in one step.
    ThisPeer,
    /// One that is not here any more: the source goes by itself, and its data too.
    EarlierPeer,
}

impl StaleSources {
    /// Of one source every message says the same. What was known stays if one does not, and is returned.
    pub(super) fn tell(&mut self, source: RegionId, told: Told) -> Result<(), Told> {
        let known = *self.by_source.entry(source).or_insert(told);
        // An entry of an earlier peer has been forgotten with it.
        if known == told { Ok(()) } else { Err(known) }
    }

    /// Whether `source` may go for a version of `target` that `target_peer` is about to have.
    pub(super) fn may_go(
        &self,
        source: RegionId,
        target: RegionId,
        target_peer: PeerId,
        target_version: u64,
    ) -> Option<MergedInto> {
        let told = self.by_source.get(&source).filter(|told| told.target == target)?;
        let is_past = told.target_version < target_version;
        let into = if told.target_peer == target_peer { MergedInto::ThisPeer } else { MergedInto::EarlierPeer };
        is_past.then_some(into)
    }

    pub(super) fn forget(&mut self, source: RegionId, peer: PeerId) {
        if self.by_source.get(&source).is_some_and(|told| told.source_peer == peer) {
            self.by_source.remove(&source);
        }
    }
}

impl<S: Storage> Peers<S> {
    /// A message says that the peers of `source` on other stores were merged into `target`, which is described as it was then.
    pub(super) fn on_merged_elsewhere(
        &self,
        source: RegionId,
        source_peer: PeerId,
        target: &Region,
    ) -> Result<MessageAction, CreateError> {
        // A source and its target have peers on the same stores.
        let Some(target_peer) = self.peer_here(target).filter(|_| target.id() != source) else {
            return Ok(MessageAction::Drop);
        };
        let target_version = target.epoch().version;
        let told = Told { source_peer, target: target.id(), target_peer, target_version };
        let mut state = self.lock();
        // Who removes a peer forgets it under this lock, so a peer that is still here leaves no entry behind.
        if self.peer_id(&state, source) != Some(source_peer) {
            return Ok(MessageAction::Drop);
        }
        let target_waits = state.uninitialized.contains_key(&target.id());
        let contradicts = |known: Told| CreateError::OtherMergeTarget {
            source_region: source,
            known: (known.target, known.target_version),
            told: (told.target, told.target_version),
        };
        state.stale_sources.tell(source, told).map_err(contradicts)?;
        drop(state);
        let is_past = match self.store().meta().snapshot().get(target.id()) {
            Some(here) => here.region().epoch().version > target_version,
            None => !target_waits && self.is_buried(target, target_peer)?,
        };
        Ok(if is_past { MessageAction::Destroy { peer: source_peer } } else { MessageAction::Drop })
    }

    /// Whether the target's tombstone is of a later version, or of this very peer or a later one.
    fn is_buried(&self, target: &Region, target_peer: PeerId) -> Result<bool, ReadError> {
        let record = self.record(target.id())?.filter(|record| record.state() == PeerState::Tombstone);
        Ok(record.is_some_and(|tombstone| {
            let last = tombstone.destroyed_peer().max(self.peer_here(&tombstone));
            target.epoch().is_behind_any(tombstone.epoch()) || last >= Some(target_peer)
        }))
    }
}
