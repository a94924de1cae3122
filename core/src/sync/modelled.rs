//! [`Swap`] as loom should see it: one atomic, with no more ordering than arc-swap promises.
//!
//! A lock of loom's would order each reader after the one before, and hide what goes wrong without that. So loom sees the
//! number of the current value only. The values lie in a list behind a lock that loom does not see, and need not: no thread
//! of a model is suspended while it holds that lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::types::atomic::AtomicUsize;
use super::{Arc, Ordering};

/// A cell that holds one shared value, replaced whole. It keeps every value for as long as it lives.
#[derive(Debug)]
pub(crate) struct Swap<T> {
    /// The place in `values` of the value that is current.
    current: AtomicUsize,
    values: Mutex<Vec<Arc<T>>>,
}

impl<T> Swap<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { current: AtomicUsize::new(0), values: Mutex::new(vec![value]) }
    }

    /// The current value, with a reference count of its own: it may be held as long as the caller likes.
    #[expect(
        clippy::indexing_slicing,
        reason = "a place is published after its value was appended; none is ever removed"
    )]
    pub(crate) fn load_full(&self) -> Arc<T> {
        // Acquire, with the swap below: arc-swap promises as much to whoever loads.
        let place = self.current.load(Ordering::Acquire);
        self.values()[place].clone()
    }

    /// Replaces the value and returns the one before.
    #[expect(clippy::indexing_slicing, reason = "as above")]
    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        let place = self.append(value);
        // Release for the loads above, Acquire with the swap before this one.
        let before = self.current.swap(place, Ordering::AcqRel);
        self.values()[before].clone()
    }

    fn append(&self, value: Arc<T>) -> usize {
        let mut values = self.values();
        values.push(value);
        values.len() - 1
    }

    fn values(&self) -> MutexGuard<'_, Vec<Arc<T>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
