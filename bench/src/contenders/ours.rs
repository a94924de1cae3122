//! This project: [`StoreMeta`], read through a thread's [`Reader`], or through a snapshot taken for each look-up.

use regionmeta::{
    Change as RegionChange, Changeset, Entry, KeyRange, Permit, Reader, Reason, Region, RegionDraft, RegionId, Removal,
    Snapshot, StoreMeta,
};

use crate::map::{BATCH, Count, Failure, Found, Get, Locate, Publish, RegionMap, Scan, TakeSnapshot};
use crate::model::{Change, RegionSpec};

/// Our map.
#[derive(Debug)]
pub struct Ours(StoreMeta);

impl Ours {
    /// The handle of a thread that reads often.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.0.reader()
    }

    /// For a thread that reads now and then: a snapshot for each look-up.
    #[must_use]
    pub fn by_snapshot(&self) -> BySnapshot<'_> {
        BySnapshot(&self.0)
    }

    /// The check of a changeset, for whoever does something between that and the publish.
    ///
    /// # Errors
    /// [`Failure::Refused`].
    pub fn prepare(&self, changeset: Changeset) -> Result<Permit<'_>, Failure> {
        Ok(self.0.prepare(changeset)?)
    }

    /// A map built by publishing region after region, each in a changeset of its own.
    ///
    /// # Errors
    /// [`Failure::Refused`].
    pub fn build_by_inserting(records: Vec<Region>) -> Result<Self, Failure> {
        let meta = StoreMeta::new(None);
        for region in records {
            meta.prepare(Changeset::new().create(region))?.publish();
        }
        Ok(Self(meta))
    }
}

impl RegionMap for Ours {
    type Record = Region;

    fn record(spec: &RegionSpec<'_>) -> Result<Region, Failure> {
        let draft = RegionDraft::new(RegionId::new(spec.id), spec.range, spec.epoch, spec.peers().to_vec());
        Ok(draft.build()?)
    }

    fn build(records: Vec<Region>) -> Result<Self, Failure> {
        Ok(Self(StoreMeta::recover(None, records, [])?))
    }
}

fn found(entry: Entry<'_>) -> Found {
    found_region(entry.region())
}

fn found_region(region: &Region) -> Found {
    Found { id: region.id().get(), epoch: region.epoch() }
}

impl Locate for Reader {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        self.snapshot().locate(key).map(found)
    }

    #[inline]
    fn locate_many(&mut self, keys: &[&[u8]; BATCH], answers: &mut [Option<Found>; BATCH]) {
        let mut entries = [None; BATCH];
        self.snapshot().locate_many(keys, &mut entries);
        for (entry, answer) in entries.into_iter().zip(answers) {
            *answer = entry.map(found);
        }
    }
}

impl Get for Reader {
    #[inline]
    fn get(&mut self, id: u64) -> Option<Found> {
        self.snapshot().get(RegionId::new(id)).map(found)
    }
}

impl Scan for Reader {
    fn scan(&mut self, key: &[u8], regions: usize, visit: impl FnMut(Found)) {
        let from_key = KeyRange { start: key, ..KeyRange::ALL };
        self.snapshot().overlapping(from_key).take(regions).map(found_region).for_each(visit);
    }
}

impl Count for Reader {
    #[inline]
    fn count(&mut self, range: KeyRange<'_>) -> usize {
        self.snapshot().count(range)
    }
}

/// See [`Ours::by_snapshot`].
#[derive(Clone, Copy, Debug)]
pub struct BySnapshot<'a>(&'a StoreMeta);

impl Locate for BySnapshot<'_> {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        self.0.snapshot().locate(key).map(found)
    }
}

impl Get for BySnapshot<'_> {
    #[inline]
    fn get(&mut self, id: u64) -> Option<Found> {
        self.0.snapshot().get(RegionId::new(id)).map(found)
    }
}

impl TakeSnapshot for Ours {
    type Snapshot = Snapshot;

    #[inline]
    fn take_snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }
}

impl Publish for Ours {
    type Plan = Changeset;

    fn plan(&self, changes: &[Change<'_>]) -> Result<Changeset, Failure> {
        let now = self.0.snapshot();
        let base = |id: u64| {
            let entry = now.get(RegionId::new(id)).ok_or(Failure::NotFound(id))?;
            Ok::<_, Failure>(entry.changed_at())
        };
        let mut changeset = Changeset::new();
        for change in changes {
            changeset = match *change {
                Change::Split { left, right } => {
                    changeset.update(base(left.id)?, Self::record(&left)?, Reason::Split).create(Self::record(&right)?)
                }
                Change::Merge { whole, gone } => changeset
                    .update(base(whole.id)?, Self::record(&whole)?, Reason::CommitMerge)
                    .with(removal(gone.id, base(gone.id)?)),
                Change::ChangePeer { region } => {
                    changeset.update(base(region.id)?, Self::record(&region)?, Reason::ChangePeer)
                }
            };
        }
        Ok(changeset)
    }

    fn publish(&self, plan: Changeset) -> Result<(), Failure> {
        self.prepare(plan)?.publish();
        Ok(())
    }
}

fn removal(id: u64, base: regionmeta::Sequence) -> RegionChange {
    RegionChange::Remove { id: RegionId::new(id), base, removal: Removal::Merged, peer: None }
}
