//! The read half: [`ReadHandle`], which is given away freely, and [`Reader`], a thread's cached snapshot.

use super::Snapshot;
use super::feed::Feed;
use super::shared::Shared;
use crate::ids::{Sequence, StoreId};
use crate::sync::Arc;

/// Reads a map and cannot change it: what a store gives to everybody who asks where a key is.
///
/// Cloning costs one reference count. A handle keeps the map alive, also after its [`StoreMeta`](super::StoreMeta) is gone;
/// nothing is published any more then.
///
/// ```
/// use regionmeta::StoreMeta;
///
/// let meta = StoreMeta::new(None);
/// let handle = meta.read_handle();
/// let thread = std::thread::spawn(move || handle.reader().snapshot().len());
/// assert_eq!(thread.join().ok(), Some(0));
/// ```
#[derive(Clone, Debug)]
pub struct ReadHandle {
    shared: Arc<Shared>,
}

impl ReadHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn feed(&self) -> &Feed {
        self.shared.feed()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The store whose peers the map holds, if it is the map of one store.
    #[must_use]
    pub fn store_id(&self) -> Option<StoreId> {
        self.shared.store_id()
    }

    /// The current state; see [`StoreMeta::snapshot`](super::StoreMeta::snapshot).
    #[must_use]
    #[inline]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// The version counter; see [`StoreMeta::sequence`](super::StoreMeta::sequence).
    #[must_use]
    #[inline]
    pub fn sequence(&self) -> Sequence {
        self.shared.sequence()
    }

    /// A reader that keeps its snapshot for as long as it is current: the way to look up often.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { shared: self.shared.clone(), cached: None }
    }
}

/// Keeps one snapshot and renews it only when the version counter has moved: an ordinary lookup then costs one atomic load
/// on top of the search, instead of a reference count that all readers fight over. It borrows nothing, so a thread keeps one
/// for as long as it runs.
///
/// A reader that is not used pins its last snapshot, and with it the memory of that version (I9). A thread that goes idle
/// calls [`release`](Self::release).
///
/// ```
/// use regionmeta::StoreMeta;
///
/// let meta = StoreMeta::new(None);
/// let mut reader = meta.reader();
/// assert!(reader.snapshot().locate(b"key").is_none());
/// reader.release();
/// ```
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    cached: Option<Snapshot>,
}

impl Reader {
    /// The current state. One atomic load if nothing was published since the last call; otherwise also one load of the root,
    /// which is lock-free. Successive calls never go backwards (I2).
    #[inline]
    pub fn snapshot(&mut self) -> &Snapshot {
        let current = self.shared.sequence();
        if self.cached.as_ref().is_none_or(|cached| cached.sequence() != current) {
            self.cached = None; // the old version's memory may go before the new one is looked at
        }
        self.cached.get_or_insert_with(|| self.shared.snapshot())
    }

    /// Lets go of the cached snapshot; the next call loads a new one.
    pub fn release(&mut self) {
        self.cached = None;
    }
}
