//! What a version of an index was the last to use, and the memory that becomes free with it.

use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use crate::ids::Sequence;
use crate::region::Region;

/// Something that a version was the last to use.
pub(super) struct Garbage {
    /// The first version that used it.
    pub(super) born: Sequence,
    pub(super) what: What,
}

pub(super) enum What {
    Region(ManuallyDrop<Region>),
    Node(Block),
    Run(Block),
}

/// Memory of a node or a run. Nothing in it is dropped.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// As the global allocator gave it out, for this layout.
    pub(super) address: NonNull<u8>,
    pub(super) layout: Layout,
}

// SAFETY: a block is memory that is written to or freed once nobody uses it, and the global allocator takes it from any
// thread.
#[expect(unsafe_code, reason = "a pointer is neither by itself")]
unsafe impl Send for Block {}
// SAFETY: a shared reference to a block gives access to nothing.
#[expect(unsafe_code, reason = "a pointer is neither by itself")]
unsafe impl Sync for Block {}

impl Garbage {
    /// Frees it.
    ///
    /// # Safety
    /// No version that used it is left, and nothing else frees it.
    #[expect(unsafe_code, reason = "the memory may still be in use")]
    pub(super) unsafe fn free(self) {
        match self.what {
            What::Region(region) => drop(ManuallyDrop::into_inner(region)),
            // SAFETY: the caller's word.
            What::Node(block) | What::Run(block) => unsafe { block.free() },
        }
    }
}

impl Block {
    /// Gives it back to the allocator.
    ///
    /// # Safety
    /// Nobody uses it, and nothing else frees it.
    #[expect(unsafe_code, reason = "the memory may still be in use")]
    pub(super) unsafe fn free(self) {
        // SAFETY: the address came from the global allocator with this layout; the rest is the caller's word.
        unsafe { std::alloc::dealloc(self.address.as_ptr(), self.layout) }
    }
}

/// Memory of nodes that ended, for those that the next changes make: nodes come and go in the same few sizes, and what was
/// just read to be copied is still in the cache.
#[derive(Default)]
pub(super) struct Spares(Vec<Block>);

/// A change of one region takes about eight nodes.
const SPARES_MAX: usize = 64;

impl Spares {
    /// Takes the memory of some of the nodes out of what can be freed.
    pub(super) fn refill(&mut self, ripe: &mut Vec<Garbage>) {
        let mut room = SPARES_MAX.saturating_sub(self.0.len());
        let nodes = ripe.extract_if(.., |one| {
            let is_taken = room > 0 && matches!(one.what, What::Node(_));
            room -= usize::from(is_taken);
            is_taken
        });
        self.0.extend(nodes.filter_map(|one| match one.what {
            What::Node(block) => Some(block),
            _ => None,
        }));
    }

    /// A block of that layout, which is nobody's from now on.
    pub(super) fn take(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let at = self.0.iter().rposition(|block| block.layout == layout)?;
        Some(self.0.swap_remove(at).address)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Spares {
    #[expect(unsafe_code, reason = "frees memory")]
    fn drop(&mut self) {
        for block in self.0.drain(..) {
            // SAFETY: a spare block came from things that can be freed, and is in no other list.
            unsafe { block.free() }
        }
    }
}
