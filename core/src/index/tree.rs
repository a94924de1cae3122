//! [`KeyTree`]: the regions of one version, ordered by start key. Reading it, and the two ends of an edit.

use super::cursor::Regions;
use super::heads::{Probe, WIDTH};
use super::node::{Branch, Leaf, Node};
use super::slots;
use crate::keys::{EndKey, KeyRange};
use crate::region::Region;

/// A copy-on-write B+ tree. Cloning it is one reference count.
#[derive(Clone)]
pub(super) struct KeyTree {
    root: Node,
}

/// Where a key falls among the regions.
pub(super) struct Place<'a> {
    /// How many regions begin at or before the key.
    pub(super) rank: usize,
    /// The last of them.
    pub(super) floor: Option<&'a Region>,
}

impl Default for KeyTree {
    fn default() -> Self {
        Self { root: Node::leaf(Leaf::new(slots::empty())) }
    }
}

impl KeyTree {
    /// A tree of regions that come in key order, in nodes as full as can be. O(regions), and much cheaper than inserting.
    pub(super) fn build(regions: Vec<Region>) -> Self {
        let leaves = chunks(regions).into_iter().map(|regions| Node::leaf(Leaf::new(slots::fill(regions))));
        let mut nodes: Vec<Node> = leaves.collect();
        while nodes.len() > 1 {
            let branches = chunks(nodes).into_iter().map(|children| Node::branch(Branch::new(slots::fill(children))));
            nodes = branches.collect();
        }
        nodes.pop().map_or_else(Self::default, |root| Self { root })
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    pub(super) fn len(&self) -> usize {
        self.root.totals().regions
    }

    /// The region that owns `key`.
    #[inline]
    pub(super) fn locate(&self, key: &[u8]) -> Option<&Region> {
        let probe = Probe::new(key);
        let mut node = &self.root;
        loop {
            match node {
                Node::Branch(branch) => node = branch.child(branch.position(&probe))?,
                Node::Leaf(leaf) => return leaf.locate(&probe),
            }
        }
    }

    pub(super) fn place(&self, key: &[u8]) -> Place<'_> {
        let probe = Probe::new(key);
        let (mut node, mut rank) = (Some(&self.root), 0);
        while let Some(Node::Branch(branch)) = node {
            let at = branch.position(&probe);
            rank += branch.totals_before(at).regions;
            node = branch.child(at);
        }
        let Some(Node::Leaf(leaf)) = node else { return Place { rank, floor: None } };
        let position = leaf.position(&probe);
        Place { rank: rank + position, floor: position.checked_sub(1).and_then(|at| leaf.region(at)) }
    }

    /// How many regions begin before `key`.
    pub(super) fn rank(&self, key: &[u8]) -> usize {
        let Place { rank, floor } = self.place(key);
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
        let Place { rank, floor } = self.place(range.start);
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
    pub(super) fn insert(&mut self, region: Region) {
        let key = region.clone();
        if let Some(right) = self.root.insert(&Probe::new(key.start_key()), region) {
            let left = std::mem::replace(&mut self.root, Node::leaf(Leaf::new(slots::empty())));
            self.root = Node::branch(Branch::new(slots::fill([left, right])));
        }
    }

    /// Puts another version in the place of the region with the same start key.
    pub(super) fn replace(&mut self, region: Region) {
        let key = region.clone();
        self.root.replace(&Probe::new(key.start_key()), region);
    }

    pub(super) fn remove(&mut self, start_key: &[u8]) -> Option<Region> {
        let region = self.root.remove(&Probe::new(start_key));
        self.root.shrink();
        region
    }
}

/// As few chunks of at most [`WIDTH`] items as there can be, of about the same length.
fn chunks<T>(items: Vec<T>) -> Vec<Vec<T>> {
    let (len, count) = (items.len(), items.len().div_ceil(WIDTH));
    let mut items = items.into_iter();
    (0..count).map(|at| items.by_ref().take(len * (at + 1) / count - len * at / count).collect()).collect()
}
