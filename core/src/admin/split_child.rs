//! Whether a split's child comes to be on this store: its id may be there already, made by a message or by an earlier life
//! (spec section 5.5). The decision is pure; what it is taken from is durable state and one reservation, never the
//! published map.

use super::AdminError;
use crate::ids::{PeerId, StoreId};
use crate::region::Region;

/// What a store may hold of a region id while a peer of it is being made. One map for the whole store, with a lock of its
/// own, keeps these.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChildReservation {
    /// The peer that is being made.
    pub peer: PeerId,
    /// By a split; otherwise by a message, uninitialized.
    pub by_split: bool,
}

/// What becomes of a child on this store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChildDecision {
    /// It comes to be: reserve (its peer, by split), and write its record.
    Create,
    /// It takes the place of an uninitialized peer of the same id that a message made: mark the reservation as the split's,
    /// and write its record.
    Replace,
    /// It is left alone: no record. Its range on this store belongs to what is there, or will come by snapshot. The
    /// reservation stays as it was, unless `forget` says otherwise.
    Skip {
        /// Whether the reservation that the split itself made is to be removed again: it met a record.
        forget: bool,
    },
}

/// A child of a split on one store.
#[derive(Clone, Copy, Debug)]
pub struct SplitChild<'a> {
    /// The child, as the split made it.
    pub region: &'a Region,
    /// The reservation of its id, if any.
    pub reservation: Option<ChildReservation>,
    /// Whether the store has a record of its id, a tombstone included. Read after the reservation was looked at.
    pub has_record: bool,
}

impl SplitChild<'_> {
    /// Decides as spec section 5.5 does. A region's derived part is never asked for: it changes in every case.
    ///
    /// # Errors
    /// [`AdminError::ChildContradiction`], which is [fatal](super::Verdict::Fatal): a peer that was never initialized has a record.
    pub fn decide(&self, store_id: StoreId) -> Result<ChildDecision, AdminError> {
        let peer = self.region.peer_on(store_id).map(|peer| peer.id);
        let replaces = match self.reservation {
            None => false,
            Some(held) if Some(held.peer) == peer && !held.by_split => true,
            Some(_) => return Ok(ChildDecision::Skip { forget: false }),
        };
        match (self.reservation, self.has_record) {
            (_, false) => Ok(if replaces { ChildDecision::Replace } else { ChildDecision::Create }),
            (None, true) => Ok(ChildDecision::Skip { forget: true }),
            (Some(held), true) => Err(AdminError::ChildContradiction { child: self.region.id(), peer: held.peer }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyRange, Peer, RegionDraft, RegionEpoch, RegionId};

    const HERE: StoreId = StoreId::new(1);
    const PEER: PeerId = PeerId::new(9);

    /// tikv PR#8084, #413 and #13311: a split and a message make the same id at once.
    #[test]
    fn the_table_of_the_spec() {
        let region =
            RegionDraft::new(RegionId::new(8), KeyRange::ALL, RegionEpoch::INITIAL, vec![Peer::voter(PEER, HERE)])
                .build()
                .unwrap();
        let held = |peer: u64, by_split| Some(ChildReservation { peer: PeerId::new(peer), by_split });
        let table = [
            (None, false, Ok(ChildDecision::Create)),
            (None, true, Ok(ChildDecision::Skip { forget: true })),
            (held(9, false), false, Ok(ChildDecision::Replace)),
            (held(9, false), true, Err(AdminError::ChildContradiction { child: region.id(), peer: PEER })),
            (held(9, true), false, Ok(ChildDecision::Skip { forget: false })),
            (held(10, false), false, Ok(ChildDecision::Skip { forget: false })),
            (held(10, false), true, Ok(ChildDecision::Skip { forget: false })),
            (held(10, true), false, Ok(ChildDecision::Skip { forget: false })),
        ];
        for (reservation, has_record, decision) in table {
            let child = SplitChild { region: &region, reservation, has_record };
            assert_eq!(child.decide(HERE), decision, "{child:?}");
        }
    }
}
