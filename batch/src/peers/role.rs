//! [`Role`]: what a peer is in its Raft group, and who is told when that changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use regionmeta::{PeerId, RegionId, Term};

/// What a peer is in its Raft group now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Role {
    /// It follows a leader, or waits for one.
    #[default]
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader {
        /// Since which term.
        term: Term,
    },
}

impl Role {
    /// Whether it leads.
    #[must_use]
    pub const fn is_leader(self) -> bool {
        matches!(self, Self::Leader { .. })
    }
}

/// The regions whose role changed since they were last asked for: a set, so that it is never larger than the store.
pub(super) type Changed = Mutex<BTreeSet<RegionId>>;

/// The roles of all peers that are not followers. A role belongs to a peer: under a later peer of the region it means nothing.
#[derive(Debug, Default)]
pub(super) struct Roles {
    known: HashMap<RegionId, (PeerId, Role)>,
    /// One for each notifier; whose notifier is gone has no other holder.
    listeners: Vec<Arc<Changed>>,
}

impl Roles {
    pub(super) fn of(&self, region: RegionId, peer: PeerId) -> Role {
        self.known.get(&region).filter(|known| known.0 == peer).map_or(Role::Follower, |known| known.1)
    }

    /// Whether that is news.
    pub(super) fn set(&mut self, region: RegionId, peer: PeerId, role: Role) -> bool {
        if self.of(region, peer) == role {
            return false;
        }
        match role {
            Role::Follower => self.known.remove(&region),
            role => self.known.insert(region, (peer, role)),
        };
        self.listeners.retain(|listener| Arc::strong_count(listener) > 1);
        for listener in &self.listeners {
            listener.lock().unwrap_or_else(PoisonError::into_inner).insert(region);
        }
        true
    }

    /// The peer is gone.
    pub(super) fn forget(&mut self, region: RegionId, peer: PeerId) {
        if self.known.get(&region).is_some_and(|known| known.0 == peer) {
            self.known.remove(&region);
        }
    }

    /// From now on this one is told too, beginning with the roles there are.
    pub(super) fn listen(&mut self) -> Arc<Changed> {
        let changed = Arc::new(Mutex::new(self.known.keys().copied().collect()));
        self.listeners.push(changed.clone());
        changed
    }
}
