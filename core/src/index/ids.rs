//! [`IdTree`]: the regions of one version by id, and when each of them last changed.
//!
//! A copy-on-write radix tree. Ids come from an allocator that hands out others in between (those of peers, and of regions
//! that live elsewhere), so a leaf spans 16 ids but stores only those that are there; branches are 16 wide. As with the key
//! index, a node is copied once within an edit. A single very large id makes the whole tree as high as that id needs: at
//! most 12 levels of branches.

use std::array;

use triomphe::{Arc, ThinArc};

use crate::ids::{RegionId, Sequence};
use crate::prefetch;
use crate::region::Region;

const SPAN_BITS: u32 = 4;
const SPAN: usize = 1 << SPAN_BITS;
const FAN_BITS: u32 = 4;
const FAN: usize = 1 << FAN_BITS;

/// One region. The handle is always there, but for the moment in which a leaf is taken apart.
#[derive(Clone, Default)]
struct Slot {
    region: Option<Region>,
    changed_at: Sequence,
}

impl Slot {
    fn identity(&self) -> (Option<*const u8>, Sequence) {
        (self.region.as_ref().map(|region| region.as_bytes().as_ptr()), self.changed_at)
    }
}

/// The last version that holds a branch lowers the same counts; they may have left the cache since.
impl Drop for Branch {
    fn drop(&mut self) {
        self.children.iter().flatten().for_each(Node::prefetch_count);
    }
}

/// A bit for each id that is there, and their slots in order.
type Leaf = ThinArc<u16, Slot>;

#[derive(Clone)]
enum Node {
    Leaf(Leaf),
    Branch(Arc<Branch>),
}

struct Branch {
    children: [Option<Node>; FAN],
}

/// A copy raises reference counts, each in memory of its own: asked for first, they come together.
impl Clone for Branch {
    fn clone(&self) -> Self {
        self.children.iter().flatten().for_each(Node::prefetch_count);
        Self { children: self.children.clone() }
    }
}

#[derive(Clone, Default)]
pub(super) struct IdTree {
    root: Option<Node>,
    /// Levels of branches above the leaves.
    height: u32,
    len: usize,
}

impl IdTree {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A tree of regions that come in order of ids.
    pub(super) fn build(regions: &[Region], changed_at: Sequence) -> Self {
        let mut tree = Self { len: regions.len(), ..Self::default() };
        let leaf_of = |region: &Region| region.id().get() >> SPAN_BITS;
        for run in regions.chunk_by(|left, right| leaf_of(left) == leaf_of(right)) {
            let mut slots = [const { None }; SPAN];
            for region in run {
                let slot = Slot { region: Some(region.clone()), changed_at };
                slots
                    .iter_mut()
                    .skip(region.id().get() as usize % SPAN)
                    .take(1)
                    .for_each(|place| *place = Some(slot.clone()));
            }
            tree.hang(run.first().map_or(0, |region| region.id().get()), pack(slots));
        }
        tree
    }

    /// Hangs a leaf into the place of an id.
    fn hang(&mut self, id: u64, leaf: Leaf) {
        while overflows(id, self.height) {
            self.grow();
        }
        let (mut node, mut height) = (&mut self.root, self.height);
        while height > 0 {
            let Node::Branch(branch) = node.get_or_insert_with(|| empty_node(height)) else { return };
            let Some(child) = Arc::make_mut(branch).children.get_mut(child_of(id, height)) else { return };
            (node, height) = (child, height - 1);
        }
        *node = Some(Node::Leaf(leaf));
    }

    /// A few cached loads, and the slot.
    #[inline]
    pub(super) fn get(&self, id: RegionId) -> Option<(&Region, Sequence)> {
        let id = id.get();
        if overflows(id, self.height) {
            return None;
        }
        let mut node = self.root.as_ref()?;
        let mut height = self.height;
        while let Node::Branch(branch) = node {
            node = branch.children.get(child_of(id, height))?.as_ref()?;
            height -= 1;
        }
        let Node::Leaf(leaf) = node else { return None };
        let slot = slot_of(leaf, id)?;
        Some((slot.region.as_ref()?, slot.changed_at))
    }

    /// Puts in a region, in the place of the one with its id if there is one.
    pub(super) fn insert(&mut self, region: Region, changed_at: Sequence) {
        let id = region.id().get();
        while overflows(id, self.height) {
            self.grow();
        }
        let root = self.root.get_or_insert_with(|| empty_node(self.height));
        let added = root.insert(id, self.height, Slot { region: Some(region), changed_at });
        self.len += usize::from(added);
    }

    pub(super) fn remove(&mut self, id: RegionId) -> Option<Region> {
        self.get(id)?;
        let root = self.root.as_mut()?;
        let region = root.remove(id.get(), self.height)?;
        self.len -= 1;
        if root.is_empty() {
            *self = Self::default();
        }
        self.shrink();
        Some(region)
    }

    /// One level more: everything that was there is under the first child.
    fn grow(&mut self) {
        if let Some(root) = self.root.take() {
            let mut first = Some(root);
            self.root = Some(Node::Branch(Arc::new(Branch { children: array::from_fn(|_| first.take()) })));
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

    /// Calls `visit` for every id whose region or version counter differs between the two trees, in order of ids, with
    /// what is there before and after. Costs in proportion to what changed: subtrees that both share are passed over.
    pub(super) fn diff<'a>(&'a self, later: &'a Self, visit: &mut dyn FnMut(Option<&'a Region>, Option<&'a Region>)) {
        diff(Subtree::of(self), Subtree::of(later), self.height.max(later.height), visit);
    }
}

/// One side of a comparison. A subtree that is lower than the other stands for one with nothing but a first child.
#[derive(Clone, Copy)]
struct Subtree<'a> {
    node: Option<&'a Node>,
    height: u32,
}

impl<'a> Subtree<'a> {
    fn of(tree: &'a IdTree) -> Self {
        Self { node: tree.root.as_ref(), height: tree.height }
    }

    fn child(self, at: usize, height: u32) -> Self {
        match self.node {
            _ if self.height < height => Self { node: self.node.filter(|_| at == 0), ..self },
            Some(Node::Branch(branch)) => {
                Self { node: branch.children.get(at).and_then(Option::as_ref), height: height - 1 }
            }
            _ => Self { node: None, height: height - 1 },
        }
    }

    fn slot(self, id: u64) -> Option<&'a Slot> {
        match self.node? {
            Node::Leaf(leaf) => slot_of(leaf, id),
            Node::Branch(_) => None,
        }
    }

    fn is(self, other: Self) -> bool {
        match (self.node, other.node) {
            (None, None) => true,
            (Some(Node::Leaf(one)), Some(Node::Leaf(other))) => std::ptr::eq(one.as_ptr(), other.as_ptr()),
            (Some(Node::Branch(one)), Some(Node::Branch(two))) => self.height == other.height && Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

fn diff<'a>(
    before: Subtree<'a>,
    after: Subtree<'a>,
    height: u32,
    visit: &mut dyn FnMut(Option<&'a Region>, Option<&'a Region>),
) {
    if before.height == after.height && before.is(after) {
        return;
    }
    if height > 0 {
        (0..FAN).for_each(|at| diff(before.child(at, height), after.child(at, height), height - 1, visit));
        return;
    }
    for id in 0..SPAN as u64 {
        let (before, after) = (before.slot(id), after.slot(id));
        if before.map(Slot::identity) != after.map(Slot::identity) {
            visit(before.and_then(|slot| slot.region.as_ref()), after.and_then(|slot| slot.region.as_ref()));
        }
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.header.header == 0,
            Self::Branch(branch) => branch.children.iter().all(Option::is_none),
        }
    }

    /// The count lies just in front of a branch, and at the start of a leaf.
    fn prefetch_count(&self) {
        match self {
            Self::Leaf(leaf) => prefetch::lines(leaf.as_ptr().cast(), 1),
            Self::Branch(branch) => prefetch::lines(branch.as_ptr().cast(), 1),
        }
    }

    /// Whether the id is new.
    fn insert(&mut self, id: u64, height: u32, slot: Slot) -> bool {
        match self {
            Self::Leaf(leaf) => insert_slot(leaf, id, slot),
            Self::Branch(branch) => {
                let child = Arc::make_mut(branch).children.get_mut(child_of(id, height));
                child.is_some_and(|child| {
                    child.get_or_insert_with(|| empty_node(height - 1)).insert(id, height - 1, slot)
                })
            }
        }
    }

    fn remove(&mut self, id: u64, height: u32) -> Option<Region> {
        match self {
            Self::Leaf(leaf) => remove_slot(leaf, id),
            Self::Branch(branch) => {
                let child = Arc::make_mut(branch).children.get_mut(child_of(id, height))?;
                let region = child.as_mut()?.remove(id, height - 1);
                if child.as_ref().is_some_and(Self::is_empty) {
                    *child = None;
                }
                region
            }
        }
    }
}

/// Whether a tree of that height has no place for the id.
#[inline]
fn overflows(id: u64, height: u32) -> bool {
    id.checked_shr(SPAN_BITS + FAN_BITS * height).is_some_and(|rest| rest != 0)
}

/// Which child of a branch at that height (1 is just above the leaves) leads to the id.
#[inline]
fn child_of(id: u64, height: u32) -> usize {
    (id >> (SPAN_BITS + FAN_BITS * (height - 1))) as usize % FAN
}

fn empty_node(height: u32) -> Node {
    if height == 0 {
        Node::Leaf(pack([const { None }; SPAN]))
    } else {
        Node::Branch(Arc::new(Branch { children: [const { None }; FAN] }))
    }
}

fn bit_of(id: u64) -> u16 {
    1 << (id as usize % SPAN)
}

/// Where an id's slot is, or would be.
fn position_of(present: u16, id: u64) -> usize {
    (present & (bit_of(id) - 1)).count_ones() as usize
}

#[inline]
fn slot_of(leaf: &Leaf, id: u64) -> Option<&Slot> {
    let present = leaf.header.header;
    if present & bit_of(id) == 0 {
        return None;
    }
    leaf.slice.get(position_of(present, id))
}

/// Whether the id is new.
fn insert_slot(leaf: &mut Leaf, id: u64, slot: Slot) -> bool {
    if replace_slot(leaf, id, &slot) {
        return false;
    }
    let mut slots = unpack(leaf);
    let added = slots.get_mut(id as usize % SPAN).is_some_and(|place| place.replace(slot).is_none());
    *leaf = pack(slots);
    added
}

/// Changes the slot of an id where it is, if there is one and nobody else holds the leaf.
fn replace_slot(leaf: &mut Leaf, id: u64, slot: &Slot) -> bool {
    let present = leaf.header.header;
    if present & bit_of(id) == 0 {
        return false;
    }
    leaf.with_arc_mut(|leaf| {
        match Arc::get_mut(leaf).and_then(|own| own.slice_mut().get_mut(position_of(present, id))) {
            Some(place) => {
                *place = slot.clone();
                true
            }
            None => false,
        }
    })
}

fn remove_slot(leaf: &mut Leaf, id: u64) -> Option<Region> {
    let mut slots = unpack(leaf);
    let slot = slots.get_mut(id as usize % SPAN)?.take();
    *leaf = pack(slots);
    slot?.region
}

/// The slots of a leaf, each in its place: moved out if nobody else holds the leaf, copied otherwise.
fn unpack(leaf: &mut Leaf) -> [Option<Slot>; SPAN] {
    let present = leaf.header.header;
    leaf.with_arc_mut(|leaf| {
        let mut slots = array::from_fn(|_| None);
        let places = slots.iter_mut().enumerate().filter(|(at, _)| present >> at & 1 == 1).map(|(_, slot)| slot);
        match Arc::get_mut(leaf) {
            Some(own) => places.zip(own.slice_mut()).for_each(|(to, from)| *to = Some(std::mem::take(from))),
            None => {
                leaf.slice().iter().filter_map(|slot| slot.region.as_ref()).for_each(Region::prefetch_count);
                places.zip(leaf.slice()).for_each(|(to, from)| *to = Some(from.clone()));
            }
        }
        slots
    })
}

fn pack(slots: [Option<Slot>; SPAN]) -> Leaf {
    let present = slots.iter().enumerate().map(|(at, slot)| u16::from(slot.is_some()) << at).sum::<u16>();
    let mut slots = slots.into_iter().flatten();
    ThinArc::from_header_and_iter(present, (0..present.count_ones()).map(|_| slots.next().unwrap_or_default()))
}

#[cfg(test)]
impl IdTree {
    pub(super) fn height(&self) -> u32 {
        self.height
    }

    pub(super) fn collect_nodes(&self, nodes: &mut std::collections::HashSet<*const ()>) {
        let mut left: Vec<&Node> = self.root.iter().collect();
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
}
