//! [`KeyTree`]: the regions of one version, ordered by start key. Reading it, and the two ends of an edit.

use super::cursor::Regions;
use super::edit::Edit;
use super::heads::WIDTH;
use super::node::{Branch, Child, Leaf, Position, Totals};
use super::own::{ChildRef, Editor, Kept, Teardown};
use super::radix::Radix;
use super::slots;
use crate::ids::Sequence;
use crate::keys::{EndKey, KeyRange};
use crate::region::Region;
use crate::stats::Stats;

/// Levels of branches. With at least eight children in each, 12 of them hold more regions than memory can.
pub(super) const HEIGHT_MAX: usize = 12;

/// A copy-on-write B+ tree.
pub(super) struct KeyTree {
    root: Child,
}

/// Where a key falls among the regions.
#[derive(Default)]
pub(super) struct Place<'a> {
    /// How many regions begin at or before the key.
    pub(super) rank: usize,
    /// The last of them.
    pub(super) floor: Option<&'a Region>,
    /// It begins with the key.
    starts_there: bool,
    path: Path,
}

/// The way down to a place: the child to take in each branch, then the position in the leaf.
#[derive(Clone, Copy, Default)]
struct Path {
    steps: [u8; HEIGHT_MAX + 1],
    len: usize,
}

impl Path {
    fn push(&mut self, at: usize) {
        if let Some(step) = self.steps.get_mut(self.len) {
            *step = at as u8;
            self.len += 1;
        }
    }

    fn steps(&self) -> &[u8] {
        self.steps.get(..self.len).unwrap_or_default()
    }

    /// The way to the region in front of the place.
    fn to_floor(mut self) -> Self {
        if let Some(last) = self.len.checked_sub(1).and_then(|last| self.steps.get_mut(last)) {
            *last = last.saturating_sub(1);
        }
        self
    }
}

impl KeyTree {
    pub(super) fn empty(editor: &mut Editor) -> Self {
        Self { root: editor.leaf(Leaf::new(slots::empty())) }
    }

    /// A tree of regions that come in key order, in nodes as full as can be. O(regions), and much cheaper than inserting.
    pub(super) fn build(regions: Vec<Kept>, edit: &mut Edit<'_>) -> Self {
        let leaf = |regions: Vec<Kept>| edit.editor.leaf(Leaf::new(slots::fill(regions)));
        let mut nodes: Vec<Child> = chunks(regions).into_iter().map(leaf).collect();
        while nodes.len() > 1 {
            let branch = |children: Vec<Child>| edit.editor.branch(Branch::new(slots::fill(children), edit.stats));
            nodes = chunks(nodes).into_iter().map(branch).collect();
        }
        nodes.pop().map_or_else(|| Self::empty(edit.editor), |root| Self { root })
    }

    /// The same tree, as the next version begins with it.
    pub(super) fn share(&self) -> Self {
        Self { root: self.root.share() }
    }

    /// Takes the nodes of a tree that has no regions.
    pub(super) fn retire(self, editor: &mut Editor) {
        editor.retire(self.root);
    }

    /// Frees the whole tree, with its regions.
    pub(super) fn tear_down(self, teardown: &mut Teardown) {
        self.root.tear_down(teardown);
    }

    pub(super) fn root(&self) -> &Child {
        &self.root
    }

    pub(super) fn len(&self) -> usize {
        self.root.regions()
    }

    /// The region that owns `key`.
    #[inline]
    pub(super) fn locate(&self, key: &[u8]) -> Option<&Region> {
        let mut node = &self.root;
        loop {
            match node.get() {
                ChildRef::Branch(branch) => node = branch.child(branch.position(key))?,
                ChildRef::Leaf(leaf) => return leaf.locate(key).or_else(|| self.locate_by_keys(key)),
            }
        }
    }

    /// As [`locate`](Self::locate), with the keys themselves: for a key that lies in a hole, or that the heads lead astray.
    #[cold]
    #[inline(never)]
    pub(super) fn locate_by_keys(&self, key: &[u8]) -> Option<&Region> {
        self.place_by_keys(key)?.floor.filter(|floor| floor.range().contains(key))
    }

    pub(super) fn place(&self, key: &[u8]) -> Place<'_> {
        self.place_by(key, Branch::position, Leaf::position).or_else(|| self.place_by_keys(key)).unwrap_or_default()
    }

    #[cold]
    fn place_by_keys(&self, key: &[u8]) -> Option<Place<'_>> {
        self.place_by(key, Branch::position_by_keys, |leaf, key| Some(leaf.position_by_keys(key)))
    }

    fn place_by(
        &self,
        key: &[u8],
        in_branch: impl Fn(&Branch, &[u8]) -> usize,
        in_leaf: impl Fn(&Leaf, &[u8]) -> Option<Position>,
    ) -> Option<Place<'_>> {
        let mut place = Place::default();
        let mut node = &self.root;
        while let ChildRef::Branch(branch) = node.get() {
            let at = in_branch(branch, key);
            place.rank += branch.regions_before(at);
            place.path.push(at);
            node = branch.child(at)?;
        }
        let ChildRef::Leaf(leaf) = node.get() else { return None };
        let Position { at, starts_there } = in_leaf(leaf, key)?;
        place.rank += at;
        place.path.push(at);
        place.floor = at.checked_sub(1).and_then(|at| leaf.region(at));
        place.starts_there = starts_there;
        Some(place)
    }

    /// How many regions begin before `key`.
    pub(super) fn rank(&self, key: &[u8]) -> usize {
        let Place { rank, starts_there, .. } = self.place(key);
        rank - usize::from(starts_there)
    }

    /// How many regions begin before an end.
    pub(super) fn rank_of_end(&self, end: EndKey<'_>) -> usize {
        match end {
            EndKey::Finite(key) => self.rank(key),
            EndKey::Infinite => self.len(),
        }
    }

    /// The regions that share a key with `range`.
    pub(super) fn overlapping(&self, range: KeyRange<'_>) -> Regions<'_> {
        let Place { rank, floor, .. } = self.place(range.start);
        let reaches_in = floor.is_some_and(|floor| floor.range().overlaps(range));
        let first = rank - usize::from(reaches_in);
        // Not below `first`, even if the range ends before it begins.
        Regions::new(self, first..self.rank_of_end(range.end).max(first))
    }

    /// The regions that begin before the end of `range` and not before its start.
    pub(super) fn starting_in(&self, range: KeyRange<'_>) -> Regions<'_> {
        let first = self.rank(range.start);
        Regions::new(self, first..self.rank_of_end(range.end).max(first))
    }

    /// The region of that rank: the first one has rank 0.
    pub(super) fn select(&self, rank: usize) -> Option<&Region> {
        Regions::new(self, rank..self.len().max(rank)).next()
    }

    /// What begins before an end, added up. O(log regions).
    pub(super) fn totals_before(&self, end: EndKey<'_>, stats: &Radix<Stats>) -> Totals {
        let EndKey::Finite(key) = end else { return self.root.totals(stats) };
        let Place { path, starts_there, .. } = self.place(key);
        let path = if starts_there { path.to_floor() } else { path };
        let (mut node, mut totals) = (&self.root, Totals::default());
        for &step in path.steps() {
            match node.get() {
                ChildRef::Leaf(leaf) => totals = totals.plus(leaf.totals_before(step.into(), stats)),
                ChildRef::Branch(branch) => {
                    totals = totals.plus(branch.totals_before(step.into()));
                    node = branch.child(step.into()).unwrap_or(node);
                }
            }
        }
        totals
    }

    /// Puts in a region whose start key is free.
    pub(super) fn insert(&mut self, region: Kept, edit: &mut Edit<'_>) {
        let path = self.place(region.start_key()).path;
        let totals = Totals::of_region(edit.stats.get(region.id().get()));
        if let Some(right) = self.root.insert(path.steps(), region, totals, edit) {
            let children = slots::fill([self.root.share(), right]);
            self.root = edit.editor.branch(Branch::new(children, edit.stats));
        }
    }

    /// Puts another version in the place of the region with the same start key and id, which came with the version `born`.
    pub(super) fn replace(&mut self, region: Kept, born: Sequence, editor: &mut Editor) {
        if let Some(path) = self.path_to(region.start_key()) {
            let before = self.root.replace(path.steps(), region, editor);
            before.into_iter().for_each(|before| editor.retire_region(before, born));
        }
    }

    /// Takes out the region that starts at a key, and which came with the version `born`.
    pub(super) fn remove(&mut self, start_key: &[u8], born: Sequence, edit: &mut Edit<'_>) {
        let Place { path, floor, starts_there, .. } = self.place(start_key);
        if let Some(floor) = floor.filter(|_| starts_there) {
            let totals = Totals::of_region(edit.stats.get(floor.id().get()));
            let region = self.root.remove(path.to_floor().steps(), totals, edit);
            region.into_iter().for_each(|region| edit.editor.retire_region(region, born));
            self.root.shrink(edit.editor);
        }
    }

    /// Lets the region that starts at a key count for `gain` more.
    pub(super) fn count(&mut self, start_key: &[u8], gain: Totals, editor: &mut Editor) {
        if let Some(path) = self.path_to(start_key) {
            self.root.count(path.steps(), gain, editor);
        }
    }

    /// The way to the region that starts at a key.
    fn path_to(&self, start_key: &[u8]) -> Option<Path> {
        let Place { path, starts_there, .. } = self.place(start_key);
        starts_there.then(|| path.to_floor())
    }
}

/// As few chunks of at most [`WIDTH`] items as there can be, of about the same length.
fn chunks<T>(items: Vec<T>) -> Vec<Vec<T>> {
    let (len, count) = (items.len(), items.len().div_ceil(WIDTH));
    let mut items = items.into_iter();
    (0..count).map(|at| items.by_ref().take(len * (at + 1) / count - len * at / count).collect()).collect()
}
