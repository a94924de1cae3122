//! [`Reader`]: a thread's cached snapshot.

use super::{Snapshot, StoreMeta};

/// Keeps one snapshot and renews it only when the version counter has moved: an ordinary lookup then costs one atomic load
/// on top of the search, instead of a reference count that all readers fight over.
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
pub struct Reader<'a> {
    meta: &'a StoreMeta,
    cached: Option<Snapshot>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(meta: &'a StoreMeta) -> Self {
        Self { meta, cached: None }
    }

    /// The current state. One atomic load if nothing was published since the last call; otherwise also one load of the root,
    /// which is lock-free. Successive calls never go backwards (I2).
    #[inline]
    pub fn snapshot(&mut self) -> &Snapshot {
        let current = self.meta.sequence();
        if self.cached.as_ref().is_none_or(|cached| cached.sequence() != current) {
            self.cached = None; // the old version's memory may go before the new one is looked at
        }
        self.cached.get_or_insert_with(|| self.meta.snapshot())
    }

    /// Lets go of the cached snapshot; the next call loads a new one.
    pub fn release(&mut self) {
        self.cached = None;
    }
}
