//! The nodes of the key index: a [`Leaf`] leads to regions, a [`Branch`] to nodes below it.
//!
//! Nodes are shared between versions and never changed while they are. An edit changes in place those that its own version
//! alone holds, and copies the others, so that within one changeset a node is copied once.

use triomphe::Arc;

use super::heads::{Heads, Probe, WIDTH};
use super::slots::{Keyed, Slots, key_at};
use crate::prefetch;
use crate::region::Region;

/// What is below a node, added up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Totals {
    pub(super) regions: usize,
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self { regions: sum.regions + one.regions })
    }
}

/// Regions, ordered by start key.
pub(super) struct Leaf {
    pub(super) heads: Heads,
    pub(super) links: Links,
    pub(super) regions: Slots<Region>,
}

/// Bit `i`: the region at `i` ends where the one at `i + 1` begins. With it a lookup knows from the search alone that a
/// region owns the key, and does not have to read where it ends.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Links(u32);

/// Nodes of one height, ordered by the first start key below each.
///
/// That key is exactly the one that the search compares with, always: a separator never outlives the region it came from.
pub(super) struct Branch {
    pub(super) heads: Heads,
    pub(super) totals: [Totals; WIDTH],
    pub(super) children: Slots<Node>,
}

#[derive(Clone)]
pub(super) enum Node {
    Leaf(Arc<Leaf>),
    Branch(Arc<Branch>),
}

/// A copy raises the reference count of every region, each in memory of its own: asked for first, they come together.
impl Clone for Leaf {
    fn clone(&self) -> Self {
        self.regions.iter().flatten().for_each(Region::prefetch_count);
        Self { heads: self.heads.clone(), links: self.links, regions: self.regions.clone() }
    }
}

/// The last version that holds a leaf lowers the same counts; they may have left the cache since.
impl Drop for Leaf {
    fn drop(&mut self) {
        self.regions.iter().flatten().for_each(Region::prefetch_count);
    }
}

/// As for a leaf, with the reference counts of its children.
impl Clone for Branch {
    fn clone(&self) -> Self {
        self.children.iter().flatten().for_each(Node::prefetch_count);
        Self { heads: self.heads.clone(), totals: self.totals, children: self.children.clone() }
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        self.children.iter().flatten().for_each(Node::prefetch_count);
    }
}

impl Leaf {
    pub(super) fn new(regions: Slots<Region>) -> Self {
        let mut leaf = Self { heads: Heads::of(&regions), links: Links::default(), regions };
        leaf.relink();
        leaf
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    #[inline(always)]
    pub(super) fn region(&self, at: usize) -> Option<&Region> {
        self.regions.get(at)?.as_ref()
    }

    /// How many regions begin at or before the probe.
    #[inline(always)]
    pub(super) fn position(&self, probe: &Probe<'_>) -> usize {
        self.heads.position(probe, &self.regions)
    }

    /// The region that owns the probe's key.
    #[inline(always)]
    pub(super) fn locate(&self, probe: &Probe<'_>) -> Option<&Region> {
        // The search leaves it to its last step which of the handles is read.
        prefetch::value(&self.regions);
        let at = self.position(probe).checked_sub(1)?;
        let region = self.region(at)?;
        region.prefetch();
        (self.links.get(at) || region.end_key().is_after(probe.key)).then_some(region)
    }

    /// Looks anew whether the region at a position touches its neighbours.
    pub(super) fn relink_at(&mut self, at: usize) {
        for left in at.saturating_sub(1)..=at {
            let touches = self.touches_next(left);
            self.links.set(left, touches);
        }
    }

    pub(super) fn relink(&mut self) {
        self.links = Links::default();
        for at in 0..self.len() {
            let touches = self.touches_next(at);
            self.links.set(at, touches);
        }
    }

    fn touches_next(&self, at: usize) -> bool {
        match (self.region(at), self.region(at + 1)) {
            (Some(left), Some(right)) => left.range().touches(right.range()),
            _ => false,
        }
    }
}

impl Links {
    #[inline(always)]
    pub(super) fn get(self, at: usize) -> bool {
        self.0 >> at & 1 == 1
    }

    fn set(&mut self, at: usize, linked: bool) {
        self.0 = self.0 & !(1 << at) | u32::from(linked) << at;
    }

    /// Makes room for a bit at a position.
    pub(super) fn insert(&mut self, at: usize) {
        let below = !(u32::MAX << at);
        self.0 = self.0 & below | (self.0 & !below) << 1;
    }

    /// The bits from a position on leave; the one in front of it has lost its neighbour.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let right = Self(self.0 >> at);
        self.0 &= !(u32::MAX << at.saturating_sub(1));
        right
    }

    pub(super) fn remove(&mut self, at: usize) {
        let below = !(u32::MAX << at);
        self.0 = self.0 & below | (self.0 >> 1) & !below;
    }
}

impl Branch {
    pub(super) fn new(children: Slots<Node>) -> Self {
        let heads = Heads::of(&children);
        let totals = children.each_ref().map(|child| child.as_ref().map_or(Totals::default(), Node::totals));
        Self { heads, totals, children }
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    #[inline(always)]
    pub(super) fn child(&self, at: usize) -> Option<&Node> {
        self.children.get(at)?.as_ref()
    }

    /// Where to go down for the probe: the last child that begins at or before it, or the first one.
    #[inline(always)]
    pub(super) fn position(&self, probe: &Probe<'_>) -> usize {
        self.heads.position(probe, &self.children).saturating_sub(1)
    }

    /// What lies below the children in front of a position.
    pub(super) fn totals_before(&self, at: usize) -> Totals {
        self.totals.iter().take(at).copied().sum()
    }
}

impl Node {
    /// Starts loading what a search reads.
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        match self {
            Self::Leaf(leaf) => prefetch::value(&**leaf),
            Self::Branch(branch) => prefetch::value(&branch.heads),
        }
    }

    /// The count lies just in front of the node.
    fn prefetch_count(&self) {
        match self {
            Self::Leaf(leaf) => prefetch::lines(leaf.as_ptr().cast(), 1),
            Self::Branch(branch) => prefetch::lines(branch.as_ptr().cast(), 1),
        }
    }

    pub(super) fn leaf(leaf: Leaf) -> Self {
        Self::Leaf(Arc::new(leaf))
    }

    pub(super) fn branch(branch: Branch) -> Self {
        Self::Branch(Arc::new(branch))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len(),
            Self::Branch(branch) => branch.len(),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        match self {
            Self::Leaf(leaf) => Totals { regions: leaf.len() },
            Self::Branch(branch) => branch.totals_before(WIDTH),
        }
    }
}

/// The first start key below a node: that of its first leaf, as many steps down as the tree is high.
impl Keyed for Node {
    fn key(&self) -> &[u8] {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => return key_at(&leaf.regions, 0),
                Self::Branch(branch) => match branch.child(0) {
                    Some(child) => node = child,
                    None => return &[],
                },
            }
        }
    }
}
