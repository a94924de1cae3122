//! The indexes of a root, by key, by id and by store, as one persistent value: an edit works on a copy that shares what it does
//! not touch, so a snapshot that is held keeps its own version for ever.
//!
//! - [`tree`]: by start key, a copy-on-write B+ tree. [`heads`] is how its nodes search, [`edit`] how they change.
//! - [`ids`]: by id, a copy-on-write radix tree. [`radix`] is that tree, whatever it holds.
//! - [`stores`]: by store and role, the ids of the regions that have such a peer there, each in a [`set`].
//!
//! The first two hold handles to the same allocations, and nobody outside this folder can change one index without the
//! others (I11). When a
//! region last changed is kept in one place, the id index: who asks for it is a writer, or has found its cached region
//! outdated, while a lookup by key must not pay for it with a line of cache or eight bytes in each leaf. So an [`Entry`] that
//! was found by key looks the version counter up when it is asked.

mod cursor;
mod edit;
mod heads;
mod ids;
mod many;
mod node;
mod radix;
mod set;
mod slots;
mod stores;
mod tree;

use std::fmt;

use self::cursor::Regions;
use self::ids::IdTree;
use self::radix::{Radix, Value};
pub(crate) use self::stores::Stores;
use self::tree::KeyTree;
use crate::ids::{RegionId, Sequence};
use crate::keys::{EndKey, KeyRange};
use crate::region::Region;
use crate::stats::{Stats, Sums};

impl Value for Stats {}

/// A region as a snapshot holds it: the shared descriptor, and when it last changed. It borrows from the snapshot.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    region: &'a Region,
    ids: &'a IdTree,
}

impl<'a> Entry<'a> {
    /// The region. Cloning the handle shares the allocation.
    #[must_use]
    #[inline]
    pub fn region(self) -> &'a Region {
        self.region
    }

    /// The sequence number of the changeset that last changed this region: the version counter that a change computed
    /// from this entry must name. Costs a lookup by id.
    #[must_use]
    pub fn changed_at(self) -> Sequence {
        // Every region of a snapshot is in its id index (I11), so the default is never taken.
        self.ids.get(self.region.id()).map_or(Sequence::default(), |(_, changed_at)| changed_at)
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changed at {:?}", self.region, self.changed_at())
    }
}

/// Regions ordered by start key, the same regions by id and by store, and what was reported of some of them.
#[derive(Clone, Default)]
pub(crate) struct Index {
    by_key: KeyTree,
    by_id: IdTree,
    by_store: Stores,
    stats: Radix<Stats>,
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The number of regions in the key index; equal to [`len`](Self::len), or I11 is broken.
    pub(crate) fn len_by_key(&self) -> usize {
        self.by_key.len()
    }

    fn entry<'a>(&'a self, region: &'a Region) -> Entry<'a> {
        Entry { region, ids: &self.by_id }
    }

    /// The region that owns `key`.
    #[inline]
    pub(crate) fn locate(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.by_key.locate(key).map(|region| self.entry(region))
    }

    /// The regions that own `keys`, found together.
    pub(crate) fn locate_many<'a>(&'a self, keys: &[&[u8]], found: &mut [Option<Entry<'a>>]) {
        self.by_key.locate_many(keys, |at, region| {
            if let Some(slot) = found.get_mut(at) {
                *slot = region.map(|region| self.entry(region));
            }
        });
    }

    /// The region that ends at `end` or contains it, seen from below: the first one of a scan that goes down from there.
    pub(crate) fn locate_end_key(&self, end: EndKey<'_>) -> Option<Entry<'_>> {
        let region = self.by_key.select(self.by_key.rank_of_end(end).checked_sub(1)?)?;
        (region.end_key() >= end).then(|| self.entry(region))
    }

    /// The last region that starts before `key`.
    pub(crate) fn before(&self, key: &[u8]) -> Option<Entry<'_>> {
        let region = self.by_key.select(self.by_key.rank(key).checked_sub(1)?)?;
        Some(self.entry(region))
    }

    /// The first region that starts after `key`.
    pub(crate) fn after(&self, key: &[u8]) -> Option<Entry<'_>> {
        let region = self.by_key.select(self.by_key.place(key).rank)?;
        Some(self.entry(region))
    }

    #[inline]
    pub(crate) fn get(&self, id: RegionId) -> Option<Entry<'_>> {
        self.by_id.get(id).map(|(region, _)| self.entry(region))
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.by_store
    }

    /// All regions in key order.
    pub(crate) fn iter(&self) -> Regions<'_> {
        Regions::new(&self.by_key, 0..self.by_key.len())
    }

    /// The regions that share a key with `range`, in key order.
    pub(crate) fn overlapping<'a>(&'a self, range: KeyRange<'_>) -> Regions<'a> {
        self.by_key.overlapping(range)
    }

    /// The regions that start in `range`, in key order.
    pub(crate) fn starting_in(&self, range: KeyRange<'_>) -> Regions<'_> {
        self.by_key.starting_in(range)
    }

    pub(crate) fn stats(&self, id: RegionId) -> Option<Stats> {
        self.stats.get(id.get()).copied()
    }

    /// How many regions have stats.
    pub(crate) fn len_of_stats(&self) -> usize {
        self.stats.weight()
    }

    /// Takes in the stats of a region that is there; whether they differ from what was known.
    pub(crate) fn report(&mut self, id: RegionId, stats: Stats) -> bool {
        let differs = self.stats(id) != Some(stats);
        if differs {
            self.stats.insert(id.get(), stats);
        }
        differs
    }

    /// The regions that start in `range`, counted, and their stats, added up.
    pub(crate) fn sums(&self, range: KeyRange<'_>) -> Sums {
        let regions = self.starting_in(range);
        let counted = Sums { regions: regions.len(), ..Sums::default() };
        if self.len_of_stats() == 0 {
            return counted;
        }
        regions.filter_map(|region| self.stats(region.id())).fold(counted, Sums::plus)
    }

    /// Calls `visit` for every region that differs between this version and a later one, in order of ids. O(changes).
    pub(crate) fn diff<'a>(&'a self, later: &'a Self, mut visit: impl FnMut(Option<Entry<'a>>, Option<Entry<'a>>)) {
        self.by_id.diff(&later.by_id, &mut |before, after| {
            visit(before.map(|region| self.entry(region)), after.map(|region| later.entry(region)));
        });
    }

    /// Replaces, adds and removes regions: each change is an id and the region after it, all of one sequence number. After
    /// it the regions must not overlap; in between nobody looks.
    pub(crate) fn apply<'c>(
        &mut self,
        changes: impl Iterator<Item = (RegionId, Option<&'c Region>)> + Clone,
        changed_at: Sequence,
    ) {
        if self.len() == 0 {
            return self.build(changes.filter_map(|(_, after)| after).cloned().collect(), changed_at);
        }
        self.follow(changes.clone());
        // What leaves its start key goes first: another region of the same changeset may take it over.
        for (id, after) in changes.clone() {
            let before = self.by_id.get(id).map(|(before, _)| before.clone());
            if let Some(before) = before.filter(|before| !starts_with(after, before)) {
                self.by_key.remove(before.start_key());
                self.by_id.remove(id);
            }
        }
        for region in changes.filter_map(|(_, after)| after) {
            match self.by_id.get(region.id()) {
                Some(_) => self.by_key.replace(region.clone()),
                None => self.by_key.insert(region.clone()),
            }
            self.by_id.insert(region.clone(), changed_at);
        }
    }

    /// Brings what hangs on the regions' ids up to date; the regions themselves are still those before the changes.
    fn follow<'c>(&mut self, changes: impl Iterator<Item = (RegionId, Option<&'c Region>)>) {
        for (id, after) in changes {
            let before = self.by_id.get(id).map(|(before, _)| before);
            self.by_store.change(id, before, after);
            if after.is_none() {
                self.stats.remove(id.get());
            }
        }
    }

    /// Fills an empty index.
    fn build(&mut self, mut regions: Vec<Region>, changed_at: Sequence) {
        regions.sort_unstable_by_key(Region::id);
        self.by_id = IdTree::build(&regions, changed_at);
        self.by_store = Stores::build(&regions);
        regions.sort_unstable_by(|left, right| left.start_key().cmp(right.start_key()));
        self.by_key = KeyTree::build(regions);
    }
}

fn starts_with(after: Option<&Region>, before: &Region) -> bool {
    after.is_some_and(|after| after.start_key() == before.start_key())
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod check;
#[cfg(test)]
mod tests;
