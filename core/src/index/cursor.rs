//! [`Regions`]: the regions of a span of ranks, in key order, from either end. It allocates nothing: the way down is a
//! stack of fixed height.

use std::iter::FusedIterator;
use std::ops::Range;

use super::node::{Branch, Child, Leaf};
use super::own::ChildRef;
use super::tree::{HEIGHT_MAX, KeyTree};
use crate::region::Region;

/// Regions in key order, lazily. Its length is known, so that counting is free.
#[derive(Clone)]
pub(crate) struct Regions<'a> {
    tree: &'a KeyTree,
    ranks: Range<usize>,
    /// Made when the first region is asked for from that end.
    front: Option<Cursor<'a>>,
    back: Option<Cursor<'a>>,
}

impl<'a> Regions<'a> {
    pub(super) fn new(tree: &'a KeyTree, ranks: Range<usize>) -> Self {
        Self { tree, ranks, front: None, back: None }
    }
}

impl<'a> Iterator for Regions<'a> {
    type Item = &'a Region;

    fn next(&mut self) -> Option<&'a Region> {
        let rank = self.ranks.next()?;
        let cursor = match &mut self.front {
            Some(cursor) => {
                cursor.forward();
                cursor
            }
            empty => empty.insert(Cursor::at(self.tree, rank)),
        };
        cursor.region()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }

    fn nth(&mut self, skipped: usize) -> Option<&'a Region> {
        self.front = None;
        self.ranks.nth(skipped).and_then(|rank| self.front.insert(Cursor::at(self.tree, rank)).region())
    }
}

impl<'a> DoubleEndedIterator for Regions<'a> {
    fn next_back(&mut self) -> Option<&'a Region> {
        let rank = self.ranks.next_back()?;
        let cursor = match &mut self.back {
            Some(cursor) => {
                cursor.backward();
                cursor
            }
            empty => empty.insert(Cursor::at(self.tree, rank)),
        };
        cursor.region()
    }
}

impl ExactSizeIterator for Regions<'_> {}

impl FusedIterator for Regions<'_> {}

/// A place in one leaf, and the way down to it.
#[derive(Clone)]
struct Cursor<'a> {
    path: [Option<(&'a Branch, usize)>; HEIGHT_MAX],
    height: usize,
    leaf: Option<&'a Leaf>,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn at(tree: &'a KeyTree, rank: usize) -> Self {
        let mut cursor = Self { path: [None; HEIGHT_MAX], height: 0, leaf: None, at: rank };
        let mut node = Some(tree.root());
        while let Some(ChildRef::Branch(branch)) = node.map(Child::get) {
            node = cursor.enter(branch);
        }
        cursor.leaf = node.and_then(leaf_of);
        cursor
    }

    /// One level down, towards the region of rank `self.at` below this branch.
    fn enter(&mut self, branch: &'a Branch) -> Option<&'a Child> {
        let mut child = 0;
        for regions in branch.regions.iter().take(branch.len().saturating_sub(1)) {
            let Some(behind) = self.at.checked_sub(*regions as usize) else { break };
            self.at = behind;
            child += 1;
        }
        self.push(branch, child);
        branch.child(child)
    }

    fn region(&self) -> Option<&'a Region> {
        self.leaf?.region(self.at)
    }

    fn forward(&mut self) {
        self.at += 1;
        if self.leaf.is_none_or(|leaf| self.at < leaf.len()) {
            return;
        }
        let next = self.turn(|branch, at| Some(at + 1).filter(|at| *at < branch.len()));
        self.descend(next, |_| 0);
        self.at = 0;
    }

    fn backward(&mut self) {
        if let Some(at) = self.at.checked_sub(1) {
            self.at = at;
            return;
        }
        let next = self.turn(|_, at| at.checked_sub(1));
        self.descend(next, |branch| branch.len() - 1);
        self.at = self.leaf.map_or(0, |leaf| leaf.len() - 1);
    }

    /// Climbs to the first branch that has a child further on, and steps to it.
    fn turn(&mut self, further: impl Fn(&Branch, usize) -> Option<usize>) -> Option<&'a Child> {
        while self.height > 0 {
            self.height -= 1;
            let (branch, at) = self.path.get(self.height).copied().flatten()?;
            if let Some(at) = further(branch, at) {
                self.push(branch, at);
                return branch.child(at);
            }
        }
        None
    }

    fn descend(&mut self, mut node: Option<&'a Child>, side: impl Fn(&Branch) -> usize) {
        while let Some(ChildRef::Branch(branch)) = node.map(Child::get) {
            let at = side(branch);
            self.push(branch, at);
            node = branch.child(at);
        }
        self.leaf = node.and_then(leaf_of);
    }

    fn push(&mut self, branch: &'a Branch, at: usize) {
        if let Some(slot) = self.path.get_mut(self.height) {
            *slot = Some((branch, at));
            self.height += 1;
        }
    }
}

pub(super) fn leaf_of(node: &Child) -> Option<&Leaf> {
    match node.get() {
        ChildRef::Leaf(leaf) => Some(leaf),
        ChildRef::Branch(_) => None,
    }
}
