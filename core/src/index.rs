//! The two indexes of a root, by key and by id, as one persistent value: an edit works on a copy that shares what it does
//! not touch, so a snapshot that is held keeps its own version for ever.
//!
//! Both maps come from a library (`imbl`) and hold handles to the same allocations; nobody outside this file can change one
//! without the other (I11).

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;

use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdSet};

use crate::ids::{RegionId, Sequence};
use crate::keys::KeyRange;
use crate::region::Region;

type IdMap = GenericHashMap<RegionId, Entry, std::hash::BuildHasherDefault<IdHasher>, DefaultSharedPtr>;

/// A region as the index holds it: the shared descriptor, and when it last changed.
#[derive(Clone)]
pub struct Entry {
    region: Region,
    changed_at: Sequence,
}

impl Entry {
    /// The region. Cloning the handle shares the allocation.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The sequence number of the changeset that last changed this region: the version counter that a change computed
    /// from this entry must name.
    #[must_use]
    pub fn changed_at(&self) -> Sequence {
        self.changed_at
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changed at {:?}", self.region, self.changed_at)
    }
}

/// Regions ordered by start key, and the same regions by id.
#[derive(Clone, Default)]
pub(crate) struct Index {
    by_key: OrdSet<ByStart>,
    by_id: IdMap,
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The number of regions in the key index; equal to [`len`](Self::len), or I11 is broken.
    pub(crate) fn len_by_key(&self) -> usize {
        self.by_key.len()
    }

    /// The region that owns `key`.
    pub(crate) fn locate(&self, key: &[u8]) -> Option<&Entry> {
        let ByStart(region) = self.by_key.get_prev(key)?;
        region.end_key().is_after(key).then(|| self.get(region.id()))?
    }

    pub(crate) fn get(&self, id: RegionId) -> Option<&Entry> {
        self.by_id.get(&id)
    }

    /// All regions in key order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Region> {
        self.by_key.iter().map(|ByStart(region)| region)
    }

    /// The regions that share a key with `range`, in key order.
    pub(crate) fn overlapping<'a>(&'a self, range: KeyRange<'a>) -> impl Iterator<Item = &'a Region> {
        let first = self.locate(range.start).map_or(range.start, |entry| entry.region.start_key());
        self.by_key
            .range::<(Bound<&[u8]>, Bound<&[u8]>), [u8]>((Bound::Included(first), Bound::Unbounded))
            .map(|ByStart(region)| region)
            .take_while(move |region| range.end.is_after(region.start_key()))
    }

    /// Puts in a region whose id and range are free.
    pub(crate) fn insert(&mut self, region: Region, changed_at: Sequence) {
        self.by_key.insert(ByStart(region.clone()));
        self.by_id.insert(region.id(), Entry { region, changed_at });
    }

    pub(crate) fn remove(&mut self, id: RegionId) {
        if let Some(Entry { region, .. }) = self.by_id.remove(&id) {
            self.by_key.remove(region.start_key());
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A region that sorts by its start key and can be looked up by bytes: the key index stores no copy of any key.
#[derive(Clone)]
struct ByStart(Region);

impl Borrow<[u8]> for ByStart {
    fn borrow(&self) -> &[u8] {
        self.0.start_key()
    }
}

impl PartialEq for ByStart {
    fn eq(&self, other: &Self) -> bool {
        self.0.start_key() == other.0.start_key()
    }
}

impl Eq for ByStart {}

impl PartialOrd for ByStart {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByStart {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.start_key().cmp(other.0.start_key())
    }
}

/// Region ids come from an allocator and need spreading only: a Fibonacci multiplication.
#[derive(Clone, Copy, Default)]
struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let spread = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }
}
