//! [`Swap`] over a lock: the slow, obvious twin. What holds over it and not over arc-swap is arc-swap's fault.

use std::sync::PoisonError;

use super::{Arc, types};

/// A cell that holds one shared value, replaced whole.
#[derive(Debug)]
pub(crate) struct Swap<T>(types::RwLock<Arc<T>>);

impl<T> Swap<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(types::RwLock::new(value))
    }

    /// The current value, with a reference count of its own: it may be held as long as the caller likes.
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the value and returns the one before.
    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), value)
    }
}
