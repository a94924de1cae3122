//! The end of a peer that did not come from its log: obsolete, stale, or told so by another store (spec section 11).

use regionmeta::layout::{apply_state_key, region_state_key};
use regionmeta::mutant::{Mutant, planted};
use regionmeta::{KeyRange, PeerId, PeerState, Region, RegionDraft, RegionEpoch, RegionError, RegionId};

use super::{Effect, Peers};
use crate::apply::{ApplyError, CommitError};
use crate::creating::Reserved;
use crate::poison::Poisoned;
use crate::records::{self, ReadError};
use crate::storage::{Durability, Family, Storage, StorageError};

/// Why a peer was not destroyed. But for failures of the storage, nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum DestroyError {
    #[error("region {region}: peer {peer} is not here, the store's peer is {own:?}")]
    NotHere { region: RegionId, peer: PeerId, own: Option<PeerId> },
    #[error("region {region} is to go with the snapshot of region {taker}, which is not persisted yet")]
    GoesWithSnapshot { region: RegionId, taker: RegionId },
    #[error("region {region} has accepted a snapshot that other regions go with: persist it or give it up first")]
    TakesOthers { region: RegionId },
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Tombstone(#[from] RegionError),
    #[error(transparent)]
    Record(#[from] ReadError),
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What became of a peer that was to be destroyed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Destroyed {
    /// It is gone, and its tombstone is durable.
    Buried {
        /// The tombstone.
        tombstone: Region,
        /// What the host has to do: delete its data, and what a snapshot that it had accepted was to replace.
        effects: Vec<Effect>,
    },
    /// A split, or a snapshot, has put an initialized peer of the same id in its place: nothing was written.
    Replaced,
    /// A split, or a snapshot, is about to put an initialized peer of the same id in its place, and its batch has not ended:
    /// nothing was written. Ask again: the peer was replaced then, or it still waits because the batch was not committed.
    NotYet,
    /// The data of its snapshot is coming in: [`finish_snapshot`](Peers::finish_snapshot) destroys it.
    Later,
}

impl<S: Storage> Peers<S> {
    /// Destroys a peer. Its tombstone, with the epoch and the peer that were known last, is durable and its removal published
    /// when this returns; its Raft records are gone, and a snapshot that it had accepted keeps no range any more. One that was
    /// persisted, and whose data nobody has begun to ingest, is cancelled by it.
    ///
    /// An initialized peer must have been [stopped](crate::apply::Router::stop) before. Two synced writes.
    ///
    /// # Errors
    /// [`DestroyError`]: ask again when the snapshot that it names is persisted, or when no batch has the region
    /// ([`ApplyError::Busy`]), as while its own snapshot is being persisted. After a failed write the store is poisoned.
    pub fn destroy(&self, region: RegionId, peer: PeerId) -> Result<Destroyed, DestroyError> {
        let mut state = self.lock();
        let waits = state.uninitialized.get(&region) == Some(&peer);
        if let Some(taker) = state.accepted.taker_of(region) {
            return Err(DestroyError::GoesWithSnapshot { region, taker });
        }
        if state.accepted.takes_others(region) {
            return Err(DestroyError::TakesOthers { region });
        }
        let own = self.peer_id(&state, region);
        if !waits && own == Some(peer) && !state.ingestions.cancel_for(region, peer) {
            return Ok(Destroyed::Later);
        }
        drop(state);
        let tombstone = match waits {
            true => self.destroy_uninitialized(region, peer),
            false => self.bury(region, peer).map(Ok),
        };
        self.lock().ingestions.cancelled(region);
        let tombstone = match tombstone? {
            Ok(tombstone) => tombstone,
            Err(replaced) => return Ok(replaced),
        };
        self.clean(region, peer)?;
        // Who waited for a first snapshot has no data of its own.
        let range = (!waits).then(|| tombstone.range());
        let effects = self.delete_data(range);
        Ok(Destroyed::Buried { tombstone, effects })
    }

    fn bury(&self, region: RegionId, peer: PeerId) -> Result<Region, DestroyError> {
        let mut batch = self.store().begin();
        let tombstone = batch.destroy(region, peer)?;
        batch.commit()?;
        Ok(tombstone)
    }

    /// tikv#13311: no split may slip in between the decision and the tombstone, so both are made under the lock of the
    /// reservations.
    ///
    /// The inner error says what became of the peer instead.
    fn destroy_uninitialized(&self, region: RegionId, peer: PeerId) -> Result<Result<Region, Destroyed>, DestroyError> {
        let mut creating = self.store().creating().lock();
        if let Some(replaced) = self.replaced(&creating, region) {
            return Ok(Err(replaced));
        }
        if self.lock().uninitialized.get(&region) != Some(&peer) {
            return Err(DestroyError::NotHere { region, peer, own: None });
        }
        let tombstone = self.write_tombstone(region, peer)?;
        self.store().writer().bury(region, peer);
        creating.remove(&region);
        self.lock().uninitialized.remove(&region);
        Ok(Ok(tombstone))
    }

    /// Whether another peer is in its place, or on its way there. A batch gives its reservations back after it has published.
    fn replaced(&self, creating: &Reserved, region: RegionId) -> Option<Destroyed> {
        let by_split = creating.get(&region).is_some_and(|reserved| reserved.by_split);
        let is_published = self.store().meta().snapshot().get(region).is_some();
        if is_published { Some(Destroyed::Replaced) } else { by_split.then_some(Destroyed::NotYet) }
    }

    /// tikv#10533: the tombstone of a peer that never knew its region still names it. What an earlier tombstone knows of the
    /// region stays in it.
    fn write_tombstone(&self, region: RegionId, peer: PeerId) -> Result<Region, DestroyError> {
        let store = self.store();
        store.check_writable()?;
        let storage = store.storage();
        let earlier: Option<Region> = records::read(storage, Family::Raft, &region_state_key(region))?;
        let own = regionmeta::Peer::voter(peer, store.ident().store_id);
        let draft = match &earlier {
            Some(earlier) => RegionDraft { merge_state: None, ..earlier.to_draft() },
            None => RegionDraft::new(region, KeyRange::ALL, RegionEpoch::new(0, 0), vec![own]),
        };
        let destroyed_peer = Some(peer).filter(|_| !planted(Mutant::M9));
        let tombstone = RegionDraft { state: PeerState::Tombstone, destroyed_peer, ..draft }.build()?;
        let mut batch = storage.batch();
        storage.delete(&mut batch, Family::Raft, &apply_state_key(region))?;
        records::put(storage, &mut batch, Family::Raft, &region_state_key(region), &tombstone)?;
        storage.write(batch, Durability::Synced).inspect_err(|error| store.poison().set(error))?;
        Ok(tombstone)
    }
}
