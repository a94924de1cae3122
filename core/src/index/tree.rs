//! [`KeyTree`]: the regions of one version, ordered by start key. Reading it, and the two ends of an edit.

use super::cursor::Regions;
use super::heads::WIDTH;
use super::node::{Branch, Child, Leaf, make_branch, make_leaf};
use super::own::{ChildRef, Editor, Kept};
use super::slots;
use crate::ids::Sequence;
use crate::keys::{EndKey, KeyRange};
use crate::region::Region;

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
    pub(super) fn empty(editor: &Editor) -> Self {
        Self { root: make_leaf(slots::empty(), editor) }
    }

    /// A tree of regions that come in key order, in nodes as full as can be. O(regions), and much cheaper than inserting.
    pub(super) fn build(regions: Vec<Kept>, editor: &Editor) -> Self {
        let leaf = |regions: Vec<Kept>| make_leaf(slots::fill(regions), editor);
        let mut nodes: Vec<Child> = chunks(regions).into_iter().map(leaf).collect();
        while nodes.len() > 1 {
            let branches = chunks(nodes).into_iter().map(|children| make_branch(slots::fill(children), editor));
            nodes = branches.collect();
        }
        nodes.pop().map_or_else(|| Self::empty(editor), |root| Self { root })
    }

    /// The same tree, as the next version begins with it.
    pub(super) fn share(&self) -> Self {
        Self { root: self.root.share() }
    }

    /// Takes the nodes of a tree that has no regions.
    pub(super) fn retire(self, editor: &mut Editor) {
        editor.retire(self.root);
    }

    /// Frees the whole tree, with its regions. Nobody may use any version of it.
    pub(super) fn dismantle(self) {
        let mut editor = Editor::new(Sequence::default());
        self.root.dismantle(&mut editor);
    }

    pub(super) fn root(&self) -> &Child {
        &self.root
    }

    pub(super) fn len(&self) -> usize {
        self.root.totals().regions
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
        in_leaf: impl Fn(&Leaf, &[u8]) -> Option<usize>,
    ) -> Option<Place<'_>> {
        let mut place = Place::default();
        let mut node = &self.root;
        while let ChildRef::Branch(branch) = node.get() {
            let at = in_branch(branch, key);
            place.rank += branch.totals_before(at).regions;
            place.path.push(at);
            node = branch.child(at)?;
        }
        let ChildRef::Leaf(leaf) = node.get() else { return None };
        let position = in_leaf(leaf, key)?;
        place.rank += position;
        place.path.push(position);
        place.floor = position.checked_sub(1).and_then(|at| leaf.region(at));
        Some(place)
    }

    /// How many regions begin before `key`.
    pub(super) fn rank(&self, key: &[u8]) -> usize {
        let Place { rank, floor, .. } = self.place(key);
        rank - usize::from(floor.is_some_and(|floor| floor.start_key() == key))
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

    /// Puts in a region whose start key is free.
    pub(super) fn insert(&mut self, region: Kept, editor: &mut Editor) {
        let path = self.place(region.start_key()).path;
        if let Some(right) = self.root.insert(path.steps(), region, editor) {
            self.root = make_branch(slots::fill([self.root.share(), right]), editor);
        }
    }

    /// Puts another version in the place of the region with the same start key, which came with the version `born`.
    pub(super) fn replace(&mut self, region: Kept, born: Sequence, editor: &mut Editor) {
        let Place { path, floor, .. } = self.place(region.start_key());
        if floor.is_some_and(|floor| floor.start_key() == region.start_key()) {
            let before = self.root.replace(path.to_floor().steps(), region, editor);
            before.into_iter().for_each(|before| editor.retire_region(before, born));
        }
    }

    /// Takes out the region that starts at a key, and which came with the version `born`.
    pub(super) fn remove(&mut self, start_key: &[u8], born: Sequence, editor: &mut Editor) {
        let Place { path, floor, .. } = self.place(start_key);
        if floor.is_some_and(|floor| floor.start_key() == start_key) {
            let region = self.root.remove(path.to_floor().steps(), editor);
            region.into_iter().for_each(|region| editor.retire_region(region, born));
            self.root.shrink(editor);
        }
    }
}

/// As few chunks of at most [`WIDTH`] items as there can be, of about the same length.
fn chunks<T>(items: Vec<T>) -> Vec<Vec<T>> {
    let (len, count) = (items.len(), items.len().div_ceil(WIDTH));
    let mut items = items.into_iter();
    (0..count).map(|at| items.by_ref().take(len * (at + 1) / count - len * at / count).collect()).collect()
}
