//! The limit of taking a snapshot: a bare `ArcSwap`, whatever it holds.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::map::TakeSnapshot;

/// A cell whose value is taken with a reference count of its own, so that it may be held.
#[derive(Debug, Default)]
pub struct ArcSwapCell(ArcSwap<u64>);

impl TakeSnapshot for ArcSwapCell {
    type Snapshot = Arc<u64>;

    #[inline]
    fn take_snapshot(&self) -> Arc<u64> {
        self.0.load_full()
    }
}

/// The same cell, whose value is borrowed through a guard: cheaper, and not to be held for long.
#[derive(Debug, Default)]
pub struct ArcSwapGuard(ArcSwap<u64>);

impl TakeSnapshot for ArcSwapGuard {
    type Snapshot = Guard<Arc<u64>>;

    #[inline]
    fn take_snapshot(&self) -> Self::Snapshot {
        self.0.load()
    }
}
