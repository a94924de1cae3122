//! Fail stop (I14): after a write whose outcome is unknown nothing more is acknowledged or published.

use std::sync::OnceLock;

/// Set once, for ever: the store must be opened again.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    cause: OnceLock<String>,
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
