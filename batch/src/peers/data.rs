//! Whose data is to be deleted: the keys that a region leaves, cut by what other regions own now.
//!
//! Between the moment in which nobody owns a range and the moment in which its data is gone, nobody may take the range: a
//! late deletion would hit the new owner. Splits and merges only share out keys that are owned, so a snapshot is the only way
//! to new keys, and none is accepted for a range that waits. The other way round, a snapshot that was accepted brings its
//! whole range anew, so nothing in it needs to be deleted; what was left out for it is deleted if it does not come.

use std::fmt;

use regionmeta::{EndKey, KeyRange, Region};

use super::snapshot::Accepted;
use super::{Effect, Peers, State};
use crate::storage::Storage;

/// A range of keys that owns its bounds.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DataRange {
    start: Box<[u8]>,
    /// Empty: unbounded.
    end: Box<[u8]>,
}

impl DataRange {
    /// The range.
    #[must_use]
    pub fn as_range(&self) -> KeyRange<'_> {
        KeyRange::from_wire(&self.start, &self.end)
    }
}

impl From<KeyRange<'_>> for DataRange {
    fn from(range: KeyRange<'_>) -> Self {
        Self { start: range.start.into(), end: range.end.to_wire().into() }
    }
}

impl fmt::Debug for DataRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_range(), f)
    }
}

/// Ranges whose data the host was asked to delete. No two overlap.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    pending: Vec<DataRange>,
    /// Left to snapshots that were accepted and are not persisted. No two overlap.
    left_to_snapshots: Vec<DataRange>,
}

impl Deletions {
    pub(super) fn overlapped_by(&self, range: KeyRange<'_>) -> Option<&DataRange> {
        self.pending.iter().find(|pending| pending.as_range().overlaps(range))
    }

    /// Takes in ranges that nobody owns. What is to be deleted of them now.
    fn add(&mut self, holes: Vec<KeyRange<'_>>, accepted: &Accepted) -> Vec<DataRange> {
        let known = self.pending.iter().chain(&self.left_to_snapshots);
        let holes = without_all(holes, known.map(DataRange::as_range));
        let mut left = Vec::new();
        for region in accepted.regions() {
            left.extend(holes.iter().filter_map(|hole| intersection(*hole, region.range())).map(DataRange::from));
        }
        let free = without_all(holes, accepted.regions().map(Region::range));
        let free: Vec<_> = free.into_iter().map(DataRange::from).collect();
        self.left_to_snapshots.extend(left);
        self.pending.extend(free.iter().cloned());
        free
    }
}

impl<S: Storage> Peers<S> {
    /// The data of a range is gone: the range may be taken again.
    pub fn data_deleted(&self, range: &DataRange) {
        self.lock().deletions.pending.retain(|pending| pending != range);
    }

    /// Asks for the deletion of all data that no region owns: what a crash has left of deletions. Call it after the store was
    /// opened.
    #[must_use]
    pub fn delete_unowned(&self) -> Vec<Effect> {
        self.delete_data([KeyRange::ALL])
    }

    /// Asks for the deletion of what nobody owns of these ranges, nobody is about to own, and nobody deletes already; and of
    /// what was left to snapshots that are not expected any more. Called whenever one of those has gone.
    pub(super) fn delete_data<'a>(&self, ranges: impl IntoIterator<Item = KeyRange<'a>>) -> Vec<Effect> {
        let mut state = self.lock();
        let State { accepted, deletions, .. } = &mut *state;
        let meta = self.store().meta().snapshot();
        let left_before = std::mem::take(&mut deletions.left_to_snapshots);
        let mut free = Vec::new();
        for range in ranges {
            free.extend(deletions.add(meta.holes(range).collect(), accepted));
        }
        for range in &left_before {
            free.extend(deletions.add(meta.holes(range.as_range()).collect(), accepted));
        }
        free.into_iter().map(|range| Effect::DeleteData { range }).collect()
    }
}

/// What is left of these ranges.
fn without_all<'a>(ranges: Vec<KeyRange<'a>>, taken: impl IntoIterator<Item = KeyRange<'a>>) -> Vec<KeyRange<'a>> {
    taken.into_iter().fold(ranges, |left, taken| left.into_iter().flat_map(|range| without(range, taken)).collect())
}

fn intersection<'a>(one: KeyRange<'a>, other: KeyRange<'a>) -> Option<KeyRange<'a>> {
    let common = KeyRange::new(one.start.max(other.start), one.end.min(other.end));
    Some(common).filter(|common| !common.is_empty())
}

/// What is left of a range on both sides of another.
fn without<'a>(range: KeyRange<'a>, taken: KeyRange<'a>) -> impl Iterator<Item = KeyRange<'a>> {
    let left = KeyRange::new(range.start, range.end.min(EndKey::Finite(taken.start)));
    let right = match taken.end {
        EndKey::Finite(end) => Some(KeyRange::new(range.start.max(end), range.end)),
        EndKey::Infinite => None,
    };
    [Some(left), right].into_iter().flatten().filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key by key, over all pairs of small ranges, empty and unbounded ones among them.
    #[test]
    fn what_is_left_of_a_range_is_what_the_other_has_not() {
        let keys = [&b""[..], b"a", b"b", b"c", b"d"];
        let ranges: Vec<_> =
            keys.iter().flat_map(|start| keys.iter().map(|end| KeyRange::from_wire(start, end))).collect();
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            for taken in ranges.iter().filter(|taken| !taken.is_empty()) {
                let left: Vec<_> = without(*range, *taken).collect();
                for key in keys {
                    let owners = left.iter().filter(|part| part.contains(key)).count();
                    assert_eq!(
                        owners,
                        usize::from(range.contains(key) && !taken.contains(key)),
                        "{range} {taken} {key:?}"
                    );
                    let is_common = intersection(*range, *taken).is_some_and(|common| common.contains(key));
                    assert_eq!(is_common, range.contains(key) && taken.contains(key), "{range} {taken} {key:?}");
                }
            }
        }
    }
}
