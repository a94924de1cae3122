//! Whether a heartbeat is accepted, and what the map becomes by it (spec section 14.3).

use std::sync::PoisonError;

use regionmeta::{Changeset, Reason, Region, RegionEpoch, RegionId, Removal, Snapshot, StoreId, Term};

use super::super::heartbeat::RegionHeartbeat;
use super::Core;
use super::infos::{check_term, is_recreated};
use super::ledger::Save;
use crate::storage::Durability;

/// What a heartbeat that was accepted has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// Nothing but the traffic.
    Unchanged,
    /// Leader, term, peers' health or sizes; not the map.
    Refreshed,
    /// The map.
    Changed {
        /// Regions that had to go, because this one owns keys of theirs.
        evicted: usize,
    },
}

/// Why a heartbeat was not accepted. Nothing changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum HeartbeatError {
    #[error("region {region}: the heartbeat names no leader")]
    LeaderMissing { region: RegionId },
    #[error("region {region}: the leader that the heartbeat names is none of its peers")]
    ForeignLeader { region: RegionId },
    #[error("region {region} is a tombstone")]
    NotLive { region: RegionId },
    #[error("region {region} is led on store {store}, which never registered")]
    UnknownStore { region: RegionId, store: StoreId },
    #[error("region {region}: term {term} is behind {known}, which was heard already")]
    StaleTerm { region: RegionId, term: Term, known: Term },
    #[error("region {region}: epoch {epoch} is behind {known}, which was heard already")]
    StaleEpoch { region: RegionId, epoch: RegionEpoch, known: RegionEpoch },
    #[error("region {region} at {epoch} overlaps {newer}, which is newer")]
    Overlapped { region: RegionId, epoch: RegionEpoch, newer: Region },
    #[error("the driver cannot write: {0}")]
    Storage(String),
}

/// What must go for a heartbeat's region to come in.
struct Verdict {
    evicted: Vec<RegionId>,
    /// The map has no better way than to forget the old region first.
    in_two_steps: bool,
    changes_map: bool,
}

impl Core {
    /// Takes in a heartbeat.
    pub(super) fn heartbeat(&self, heartbeat: &RegionHeartbeat) -> Result<Accepted, HeartbeatError> {
        match self.infos.refresh(heartbeat) {
            Some(outcome) => outcome,
            None => self.change(heartbeat),
        }
    }

    fn change(&self, heartbeat: &RegionHeartbeat) -> Result<Accepted, HeartbeatError> {
        self.check_shape(heartbeat)?;
        // Once without the lock, so that a storm of stale ones does not queue for it; what counts is the second time.
        self.judge(heartbeat, &self.regions.snapshot())?;
        let one_at_a_time = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.regions.snapshot();
        let verdict = self.judge(heartbeat, &snapshot)?;
        let region = if verdict.changes_map {
            self.write(heartbeat, &snapshot, &verdict)?;
            heartbeat.region.clone()
        } else {
            snapshot.get(heartbeat.region.id()).map_or(&heartbeat.region, |entry| entry.region()).clone()
        };
        for &id in &verdict.evicted {
            self.infos.remove(id);
            self.operators.forget(id);
        }
        self.infos.put(region, heartbeat);
        drop(one_at_a_time);
        match verdict.changes_map {
            true => Ok(Accepted::Changed { evicted: verdict.evicted.len() }),
            false => Ok(Accepted::Refreshed),
        }
    }

    fn check_shape(&self, heartbeat: &RegionHeartbeat) -> Result<(), HeartbeatError> {
        let (region, leader) = (heartbeat.region.id(), heartbeat.leader);
        if leader.id.get() == 0 {
            return Err(HeartbeatError::LeaderMissing { region });
        }
        if !heartbeat.region.peers().any(|peer| (peer.id, peer.store_id) == (leader.id, leader.store_id)) {
            return Err(HeartbeatError::ForeignLeader { region });
        }
        if !heartbeat.region.state().is_live() {
            return Err(HeartbeatError::NotLive { region });
        }
        if !self.cluster().stores.contains_key(&leader.store_id) {
            return Err(HeartbeatError::UnknownStore { region, store: leader.store_id });
        }
        Ok(())
    }

    fn judge(&self, heartbeat: &RegionHeartbeat, snapshot: &Snapshot) -> Result<Verdict, HeartbeatError> {
        let new = &heartbeat.region;
        let (id, epoch) = (new.id(), new.epoch());
        let recreated = is_recreated(new);
        let overlapped: Vec<_> = snapshot.overlapping(new.range()).filter(|region| region.id() != id).collect();
        let newer = overlapped.iter().find(|region| region.epoch().version > epoch.version);
        if let Some(&newer) = newer.filter(|_| !recreated) {
            return Err(HeartbeatError::Overlapped { region: id, epoch, newer: newer.clone() });
        }
        let origin = snapshot.get(id).map(|entry| entry.region());
        if !recreated {
            self.check_origin(heartbeat, origin)?;
        }
        let goes_back = origin.is_some_and(|origin| {
            let moved = origin.range() != new.range() && origin.epoch().version == epoch.version;
            moved || epoch.is_behind_any(origin.epoch())
        });
        Ok(Verdict {
            in_two_steps: goes_back || overlapped.iter().any(|region| region.epoch().version >= epoch.version),
            evicted: overlapped.iter().map(|region| region.id()).collect(),
            changes_map: origin != Some(new),
        })
    }

    fn check_origin(&self, heartbeat: &RegionHeartbeat, origin: Option<&Region>) -> Result<(), HeartbeatError> {
        let (region, epoch) = (heartbeat.region.id(), heartbeat.region.epoch());
        if let Some(known) = origin.map(Region::epoch).filter(|&known| epoch.is_behind_any(known)) {
            return Err(HeartbeatError::StaleEpoch { region, epoch, known });
        }
        match self.infos.get(region, |info| info.term) {
            Some(known) => check_term(heartbeat, known),
            None => Ok(()),
        }
    }

    /// On disk, then in the map. Two steps leave a hole for a moment, as every split does here.
    fn write(&self, heartbeat: &RegionHeartbeat, snapshot: &Snapshot, verdict: &Verdict) -> Result<(), HeartbeatError> {
        let refused = |error: &dyn std::fmt::Display| HeartbeatError::Storage(error.to_string());
        self.poison.check().map_err(|error| refused(&error))?;
        let new = &heartbeat.region;
        let origin = snapshot.get(new.id());
        let mut changes = verdict.evicted.iter().fold(Changeset::new(), |changes, &id| forget(changes, snapshot, id));
        changes = match origin {
            Some(_) if verdict.in_two_steps => forget(changes, snapshot, new.id()),
            None if verdict.in_two_steps => changes,
            // Not a split's reason or a merge's: those promise that no key is lost, and PD's map may have holes.
            Some(origin) => changes.update(origin.changed_at(), new.clone(), Reason::Snapshot),
            None => changes.create(new.clone()),
        };
        let permit = self.regions.prepare(changes).map_err(|refusal| refused(&refusal))?;
        let fuse = self.poison.fuse();
        self.save_region(new, &verdict.evicted)?;
        permit.publish();
        if verdict.in_two_steps {
            let create = self.regions.prepare(Changeset::new().create(new.clone()));
            let permit = create.inspect_err(|refusal| self.poison.set(refusal)).map_err(|refusal| refused(&refusal))?;
            permit.publish();
        }
        fuse.defuse();
        Ok(())
    }

    /// Not synced: what a power loss takes, the next heartbeats bring again.
    fn save_region(&self, region: &Region, evicted: &[RegionId]) -> Result<(), HeartbeatError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let mut saves: Vec<_> = evicted.iter().copied().map(Save::Forget).collect();
        saves.push(Save::Region(region));
        ledger
            .save(&saves, Durability::Buffered)
            .inspect_err(|error| self.poison.set(error))
            .map_err(|error| HeartbeatError::Storage(error.to_string()))
    }
}

fn forget(changes: Changeset, snapshot: &Snapshot, id: RegionId) -> Changeset {
    match snapshot.get(id) {
        Some(entry) => changes.remove(id, entry.changed_at(), Removal::Destroyed, None),
        None => changes,
    }
}
