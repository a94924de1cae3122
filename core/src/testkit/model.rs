//! [`Model`]: what [`StoreMeta`](crate::StoreMeta) must do, said in the plainest way: loops over all regions, no index.

use std::collections::{BTreeMap, BTreeSet};

use super::{reads, stores};
use crate::ids::{PeerId, RegionId, Sequence, StoreId};
use crate::keys::KeyRange;
use crate::meta::{Change, Changeset, Reason, Refusal, Removal, Reported, Snapshot};
use crate::region::Region;
use crate::stats::Stats;

/// The kinds of [`Refusal`], without the regions that they name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "each is the variant of `Refusal` with its name")]
pub enum Objection {
    ChangedTwice,
    Reserved,
    NotFound,
    Exists,
    Stale,
    EpochBack,
    NotNewer,
    RangeMoved,
    Overlap,
    Hole,
    NotLive,
    NotOurs,
    Tombstoned,
}

impl Objection {
    /// The kind of a refusal.
    #[must_use]
    pub fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::ChangedTwice { .. } => Self::ChangedTwice,
            Refusal::Reserved { .. } => Self::Reserved,
            Refusal::NotFound { .. } => Self::NotFound,
            Refusal::Exists { .. } => Self::Exists,
            Refusal::Stale { .. } => Self::Stale,
            Refusal::EpochBack { .. } => Self::EpochBack,
            Refusal::NotNewer { .. } => Self::NotNewer,
            Refusal::RangeMoved { .. } => Self::RangeMoved,
            Refusal::Overlap { .. } => Self::Overlap,
            Refusal::Hole { .. } => Self::Hole,
            Refusal::NotLive { .. } => Self::NotLive,
            Refusal::NotOurs { .. } => Self::NotOurs,
            Refusal::Tombstoned { .. } => Self::Tombstoned,
        }
    }
}

/// The regions of one store, as a list. Every question costs a walk over all of them.
#[derive(Clone, Debug, Default)]
pub struct Model {
    store: Option<StoreId>,
    sequence: u64,
    live: BTreeMap<RegionId, (Region, Sequence)>,
    graves: BTreeMap<RegionId, PeerId>,
    reserved: Vec<Changeset>,
    stats: BTreeMap<RegionId, Stats>,
}

impl Model {
    /// An empty map, as [`StoreMeta::new`](crate::StoreMeta::new) makes it.
    #[must_use]
    pub fn new(store: Option<StoreId>) -> Self {
        Self { store, ..Self::default() }
    }

    /// The map as a snapshot shows it: without the permits that are under way, and without the destroyed peers.
    #[must_use]
    pub fn of(snapshot: &Snapshot, store: Option<StoreId>) -> Self {
        let entries = snapshot.regions().filter_map(|region| snapshot.get(region.id()));
        let live = entries.map(|entry| (entry.region().id(), (entry.region().clone(), entry.changed_at()))).collect();
        let stats = snapshot.regions().filter_map(|region| Some((region.id(), snapshot.stats(region.id())?))).collect();
        Self { store, sequence: snapshot.sequence().get(), live, stats, ..Self::default() }
    }

    /// The live regions in key order, each with the sequence number of its last change.
    #[must_use]
    pub fn regions(&self) -> Vec<(Region, Sequence)> {
        let mut regions: Vec<_> = self.live.values().cloned().collect();
        regions.sort_by(|(a, _), (b, _)| a.start_key().cmp(b.start_key()));
        regions
    }

    /// The number of changesets and reports that were published.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        Sequence::new(self.sequence)
    }

    /// The peers of this store that must not come back, by region.
    #[must_use]
    pub fn graves(&self) -> &BTreeMap<RegionId, PeerId> {
        &self.graves
    }

    /// The changesets that are prepared and neither published nor given up.
    pub fn reserved(&self) -> &[Changeset] {
        &self.reserved
    }

    /// Everything that speaks against a changeset. [`StoreMeta`](crate::StoreMeta) must accept it if there is nothing, and
    /// otherwise refuse it for one of these reasons.
    #[must_use]
    pub fn objections(&self, changeset: &Changeset) -> BTreeSet<Objection> {
        let mut found = BTreeSet::new();
        for (at, change) in changeset.changes().iter().enumerate() {
            let before = changeset.changes().iter().take(at);
            for other in before {
                found.extend((other.id() == change.id()).then_some(Objection::ChangedTwice));
                found.extend(both_after(other, change).then_some(Objection::Overlap));
            }
            found.extend(self.is_reserved(change).then_some(Objection::Reserved));
            found.extend(self.objection_to_base(change));
            found.extend(self.is_foreign(change).then_some(Objection::NotOurs));
            found.extend(self.is_buried(change).then_some(Objection::Tombstoned));
            found.extend(self.objections_to_range(change, changeset));
            found.extend(self.leaves_hole(change, changeset).then_some(Objection::Hole));
        }
        found
    }

    fn is_reserved(&self, change: &Change) -> bool {
        let mut others = self.reserved.iter().flat_map(Changeset::changes);
        others.any(|other| other.id() == change.id() || both_after(other, change))
    }

    fn objection_to_base(&self, change: &Change) -> Option<Objection> {
        if change.after().is_some_and(|after| !after.state().is_live()) {
            return Some(Objection::NotLive);
        }
        let current = self.live.get(&change.id());
        match (current, change.base()) {
            (None, None) => None,
            (None, Some(_)) => Some(Objection::NotFound),
            (Some(_), None) => Some(Objection::Exists),
            (Some((_, changed_at)), Some(base)) if *changed_at != base => Some(Objection::Stale),
            (Some((current, _)), Some(_)) => {
                let after = change.after()?;
                let (old, new) = (current.epoch(), after.epoch());
                if new.conf_ver < old.conf_ver || new.version < old.version {
                    return Some(Objection::EpochBack);
                }
                let same_keys = after.start_key() == current.start_key() && after.end_key() == current.end_key();
                (!same_keys && new.version == old.version).then_some(Objection::RangeMoved)
            }
        }
    }

    fn is_foreign(&self, change: &Change) -> bool {
        let (Some(region), Some(store)) = (change.after(), self.store) else { return false };
        region.peers().all(|peer| peer.store_id != store)
    }

    fn is_buried(&self, change: &Change) -> bool {
        let (Change::Create { region }, Some(store)) = (change, self.store) else { return false };
        let Some(&destroyed) = self.graves.get(&region.id()) else { return false };
        !region.peers().any(|peer| peer.store_id == store && peer.id > destroyed)
    }

    fn objections_to_range(&self, change: &Change, changeset: &Changeset) -> BTreeSet<Objection> {
        let Some(new) = change.after() else { return BTreeSet::new() };
        let overlapped = self.live.values().map(|(region, _)| region).filter(|region| region.id() != new.id());
        let objection = |current: &Region| {
            let untouched = changeset.changes().iter().all(|change| change.id() != current.id());
            let not_newer = new.epoch().version <= current.epoch().version;
            if untouched { Some(Objection::Overlap) } else { not_newer.then_some(Objection::NotNewer) }
        };
        overlapped.filter(|current| overlap(new, current)).filter_map(objection).collect()
    }

    fn leaves_hole(&self, change: &Change, changeset: &Changeset) -> bool {
        let keeps_coverage = match change {
            Change::Create { .. } => false,
            Change::Update { reason, .. } => *reason != Reason::Snapshot,
            Change::Remove { removal, .. } => *removal == Removal::Merged,
        };
        let Some((before, _)) = self.live.get(&change.id()).filter(|_| keeps_coverage) else { return false };
        let after: Vec<_> = changeset.changes().iter().filter_map(Change::after).collect();
        // A hole begins where the region began, or where one of the new regions ends.
        let starts = after.iter().map(|region| region.end_key().to_wire()).chain([before.start_key()]);
        let mut probes = starts.filter(|key| owns(before, key));
        probes.any(|key| !after.iter().any(|region| owns(region, key)))
    }

    /// Notes that a changeset was prepared.
    pub fn reserve(&mut self, changeset: Changeset) {
        self.reserved.push(changeset);
    }

    /// Notes that the `at`-th prepared changeset was given up or is about to be published.
    pub fn release(&mut self, at: usize) -> Changeset {
        self.reserved.remove(at)
    }

    /// Makes a changeset the next state.
    pub fn publish(&mut self, changeset: &Changeset) {
        self.sequence = self.sequence.wrapping_add(1);
        for change in changeset.changes() {
            self.live.remove(&change.id());
            if let Change::Remove { id, peer: Some(peer), .. } = change {
                let grave = self.graves.entry(*id).or_insert(*peer);
                *grave = (*grave).max(*peer);
            }
        }
        for region in changeset.changes().iter().filter_map(Change::after) {
            self.live.insert(region.id(), (region.clone(), Sequence::new(self.sequence)));
        }
        self.stats.retain(|id, _| self.live.contains_key(id));
    }

    /// Takes in reported sizes; the next state, if one of them differs from what was known.
    pub fn report(&mut self, stats: &[(RegionId, Option<Stats>)]) -> Reported {
        let mut differs = false;
        let mut reported = Reported::default();
        for (id, stats) in stats {
            if self.live.contains_key(id) {
                let before = match stats {
                    Some(stats) => self.stats.insert(*id, *stats),
                    None => self.stats.remove(id),
                };
                differs |= before != *stats;
                reported.known += 1;
            } else {
                reported.unknown += 1;
            }
        }
        self.sequence = self.sequence.wrapping_add(u64::from(differs));
        reported
    }

    /// Compares every answer of a snapshot with the list: by key at and around every bound, by id, by
    /// store, and in order, and what was reported.
    ///
    /// # Errors
    /// The first answer that differs.
    pub fn check(&self, snapshot: &Snapshot) -> Result<(), String> {
        let regions = self.regions();
        let same_order = snapshot.regions().map(Region::id).eq(regions.iter().map(|(region, _)| region.id()));
        if snapshot.sequence().get() != self.sequence || snapshot.len() != regions.len() || !same_order {
            return Err(format!("{snapshot:?} at #{}, where {regions:?} is expected", self.sequence));
        }
        for (region, changed_at) in &regions {
            let found = snapshot.get(region.id());
            if !found.is_some_and(|found| found.region().same_buffer(region) && found.changed_at() == *changed_at) {
                return Err(format!("get({}): {found:?}, where {region} is expected", region.id()));
            }
            for key in [region.start_key(), region.end_key().to_wire(), &[region.start_key(), &[0]].concat()] {
                self.check_locate(snapshot, key)?;
            }
            check_overlapping(snapshot, region, &regions)?;
        }
        self.check_locate(snapshot, b"")?;
        self.check_locate(snapshot, &[0xff; 8])?;
        stores::check(snapshot, &regions.iter().map(|(region, _)| region).collect::<Vec<_>>(), &self.stats)
    }

    /// Compares what a snapshot says about ranges, neighbours, epochs and groups of keys with the list. Slower than
    /// [`check`](Self::check), which must have passed before.
    ///
    /// # Errors
    /// The first answer that differs.
    pub fn check_reads(&self, snapshot: &Snapshot) -> Result<(), String> {
        let regions = self.regions();
        reads::check(snapshot, &regions.iter().map(|(region, _)| region).collect::<Vec<_>>(), &self.stats)
    }

    fn check_locate(&self, snapshot: &Snapshot, key: &[u8]) -> Result<(), String> {
        let expected = self.live.values().find(|(region, _)| owns(region, key)).map(|(region, _)| region);
        let found = snapshot.locate(key).map(|entry| entry.region());
        let same = match (expected, found) {
            (Some(expected), Some(found)) => expected.same_buffer(found),
            (None, None) => true,
            _ => false,
        };
        if same { Ok(()) } else { Err(format!("locate({key:?}): {found:?}, where {expected:?} is expected")) }
    }
}

/// The range asked for begins inside `region` and ends one key after it, so it reaches into the next one.
fn check_overlapping(snapshot: &Snapshot, region: &Region, regions: &[(Region, Sequence)]) -> Result<(), String> {
    let (start, end) = ([region.start_key(), &[0]].concat(), [end_of(region), &[0]].concat());
    let end: &[u8] = if end_of(region).is_empty() { &[] } else { &end };
    let overlaps = |other: &&Region| before(other.start_key(), end) && before(&start, end_of(other));
    let expected: Vec<_> = regions.iter().map(|(other, _)| other).filter(overlaps).map(Region::id).collect();
    let range = KeyRange::from_wire(&start, end);
    let found: Vec<_> = snapshot.overlapping(range).map(Region::id).collect();
    if found == expected { Ok(()) } else { Err(format!("overlapping({range}): {found:?} instead of {expected:?}")) }
}

fn end_of(region: &Region) -> &[u8] {
    region.end_key().to_wire()
}

/// Whether `key` lies before an end in its form on the wire.
fn before(key: &[u8], end: &[u8]) -> bool {
    end.is_empty() || key < end
}

fn owns(region: &Region, key: &[u8]) -> bool {
    region.start_key() <= key && before(key, end_of(region))
}

fn overlap(a: &Region, b: &Region) -> bool {
    owns(a, b.start_key()) || owns(b, a.start_key())
}

fn both_after(a: &Change, b: &Change) -> bool {
    a.after().zip(b.after()).is_some_and(|(a, b)| overlap(a, b))
}
