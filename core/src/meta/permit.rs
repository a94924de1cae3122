//! The writers' side: checking a changeset, reserving what it touches, publishing it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::feed::Published;
use super::{Change, Changeset, Snapshot, StoreMeta, Version};
use crate::epoch::RegionEpoch;
use crate::ids::{PeerId, RegionId, Sequence, StoreId};
use crate::index::{Entry, Index, IndexWriter, Next, Ripe};
use crate::keys::{EndKey, KeyRange};
use crate::mutant::{Mutant, planted};
use crate::region::Region;

/// Why a changeset was refused. Nothing was changed or reserved.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum Refusal {
    #[error("the changeset changes region {region} twice: merge the two changes into one")]
    ChangedTwice { region: RegionId },
    #[error(
        "region {region} is being changed by a changeset that is not yet published: wait for it, then compute anew"
    )]
    Reserved { region: RegionId },
    #[error("region {region} is not in the map: it was merged, destroyed or never created")]
    NotFound { region: RegionId },
    #[error("{found} exists already: a create of epoch {epoch} came too late, or its id was used twice")]
    Exists { found: Region, epoch: RegionEpoch },
    #[error(
        "the change of region {region} was computed at {base:?}, but {found} changed at {changed_at:?}: compute anew"
    )]
    Stale { region: RegionId, base: Sequence, found: Region, changed_at: Sequence },
    #[error("{new} would go back behind {current}")]
    EpochBack { current: Region, new: Region },
    #[error(
        "{new} owns other keys than {current} at the same version: only a split, a merge or a snapshot moves a range"
    )]
    RangeMoved { current: Region, new: Region },
    #[error("{new} takes over keys of {current} and must have a larger version")]
    NotNewer { current: Region, new: Region },
    #[error("{new} overlaps {other}, which the changeset leaves as it is")]
    Overlap { new: Region, other: Region },
    #[error("no region of the changeset takes over all of {region}: keys would be lost")]
    Hole { region: Region },
    #[error("{new} is a tombstone: remove the region instead")]
    NotLive { new: Region },
    #[error("{new} has no peer on store {store}, whose map this is: remove the region instead")]
    NotOurs { new: Region, store: StoreId },
    #[error("region {region}: peer {destroyed:?} was destroyed here, and {new:?} is not a later one")]
    Tombstoned { region: RegionId, destroyed: PeerId, new: Option<PeerId> },
}

/// A changeset that was checked and whose regions are reserved. [`publish`](Self::publish) it after it was persisted; drop
/// it to give the reservation back.
#[derive(Debug)]
#[must_use = "a permit that is dropped publishes nothing"]
pub struct Permit<'a> {
    meta: &'a StoreMeta,
    changeset: Changeset,
    reservation: u64,
}

impl<'a> Permit<'a> {
    pub(super) fn new(meta: &'a StoreMeta, changeset: Changeset, reservation: u64) -> Self {
        Self { meta, changeset, reservation }
    }

    /// What will be published.
    pub fn changeset(&self) -> &Changeset {
        &self.changeset
    }

    /// Makes the changeset visible to everybody at once, and returns the state that it made.
    ///
    /// Costs O(changes log regions); cannot be refused. Call it only after the changes are on disk (I4).
    pub fn publish(mut self) -> Snapshot {
        let changeset = std::mem::take(&mut self.changeset);
        let (published, unused) = self.swap(changeset);
        drop(self); // gives the reservation back
        drop(unused); // nobody waits for this
        published
    }

    /// The new state, and what is to be dropped when the lock is free again.
    fn swap(&self, changeset: Changeset) -> (Snapshot, Unused) {
        let mut writers = self.meta.writers.lock();
        let mut next = writers.next(self.meta);
        next.apply(changeset.changes().iter().map(|change| (change.id(), change.after())));
        #[cfg(test)]
        tests::may_die_at(tests::Moment::Edited);
        let (sequence, index) = (next.number(), next.publish());
        // A map of many stores never asks for tombstones, and would only grow by them (I9).
        if self.meta.store_id().is_some() {
            writers.bury(&changeset);
        }
        writers.publish(self.meta, index, sequence, changeset)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let released = self.meta.writers.lock().release(self.reservation);
        drop(released); // after the lock
    }
}

/// What writers agree on among themselves.
#[derive(Debug)]
pub(super) struct Writers {
    index: IndexWriter,
    reserved: HashMap<u64, Reservation>,
    next_reservation: u64,
    /// The last peer of each region that this store destroyed; `None` if the record does not say which.
    tombstones: HashMap<RegionId, Option<PeerId>>,
}

/// What nobody uses any more after a publication: memory of older states, the oldest of the feed and of the history. Dropping
/// it frees them, which nobody should wait for with the lock in his hand.
pub(super) struct Unused {
    _ripe: Ripe,
    _forgotten: Option<Published>,
    _past: Vec<Version>,
}

/// What one permit keeps others away from. Other changesets see neither its regions as they are nor as they will be.
#[derive(Debug)]
struct Reservation {
    regions: HashSet<RegionId>,
    /// The regions as they will be, in key order, none overlapping another.
    after: Vec<Region>,
}

impl Reservation {
    /// The reserved region that a change meets, by its id or by the keys that it will have. O(log regions of the permit).
    fn met_by(&self, change: &Change) -> Option<RegionId> {
        if self.regions.contains(&change.id()) {
            return Some(change.id());
        }
        let range = change.after()?.range();
        // The first that does not end before the range begins; if that one lies behind the range, so do all others.
        let first = self.after.partition_point(|reserved| !reserved.end_key().is_after(range.start));
        self.after.get(first).filter(|reserved| reserved.range().overlaps(range)).map(Region::id)
    }
}

impl Writers {
    pub(super) fn new(index: IndexWriter) -> Self {
        Self { index, reserved: HashMap::new(), next_reservation: 0, tombstones: HashMap::new() }
    }

    /// Begins the state after the current one.
    pub(super) fn next(&mut self, meta: &StoreMeta) -> Next<'_> {
        // The end of the number range is 584 years of a publish every nanosecond away.
        self.index.next(Sequence::new(meta.sequence().get().wrapping_add(1)))
    }

    /// Lets readers see the newest version, and what led to it in the feed.
    pub(super) fn publish(
        &mut self,
        meta: &StoreMeta,
        index: Index,
        sequence: Sequence,
        changeset: Changeset,
    ) -> (Snapshot, Unused) {
        let published = meta.shared.swap_root(index, sequence);
        let ripe = self.index.collect();
        #[cfg(test)]
        tests::may_die_at(tests::Moment::Swapped);
        let event = Published::new(sequence, changeset);
        let past = meta.shared.history().lock().note(&event);
        let forgotten = meta.shared.feed().push(event);
        (published, Unused { _ripe: ripe, _forgotten: forgotten, _past: past })
    }

    pub(super) fn reclaim(&mut self) -> Ripe {
        self.index.collect_all()
    }

    /// Checks everything that can be checked; after this the changeset can be published until it is released.
    pub(super) fn reserve(
        &mut self,
        index: &Index,
        store_id: Option<StoreId>,
        changeset: &Changeset,
    ) -> Result<u64, Refusal> {
        index.prefetch(changeset.changes().iter().map(Change::id));
        let mut regions = HashSet::with_capacity(changeset.changes().len());
        for change in changeset.changes() {
            if !regions.insert(change.id()) {
                return Err(Refusal::ChangedTwice { region: change.id() });
            }
            self.check_reserved(change)?;
            check_base(index, change)?;
            if let Some(store) = store_id {
                self.check_tombstone(store, change)?;
                check_owner(store, change)?;
            }
        }
        let after = sorted_after(changeset)?;
        check_versions(index, &regions, &after)?;
        check_coverage(index, changeset, &after)?;
        #[cfg(test)]
        tests::may_die_at(tests::Moment::Checked);
        let reservation = self.next_reservation;
        self.next_reservation = reservation.wrapping_add(1);
        let after = after.into_values().cloned().collect();
        self.reserved.insert(reservation, Reservation { regions, after });
        Ok(reservation)
    }

    fn release(&mut self, reservation: u64) -> Option<Reservation> {
        self.reserved.remove(&reservation)
    }

    fn check_reserved(&self, change: &Change) -> Result<(), Refusal> {
        match self.reserved.values().find_map(|reservation| reservation.met_by(change)) {
            Some(region) => Err(Refusal::Reserved { region }),
            None => Ok(()),
        }
    }

    /// I12: a region that was destroyed here comes back only with a later peer.
    fn check_tombstone(&self, store: StoreId, change: &Change) -> Result<(), Refusal> {
        let Change::Create { region } = change else { return Ok(()) };
        let Some(&Some(destroyed)) = self.tombstones.get(&region.id()) else { return Ok(()) };
        let new = region.peer_on(store).map(|peer| peer.id);
        if new.is_some_and(|new| new > destroyed) {
            return Ok(());
        }
        Err(Refusal::Tombstoned { region: region.id(), destroyed, new })
    }

    fn bury(&mut self, changeset: &Changeset) {
        for change in changeset.changes() {
            if let Change::Remove { id, peer, .. } = change {
                self.bury_all([(*id, *peer)]);
            }
        }
    }

    pub(super) fn bury_all(&mut self, tombstones: impl IntoIterator<Item = (RegionId, Option<PeerId>)>) {
        for (id, peer) in tombstones {
            let buried = self.tombstones.entry(id).or_default();
            *buried = (*buried).max(peer);
        }
    }
}

/// A store keeps the regions that it has a peer of; recovery refuses any other as a foreign store's.
fn check_owner(store: StoreId, change: &Change) -> Result<(), Refusal> {
    match change.after().filter(|after| after.peer_on(store).is_none()) {
        Some(new) => Err(Refusal::NotOurs { new: new.clone(), store }),
        None => Ok(()),
    }
}

/// I3: the change starts from the version that is current, and does not go back.
fn check_base(index: &Index, change: &Change) -> Result<(), Refusal> {
    let id = change.id();
    if let Some(new) = change.after().filter(|after| !after.state().is_live()) {
        return Err(Refusal::NotLive { new: new.clone() });
    }
    let (current, base) = match (index.get(id), change.base()) {
        (None, None) => return Ok(()),
        (None, Some(_)) => return Err(Refusal::NotFound { region: id }),
        (Some(_), None) if planted(Mutant::M1) => return Ok(()),
        (Some(found), None) => {
            let epoch = change.after().map_or(RegionEpoch::default(), Region::epoch);
            return Err(Refusal::Exists { found: found.region().clone(), epoch });
        }
        (Some(current), Some(base)) => (current, base),
    };
    if current.changed_at() != base {
        let (found, changed_at) = (current.region().clone(), current.changed_at());
        return Err(Refusal::Stale { region: id, base, found, changed_at });
    }
    change.after().map_or(Ok(()), |after| check_step(current.region(), after))
}

/// From one version of a region to the next: no half of the epoch sinks, and a range moves only together with the version.
fn check_step(current: &Region, new: &Region) -> Result<(), Refusal> {
    let both = || (current.clone(), new.clone());
    if new.epoch().is_behind_any(current.epoch()) {
        let (current, new) = both();
        return Err(Refusal::EpochBack { current, new });
    }
    if new.range() != current.range() && new.epoch().version == current.epoch().version {
        let (current, new) = both();
        return Err(Refusal::RangeMoved { current, new });
    }
    Ok(())
}

/// The regions after the changeset by start key, none overlapping another.
fn sorted_after(changeset: &Changeset) -> Result<BTreeMap<&[u8], &Region>, Refusal> {
    let mut after: BTreeMap<&[u8], &Region> = BTreeMap::new();
    for region in changeset.changes().iter().filter_map(Change::after) {
        if let Some(other) = after.insert(region.start_key(), region) {
            return Err(Refusal::Overlap { new: region.clone(), other: other.clone() });
        }
    }
    let neighbours = after.values().zip(after.values().skip(1));
    for (left, right) in neighbours {
        if left.end_key().is_after(right.start_key()) {
            return Err(Refusal::Overlap { new: (*right).clone(), other: (*left).clone() });
        }
    }
    Ok(after)
}

/// I1 and I3 against the current state: a region takes keys only from regions of the same changeset, and from another id
/// only with a larger version.
fn check_versions(index: &Index, changed: &HashSet<RegionId>, after: &BTreeMap<&[u8], &Region>) -> Result<(), Refusal> {
    for &new in after.values() {
        // Mostly the region had all these keys before, or, as a split's child, another one had: no need to look further.
        if index.get(new.id()).is_some_and(|current| is_within(new, current.region())) {
            continue;
        }
        match index.locate(new.start_key()).map(Entry::region).filter(|owner| is_within(new, owner)) {
            Some(owner) => check_taken_over(owner, new, changed)?,
            None => {
                let looked_at = if planted(Mutant::M6) { 1 } else { usize::MAX };
                let mut overlapped = index.overlapping(new.range()).take(looked_at);
                overlapped.try_for_each(|current| check_taken_over(current, new, changed))?;
            }
        }
    }
    Ok(())
}

/// Whether a region owns no key that another one does not own.
fn is_within(inner: &Region, outer: &Region) -> bool {
    inner.start_key() >= outer.start_key() && inner.end_key() <= outer.end_key()
}

/// `new` will own keys of `current`.
fn check_taken_over(current: &Region, new: &Region, changed: &HashSet<RegionId>) -> Result<(), Refusal> {
    if current.id() == new.id() {
        return Ok(());
    }
    if !changed.contains(&current.id()) {
        return Err(Refusal::Overlap { new: new.clone(), other: current.clone() });
    }
    if new.epoch().version <= current.epoch().version {
        return Err(Refusal::NotNewer { current: current.clone(), new: new.clone() });
    }
    Ok(())
}

/// I1: what was covered stays covered, wherever the kind of change promises it.
fn check_coverage(index: &Index, changeset: &Changeset, after: &BTreeMap<&[u8], &Region>) -> Result<(), Refusal> {
    let with_left;
    let after = if changeset.left().is_empty() {
        after
    } else {
        let left = changeset.left().iter().map(|left| (left.start_key(), left));
        with_left = left.chain(after.iter().map(|(&key, &region)| (key, region))).collect();
        &with_left
    };
    for change in changeset.changes().iter().filter(|change| change.must_leave_no_hole()) {
        let Some(before) = index.get(change.id()).map(|entry| entry.region()) else { continue };
        if change.after().is_some_and(|after| is_within(before, after)) {
            continue;
        }
        // The last region that begins at or before it, and everything from there on.
        let first =
            after.range::<&[u8], _>(..=before.start_key()).next_back().map_or(before.start_key(), |(key, _)| key);
        let ranges = after.range::<&[u8], _>(first..).map(|(_, region)| region.range());
        if !covers(before.range(), ranges) {
            return Err(Refusal::Hole { region: before.clone() });
        }
    }
    Ok(())
}

/// Whether `ranges`, which come in key order and do not overlap, together cover all of `range`.
fn covers<'a>(range: KeyRange<'_>, ranges: impl Iterator<Item = KeyRange<'a>>) -> bool {
    let mut covered_to = range.start.to_vec();
    for next in ranges {
        if next.start > covered_to.as_slice() {
            return false;
        }
        match next.end {
            EndKey::Infinite => return true,
            end if end >= range.end => return true,
            EndKey::Finite(end) if end > covered_to.as_slice() => covered_to = end.to_vec(),
            EndKey::Finite(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
