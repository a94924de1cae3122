//! Telling the processor what will be read soon, so that the misses of independent reads overlap. Hints only: leaving them
//! all out changes no result.

/// The unit in which memory comes into the cache.
const LINE_BYTES: usize = 64;

/// Asks for the memory of a value, all lines of it.
#[inline(always)]
pub(crate) fn value<T>(value: &T) {
    lines(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// Asks for the lines of `bytes` bytes from an address on. The address need not be valid.
#[inline(always)]
pub(crate) fn lines(address: *const u8, bytes: usize) {
    for offset in (0..bytes).step_by(LINE_BYTES) {
        line(address.wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "there is no safe form of the instruction")]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: `_mm_prefetch` reads and writes no memory that a program can see and does not fault, whatever the address; it
    // takes a raw pointer, and that alone makes it unsafe. It needs SSE, which every x86-64 processor has.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn line(_address: *const u8) {}
