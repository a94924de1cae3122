//! [`Radix`]: a copy-on-write radix tree over numbers, for what changes less often than the regions themselves: stores, sets
//! of ids, reported sizes. Its nodes count their holders, so it can hold values that do so too.
//!
//! Ids come from an allocator that hands out others in between (those of peers, and of regions that live elsewhere), so a
//! leaf spans 16 keys but stores only those that are there; branches are 16 wide. As with the key index, a node is copied
//! once within an edit. A single very large key makes the whole tree as high as that key needs: at most 15 levels of
//! branches.

use std::array;

use triomphe::{Arc, ThinArc};

use crate::prefetch;

const SPAN_BITS: u32 = 4;
const SPAN: usize = 1 << SPAN_BITS;
const FAN_BITS: u32 = 4;
const FAN: usize = 1 << FAN_BITS;

/// What a radix tree holds.
pub(super) trait Value: Clone {
    /// What the value adds to the tree's [`weight`](Radix::weight).
    fn weight(&self) -> usize {
        1
    }

    /// Asks for the memory that copying or dropping the value will change: its reference count, if it has one.
    fn prefetch_count(&self) {}
}

/// A bit for each key that is there, and their values in order. A value is always there, but for the moment in which a leaf
/// is taken apart.
type Leaf<V> = ThinArc<u16, Option<V>>;

#[derive(Clone)]
enum Node<V: Value> {
    Leaf(Leaf<V>),
    Branch(Arc<Branch<V>>),
}

struct Branch<V: Value> {
    children: [Option<Node<V>>; FAN],
    /// The weights of all values below, added up.
    weight: usize,
}

/// A copy raises reference counts, each in memory of its own: asked for first, they come together.
impl<V: Value> Clone for Branch<V> {
    fn clone(&self) -> Self {
        self.children.iter().flatten().for_each(Node::prefetch_count);
        Self { children: self.children.clone(), weight: self.weight }
    }
}

/// The last version that holds a branch lowers the same counts; they may have left the cache since.
impl<V: Value> Drop for Branch<V> {
    fn drop(&mut self) {
        self.children.iter().flatten().for_each(Node::prefetch_count);
    }
}

#[derive(Clone)]
pub(super) struct Radix<V: Value> {
    root: Option<Node<V>>,
    /// Levels of branches above the leaves.
    height: u32,
}

impl<V: Value> Default for Radix<V> {
    fn default() -> Self {
        Self { root: None, height: 0 }
    }
}

impl<V: Value> Radix<V> {
    /// A tree of values that come in order of their keys, each key once.
    pub(super) fn build(sorted: impl IntoIterator<Item = (u64, V)>) -> Self {
        let mut tree = Self::default();
        let mut sorted = sorted.into_iter().peekable();
        while let Some((first, value)) = sorted.next() {
            let mut slots = [const { None }; SPAN];
            put(&mut slots, first, value);
            while let Some((key, value)) = sorted.next_if(|(key, _)| key >> SPAN_BITS == first >> SPAN_BITS) {
                put(&mut slots, key, value);
            }
            tree.hang(first, pack(slots));
        }
        if let Some(root) = &mut tree.root {
            root.weigh();
        }
        tree
    }

    /// Hangs a leaf into the place of a key. The branches above it are weighed when all leaves are there.
    fn hang(&mut self, key: u64, leaf: Leaf<V>) {
        while overflows(key, self.height) {
            self.grow();
        }
        let (mut node, mut height) = (&mut self.root, self.height);
        while height > 0 {
            let Node::Branch(branch) = node.get_or_insert_with(|| Node::empty(height)) else { return };
            let Some(child) = Arc::make_mut(branch).children.get_mut(child_of(key, height)) else { return };
            (node, height) = (child, height - 1);
        }
        *node = Some(Node::Leaf(leaf));
    }

    /// The weights of all values, added up: their number, if each weighs 1. O(1).
    pub(super) fn weight(&self) -> usize {
        self.root.as_ref().map_or(0, Node::weight)
    }

    /// A few cached loads, and the value.
    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<&V> {
        if overflows(key, self.height) {
            return None;
        }
        let mut node = self.root.as_ref()?;
        let mut height = self.height;
        while let Node::Branch(branch) = node {
            node = branch.children.get(child_of(key, height))?.as_ref()?;
            height -= 1;
        }
        let Node::Leaf(leaf) = node else { return None };
        value_of(leaf, key)
    }

    /// The first key from `key` on, and its value. O(height).
    pub(super) fn at_or_after(&self, key: u64) -> Option<(u64, &V)> {
        if overflows(key, self.height) {
            return None;
        }
        self.root.as_ref()?.at_or_after(key, self.height, 0)
    }

    /// The value in which the `nth` unit of weight lies, its key, and how much of `nth` is left for it. O(height).
    pub(super) fn select(&self, nth: usize) -> Option<(u64, &V, usize)> {
        self.root.as_ref()?.select(nth, self.height, 0)
    }

    /// Puts in a value, and returns the one whose place it takes.
    pub(super) fn insert(&mut self, key: u64, value: V) -> Option<V> {
        self.edit(key, |slot| slot.replace(value))
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<V> {
        self.get(key)?;
        self.edit(key, Option::take)
    }

    /// Changes what a key has, or has not: the way of every edit. Nodes on the way that another version holds are copied,
    /// even if `change` then changes nothing.
    pub(super) fn edit<R: Default>(&mut self, key: u64, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        while overflows(key, self.height) {
            self.grow();
        }
        let root = self.root.get_or_insert_with(|| Node::empty(self.height));
        let result = root.edit(key, self.height, change);
        if root.is_empty() {
            *self = Self::default();
        }
        self.shrink();
        result
    }

    /// One level more: everything that was there is under the first child.
    fn grow(&mut self) {
        if let Some(root) = self.root.take() {
            let weight = root.weight();
            let mut first = Some(root);
            self.root = Some(Node::Branch(Arc::new(Branch { children: array::from_fn(|_| first.take()), weight })));
        }
        self.height += 1;
    }

    /// Takes away levels in which only the first child is left.
    fn shrink(&mut self) {
        while let Some(Node::Branch(branch)) = &self.root
            && let [Some(first), rest @ ..] = &branch.children
            && rest.iter().all(Option::is_none)
        {
            self.root = Some(first.clone());
            self.height -= 1;
        }
    }
}

impl<V: Value> Node<V> {
    fn empty(height: u32) -> Self {
        if height == 0 {
            Self::Leaf(pack([const { None }; SPAN]))
        } else {
            Self::Branch(Arc::new(Branch { children: [const { None }; FAN], weight: 0 }))
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.header.header == 0,
            Self::Branch(branch) => branch.children.iter().all(Option::is_none),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.slice.iter().flatten().map(Value::weight).sum(),
            Self::Branch(branch) => branch.weight,
        }
    }

    /// Adds up anew what is below a branch that nobody else holds.
    fn weigh(&mut self) {
        if let Self::Branch(branch) = self {
            let branch = Arc::make_mut(branch);
            branch.children.iter_mut().flatten().for_each(Self::weigh);
            branch.weight = branch.children.iter().flatten().map(Self::weight).sum();
        }
    }

    /// The count lies just in front of a branch, and at the start of a leaf.
    fn prefetch_count(&self) {
        match self {
            Self::Leaf(leaf) => prefetch::lines(leaf.as_ptr().cast(), 1),
            Self::Branch(branch) => prefetch::lines(branch.as_ptr().cast(), 1),
        }
    }

    fn edit<R: Default>(&mut self, key: u64, height: u32, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        match self {
            Self::Leaf(leaf) => edit_leaf(leaf, key, change),
            Self::Branch(branch) => Arc::make_mut(branch).edit(key, height, change),
        }
    }

    /// The first key from `key` on below this node, whose own keys begin with `prefix`.
    fn at_or_after(&self, key: u64, height: u32, prefix: u64) -> Option<(u64, &V)> {
        match self {
            Self::Leaf(leaf) => {
                let at = position_of(leaf.header.header, key);
                let value = leaf.slice.get(at)?.as_ref()?;
                Some((prefix | u64::from(nth_bit(leaf.header.header, at)), value))
            }
            Self::Branch(branch) => {
                let first = child_of(key, height);
                branch.children.iter().enumerate().skip(first).find_map(|(at, child)| {
                    // Only the first child has keys that come before `key`.
                    let key = if at == first { key } else { 0 };
                    child.as_ref()?.at_or_after(key, height - 1, prefix | prefix_of(at, height))
                })
            }
        }
    }

    fn select(&self, mut nth: usize, height: u32, prefix: u64) -> Option<(u64, &V, usize)> {
        match self {
            Self::Leaf(leaf) => leaf.slice.iter().flatten().enumerate().find_map(|(at, value)| {
                let found = skip(&mut nth, value.weight())?;
                Some((prefix | u64::from(nth_bit(leaf.header.header, at)), value, found))
            }),
            Self::Branch(branch) => branch.children.iter().enumerate().find_map(|(at, child)| {
                let child = child.as_ref()?;
                let nth = skip(&mut nth, child.weight())?;
                child.select(nth, height - 1, prefix | prefix_of(at, height))
            }),
        }
    }
}

impl<V: Value> Branch<V> {
    fn edit<R: Default>(&mut self, key: u64, height: u32, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        let Some(slot) = self.children.get_mut(child_of(key, height)) else { return R::default() };
        let child = slot.get_or_insert_with(|| Node::empty(height - 1));
        let before = child.weight();
        let result = child.edit(key, height - 1, change);
        self.weight = self.weight - before + child.weight();
        if child.is_empty() {
            *slot = None;
        }
        result
    }
}

/// `nth` itself if it lies within so much weight; otherwise what is left of it behind that.
pub(super) fn skip(nth: &mut usize, weight: usize) -> Option<usize> {
    match nth.checked_sub(weight) {
        None => Some(*nth),
        Some(behind) => {
            *nth = behind;
            None
        }
    }
}

/// Whether a tree of that height has no place for the key.
#[inline]
fn overflows(key: u64, height: u32) -> bool {
    key.checked_shr(SPAN_BITS + FAN_BITS * height).is_some_and(|rest| rest != 0)
}

/// Which child of a branch at that height (1 is just above the leaves) leads to the key.
#[inline]
fn child_of(key: u64, height: u32) -> usize {
    (key >> (SPAN_BITS + FAN_BITS * (height - 1))) as usize % FAN
}

/// What a child's place adds to the keys below it.
fn prefix_of(at: usize, height: u32) -> u64 {
    (at as u64) << (SPAN_BITS + FAN_BITS * (height - 1))
}

fn bit_of(key: u64) -> u16 {
    1 << (key as usize % SPAN)
}

/// Where a key's value is, or would be.
fn position_of(present: u16, key: u64) -> usize {
    (present & (bit_of(key) - 1)).count_ones() as usize
}

/// Which bit the value at a position belongs to.
fn nth_bit(present: u16, at: usize) -> u32 {
    // `present & (present - 1)` is without the lowest bit.
    (0..at).fold(present, |present, _| present & present.wrapping_sub(1)).trailing_zeros()
}

#[inline]
fn value_of<V>(leaf: &Leaf<V>, key: u64) -> Option<&V> {
    let present = leaf.header.header;
    if present & bit_of(key) == 0 {
        return None;
    }
    leaf.slice.get(position_of(present, key))?.as_ref()
}

/// Changes a value where it is, if there is one and nobody else holds the leaf; otherwise in a new leaf.
fn edit_leaf<V: Value, R: Default>(leaf: &mut Leaf<V>, key: u64, change: impl FnOnce(&mut Option<V>) -> R) -> R {
    let present = leaf.header.header;
    let (result, emptied) = if present & bit_of(key) != 0 && leaf.with_arc(Arc::is_unique) {
        leaf.with_arc_mut(|leaf| {
            let slot = Arc::get_mut(leaf).and_then(|own| own.slice_mut().get_mut(position_of(present, key)));
            slot.map_or_else(Default::default, |slot| (change(slot), slot.is_none()))
        })
    } else {
        let mut slots = unpack(leaf);
        let result = slots.get_mut(key as usize % SPAN).map(change);
        *leaf = pack(slots);
        (result.unwrap_or_default(), false)
    };
    if emptied {
        *leaf = pack(unpack(leaf));
    }
    result
}

fn put<V>(slots: &mut [Option<V>; SPAN], key: u64, value: V) {
    if let Some(slot) = slots.get_mut(key as usize % SPAN) {
        *slot = Some(value);
    }
}

/// The values of a leaf, each in its place: moved out if nobody else holds the leaf, copied otherwise.
fn unpack<V: Value>(leaf: &mut Leaf<V>) -> [Option<V>; SPAN] {
    let present = leaf.header.header;
    leaf.with_arc_mut(|leaf| {
        let mut slots = array::from_fn(|_| None);
        let places = slots.iter_mut().enumerate().filter(|(at, _)| present >> at & 1 == 1).map(|(_, slot)| slot);
        match Arc::get_mut(leaf) {
            Some(own) => places.zip(own.slice_mut()).for_each(|(to, from)| *to = from.take()),
            None => {
                leaf.slice().iter().flatten().for_each(Value::prefetch_count);
                places.zip(leaf.slice()).for_each(|(to, from)| to.clone_from(from));
            }
        }
        slots
    })
}

fn pack<V>(slots: [Option<V>; SPAN]) -> Leaf<V> {
    let present = slots.iter().enumerate().map(|(at, slot)| u16::from(slot.is_some()) << at).sum::<u16>();
    let mut slots = slots.into_iter().filter(Option::is_some);
    ThinArc::from_header_and_iter(present, (0..present.count_ones()).map(|_| slots.next().flatten()))
}

#[cfg(test)]
impl<V: Value> Radix<V> {
    pub(super) fn collect_nodes(&self, nodes: &mut std::collections::HashSet<*const ()>) {
        let mut left: Vec<&Node<V>> = self.root.iter().collect();
        while let Some(node) = left.pop() {
            match node {
                Node::Leaf(leaf) => nodes.insert(leaf.as_ptr().cast()),
                Node::Branch(branch) => {
                    left.extend(branch.children.iter().flatten());
                    nodes.insert(branch.as_ptr().cast())
                }
            };
        }
    }

    /// Panics if a node is empty, a weight is wrong or a leaf has a gap.
    pub(super) fn check(&self) {
        if let Some(root) = &self.root {
            root.check();
        }
    }
}

#[cfg(test)]
impl<V: Value> Node<V> {
    fn check(&self) {
        assert!(!self.is_empty(), "an empty node");
        match self {
            Self::Leaf(leaf) => {
                assert_eq!(leaf.header.header.count_ones() as usize, leaf.slice.len());
                assert!(leaf.slice.iter().all(Option::is_some), "a gap in a leaf");
            }
            Self::Branch(branch) => {
                let children = || branch.children.iter().flatten();
                assert_eq!(branch.weight, children().map(Self::weight).sum::<usize>(), "the weight of a branch");
                children().for_each(Self::check);
            }
        }
    }
}
