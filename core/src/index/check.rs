//! The structure of both trees as code: what every version must keep, whatever was done to it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Index;
use super::edit::MIN;
use super::heads::WIDTH;
use super::node::{Child, Totals};
use super::own::ChildRef;
use super::radix::Radix;
use super::slots::{Keyed, key_at};
use crate::ids::{RegionId, StoreId};
use crate::peer::PeerClass;

use crate::stats::Stats;

impl Index {
    /// Panics, and says where, if a tree is not as it should be or the two indexes disagree.
    pub(crate) fn check(&self) {
        check_node(self.trees.by_key.root(), None, &self.trees.stats);
        self.trees.by_id.check();
        assert_eq!(self.len(), self.len_by_key(), "I11: the two indexes have different lengths");
        let mut last: Option<&[u8]> = None;
        for region in self.iter() {
            assert!(last < Some(region.start_key()), "out of order at {region}");
            last = Some(region.start_key());
            let by_id = self.get(region.id()).expect("I11: a region by key is missing by id");
            assert!(by_id.region().same_buffer(region), "I11: {region} by key is {} by id", by_id.region());
        }
        self.check_stores();
        self.trees.stats.check();
        let reported = self.iter().filter(|region| self.stats(region.id()).is_some()).count();
        assert_eq!(reported, self.len_of_stats(), "I11: stats of a region that is gone");
    }
}

impl Index {
    fn check_stores(&self) {
        self.trees.by_store.check();
        let mut expected: BTreeMap<(StoreId, PeerClass), BTreeSet<RegionId>> = BTreeMap::new();
        for region in self.iter() {
            for peer in region.peers() {
                for class in PeerClass::ALL.into_iter().filter(|class| class.includes(peer)) {
                    expected.entry((peer.store_id, class)).or_default().insert(region.id());
                }
            }
        }
        let stores: BTreeSet<StoreId> = expected.keys().map(|(store, _)| *store).collect();
        assert!(self.trees.by_store.iter().eq(stores.iter().copied()), "I11: stores");
        for (store, class) in stores.into_iter().flat_map(|store| PeerClass::ALL.map(|class| (store, class))) {
            let expected = expected.remove(&(store, class)).unwrap_or_default();
            assert!(
                self.trees.by_store.regions(store, class).eq(expected.iter().copied()),
                "I11: {class:?} on {store}"
            );
            assert_eq!(self.trees.by_store.count(store, class), expected.len(), "I11: {class:?} on {store}");
            let selected: BTreeSet<_> =
                (0..expected.len()).filter_map(|nth| self.trees.by_store.select(store, class, nth)).collect();
            assert_eq!(selected, expected, "{class:?} on {store}, one by one");
            assert_eq!(self.trees.by_store.select(store, class, expected.len()), None);
        }
    }
}

/// What of a version lies where: tests ask how much two versions share.
impl Index {
    pub(crate) fn nodes(&self) -> HashSet<*const ()> {
        let mut nodes = HashSet::new();
        collect(self.trees.by_key.root(), &mut nodes);
        self.trees.by_id.collect_nodes(&mut nodes);
        nodes
    }

    pub(crate) fn store_nodes(&self) -> HashSet<*const ()> {
        self.trees.by_store.nodes()
    }

    pub(crate) fn id_levels(&self) -> u32 {
        self.trees.by_id.height()
    }
}

fn collect(node: &Child, nodes: &mut HashSet<*const ()>) {
    if let ChildRef::Branch(branch) = node.get() {
        branch.children.iter().flatten().for_each(|child| collect(child, nodes));
    }
    nodes.insert(node.address().cast());
}

/// Returns the height.
fn check_node(node: &Child, parent: Option<usize>, stats: &Radix<Stats>) -> usize {
    assert!(node.len() <= WIDTH);
    assert!(parent.is_none() || node.len() >= MIN, "a node of {} entries", node.len());
    match node.get() {
        ChildRef::Leaf(leaf) => {
            check_heads(&leaf.heads, &leaf.regions);
            for at in 0..leaf.len() {
                let touches =
                    leaf.region(at).zip(leaf.region(at + 1)).is_some_and(|(l, r)| l.range().touches(r.range()));
                assert_eq!(leaf.heads.links.get(at), touches, "link {at}");
            }
            0
        }
        ChildRef::Branch(branch) => {
            assert!(branch.len() >= 2);
            check_heads(&branch.heads, &branch.children);
            let children = branch.children.iter().flatten();
            let heights: Vec<usize> = children.map(|child| check_node(child, Some(branch.len()), stats)).collect();
            assert!(heights.iter().all(|height| *height == heights[0]), "leaves of different depth");
            for at in 0..WIDTH {
                let expected = branch.child(at).map_or(Totals::default(), |child| child.totals(stats));
                assert_eq!(branch.totals_at(at), expected);
            }
            heights[0] + 1
        }
    }
}

/// Every key is found where it is, and keys just beside it next to it.
fn check_heads<T: Keyed>(heads: &super::heads::Heads, slots: &super::slots::Slots<T>) {
    let len = slots.iter().flatten().count();
    assert!(slots[len..].iter().all(Option::is_none), "a gap");
    for at in 0..len {
        let key = key_at(slots, at);
        heads.check(key, slots);
        heads.check(&[key, b"\0"].concat(), slots);
        if let Some((last, front)) = key.split_last() {
            let before = if *last == 0 { front.to_vec() } else { [front, &[last - 1, 0xff]].concat() };
            heads.check(&before, slots);
        }
    }
}

impl super::heads::Heads {
    /// The exact search is right, and the guess is wherever it claims to be.
    pub(super) fn check<T: Keyed>(&self, key: &[u8], slots: &super::slots::Slots<T>) {
        let expected = slots.iter().flatten().filter(|entry| entry.key() <= key).count();
        assert_eq!(self.position(key, slots), expected, "{key:?}");
        let guess = self.guess(key);
        if !guess.is_tie && self.suits(key) {
            assert_eq!(guess.position, expected, "a wrong guess for {key:?}");
        }
    }
}
