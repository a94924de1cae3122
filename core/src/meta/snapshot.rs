//! [`Snapshot`]: one consistent state of the whole map.

use std::fmt;

use super::validate::{self, Violation};
use crate::ids::{RegionId, Sequence};
use crate::index::{Entry, Index};
use crate::keys::{EndKey, KeyRange};
use crate::region::Region;
use crate::sync::Arc;

/// Everything that is published together.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) index: Index,
    pub(super) sequence: Sequence,
}

/// All regions as they were at one sequence number. Cloning shares it; reading never waits and never allocates.
///
/// It stays as it is for as long as it is held, and keeps the memory of its version for as long.
#[derive(Clone)]
pub struct Snapshot {
    root: Arc<Root>,
}

impl Snapshot {
    pub(super) fn new(root: Arc<Root>) -> Self {
        Self { root }
    }

    pub(super) fn index(&self) -> &Index {
        &self.root.index
    }

    /// The number of the changeset, or of the [report](crate::StoreMeta::report), that made this state.
    #[must_use]
    #[inline]
    pub fn sequence(&self) -> Sequence {
        self.root.sequence
    }

    /// The region that owns `key`; `None` if the key lies in a hole, which another store may own. O(log regions).
    #[must_use]
    #[inline]
    pub fn locate(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.root.index.locate(key)
    }

    /// The regions that own `keys`, looked up sixteen at a time so that their cache misses overlap. Fills as many places of
    /// `found` as there are keys. The way to route a batch; for a single key [`locate`](Self::locate) is cheaper.
    #[inline]
    pub fn locate_many<'a>(&'a self, keys: &[&[u8]], found: &mut [Option<Entry<'a>>]) {
        self.root.index.locate_many(keys, found);
    }

    /// The region that ends at `end` or contains it, seen from below: where a scan that goes down from `end` begins. `None`
    /// if nothing lies just below. O(log regions).
    #[must_use]
    pub fn locate_end_key(&self, end: EndKey<'_>) -> Option<Entry<'_>> {
        self.root.index.locate_end_key(end)
    }

    /// The last region that starts before `key`: given a region's start key, its predecessor, whether or not the two touch.
    /// O(log regions).
    #[must_use]
    pub fn region_before(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.root.index.before(key)
    }

    /// The first region that starts after `key`: given a region's start key, its successor, whether or not the two touch.
    /// O(log regions).
    #[must_use]
    pub fn region_after(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.root.index.after(key)
    }

    /// The region with this id. O(log regions) with a wide base: a few cached loads.
    #[must_use]
    #[inline]
    pub fn get(&self, id: RegionId) -> Option<Entry<'_>> {
        self.root.index.get(id)
    }

    /// The number of regions. O(1).
    #[must_use]
    pub fn len(&self) -> usize {
        self.root.index.len()
    }

    /// Whether there is no region.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All regions in key order, lazily; `rev()` walks down.
    pub fn regions(&self) -> impl DoubleEndedIterator<Item = &Region> + ExactSizeIterator {
        self.root.index.iter()
    }

    /// The regions that share a key with `range`, in key order, lazily; `rev()` walks down. O(log regions) to begin, and to
    /// count: `overlapping(range).len()` visits no region.
    pub fn overlapping<'a>(
        &'a self,
        range: KeyRange<'_>,
    ) -> impl DoubleEndedIterator<Item = &'a Region> + ExactSizeIterator + use<'a> {
        self.root.index.overlapping(range)
    }

    /// The regions whose start key is in `range`, in key order, lazily; otherwise as [`overlapping`](Self::overlapping).
    pub fn starting_in<'a>(
        &'a self,
        range: KeyRange<'_>,
    ) -> impl DoubleEndedIterator<Item = &'a Region> + ExactSizeIterator + use<'a> {
        self.root.index.starting_in(range)
    }

    /// Calls `visit` with every region that differs between this state and a `later` one, as it is before and after, in
    /// order of ids. Costs in proportion to what changed, however many regions there are.
    pub fn diff<'a>(&'a self, later: &'a Self, visit: impl FnMut(Option<Entry<'a>>, Option<Entry<'a>>)) {
        self.root.index.diff(&later.root.index, visit);
    }

    /// Where the root of this state lies: for the test that shows that addresses come back and deceive nobody.
    #[cfg(feature = "testkit")]
    #[must_use]
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.root) as usize
    }

    /// Checks the invariants of this state: I1 (no overlap), I11 (all indexes agree) and I13 (every region is well-formed
    /// and live). O(regions); for tests, tools and checker threads.
    #[must_use]
    pub fn validate(&self) -> Vec<Violation> {
        validate::state(self)
    }

    /// Checks what must hold between this state and a `later` one: I1 (what was covered is covered), I2 and I3 (no region
    /// went back). O(regions).
    ///
    /// Two states do not say why a region gave up keys. `may_leave_hole` names those of this state that were allowed to,
    /// because they were destroyed, replaced by a Raft snapshot, or [left](crate::Changeset::leave) keys to a region of
    /// another changeset in between; whether they went back is checked all the same.
    /// Where neither happens, that is `|_| false`.
    #[must_use]
    pub fn validate_change_to(&self, later: &Self, may_leave_hole: impl Fn(RegionId) -> bool) -> Vec<Violation> {
        validate::change(self, later, may_leave_hole)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("sequence", &self.sequence()).field("regions", &self.len()).finish()
    }
}
