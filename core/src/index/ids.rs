//! [`IdTree`]: the regions of one version by id, and when each of them last changed.

use super::own::Kept;
use super::radix::{Radix, Value};
use crate::ids::{RegionId, Sequence};
use crate::region::Region;

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

impl Value for Slot {}

#[derive(Clone, Default)]
pub(super) struct IdTree {
    slots: Radix<Slot>,
}

impl IdTree {
    pub(super) fn len(&self) -> usize {
        self.slots.weight()
    }

    /// A tree of regions that come in order of ids.
    pub(super) fn build(regions: &[Kept], changed_at: Sequence) -> Self {
        let slot = |region: &Kept| (region.id().get(), Slot { region: region.share(), changed_at });
        Self { slots: Radix::build(regions.iter().map(slot)) }
    }

    /// A few cached loads, and the slot.
    #[inline]
    pub(super) fn get(&self, id: RegionId) -> Option<(&Region, Sequence)> {
        self.slots.get(id.get()).map(|slot| (&*slot.region, slot.changed_at))
    }

    /// Puts in a region, in the place of the one with its id if there is one.
    pub(super) fn insert(&mut self, region: Kept, changed_at: Sequence) {
        self.slots.insert(region.id().get(), Slot { region, changed_at });
    }

    pub(super) fn remove(&mut self, id: RegionId) {
        self.slots.remove(id.get());
    }

    /// Calls `visit` for every id whose region or version counter differs between the two trees, in order of ids, with
    /// what is there before and after. Costs in proportion to what changed.
    pub(super) fn diff<'a>(&'a self, later: &'a Self, visit: &mut dyn FnMut(Option<&'a Region>, Option<&'a Region>)) {
        self.slots.diff(&later.slots, &mut |before, after| {
            if before.map(Slot::identity) != after.map(Slot::identity) {
                visit(before.map(|slot| &*slot.region), after.map(|slot| &*slot.region));
            }
        });
    }
}

#[cfg(test)]
impl IdTree {
    pub(super) fn height(&self) -> u32 {
        self.slots.height()
    }

    pub(super) fn collect_nodes(&self, nodes: &mut std::collections::HashSet<*const ()>) {
        self.slots.collect_nodes(nodes);
    }

    pub(super) fn check(&self) {
        self.slots.check();
    }
}
