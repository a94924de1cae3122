//! [`Shared`]: what the writers of a map publish and its readers load.

use super::Snapshot;
use super::feed::Feed;
use super::history::History;
use super::snapshot::Root;
use crate::ids::{Sequence, StoreId};
use crate::index::Index;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, Swap};

/// The published half of a map. Whoever holds it can read; only a [`StoreMeta`](super::StoreMeta) ever calls
/// [`publish`](Self::publish).
#[derive(Debug)]
pub(super) struct Shared {
    store_id: Option<StoreId>,
    /// Written by `swap_root` only, under the writers' lock; loaded by every reader.
    root: Swap<Root>,
    /// The sequence number of the newest root, for readers that only ask whether theirs is still current. Written by
    /// `swap_root` only, just before the root; never behind a root that anybody has seen (I2).
    sequence: AtomicU64,
    /// What was published last, for subscribers. Written under the writers' lock, after the root.
    feed: Feed,
    /// What was published before that, for debuggers. Written under the writers' lock too, before the feed.
    history: Mutex<History>,
}

impl Shared {
    pub(super) fn new(store_id: Option<StoreId>, index: Index, feed_capacity: usize) -> Self {
        let sequence = Sequence::default();
        let root = Swap::new(Arc::new(Root { index, sequence }));
        let (feed, history) = (Feed::new(feed_capacity), Mutex::default());
        Self { store_id, root, sequence: AtomicU64::new(sequence.get()), feed, history }
    }

    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }

    pub(super) fn history(&self) -> &Mutex<History> {
        &self.history
    }

    pub(super) fn store_id(&self) -> Option<StoreId> {
        self.store_id
    }

    #[inline]
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.root.load_full())
    }

    #[inline]
    pub(super) fn sequence(&self) -> Sequence {
        // Acquire, with the Release store in `swap_root`: a reader that learned of a root from another thread finds the
        // counter at that root's number or above, and does not take its older snapshot for current.
        Sequence::new(self.sequence.load(Ordering::Acquire))
    }

    /// Publishes `index` as the next root. Called under the writers' lock.
    pub(super) fn swap_root(&self, index: Index, sequence: Sequence) -> Snapshot {
        // Release, with the Acquire load in `sequence()`. The counter moves first: a reader that comes in between reloads in
        // vain and still gets the old root, which is then still the current one. The other way round, a reader that holds the
        // old snapshot could find the old counter after somebody else had seen the new root, and go backwards (I2).
        self.sequence.store(sequence.get(), Ordering::Release);
        let root = Arc::new(Root { index, sequence });
        drop(self.root.swap(root.clone()));
        Snapshot::new(root)
    }
}
