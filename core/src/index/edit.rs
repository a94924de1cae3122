//! Changing a version that nobody else can see yet.
//!
//! Going down, a node that an older version also holds is replaced by a copy; one that this version alone holds is changed
//! where it is. What an edit leaves behind in each node that it came through: exact separators, exact totals, and at least
//! [`MIN`] entries in every node but the root.

use triomphe::Arc;

use super::heads::{Heads, Probe, WIDTH};
use super::node::{Branch, Leaf, Node, Totals};
use super::slots::{self, Keyed, key_at};
use crate::region::Region;

/// The fewest entries of a node that is not the root. Well below half, so that a node that was just split or merged is not
/// at once merged or split again.
pub(super) const MIN: usize = WIDTH / 4;

impl Node {
    /// Puts in a region whose start key is free. Returns the new right neighbour of this node if it had to be split.
    pub(super) fn insert(&mut self, probe: &Probe<'_>, region: Region) -> Option<Self> {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).insert(probe, region).map(Self::leaf),
            Self::Branch(branch) => Arc::make_mut(branch).insert(probe, region).map(Self::branch),
        }
    }

    /// Takes out the region that starts at the probe. There must be one, or copies are made in vain.
    pub(super) fn remove(&mut self, probe: &Probe<'_>) -> Option<Region> {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).remove(probe),
            Self::Branch(branch) => Arc::make_mut(branch).remove(probe),
        }
    }

    /// Puts another version in the place of the region with the same start key. There must be one.
    pub(super) fn replace(&mut self, probe: &Probe<'_>, region: Region) {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).replace(probe, region),
            Self::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                let at = branch.position(probe);
                if let Some(Some(child)) = branch.children.get_mut(at) {
                    child.replace(probe, region);
                }
            }
        }
    }

    /// Spreads the entries of two neighbours of one height; the right one may become empty.
    fn balance(&mut self, right: &mut Self) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => Arc::make_mut(left).balance(Arc::make_mut(right)),
            (Self::Branch(left), Self::Branch(right)) => Arc::make_mut(left).balance(Arc::make_mut(right)),
            _ => {} // neighbours have one height
        }
    }

    /// The root without branches that have only one child.
    pub(super) fn shrink(&mut self) {
        while let Self::Branch(branch) = self
            && branch.len() == 1
            && let Some(child) = branch.child(0)
        {
            *self = child.clone();
        }
    }
}

impl Leaf {
    fn insert(&mut self, probe: &Probe<'_>, region: Region) -> Option<Self> {
        let at = self.position(probe);
        if self.len() < WIDTH {
            self.insert_at(at, region);
            return None;
        }
        let middle = split_point(at);
        let mut right = self.split_off(middle);
        if at > middle {
            right.insert_at(at - middle, region);
        } else {
            self.insert_at(at, region);
        }
        Some(right)
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self {
            heads: self.heads.split_off(at),
            links: self.links.split_off(at),
            regions: slots::split_off(&mut self.regions, at),
        }
    }

    fn insert_at(&mut self, at: usize, region: Region) {
        slots::insert(&mut self.regions, at, region);
        self.heads.inserted(at, &self.regions);
        self.links.insert(at);
        self.relink_at(at);
    }

    fn remove(&mut self, probe: &Probe<'_>) -> Option<Region> {
        let at = self.position(probe).checked_sub(1)?;
        if key_at(&self.regions, at) != probe.key {
            return None;
        }
        self.heads.remove(at);
        self.links.remove(at);
        let region = slots::remove(&mut self.regions, at);
        self.relink_at(at);
        region
    }

    fn replace(&mut self, probe: &Probe<'_>, region: Region) {
        let Some(at) = self.position(probe).checked_sub(1) else { return };
        let same_range = self.region(at).is_some_and(|before| before.end_key() == region.end_key());
        if let Some(slot) = self.regions.get_mut(at) {
            *slot = Some(region);
        }
        if !same_range {
            self.relink_at(at);
        }
    }

    fn balance(&mut self, right: &mut Self) {
        slots::balance(&mut self.regions, &mut right.regions);
        self.rebuild();
        right.rebuild();
    }

    fn rebuild(&mut self) {
        self.heads = Heads::of(&self.regions);
        self.relink();
    }
}

impl Branch {
    fn insert(&mut self, probe: &Probe<'_>, region: Region) -> Option<Self> {
        let at = self.position(probe);
        let split = self.children.get_mut(at)?.as_mut()?.insert(probe, region);
        self.refresh(at, probe);
        split.and_then(|right| self.insert_child(at + 1, right))
    }

    fn insert_child(&mut self, at: usize, child: Node) -> Option<Self> {
        if self.len() < WIDTH {
            self.insert_child_at(at, child);
            return None;
        }
        let middle = split_point(at);
        let mut right = self.split_off(middle);
        if at > middle {
            right.insert_child_at(at - middle, child);
        } else {
            self.insert_child_at(at, child);
        }
        Some(right)
    }

    fn split_off(&mut self, at: usize) -> Self {
        let mut totals = self.totals;
        totals.rotate_left(at);
        totals.iter_mut().skip(WIDTH - at).for_each(|totals| *totals = Totals::default());
        self.totals.iter_mut().skip(at).for_each(|totals| *totals = Totals::default());
        Self { heads: self.heads.split_off(at), totals, children: slots::split_off(&mut self.children, at) }
    }

    fn insert_child_at(&mut self, at: usize, child: Node) {
        let totals = child.totals();
        slots::insert(&mut self.children, at, child);
        if let Some(moved) = self.totals.get_mut(at..) {
            moved.rotate_right(1);
        }
        self.set_totals(at, totals);
        self.heads.inserted(at, &self.children);
    }

    fn remove(&mut self, probe: &Probe<'_>) -> Option<Region> {
        let at = self.position(probe);
        let child = self.children.get_mut(at)?.as_mut()?;
        let region = child.remove(probe)?;
        if child.len() < MIN && self.len() > 1 {
            self.balance_children(at.saturating_sub(1));
        } else {
            self.refresh(at, probe);
        }
        Some(region)
    }

    /// Balances the child at `left` with its right neighbour, one of which has become too small.
    fn balance_children(&mut self, left: usize) {
        let Some([Some(first), Some(second)]) = self.children.get_mut(left..left + 2) else { return };
        first.balance(second);
        if second.len() == 0 {
            slots::remove(&mut self.children, left + 1);
        }
        self.rebuild();
    }

    /// Brings the separator and the totals of a child up to date after the entry at the probe came or went below it.
    fn refresh(&mut self, at: usize, probe: &Probe<'_>) {
        let Some(child) = self.children.get(at).and_then(Option::as_ref) else { return };
        let totals = child.totals();
        // Only what happened at or before the first key can have changed it.
        if probe.key <= child.key() {
            self.heads.changed(at, &self.children);
        }
        self.set_totals(at, totals);
    }

    fn set_totals(&mut self, at: usize, totals: Totals) {
        if let Some(slot) = self.totals.get_mut(at) {
            *slot = totals;
        }
    }

    fn balance(&mut self, right: &mut Self) {
        slots::balance(&mut self.children, &mut right.children);
        self.rebuild();
        right.rebuild();
    }

    fn rebuild(&mut self) {
        *self = Self::new(std::mem::replace(&mut self.children, slots::empty()));
    }
}

/// Where a full node is split for an entry that comes at a position: in the middle, but for one behind all others further
/// to the right, so that regions which come in key order leave fuller nodes behind.
fn split_point(at: usize) -> usize {
    if at == WIDTH { WIDTH - MIN } else { WIDTH / 2 }
}
