//! [`Fault`]: the mistakes that a changeset can make, each planted on purpose beside changes that are right.

use super::history::{TRIES, settled};
use super::{History, Model, Objection};
use crate::epoch::RegionEpoch;
use crate::ids::{PeerId, RegionId, Sequence, StoreId};
use crate::keys::{EndKey, KeyRange};
use crate::meta::{Change, Changeset, Reason, Removal};
use crate::peer::{Peer, PeerState};
use crate::region::{Region, RegionDraft};

/// A store that no region of a history has a peer on.
const OTHER_STORE: StoreId = StoreId::new(77);

/// A mistake, and the [`Objection`] that it must meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// Computed from an older version of the region, or from one that is yet to come.
    WrongBase,
    /// Reaches into the next region, which the changeset leaves alone.
    OverlapsNeighbour,
    /// Takes over the next region properly, and reaches into the one after it (M6 of known-bugs).
    OverlapsFurther,
    /// Gives up part of its range, which nobody takes.
    LeavesHole,
    /// Lowers one half of the epoch.
    EpochBack,
    /// Takes over keys of another region without a larger version.
    NotNewer,
    /// Gives part of its range away and keeps its version.
    RangeMoved,
    /// Changes one region twice.
    ChangedTwice,
    /// Brings back a destroyed peer.
    Resurrects,
    /// Touches what a permit has reserved.
    Reserved,
    /// Publishes a tombstone.
    NotLive,
    /// Leaves a region without a peer on this store.
    NotOurs,
    /// Removes a region that was never there.
    UnknownId,
    /// Creates a region that is there.
    ExistingId,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 14] = [
        Self::WrongBase,
        Self::OverlapsNeighbour,
        Self::OverlapsFurther,
        Self::LeavesHole,
        Self::EpochBack,
        Self::NotNewer,
        Self::RangeMoved,
        Self::ChangedTwice,
        Self::Resurrects,
        Self::Reserved,
        Self::NotLive,
        Self::NotOurs,
        Self::UnknownId,
        Self::ExistingId,
    ];

    /// What the model must object to.
    #[must_use]
    pub fn objection(self) -> Objection {
        match self {
            Self::WrongBase => Objection::Stale,
            Self::OverlapsNeighbour | Self::OverlapsFurther => Objection::Overlap,
            Self::LeavesHole => Objection::Hole,
            Self::EpochBack => Objection::EpochBack,
            Self::NotNewer => Objection::NotNewer,
            Self::RangeMoved => Objection::RangeMoved,
            Self::ChangedTwice => Objection::ChangedTwice,
            Self::Resurrects => Objection::Tombstoned,
            Self::Reserved => Objection::Reserved,
            Self::NotLive => Objection::NotLive,
            Self::NotOurs => Objection::NotOurs,
            Self::UnknownId => Objection::NotFound,
            Self::ExistingId => Objection::Exists,
        }
    }
}

impl History {
    /// `right` with a random fault planted among its changes; `None` if the state gives no occasion for that fault.
    pub fn wrong(&mut self, model: &Model, right: &Changeset) -> Option<(Fault, Changeset)> {
        let fault = self.rng.choice(Fault::ALL)?;
        let changeset = right.clone();
        let wrong = match fault {
            Fault::ChangedTwice => self.change_twice(changeset),
            Fault::Resurrects => self.resurrect(model, changeset),
            Fault::Reserved => self.touch_reserved(model, changeset),
            Fault::UnknownId => {
                let id = RegionId::new(self.next_id());
                Some(changeset.remove(id, Sequence::new(1), Removal::Destroyed, None))
            }
            _ => {
                let (region, base) = self.pick(model, right)?;
                self.plant(fault, model, changeset, &region, base)
            }
        };
        Some((fault, wrong?))
    }

    fn plant(
        &mut self,
        fault: Fault,
        model: &Model,
        changeset: Changeset,
        region: &Region,
        base: Sequence,
    ) -> Option<Changeset> {
        match fault {
            Fault::WrongBase => {
                let wrong = if self.rng.bool() { base.get().checked_sub(1)? } else { base.get().checked_add(1)? };
                Some(changeset.update(Sequence::new(wrong), region.clone(), Reason::ChangePeer))
            }
            Fault::OverlapsNeighbour => {
                let (next, _) = Self::right_of(model, region)?;
                let grown = grown(region, &next, next.epoch().version)?;
                // Alone, because a change of the neighbour beside it would make it right.
                Some(Changeset::new().update(base, grown, Reason::CommitMerge))
            }
            Fault::OverlapsFurther => {
                let (next, next_base) = Self::right_of(model, region)?;
                let (far, _) = Self::right_of(model, &next)?;
                let grown = grown(region, &far, next.epoch().version.max(far.epoch().version))?;
                let changeset = Changeset::new().update(base, grown, Reason::CommitMerge);
                Some(changeset.remove(next.id(), next_base, Removal::Merged, self.own_peer(&next)))
            }
            Fault::LeavesHole => self.leave_hole(changeset, region, base),
            Fault::EpochBack => self.epoch_back(changeset, region, base),
            Fault::NotNewer if self.rng.bool() => take_over(model, changeset, region, base),
            Fault::NotNewer => self.split_in_two(changeset, region, base, (1, 0)),
            Fault::RangeMoved => self.split_in_two(changeset, region, base, (0, 1)),
            Fault::NotLive => {
                let tombstone = RegionDraft { state: PeerState::Tombstone, ..region.to_draft() }.build().ok()?;
                Some(changeset.update(base, tombstone, Reason::ChangePeer))
            }
            Fault::NotOurs => {
                let elsewhere = Peer::voter(PeerId::new(self.next_id()), OTHER_STORE);
                let epoch = region.epoch().with_conf_ver_moved(1).ok()?;
                let moved = RegionDraft { peers: vec![elsewhere], epoch, ..region.to_draft() }.build().ok()?;
                Some(changeset.update(base, moved, Reason::ChangePeer))
            }
            Fault::ExistingId => Some(changeset.create(region.clone())),
            Fault::ChangedTwice | Fault::Resurrects | Fault::Reserved | Fault::UnknownId => None,
        }
    }

    fn change_twice(&mut self, changeset: Changeset) -> Option<Changeset> {
        let again = self.rng.choice(changeset.changes())?.clone();
        Some(changeset.with(again))
    }

    /// With the very peer that was destroyed, or with an earlier one. In a hole if chance finds one, so that nothing else
    /// speaks against it.
    fn resurrect(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let (&id, &destroyed) = self.rng.choice(model.graves())?;
        let peer = Peer::voter(self.rng.choice([destroyed, PeerId::new(1)])?, self.store);
        let mut back = None;
        for _ in 0..TRIES {
            let (start, end) = self.range();
            let mut draft = RegionDraft::new(id, KeyRange::from_wire(&start, &end), RegionEpoch::INITIAL, vec![peer]);
            draft.epoch.version = self.next_id();
            back = Some(changeset.clone().create(draft.build().ok()?));
            if back.as_ref().is_some_and(|back| model.objections(back).len() == 1) {
                break;
            }
        }
        back
    }

    fn touch_reserved(&mut self, model: &Model, changeset: Changeset) -> Option<Changeset> {
        let reserved = self.rng.choice(model.reserved())?;
        let reserved = self.rng.choice(reserved.changes())?;
        // Either the keys that a region will have, or the region itself.
        if let Some(after) = reserved.after().filter(|_| self.rng.bool()) {
            let id = self.next_id();
            return Some(changeset.create(self.new_region(id, after.range())?));
        }
        let again = match reserved {
            Change::Remove { id, base, .. } => changeset.remove(*id, *base, Removal::Destroyed, None),
            Change::Create { region } => changeset.create(region.clone()),
            Change::Update { base, region, reason } => changeset.update(*base, region.clone(), *reason),
        };
        Some(again)
    }

    /// Cuts off the head or the tail.
    fn leave_hole(&mut self, changeset: Changeset, region: &Region, base: Sequence) -> Option<Changeset> {
        let middle = [region.start_key(), &[0]].concat();
        let (head, tail) =
            (KeyRange::new(region.start_key(), EndKey::Finite(&middle)), KeyRange::new(&middle, region.end_key()));
        let range = if self.rng.bool() { head } else { tail };
        let epoch = region.epoch().with_version_moved(1).ok()?;
        let cut = RegionDraft { range, epoch, ..settled(region) }.build().ok()?;
        Some(changeset.update(base, cut, Reason::Split))
    }

    /// A split whose left part, the derived region, and right part, the new one, move their versions by so much.
    fn split_in_two(
        &mut self,
        changeset: Changeset,
        region: &Region,
        base: Sequence,
        (left_by, right_by): (u64, u64),
    ) -> Option<Changeset> {
        let middle = [region.start_key(), &[0]].concat();
        let left = KeyRange::new(region.start_key(), EndKey::Finite(&middle));
        let epoch = region.epoch().with_version_moved(left_by).ok()?;
        let left = RegionDraft { range: left, epoch, ..settled(region) }.build().ok()?;
        let right = self.next_id();
        let right = self.new_region(right, KeyRange::new(&middle, region.end_key()))?;
        let epoch = region.epoch().with_version_moved(right_by).ok()?;
        let right = RegionDraft { epoch, ..right.to_draft() }.build().ok()?;
        Some(changeset.update(base, left, Reason::Split).create(right))
    }

    /// One half sinks; the other may rise, which does not make up for it.
    fn epoch_back(&mut self, changeset: Changeset, region: &Region, base: Sequence) -> Option<Changeset> {
        let RegionEpoch { conf_ver, version } = region.epoch();
        let lower = |half: u64| half.checked_sub(1).filter(|&half| half > 0);
        let epoch = match self.rng.bool() {
            true => RegionEpoch { conf_ver: lower(conf_ver)?, version: version.checked_add(1)? },
            false => RegionEpoch { conf_ver: conf_ver.checked_add(1)?, version: lower(version)? },
        };
        let back = RegionDraft { epoch, ..region.to_draft() }.build().ok()?;
        Some(changeset.update(base, back, Reason::ChangePeer))
    }
}

/// `region` and the next one become one, at the larger of their versions where one more is needed.
fn take_over(model: &Model, changeset: Changeset, region: &Region, base: Sequence) -> Option<Changeset> {
    let (next, next_base) = History::right_of(model, region)?;
    let range = KeyRange::new(region.start_key(), next.end_key());
    let mut sides = [(region, base), (&next, next_base)];
    sides.sort_by_key(|(side, _)| side.epoch().version);
    let [(taker, base), (taken, taken_base)] = sides;
    if taker.epoch().version == taken.epoch().version {
        return None; // the taker's own range would move without its version: another fault
    }
    let epoch = RegionEpoch { version: taken.epoch().version, ..taker.epoch() };
    let merged = RegionDraft { range, epoch, ..settled(taker) }.build().ok()?;
    let changeset = changeset.update(base, merged, Reason::CommitMerge);
    Some(changeset.remove(taken.id(), taken_base, Removal::Merged, None))
}

/// `region` with everything up to the first bytes of `last`, at a version above `version`.
fn grown(region: &Region, last: &Region, version: u64) -> Option<Region> {
    let end = [last.start_key(), &[0]].concat();
    let range = KeyRange::new(region.start_key(), EndKey::Finite(&end));
    let version = version.max(region.epoch().version).checked_add(1)?;
    RegionDraft { range, epoch: RegionEpoch { version, ..region.epoch() }, ..settled(region) }.build().ok()
}
