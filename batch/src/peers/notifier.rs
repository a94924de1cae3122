//! [`Notifier`]: observers hear what became of the regions, at their own pace.
//!
//! Nothing waits for an observer. What was published stands in the change feed; who is too slow for that gets the difference
//! between the state that it was told last and the current one. Roles are a state as well: one that came and went between two
//! deliveries is not heard of, the last one always is. So what waits for an observer is bounded by the store's size.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

use regionmeta::{Change, Entry, PeerId, Published, Reason, Region, RegionId, Snapshot, Subscription};

use super::Peers;
use super::role::{Changed, Role};
use crate::storage::Storage;

/// What an observer hears. Of one region, in the order in which it happened; across regions there is no order, but that what
/// was published together is heard together.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PeerEvent {
    /// This store has a region that it had not, or one that was there when the observer came.
    Created {
        /// The region.
        region: Region,
    },
    /// A region has changed.
    Updated {
        /// As it is now.
        region: Region,
        /// Why; `None` if this observer was too slow to hear each of several changes.
        reason: Option<Reason>,
    },
    /// This store has the region no longer: merged, or its peer was destroyed.
    Destroyed {
        /// The region.
        region: RegionId,
    },
    /// An initialized peer has another role than was told last; before that it is a follower.
    RoleChanged {
        /// Its region.
        region: Region,
        /// The role.
        role: Role,
    },
}

/// Hears of the peers of a store. Called on the thread that [delivers](Notifier::deliver), with no lock held: it may take as
/// long as it likes, and call anything.
pub trait Observer: Send {
    /// One event.
    fn on_event(&mut self, event: &PeerEvent);
}

impl<F: FnMut(&PeerEvent) + Send> Observer for F {
    fn on_event(&mut self, event: &PeerEvent) {
        self(event);
    }
}

/// How often a delivery looks again for an event whose state it sees already.
const PATIENCE: u32 = 1_000;

/// Delivers events to observers, each time that it is asked to. A host calls it in a loop of a thread of its own; observers
/// that must not wait for one another get a notifier each.
///
/// Between two deliveries it holds the state that was told last, and so the memory of that one version.
///
/// ```
/// use std::sync::Arc;
///
/// use regionmeta_batch::StoreBuilder;
/// use regionmeta_batch::pd::EmbeddedPd;
/// use regionmeta_batch::peers::{PeerEvent, Peers};
/// use regionmeta_batch::storage::MemStorage;
///
/// let store = Arc::new(StoreBuilder::new(7.into()).bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(7.into()))?);
/// let peers = Arc::new(Peers::new(store));
/// let mut notifier = peers.notifier(vec![Box::new(|event: &PeerEvent| println!("{event:?}"))]);
/// assert_eq!(notifier.deliver(), 1); // the first region was created
/// assert_eq!(notifier.deliver(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Notifier<S: Storage> {
    peers: Arc<Peers<S>>,
    observers: Vec<Box<dyn Observer>>,
    feed: Subscription,
    /// Observers know all of this state; `None` before the first delivery.
    told: Option<Snapshot>,
    /// The roles that observers know, but for followers.
    told_roles: HashMap<RegionId, Role>,
    changed_roles: Arc<Changed>,
}

impl<S: Storage> Peers<S> {
    /// Has these observers told of everything that is there, and of everything that happens from now on.
    #[must_use]
    pub fn notifier(self: &Arc<Self>, observers: Vec<Box<dyn Observer>>) -> Notifier<S> {
        let changed_roles = self.lock().roles.listen();
        let meta = self.store().meta();
        let feed = meta.subscribe_from(meta.sequence());
        Notifier { peers: self.clone(), observers, feed, told: None, told_roles: HashMap::new(), changed_roles }
    }
}

impl<S: Storage> Notifier<S> {
    /// Delivers what has happened since the last time. The number of events; 0 costs two atomic loads and a short lock.
    pub fn deliver(&mut self) -> usize {
        // Roles before the state: the region of a role that was set is in the state then, unless it is gone again.
        let mut roles: Vec<_> = std::mem::take(&mut *self.changed_roles.lock().unwrap_or_else(PoisonError::into_inner))
            .into_iter()
            .collect();
        let now = self.peers.store().meta().snapshot();
        let changes = self.changes_to(&now);
        roles.extend(changes.iter().filter_map(created));
        let mut delivered = changes.len();
        for event in &changes {
            if let PeerEvent::Destroyed { region } = event {
                self.told_roles.remove(region);
            }
            self.tell(event);
        }
        let now = self.told.insert(now).clone();
        for event in roles.into_iter().filter_map(|region| self.role_event(&now, region)).collect::<Vec<_>>() {
            delivered += 1;
            self.tell(&event);
        }
        delivered
    }

    fn tell(&mut self, event: &PeerEvent) {
        for observer in &mut self.observers {
            observer.on_event(event);
        }
    }

    /// What leads from the state that was told to `now`: change by change if the feed still has all of them.
    fn changes_to(&mut self, now: &Snapshot) -> Vec<PeerEvent> {
        match self.told.take() {
            Some(told) if told.sequence() == now.sequence() => Vec::new(),
            Some(told) => match self.published_until(now) {
                Some(published) => events_of(&published),
                None => {
                    self.start_from(now);
                    self.difference(&told, now)
                }
            },
            None => {
                self.start_from(now);
                now.regions().map(|region| PeerEvent::Created { region: region.clone() }).collect()
            }
        }
    }

    fn start_from(&mut self, now: &Snapshot) {
        self.feed = self.peers.store().meta().subscribe_from(now.sequence());
    }

    /// `None` if the feed has lost some of it.
    fn published_until(&mut self, now: &Snapshot) -> Option<Vec<Published>> {
        let mut published: Vec<Published> = Vec::new();
        let mut patience = PATIENCE;
        while published.last().is_none_or(|last| last.sequence() < now.sequence()) {
            match self.feed.next() {
                Ok(Some(next)) => published.push(next),
                // A root is seen a moment before its event: its writer is about to push it, unless it has died.
                Ok(None) if patience > 0 => {
                    patience -= 1;
                    std::thread::yield_now();
                }
                Ok(None) | Err(_) => return None,
            }
        }
        Some(published)
    }

    /// What is gone comes first, so that no observer sees two regions own a key for longer than it must.
    fn difference(&self, told: &Snapshot, now: &Snapshot) -> Vec<PeerEvent> {
        let (mut gone, mut here) = (Vec::new(), Vec::new());
        told.diff(now, |before, after| match (before, after) {
            (Some(before), Some(after)) if self.same_peer(before, after) => {
                if before.changed_at() != after.changed_at() {
                    here.push(PeerEvent::Updated { region: after.region().clone(), reason: None });
                }
            }
            (before, after) => {
                gone.extend(before.map(|before| PeerEvent::Destroyed { region: before.region().id() }));
                here.extend(after.map(|after| PeerEvent::Created { region: after.region().clone() }));
            }
        });
        gone.append(&mut here);
        gone
    }

    fn same_peer(&self, before: Entry<'_>, after: Entry<'_>) -> bool {
        let here = |entry: Entry<'_>| -> Option<PeerId> { self.peers.peer_here(entry.region()) };
        here(before) == here(after)
    }

    fn role_event(&mut self, now: &Snapshot, id: RegionId) -> Option<PeerEvent> {
        let region = now.get(id)?.region().clone();
        let role = self.peers.lock().roles.of(id, self.peers.peer_here(&region)?);
        let told = match role {
            Role::Follower => self.told_roles.remove(&id),
            role => self.told_roles.insert(id, role),
        };
        (told.unwrap_or_default() != role).then_some(PeerEvent::RoleChanged { region, role })
    }
}

fn events_of(published: &[Published]) -> Vec<PeerEvent> {
    published.iter().flat_map(|published| published.changes().iter().map(event)).collect()
}

fn event(change: &Change) -> PeerEvent {
    match change {
        Change::Create { region } => PeerEvent::Created { region: region.clone() },
        Change::Update { region, reason, .. } => PeerEvent::Updated { region: region.clone(), reason: Some(*reason) },
        Change::Remove { id, .. } => PeerEvent::Destroyed { region: *id },
    }
}

fn created(event: &PeerEvent) -> Option<RegionId> {
    match event {
        PeerEvent::Created { region } => Some(region.id()),
        _ => None,
    }
}

impl<S: Storage> fmt::Debug for Notifier<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("observers", &self.observers.len()).finish_non_exhaustive()
    }
}
