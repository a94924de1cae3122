//! The oracle: a sorted array of slots, each whole or split in two, that knows every right answer.

use regionmeta::{KeyRange, Peer, PeerId, RegionEpoch, StoreId};

use crate::map::Found;
use crate::workload::{Layout, SlotBounds};

const STORES: u64 = 10;

/// One version of a region, before any contender gives it a form of its own.
#[derive(Clone, Copy, Debug)]
pub struct RegionSpec<'a> {
    /// Its id.
    pub id: u64,
    /// What it owns.
    pub range: KeyRange<'a>,
    /// Its epoch.
    pub epoch: RegionEpoch,
}

impl RegionSpec<'_> {
    /// Three voters on three stores; the third is another one after each conf change.
    #[must_use]
    pub fn peers(&self) -> [Peer; 3] {
        [0, 1, 2].map(|nth| {
            let conf_ver = if nth == 2 { self.epoch.conf_ver } else { 0 };
            let id = (conf_ver << 40) | (self.id * 4 + nth);
            Peer::voter(PeerId::new(id.max(1)), StoreId::new(1 + (self.id + nth) % STORES))
        })
    }

    /// The right answer to a look-up of this region.
    #[must_use]
    pub fn found(&self) -> Found {
        Found { id: self.id, epoch: self.epoch }
    }
}

/// One change of the map.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A region gives the right part of its range to a new one.
    Split {
        /// Keeps its id.
        left: RegionSpec<'a>,
        /// Is new.
        right: RegionSpec<'a>,
    },
    /// A region takes over its right neighbour.
    Merge {
        /// Keeps its id.
        whole: RegionSpec<'a>,
        /// Leaves the map; as it was last.
        gone: RegionSpec<'a>,
    },
    /// A region's third peer is replaced.
    ChangePeer {
        /// The new version.
        region: RegionSpec<'a>,
    },
}

impl<'a> Change<'a> {
    /// The regions that are new or have a new version, in key order.
    pub fn after(&self) -> impl DoubleEndedIterator<Item = RegionSpec<'a>> + use<'a> {
        let (first, second) = match *self {
            Self::Split { left, right } => (left, Some(right)),
            Self::Merge { whole: region, .. } | Self::ChangePeer { region } => (region, None),
        };
        std::iter::once(first).chain(second)
    }

    /// The region that leaves.
    #[must_use]
    pub fn gone(&self) -> Option<RegionSpec<'a>> {
        match *self {
            Self::Merge { gone, .. } => Some(gone),
            Self::Split { .. } | Self::ChangePeer { .. } => None,
        }
    }
}

/// What a slot's regions are at.
#[derive(Clone, Copy, Debug)]
struct SlotState {
    version: u32,
    conf_ver: u32,
    /// The conf version of the right part, if the slot is split.
    right_conf_ver: Option<u32>,
}

/// Every slot's state, and the changes that lead to the next one. Nothing in it is clever, so that it can be believed.
#[derive(Clone, Debug)]
pub struct Model<'w> {
    layout: &'w Layout,
    slots: Vec<SlotState>,
}

impl<'w> Model<'w> {
    /// Every slot whole, at epoch 1/1.
    #[must_use]
    pub fn new(layout: &'w Layout) -> Self {
        let initial = SlotState { version: 1, conf_ver: 1, right_conf_ver: None };
        Self { layout, slots: vec![initial; layout.len()] }
    }

    /// The layout that it began with.
    #[must_use]
    pub fn layout(&self) -> &'w Layout {
        self.layout
    }

    /// The number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The id of the region that owns a slot, or its left part.
    #[must_use]
    pub fn left_id(&self, slot: usize) -> u64 {
        slot as u64 + 1
    }

    /// The id of the region that owns a slot's right part after a split.
    #[must_use]
    pub fn right_id(&self, slot: usize) -> u64 {
        (self.slots.len() + slot) as u64 + 1
    }

    /// Calls `visit` with every region, in key order.
    ///
    /// # Errors
    /// The first one of `visit`.
    pub fn try_for_each<E>(&self, mut visit: impl FnMut(RegionSpec<'_>) -> Result<(), E>) -> Result<(), E> {
        for slot in (0..self.slots.len()).filter(|&slot| !self.layout.is_hole(slot)) {
            let bounds = self.layout.bounds(slot);
            let (left, right) = self.regions(slot, &bounds);
            visit(left)?;
            right.map_or(Ok(()), &mut visit)?;
        }
        Ok(())
    }

    /// The region that owns `key`.
    #[must_use]
    pub fn locate(&self, key: &[u8]) -> Option<Found> {
        let slot = self.layout.slot_of(key);
        if self.layout.is_hole(slot) {
            return None;
        }
        let bounds = self.layout.bounds(slot);
        let (left, right) = self.regions(slot, &bounds);
        let owner = right.filter(|right| right.range.contains(key)).unwrap_or(left);
        owner.range.contains(key).then(|| owner.found())
    }

    /// The region with this id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Found> {
        let nth = usize::try_from(id.checked_sub(1)?).ok()?;
        let slot = nth.checked_rem(self.slots.len())?;
        if nth >= 2 * self.slots.len() || self.layout.is_hole(slot) {
            return None;
        }
        let bounds = self.layout.bounds(slot);
        let (left, right) = self.regions(slot, &bounds);
        if left.id == id { Some(left.found()) } else { right.map(|right| right.found()) }
    }

    /// Whether a slot is split.
    #[must_use]
    pub fn is_split(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|state| state.right_conf_ver.is_some())
    }

    /// Splits a slot, or merges it if it is split.
    pub fn split_or_merge<'b>(&mut self, slot: usize, bounds: &'b SlotBounds) -> Change<'b> {
        let before = self.regions(slot, bounds);
        if let Some(state) = self.slots.get_mut(slot) {
            state.version += 1;
            state.right_conf_ver = if state.right_conf_ver.is_some() { None } else { Some(state.conf_ver) };
        }
        match (self.regions(slot, bounds), before) {
            ((left, Some(right)), _) => Change::Split { left, right },
            ((whole, None), (left, right)) => Change::Merge { whole, gone: right.unwrap_or(left) },
        }
    }

    /// Replaces a peer of the region that owns a slot, or its left part.
    pub fn change_peer<'b>(&mut self, slot: usize, bounds: &'b SlotBounds) -> Change<'b> {
        if let Some(state) = self.slots.get_mut(slot) {
            state.conf_ver += 1;
        }
        Change::ChangePeer { region: self.regions(slot, bounds).0 }
    }

    fn regions<'b>(&self, slot: usize, bounds: &'b SlotBounds) -> (RegionSpec<'b>, Option<RegionSpec<'b>>) {
        let state = self.slots.get(slot).copied();
        let SlotState { version, conf_ver, right_conf_ver } =
            state.unwrap_or(SlotState { version: 0, conf_ver: 0, right_conf_ver: None });
        let epoch = |conf_ver: u32| RegionEpoch::new(conf_ver.into(), version.into());
        let range = if right_conf_ver.is_some() { bounds.left() } else { bounds.whole() };
        let left = RegionSpec { id: self.left_id(slot), range, epoch: epoch(conf_ver) };
        let right = right_conf_ver.map(|conf_ver| RegionSpec {
            id: self.right_id(slot),
            range: bounds.right(),
            epoch: epoch(conf_ver),
        });
        (left, right)
    }
}
