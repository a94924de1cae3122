//! [`Swap`] over a lock: the slow, obvious twin. What holds over it and not over arc-swap is arc-swap's fault.

use super::{Arc, Mutex};

/// A cell that holds one shared value, replaced whole.
#[derive(Debug)]
pub(crate) struct Swap<T>(Mutex<Arc<T>>);

impl<T> Swap<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(Mutex::new(value))
    }

    /// The current value, with a reference count of its own: it may be held as long as the caller likes.
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.lock().clone()
    }

    /// Replaces the value and returns the one before.
    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        std::mem::replace(&mut *self.0.lock(), value)
    }
}
