//! The one door for everything that threads share: atomics, locks, and the cell that readers load the root from.
//!
//! Nothing else in this crate names `std::sync` or arc-swap, so that a checker or a lock-based twin can take their place.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

/// A cell that holds one shared value, replaced whole. Loading is lock-free and never waits for a store.
#[derive(Debug)]
pub(crate) struct Swap<T>(ArcSwap<T>);

impl<T> Swap<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(ArcSwap::new(value))
    }

    /// The current value, with a reference count of its own: it may be held as long as the caller likes.
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Replaces the value and returns the one before.
    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        self.0.swap(value)
    }
}

/// A cell that holds one shared value or none, replaced whole. Loading is lock-free and never waits for a store.
#[derive(Debug)]
pub(crate) struct SwapOption<T>(ArcSwapOption<T>);

impl<T> Default for SwapOption<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl<T> SwapOption<T> {
    /// The current value, with a reference count of its own.
    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }

    /// Replaces the value and returns the one before.
    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        self.0.swap(value)
    }
}

/// A lock among writers. A panic inside a section leaves data that the next writer may use, because every section here
/// changes its data in one last step; so poisoning is passed over.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
