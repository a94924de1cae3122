//! Peers: the replicas that this store has, from the first message to the tombstone.
//!
//! Which initialized peers there are is said by the published map, and by nothing else: [`Peers`] keeps only what the map
//! cannot know, and so cannot disagree with it. That is the role which a peer's Raft group gave it, and the peers that have no
//! region yet because they wait for their first snapshot.
//!
//! - [`Notifier`] tells [`Observer`]s what became of the regions, from the change feed, on a thread of the host's.
//! - [`Peers::on_ready_result`] takes in what applied entries have done, and says what Raft and PD must hear.
//! - [`Peers::on_message`] says what becomes of a message from another store, and makes the peer that it is for.
//! - [`Peers::accept_snapshot`] and what follows it initialize a peer, or replace what it knows.
//! - [`Peers::destroy`] ends a peer that does not leave by its own log.
//! - [`Peers::check_leader`] looks after peers without a leader, which may be stale.
//! - [`Effect`]s say what is the host's to do, [`Effect::DeleteData`] among them: the data of keys that nobody owns any more.
//!
//! Calls about one region come from one thread at a time; the data of a snapshot may be ingested on another.

mod create;
mod data;
mod destroy;
mod effect;
mod first_messages;
mod ingestion;
mod leaderless;
mod notifier;
mod quiet;
mod ready;
mod role;
mod snapshot;
mod stale_source;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regionmeta::{PeerId, Region, RegionId, Snapshot, View};

pub use self::create::{CreateError, Message, MessageAction, MessageKind};
pub use self::data::DataRange;
use self::data::Deletions;
pub use self::destroy::{DestroyError, Destroyed};
pub use self::effect::Effect;
use self::first_messages::FirstMessages;
pub use self::ingestion::Finished;
use self::ingestion::Ingestions;
use self::leaderless::Leaderless;
pub use self::leaderless::{LEADER_LOST, LEADER_MISSING};
pub use self::notifier::{Notifier, Observer, PeerEvent};
use self::quiet::QuietChildren;
pub use self::role::Role;
use self::role::Roles;
use self::snapshot::Accepted;
pub use self::snapshot::SnapshotError;
use self::stale_source::StaleSources;
use crate::storage::Storage;
use crate::store::Store;

/// One replica on this store.
#[derive(Debug)]
pub struct Peer {
    /// Its region.
    pub region_id: RegionId,
    /// Its own id.
    pub peer_id: PeerId,
    /// Its role when it was looked up.
    pub role: Role,
    /// Follows its region; `None` while it waits for its first snapshot.
    pub view: Option<View>,
}

impl Peer {
    /// Whether it knows its region.
    #[must_use]
    pub fn is_initialized(&self) -> bool {
        self.view.is_some()
    }
}

/// The peers of one store. Takes short locks: for Raft threads, not for readers.
///
/// ```
/// use std::sync::Arc;
///
/// use regionmeta_batch::StoreBuilder;
/// use regionmeta_batch::peers::{Peers, Role};
/// use regionmeta_batch::pd::EmbeddedPd;
/// use regionmeta_batch::storage::MemStorage;
///
/// let store = Arc::new(StoreBuilder::new(7.into()).bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(7.into()))?);
/// let region = store.meta().snapshot().locate(b"key").ok_or("no region")?.region().id();
/// let peers = Peers::new(store);
///
/// let mut peer = peers.peer(region).ok_or("no peer")?;
/// assert!(peer.role == Role::Follower && peer.is_initialized());
/// assert!(peers.set_role(region, peer.peer_id, Role::Leader { term: 6.into() }));
/// assert!(peers.peer(region).is_some_and(|peer| peer.role.is_leader()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Peers<S: Storage> {
    store: Arc<Store<S>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    roles: Roles,
    /// Peers without a region.
    uninitialized: HashMap<RegionId, PeerId>,
    quiet_children: QuietChildren,
    /// Snapshots that are not persisted yet.
    accepted: Accepted,
    /// Snapshots whose data is being ingested.
    ingestions: Ingestions,
    /// What messages have told of merges that this store has missed.
    stale_sources: StaleSources,
    /// Messages for peers that are about to come.
    first_messages: FirstMessages,
    leaderless: Leaderless,
    /// Data that nobody owns, and that is not gone yet.
    deletions: Deletions,
}

impl State {
    /// A peer is gone, and with it everything that was kept of it.
    fn forget(&mut self, region: RegionId, peer: PeerId) {
        self.roles.forget(region, peer);
        drop(self.quiet_children.take(region));
        self.quiet_children.forget(region);
        self.stale_sources.forget(region, peer);
        self.first_messages.forget(region, peer);
        self.leaderless.forget(region);
        self.accepted.forget_peer(region, peer);
    }
}

impl<S: Storage> Peers<S> {
    /// The peers of a store, all of them followers. One for each store.
    #[must_use]
    pub fn new(store: Arc<Store<S>>) -> Self {
        Self { store, state: Mutex::default() }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store<S> {
        &self.store
    }

    /// The peer of a region; `None` if this store has none.
    #[must_use]
    pub fn peer(&self, region_id: RegionId) -> Option<Peer> {
        let view = self.store.meta().view(region_id);
        let state = self.lock();
        let initialized = view.as_ref().and_then(View::peer);
        let peer_id = initialized.or_else(|| state.uninitialized.get(&region_id).copied())?;
        Some(Peer { region_id, peer_id, role: state.roles.of(region_id, peer_id), view })
    }

    /// Says which role a peer has now. Whether that is news; `false` also if the peer is not here, or no longer.
    pub fn set_role(&self, region: RegionId, peer: PeerId, role: Role) -> bool {
        let mut state = self.lock();
        self.peer_id(&state, region) == Some(peer) && state.roles.set(region, peer, role)
    }

    /// The peer of a region. Who removes one forgets it under the same lock afterwards.
    fn peer_id(&self, state: &State, region: RegionId) -> Option<PeerId> {
        let published = self.own_peer(&self.store.meta().snapshot(), region);
        published.or_else(|| state.uninitialized.get(&region).copied())
    }

    fn own_peer(&self, snapshot: &Snapshot, region: RegionId) -> Option<PeerId> {
        self.peer_here(snapshot.get(region)?.region())
    }

    fn peer_here(&self, region: &Region) -> Option<PeerId> {
        region.peer_on(self.store.ident().store_id).map(|peer| peer.id)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Storage> fmt::Debug for Peers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("state", &*self.lock()).finish_non_exhaustive()
    }
}
