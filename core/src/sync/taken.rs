//! How many locks a thread has taken: for the tests that show that reading takes none.

use std::cell::Cell;

thread_local! {
    // Constant and without a destructor: touching it neither allocates nor registers anything.
    static HERE: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn note() {
    HERE.set(HERE.get().wrapping_add(1));
}

/// The locks of this crate that the calling thread has taken so far. What a lock protects does not matter.
#[must_use]
pub fn locks_taken_here() -> u64 {
    HERE.get()
}
