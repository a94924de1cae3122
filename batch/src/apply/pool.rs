//! [`ApplyPool`]: the workers, and what they share.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::answer::ApplyHost;
use super::flush;
use super::mailbox::{Turn, this_thread_is_a_worker};
use super::round::{Kept, Round};
use super::router::Router;
use super::settings::{ApplySettings, SyncPolicy};
use super::waits::Waits;
use crate::storage::{Durability, Storage};
use crate::store::Store;

/// Why a pool was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The store recovers from a power loss by the rule that every batch was synced.
    #[error("sync policy {policy:?} needs a store that was opened with `Durability::Buffered`")]
    StoreIsSynced {
        /// The policy that was asked for.
        policy: SyncPolicy,
    },
    /// The system gave no thread.
    #[error("cannot start an apply worker: {0}")]
    Thread(#[from] std::io::Error),
}

/// Applies the committed entries of all regions of a store, on threads of its own.
///
/// Every region that the store has is in it from the start. Dropping the pool shuts it down: each worker finishes its round,
/// and every entry that is still waiting is answered [`Closed`](super::AnswerError::Closed); the Raft log still has it.
///
/// ```
/// use std::sync::Arc;
///
/// use regionmeta::{AdminCommand, AdminHeader, AdminRequest, ChangeKind, LogPosition, Peer, PeerChange};
/// use regionmeta_batch::apply::{ApplyPool, ApplySettings, ChannelHost, Entry};
/// use regionmeta_batch::pd::EmbeddedPd;
/// use regionmeta_batch::storage::MemStorage;
/// use regionmeta_batch::StoreBuilder;
///
/// let pd = EmbeddedPd::new(7.into());
/// let store = Arc::new(StoreBuilder::new(7.into()).bootstrap_storage(MemStorage::new(), &pd)?);
/// let region = store.meta().snapshot().locate(b"key").ok_or("no region")?.region().clone();
///
/// let (answers, heard) = crossbeam::channel::unbounded();
/// let pool = ApplyPool::start(store.clone(), ChannelHost::new(answers), ApplySettings::default())?;
///
/// let add = PeerChange { kind: ChangeKind::AddNode, peer: Peer::voter(100.into(), 2.into()) };
/// let position = LogPosition { index: 6.into(), term: 6.into() };
/// let header = AdminHeader::new(region.id(), region.epoch());
/// let request = AdminRequest { header, command: AdminCommand::ChangePeer(add) };
/// pool.router().send(region.id(), Entry::admin(position, request, "my tag"))?;
///
/// let answer = heard.recv()?;
/// assert!(answer.tag == "my tag" && answer.result.is_ok());
/// assert_eq!(store.meta().snapshot().get(region.id()).map(|entry| entry.region().peers().len()), Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ApplyPool<S: Storage, H: ApplyHost<S>> {
    shared: Arc<Shared<S, H>>,
    ready: Sender<Turn<S, H::Tag>>,
    turns: Receiver<Turn<S, H::Tag>>,
    workers: Vec<JoinHandle<()>>,
}

/// What all workers work with.
pub(super) struct Shared<S: Storage, H: ApplyHost<S>> {
    pub(super) store: Arc<Store<S>>,
    pub(super) host: H,
    pub(super) settings: ApplySettings,
    pub(super) router: Router<S, H::Tag>,
    pub(super) waits: Waits,
    /// Written once, at shutdown, before each worker is sent a `Stop`; read by workers before they receive. Relaxed: who has
    /// received a `Stop` sees it by the channel, and for everybody else it may come a round later.
    stopping: AtomicBool,
}

impl<S: Storage, H: ApplyHost<S>> ApplyPool<S, H> {
    /// Starts the workers of a store. One pool a store: a region belongs to one batch at a time, and two pools would only
    /// wait for each other.
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn start(store: Arc<Store<S>>, host: H, settings: ApplySettings) -> Result<Self, PoolError> {
        let settings = settings.at_least_one();
        if settings.sync != SyncPolicy::Every && store.durability() == Durability::Synced {
            return Err(PoolError::StoreIsSynced { policy: settings.sync });
        }
        let (ready, turns) = unbounded();
        let router = Router::new(settings.mailbox_entries_max, ready.clone());
        for region in store.meta().snapshot().regions() {
            router.add(region.id());
        }
        let (waits, stopping) = (Waits::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { store, host, settings, router, waits, stopping });
        let mut pool = Self { shared, ready, turns, workers: Vec::new() };
        for number in 0..settings.workers {
            let (shared, turns) = (pool.shared.clone(), pool.turns.clone());
            let worker = std::thread::Builder::new().name(format!("apply-{number}"));
            pool.workers.push(worker.spawn(move || work(&shared, &turns))?);
        }
        Ok(pool)
    }

    /// Where entries go in.
    #[must_use]
    pub fn router(&self) -> &Router<S, H::Tag> {
        &self.shared.router
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &H {
        &self.shared.host
    }

    /// Ends the pool: workers finish their rounds, what waits is answered [`Closed`](super::AnswerError::Closed). Not to be
    /// called by the host's own methods, which run on the workers. Dropping the pool does the same.
    pub fn shut_down(self) {
        drop(self);
    }

    fn stop_and_join(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for _ in &self.workers {
            let _ = self.ready.send(Turn::Stop);
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a worker catches its panics
        }
        for region in self.shared.router.regions() {
            self.shared.close(region);
        }
        // Turns hold mailboxes, and mailboxes hold the channel.
        while self.turns.try_recv().is_ok() {}
    }
}

impl<S: Storage, H: ApplyHost<S>> Drop for ApplyPool<S, H> {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

fn work<S: Storage, H: ApplyHost<S>>(shared: &Shared<S, H>, turns: &Receiver<Turn<S, H::Tag>>) {
    this_thread_is_a_worker();
    let mut kept = Kept::default();
    // Looked at before every receive: a round that has met a `Stop` on its way must not take another worker's as well.
    while !shared.stopping.load(Ordering::Relaxed) {
        let Ok(Turn::Region(mailbox)) = turns.recv() else { return };
        let round = AssertUnwindSafe(|| Round::new(shared, &mut kept).run(mailbox, turns));
        if catch_unwind(round).is_err() {
            // Half an entry may be lost, or a host may have heard half of its answers.
            shared.store.poison().set(&"a panic while entries were applied");
        }
        if catch_unwind(AssertUnwindSafe(|| end_round(shared, &mut kept))).is_err() {
            shared.store.poison().set(&"a panic in a method of the host");
        }
    }
}

/// Answers what the round has left unanswered, and gives its regions back.
fn end_round<S: Storage, H: ApplyHost<S>>(shared: &Shared<S, H>, kept: &mut Kept<S, H::Tag>) {
    flush::answer_poisoned(shared, &mut kept.answers);
    while let Some(owned) = kept.owned.pop() {
        shared.give_back(owned);
    }
}

impl<S: Storage, H: ApplyHost<S>> fmt::Debug for ApplyPool<S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplyPool")
            .field("workers", &self.workers.len())
            .field("router", &self.shared.router)
            .finish_non_exhaustive()
    }
}
