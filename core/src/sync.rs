//! The one door for everything that threads share: atomics, locks, and the cell that readers load the root from.
//!
//! Nothing else in this crate names `std::sync` or arc-swap, so that others can take their place. Which ones, a feature says:
//!
//! | feature | types | [`Swap`] |
//! |---|---|---|
//! | none | std | arc-swap: what every server runs |
//! | `lock-swap` | std | a lock: the ordinary tests must pass over it too |
//! | `loom` | loom | an atomic that loom sees: `tests/loom.rs` |
//! | `shuttle` | shuttle | a lock: `tests/shuttle.rs` |

#[cfg(any(
    all(feature = "loom", feature = "shuttle"),
    all(feature = "loom", feature = "lock-swap"),
    all(feature = "shuttle", feature = "lock-swap")
))]
compile_error!("the features `lock-swap`, `loom` and `shuttle` exclude one another: never build with --all-features");

#[cfg(feature = "loom")]
use loom::sync as types;
#[cfg(feature = "shuttle")]
use shuttle::sync as types;
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
use std::sync as types;

// Reference counts are std's everywhere: what is checked here is the protocol, not them.
pub(crate) use std::sync::{Arc, OnceLock};
pub(crate) use types::atomic::{AtomicU64, Ordering};

#[cfg(not(any(feature = "lock-swap", feature = "loom", feature = "shuttle")))]
mod arc_swapped;
#[cfg(not(any(feature = "lock-swap", feature = "loom", feature = "shuttle")))]
pub(crate) use arc_swapped::Swap;

#[cfg(any(feature = "lock-swap", feature = "shuttle"))]
mod locked;
#[cfg(any(feature = "lock-swap", feature = "shuttle"))]
pub(crate) use locked::Swap;

#[cfg(feature = "loom")]
mod modelled;
#[cfg(feature = "loom")]
pub(crate) use modelled::Swap;

#[cfg(feature = "testkit")]
pub(crate) mod taken;

/// A lock among writers. A panic inside a section leaves data that the next writer may use, because every section here
/// changes its data in one last step; so poisoning is passed over.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(types::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(types::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> types::MutexGuard<'_, T> {
        #[cfg(feature = "testkit")]
        taken::note();
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
