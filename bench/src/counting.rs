//! How many bytes of heap are in use: an allocator that counts, if it is asked to.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Passes everything on to another allocator, and counts the bytes that are asked for and given back while
/// [`count`](Self::count) runs. Otherwise it costs one load of a flag that never changes, so that no contender pays for
/// the counting in its times.
#[derive(Debug)]
pub struct Counting<A> {
    allocator: A,
    /// Set and cleared by `count`, read by every allocation. Relaxed: it guards no other memory, and whoever wants an exact
    /// count lets one thread alone run.
    on: AtomicBool,
    /// Moved by every allocation while `on`, read by `count`. Wraps below zero if more is given back than taken.
    bytes: AtomicUsize,
}

impl<A> Counting<A> {
    /// Wraps an allocator.
    pub const fn new(allocator: A) -> Self {
        Self { allocator, on: AtomicBool::new(false), bytes: AtomicUsize::new(0) }
    }

    /// The bytes that `work` has taken and not given back, as they were asked for: what the allocator adds is left out.
    pub fn count(&self, work: &mut dyn FnMut()) -> usize {
        self.bytes.store(0, Ordering::Relaxed);
        self.on.store(true, Ordering::Relaxed);
        work();
        self.on.store(false, Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bytes in use, of those that were taken since [`count`](Self::count) began: for a look from inside of its work.
    pub fn in_use(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn taken(&self, bytes: usize) {
        if self.on.load(Ordering::Relaxed) {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn given_back(&self, bytes: usize) {
        if self.on.load(Ordering::Relaxed) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

// SAFETY: every method hands its arguments to the same method of the wrapped allocator and returns what that one returned;
// the counting touches two atomics and nothing else, and never allocates or unwinds.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.taken(layout.size());
        // SAFETY: the caller's promise about `layout` is the one that is asked for here.
        unsafe { self.allocator.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.taken(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { self.allocator.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        self.taken(bytes);
        self.given_back(layout.size());
        // SAFETY: `at` came from this allocator, hence from the wrapped one, with this `layout`.
        unsafe { self.allocator.realloc(at, layout, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.given_back(layout.size());
        // SAFETY: as in `realloc`.
        unsafe { self.allocator.dealloc(at, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    #[expect(unsafe_code, reason = "an allocator cannot be called without")]
    fn what_stays_is_counted_and_what_goes_is_not() {
        let counting = Counting::new(System);
        let layout = |bytes| Layout::from_size_align(bytes, 8).unwrap();
        // SAFETY: each layout has a size, and each block is given back with the layout that it has at that time.
        let (stays, bytes) = unsafe {
            let uncounted = counting.alloc(layout(512));
            let mut stays = std::ptr::null_mut();
            let bytes = counting.count(&mut || {
                let goes = counting.alloc(layout(100));
                stays = counting.alloc_zeroed(layout(8));
                stays = counting.realloc(stays, layout(8), 72);
                counting.dealloc(goes, layout(100));
            });
            counting.dealloc(uncounted, layout(512));
            (stays, bytes)
        };
        assert_eq!(bytes, 72);
        // SAFETY: it has had this layout since `realloc`.
        unsafe { counting.dealloc(stays, layout(72)) };
    }
}
