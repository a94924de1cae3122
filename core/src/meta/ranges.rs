//! What is asked about ranges and neighbours: how many regions, which holes, who touches whom, which keys go together.

use std::iter::FusedIterator;
use std::ops::Range;

use super::Snapshot;
use crate::ids::RegionId;
use crate::index::Entry;
use crate::keys::{EndKey, KeyRange};
use crate::region::Region;

/// The regions on both sides of a region that touch it: no key lies in between. `None` where a hole or the end of the key
/// space is.
#[derive(Clone, Copy, Debug)]
pub struct Siblings<'a> {
    /// The region that ends where this one begins.
    pub left: Option<Entry<'a>>,
    /// The region that begins where this one ends.
    pub right: Option<Entry<'a>>,
}

impl Snapshot {
    /// How many regions share a key with `range`. O(log regions), however many they are; no allocation.
    #[must_use]
    pub fn count(&self, range: KeyRange<'_>) -> usize {
        self.overlapping(range).len()
    }

    /// Whether every key of `range` is owned by some region; an empty range is. Stops at the first hole, and visits at most
    /// the regions that share a key with the range: O(log regions + those). No allocation.
    #[must_use]
    pub fn covers(&self, range: KeyRange<'_>) -> bool {
        self.holes(range).next().is_none()
    }

    /// The ranges of `within` that no region owns, in key order, lazily; none is empty and no two touch. O(log regions) to
    /// begin, then one step a region. No allocation: the holes borrow their keys from the regions around them.
    pub fn holes<'a>(&'a self, within: KeyRange<'a>) -> impl FusedIterator<Item = KeyRange<'a>> {
        let regions =
            self.index().overlapping(within).map(|region| (EndKey::Finite(region.start_key()), region.end_key()));
        let mut covered_to = Some(within.start);
        regions.chain([(within.end, EndKey::Infinite)]).filter_map(move |(start, end)| {
            let hole = KeyRange::new(covered_to?, start);
            covered_to = match end {
                EndKey::Finite(end) => Some(end),
                EndKey::Infinite => None,
            };
            (!hole.is_empty()).then_some(hole)
        })
    }

    /// The neighbours that touch a region; `None` if there is no such region. Three lookups, O(log regions); no allocation.
    #[must_use]
    pub fn siblings(&self, id: RegionId) -> Option<Siblings<'_>> {
        let range = self.get(id)?.region().range();
        // Regions do not overlap, so what reaches up to the start ends there, and what owns the end begins there.
        let left = self.locate_end_key(EndKey::Finite(range.start));
        let right = match range.end {
            EndKey::Finite(end) => self.locate(end),
            EndKey::Infinite => None,
        };
        Some(Siblings { left, right })
    }

    /// Groups sorted keys by the region that owns them, lazily: each group is the region and the positions of its keys.
    /// Keys in one hole are a group without a region. Every position is in exactly one group; keys that are not sorted may
    /// come in more groups than need be, or in a group of a region that does not own them.
    ///
    /// One lookup a group, O(log regions + log keys); no allocation.
    pub fn group_by_region<'a, K: AsRef<[u8]>>(
        &'a self,
        keys: &'a [K],
    ) -> impl FusedIterator<Item = (Option<Entry<'a>>, Range<usize>)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let (first, rest) = keys.get(from..)?.split_first()?;
            let (entry, end) = self.owner_and_end(first.as_ref());
            let group = from..from + 1 + rest.partition_point(|key| end.is_after(key.as_ref()));
            from = group.end;
            Some((entry, group))
        })
        .fuse()
    }

    /// The region that owns `key`, or nobody, and up to where that stays so.
    fn owner_and_end(&self, key: &[u8]) -> (Option<Entry<'_>>, EndKey<'_>) {
        let owner = self.locate(key);
        let next_start =
            || self.region_after(key).map_or(EndKey::Infinite, |next| EndKey::Finite(next.region().start_key()));
        (owner, owner.map(|entry| entry.region()).map_or_else(next_start, Region::end_key))
    }
}
