//! Who owns the nodes of an index, and the regions that they lead to.
//!
//! Nodes hold plain pointers: no reference counts, so a node is copied as bytes, and neither the copy nor the end of a
//! version touches what lies below. Instead every node knows in which version it was made, and an [`Editor`] collects what a
//! version no longer uses. [`Versions`](super::versions::Versions) frees it once no version that did is left.
//!
//! What makes the pointers sound is kept in this folder, and nobody outside can reach one:
//!
//! - A [`Child`], a [`Run`] and a [`Kept`] are moved, never copied, but for these places: [`Editor::own`] copies a whole node
//!   for a new version, an index shares its roots with its next version, and its two trees share each region. So within one
//!   version a node is pointed to once.
//! - Whoever reads one has borrowed it, in the end from an index, and an index keeps its version alive.
//! - Only an editor writes, only nodes that its own version made, and nobody else sees that version before it is done.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::NonZero;
use std::ops::Deref;
use std::ptr::NonNull;

use super::garbage::{Block, Garbage, Spares, What};
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

// SAFETY: it leads to nodes that any thread may read and any thread may free, and `Node` is `Send` and `Sync`.
#[expect(unsafe_code, reason = "a pointer is neither by itself")]
unsafe impl<L: Node, B: Node> Send for Child<L, B> {}
// SAFETY: a shared reference to it gives shared references to nodes, and those are `Sync`.
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

    /// The node's memory.
    fn block(&self) -> Block {
        let layout = match self.is_leaf() {
            true => Layout::new::<Born<L>>(),
            false => Layout::new::<Born<B>>(),
        };
        Block { address: self.node::<()>().cast(), layout }
    }

    /// Another link to the same node, for the next version of whatever holds this one.
    pub(super) fn share(&self) -> Self {
        Self { address: self.address, nodes: PhantomData }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.address == other.address
    }

    /// Starts loading the first bytes of the node.
    #[inline(always)]
    pub(super) fn prefetch(&self, bytes: usize) {
        prefetch::lines(self.address(), bytes);
    }
}

/// A few values of a tree's node in memory of their own, none of which is dropped when it is freed. It owns nothing by
/// itself, like a [`Child`].
pub(super) struct Run<V> {
    values: NonNull<V>,
    /// A bit for each value that is there, in order.
    present: u16,
    born: Sequence,
}

// SAFETY: several versions share a run, on any thread, and any thread may free it.
#[expect(unsafe_code, reason = "a pointer is neither by itself")]
unsafe impl<V: Send + Sync> Send for Run<V> {}
// SAFETY: a shared reference to it gives shared references to its values.
#[expect(unsafe_code, reason = "a pointer is neither by itself")]
unsafe impl<V: Send + Sync> Sync for Run<V> {}

impl<V> Default for Run<V> {
    fn default() -> Self {
        Self { values: NonNull::dangling(), present: 0, born: Sequence::default() }
    }
}

impl<V> Run<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.present == 0
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.present == other.present && (self.is_empty() || self.values == other.values)
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> *const u8 {
        self.values.as_ptr().cast_const().cast()
    }

    fn len(&self) -> usize {
        self.present.count_ones() as usize
    }

    fn bit(at: u32) -> u16 {
        1_u16.checked_shl(at).unwrap_or(0)
    }

    /// Where the value of a bit is, or would be.
    fn position(&self, at: u32) -> usize {
        (self.present & Self::bit(at).wrapping_sub(1)).count_ones() as usize
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "the values are kept alive by their version")]
    fn values(&self) -> &[V] {
        // SAFETY: the pointer dangles only if no bit is set; otherwise it came from a boxed slice of as many values as there
        // are bits, in `Editor::run`. That it is still there, and nobody writes to it, is as in `Child::get`.
        unsafe { std::slice::from_raw_parts(self.values.as_ptr(), self.len()) }
    }

    /// The value of a bit.
    #[inline(always)]
    pub(super) fn get(&self, at: u32) -> Option<&V> {
        if self.present & Self::bit(at) == 0 {
            return None;
        }
        self.values().get(self.position(at))
    }

    /// Its memory, if it has any.
    fn block(&self) -> Option<Block> {
        let layout = Layout::array::<V>(self.len()).ok().filter(|layout| layout.size() > 0)?;
        Some(Block { address: self.values.cast(), layout })
    }

    /// Starts loading the value of a bit.
    pub(super) fn prefetch(&self, at: u32) {
        prefetch::lines(self.values.as_ptr().wrapping_add(self.position(at)).cast_const().cast(), 1);
    }

    /// All values with their bits, in order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        let bits = (0..u16::BITS).filter(|at| self.present & Self::bit(*at) != 0);
        bits.zip(self.values())
    }
}

/// A region that the versions of an index keep, all of them with one reference count together.
pub(super) struct Kept(ManuallyDrop<Region>);

impl Kept {
    /// The same region in the other index of the same version.
    #[expect(unsafe_code, reason = "copies a handle without its count")]
    pub(super) fn share(&self) -> Self {
        // SAFETY: neither copy is ever dropped as it is. The one reference count that stands for both is given back when the
        // key index retires its copy.
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

/// # Safety
/// The pointer leads to a node of that type which is alive.
#[expect(unsafe_code, reason = "copies a node as bytes")]
unsafe fn copy_of<N: Node>(node: NonNull<Born<N>>) -> N {
    // SAFETY: the caller's word; and `Node` promises that its bytes may be copied for another version.
    unsafe { node.read() }.node
}

/// Makes the next version: what it changes, it first owns. Unless it is [done](Self::done), all that it made is freed when it
/// is dropped, and what it retired is left as it was.
pub(super) struct Editor {
    version: Sequence,
    retired: Vec<Garbage>,
    spares: Spares,
    made: Vec<Block>,
    kept: Vec<Kept>,
}

impl Editor {
    pub(super) fn new(version: Sequence, spares: Spares) -> Self {
        Self { version, retired: Vec::new(), spares, made: Vec::new(), kept: Vec::new() }
    }

    /// From here on what was made belongs to the new version. Returns what that version no longer uses.
    pub(super) fn done(&mut self) -> Vec<Garbage> {
        self.made.clear();
        self.kept.clear();
        std::mem::take(&mut self.retired)
    }

    /// Takes out the memory that was not needed.
    pub(super) fn take_spares(&mut self) -> Spares {
        std::mem::take(&mut self.spares)
    }

    /// The version that is being made.
    pub(super) fn version(&self) -> Sequence {
        self.version
    }

    pub(super) fn leaf<L: Node, B: Node>(&mut self, leaf: L) -> Child<L, B> {
        let address = self.make(leaf).cast::<()>().map_addr(|address| address | LEAF);
        Child { address, nodes: PhantomData }
    }

    pub(super) fn branch<L: Node, B: Node>(&mut self, branch: B) -> Child<L, B> {
        Child { address: self.make(branch).cast(), nodes: PhantomData }
    }

    #[expect(unsafe_code, reason = "writes into memory that was used before")]
    fn make<N: Node>(&mut self, node: N) -> NonNull<Born<N>> {
        const { assert!(!std::mem::needs_drop::<N>()) };
        let born = Born { at: self.version, node };
        let layout = Layout::new::<Born<N>>();
        let address = match self.spares.take(layout) {
            None => NonNull::from(Box::leak(Box::new(born))),
            Some(spare) => {
                let spare = spare.cast::<Born<N>>();
                // SAFETY: a spare block is nobody's, and it came from the allocator with the layout of this very type.
                unsafe { spare.write(born) };
                spare
            }
        };
        self.made.push(Block { address: address.cast(), layout });
        address
    }

    /// Takes in a region that comes with this version.
    pub(super) fn keep(&mut self, region: Region) -> Kept {
        let kept = Kept(ManuallyDrop::new(region));
        self.kept.push(kept.share());
        kept
    }

    /// Values in order of their bits; nothing in them is ever dropped.
    pub(super) fn run<V>(&mut self, present: u16, values: Vec<V>) -> Run<V> {
        const { assert!(!std::mem::needs_drop::<V>()) };
        debug_assert_eq!(present.count_ones() as usize, values.len());
        let values = NonNull::from(Box::leak(values.into_boxed_slice())).cast();
        let run = Run { values, present, born: self.version };
        self.made.extend(run.block());
        run
    }

    /// Puts a value in, or takes it out.
    pub(super) fn change_run<V: Clone>(&mut self, run: &mut Run<V>, at: u32, value: Option<V>) {
        let (position, bit) = (run.position(at), Run::<V>::bit(at));
        let is_there = usize::from(run.present & bit != 0);
        let (before, rest) = run.values().split_at(position.min(run.len()));
        let behind = rest.get(is_there..).unwrap_or_default();
        let present = if value.is_some() { run.present | bit } else { run.present & !bit };
        let values = before.iter().cloned().chain(value).chain(behind.iter().cloned()).collect();
        let changed = self.run(present, values);
        self.retire_run(std::mem::replace(run, changed));
    }

    /// Takes a run that the new version does not use.
    pub(super) fn retire_run<V>(&mut self, run: Run<V>) {
        let garbage = run.block().map(|block| Garbage { born: run.born, what: What::Run(block) });
        self.retired.extend(garbage);
    }

    /// The node, to be changed: itself if this version made it, else a copy that takes its place.
    #[expect(unsafe_code, reason = "writes through a pointer")]
    pub(super) fn own<'n, L: Node, B: Node>(&mut self, child: &'n mut Child<L, B>) -> ChildMut<'n, L, B> {
        if child.born() != self.version {
            // SAFETY: the bit tells the type, and the node is alive, as in `Child::get`.
            let copy = unsafe {
                match child.is_leaf() {
                    true => self.leaf(copy_of(child.node::<L>())),
                    false => self.branch(copy_of(child.node::<B>())),
                }
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
        self.retired.push(Garbage { born: child.born(), what: What::Node(child.block()) });
    }

    /// Takes a region that the new version does not use, and which came with the version `born`.
    pub(super) fn retire_region(&mut self, region: Kept, born: Sequence) {
        self.retired.push(Garbage { born, what: What::Region(region.0) });
    }
}

impl Drop for Editor {
    #[expect(unsafe_code, reason = "frees what nobody came to see")]
    fn drop(&mut self) {
        for block in self.made.drain(..) {
            // SAFETY: this version was given up, so nobody else has seen what it made; each block is listed once, when it
            // was made, and what is retired of it is not freed by an editor.
            unsafe { block.free() }
        }
        self.kept.drain(..).for_each(|kept| drop(ManuallyDrop::into_inner(kept.0)));
    }
}

/// Takes an index apart of which no version is left, and no writer.
pub(super) struct Teardown(());

impl Teardown {
    /// # Safety
    /// No version of the index is left, nor its writer, and what it is used for is freed once.
    #[expect(unsafe_code, reason = "what it frees may still be in use")]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }

    #[expect(unsafe_code, reason = "frees memory")]
    pub(super) fn garbage(&mut self, garbage: Vec<Garbage>) {
        for one in garbage {
            // SAFETY: the word of who made this.
            unsafe { one.free() }
        }
    }

    /// Frees a node, but for what lies below it.
    #[expect(unsafe_code, reason = "frees memory")]
    pub(super) fn node<L: Node, B: Node>(&mut self, child: &Child<L, B>) {
        // SAFETY: the word of who made this.
        unsafe { child.block().free() }
    }

    #[expect(unsafe_code, reason = "frees memory")]
    pub(super) fn run<V>(&mut self, run: &Run<V>) {
        if let Some(block) = run.block() {
            // SAFETY: the word of who made this.
            unsafe { block.free() }
        }
    }

    /// Gives back the reference count of a region.
    pub(super) fn region(&mut self, region: &Kept) {
        drop(ManuallyDrop::into_inner(region.share().0));
    }
}
