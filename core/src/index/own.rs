//! Who owns the nodes of an index, and the regions that they lead to.
//!
//! Nodes hold plain pointers: no reference counts, so a node is copied as bytes, and neither the copy nor the end of a
//! version touches what lies below. Instead every node knows in which version it was made, and an [`Editor`] collects what a
//! version no longer uses. [`Versions`](super::versions::Versions) frees it once no version that did is left.
//!
//! What makes the pointers sound is kept in this folder, and nobody outside can reach one:
//!
//! - A [`Child`] and a [`Kept`] are moved, never copied, but for two places: [`Editor::own`] copies a whole node for a new
//!   version, and an index shares its roots with its next version. So within one version a node is pointed to once.
//! - Whoever reads one has borrowed it, in the end from an index, and an index keeps its version alive.
//! - Only an editor writes, only nodes that its own version made, and nobody else sees that version before it is done.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::NonZero;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::ids::Sequence;
use crate::prefetch;
use crate::region::Region;

/// What may stand behind a [`Child`].
///
/// # Safety
/// The type can be copied as bytes for another version: whatever it owns, it owns through [`Child`]ren and [`Kept`]s, and
/// dropping it does nothing.
#[expect(unsafe_code, reason = "a node is copied as bytes")]
pub(super) unsafe trait Node: Send + Sync {}

/// A node and the version that made it. A node's own first 56 bytes share a cache line with that number, and what lies
/// behind them begins another.
#[repr(C, align(64))]
struct Born<N> {
    at: Sequence,
    node: N,
}

/// A link to a leaf or to a branch of a tree. Nodes are aligned, so the lowest bit of the address is free to tell which.
pub(super) struct Child<L, B> {
    /// The address of a `Born<L>` and [`LEAF`], or that of a `Born<B>`.
    address: NonNull<()>,
    nodes: PhantomData<(L, B)>,
}

const LEAF: usize = 1;

// SAFETY: it is one of two links, and those are `Send`.
#[expect(unsafe_code, reason = "a pointer is neither by itself")]
unsafe impl<L: Node, B: Node> Send for Child<L, B> {}
// SAFETY: it is one of two links, and those are `Sync`.
#[expect(unsafe_code, reason = "a pointer is neither by itself")]
unsafe impl<L: Node, B: Node> Sync for Child<L, B> {}

/// What a [`Child`] leads to.
pub(super) enum ChildRef<'a, L, B> {
    Leaf(&'a L),
    Branch(&'a B),
}

/// What a [`Child`] leads to, to be changed.
pub(super) enum ChildMut<'a, L, B> {
    Leaf(&'a mut L),
    Branch(&'a mut B),
}

impl<L: Node, B: Node> Child<L, B> {
    #[inline(always)]
    fn is_leaf(&self) -> bool {
        self.address.addr().get() & LEAF != 0
    }

    /// Where the node lies.
    #[inline(always)]
    pub(super) fn address(&self) -> *const u8 {
        self.address.as_ptr().map_addr(|address| address & !LEAF).cast_const().cast()
    }

    #[inline(always)]
    fn node<N>(&self) -> NonNull<Born<N>> {
        // The address of a node is not 0, nor is it 1.
        self.address.map_addr(|address| NonZero::new(address.get() & !LEAF).unwrap_or(address)).cast()
    }

    /// The version that made the node.
    #[expect(unsafe_code, reason = "the node is kept alive by its version")]
    fn born(&self) -> Sequence {
        // SAFETY: as in `get`. Whatever the node is, it comes behind the number.
        unsafe { self.node::<()>().cast::<Sequence>().read() }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "the node is kept alive by its version")]
    pub(super) fn get(&self) -> ChildRef<'_, L, B> {
        // SAFETY: the bit tells whether `Editor::leaf` or `Editor::branch` made it, and so of which type the node in that `Box`
        // is. `self` is borrowed from an index of a version that uses the node, or from that version's editor; `Versions`
        // frees a node only after each version that uses it is gone. An editor writes to nodes of its own version alone,
        // through an exclusive borrow of the only child that leads there.
        unsafe {
            match self.is_leaf() {
                true => ChildRef::Leaf(&self.node::<L>().as_ref().node),
                false => ChildRef::Branch(&self.node::<B>().as_ref().node),
            }
        }
    }

    /// Another link to the same node, for the next version of whatever holds this one.
    pub(super) fn share(&self) -> Self {
        Self { address: self.address, nodes: PhantomData }
    }

    /// Starts loading the first bytes of the node.
    #[inline(always)]
    pub(super) fn prefetch(&self, bytes: usize) {
        prefetch::lines(self.address(), bytes);
    }
}

/// A region that the versions of an index keep, all of them with one reference count together.
pub(super) struct Kept(ManuallyDrop<Region>);

impl Kept {
    pub(super) fn new(region: Region) -> Self {
        Self(ManuallyDrop::new(region))
    }

    /// The same region in the other index of the same version.
    #[expect(unsafe_code, reason = "copies a handle without its count")]
    pub(super) fn share(&self) -> Self {
        // SAFETY: neither copy is ever dropped as it is. The one reference count that stands for both is given back by
        // whichever of them an editor retires, and it retires only one.
        Self(unsafe { std::ptr::read(&raw const self.0) })
    }
}

impl Deref for Kept {
    type Target = Region;

    #[inline(always)]
    fn deref(&self) -> &Region {
        &self.0
    }
}

/// Something that a version was the last to use.
pub(super) struct Garbage {
    /// The first version that used it.
    pub(super) born: Sequence,
    what: What,
}

enum What {
    Region(ManuallyDrop<Region>),
    Node { address: NonNull<()>, free: fn(NonNull<()>) },
}

// SAFETY: a node is `Send` and `Sync` by its trait, and so is a region.
#[expect(unsafe_code, reason = "the type of the node is erased")]
unsafe impl Send for Garbage {}
// SAFETY: as above; a shared reference to garbage gives access to nothing.
#[expect(unsafe_code, reason = "the type of the node is erased")]
unsafe impl Sync for Garbage {}

impl Garbage {
    /// Frees it.
    ///
    /// # Safety
    /// No version that used it is left.
    #[expect(unsafe_code, reason = "the memory may still be in use")]
    pub(super) unsafe fn free(self) {
        match self.what {
            What::Region(region) => drop(ManuallyDrop::into_inner(region)),
            What::Node { address, free } => free(address),
        }
    }
}

#[expect(unsafe_code, reason = "takes a node back from its pointer")]
fn free_node<N>(address: NonNull<()>) {
    // SAFETY: called through `Garbage::free` only, whose caller vouches that nobody uses the node; the address is that of a
    // `Box` of this type, made in `Editor::make`, and garbage is freed once.
    drop(unsafe { Box::from_raw(address.cast::<Born<N>>().as_ptr()) });
}

#[expect(unsafe_code, reason = "copies a node as bytes")]
fn copy_of<N: Node>(node: NonNull<Born<N>>) -> N {
    // SAFETY: the node is alive, as in `Child::get`. `Node` promises that its bytes may be copied for another version.
    unsafe { node.read() }.node
}

/// Makes the next version: what it changes, it first owns.
///
/// An editor that is dropped half-way, because its owner panicked, leaks what it made and frees nothing.
pub(super) struct Editor {
    version: Sequence,
    retired: Vec<Garbage>,
}

impl Editor {
    pub(super) fn new(version: Sequence) -> Self {
        Self { version, retired: Vec::new() }
    }

    /// Takes out what the new version no longer uses.
    pub(super) fn take(&mut self) -> Vec<Garbage> {
        std::mem::take(&mut self.retired)
    }

    /// The version that is being made.
    pub(super) fn version(&self) -> Sequence {
        self.version
    }

    pub(super) fn leaf<L: Node, B: Node>(&self, leaf: L) -> Child<L, B> {
        let address = self.make(leaf).cast::<()>().map_addr(|address| address | LEAF);
        Child { address, nodes: PhantomData }
    }

    pub(super) fn branch<L: Node, B: Node>(&self, branch: B) -> Child<L, B> {
        Child { address: self.make(branch).cast(), nodes: PhantomData }
    }

    fn make<N: Node>(&self, node: N) -> NonNull<Born<N>> {
        const { assert!(!std::mem::needs_drop::<N>()) };
        NonNull::from(Box::leak(Box::new(Born { at: self.version, node })))
    }

    /// The node, to be changed: itself if this version made it, else a copy that takes its place.
    #[expect(unsafe_code, reason = "writes through a pointer")]
    pub(super) fn own<'n, L: Node, B: Node>(&mut self, child: &'n mut Child<L, B>) -> ChildMut<'n, L, B> {
        if child.born() != self.version {
            let copy = match child.is_leaf() {
                true => self.leaf(copy_of(child.node::<L>())),
                false => self.branch(copy_of(child.node::<B>())),
            };
            self.retire(std::mem::replace(child, copy));
        }
        // SAFETY: for the type, as in `Child::get`. This version made the node, so no other version leads to it; within this
        // version only `child` does, and it is borrowed exclusively for as long as the result lives.
        unsafe {
            match child.is_leaf() {
                true => ChildMut::Leaf(&mut child.node::<L>().as_mut().node),
                false => ChildMut::Branch(&mut child.node::<B>().as_mut().node),
            }
        }
    }

    /// Takes a node that the new version does not use, but for what lies below it.
    pub(super) fn retire<L: Node, B: Node>(&mut self, child: Child<L, B>) {
        let what = match child.is_leaf() {
            true => What::Node { address: child.node::<L>().cast(), free: free_node::<L> },
            false => What::Node { address: child.node::<B>().cast(), free: free_node::<B> },
        };
        self.retired.push(Garbage { born: child.born(), what });
    }

    /// Takes a region that the new version does not use, and which came with the version `born`.
    pub(super) fn retire_region(&mut self, region: Kept, born: Sequence) {
        self.retired.push(Garbage { born, what: What::Region(region.0) });
    }
}
