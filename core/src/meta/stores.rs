//! What is asked about the stores: which of them have regions, how many, and which.

use std::iter::FusedIterator;

use super::Snapshot;
use crate::ids::StoreId;
use crate::index::Entry;
use crate::peer::PeerClass;

impl Snapshot {
    /// The stores that some region has a peer on, in ascending order, lazily. A few cached loads each; no allocation.
    pub fn stores(&self) -> impl FusedIterator<Item = StoreId> {
        self.index().stores().iter()
    }

    /// How many regions have a peer of that class on a store. O(1): a few cached loads.
    #[must_use]
    pub fn store_count(&self, store: StoreId, class: PeerClass) -> usize {
        self.index().stores().count(store, class)
    }

    /// The regions that have a peer of that class on a store, in ascending order of ids, lazily. A lookup by id each; no
    /// allocation, and the regions of other stores are not visited.
    pub fn regions_on(&self, store: StoreId, class: PeerClass) -> impl FusedIterator<Item = Entry<'_>> {
        // Every id of a set is that of a region (I11).
        self.index().stores().regions(store, class).filter_map(|id| self.get(id))
    }
}
