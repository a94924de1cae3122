//! Children of a split: which of them come to be on this store, and the reservations that they hold until the batch ends (spec
//! section 5.5).

use regionmeta::layout::region_state_key;
use regionmeta::{ApplyState, ChildDecision, ChildReservation, Reason, Region, RegionId, SplitChild};

use super::{After, ApplyBatch, ApplyError, Pending};
use crate::storage::{Family, Storage};

impl<S: Storage> ApplyBatch<'_, S> {
    /// The derived region changes in every case; a child only comes to be where no peer of it was before.
    /// What was made, and what was left alone.
    pub(super) fn split(
        &mut self,
        regions: Vec<Region>,
        derived: RegionId,
    ) -> Result<(Vec<Region>, Vec<Region>), ApplyError> {
        let reserved_before = self.reserved.len();
        let chosen = self.choose_children(regions, derived);
        let (made, skipped) = chosen.inspect_err(|_| self.give_up_reservations(reserved_before, false))?;
        for region in &made {
            match region.id() == derived {
                true => self.change(region, Reason::Split)?,
                false => {
                    self.put_state(region)?;
                    let after = After::Changed(region.clone(), Reason::Split);
                    self.pending.insert(
                        region.id(),
                        Pending { base: None, apply: ApplyState::INITIAL, after, absorbed: false },
                    );
                }
            }
        }
        self.skipped.extend(skipped.iter().cloned());
        Ok((made, skipped))
    }

    /// Which regions of a split come to be here, and which are left alone. What is made is reserved.
    fn choose_children(
        &mut self,
        regions: Vec<Region>,
        derived: RegionId,
    ) -> Result<(Vec<Region>, Vec<Region>), ApplyError> {
        let (mut made, mut skipped) = (Vec::with_capacity(regions.len()), Vec::new());
        for region in regions {
            let is_new = region.id() == derived || self.claim_child(&region)?;
            if is_new { made.push(region) } else { skipped.push(region) }
        }
        Ok((made, skipped))
    }

    /// Whether a child comes to be here: not in this batch yet, without a record, be it a tombstone, and reserved by nobody
    /// but an uninitialized peer of its own.
    fn claim_child(&mut self, child: &Region) -> Result<bool, ApplyError> {
        let id = child.id();
        if self.pending.contains_key(&id) {
            return Ok(false);
        }
        self.claim(id)?;
        let mut reserved = self.store.creating().lock();
        let reservation = reserved.get(&id).copied();
        let has_record = self.store.storage().get(Family::Raft, &region_state_key(id))?.is_some();
        let store_id = self.store.ident().store_id;
        let decision = SplitChild { region: child, reservation, has_record }.decide(store_id)?;
        let peer = child.peer_on(store_id).map(|peer| peer.id).unwrap_or_default();
        if let ChildDecision::Skip { .. } = decision {
            return Ok(false);
        }
        reserved.insert(id, ChildReservation { peer, by_split: true });
        self.reserved.push((id, reservation));
        Ok(true)
    }

    /// What was reserved for children, but for the first ones, is free again: they are published, or nothing of them is here.
    pub(super) fn give_up_reservations(&mut self, first: usize, published: bool) {
        if self.reserved.len() <= first {
            return;
        }
        let mut reserved = self.store.creating().lock();
        for (child, before) in self.reserved.drain(first..) {
            match before.filter(|_| !published) {
                Some(before) => reserved.insert(child, before),
                None => reserved.remove(&child),
            };
        }
    }
}
