//! A random region: what a placement service asks for when it looks for something to move.
//!
//! The caller brings the randomness: `draw(n)` returns a number below `n`, each with the same probability; `n` is never 0.

use super::Snapshot;
use crate::ids::{RegionId, StoreId};
use crate::index::{Entry, Index};
use crate::keys::KeyRange;
use crate::peer::PeerClass;
use crate::region::Region;

/// How often a region is drawn that may turn out not to be wanted, before all of them are looked at.
const TRIES: usize = 64;

impl Snapshot {
    /// A region that lies wholly inside one of the ranges, each with the same probability, also where ranges overlap;
    /// `None` if there is none. No ranges mean the whole key space.
    ///
    /// O(ranges log regions) as long as the ranges do not overlap much; no lock, no allocation.
    #[must_use]
    pub fn random_region_in(&self, ranges: &[KeyRange<'_>], draw: &mut impl FnMut(u64) -> u64) -> Option<Entry<'_>> {
        Wanted { index: self.index(), on: None, ranges: or_all(ranges) }.draw(draw)
    }

    /// A region that has a peer of that class on a store and lies wholly inside one of the ranges, each with the same
    /// probability; `None` if there is none. No ranges mean the whole key space.
    ///
    /// Draws from the store's regions or from those in the ranges, of whichever there are fewer. If few of these are wanted
    /// it has to look at all of them: O(ranges log regions) a draw, at most 64 draws, then O(regions of that side). No lock,
    /// no allocation.
    #[must_use]
    pub fn random_region_on(
        &self,
        store: StoreId,
        class: PeerClass,
        ranges: &[KeyRange<'_>],
        draw: &mut impl FnMut(u64) -> u64,
    ) -> Option<Entry<'_>> {
        Wanted { index: self.index(), on: Some((store, class)), ranges: or_all(ranges) }.draw(draw)
    }
}

fn or_all<'r>(ranges: &'r [KeyRange<'r>]) -> &'r [KeyRange<'r>] {
    if ranges.is_empty() { &[KeyRange::ALL] } else { ranges }
}

/// Which regions will do.
#[derive(Clone, Copy)]
struct Wanted<'a, 'r> {
    index: &'a Index,
    on: Option<(StoreId, PeerClass)>,
    ranges: &'r [KeyRange<'r>],
}

impl<'a> Wanted<'a, '_> {
    fn draw(&self, draw: &mut impl FnMut(u64) -> u64) -> Option<Entry<'a>> {
        // The last region that starts in a range may reach out of it: one that is drawn in vain.
        let in_ranges = self.ranges.iter().map(|range| self.index.starting_in(*range).len()).sum();
        let region = match self.on {
            Some((store, class)) if self.index.stores().count(store, class) <= in_ranges => {
                let stores = self.index.stores();
                let nth = |nth| self.by_id(stores.select(store, class, nth)?);
                let all = stores.regions(store, class).filter_map(|id| self.by_id(id));
                sample(stores.count(store, class), nth, all, draw)
            }
            _ => sample(in_ranges, |nth| self.by_key(nth), self.all_by_key(), draw),
        };
        self.index.get(region?.id())
    }

    /// A region of the store, if it lies inside a range.
    fn by_id(&self, id: RegionId) -> Option<&'a Region> {
        let region = self.index.get(id)?.region();
        self.range_of(region).map(|_| region)
    }

    /// The region of that number among those that start in the ranges, if it will do.
    fn by_key(&self, mut nth: usize) -> Option<&'a Region> {
        for (at, range) in self.ranges.iter().enumerate() {
            let mut regions = self.index.starting_in(*range);
            match nth.checked_sub(regions.len()) {
                None => return regions.nth(nth).filter(|region| self.is_wanted(at, region)),
                Some(behind) => nth = behind,
            }
        }
        None
    }

    fn all_by_key(self) -> impl Iterator<Item = &'a Region> {
        let ranges = self.ranges.iter().enumerate();
        ranges.flat_map(move |(at, range)| {
            self.index.starting_in(*range).filter(move |region| self.is_wanted(at, region))
        })
    }

    /// Whether a region that was found in a range will do. Where ranges overlap, it counts in the first of them only.
    fn is_wanted(&self, found_in: usize, region: &Region) -> bool {
        let has_peer = |(store, class): (_, PeerClass)| region.peer_on(store).is_some_and(|peer| class.includes(peer));
        self.on.is_none_or(has_peer) && self.range_of(region) == Some(found_in)
    }

    /// The first range that the region lies wholly inside of.
    fn range_of(&self, region: &Region) -> Option<usize> {
        self.ranges.iter().position(|range| range.start <= region.start_key() && region.end_key() <= range.end)
    }
}

/// One of `count` candidates that will do: `nth` returns a candidate if it does, `all` are those that do.
fn sample<'a>(
    count: usize,
    nth: impl Fn(usize) -> Option<&'a Region>,
    all: impl Iterator<Item = &'a Region>,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<&'a Region> {
    for _ in 0..TRIES.min(count) {
        if let Some(region) = nth(draw(count as u64) as usize) {
            return Some(region);
        }
    }
    // Each takes the place of the one before it with a probability that leaves all of them the same chance.
    (1..).zip(all).fold(None, |chosen, (so_far, region)| if draw(so_far) == 0 { Some(region) } else { chosen })
}
