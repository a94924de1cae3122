//! The indexes of a root, by key, by id and by store, as one persistent value: an edit works on a copy that shares what it does
//! not touch, so a snapshot that is held keeps its own version for ever.
//!
//! - [`tree`]: by start key, a copy-on-write B+ tree. [`heads`] is how its nodes search, [`edit`] how they change.
//! - [`ids`]: by id, a copy-on-write radix tree.
//! - [`stores`]: by store and role, the ids of the regions that have such a peer there, each in a [`set`]; over [`radix`], the
//!   tree for what changes less often.
//!
//! The first two lead to the same allocations, and nobody outside this folder can change one index without the others (I11).
//! [`own`] says who owns their nodes, [`versions`] when they are freed.
//!
//! When a region last changed is kept in one place, the id index: who asks for it is a writer, or has found its cached region
//! outdated, while a lookup by key must not pay for it with a line of cache or eight bytes in each leaf. So an [`Entry`] that
//! was found by key looks the version counter up when it is asked.

mod cursor;
mod edit;
mod garbage;
mod heads;
mod ids;
mod many;
mod node;
mod own;
mod radix;
mod set;
mod slots;
mod stores;
mod tree;
mod versions;

use std::fmt;

use self::cursor::Regions;
use self::edit::Edit;
use self::garbage::{Garbage, Spares};
use self::ids::IdTree;
use self::node::Totals;
use self::own::{Editor, Kept, Teardown};
use self::radix::{Radix, Value};
pub(crate) use self::stores::Stores;
use self::tree::KeyTree;
use self::versions::Versions;
use crate::ids::{RegionId, Sequence};
use crate::keys::{EndKey, KeyRange};
use crate::mutant::{Mutant, planted};
use crate::region::Region;
use crate::stats::{Stats, Sums};
use crate::sync::{Arc, OnceLock};

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

/// What a version consists of: regions ordered by start key, the same regions by id and by store, and what was reported of
/// some of them.
struct Trees {
    by_key: KeyTree,
    by_id: IdTree,
    by_store: Stores,
    stats: Radix<Stats>,
}

/// One version of the index. It stays as it is, and keeps the memory of its version alive, for as long as it lives.
pub(crate) struct Index {
    trees: Trees,
    _life: Arc<Life>,
}

/// Makes one version of an index after the other. There is one for each index, and only writers know it.
pub(crate) struct IndexWriter {
    newest: Trees,
    versions: Versions<Life>,
    spares: Spares,
    estate: Arc<Estate>,
}

/// A version that nobody has seen yet. Dropping it leaves the newest version as it was.
pub(crate) struct Next<'w> {
    writer: &'w mut IndexWriter,
    editor: Editor,
    trees: Trees,
}

/// What a version's readers hold. When the last of them lets go, the version has ended.
///
/// It also holds those trees whose nodes count their holders, so that a reader is never the last to hold one: what a version
/// leaves behind is freed by writers, whatever it is.
pub(crate) struct Life {
    _by_store: Stores,
    _stats: Radix<Stats>,
    _estate: Arc<Estate>,
}

/// What can be freed, to be dropped where nobody waits.
pub(crate) type Ripe = versions::Ripe<Life>;

/// What is left when the writer is gone, for whoever is the last to read: all memory of all versions that are left.
#[derive(Default)]
struct Estate(OnceLock<(KeyTree, IdTree, Vec<Garbage>)>);

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.trees.by_id.len()
    }

    /// The number of regions in the key index; equal to [`len`](Self::len), or I11 is broken.
    pub(crate) fn len_by_key(&self) -> usize {
        self.trees.by_key.len()
    }

    fn entry<'a>(&'a self, region: &'a Region) -> Entry<'a> {
        Entry { region, ids: &self.trees.by_id }
    }

    /// The region that owns `key`.
    #[inline]
    pub(crate) fn locate(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.trees.by_key.locate(key).map(|region| self.entry(region))
    }

    /// The regions that own `keys`, found together.
    pub(crate) fn locate_many<'a>(&'a self, keys: &[&[u8]], found: &mut [Option<Entry<'a>>]) {
        self.trees.by_key.locate_many(keys, |at, region| {
            if let Some(slot) = found.get_mut(at) {
                *slot = region.map(|region| self.entry(region));
            }
        });
    }

    /// The region that ends at `end` or contains it, seen from below: the first one of a scan that goes down from there.
    pub(crate) fn locate_end_key(&self, end: EndKey<'_>) -> Option<Entry<'_>> {
        let region = self.trees.by_key.select(self.trees.by_key.rank_of_end(end).checked_sub(1)?)?;
        (region.end_key() >= end).then(|| self.entry(region))
    }

    /// The last region that starts before `key`.
    pub(crate) fn before(&self, key: &[u8]) -> Option<Entry<'_>> {
        let region = self.trees.by_key.select(self.trees.by_key.rank(key).checked_sub(1)?)?;
        Some(self.entry(region))
    }

    /// The first region that starts after `key`.
    pub(crate) fn after(&self, key: &[u8]) -> Option<Entry<'_>> {
        let region = self.trees.by_key.select(self.trees.by_key.place(key).rank)?;
        Some(self.entry(region))
    }

    #[inline]
    pub(crate) fn get(&self, id: RegionId) -> Option<Entry<'_>> {
        self.trees.by_id.get(id).map(|(region, _)| self.entry(region))
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.trees.by_store
    }

    /// Brings regions that are about to be changed, and the places where they are found, into the cache together. For one of
    /// them there is nothing to gain.
    pub(crate) fn prefetch(&self, ids: impl ExactSizeIterator<Item = RegionId> + Clone) {
        if ids.len() < 2 {
            return;
        }
        ids.clone().for_each(|id| self.trees.by_id.prefetch(id));
        let regions = || ids.clone().filter_map(|id| self.trees.by_id.get(id)).map(|(region, _)| region);
        regions().for_each(Region::prefetch);
        self.trees.by_key.prefetch_all(regions().map(Region::start_key));
    }

    /// All regions in key order.
    pub(crate) fn iter(&self) -> Regions<'_> {
        Regions::new(&self.trees.by_key, 0..self.trees.by_key.len())
    }

    /// The regions that share a key with `range`, in key order.
    pub(crate) fn overlapping<'a>(&'a self, range: KeyRange<'_>) -> Regions<'a> {
        self.trees.by_key.overlapping(range)
    }

    /// The regions that start in `range`, in key order.
    pub(crate) fn starting_in(&self, range: KeyRange<'_>) -> Regions<'_> {
        self.trees.by_key.starting_in(range)
    }

    pub(crate) fn stats(&self, id: RegionId) -> Option<Stats> {
        self.trees.stats.get(id.get()).copied()
    }

    /// How many regions have stats.
    pub(crate) fn len_of_stats(&self) -> usize {
        self.trees.stats.weight()
    }

    /// The regions that start in `range`, counted, and their stats, added up.
    pub(crate) fn sums(&self, range: KeyRange<'_>) -> Sums {
        let before = |end| self.trees.by_key.totals_before(end, &self.trees.stats);
        if range.end <= EndKey::Finite(range.start) {
            return Sums::default();
        }
        let Totals { regions, stats } = before(range.end).minus(before(EndKey::Finite(range.start)));
        Sums { regions, size_bytes: stats.size_bytes, keys: stats.keys }
    }

    /// Calls `visit` for every region that differs between this version and a later one, in order of ids. O(changes).
    pub(crate) fn diff<'a>(&'a self, later: &'a Self, mut visit: impl FnMut(Option<Entry<'a>>, Option<Entry<'a>>)) {
        self.trees.by_id.diff(&later.trees.by_id, &mut |before, after| {
            visit(before.map(|region| self.entry(region)), after.map(|region| later.entry(region)));
        });
    }
}

impl IndexWriter {
    /// An index without regions, and who changes it.
    pub(crate) fn new() -> (Self, Index) {
        let number = Sequence::default();
        let mut editor = Editor::new(number, Spares::default());
        let by_key = KeyTree::empty(&mut editor);
        drop(editor.done()); // nothing was there before
        let by_id = IdTree::default();
        let newest = Trees { by_key, by_id, by_store: Stores::default(), stats: Radix::default() };
        let estate = Arc::new(Estate::default());
        let life = newest.life(&estate);
        let index = Index { trees: newest.share(), _life: life.clone() };
        (Self { newest, versions: Versions::new(number, life), spares: Spares::default(), estate }, index)
    }

    /// Begins the next version, from the newest. Its number is larger than that of any before, or the next one that can be.
    pub(crate) fn next(&mut self, number: Sequence) -> Next<'_> {
        let number = number.max(Sequence::new(self.versions.newest().get().wrapping_add(1)));
        let (trees, spares) = (self.newest.share(), std::mem::take(&mut self.spares));
        Next { trees, editor: Editor::new(number, spares), writer: self }
    }

    /// What no version uses any more, to be dropped where nobody waits. To be called after the version before was let go.
    pub(crate) fn collect(&mut self) -> Ripe {
        let mut ripe = self.versions.collect();
        ripe.keep_some(&mut self.spares);
        ripe
    }

    /// As [`collect`](Self::collect), however many versions there are to look at.
    pub(crate) fn collect_all(&mut self) -> Ripe {
        self.versions.collect_all()
    }
}

impl Drop for IndexWriter {
    fn drop(&mut self) {
        let versions = std::mem::replace(&mut self.versions, Versions::none());
        // Nobody else sets it.
        let Trees { by_key, by_id, .. } = &self.newest;
        let _ = self.estate.0.set((by_key.share(), by_id.share(), versions.into_garbage()));
    }
}

impl Drop for Estate {
    #[expect(unsafe_code, reason = "frees all memory of an index")]
    fn drop(&mut self) {
        if let Some((by_key, by_id, garbage)) = self.0.take() {
            // SAFETY: every version holds the estate through its life, and the writer does so itself, so they are all gone.
            // The trees are those of the newest version, and what older ones used besides is in the garbage, once.
            let mut teardown = unsafe { Teardown::new() };
            teardown.garbage(garbage);
            by_id.tear_down(&mut teardown);
            by_key.tear_down(&mut teardown);
        }
    }
}

impl fmt::Debug for IndexWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexWriter").field("regions", &self.newest.by_id.len()).finish_non_exhaustive()
    }
}

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.writer.spares = self.editor.take_spares();
    }
}

impl Trees {
    fn life(&self, estate: &Arc<Estate>) -> Arc<Life> {
        let (by_store, stats) = (self.by_store.clone(), self.stats.clone());
        Arc::new(Life { _by_store: by_store, _stats: stats, _estate: estate.clone() })
    }

    /// The same trees, as the next version begins with them, or as readers see them.
    fn share(&self) -> Self {
        Self {
            by_key: self.by_key.share(),
            by_id: self.by_id.share(),
            by_store: self.by_store.clone(),
            stats: self.stats.clone(),
        }
    }
}

impl Next<'_> {
    /// Makes it the newest version, for readers to see.
    pub(crate) fn publish(mut self) -> Index {
        let life = self.trees.life(&self.writer.estate);
        self.writer.versions.push(self.editor.version(), life.clone(), self.editor.done());
        std::mem::swap(&mut self.writer.newest, &mut self.trees);
        Index { trees: self.writer.newest.share(), _life: life }
    }

    /// Replaces, adds and removes regions: each change is an id and the region after it. After it the regions must not
    /// overlap; in between nobody looks.
    pub(crate) fn apply<'c>(&mut self, changes: impl Iterator<Item = (RegionId, Option<&'c Region>)> + Clone) {
        if self.trees.by_id.len() == 0 {
            return self.build(changes.filter_map(|(_, after)| after).cloned().collect());
        }
        self.follow(changes.clone());
        self.remove_what_moves(changes.clone());
        // Then what stays where it is, and what is new at last: a region is never put in while another covers its place.
        let Trees { by_key, by_id, stats, .. } = &mut self.trees;
        let editor = &mut self.editor;
        for region in changes.clone().filter_map(|(_, after)| after) {
            if let Some((_, born)) = by_id.get(region.id()) {
                let kept = editor.keep(region.clone());
                by_id.insert(kept.share(), editor);
                by_key.replace(kept, born, editor);
            }
        }
        for region in changes.filter_map(|(_, after)| after) {
            if by_id.get(region.id()).is_none() {
                let kept = editor.keep(region.clone());
                by_id.insert(kept.share(), editor);
                by_key.insert(kept, &mut Edit { editor, stats });
            }
        }
    }

    /// What leaves its start key goes first: another region of the same changeset may take it over.
    fn remove_what_moves<'c>(&mut self, changes: impl Iterator<Item = (RegionId, Option<&'c Region>)>) {
        let Trees { by_key, by_id, stats, .. } = &mut self.trees;
        for (id, after) in changes {
            let Some((before, born)) = by_id.get(id) else { continue };
            if after.is_none_or(|after| after.start_key() != before.start_key()) {
                by_key.remove(before.start_key(), born, &mut Edit { editor: &mut self.editor, stats });
                by_id.remove(id, &mut self.editor);
            }
            if after.is_none() {
                stats.remove(id.get());
            }
        }
    }

    /// Brings what hangs on the regions' ids up to date; the regions themselves are still those before the changes.
    fn follow<'c>(&mut self, changes: impl Iterator<Item = (RegionId, Option<&'c Region>)>) {
        for (id, after) in changes {
            let before = self.trees.by_id.get(id).map(|(before, _)| before);
            if !(planted(Mutant::M5) && after.is_none()) {
                self.trees.by_store.change(id, before, after);
            }
        }
    }

    /// Fills an empty index.
    fn build(&mut self, mut regions: Vec<Region>) {
        regions.sort_unstable_by_key(Region::id);
        self.trees.by_store = Stores::build(&regions);
        let mut regions: Vec<Kept> = regions.into_iter().map(|region| self.editor.keep(region)).collect();
        self.trees.by_id = IdTree::build(&regions, &mut self.editor);
        regions.sort_unstable_by(|left, right| left.start_key().cmp(right.start_key()));
        let built = KeyTree::build(regions, &mut Edit { editor: &mut self.editor, stats: &self.trees.stats });
        std::mem::replace(&mut self.trees.by_key, built).retire(&mut self.editor);
    }

    pub(crate) fn number(&self) -> Sequence {
        self.editor.version()
    }

    /// Takes in the stats of a region: whether they differ from what was known, or `None` if there is no such region.
    pub(crate) fn report(&mut self, id: RegionId, stats: Option<Stats>) -> Option<bool> {
        let (region, _) = self.trees.by_id.get(id)?;
        let before = self.trees.stats.get(id.get()).copied();
        if before == stats {
            return Some(false);
        }
        let gain = Totals::of_region(stats.as_ref()).minus(Totals::of_region(before.as_ref()));
        self.trees.by_key.count(region.start_key(), gain, &mut self.editor);
        match stats {
            Some(stats) => self.trees.stats.insert(id.get(), stats),
            None => self.trees.stats.remove(id.get()),
        };
        Some(true)
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
