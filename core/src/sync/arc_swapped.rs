//! [`Swap`] over arc-swap: the one that servers run.

use arc_swap::ArcSwap;

use super::Arc;

/// A cell that holds one shared value, replaced whole. Loading is lock-free and never waits for a store.
#[derive(Debug)]
pub(crate) struct Swap<T>(ArcSwap<T>);

impl<T> Swap<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(ArcSwap::new(value))
    }

    /// The current value, with a reference count of its own: it may be held as long as the caller likes.
    #[inline]
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Replaces the value and returns the one before.
    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        self.0.swap(value)
    }
}
