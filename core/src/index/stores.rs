//! [`Stores`]: which regions have a peer on which store, and in what part.
//!
//! A region has one peer on a store, so voters, learners and peers in joint state are three sets without a common id, and
//! all regions of a store are the three together: nothing is kept twice. Witnesses are a set beside them.

use std::collections::BTreeMap;
use std::iter::FusedIterator;

use triomphe::Arc;

use super::radix::{Radix, Value, skip};
use super::set::{Ids, RegionSet};
use crate::ids::{RegionId, StoreId};
use crate::peer::{Peer, PeerClass};
use crate::prefetch;
use crate::region::Region;

/// The three classes of which every peer is in exactly one.
const ROLES: [PeerClass; 3] = [PeerClass::Voter, PeerClass::Learner, PeerClass::Joint];

/// One store's regions.
#[derive(Clone, Default)]
struct Sets {
    by_role: [RegionSet; ROLES.len()],
    witnesses: RegionSet,
}

impl Value for Arc<Sets> {
    fn prefetch_count(&self) {
        prefetch::lines(self.as_ptr().cast(), 1);
    }
}

/// Every store that some region has a peer on.
#[derive(Clone, Default)]
pub(crate) struct Stores {
    sets: Radix<Arc<Sets>>,
}

impl Sets {
    /// The sets that make up a class; no id is in two of them.
    fn of(&self, class: PeerClass) -> [Option<&RegionSet>; ROLES.len()] {
        let [voters, learners, joint] = self.by_role.each_ref();
        match class {
            PeerClass::Any => [Some(voters), Some(learners), Some(joint)],
            PeerClass::Voter => [Some(voters), None, None],
            PeerClass::Learner => [Some(learners), None, None],
            PeerClass::Joint => [Some(joint), None, None],
            PeerClass::Witness => [Some(&self.witnesses), None, None],
        }
    }

    /// The sets that a peer's region belongs into.
    fn of_peer(&mut self, peer: Peer) -> impl Iterator<Item = &mut RegionSet> {
        let by_role = self.by_role.iter_mut().zip(ROLES).filter(move |(_, role)| role.includes(peer));
        by_role.map(|(set, _)| set).chain(peer.is_witness.then_some(&mut self.witnesses))
    }

    fn is_empty(&self) -> bool {
        self.by_role.iter().all(|set| set.len() == 0)
    }
}

impl Stores {
    /// The stores of regions that come in order of ids.
    pub(super) fn build(regions: &[Region]) -> Self {
        let mut ids: BTreeMap<StoreId, [Vec<u64>; ROLES.len() + 1]> = BTreeMap::new();
        for region in regions {
            for peer in region.peers() {
                let lists = ids.entry(peer.store_id).or_default().iter_mut();
                let lists = lists.zip(ROLES.into_iter().chain([PeerClass::Witness]));
                lists.filter(|(_, class)| class.includes(peer)).for_each(|(list, _)| list.push(region.id().get()));
            }
        }
        let sets = ids.iter().map(|(store, [voters, learners, joint, witnesses])| {
            let by_role = [voters, learners, joint].map(|ids| RegionSet::build(ids));
            (store.get(), Arc::new(Sets { by_role, witnesses: RegionSet::build(witnesses) }))
        });
        Self { sets: Radix::build(sets) }
    }

    /// Takes in that a region changed, came or went. Costs nothing for the peers that are as they were.
    pub(super) fn change(&mut self, id: RegionId, before: Option<&Region>, after: Option<&Region>) {
        if peers(before).eq(peers(after)) {
            return;
        }
        for peer in peers(before).filter(|peer| !stays(*peer, after)) {
            self.edit(peer.store_id, |sets| sets.of_peer(peer).for_each(|set| set.remove(id)));
        }
        for peer in peers(after).filter(|peer| !stays(*peer, before)) {
            self.edit(peer.store_id, |sets| sets.of_peer(peer).for_each(|set| set.insert(id)));
        }
    }

    fn edit(&mut self, store: StoreId, change: impl FnOnce(&mut Sets)) {
        self.sets.edit(store.get(), |slot| {
            let sets = Arc::make_mut(slot.get_or_insert_with(Arc::default));
            change(sets);
            if sets.is_empty() {
                *slot = None;
            }
        });
    }

    fn of(&self, store: StoreId, class: PeerClass) -> [Option<&RegionSet>; ROLES.len()] {
        self.sets.get(store.get()).map_or([None; ROLES.len()], |sets| sets.of(class))
    }

    /// How many regions have a peer of that class on a store. O(1).
    pub(crate) fn count(&self, store: StoreId, class: PeerClass) -> usize {
        self.of(store, class).into_iter().flatten().map(RegionSet::len).sum()
    }

    pub(crate) fn contains(&self, store: StoreId, class: PeerClass, id: RegionId) -> bool {
        self.of(store, class).into_iter().flatten().any(|set| set.contains(id))
    }

    /// The regions that have a peer of that class on a store, in ascending order.
    pub(crate) fn regions(&self, store: StoreId, class: PeerClass) -> RegionIds<'_> {
        RegionIds { parts: self.of(store, class).map(|set| set.map_or(Ids::default(), RegionSet::iter)) }
    }

    /// One of them by its number, in no particular order of ids. O(log regions).
    pub(crate) fn select(&self, store: StoreId, class: PeerClass, mut nth: usize) -> Option<RegionId> {
        self.of(store, class).into_iter().flatten().find_map(|set| set.select(skip(&mut nth, set.len())?))
    }

    /// Every store that some region has a peer on, in ascending order.
    pub(crate) fn iter(&self) -> impl FusedIterator<Item = StoreId> {
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let (store, _) = self.sets.at_or_after(next?)?;
            next = store.checked_add(1);
            Some(StoreId::new(store))
        })
        .fuse()
    }
}

/// The ids of up to three sets without a common one, in ascending order, lazily. It allocates nothing.
#[derive(Clone)]
pub(crate) struct RegionIds<'a> {
    parts: [Ids<'a>; ROLES.len()],
}

impl Iterator for RegionIds<'_> {
    type Item = RegionId;

    fn next(&mut self) -> Option<RegionId> {
        let heads = self.parts.iter_mut().filter_map(|part| Some((part.peek()?, part)));
        heads.min_by_key(|(id, _)| *id)?.1.next()
    }
}

impl FusedIterator for RegionIds<'_> {}

fn peers(region: Option<&Region>) -> impl Iterator<Item = Peer> {
    region.into_iter().flat_map(Region::peers)
}

/// Whether a region has the same part on the peer's store. Which peer plays it does not matter.
fn stays(peer: Peer, region: Option<&Region>) -> bool {
    let other = region.and_then(|region| region.peer_on(peer.store_id));
    other.is_some_and(|other| other.flags() == peer.flags())
}

#[cfg(test)]
impl Stores {
    /// Panics if a tree below is not as it should be, or a store is kept without regions.
    pub(super) fn check(&self) {
        self.sets.check();
        for store in self.iter() {
            let sets = self.sets.get(store.get()).unwrap();
            assert!(!sets.is_empty(), "store {store} is kept without regions");
            sets.by_role.iter().chain([&sets.witnesses]).for_each(RegionSet::check);
        }
    }

    pub(super) fn nodes(&self) -> std::collections::HashSet<*const ()> {
        let mut nodes = std::collections::HashSet::new();
        self.sets.collect_nodes(&mut nodes);
        for sets in self.iter().filter_map(|store| self.sets.get(store.get())) {
            nodes.insert(sets.as_ptr().cast());
            sets.by_role.iter().chain([&sets.witnesses]).for_each(|set| set.collect_nodes(&mut nodes));
        }
        nodes
    }
}
