//! Reported sizes: [`StoreMeta::report`] takes them in, [`Snapshot::stats`] and [`Snapshot::sums`] read them.
//!
//! A report is published like a changeset: a new root with a sequence number of its own, which the feed delivers as an event
//! without changes, so that its numbers have no gap and a cached snapshot is found to be outdated. It is no change of a
//! region: no version counter of a region moves, and no change that was computed before becomes stale by it.

use super::{Changeset, Snapshot, StoreMeta};
use crate::ids::RegionId;
use crate::keys::KeyRange;
use crate::stats::{Stats, Sums};

/// What became of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reported {
    /// Stats that are the current ones now, or were already.
    pub known: usize,
    /// Stats of regions that the map does not have: they were merged or destroyed since they were measured.
    pub unknown: usize,
}

impl StoreMeta {
    /// Takes in how much some regions hold, in place of what was reported of them before; visible in every snapshot that is
    /// taken afterwards. Regions that the map does not have are passed over. Of two stats of one region the last counts.
    ///
    /// What was reported stays until the next report, whatever becomes of the region's range, and goes with the region. The
    /// children of a split begin with nothing: whoever wants to share the parent's size among them reports it.
    ///
    /// `None` in place of stats says that nobody knows any more how much the region holds.
    ///
    /// Costs O(stats) under the writers' lock, and makes every reader load a new snapshot once: report many regions together,
    /// seconds apart. If nothing differs from what is known, nothing is published.
    pub fn report<T: Into<Option<Stats>>>(&self, stats: impl IntoIterator<Item = (RegionId, T)>) -> Reported {
        // The caller's iterator runs before the lock is taken.
        let stats: Vec<(_, Option<Stats>)> = stats.into_iter().map(|(id, stats)| (id, stats.into())).collect();
        let mut writers = self.writers.lock();
        let mut next = writers.next(self);
        let mut reported = Reported::default();
        let mut changed = false;
        for (id, stats) in stats {
            let known = next.report(id, stats);
            reported.known += usize::from(known.is_some());
            reported.unknown += usize::from(known.is_none());
            changed |= known == Some(true);
        }
        let published = changed.then(|| (next.number(), next.publish()));
        let replaced = published.map(|(sequence, index)| writers.publish(self, index, sequence, Changeset::new()));
        drop(writers);
        drop(replaced); // nobody waits for this
        reported
    }
}

impl Snapshot {
    /// What was last reported of a region; `None` if nothing was, or there is no such region. A few cached loads.
    #[must_use]
    pub fn stats(&self, id: RegionId) -> Option<Stats> {
        self.index().stats(id)
    }

    /// The number of regions that start in `range`, and what was reported of them, added up. One that starts before the
    /// range and reaches into it does not count, so that the sums of ranges that touch add up. O(log regions); no allocation.
    #[must_use]
    pub fn sums(&self, range: KeyRange<'_>) -> Sums {
        self.index().sums(range)
    }
}
