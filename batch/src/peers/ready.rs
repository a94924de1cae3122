//! What a peer does when an entry of its log was applied (spec section 12.5): `on_ready_result`.
//!
//! What concerns the store is done here: Raft records of peers that are gone are removed, roles are forgotten, the parent's
//! size is shared. What concerns Raft, PD and the network comes back as [`Effect`]s, in the order in which to do them.

use regionmeta::{AdminKind, LogPosition, Outcome, PeerId, PeerRole, Reason, Region, RegionId, Stats};

use super::{Effect, Peers};
use crate::apply::ExecResult;
use crate::storage::{Storage, StorageError};

impl<S: Storage> Peers<S> {
    /// Takes in what an entry of a region has done, before anything newer of that region is served. Call it for each answer,
    /// in the order of the log, on a thread that may wait for a synced write: when a peer is gone, its Raft records are
    /// removed here.
    ///
    /// # Errors
    /// [`StorageError`] if Raft records were not removed. The store is poisoned then; opening it finishes the removal.
    pub fn on_ready_result(
        &self,
        region: RegionId,
        entry: LogPosition,
        result: &ExecResult,
    ) -> Result<Vec<Effect>, StorageError> {
        let (kind, outcome) = match result {
            ExecResult::Admin { kind, outcome } => (kind, outcome),
            ExecResult::TransferLeader { transferees } => {
                return Ok(vec![Effect::TransferLeader { region, transferees: transferees.clone() }]);
            }
            ExecResult::Written => return Ok(Vec::new()),
        };
        match outcome {
            Outcome::Changed { region, reason } => Ok(self.changed(region, entry, *reason)),
            Outcome::Destroyed { peer, tombstone } => {
                self.clean(region, *peer)?;
                let mut effects = vec![Effect::Destroy { region, peer: *peer, merged_into: None }];
                effects.extend(self.delete_data([tombstone.range()]));
                Ok(effects)
            }
            Outcome::Split { regions, derived, skipped, shares_size } => {
                let mut effects = self.split(regions, *derived);
                self.share_size(regions, *derived, *shares_size);
                effects.extend(self.delete_data(skipped.iter().map(Region::range)));
                Ok(effects)
            }
            Outcome::Merged { target, source, source_peer } => self.merged(target, source, *source_peer),
            Outcome::LogTruncated { truncated } if *kind == AdminKind::CompactLog => {
                Ok(vec![Effect::CompactLog { region, truncated: *truncated }])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A peer's Raft group has a leader. If it is this store's own peer, the children of its splits that did not ask for votes
    /// because it followed then, and have found no leader since, are to do so now; if it is another, they have a leader's store
    /// to wait for.
    #[must_use]
    pub fn on_leader(&self, region: RegionId, leader: PeerId) -> Vec<Effect> {
        let own = self.own_peer(&self.store().meta().snapshot(), region);
        let mut state = self.lock();
        state.leaderless.forget(region);
        state.quiet_children.forget(region);
        let children = state.quiet_children.take(region);
        drop(state);
        match own == Some(leader) {
            true => children.into_iter().map(|region| Effect::Campaign { region }).collect(),
            false => Vec::new(),
        }
    }

    fn changed(&self, region: &Region, entry: LogPosition, reason: Reason) -> Vec<Effect> {
        let id = region.id();
        let own = region.peer_on(self.store().ident().store_id);
        let leads = own.is_some_and(|own| self.lock().roles.of(id, own.id).is_leader());
        let heartbeat = leads.then_some(Effect::Heartbeat { region: id });
        match reason {
            Reason::ChangePeer => {
                let change = Effect::ChangeMembers { region: region.clone(), entry };
                let demoted = own.filter(|own| leads && own.role == PeerRole::Learner);
                let step_down = demoted.map(|own| {
                    self.set_role(id, own.id, super::Role::Follower);
                    Effect::StepDown { region: id }
                });
                [Some(change), step_down, heartbeat].into_iter().flatten().collect()
            }
            Reason::PrepareMerge => vec![Effect::CheckMerge { region: id }],
            Reason::RollbackMerge => {
                [Some(Effect::ForgetMerge { region: id }), heartbeat].into_iter().flatten().collect()
            }
            Reason::SwitchWitness => {
                [Some(Effect::SwitchWitness { region: region.clone() }), heartbeat].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }

    fn split(&self, regions: &[Region], derived: RegionId) -> Vec<Effect> {
        let parent = regions.iter().find(|region| region.id() == derived);
        let mut state = self.lock();
        let parent_peer = parent.and_then(|parent| self.peer_here(parent));
        let leads = parent_peer.is_some_and(|peer| state.roles.of(derived, peer).is_leader());
        let mut effects = Vec::with_capacity(2 * regions.len());
        for region in regions.iter().filter(|region| region.id() != derived) {
            let Some(peer) = self.peer_here(region) else { continue };
            let replaces = state.uninitialized.remove(&region.id()).is_some();
            let first_message = state.first_messages.take(region.id(), peer);
            effects.push(Effect::Create { region: region.clone(), peer, replaces, campaign: leads, first_message });
            if !leads {
                state.quiet_children.add(derived, region.id());
            }
        }
        drop(state);
        if leads {
            effects.extend(regions.iter().map(|region| Effect::Heartbeat { region: region.id() }));
        }
        effects
    }

    /// Nobody has measured the parts yet: each is taken for an equal part of what the parent was, or for unknown.
    fn share_size(&self, regions: &[Region], derived: RegionId, shares_size: bool) {
        let whole = self.store().meta().snapshot().stats(derived).filter(|_| shares_size);
        let parts = u64::try_from(regions.len()).unwrap_or(u64::MAX).max(1);
        let part = whole.map(|whole| Stats { size_bytes: whole.size_bytes / parts, keys: whole.keys / parts });
        self.store().report(regions.iter().map(|region| (region.id(), part)));
    }

    fn merged(&self, target: &Region, source: &Region, peer: Option<PeerId>) -> Result<Vec<Effect>, StorageError> {
        let mut effects = Vec::with_capacity(2);
        if let Some(peer) = peer {
            self.clean(source.id(), peer)?;
            let merged_into = Some(target.id());
            effects.push(Effect::Destroy { region: source.id(), peer, merged_into });
            effects.extend(self.delete_data([])); // a snapshot of the source's own went with it
        }
        let own = self.peer_here(target);
        if own.is_some_and(|own| self.lock().roles.of(target.id(), own).is_leader()) {
            effects.push(Effect::Heartbeat { region: target.id() });
        }
        Ok(effects)
    }

    /// The tombstone is written and published: what Raft knew goes now, and not at the next start.
    pub(super) fn clean(&self, region: RegionId, peer: PeerId) -> Result<(), StorageError> {
        self.lock().forget(region, peer);
        // A later peer may be there already, and then it has cleaned up before it began, and what is there is its own.
        let creating = self.store().creating().lock();
        if self.peer(region).is_some_and(|later| later.peer_id != peer) {
            return Ok(());
        }
        let cleaned = self.store().raft().clean(region).inspect_err(|error| self.store().poison().set(error));
        drop(creating);
        cleaned
    }
}
