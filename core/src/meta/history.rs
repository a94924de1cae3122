//! The history: the last versions of a region, for whoever looks for the reason of something that already happened.
//!
//! Off until [`StoreMeta::keep_history`] is called, because it keeps old regions in memory. It is bounded twice: so many
//! versions of one region, so that a busy region does not drive out all others, and so many in all. It lies behind a lock
//! of its own, which writers take for a moment after the root was swapped, and debuggers when they ask; no other read path
//! knows it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::feed::Published;
use super::{Change, ReadHandle, StoreMeta};
use crate::ids::{RegionId, Sequence};

/// One version of a region that was published: what the change was, and why.
#[derive(Clone, Debug)]
pub struct Version {
    /// The number of the state that it came with.
    pub sequence: Sequence,
    /// The region as it was created or updated, and for what reason, or how it was removed.
    pub change: Change,
}

impl StoreMeta {
    /// Keeps the last versions of each region from now on, for [`history`](Self::history): at most `versions` of one region
    /// and `in_all` of all together, the oldest forgotten first. 0 turns it off, and a smaller number than before forgets at
    /// once.
    ///
    /// A version that is kept costs its region's bytes and about 200 more, so 10,000 of them some 4 MB. While it is on, a
    /// publish takes a lock and O(log `in_all`) for each change; readers notice nothing.
    pub fn keep_history(&self, versions: usize, in_all: usize) {
        let forgotten = self.shared.history().lock().set_bounds(versions, in_all);
        drop(forgotten); // after the lock
    }

    /// What is kept of a region's history; see [`ReadHandle::history`].
    #[must_use]
    pub fn history(&self, id: RegionId) -> Vec<Version> {
        self.shared.history().lock().of(id)
    }
}

impl ReadHandle {
    /// The last versions of a region, newest first, and its removal if it was removed: nothing unless
    /// [`StoreMeta::keep_history`] was called. For debugging: it allocates, and takes a lock that writers take as well.
    #[must_use]
    pub fn history(&self, id: RegionId) -> Vec<Version> {
        self.shared().history().lock().of(id)
    }
}

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct History {
    versions_max: usize,
    in_all_max: usize,
    /// By the order in which they were noted. A changeset's changes have one sequence number, hence a counter of its own.
    kept: BTreeMap<u64, Version>,
    next: u64,
    /// The places in `kept` of each region's versions, oldest first. A region of which nothing is kept is not here.
    by_region: HashMap<RegionId, VecDeque<u64>>,
}

impl History {
    /// Notes what was published and returns what it forgets, to be freed after the lock.
    pub(super) fn note(&mut self, published: &Published) -> Vec<Version> {
        if self.versions_max == 0 || self.in_all_max == 0 {
            return Vec::new();
        }
        let sequence = published.sequence();
        let changes = published.changes().iter().cloned();
        changes.flat_map(|change| self.append(Version { sequence, change })).collect()
    }

    fn append(&mut self, version: Version) -> Option<Version> {
        let id = version.change.id();
        let place = self.next;
        self.next = place.wrapping_add(1);
        self.kept.insert(place, version);
        let places = self.by_region.entry(id).or_default();
        places.push_back(place);
        if places.len() > self.versions_max {
            return self.forget_oldest_of(id);
        }
        self.forget_beyond_bound()
    }

    fn forget_oldest_of(&mut self, id: RegionId) -> Option<Version> {
        let places = self.by_region.get_mut(&id)?;
        let place = places.pop_front()?;
        if places.is_empty() {
            self.by_region.remove(&id);
        }
        self.kept.remove(&place)
    }

    /// The oldest of all is the oldest of its region.
    fn forget_beyond_bound(&mut self) -> Option<Version> {
        if self.kept.len() <= self.in_all_max {
            return None;
        }
        let (_, oldest) = self.kept.first_key_value()?;
        self.forget_oldest_of(oldest.change.id())
    }

    fn set_bounds(&mut self, versions: usize, in_all: usize) -> Vec<Version> {
        (self.versions_max, self.in_all_max) = (versions, in_all);
        let mut forgotten = Vec::new();
        let ids: Vec<_> = self.by_region.keys().copied().collect();
        for id in ids {
            let surplus = self.by_region.get(&id).map_or(0, |places| places.len().saturating_sub(versions));
            forgotten.extend((0..surplus).filter_map(|_| self.forget_oldest_of(id)));
        }
        forgotten.extend(std::iter::from_fn(|| self.forget_beyond_bound()));
        forgotten
    }

    fn of(&self, id: RegionId) -> Vec<Version> {
        let places = self.by_region.get(&id).into_iter().flatten().rev();
        places.filter_map(|place| self.kept.get(place)).cloned().collect()
    }
}
