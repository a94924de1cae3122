//! The two indexes of a root, by key and by id, as one persistent value: an edit works on a copy that shares what it does
//! not touch, so a snapshot that is held keeps its own version for ever.
//!
//! - [`tree`]: by start key, a copy-on-write B+ tree. [`heads`] is how its nodes search, [`edit`] how they change.
//! - [`ids`]: by id, a copy-on-write radix tree.
//!
//! Both hold handles to the same allocations, and nobody outside this folder can change one without the other (I11). When a
//! region last changed is kept in one place, the id index: who asks for it is a writer, or has found its cached region
//! outdated, while a lookup by key must not pay for it with a line of cache or eight bytes in each leaf. So an [`Entry`] that
//! was found by key looks the version counter up when it is asked.

mod cursor;
mod edit;
mod heads;
mod ids;
mod many;
mod node;
mod own;
mod slots;
mod tree;
mod versions;

use std::fmt;

use self::cursor::Regions;
use self::ids::IdTree;
use self::own::{Editor, Garbage, Kept};
use self::tree::KeyTree;
pub(crate) use self::versions::Ripe;
use self::versions::Versions;
use crate::ids::{RegionId, Sequence};
use crate::keys::{EndKey, KeyRange};
use crate::region::Region;
use crate::sync::{Arc, OnceLock};

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

/// One version of the index: regions ordered by start key, and the same regions by id. It stays as it is, and keeps the
/// memory of its version alive, for as long as it lives.
pub(crate) struct Index {
    by_key: KeyTree,
    by_id: IdTree,
    life: Arc<Life>,
}

/// Makes one version of an index after the other. There is one for each index, and only writers know it.
pub(crate) struct IndexWriter {
    by_key: KeyTree,
    by_id: IdTree,
    versions: Versions<Life>,
    estate: Arc<Estate>,
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

    /// Calls `visit` for every region that differs between this version and a later one, in order of ids. O(changes).
    pub(crate) fn diff<'a>(&'a self, later: &'a Self, mut visit: impl FnMut(Option<Entry<'a>>, Option<Entry<'a>>)) {
        self.by_id.diff(&later.by_id, &mut |before, after| {
            visit(before.map(|region| self.entry(region)), after.map(|region| later.entry(region)));
        });
    }

}

impl IndexWriter {
    /// An index without regions, and who changes it.
    pub(crate) fn new() -> (Self, Index) {
        let editor = Editor::new(Sequence::default());
        let (by_key, by_id) = (KeyTree::empty(&editor), IdTree::default());
        let estate = Arc::new(Estate::default());
        let life = Arc::new(Life(estate.clone()));
        let versions = Versions::new(editor.version(), life.clone());
        let index = Index { by_key: by_key.share(), by_id: by_id.clone(), life };
        (Self { by_key, by_id, versions, estate }, index)
    }

    /// Makes the next version: replaces, adds and removes regions. Each change is an id and the region after it, all of one
    /// sequence number, which is larger than any before. After it the regions must not overlap; in between nobody looks.
    ///
    /// Nothing has happened yet: a next version that is dropped instead of [taken](Self::take) leaves the newest one as it was.
    pub(crate) fn apply<'c>(
        &self,
        changes: impl Iterator<Item = (RegionId, Option<&'c Region>)> + Clone,
        changed_at: Sequence,
    ) -> Next {
        let (by_key, by_id) = (self.by_key.share(), self.by_id.clone());
        let mut next = Next { editor: Editor::new(changed_at), by_key, by_id };
        next.apply(changes);
        next
    }

    /// Takes a version, made from the one that is still the newest, as the newest, for readers to see.
    pub(crate) fn take(&mut self, mut next: Next) -> Index {
        let life = Arc::new(Life(self.estate.clone()));
        self.versions.push(next.editor.version(), life.clone(), next.editor.take());
        (self.by_key, self.by_id) = (next.by_key, next.by_id);
        Index { by_key: self.by_key.share(), by_id: self.by_id.clone(), life }
    }

    /// What no version uses any more, to be dropped where nobody waits. To be called after the version before was let go.
    pub(crate) fn collect(&mut self) -> Ripe {
        self.versions.collect()
    }
}

impl fmt::Debug for IndexWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexWriter").field("regions", &self.by_id.len()).finish_non_exhaustive()
    }
}

/// What a version's readers hold. When the last of them lets go, the version has ended.
struct Life(#[expect(dead_code, reason = "dropping it is what it is for")] Arc<Estate>);

/// What is left when the writer is gone, for whoever is the last to read: all memory of all versions that are left.
#[derive(Default)]
struct Estate(OnceLock<(KeyTree, Vec<Garbage>)>);

impl Drop for IndexWriter {
    fn drop(&mut self) {
        let versions = std::mem::replace(&mut self.versions, Versions::none());
        // Nobody else sets it.
        let _ = self.estate.0.set((self.by_key.share(), versions.into_garbage()));
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        if let Some((by_key, garbage)) = self.0.take() {
            drop(Ripe::all(garbage));
            by_key.dismantle();
        }
    }
}

/// A version that nobody has seen yet. What it made is leaked if it is dropped.
pub(crate) struct Next {
    editor: Editor,
    by_key: KeyTree,
    by_id: IdTree,
}

impl Next {
    fn apply<'c>(&mut self, changes: impl Iterator<Item = (RegionId, Option<&'c Region>)> + Clone) {
        if self.by_id.len() == 0 {
            return self.build(changes.filter_map(|(_, after)| after).cloned().collect());
        }
        // What leaves its start key goes first: another region of the same changeset may take it over.
        for (id, after) in changes.clone() {
            let Some((before, born)) = self.by_id.get(id) else { continue };
            if after.is_none_or(|after| after.start_key() != before.start_key()) {
                self.by_key.remove(before.start_key(), born, &mut self.editor);
                self.by_id.remove(id);
            }
        }
        // Then what stays where it is, and what is new at last: a region is never put in while another covers its place.
        for region in changes.clone().filter_map(|(_, after)| after) {
            if let Some((_, born)) = self.by_id.get(region.id()) {
                self.by_key.replace(Kept::new(region.clone()), born, &mut self.editor);
                self.by_id.insert(region.clone(), self.editor.version());
            }
        }
        for region in changes.filter_map(|(_, after)| after) {
            if self.by_id.get(region.id()).is_none() {
                self.by_key.insert(Kept::new(region.clone()), &mut self.editor);
                self.by_id.insert(region.clone(), self.editor.version());
            }
        }
    }

    /// Fills an empty index.
    fn build(&mut self, mut regions: Vec<Region>) {
        regions.sort_unstable_by_key(Region::id);
        self.by_id = IdTree::build(&regions, self.editor.version());
        regions.sort_unstable_by(|left, right| left.start_key().cmp(right.start_key()));
        let built = KeyTree::build(regions, &self.editor);
        std::mem::replace(&mut self.by_key, built).retire(&mut self.editor);
    }
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
