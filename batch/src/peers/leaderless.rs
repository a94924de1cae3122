//! Peers without a leader (spec section 9.2): after a while they ask their group whether they still exist, and much later PD.
//! There is no clock in here: whoever looks brings the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use regionmeta::{PeerId, Region, RegionId};

use super::{Effect, Peers};
use crate::storage::Storage;

/// A peer that has had no leader for this long asks the others of its group, each time that it is looked at.
pub const LEADER_MISSING: Duration = Duration::from_secs(10 * 60);

/// A peer that has had no leader for this long asks PD, and then not again before as much time has passed once more.
pub const LEADER_LOST: Duration = Duration::from_secs(2 * 60 * 60);

/// Since when, by region. No larger than the peers that were looked at and had no leader.
#[derive(Debug, Default)]
pub(super) struct Leaderless {
    since: HashMap<RegionId, Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Missing {
    NotLong,
    Long,
    VeryLong,
}

impl Leaderless {
    fn look(&mut self, region: RegionId, now: Instant) -> Missing {
        let since = self.since.entry(region).or_insert(now);
        match now.saturating_duration_since(*since) {
            missing if missing >= LEADER_LOST => {
                *since = now;
                Missing::VeryLong
            }
            missing if missing >= LEADER_MISSING => Missing::Long,
            _ => Missing::NotLong,
        }
    }

    pub(super) fn forget(&mut self, region: RegionId) {
        self.since.remove(&region);
    }
}

impl<S: Storage> Peers<S> {
    /// Looks after a peer that has no leader, or may have none: call it for every peer every few minutes, with what its Raft
    /// group says and with the time. A short lock; nothing if there is a leader.
    pub fn check_leader(&self, region: RegionId, leader: Option<PeerId>, now: Instant) -> Option<Effect> {
        let peer = self.peer(region)?;
        let mut state = self.lock();
        // It may have been destroyed since, and is forgotten then: nothing of an earlier peer is left.
        if leader.is_some() || self.peer_id(&state, region) != Some(peer.peer_id) {
            state.leaderless.forget(region);
            return None;
        }
        let missing = state.leaderless.look(region, now);
        drop(state);
        match (missing, peer.view.and_then(|mut view| view.current().ok().cloned())) {
            (Missing::VeryLong, _) => Some(Effect::AskPd { region, peer: peer.peer_id }),
            // A peer that has no region knows nobody to ask.
            (Missing::Long, region) => region.map(|region| Effect::CheckStale { region }),
            (Missing::NotLong, _) => None,
        }
    }

    /// Says what PD's answer about the region of a peer without a leader means: `answer` is the region of this id as PD has
    /// it, `None` if PD knows none. A peer that is not a member of a later version is stale.
    ///
    /// PD may be behind, or start anew with nothing, and an answer of the very epoch that is known here cannot say something
    /// else: all of that changes nothing. Neither does an answer that comes when the peer is gone, or leads.
    #[must_use]
    pub fn on_pd_region(&self, region: RegionId, peer: PeerId, answer: Option<&Region>) -> Option<Effect> {
        let here = self.peer(region).filter(|here| here.peer_id == peer && !here.role.is_leader())?;
        let answer = answer.filter(|answer| answer.id() == region)?;
        let epoch = here.view.and_then(|mut view| view.current().ok().map(Region::epoch)).unwrap_or_default();
        let is_later = epoch.is_behind_any(answer.epoch()) && !answer.epoch().is_behind_any(epoch);
        let is_member = answer.peers().any(|member| member.id == peer);
        (is_later && !is_member).then_some(Effect::DestroyStale { region, peer })
    }
}
