//! Applying: committed entries become one batch, one write, one published changeset.
//!
//! An [`ApplyBatch`] runs ahead of what readers see: each entry is checked against the regions as the entries before it in
//! the same batch have left them. [`commit`](ApplyBatch::commit) then goes the one way that is allowed: check and reserve,
//! write, publish (I3, I4). Data, descriptors and apply states of an entry are in the same batch (I5).

use std::collections::HashMap;

use regionmeta::layout::region_state_key;
use regionmeta::{
    AdminCommand, AdminError, ApplyState, Change, Changeset, LogIndex, LogPosition, Outcome, PeerId, PeerState, Reason,
    Refusal, Region, RegionEpoch, RegionId, Removal, Sequence,
};

use crate::poison::Poisoned;
use crate::records::{self, ReadError, WriteStateError};
use crate::storage::{Durability, Family, Storage, StorageError};
use crate::store::Store;

/// Why an entry was not applied. The batch is as it was before, unless the command itself was refused: then the entry
/// counts as applied and changes nothing else (spec section 5.2).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum ApplyError {
    #[error("region {region} is not on this store")]
    RegionNotFound { region: RegionId },
    #[error("region {region}: entry {} was applied already, the applied index is {}", entry.index, applied.applied_index)]
    AlreadyApplied { region: RegionId, entry: LogPosition, applied: ApplyState },
    #[error("region {region}: entry {} does not follow the applied index {}", entry.index, applied.applied_index)]
    Gap { region: RegionId, entry: LogPosition, applied: ApplyState },
    #[error("command refused: {0}")]
    Refused(#[from] AdminError),
    #[error("region {region}: the new region id {child} has a record on this store already")]
    ChildExists { region: RegionId, child: RegionId },
    #[error("region {region} was created by this very batch: commit it, then apply the entry that destroys the region")]
    CommitFirst { region: RegionId },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum CommitError {
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    #[error("nothing was written: {0}")]
    Refused(#[from] Refusal),
    #[error("nothing was written: entries of region {region} were applied by another batch since this one began")]
    Overtaken { region: RegionId },
    #[error("{0}; the outcome is unknown, the store is poisoned")]
    Write(#[from] StorageError),
}

/// What a commit made visible.
#[derive(Debug)]
pub struct Committed {
    /// The sequence number of the changeset; that of the current state if the batch changed no region.
    pub sequence: Sequence,
    /// What was published.
    pub changes: Vec<Change>,
}

/// What the entries of this batch have made of one region.
#[derive(Debug)]
struct Pending {
    /// What the first entry started from; `None` if the batch itself creates the region.
    base: Option<Base>,
    apply: ApplyState,
    after: After,
}

#[derive(Clone, Copy, Debug)]
struct Base {
    changed_at: Sequence,
    applied: ApplyState,
}

impl Pending {
    /// Whether any entry counted. A region that was only looked at is nobody's business at commit.
    fn moved(&self) -> bool {
        self.base.is_none_or(|base| base.applied != self.apply)
    }

    /// The apply state to store; `None` if the region is gone.
    fn apply_state(&self) -> Option<ApplyState> {
        (!matches!(self.after, After::Destroyed(_))).then_some(self.apply)
    }
}

#[derive(Debug)]
enum After {
    Unchanged(Region),
    Changed(Region, Reason),
    Destroyed(PeerId),
}

/// Entries of any number of regions, to be written and published together.
///
/// A region's entries come from one batch at a time: of two batches that hold entries of one region, the second is refused.
#[derive(Debug)]
#[must_use = "a batch that is not committed changes nothing"]
pub struct ApplyBatch<'a, S: Storage> {
    store: &'a Store<S>,
    batch: S::Batch,
    pending: HashMap<RegionId, Pending>,
    /// In the order of first touch, so that the same entries give the same bytes.
    order: Vec<RegionId>,
    durability: Durability,
}

impl<'a, S: Storage> ApplyBatch<'a, S> {
    pub(crate) fn new(store: &'a Store<S>) -> Self {
        let batch = store.storage().batch();
        Self { store, batch, pending: HashMap::new(), order: Vec::new(), durability: store.durability() }
    }

    /// The region as the entries so far have left it; what the next entry is checked against.
    #[must_use]
    pub fn region(&self, id: RegionId) -> Option<Region> {
        match self.pending.get(&id) {
            Some(Pending { after: After::Unchanged(region) | After::Changed(region, _), .. }) => Some(region.clone()),
            Some(Pending { after: After::Destroyed(_), .. }) => None,
            None => self.store.meta().snapshot().get(id).map(|entry| entry.region().clone()),
        }
    }

    /// The last entry of a region that was applied, those of this batch included.
    #[must_use]
    pub fn applied_index(&self, id: RegionId) -> LogIndex {
        let here = self.pending.get(&id).map(|pending| pending.apply);
        here.unwrap_or_else(|| self.store.apply_state(id)).applied_index
    }

    /// The storage's own batch, for the host's data of the entry that is being applied.
    pub fn data(&mut self) -> &mut S::Batch {
        &mut self.batch
    }

    /// Applies a committed admin command of a region, proposed at `epoch`.
    ///
    /// # Errors
    /// [`ApplyError`]. After [`ApplyError::Refused`] and [`ApplyError::ChildExists`] the entry counts as applied.
    pub fn apply(
        &mut self,
        region: RegionId,
        entry: LogPosition,
        epoch: RegionEpoch,
        command: &AdminCommand,
    ) -> Result<Outcome, ApplyError> {
        let before = self.pending(region)?.apply;
        let current = self.advance(region, entry)?;
        let outcome = command.plan(&current, epoch, self.store.ident().store_id)?;
        match &outcome {
            Outcome::Changed { region } => self.change(region, Reason::ChangePeer)?,
            Outcome::Destroyed { tombstone, peer } => self.destroy(tombstone, *peer, before)?,
            Outcome::Split { regions, derived } => self.split(regions, *derived)?,
            // `Outcome` may grow with the commands; a new one is refused until its effect is written here.
            _ => return Err(ApplyError::RegionNotFound { region }),
        }
        Ok(outcome)
    }

    /// Counts a committed entry that changes no metadata, such as an ordinary write whose data is in [`data`](Self::data).
    ///
    /// # Errors
    /// [`ApplyError`] if the entry does not follow, or the region is not here.
    pub fn advance(&mut self, region: RegionId, entry: LogPosition) -> Result<Region, ApplyError> {
        let pending = self.pending(region)?;
        let applied = pending.apply;
        let (After::Unchanged(current) | After::Changed(current, _)) = &pending.after else {
            return Err(ApplyError::RegionNotFound { region });
        };
        if entry.index <= applied.applied_index {
            return Err(ApplyError::AlreadyApplied { region, entry, applied });
        }
        if applied.applied_index.next() != Some(entry.index) {
            return Err(ApplyError::Gap { region, entry, applied });
        }
        let current = current.clone();
        pending.apply = ApplyState { applied_index: entry.index, commit: entry, ..applied };
        Ok(current)
    }

    /// Writes the batch, then publishes it. Readers see all of it or nothing.
    ///
    /// # Errors
    /// [`CommitError::Refused`] or [`CommitError::Overtaken`] before anything was written, if another batch changed one of
    /// the regions meanwhile or applied entries of it. After [`CommitError::Write`] the outcome is unknown and the store is
    /// poisoned (I14).
    pub fn commit(mut self) -> Result<Committed, CommitError> {
        self.store.poison().check()?;
        self.pending.retain(|_, pending| pending.moved());
        let permit = self.store.writer().prepare(self.changeset())?;
        let claim = self.store.progress().claim(&self.started()).map_err(|region| CommitError::Overtaken { region })?;
        if let Err(error) = self.write() {
            self.store.poison().set(&error);
            return Err(error.into());
        }
        let changes = permit.changeset().changes().to_vec();
        // Before the regions are published: whoever computes from a published region finds its apply state.
        claim.record(self.pending.iter().map(|(region, pending)| (*region, pending.apply_state())));
        // An empty changeset would wake every cached reader for nothing.
        let sequence = if changes.is_empty() { self.store.meta().sequence() } else { permit.publish().sequence() };
        Ok(Committed { sequence, changes })
    }

    fn write(&mut self) -> Result<(), StorageError> {
        let storage = self.store.storage();
        for region in &self.order {
            if let Some(state) = self.pending.get(region).and_then(Pending::apply_state) {
                records::write_apply_state(storage, &mut self.batch, *region, &state)?;
            }
        }
        let batch = std::mem::replace(&mut self.batch, storage.batch());
        storage.write(batch, self.durability)
    }

    fn changeset(&self) -> Changeset {
        let in_order = self.order.iter().filter_map(|id| Some((*id, self.pending.get(id)?)));
        in_order.filter_map(|(id, pending)| change(id, pending)).fold(Changeset::new(), Changeset::with)
    }

    /// The regions whose entries this batch holds, as it found them.
    fn started(&self) -> Vec<(RegionId, ApplyState)> {
        self.pending.iter().filter_map(|(id, pending)| Some((*id, pending.base?.applied))).collect()
    }

    /// The entry of a region in this batch, made from the published state at its first touch.
    fn pending(&mut self, region: RegionId) -> Result<&mut Pending, ApplyError> {
        if !self.pending.contains_key(&region) {
            let snapshot = self.store.meta().snapshot();
            let entry = snapshot.get(region).ok_or(ApplyError::RegionNotFound { region })?;
            let (changed_at, current) = (entry.changed_at(), entry.region().clone());
            let applied = self.store.apply_state(region);
            let base = Some(Base { changed_at, applied });
            self.insert(region, Pending { base, apply: applied, after: After::Unchanged(current) });
        }
        self.pending.get_mut(&region).ok_or(ApplyError::RegionNotFound { region })
    }

    fn insert(&mut self, region: RegionId, pending: Pending) {
        if self.pending.insert(region, pending).is_none() {
            self.order.push(region);
        }
    }

    fn change(&mut self, region: &Region, reason: Reason) -> Result<(), ApplyError> {
        self.put_state(region)?;
        self.pending(region.id())?.after = After::Changed(region.clone(), reason);
        Ok(())
    }

    /// The tombstone is in the batch of the change itself, and synced whatever the host chose (I12).
    ///
    /// A region that this batch creates is in nobody's map, so its removal cannot be published: the entry is taken back to
    /// the state `before` it, and waits for the next batch.
    fn destroy(&mut self, tombstone: &Region, peer: PeerId, before: ApplyState) -> Result<(), ApplyError> {
        let pending = self.pending(tombstone.id())?;
        if pending.base.is_none() {
            pending.apply = before;
            return Err(ApplyError::CommitFirst { region: tombstone.id() });
        }
        self.put_state(tombstone)?;
        let key = regionmeta::layout::apply_state_key(tombstone.id());
        self.store.storage().delete(&mut self.batch, Family::Raft, &key)?;
        self.pending(tombstone.id())?.after = After::Destroyed(peer);
        self.durability = Durability::Synced;
        Ok(())
    }

    fn split(&mut self, regions: &[Region], derived: RegionId) -> Result<(), ApplyError> {
        let children = || regions.iter().filter(|region| region.id() != derived);
        for child in children() {
            self.check_child(derived, child.id())?;
        }
        for child in children() {
            self.put_state(child)?;
            let after = After::Changed(child.clone(), Reason::Split);
            self.insert(child.id(), Pending { base: None, apply: ApplyState::INITIAL, after });
        }
        match regions.iter().find(|region| region.id() == derived) {
            Some(region) => self.change(region, Reason::Split),
            None => Ok(()),
        }
    }

    /// An id that has any record here, a tombstone included, is not new.
    fn check_child(&self, region: RegionId, child: RegionId) -> Result<(), ApplyError> {
        let stored = self.store.storage().get(Family::Raft, &region_state_key(child))?;
        if stored.is_some() || self.pending.contains_key(&child) {
            return Err(ApplyError::ChildExists { region, child });
        }
        Ok(())
    }

    fn put_state(&mut self, region: &Region) -> Result<(), ApplyError> {
        let state: PeerState = region.state();
        match records::write_peer_state(self.store.storage(), &mut self.batch, region, state, region.merge_state()) {
            Ok(_) => Ok(()),
            Err(WriteStateError::Storage(error)) => Err(error.into()),
            Err(WriteStateError::Region(error)) => Err(AdminError::from(error).into()),
        }
    }
}

fn change(id: RegionId, pending: &Pending) -> Option<Change> {
    match (&pending.after, pending.base) {
        (After::Unchanged(_), _) | (After::Destroyed(_), None) => None,
        (After::Changed(region, _), None) => Some(Change::Create { region: region.clone() }),
        (After::Changed(region, reason), Some(base)) => {
            Some(Change::Update { base: base.changed_at, region: region.clone(), reason: *reason })
        }
        (After::Destroyed(peer), Some(base)) => {
            Some(Change::Remove { id, base: base.changed_at, removal: Removal::Destroyed, peer: Some(*peer) })
        }
    }
}
