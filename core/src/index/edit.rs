//! Changing a version that nobody else can see yet.
//!
//! Going down, the editor owns each node on the way: one that an older version also uses is replaced by a copy. What an edit
//! leaves behind in each node that it came through: exact separators, exact totals, and at least [`MIN`] entries in every
//! node but the root.

use std::cmp::Ordering;

use super::heads::{Heads, WIDTH};
use super::node::{Branch, Child, Leaf, Totals};
use super::own::{ChildMut, ChildRef, Editor, Kept, Teardown};
use super::radix::Radix;
use super::slots;
use crate::region::Region;
use crate::stats::Stats;

/// The fewest entries of a node that is not the root. Well below half, so that a node that was just split or merged is not
/// at once merged or split again.
pub(super) const MIN: usize = WIDTH / 4;

/// What an edit works with: who owns what it changes, and what was reported of each region.
pub(super) struct Edit<'e> {
    pub(super) editor: &'e mut Editor,
    pub(super) stats: &'e Radix<Stats>,
}

/// The way down to an entry: the first step is for the node at hand.
type Steps<'a> = &'a [u8];

impl Child {
    /// Puts in a region, which counts for `totals`, in front of the entry at a position. Returns the new right neighbour of
    /// this node if it was split.
    pub(super) fn insert(
        &mut self,
        steps: Steps<'_>,
        region: Kept,
        totals: Totals,
        edit: &mut Edit<'_>,
    ) -> Option<Self> {
        let (&at, below) = steps.split_first()?;
        match edit.editor.own(self) {
            ChildMut::Leaf(leaf) => leaf.insert(at.into(), region).map(|right| edit.editor.leaf(right)),
            ChildMut::Branch(branch) => {
                let right = branch.insert(at.into(), below, region, totals, edit);
                right.map(|right| edit.editor.branch(right))
            }
        }
    }

    /// Takes out the region at the end of the way, which counts for `totals`.
    pub(super) fn remove(&mut self, steps: Steps<'_>, totals: Totals, edit: &mut Edit<'_>) -> Option<Kept> {
        let (&at, below) = steps.split_first()?;
        match edit.editor.own(self) {
            ChildMut::Leaf(leaf) => leaf.remove(at.into()),
            ChildMut::Branch(branch) => branch.remove(at.into(), below, totals, edit),
        }
    }

    /// Lets the region at the end of the way count for `gain` more. Leaves do not keep what regions count for.
    pub(super) fn count(&mut self, steps: Steps<'_>, gain: Totals, editor: &mut Editor) {
        let Some((&at, below)) = steps.split_first() else { return };
        if let ChildRef::Leaf(_) = self.get() {
            return;
        }
        if let ChildMut::Branch(branch) = editor.own(self) {
            branch.set_totals(at.into(), branch.totals_at(at.into()).plus(gain));
            if let Some(Some(child)) = branch.children.get_mut(usize::from(at)) {
                child.count(below, gain, editor);
            }
        }
    }

    /// Puts another version of a region, with the same start key, in its place, and returns the one before.
    pub(super) fn replace(&mut self, steps: Steps<'_>, region: Kept, editor: &mut Editor) -> Option<Kept> {
        let (&at, below) = steps.split_first()?;
        match editor.own(self) {
            ChildMut::Leaf(leaf) => leaf.replace(at.into(), region),
            ChildMut::Branch(branch) => {
                branch.children.get_mut(usize::from(at))?.as_mut()?.replace(below, region, editor)
            }
        }
    }

    /// Spreads the entries of two neighbours of one height; the right one may become empty.
    fn balance(&mut self, right: &mut Self, editor: &mut Editor) {
        match (editor.own(self), editor.own(right)) {
            (ChildMut::Leaf(left), ChildMut::Leaf(right)) => left.balance(right),
            (ChildMut::Branch(left), ChildMut::Branch(right)) => left.balance(right),
            _ => {} // neighbours have one height
        }
    }

    /// The root without branches that have only one child.
    pub(super) fn shrink(&mut self, editor: &mut Editor) {
        while let ChildRef::Branch(branch) = self.get()
            && let [Some(only), None, ..] = &branch.children
        {
            let only = only.share();
            editor.retire(std::mem::replace(self, only));
        }
    }

    /// Frees the whole subtree, with the regions in it.
    pub(super) fn tear_down(&self, teardown: &mut Teardown) {
        match self.get() {
            ChildRef::Leaf(leaf) => leaf.regions.iter().flatten().for_each(|region| teardown.region(region)),
            ChildRef::Branch(branch) => branch.children.iter().flatten().for_each(|child| child.tear_down(teardown)),
        }
        teardown.node(self);
    }
}

impl Leaf {
    fn insert(&mut self, at: usize, region: Kept) -> Option<Self> {
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
        Self { heads: self.heads.split_off(at), regions: slots::split_off(&mut self.regions, at) }
    }

    fn insert_at(&mut self, at: usize, region: Kept) {
        self.region(at).into_iter().for_each(Region::prefetch); // soon its right neighbour
        slots::insert(&mut self.regions, at, region);
        self.heads.inserted(at, &self.regions);
        self.heads.links.insert(at);
        self.relink_around(at);
    }

    fn remove(&mut self, at: usize) -> Option<Kept> {
        self.heads.remove(at);
        self.heads.links.remove(at);
        let region = slots::remove(&mut self.regions, at);
        self.relink_around(at);
        region
    }

    fn replace(&mut self, at: usize, region: Kept) -> Option<Kept> {
        let before = self.regions.get_mut(at)?.replace(region)?;
        // It begins where it began. A region that ends earlier than before no longer reaches the next one, which need not be
        // looked at; only one that ends later may.
        match self.region(at).map(|region| region.end_key().cmp(&before.end_key())) {
            Some(Ordering::Less) => self.heads.links.set(at, false),
            Some(Ordering::Greater) => self.relink(at),
            _ => {}
        }
        Some(before)
    }

    fn balance(&mut self, right: &mut Self) {
        slots::balance(&mut self.regions, &mut right.regions);
        self.rebuild();
        right.rebuild();
    }

    fn rebuild(&mut self) {
        self.heads = Heads::of(&self.regions);
        self.relink_all();
    }
}

impl Branch {
    fn insert(
        &mut self,
        at: usize,
        below: Steps<'_>,
        region: Kept,
        totals: Totals,
        edit: &mut Edit<'_>,
    ) -> Option<Self> {
        let split = self.children.get_mut(at)?.as_mut()?.insert(below, region, totals, edit);
        self.refresh(at, below);
        match split {
            None => {
                self.set_totals(at, self.totals_at(at).plus(totals));
                None
            }
            Some(right) => {
                self.measure(at, edit.stats);
                self.insert_child(at + 1, right, edit.stats)
            }
        }
    }

    fn insert_child(&mut self, at: usize, child: Child, stats: &Radix<Stats>) -> Option<Self> {
        if self.len() < WIDTH {
            self.insert_child_at(at, child, stats);
            return None;
        }
        let middle = split_point(at);
        let mut right = self.split_off(middle);
        if at > middle {
            right.insert_child_at(at - middle, child, stats);
        } else {
            self.insert_child_at(at, child, stats);
        }
        Some(right)
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self {
            heads: self.heads.split_off(at),
            children: slots::split_off(&mut self.children, at),
            regions: split_numbers(&mut self.regions, at),
            stats: split_numbers(&mut self.stats, at),
        }
    }

    fn insert_child_at(&mut self, at: usize, child: Child, stats: &Radix<Stats>) {
        slots::insert(&mut self.children, at, child);
        if let (Some(regions), Some(stats)) = (self.regions.get_mut(at..), self.stats.get_mut(at..)) {
            regions.rotate_right(1);
            stats.rotate_right(1);
        }
        self.measure(at, stats);
        self.heads.inserted(at, &self.children);
    }

    fn remove(&mut self, at: usize, below: Steps<'_>, totals: Totals, edit: &mut Edit<'_>) -> Option<Kept> {
        let child = self.children.get_mut(at)?.as_mut()?;
        let region = child.remove(below, totals, edit)?;
        if child.len() < MIN && self.len() > 1 {
            self.balance_children(at.saturating_sub(1), edit);
        } else {
            self.refresh(at, below);
            self.set_totals(at, self.totals_at(at).minus(totals));
        }
        Some(region)
    }

    /// Balances the child at `left` with its right neighbour, one of which has become too small.
    fn balance_children(&mut self, left: usize, edit: &mut Edit<'_>) {
        let Some([Some(first), Some(second)]) = self.children.get_mut(left..left + 2) else { return };
        first.balance(second, edit.editor);
        if second.len() == 0 {
            let empty = slots::remove(&mut self.children, left + 1);
            empty.into_iter().for_each(|empty| edit.editor.retire(empty));
            self.set_totals(left + 1, Totals::default());
            if let (Some(regions), Some(stats)) = (self.regions.get_mut(left + 1..), self.stats.get_mut(left + 1..)) {
                regions.rotate_left(1);
                stats.rotate_left(1);
            }
        } else {
            self.measure(left + 1, edit.stats);
        }
        self.measure(left, edit.stats);
        self.heads = Heads::of(&self.children);
    }

    /// Brings the separator of a child up to date after the entry at the end of `below` came or went.
    fn refresh(&mut self, at: usize, below: Steps<'_>) {
        // Only the first entry below is a separator.
        if below.iter().all(|step| *step == 0) {
            self.heads.changed(at, &self.children);
        }
    }

    fn balance(&mut self, right: &mut Self) {
        let totals = |branch: &Self| (0..branch.len()).map(|at| branch.totals_at(at)).collect::<Vec<_>>();
        let mut totals = [totals(self), totals(right)].concat().into_iter();
        slots::balance(&mut self.children, &mut right.children);
        for branch in [self, right] {
            branch.heads = Heads::of(&branch.children);
            let len = branch.len();
            (0..WIDTH).for_each(|at| {
                let totals = if at < len { totals.next() } else { None };
                branch.set_totals(at, totals.unwrap_or_default());
            });
        }
    }
}

/// The numbers from a position on leave.
fn split_numbers<T: Copy + Default>(numbers: &mut [T; WIDTH], at: usize) -> [T; WIDTH] {
    let mut right = *numbers;
    right.rotate_left(at.min(WIDTH));
    right.iter_mut().skip(WIDTH.saturating_sub(at)).for_each(|number| *number = T::default());
    numbers.iter_mut().skip(at).for_each(|number| *number = T::default());
    right
}

/// Where a full node is split for an entry that comes at a position: in the middle, but for one behind all others further
/// to the right, so that regions which come in key order leave fuller nodes behind.
fn split_point(at: usize) -> usize {
    if at == WIDTH { WIDTH - MIN } else { WIDTH / 2 }
}
