//! [`View`]: one region, followed. What a peer or an apply delegate keeps instead of a copy of its own.

use super::ReadHandle;
use crate::ids::{PeerId, RegionId, Sequence};
use crate::index::Entry;
use crate::mutant::{Mutant, planted};
use crate::region::Region;

/// What a view followed is no longer there, and never will be again (I12): the region was merged or destroyed, or its id
/// belongs to a later peer now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("region {region} is gone as this view knew it: it was merged, destroyed, or destroyed and created again")]
pub struct Gone {
    /// The region that was followed.
    pub region: RegionId,
    /// This store's peer that was followed; `None` in a map of many stores.
    pub peer: Option<PeerId>,
}

/// Follows one incarnation of a region, and hands out the very allocation that the map holds (I6).
///
/// An incarnation is the region's peer on the store whose map it is: a destroyed peer never comes back, and whoever comes
/// after it has another id. In a map that belongs to no store nothing but the epoch can tell a region from a later one of
/// its id, so a view there takes a region that went back in epoch, or was missing when it was looked for, for gone.
///
/// It holds that one region, never a snapshot, so an idle view keeps a few hundred bytes and no old version of the map.
///
/// ```
/// use regionmeta::{Changeset, KeyRange, Peer, RegionDraft, RegionEpoch, Removal, StoreMeta};
///
/// let meta = StoreMeta::new(None);
/// let peers = vec![Peer::voter(3.into(), 1.into())];
/// let region = RegionDraft::new(2.into(), KeyRange::ALL, RegionEpoch::INITIAL, peers).build()?;
/// meta.prepare(Changeset::new().create(region.clone()))?.publish();
///
/// let mut view = meta.read_handle().view(2.into()).ok_or("no such region")?;
/// assert!(view.current()?.same_buffer(&region));
///
/// meta.prepare(Changeset::new().remove(2.into(), meta.sequence(), Removal::Destroyed, None))?.publish();
/// assert!(!view.is_current() && view.current().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct View {
    handle: ReadHandle,
    id: RegionId,
    peer: Option<PeerId>,
    /// `None` once it is gone.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    region: Region,
    changed_at: Sequence,
    /// The state in which it was last found to be current.
    seen_at: Sequence,
}

impl Held {
    fn new(entry: Entry<'_>, seen_at: Sequence) -> Self {
        Self { region: entry.region().clone(), changed_at: entry.changed_at(), seen_at }
    }
}

impl ReadHandle {
    /// A view of the region that has this id now; `None` if there is none. One lookup by id.
    #[must_use]
    pub fn view(&self, id: RegionId) -> Option<View> {
        let snapshot = self.snapshot();
        let held = Held::new(snapshot.get(id)?, snapshot.sequence());
        let peer = self.own_peer(&held.region);
        Some(View { handle: self.clone(), id, peer, held: Some(held) })
    }

    fn own_peer(&self, region: &Region) -> Option<PeerId> {
        Some(region.peer_on(self.store_id()?)?.id)
    }
}

impl View {
    /// The region that is followed.
    #[must_use]
    pub fn id(&self) -> RegionId {
        self.id
    }

    /// This store's peer that is followed; `None` in a map of many stores.
    #[must_use]
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Whether nothing at all was published since [`current`](Self::current) last answered, so that its answer still holds.
    /// One atomic load. `false` means "ask again": the region itself may be as it was.
    #[must_use]
    #[inline]
    pub fn is_current(&self) -> bool {
        let is_seen = |held: &Held| held.seen_at == self.handle.sequence() || planted(Mutant::M22);
        self.held.as_ref().is_some_and(is_seen)
    }

    /// The region as it is now. One atomic load if nothing was published since the last call, otherwise also a lookup by
    /// id; lock-free, no allocation. Successive calls never go backwards (I2).
    ///
    /// # Errors
    /// [`Gone`], from then on for ever.
    #[inline]
    pub fn current(&mut self) -> Result<&Region, Gone> {
        if !self.is_current() {
            self.renew();
        }
        let gone = Gone { region: self.id, peer: self.peer };
        self.held.as_ref().map(|held| &held.region).ok_or(gone)
    }

    /// The sequence number of the changeset that made the region that [`current`](Self::current) last returned: the base
    /// that a change of it must name. `None` once it is gone.
    #[must_use]
    pub fn changed_at(&self) -> Option<Sequence> {
        self.held.as_ref().map(|held| held.changed_at)
    }

    fn renew(&mut self) {
        let Some(held) = self.held.take() else { return };
        let snapshot = self.handle.snapshot();
        let entry = snapshot.get(self.id).filter(|entry| self.is_same_incarnation(&held.region, entry.region()));
        self.held = entry.map(|entry| Held::new(entry, snapshot.sequence()));
        if planted(Mutant::M26) {
            std::mem::forget(snapshot);
        }
    }

    fn is_same_incarnation(&self, before: &Region, now: &Region) -> bool {
        let is_same = self.handle.own_peer(now) == self.peer && !now.epoch().is_behind_any(before.epoch());
        is_same || planted(Mutant::M28)
    }
}
