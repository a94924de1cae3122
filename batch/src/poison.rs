//! Fail stop (I14): after a write whose outcome is unknown nothing more is acknowledged or published.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::wake::Wake;

/// Set once, for ever: the store must be opened again.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    cause: OnceLock<String>,
    /// Of those that wait for something which a poisoned store never does.
    waiting: Mutex<Option<Wake>>,
}

/// The store stopped writing, because the outcome of an earlier write is unknown. Readers go on; open the store again.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the store is poisoned since a write failed ({cause}): reads go on, open it again to write")]
pub struct Poisoned {
    /// The failure that did it.
    pub cause: String,
}

impl Poison {
    pub(crate) fn check(&self) -> Result<(), Poisoned> {
        match self.cause.get() {
            None => Ok(()),
            Some(cause) => Err(Poisoned { cause: cause.clone() }),
        }
    }

    /// The first cause is kept: later failures follow from it.
    pub(crate) fn set(&self, cause: &dyn std::fmt::Display) {
        let cause = self.cause.get_or_init(|| cause.to_string());
        tracing::error!(%cause, "store is poisoned");
        self.wake();
    }

    /// Calls `wake` once, as soon as the store is poisoned; at once if it is. It takes the place of an earlier one. The caller of
    /// [`set`](Self::set) may hold locks of peers, so `wake` takes none of those.
    pub(crate) fn when_set(&self, wake: impl FnOnce() + Send + 'static) {
        *self.waiting() = Some(Wake::new(wake));
        // Whoever has set the cause since looks for the wake after that, and otherwise the cause is seen here.
        if self.cause.get().is_some() {
            self.wake();
        }
    }

    fn wake(&self) {
        let waiting = self.waiting().take();
        waiting.into_iter().for_each(Wake::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Wake>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Poisons the store if a panic unwinds before [`Fuse::defuse`]: disk and memory may then be apart.
    pub(crate) fn fuse(&self) -> Fuse<'_> {
        Fuse { poison: Some(self) }
    }
}

/// See [`Poison::fuse`].
pub(crate) struct Fuse<'a> {
    poison: Option<&'a Poison>,
}

impl Fuse<'_> {
    pub(crate) fn defuse(mut self) {
        self.poison = None;
    }
}

impl Drop for Fuse<'_> {
    fn drop(&mut self) {
        if let Some(poison) = self.poison.filter(|_| std::thread::panicking()) {
            poison.set(&"a panic between a write and its publication");
        }
    }
}
