//! [`History`]: random changes of every kind, computed from the current state as a store would compute them.

use fastrand::Rng;

use super::Model;
use crate::epoch::RegionEpoch;
use crate::ids::{PeerId, RegionId, Sequence, StoreId};
use crate::keys::{EndKey, KeyRange};
use crate::meta::{Changeset, Reason, Removal};
use crate::peer::{Peer, PeerRole, PeerState};
use crate::region::{MergeState, Region, RegionDraft};
use crate::stats::Stats;

/// So few keys that regions meet, vanish and come back all the time.
const KEYS: u8 = 16;
const STORES: u64 = 5;
/// How often a random change is tried before a shorter changeset will do.
pub(super) const TRIES: usize = 8;

/// Changes computed from a [`Model`]. The same seed and the same states give the same changes.
#[derive(Debug)]
pub struct History {
    pub(super) rng: Rng,
    pub(super) store: StoreId,
    last_id: u64,
}

type Kind = fn(&mut History, &Model, Changeset) -> Option<Changeset>;

impl History {
    /// Each is tried with the same probability; a create finds a hole only in the beginning, or after a destroy.
    const KINDS: [Kind; 10] = [
        Self::create,
        Self::recreate,
        Self::split,
        Self::split,
        Self::merge,
        Self::change_peers,
        Self::change_role,
        Self::begin_or_end_merge,
        Self::replace_by_snapshot,
        Self::destroy,
    ];

    /// Changes of regions that all have a peer on `store`.
    #[must_use]
    pub fn new(seed: u64, store: StoreId) -> Self {
        Self { rng: Rng::with_seed(seed), store, last_id: 100 }
    }

    /// A changeset of up to three random changes to which the model has no objection; empty if none was found.
    pub fn right(&mut self, model: &Model) -> Changeset {
        let mut changeset = Changeset::new();
        for _ in 0..self.rng.usize(1..=3) {
            for _ in 0..TRIES {
                let kind = self.rng.choice(Self::KINDS);
                let longer = kind.and_then(|kind| kind(self, model, changeset.clone()));
                if let Some(longer) = longer.filter(|longer| model.objections(longer).is_empty()) {
                    changeset = longer;
                    break;
                }
            }
        }
        changeset
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// One of the keys, the empty one among them.
    fn key(&mut self) -> Vec<u8> {
        match self.rng.u8(0..=KEYS) {
            0 => vec![],
            n => vec![b'k', n],
        }
    }

    /// Start and end on the wire.
    pub(super) fn range(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (a, b) = (self.key(), self.key());
        match a.cmp(&b) {
            std::cmp::Ordering::Less => (a, b),
            std::cmp::Ordering::Equal => (a, vec![]),
            std::cmp::Ordering::Greater => (b, a),
        }
    }

    fn peers(&mut self) -> Vec<Peer> {
        let own = Peer::voter(PeerId::new(self.next_id()), self.store);
        let own_store = self.store;
        let stores = (1..=STORES).map(StoreId::new).filter(|&store| store != own_store);
        let count = self.rng.usize(0..3);
        let others: Vec<_> = stores.take(count).map(|store| Peer::voter(PeerId::new(self.next_id()), store)).collect();
        [vec![own], others].concat()
    }

    pub(super) fn own_peer(&self, region: &Region) -> Option<PeerId> {
        region.peer_on(self.store).map(|peer| peer.id)
    }

    /// A region that the changeset leaves alone and no permit holds.
    pub(super) fn pick(&mut self, model: &Model, changeset: &Changeset) -> Option<(Region, Sequence)> {
        let taken = |id| model.reserved().iter().chain([changeset]).any(|c| c.changes().iter().any(|c| c.id() == id));
        let free: Vec<_> = model.regions().into_iter().filter(|(region, _)| !taken(region.id())).collect();
        self.rng.choice(free)
    }

    /// The region that begins where another ends.
    pub(super) fn right_of(model: &Model, region: &Region) -> Option<(Region, Sequence)> {
        model.regions().into_iter().find(|(next, _)| region.end_key() == EndKey::Finite(next.start_key()))
    }

    pub(super) fn new_region(&mut self, id: u64, range: KeyRange<'_>) -> Option<Region> {
        let version = self.rng.u64(1..5);
        RegionDraft::new(RegionId::new(id), range, RegionEpoch::new(1, version), self.peers()).build().ok()
    }

    fn create(&mut self, _: &Model, changeset: Changeset) -> Option<Changeset> {
        let (start, end) = self.range();
        let id = self.next_id();
        Some(changeset.create(self.new_region(id, KeyRange::from_wire(&start, &end))?))
    }

    /// A region that was destroyed here comes back with a later peer.
    fn recreate(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let id = self.rng.choice(model.graves().keys())?.get();
        let (start, end) = self.range();
        Some(changeset.create(self.new_region(id, KeyRange::from_wire(&start, &end))?))
    }

    fn split(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let (region, base) = self.pick(model, &changeset)?;
        let inside = (1..=KEYS).map(|n| vec![b'k', n]).filter(|key| region.range().contains_inside(key));
        let cuts: Vec<_> = inside.filter(|_| self.rng.bool()).collect();
        let starts = [region.start_key()].into_iter().chain(cuts.iter().map(Vec::as_slice));
        let ends = cuts.iter().map(|cut| EndKey::Finite(cut)).chain([region.end_key()]);
        let epoch = region.epoch().with_version_moved(cuts.len() as u64).ok()?;
        let derived = if self.rng.bool() { 0 } else { cuts.len() };
        let mut changeset = changeset;
        for (at, (start, end)) in starts.zip(ends).enumerate() {
            let mut draft = RegionDraft { range: KeyRange::new(start, end), epoch, ..settled(&region) };
            if at == derived {
                changeset = changeset.update(base, draft.build().ok()?, Reason::Split);
            } else {
                draft.id = RegionId::new(self.next_id());
                draft.peers = self.peers();
                changeset = changeset.create(draft.build().ok()?);
            }
        }
        (!cuts.is_empty()).then_some(changeset)
    }

    fn merge(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let (left, left_base) = self.pick(model, &changeset)?;
        let (right, right_base) = Self::right_of(model, &left)?;
        let (version_left, version_right) = (left.epoch().version, right.epoch().version);
        let version = version_left.max(version_right).checked_add(1)?;
        let range = KeyRange::new(left.start_key(), right.end_key());
        let (target, base, source, source_base) = if self.rng.bool() {
            (&left, left_base, &right, right_base)
        } else {
            (&right, right_base, &left, left_base)
        };
        let epoch = RegionEpoch { version, ..target.epoch() };
        let merged = RegionDraft { range, epoch, ..settled(target) }.build().ok()?;
        let peer = self.own_peer(source);
        let changeset = changeset.update(base, merged, Reason::CommitMerge);
        Some(changeset.remove(source.id(), source_base, Removal::Merged, peer))
    }

    fn change_peers(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let (region, base) = self.pick(model, &changeset)?;
        let mut draft = region.to_draft();
        draft.epoch = draft.epoch.with_conf_ver_moved(1).ok()?;
        let store = StoreId::new(self.rng.u64(1..=STORES));
        let at = draft.peers.iter().position(|peer| peer.store_id == store);
        match at {
            _ if store == self.store => {}
            Some(at) => drop(draft.peers.remove(at)),
            None => draft.peers.push(Peer::learner(PeerId::new(self.next_id()), store)),
        }
        Some(changeset.update(base, draft.build().ok()?, Reason::ChangePeer))
    }

    /// One peer gets any other part, also this store's.
    fn change_role(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let (region, base) = self.pick(model, &changeset)?;
        let mut draft = region.to_draft();
        draft.epoch = draft.epoch.with_conf_ver_moved(1).ok()?;
        let at = self.rng.usize(0..draft.peers.len());
        let peer = draft.peers.get_mut(at)?;
        peer.role = PeerRole::from_wire(self.rng.u8(0..4))?;
        peer.is_witness = self.rng.u8(0..4) == 0;
        Some(changeset.update(base, draft.build().ok()?, Reason::ChangePeer))
    }

    /// Reported sizes of some regions, now and then that one is not known any more, and of one that is not there.
    pub fn stats(&mut self, model: &Model) -> Vec<(RegionId, Option<Stats>)> {
        let ids = model.regions().into_iter().map(|(region, _)| region.id()).chain([RegionId::new(u64::MAX)]);
        let some: Vec<_> = ids.filter(|_| self.rng.bool()).collect();
        // Few values, so that some reports say what is known; now and then one that no sum can take.
        let mut number = || if self.rng.u8(0..32) == 0 { u64::MAX } else { self.rng.u64(0..3) };
        let mut stats = || Stats { size_bytes: number(), keys: number() };
        some.into_iter().map(|id| (id, stats())).map(|(id, stats)| (id, (stats.keys != 2).then_some(stats))).collect()
    }

    fn begin_or_end_merge(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let (region, base) = self.pick(model, &changeset)?;
        let epoch = region.epoch().with_version_moved(1).ok()?;
        if region.state() == PeerState::Merging {
            let back = RegionDraft { epoch, ..settled(&region) }.build().ok()?;
            return Some(changeset.update(base, back, Reason::RollbackMerge));
        }
        let (target, _) = Self::right_of(model, &region)?;
        let target = settled(&target).build().ok()?;
        let (min_index, commit) = (5.into(), self.rng.u64(6..99).into());
        let merge_state = Some(MergeState { min_index, commit, target: target.as_ref() });
        let epoch = epoch.with_conf_ver_moved(1).ok()?;
        let merging = RegionDraft { epoch, state: PeerState::Merging, merge_state, ..region.to_draft() };
        Some(changeset.update(base, merging.build().ok()?, Reason::PrepareMerge))
    }

    /// A snapshot moves a region to any range; whoever is in its way was destroyed before.
    fn replace_by_snapshot(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let (region, base) = self.pick(model, &changeset)?;
        let (start, end) = self.range();
        let range = KeyRange::from_wire(&start, &end);
        let newest = model.regions().iter().map(|(region, _)| region.epoch().version).max()?;
        let epoch = RegionEpoch { version: newest.checked_add(1)?, ..region.epoch() };
        let moved = RegionDraft { range, epoch, ..settled(&region) }.build().ok()?;
        let mut changeset = changeset.update(base, moved, Reason::Snapshot);
        for (other, base) in model.regions() {
            if other.id() != region.id() && other.range().overlaps(range) {
                changeset = changeset.remove(other.id(), base, Removal::Destroyed, self.own_peer(&other));
            }
        }
        Some(changeset)
    }

    fn destroy(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let (region, base) = self.pick(model, &changeset)?;
        let peer = self.own_peer(&region);
        Some(changeset.remove(region.id(), base, Removal::Destroyed, peer))
    }
}

/// A region's draft without whatever merge was under way.
pub(super) fn settled(region: &Region) -> RegionDraft<'_> {
    RegionDraft { state: PeerState::Normal, merge_state: None, ..region.to_draft() }
}
