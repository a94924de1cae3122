//! The structure of both trees as code: what every version must keep, whatever was done to it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Index;
use super::edit::MIN;
use super::heads::{Probe, WIDTH};
use super::node::{Node, Totals};
use super::slots::{Keyed, key_at};
use crate::ids::{RegionId, StoreId};
use crate::peer::PeerClass;

impl Index {
    /// Panics, and says where, if a tree is not as it should be or the two indexes disagree.
    pub(crate) fn check(&self) {
        check_node(self.by_key.root(), None);
        self.by_id.check();
        assert_eq!(self.len(), self.len_by_key(), "I11: the two indexes have different lengths");
        let mut last: Option<&[u8]> = None;
        for region in self.iter() {
            assert!(last < Some(region.start_key()), "out of order at {region}");
            last = Some(region.start_key());
            let by_id = self.get(region.id()).expect("I11: a region by key is missing by id");
            assert!(by_id.region().same_buffer(region), "I11: {region} by key is {} by id", by_id.region());
        }
        self.check_stores();
        self.stats.check();
        let reported = self.iter().filter(|region| self.stats(region.id()).is_some()).count();
        assert_eq!(reported, self.len_of_stats(), "I11: stats of a region that is gone");
    }
}

impl Index {
    fn check_stores(&self) {
        self.by_store.check();
        let mut expected: BTreeMap<(StoreId, PeerClass), BTreeSet<RegionId>> = BTreeMap::new();
        for region in self.iter() {
            for peer in region.peers() {
                for class in PeerClass::ALL.into_iter().filter(|class| class.includes(peer)) {
                    expected.entry((peer.store_id, class)).or_default().insert(region.id());
                }
            }
        }
        let stores: BTreeSet<StoreId> = expected.keys().map(|(store, _)| *store).collect();
        assert!(self.by_store.iter().eq(stores.iter().copied()), "I11: stores");
        for (store, class) in stores.into_iter().flat_map(|store| PeerClass::ALL.map(|class| (store, class))) {
            let expected = expected.remove(&(store, class)).unwrap_or_default();
            assert!(self.by_store.regions(store, class).eq(expected.iter().copied()), "I11: {class:?} on {store}");
            assert_eq!(self.by_store.count(store, class), expected.len(), "I11: {class:?} on {store}");
            let selected: BTreeSet<_> =
                (0..expected.len()).filter_map(|nth| self.by_store.select(store, class, nth)).collect();
            assert_eq!(selected, expected, "{class:?} on {store}, one by one");
            assert_eq!(self.by_store.select(store, class, expected.len()), None);
        }
    }
}

/// What of a version lies where: tests ask how much two versions share.
impl Index {
    pub(crate) fn nodes(&self) -> HashSet<*const ()> {
        let mut nodes = HashSet::new();
        collect(self.by_key.root(), &mut nodes);
        self.by_id.collect_nodes(&mut nodes);
        nodes
    }

    pub(crate) fn store_nodes(&self) -> HashSet<*const ()> {
        self.by_store.nodes()
    }

    pub(crate) fn id_levels(&self) -> u32 {
        self.by_id.height()
    }
}

fn collect(node: &Node, nodes: &mut HashSet<*const ()>) {
    match node {
        Node::Leaf(leaf) => nodes.insert(leaf.as_ptr().cast()),
        Node::Branch(branch) => {
            branch.children.iter().flatten().for_each(|child| collect(child, nodes));
            nodes.insert(branch.as_ptr().cast())
        }
    };
}

/// Returns the height.
fn check_node(node: &Node, parent: Option<usize>) -> usize {
    assert!(node.len() <= WIDTH);
    assert!(parent.is_none() || node.len() >= MIN, "a node of {} entries", node.len());
    match node {
        Node::Leaf(leaf) => {
            check_heads(&leaf.heads, &leaf.regions);
            for at in 0..leaf.len() {
                let touches =
                    leaf.region(at).zip(leaf.region(at + 1)).is_some_and(|(l, r)| l.range().touches(r.range()));
                assert_eq!(leaf.links.get(at), touches, "link {at}");
            }
            0
        }
        Node::Branch(branch) => {
            assert!(branch.len() >= 2);
            check_heads(&branch.heads, &branch.children);
            let children = branch.children.iter().flatten();
            let heights: Vec<usize> = children.map(|child| check_node(child, Some(branch.len()))).collect();
            assert!(heights.iter().all(|height| *height == heights[0]), "leaves of different depth");
            for at in 0..WIDTH {
                assert_eq!(branch.totals[at], branch.child(at).map_or(Totals::default(), Node::totals));
            }
            heights[0] + 1
        }
    }
}

/// Every key is found where it is, and keys just beside it next to it.
fn check_heads<T: Keyed>(heads: &super::heads::Heads, slots: &super::slots::Slots<T>) {
    let len = slots.iter().flatten().count();
    assert_eq!(heads.len(), len);
    assert!(slots[len..].iter().all(Option::is_none), "a gap");
    for at in 0..len {
        let key = key_at(slots, at);
        assert_eq!(heads.position(&Probe::new(key), slots), at + 1, "{key:?} at {at}");
        let behind = [key, b"\0"].concat();
        let next = at + 1 + usize::from(at + 1 < len && key_at(slots, at + 1) == behind);
        assert_eq!(heads.position(&Probe::new(&behind), slots), next, "just behind {key:?}");
        if let Some((last, front)) = key.split_last() {
            let before = if *last == 0 { front.to_vec() } else { [front, &[last - 1, 0xff]].concat() };
            let expected = (0..len).filter(|at| key_at(slots, *at) <= before.as_slice()).count();
            assert_eq!(heads.position(&Probe::new(&before), slots), expected, "just before {key:?}");
        }
    }
}
