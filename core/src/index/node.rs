//! The nodes of the key index: a [`Leaf`] leads to regions, a [`Branch`] to nodes below it.
//!
//! Nodes are shared between versions and never changed while they are. An edit changes in place those that its own version
//! made, and copies the others, so that within one changeset a node is copied once.

use super::heads::{Guess, Heads, WIDTH};
use super::own::{self, ChildRef, Kept, Node};
use super::radix::Radix;
use super::slots::{self, Keyed, Slots, key_at};
use crate::prefetch;
use crate::region::Region;
use crate::stats::Stats;

/// What is below a node, or below some of its entries, added up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Totals {
    pub(super) regions: usize,
    pub(super) stats: Stats,
}

impl Totals {
    /// One region, of which `stats` were reported.
    pub(super) fn of_region(stats: Option<&Stats>) -> Self {
        Self { regions: 1, stats: stats.map_or(Stats::default(), |stats| stats.countable()) }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let Stats { size_bytes, keys } = other.stats;
        // No sum of countable stats is near the largest number, and a difference is undone by what it is added to.
        let stats = Stats {
            size_bytes: self.stats.size_bytes.wrapping_add(size_bytes),
            keys: self.stats.keys.wrapping_add(keys),
        };
        Self { regions: self.regions.wrapping_add(other.regions), stats }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        let Stats { size_bytes, keys } = other.stats;
        let negative = Stats { size_bytes: size_bytes.wrapping_neg(), keys: keys.wrapping_neg() };
        self.plus(Self { regions: other.regions.wrapping_neg(), stats: negative })
    }
}

/// Bit `i`: the region at `i` ends where the one at `i + 1` begins. With it a lookup knows from the search alone that a
/// region owns the key, and does not have to read where it ends.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Links(u32);

/// Regions, ordered by start key.
#[repr(C)]
pub(super) struct Leaf {
    pub(super) heads: Heads,
    pub(super) regions: Slots<Kept>,
}

/// Where a key falls among the regions of a leaf.
#[derive(Clone, Copy)]
pub(super) struct Position {
    /// How many of them begin at or before the key.
    pub(super) at: usize,
    /// The last of these begins with the key.
    pub(super) starts_there: bool,
}

/// Nodes of one height, ordered by the first start key below each.
///
/// That key is exactly the one that the search compares with, always: a separator never outlives the region it came from.
#[repr(C)]
pub(super) struct Branch {
    pub(super) heads: Heads,
    pub(super) children: Slots<Child>,
    /// How many regions are below each child.
    pub(super) regions: [u32; WIDTH],
    /// What was reported of them, added up.
    pub(super) stats: [Stats; WIDTH],
}

// SAFETY: plain numbers, and slots of `Kept` and `Child`.
#[expect(unsafe_code, reason = "nodes are copied as bytes")]
unsafe impl Node for Leaf {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "nodes are copied as bytes")]
unsafe impl Node for Branch {}

/// Leads to a node of the key index.
pub(super) type Child = own::Child<Leaf, Branch>;

/// What a search reads of a node before it goes further: its version, columns and heads.
const SEARCH_BYTES: usize = 64 + WIDTH * 8;

impl Leaf {
    pub(super) fn new(regions: Slots<Kept>) -> Self {
        let mut leaf = Self { heads: Heads::of(&regions), regions };
        leaf.relink_all();
        leaf
    }

    pub(super) fn len(&self) -> usize {
        slots::len(&self.regions)
    }

    #[inline(always)]
    pub(super) fn region(&self, at: usize) -> Option<&Region> {
        self.regions.get(at)?.as_deref()
    }

    /// The region that owns the key, if this leaf can tell. `None` proves nothing: the search may have come to the wrong leaf.
    #[inline(always)]
    pub(super) fn locate(&self, key: &[u8]) -> Option<&Region> {
        self.confirm(self.heads.guess(key), key)
    }

    /// As [`locate`](Self::locate), from what the heads said.
    #[inline(always)]
    pub(super) fn confirm(&self, guess: Guess, key: &[u8]) -> Option<&Region> {
        let at = guess.position.checked_sub(1)?;
        let region = self.region(at)?;
        let is_owner = !guess.is_tie && self.heads.suits(key) && self.heads.links.get(at);
        (is_owner || owns(region, key)).then_some(region)
    }

    /// What the heads say, on the way to which the slot that it leads to is asked for.
    #[inline(always)]
    pub(super) fn guess_and_prefetch(&self, key: &[u8]) -> (&Self, Guess) {
        let guess = self.heads.guess(key);
        self.regions.get(guess.position.saturating_sub(1)).into_iter().for_each(prefetch::value);
        (self, guess)
    }

    /// Where the key falls, if this leaf can tell.
    pub(super) fn position(&self, key: &[u8]) -> Option<Position> {
        let guess = self.heads.guess(key);
        let at = guess.position.checked_sub(1)?;
        let region = self.region(at)?;
        let is_between = !guess.is_tie && self.heads.suits(key) && self.region(guess.position).is_some();
        if is_between {
            return Some(Position { at: guess.position, starts_there: false });
        }
        owns(region, key).then(|| Position { at: guess.position, starts_there: region.start_key() == key })
    }

    /// Where the key falls, if it is at home here.
    pub(super) fn position_by_keys(&self, key: &[u8]) -> Position {
        let at = self.heads.position(key, &self.regions);
        let floor = at.checked_sub(1).and_then(|at| self.region(at));
        Position { at, starts_there: floor.is_some_and(|floor| floor.start_key() == key) }
    }

    /// The regions in front of a position, and what was reported of them.
    pub(super) fn totals_before(&self, position: usize, stats: &Radix<Stats>) -> Totals {
        let regions = self.regions.iter().take(position).flatten();
        if stats.weight() == 0 {
            return Totals { regions: regions.count(), stats: Stats::default() };
        }
        regions.fold(Totals::default(), |sum, region| sum.plus(Totals::of_region(stats.get(region.id().get()))))
    }

    /// Looks anew whether the region at a position touches its neighbours.
    pub(super) fn relink_around(&mut self, at: usize) {
        (at.saturating_sub(1)..=at).for_each(|left| self.relink(left));
    }

    /// Looks anew whether the region at a position touches the next one.
    pub(super) fn relink(&mut self, at: usize) {
        let touches = self.touches_next(at);
        self.heads.links.set(at, touches);
    }

    pub(super) fn relink_all(&mut self) {
        self.heads.links = Links::default();
        (0..self.len()).for_each(|at| self.relink(at));
    }

    fn touches_next(&self, at: usize) -> bool {
        match (self.region(at), self.region(at + 1)) {
            (Some(left), Some(right)) => left.range().touches(right.range()),
            _ => false,
        }
    }
}

/// Not in line: most lookups know without reading the region's keys.
#[inline(never)]
fn owns(region: &Region, key: &[u8]) -> bool {
    region.range().contains(key)
}

impl Links {
    #[inline(always)]
    pub(super) fn get(self, at: usize) -> bool {
        self.0.checked_shr(at as u32).is_some_and(|links| links & 1 == 1)
    }

    pub(super) fn set(&mut self, at: usize, linked: bool) {
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
    pub(super) fn new(children: Slots<Child>, stats: &Radix<Stats>) -> Self {
        let heads = Heads::of(&children);
        let mut branch = Self { heads, children, regions: [0; WIDTH], stats: [Stats::default(); WIDTH] };
        for at in 0..branch.len() {
            branch.measure(at, stats);
        }
        branch
    }

    /// Adds up anew what is below a child.
    pub(super) fn measure(&mut self, at: usize, stats: &Radix<Stats>) {
        let totals = self.child(at).map_or(Totals::default(), |child| child.totals(stats));
        self.set_totals(at, totals);
    }

    pub(super) fn totals_at(&self, at: usize) -> Totals {
        let regions = self.regions.get(at).copied().unwrap_or(0) as usize;
        Totals { regions, stats: self.stats.get(at).copied().unwrap_or_default() }
    }

    pub(super) fn set_totals(&mut self, at: usize, totals: Totals) {
        if let (Some(regions), Some(stats)) = (self.regions.get_mut(at), self.stats.get_mut(at)) {
            // A subtree of more than four billion regions does not fit into memory.
            (*regions, *stats) = (totals.regions as u32, totals.stats);
        }
    }

    pub(super) fn len(&self) -> usize {
        slots::len(&self.children)
    }

    #[inline(always)]
    pub(super) fn child(&self, at: usize) -> Option<&Child> {
        self.children.get(at)?.as_ref()
    }

    /// Where to go down for the key, as far as the heads can tell: the last child that begins at or before it, or the first.
    #[inline(always)]
    pub(super) fn position(&self, key: &[u8]) -> usize {
        let guess = self.heads.guess(key);
        if guess.is_tie { self.position_by_keys(key) } else { guess.position.saturating_sub(1) }
    }

    /// Where to go down for the key.
    #[cold]
    #[inline(never)]
    pub(super) fn position_by_keys(&self, key: &[u8]) -> usize {
        self.heads.position(key, &self.children).saturating_sub(1)
    }

    /// How many regions lie below the children in front of a position.
    #[inline]
    pub(super) fn regions_before(&self, at: usize) -> usize {
        // Without a branch on the position.
        let counts = self.regions.iter().enumerate().map(|(place, regions)| if place < at { *regions } else { 0 });
        counts.sum::<u32>() as usize
    }

    /// What lies below the children in front of a position.
    pub(super) fn totals_before(&self, at: usize) -> Totals {
        (0..at).fold(Totals::default(), |sum, at| sum.plus(self.totals_at(at)))
    }
}

impl Child {
    /// Starts loading what a search reads.
    #[inline(always)]
    pub(super) fn prefetch_search(&self) {
        self.prefetch(SEARCH_BYTES);
    }

    pub(super) fn len(&self) -> usize {
        match self.get() {
            ChildRef::Leaf(leaf) => leaf.len(),
            ChildRef::Branch(branch) => branch.len(),
        }
    }

    /// How many regions are below.
    pub(super) fn regions(&self) -> usize {
        match self.get() {
            ChildRef::Leaf(leaf) => leaf.len(),
            ChildRef::Branch(branch) => branch.regions_before(WIDTH),
        }
    }

    pub(super) fn totals(&self, stats: &Radix<Stats>) -> Totals {
        match self.get() {
            ChildRef::Leaf(leaf) => leaf.totals_before(WIDTH, stats),
            ChildRef::Branch(branch) => branch.totals_before(WIDTH),
        }
    }
}

impl Keyed for Kept {
    #[inline]
    fn key(&self) -> &[u8] {
        self.start_key()
    }
}

/// The first start key below a node: that of its first leaf, as many steps down as the tree is high.
impl Keyed for Child {
    fn key(&self) -> &[u8] {
        let mut node = self;
        loop {
            match node.get() {
                ChildRef::Leaf(leaf) => return key_at(&leaf.regions, 0),
                ChildRef::Branch(branch) => match branch.child(0) {
                    Some(child) => node = child,
                    None => return &[],
                },
            }
        }
    }
}
