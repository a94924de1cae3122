//! [`IdTree`]: the regions of one version by id, and when each of them last changed.
//!
//! A copy-on-write radix tree. Ids come from an allocator that hands out others in between (those of peers, and of regions
//! that live elsewhere), so 16 neighbouring ids share a [`Run`] that stores only those that are there. A [`Twig`] leads to 16
//! runs and knows which ids each of them has, so that a lookup touches one line of a run; branches are 64 wide. A single
//! very large id makes the whole tree as high as that id needs: at most 10 levels of branches.

use std::array;

use super::own::{self, ChildMut, ChildRef, Editor, Kept, Node, Run, Teardown};
use crate::ids::{RegionId, Sequence};
use crate::region::Region;

const RUN_BITS: u32 = 4;
const TWIG_BITS: u32 = 4;
const RUNS: usize = 1 << TWIG_BITS;
const FAN_BITS: u32 = 6;
const FAN: usize = 1 << FAN_BITS;

/// One region. Its reference count belongs to the key index.
struct Slot {
    region: Kept,
    changed_at: Sequence,
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        Self { region: self.region.share(), changed_at: self.changed_at }
    }
}

impl Slot {
    fn identity(&self) -> (*const u8, Sequence) {
        (self.region.as_bytes().as_ptr(), self.changed_at)
    }
}

/// The lowest level of nodes.
struct Twig {
    runs: [Run<Slot>; RUNS],
}

struct Branch {
    children: [Option<Child>; FAN],
}

type Child = own::Child<Twig, Branch>;

// SAFETY: a run owns nothing by itself, and neither does what it has.
#[expect(unsafe_code, reason = "nodes are copied as bytes")]
unsafe impl Node for Twig {}
// SAFETY: slots of `Child`.
#[expect(unsafe_code, reason = "nodes are copied as bytes")]
unsafe impl Node for Branch {}

#[derive(Default)]
pub(super) struct IdTree {
    root: Option<Child>,
    /// Levels of branches above the twigs.
    height: u32,
    len: usize,
}

impl IdTree {
    /// A tree of regions that come in order of ids.
    pub(super) fn build(regions: &[Kept], editor: &mut Editor) -> Self {
        let mut tree = Self { len: regions.len(), ..Self::default() };
        for neighbours in regions.chunk_by(|left, right| run_of(left.id()) == run_of(right.id())) {
            let Some(first) = neighbours.first() else { continue };
            let present = neighbours.iter().fold(0, |present, region| present | 1_u16 << bit_of(region.id()));
            let slots = neighbours.iter().map(|region| Slot { region: region.share(), changed_at: editor.version() });
            let run = editor.run(present, slots.collect());
            if let Some(place) = tree.run_mut(first.id(), editor) {
                *place = run;
            }
        }
        tree
    }

    /// The same tree, as the next version begins with it.
    pub(super) fn share(&self) -> Self {
        Self { root: self.root.as_ref().map(Child::share), height: self.height, len: self.len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A few cached loads, and the slot.
    #[inline]
    pub(super) fn get(&self, id: RegionId) -> Option<(&Region, Sequence)> {
        let slot = self.run(id)?.get(bit_of(id))?;
        Some((&slot.region, slot.changed_at))
    }

    /// Starts loading the slot of an id.
    pub(super) fn prefetch(&self, id: RegionId) {
        if let Some(run) = self.run(id) {
            run.prefetch(bit_of(id));
        }
    }

    #[inline]
    fn run(&self, id: RegionId) -> Option<&Run<Slot>> {
        if overflows(id, self.height) {
            return None;
        }
        let mut node = self.root.as_ref()?;
        let mut height = self.height;
        loop {
            match node.get() {
                ChildRef::Branch(branch) => node = branch.children.get(child_of(id, height))?.as_ref()?,
                ChildRef::Leaf(twig) => return twig.runs.get(place_of(id)),
            }
            height -= 1;
        }
    }

    /// Puts in a region, in the place of the one with its id if there is one.
    pub(super) fn insert(&mut self, region: Kept, editor: &mut Editor) {
        let (id, changed_at) = (region.id(), editor.version());
        let Some(run) = self.run_mut(id, editor) else { return };
        let is_new = run.get(bit_of(id)).is_none();
        editor.change_run(run, bit_of(id), Some(Slot { region, changed_at }));
        self.len += usize::from(is_new);
    }

    pub(super) fn remove(&mut self, id: RegionId, editor: &mut Editor) {
        if self.get(id).is_none() {
            return;
        }
        if let Some(run) = self.run_mut(id, editor) {
            editor.change_run(run, bit_of(id), None);
            self.len -= 1;
        }
        if let Some(root) = &mut self.root
            && root.prune(id, self.height, editor)
        {
            self.root.take().into_iter().for_each(|root| editor.retire(root));
            self.height = 0;
        }
        self.shrink(editor);
    }

    /// The run of an id, to be changed; nodes on the way are owned by the editor.
    fn run_mut(&mut self, id: RegionId, editor: &mut Editor) -> Option<&mut Run<Slot>> {
        while overflows(id, self.height) {
            self.grow(editor);
        }
        let mut height = self.height;
        let mut node = self.root.get_or_insert_with(|| empty_node(height, editor));
        loop {
            match editor.own(node) {
                ChildMut::Leaf(twig) => return twig.runs.get_mut(place_of(id)),
                ChildMut::Branch(branch) => {
                    let child = branch.children.get_mut(child_of(id, height))?;
                    height -= 1;
                    node = child.get_or_insert_with(|| empty_node(height, editor));
                }
            }
        }
    }

    /// One level more: everything that was there is under the first child.
    fn grow(&mut self, editor: &mut Editor) {
        if let Some(root) = self.root.take() {
            let mut first = Some(root);
            self.root = Some(editor.branch(Branch { children: array::from_fn(|_| first.take()) }));
        }
        self.height += 1;
    }

    /// Takes away levels in which only the first child is left.
    fn shrink(&mut self, editor: &mut Editor) {
        while let Some(root) = &self.root
            && let ChildRef::Branch(branch) = root.get()
            && let [Some(first), rest @ ..] = &branch.children
            && rest.iter().all(Option::is_none)
        {
            let first = first.share();
            self.root.replace(first).into_iter().for_each(|root| editor.retire(root));
            self.height -= 1;
        }
    }

    /// Calls `visit` for every id whose region or version counter differs between the two trees, in order of ids, with what
    /// is there before and after. Costs in proportion to what changed: subtrees that both share are passed over.
    pub(super) fn diff<'a>(&'a self, later: &'a Self, visit: &mut dyn FnMut(Option<&'a Region>, Option<&'a Region>)) {
        diff(Subtree::of(self), Subtree::of(later), self.height.max(later.height), visit);
    }

    /// Frees the whole tree.
    pub(super) fn tear_down(self, teardown: &mut Teardown) {
        self.root.iter().for_each(|root| root.tear_down(teardown));
    }
}

impl Child {
    /// Takes out what has become empty on the way to an id; whether this node is empty itself.
    fn prune(&mut self, id: RegionId, height: u32, editor: &mut Editor) -> bool {
        match editor.own(self) {
            ChildMut::Leaf(twig) => twig.runs.iter().all(Run::is_empty),
            ChildMut::Branch(branch) => {
                let Some(slot) = branch.children.get_mut(child_of(id, height)) else { return false };
                if slot.as_mut().is_some_and(|child| child.prune(id, height - 1, editor)) {
                    slot.take().into_iter().for_each(|child| editor.retire(child));
                }
                branch.children.iter().all(Option::is_none)
            }
        }
    }

    fn tear_down(&self, teardown: &mut Teardown) {
        match self.get() {
            ChildRef::Leaf(twig) => twig.runs.iter().for_each(|run| teardown.run(run)),
            ChildRef::Branch(branch) => branch.children.iter().flatten().for_each(|child| child.tear_down(teardown)),
        }
        teardown.node(self);
    }
}

/// One side of a comparison. A subtree that is lower than the other stands for one with nothing but a first child.
#[derive(Clone, Copy)]
struct Subtree<'a> {
    node: Option<&'a Child>,
    height: u32,
}

impl<'a> Subtree<'a> {
    fn of(tree: &'a IdTree) -> Self {
        Self { node: tree.root.as_ref(), height: tree.height }
    }

    fn child(self, at: usize, height: u32) -> Self {
        if self.height < height {
            return Self { node: self.node.filter(|_| at == 0), ..self };
        }
        let node = match self.node.map(Child::get) {
            Some(ChildRef::Branch(branch)) => branch.children.get(at).and_then(Option::as_ref),
            _ => None,
        };
        Self { node, height: height - 1 }
    }

    fn run(self, at: usize) -> Option<&'a Run<Slot>> {
        match self.node?.get() {
            ChildRef::Leaf(twig) => twig.runs.get(at),
            ChildRef::Branch(_) => None,
        }
    }

    fn is(self, other: Self) -> bool {
        match (self.node, other.node) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
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
    for at in 0..RUNS {
        let (before, after) = (before.run(at), after.run(at));
        if before.zip(after).is_some_and(|(before, after)| before.is_same(after)) {
            continue;
        }
        for bit in 0..1 << RUN_BITS {
            let slot = |run: Option<&'a Run<Slot>>| run.and_then(|run| run.get(bit));
            let (before, after) = (slot(before), slot(after));
            if before.map(Slot::identity) != after.map(Slot::identity) {
                visit(before.map(|slot| &*slot.region), after.map(|slot| &*slot.region));
            }
        }
    }
}

fn empty_node(height: u32, editor: &mut Editor) -> Child {
    if height == 0 {
        editor.leaf(Twig { runs: array::from_fn(|_| Run::default()) })
    } else {
        editor.branch(Branch { children: [const { None }; FAN] })
    }
}

/// Whether a tree of that height has no place for the id.
#[inline]
fn overflows(id: RegionId, height: u32) -> bool {
    id.get().checked_shr(RUN_BITS + TWIG_BITS + FAN_BITS * height).is_some_and(|rest| rest != 0)
}

/// Which child of a branch at that height (1 is just above the twigs) leads to the id.
#[inline]
fn child_of(id: RegionId, height: u32) -> usize {
    (id.get() >> (RUN_BITS + TWIG_BITS + FAN_BITS * (height - 1))) as usize % FAN
}

/// The number of an id's run among all runs.
#[inline]
fn run_of(id: RegionId) -> u64 {
    id.get() >> RUN_BITS
}

/// Which run of its twig that is.
#[inline]
fn place_of(id: RegionId) -> usize {
    run_of(id) as usize % RUNS
}

/// Its place in the run.
#[inline]
fn bit_of(id: RegionId) -> u32 {
    id.get() as u32 % (1 << RUN_BITS)
}

#[cfg(test)]
impl IdTree {
    pub(super) fn height(&self) -> u32 {
        self.height
    }

    pub(super) fn collect_nodes(&self, nodes: &mut std::collections::HashSet<*const ()>) {
        self.root.iter().for_each(|root| root.collect_nodes(nodes));
    }

    /// Panics if a node is empty or the length is wrong.
    pub(super) fn check(&self) {
        assert_eq!(self.root.as_ref().map_or(0, Child::check), self.len);
    }
}

#[cfg(test)]
impl Child {
    fn collect_nodes(&self, nodes: &mut std::collections::HashSet<*const ()>) {
        match self.get() {
            ChildRef::Leaf(twig) => {
                let runs = twig.runs.iter().filter(|run| !run.is_empty());
                nodes.extend(runs.map(|run| run.address().cast::<()>()));
            }
            ChildRef::Branch(branch) => branch.children.iter().flatten().for_each(|child| child.collect_nodes(nodes)),
        }
        nodes.insert(self.address().cast());
    }

    fn check(&self) -> usize {
        let len = match self.get() {
            ChildRef::Leaf(twig) => twig.runs.iter().map(|run| run.iter().count()).sum(),
            ChildRef::Branch(branch) => branch.children.iter().flatten().map(Self::check).sum(),
        };
        assert!(len > 0, "an empty node");
        len
    }
}
