//! [`ApplyBatch`]: committed entries become one batch, one write, one published changeset.
//!
//! An [`ApplyBatch`] runs ahead of what readers see: each entry is checked against the regions as the entries before it in
//! the same batch have left them. [`commit`](ApplyBatch::commit) then goes the one way that is allowed: check and reserve,
//! write, publish (I3, I4). Data, descriptors and apply states of an entry are in the same batch (I5).

mod beside_log;
mod children;

use std::cmp::Ordering;

use regionmeta::layout::{apply_state_key, region_state_key};
use regionmeta::mutant::{Mutant, planted};
use regionmeta::{
    AdminCommand, AdminError, AdminHeader, ApplyContext, ApplyState, Change, Changeset, ChildReservation, EpochHalves,
    LogIndex, LogPosition, Outcome, PeerId, PeerState, Permit, Reason, Refusal, Region, RegionDraft, RegionEpoch,
    RegionId, Removal, Sequence, Verdict,
};

use crate::failpoint::FailPoint;
use crate::poison::Poisoned;
use crate::records::{self, ReadError};
use crate::region_map::{RegionMap, RegionSet};
use crate::storage::{Durability, Family, Storage, StorageError};
use crate::store::Store;

/// Why an entry was not applied. After [`ApplyError::Refused`] and [`ApplyError::EpochNotMatch`] the entry counts as applied
/// and has changed nothing else (spec section 5.2); after every other error it does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum ApplyError {
    #[error("region {region} is not on this store")]
    RegionNotFound { region: RegionId },
    #[error("region {region} is in another batch: commit or drop that one first")]
    Busy { region: RegionId },
    #[error("region {region} is {state:?}: it applies nothing until its data is there")]
    Suspended { region: RegionId, state: PeerState },
    #[error("region {region}: entry {} was applied already, the applied index is {}", entry.index, applied.applied_index)]
    AlreadyApplied { region: RegionId, entry: LogPosition, applied: ApplyState },
    #[error("region {region}: entry {} does not follow the applied index {}", entry.index, applied.applied_index)]
    Gap { region: RegionId, entry: LogPosition, applied: ApplyState },
    #[error("region {region}: entry {entry:?} is of another log than the applied {:?}: terms never go back", applied.commit)]
    OtherLog { region: RegionId, entry: LogPosition, applied: ApplyState },
    #[error("a write of epoch {request} does not match {current}: take the current region and propose anew")]
    EpochNotMatch { request: RegionEpoch, current: Region },
    #[error(
        "region {region} was created, or took over another, in this very batch: commit it, then apply the entry that removes it"
    )]
    CommitFirst { region: RegionId },
    #[error("command refused: {0}")]
    Refused(AdminError),
    #[error("not yet: {0}")]
    Waits(AdminError),
    #[error("nothing more of this region may be applied: {0}")]
    Fatal(AdminError),
    #[error(
        "region {region} waits for its merge source {partner}, which waits for it: their logs contradict each other"
    )]
    MergeCircle { region: RegionId, partner: RegionId },
    #[error("nothing of its batch was written: {0}")]
    BatchRefused(Refusal),
    #[error("region {region}: this version cannot apply the outcome of its command: {outcome:?}")]
    Unsupported { region: RegionId, outcome: Outcome },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<AdminError> for ApplyError {
    fn from(error: AdminError) -> Self {
        match error.verdict() {
            Verdict::Refused => Self::Refused(error),
            Verdict::Wait => Self::Waits(error),
            Verdict::Fatal => Self::Fatal(error),
        }
    }
}

impl ApplyError {
    /// Whether the entry counts as applied all the same: every replica refuses it.
    #[must_use]
    pub fn counts(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::EpochNotMatch { .. })
    }

    /// Whether nothing more of the region may be applied here: an entry that comes next cannot be skipped, and not executed.
    pub(super) fn ends_the_region(&self) -> bool {
        matches!(self, Self::Fatal(_) | Self::Waits(_) | Self::MergeCircle { .. } | Self::Unsupported { .. })
    }

    /// The epoch of a proposal that came too late or too early, and the region as it was found instead.
    #[must_use]
    pub fn epoch_not_match(&self) -> Option<(RegionEpoch, &Region)> {
        match self {
            Self::EpochNotMatch { request, current }
            | Self::Refused(AdminError::EpochNotMatch { request, current, .. }) => Some((*request, current)),
            _ => None,
        }
    }
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum CommitError {
    /// If it comes after the batch was written, because another write failed meanwhile, the outcome of this one is unknown.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    #[error("nothing was written: {0}")]
    Refused(#[from] Refusal),
    #[error("nothing was written: an entry was put into the batch in part only, and the batch cannot be used")]
    Incomplete,
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
    /// It took over another region's keys, which nobody may drop before that was published.
    absorbed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Base {
    changed_at: Sequence,
    applied: ApplyState,
}

#[derive(Debug)]
enum After {
    Unchanged(Region),
    Changed(Region, Reason),
    Removed(Removal, Option<PeerId>),
}

impl Pending {
    /// Whether any entry counted, or the region left. One that was only looked at is not written.
    fn moved(&self) -> bool {
        self.region().is_none() || self.base.is_none_or(|base| base.applied != self.apply)
    }

    /// The apply state to store; `None` if the region is gone.
    fn apply_state(&self) -> Option<ApplyState> {
        (!matches!(self.after, After::Removed(..))).then_some(self.apply)
    }

    fn region(&self) -> Option<&Region> {
        match &self.after {
            After::Unchanged(region) | After::Changed(region, _) => Some(region),
            After::Removed(..) => None,
        }
    }
}

/// Entries of any number of regions, to be written and published together.
///
/// A region belongs to the batch from its first entry until the batch is committed or dropped: another batch gets
/// [`ApplyError::Busy`]. So a host that gives each region to one worker never meets it.
#[derive(Debug)]
#[must_use = "a batch that is not committed changes nothing"]
pub struct ApplyBatch<'a, S: Storage> {
    store: &'a Store<S>,
    batch: S::Batch,
    pending: RegionMap<Pending>,
    /// The regions that this batch has claimed.
    claimed: RegionSet,
    /// The same in the order of first touch, so that the same entries give the same bytes.
    order: Vec<RegionId>,
    /// Children of splits that this store has in another way already: their keys are theirs, not the parent's.
    skipped: Vec<Region>,
    /// Reservations of children that this batch makes, each as it was before.
    reserved: Vec<(RegionId, Option<ChildReservation>)>,
    /// Set while records of an entry are put into the batch: if that fails, half an entry is in it.
    incomplete: bool,
    durability: Durability,
}

impl<'a, S: Storage> ApplyBatch<'a, S> {
    pub(crate) fn new(store: &'a Store<S>, durability: Durability) -> Self {
        Self {
            store,
            batch: store.storage().batch(),
            pending: RegionMap::default(),
            claimed: RegionSet::default(),
            order: Vec::new(),
            skipped: Vec::new(),
            reserved: Vec::new(),
            incomplete: false,
            durability,
        }
    }

    /// The region as the entries so far have left it; what the next entry is checked against.
    #[must_use]
    pub fn region(&self, id: RegionId) -> Option<Region> {
        match self.pending.get(&id) {
            Some(pending) => pending.region().cloned(),
            None => self.store.meta().snapshot().get(id).map(|entry| entry.region().clone()),
        }
    }

    /// The last entry of a region that was applied, those of this batch included.
    #[must_use]
    pub fn applied_index(&self, id: RegionId) -> LogIndex {
        let here = self.pending.get(&id).map(|pending| pending.apply);
        here.unwrap_or_else(|| self.store.apply_state(id)).applied_index
    }

    /// The storage's own batch, for the host's data of an entry. Put it in after the entry was applied: what is in the batch
    /// already stays in it when a later command is refused.
    pub fn data(&mut self) -> &mut S::Batch {
        &mut self.batch
    }

    /// Has the host put its data of an entry into the batch. If it fails, half an entry may be in it, and the batch cannot
    /// be committed.
    pub(super) fn put_data(
        &mut self,
        put: impl FnOnce(&S, &mut S::Batch) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.incomplete = true;
        FailPoint::Data.reach()?;
        put(self.store.storage(), &mut self.batch)?;
        self.incomplete = false;
        Ok(())
    }

    /// The size of what is in the batch so far.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        self.store.storage().batch_bytes(&self.batch)
    }

    /// Has this batch synced, however the store was opened.
    pub fn synced(&mut self) {
        self.durability = Durability::Synced;
    }

    /// Applies a committed admin command of a region, proposed at `epoch`.
    ///
    /// A split's new region whose id has a record on this store already, or is in this batch, is left as it is (spec section
    /// 5.5): the outcome lists only what the split has made here.
    ///
    /// # Errors
    /// [`ApplyError`]. Only after [`ApplyError::Refused`] the entry counts as applied.
    pub fn apply(
        &mut self,
        region: RegionId,
        entry: LogPosition,
        epoch: RegionEpoch,
        command: &AdminCommand,
    ) -> Result<Outcome, ApplyError> {
        self.execute(region, entry, &AdminHeader::new(region, epoch), command)
    }

    /// As [`apply`](Self::apply), with the whole header that the command was proposed with.
    ///
    /// # Errors
    /// [`ApplyError`]. Only after [`ApplyError::Refused`] the entry counts as applied.
    pub fn execute(
        &mut self,
        region: RegionId,
        entry: LogPosition,
        header: &AdminHeader,
        command: &AdminCommand,
    ) -> Result<Outcome, ApplyError> {
        let planned = self.plan(region, entry, header, command).and_then(|outcome| self.take(region, outcome));
        if planted(Mutant::M29) && matches!(planned, Err(ApplyError::Refused(_))) {
            self.move_version(region)?;
        }
        if planned.as_ref().map_or_else(ApplyError::counts, |_| true) {
            self.count(region, entry)?;
        }
        planned
    }

    /// What no refusal may do.
    fn move_version(&mut self, region: RegionId) -> Result<(), ApplyError> {
        let current = self.region(region).ok_or(ApplyError::RegionNotFound { region })?;
        let epoch = current.epoch().with_version_moved(1).unwrap_or(current.epoch());
        let moved = RegionDraft { epoch, ..current.to_draft() }.build();
        moved.map_or(Ok(()), |moved| self.change(&moved, Reason::ChangePeer))
    }

    /// What a command would do, were it applied now. Nothing changes, and the entry does not count.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub(super) fn plan(
        &mut self,
        region: RegionId,
        entry: LogPosition,
        header: &AdminHeader,
        command: &AdminCommand,
    ) -> Result<Outcome, ApplyError> {
        let current = self.check_entry(region, entry)?;
        let context = ApplyContext::new(self.store.ident().store_id, entry, self.pending(region)?.apply);
        let source = match command {
            AdminCommand::CommitMerge(merge) => self.record(merge.source.id())?,
            _ => None,
        };
        let context = source.as_ref().map_or(context, |source| context.with_merge_source(source));
        Ok(command.plan(header, &current, &context)?)
    }

    /// The record of a region as this batch leaves it, a tombstone included. It claims nothing.
    fn record(&self, id: RegionId) -> Result<Option<Region>, ApplyError> {
        let live = self.region(id);
        if live.is_some() {
            return Ok(live);
        }
        let read = records::read(self.store.storage(), Family::Raft, &region_state_key(id));
        read.map_err(|error| match error {
            ReadError::Storage(error) => error.into(),
            damaged @ ReadError::Damaged { .. } => {
                let (action, location) = ("read the source of a merge", format!("region {id}"));
                StorageError::Backend { action, location, cause: damaged.to_string() }.into()
            }
        })
    }

    /// Counts a committed entry that changes no metadata, such as an ordinary write whose data is in [`data`](Self::data).
    ///
    /// # Errors
    /// [`ApplyError`] if the entry does not follow, or the region is not here, suspended, or in another batch.
    pub fn advance(&mut self, region: RegionId, entry: LogPosition) -> Result<Region, ApplyError> {
        let current = self.check_entry(region, entry)?;
        self.count(region, entry)?;
        Ok(current)
    }

    /// Counts an ordinary write, proposed at `epoch`, whose data is in [`data`](Self::data): its version must be the
    /// region's, and the region not in flashback mode. Returns the region that it writes to.
    ///
    /// # Errors
    /// [`ApplyError`]. Only after [`ApplyError::EpochNotMatch`] and [`ApplyError::Refused`] the entry counts as applied; its
    /// data must be left out.
    pub fn write(&mut self, region: RegionId, entry: LogPosition, epoch: RegionEpoch) -> Result<Region, ApplyError> {
        self.check_and_write(region, entry, epoch, false)
    }

    /// As [`write`](Self::write), for a write that is part of a flashback: the region must be in flashback mode.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_in_flashback(
        &mut self,
        region: RegionId,
        entry: LogPosition,
        epoch: RegionEpoch,
    ) -> Result<Region, ApplyError> {
        self.check_and_write(region, entry, epoch, true)
    }

    pub(super) fn check_and_write(
        &mut self,
        region: RegionId,
        entry: LogPosition,
        epoch: RegionEpoch,
        is_flashback: bool,
    ) -> Result<Region, ApplyError> {
        let current = self.check_entry(region, entry)?;
        self.count(region, entry)?;
        if !epoch.matches(current.epoch(), EpochHalves::VERSION) {
            return Err(ApplyError::EpochNotMatch { request: epoch, current });
        }
        current.check_flashback(is_flashback)?;
        Ok(current)
    }

    /// Writes the batch, then publishes it. Readers see all of it or nothing.
    ///
    /// # Errors
    /// [`CommitError::Refused`] and [`CommitError::Incomplete`] before anything was written. After [`CommitError::Write`],
    /// and after [`CommitError::Poisoned`] if another write failed meanwhile, the outcome is unknown and the store is
    /// poisoned (I14).
    pub fn commit(mut self) -> Result<Committed, CommitError> {
        let done = self.write_and_publish();
        if let Err(CommitError::Write(error)) = &done {
            self.store.poison().set(error);
        }
        done
    }

    fn write_and_publish(&mut self) -> Result<Committed, CommitError> {
        self.store.poison().check()?;
        if self.incomplete {
            return Err(CommitError::Incomplete);
        }
        FailPoint::Prepare.reach()?;
        let permit = self.reserve()?;
        FailPoint::Reserved.reach()?;
        let changes = permit.changeset().changes().to_vec();
        let fuse = self.store.poison().fuse();
        if !planted(Mutant::M11) {
            self.persist()?;
        }
        FailPoint::Written.reach()?;
        // Another batch's write may have failed while this one was on its way, and damaged what lies behind it.
        self.store.poison().check()?;
        // An empty changeset would wake every cached reader for nothing.
        let sequence = if changes.is_empty() { self.store.meta().snapshot() } else { permit.publish() }.sequence();
        if planted(Mutant::M11) {
            self.persist()?;
        }
        let written = self.pending.iter().filter(|(_, pending)| pending.moved());
        self.store.progress().record(written.map(|(region, pending)| (*region, pending.apply_state())));
        self.give_up_reservations(0, true);
        FailPoint::Published.reach()?;
        fuse.defuse();
        Ok(Committed { sequence, changes })
    }

    /// What another batch has reserved is free again when that batch ends. It has all that it needs and waits for the disk
    /// alone, so waiting for it ends as well.
    fn reserve(&self) -> Result<Permit<'a>, Refusal> {
        loop {
            let ended = self.store.progress().batches_ended();
            match self.store.writer().prepare(self.changeset()) {
                Err(Refusal::Reserved { .. }) => self.store.progress().wait_for_an_end(ended),
                prepared => return prepared,
            }
        }
    }

    fn persist(&mut self) -> Result<(), StorageError> {
        FailPoint::ApplyStates.reach()?;
        let storage = self.store.storage();
        for region in &self.order {
            let moved = self.pending.get(region).filter(|pending| pending.moved());
            if let Some(state) = moved.and_then(Pending::apply_state) {
                records::write_apply_state(storage, &mut self.batch, *region, &state)?;
            }
        }
        let batch = std::mem::replace(&mut self.batch, storage.batch());
        if planted(Mutant::M25) {
            std::mem::forget(vec![1_u8; storage.batch_bytes(&batch)]);
        }
        let written = FailPoint::Write.reach().and_then(|()| storage.write(batch, self.durability));
        if planted(Mutant::M12) { Ok(()) } else { written }
    }

    fn changeset(&self) -> Changeset {
        let in_order = self.order.iter().filter_map(|id| Some((*id, self.pending.get(id)?)));
        let changes = in_order.filter_map(|(id, pending)| change(id, pending)).fold(Changeset::new(), Changeset::with);
        self.skipped.iter().cloned().fold(changes, Changeset::leave)
    }

    // --- one entry: first everything that can refuse it, then its effect --------------------------------------------

    /// Whether the entry is the next one of a region that applies entries; the region as the entries before it left it.
    fn check_entry(&mut self, region: RegionId, entry: LogPosition) -> Result<Region, ApplyError> {
        FailPoint::Check.reach()?;
        let pending = self.pending(region)?;
        let applied = pending.apply;
        let current = pending.region().ok_or(ApplyError::RegionNotFound { region })?.clone();
        match current.state() {
            state @ (PeerState::Applying | PeerState::Unavailable) => Err(ApplyError::Suspended { region, state }),
            _ if is_of_another_log(entry, applied) => Err(ApplyError::OtherLog { region, entry, applied }),
            _ if entry.index <= applied.applied_index => Err(ApplyError::AlreadyApplied { region, entry, applied }),
            _ if applied.applied_index.next() != Some(entry.index) => Err(ApplyError::Gap { region, entry, applied }),
            _ => Ok(current),
        }
    }

    fn count(&mut self, region: RegionId, entry: LogPosition) -> Result<(), ApplyError> {
        FailPoint::Planned.reach()?;
        let pending = self.pending(region)?;
        pending.apply = ApplyState { applied_index: entry.index, commit: entry, ..pending.apply };
        Ok(())
    }

    fn take(&mut self, region: RegionId, outcome: Outcome) -> Result<Outcome, ApplyError> {
        match outcome {
            Outcome::Unchanged | Outcome::LogTruncationDelayed { .. } => Ok(outcome),
            Outcome::LogTruncated { truncated } => {
                self.pending(region)?.apply.truncated = truncated;
                Ok(outcome)
            }
            Outcome::Changed { ref region, reason } => {
                self.change(region, reason)?;
                Ok(outcome)
            }
            Outcome::Destroyed { ref tombstone, peer } => {
                self.remove(tombstone, Removal::Destroyed, Some(peer))?;
                Ok(outcome)
            }
            Outcome::Split { regions, derived, shares_size, .. } => {
                let (regions, skipped) = self.split(regions, derived)?;
                Ok(Outcome::Split { regions, derived, skipped, shares_size })
            }
            Outcome::Merged { ref target, ref source, source_peer } => {
                // The source first: it may be in another batch, and then nothing of the entry counts.
                self.remove(source, Removal::Merged, source_peer)?;
                self.change(target, Reason::CommitMerge)?;
                self.pending(region)?.absorbed = true;
                Ok(outcome)
            }
            // `Outcome` grows with the commands; a new one is refused until its effect is written here.
            outcome => Err(ApplyError::Unsupported { region, outcome }),
        }
    }

    fn change(&mut self, region: &Region, reason: Reason) -> Result<(), ApplyError> {
        self.put_state(region)?;
        self.pending(region.id())?.after = After::Changed(region.clone(), reason);
        Ok(())
    }

    /// The tombstone is in the batch of the change itself, and synced whatever the host chose (I12).
    ///
    /// A region that this batch creates is in nobody's map, so its removal cannot be published; and that of one that took
    /// over another's keys in this batch would look as if the merge had lost them.
    fn remove(&mut self, tombstone: &Region, removal: Removal, peer: Option<PeerId>) -> Result<(), ApplyError> {
        let region = tombstone.id();
        let pending = self.pending(region)?;
        // The plan looked at the record before the region was claimed: another batch may have moved it meanwhile.
        if pending.region().is_none_or(|current| tombstone.epoch().is_behind_any(current.epoch())) {
            return Err(ApplyError::Busy { region });
        }
        if pending.base.is_none() || pending.absorbed {
            return Err(ApplyError::CommitFirst { region });
        }
        self.put_tombstone(tombstone)?;
        self.incomplete = true;
        self.store.storage().delete(&mut self.batch, Family::Raft, &apply_state_key(region))?;
        self.incomplete = false;
        self.pending(region)?.after = After::Removed(removal, peer);
        self.durability = Durability::Synced;
        Ok(())
    }

    fn put_tombstone(&mut self, tombstone: &Region) -> Result<(), ApplyError> {
        if !planted(Mutant::M10) {
            return self.put_state(tombstone);
        }
        let (storage, key) = (self.store.storage(), region_state_key(tombstone.id()));
        let mut apart = storage.batch();
        records::put(storage, &mut apart, Family::Raft, &key, tombstone)?;
        Ok(storage.write(apart, Durability::Synced)?)
    }

    // --- regions of this batch ---------------------------------------------------------------------------------------

    /// The entry of a region in this batch, made from the published state at its first touch.
    fn pending(&mut self, region: RegionId) -> Result<&mut Pending, ApplyError> {
        if !self.pending.contains_key(&region) {
            // The claim comes first: from then on neither the region nor its apply state moves.
            let applied = self.claim(region)?.unwrap_or(ApplyState::INITIAL);
            let snapshot = self.store.meta().snapshot();
            let entry = snapshot.get(region).ok_or(ApplyError::RegionNotFound { region })?;
            let base = Some(Base { changed_at: entry.changed_at(), applied });
            let after = After::Unchanged(entry.region().clone());
            self.pending.insert(region, Pending { base, apply: applied, after, absorbed: false });
        }
        self.pending.get_mut(&region).ok_or(ApplyError::RegionNotFound { region })
    }

    fn claim(&mut self, region: RegionId) -> Result<Option<ApplyState>, ApplyError> {
        if self.claimed.contains(&region) {
            return Ok(self.store.progress().get(region));
        }
        let applied = self.store.progress().claim(region).map_err(|_| ApplyError::Busy { region })?;
        self.claimed.insert(region);
        self.order.push(region);
        Ok(applied)
    }

    fn put_state(&mut self, region: &Region) -> Result<(), ApplyError> {
        self.incomplete = true;
        records::put(self.store.storage(), &mut self.batch, Family::Raft, &region_state_key(region.id()), region)?;
        self.incomplete = false;
        Ok(())
    }
}

impl<S: Storage> Drop for ApplyBatch<'_, S> {
    fn drop(&mut self) {
        self.give_up_reservations(0, false);
        self.store.progress().release(self.order.iter());
    }
}

/// A log's terms never sink, and an index has one term. What is not known, such as the commit of a region that has applied
/// nothing yet, proves nothing.
fn is_of_another_log(entry: LogPosition, applied: ApplyState) -> bool {
    if applied.commit == LogPosition::default() {
        return false;
    }
    match entry.index.cmp(&applied.commit.index) {
        Ordering::Less => entry.term > applied.commit.term,
        Ordering::Equal => entry.term != applied.commit.term,
        Ordering::Greater => entry.term < applied.commit.term,
    }
}

fn change(id: RegionId, pending: &Pending) -> Option<Change> {
    match (&pending.after, pending.base) {
        (After::Unchanged(_), _) | (After::Removed(..), None) => None,
        (After::Changed(region, _), None) => Some(Change::Create { region: region.clone() }),
        (After::Changed(region, reason), Some(base)) => {
            Some(Change::Update { base: base.changed_at, region: region.clone(), reason: *reason })
        }
        (After::Removed(removal, peer), Some(base)) => {
            Some(Change::Remove { id, base: base.changed_at, removal: *removal, peer: *peer })
        }
    }
}
