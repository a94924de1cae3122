//! The global allocator of this binary: the system's, with a count of what each thread asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What one thread asked the allocator for. A reallocation counts as one of its whole new size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Allocated {
    pub(crate) times: u64,
    pub(crate) bytes: u64,
}

thread_local! {
    // Constant and without a destructor: touching it neither allocates nor registers anything.
    static SO_FAR: Cell<Allocated> = const { Cell::new(Allocated { times: 0, bytes: 0 }) };
}

/// Runs `work` and says what it allocated on this thread.
pub(crate) fn count<T>(work: impl FnOnce() -> T) -> (Allocated, T) {
    let before = SO_FAR.get();
    let result = work();
    let after = SO_FAR.get();
    (Allocated { times: after.times - before.times, bytes: after.bytes - before.bytes }, result)
}

thread_local! {
    static FREED_HERE: Cell<u64> = const { Cell::new(0) };
}

/// How many pieces of memory this thread has freed so far.
pub(crate) fn freed_here() -> u64 {
    FREED_HERE.get()
}

/// How much longer freeing takes on a thread inside [`free_slowly`].
const PAUSE: Duration = Duration::from_micros(100);

thread_local! {
    static FREES_SLOWLY: Cell<bool> = const { Cell::new(false) };
}

/// What was freed inside [`free_slowly`], on all threads. Relaxed throughout: a number to look at, nothing is handed over.
static FREED_SLOWLY: AtomicU64 = AtomicU64::new(0);

/// Runs `work`, with a pause before everything that it frees on this thread, so that others can be seen to wait or not.
pub(crate) fn free_slowly<T>(work: impl FnOnce() -> T) -> T {
    FREES_SLOWLY.set(true);
    let result = work();
    FREES_SLOWLY.set(false);
    result
}

/// How many pieces of memory were freed inside [`free_slowly`] so far.
pub(crate) fn freed_slowly() -> u64 {
    FREED_SLOWLY.load(Ordering::Relaxed)
}

thread_local! {
    static IN_USE_HERE: Cell<i64> = const { Cell::new(0) };
}

/// The bytes that this thread has asked for, less those that it has freed: what is in use, if nobody else has a hand in it.
pub(crate) fn in_use_here() -> i64 {
    IN_USE_HERE.get()
}

thread_local! {
    static PUTS_ASIDE: Cell<bool> = const { Cell::new(false) };
}

/// From now on what this thread frees stays where it is, so that nothing of the allocator's runs on it.
pub(crate) fn put_aside_what_is_freed_here() {
    PUTS_ASIDE.set(true);
}

fn note(size: usize) {
    let Allocated { times, bytes } = SO_FAR.get();
    SO_FAR.set(Allocated { times: times + 1, bytes: bytes + size as u64 });
    IN_USE_HERE.set(IN_USE_HERE.get() + size as i64);
}

#[derive(Debug)]
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to `System` with the caller's arguments unchanged, so its contract is the system's; `note` only
// changes two numbers of the calling thread, and a pause allocates nothing.
#[expect(unsafe_code, reason = "there is no safe way to count allocations")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        IN_USE_HERE.set(IN_USE_HERE.get() - layout.size() as i64);
        // SAFETY: the caller's promises about all three are passed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        FREED_HERE.set(FREED_HERE.get() + 1);
        IN_USE_HERE.set(IN_USE_HERE.get() - layout.size() as i64);
        if PUTS_ASIDE.get() {
            return;
        }
        if FREES_SLOWLY.get() {
            FREED_SLOWLY.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PAUSE);
        }
        // SAFETY: the caller's promises about both are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn the_counter_counts() {
    let (allocated, buffer) = count(|| std::hint::black_box(Vec::<u8>::with_capacity(1000)));
    assert_eq!(allocated, Allocated { times: 1, bytes: 1000 });
    let (allocated, ()) = count(|| drop(buffer));
    assert_eq!(allocated, Allocated::default());
}
