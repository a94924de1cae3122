//! [`Router`]: from a region to its mailbox.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam::channel::Sender;
use crossbeam::sync::ShardedLock;
use regionmeta::RegionId;

use super::delegate::CatchUp;
use super::entry::Entry;
use super::mailbox::{Mailbox, Order, SendError, Turn};
use super::round::Leave;
use crate::region_map::{RegionMap, RegionSet};
use crate::storage::Storage;

/// Finds the mailbox of a region. Regions come with the store and with splits, and go with merges and tombstones, all by
/// themselves; a peer that is made in another way is [added](Self::add) by who made it.
///
/// A look-up takes a shared lock. Who sends often keeps the [`RegionSender`].
pub struct Router<S: Storage, T> {
    shared: Arc<Shared<S, T>>,
}

struct Shared<S: Storage, T> {
    /// `None` when the pool is gone: nobody would take out what is put into a mailbox.
    mailboxes: ShardedLock<Option<Mailboxes<S, T>>>,
    capacity: usize,
    ready: Sender<Turn<S, T>>,
}

struct Mailboxes<S: Storage, T> {
    by_region: RegionMap<Arc<Mailbox<S, T>>>,
    /// By merge source that is out of the pool for a while, the targets that wait for it to come back.
    absent: RegionMap<Vec<CatchUp<S, T>>>,
    /// Regions that have left because they come no further: nobody waits for one before the host adds it again.
    stuck: RegionSet,
}

impl<S: Storage, T> Default for Mailboxes<S, T> {
    fn default() -> Self {
        Self { by_region: RegionMap::default(), absent: RegionMap::default(), stuck: RegionSet::default() }
    }
}

/// Where a target's order to its source went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Delivery {
    /// The source has it. If it leaves in that moment, it drops the order, and that wakes the target.
    Delivered,
    /// The source is out of the pool: the target is woken when it is back.
    Absent,
    /// The source comes no further, or the pool is gone.
    Stuck,
}

/// Sends entries to one region.
pub struct RegionSender<S: Storage, T> {
    mailbox: Arc<Mailbox<S, T>>,
}

impl<S: Storage, T> Router<S, T> {
    pub(super) fn new(capacity: usize, ready: Sender<Turn<S, T>>) -> Self {
        Self { shared: Arc::new(Shared { mailboxes: ShardedLock::new(Some(Mailboxes::default())), capacity, ready }) }
    }

    /// The way to a region; `None` if it is not in the pool.
    #[must_use]
    pub fn region(&self, region: RegionId) -> Option<RegionSender<S, T>> {
        self.mailbox(region).map(|mailbox| RegionSender { mailbox })
    }

    /// Sends an entry, and does not wait.
    ///
    /// # Errors
    /// [`SendError`], with the entry: the mailbox is full, or the region is not here.
    pub fn try_send(&self, region: RegionId, entry: Entry<S, T>) -> Result<(), SendError<Entry<S, T>>> {
        match self.mailbox(region) {
            Some(mailbox) => mailbox.try_send(entry),
            None => Err(SendError::Closed(entry)),
        }
    }

    /// Sends an entry, and waits for room. On a worker's thread, that is in a method of the host, it does not wait.
    ///
    /// # Errors
    /// [`SendError`], with the entry: the region is not here, or the mailbox is full and this is a worker's thread.
    pub fn send(&self, region: RegionId, entry: Entry<S, T>) -> Result<(), SendError<Entry<S, T>>> {
        match self.mailbox(region) {
            Some(mailbox) => mailbox.send(entry, None),
            None => Err(SendError::Closed(entry)),
        }
    }

    /// Adds a region that the pool does not know: a peer that a message or a snapshot has made. Whether it is new; `false` also
    /// when the pool was shut down. Merges that wait for the region to come back go on.
    pub fn add(&self, region: RegionId) -> bool {
        let added = self.write(|mailboxes| {
            if mailboxes.by_region.contains_key(&region) {
                return None;
            }
            let mailbox = Mailbox::new(region, self.shared.capacity, self.shared.ready.clone());
            mailboxes.by_region.insert(region, Arc::new(mailbox));
            mailboxes.stuck.remove(&region);
            Some(mailboxes.absent.remove(&region))
        });
        // The targets that waited are woken here, when the lock is free.
        added.flatten().is_some()
    }

    /// Takes a region out of the pool, before its peer is destroyed or a snapshot replaces it. What it has applied is
    /// written first, entries behind that are answered [`Closed`](super::AnswerError::Closed), and then
    /// [`ApplyHost::stopped`](super::ApplyHost::stopped) says so. A merge that it waits for is given up; a target that waits
    /// for it goes on waiting until the region is added again or is gone from this store. Whether the region was there.
    pub fn stop(&self, region: RegionId) -> bool {
        self.mailbox(region).is_some_and(|mailbox| mailbox.order(Order::Stop))
    }

    /// How many regions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read(|mailboxes| mailboxes.by_region.len()).unwrap_or_default()
    }

    /// Whether there is no region.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn mailbox(&self, region: RegionId) -> Option<Arc<Mailbox<S, T>>> {
        self.read(|mailboxes| mailboxes.by_region.get(&region).cloned()).flatten()
    }

    /// Takes a region out by its mailbox: a later one of the same id, which the host has added meanwhile, stays. Whether it was
    /// still there.
    pub(super) fn remove(&self, mailbox: &Arc<Mailbox<S, T>>, leave: Leave) -> bool {
        let region = mailbox.region();
        let removed = self.write(|mailboxes| {
            let removed = mailboxes.by_region.get(&region).is_some_and(|found| Arc::ptr_eq(found, mailbox));
            if removed {
                mailboxes.by_region.remove(&region);
            }
            if removed && leave == Leave::Stuck {
                mailboxes.stuck.insert(region);
            }
            removed
        });
        removed.unwrap_or_default()
    }

    /// Has a merge source catch up with its target, now or when it is back.
    pub(super) fn order_source(&self, source: RegionId, order: CatchUp<S, T>) -> Delivery {
        if let Some(mailbox) = self.mailbox(source) {
            mailbox.order(Order::CatchUp(order));
            return Delivery::Delivered;
        }
        self.keep(source, order)
    }

    /// Keeps what is to be dropped when the source is back. Dropping it wakes the target, so that is done without the lock.
    fn keep(&self, source: RegionId, order: CatchUp<S, T>) -> Delivery {
        let target = order.target.region();
        let mut order = Some(order);
        let kept = self.write(|mailboxes| {
            if mailboxes.stuck.contains(&source) {
                return (Delivery::Stuck, None);
            }
            if mailboxes.by_region.contains_key(&source) {
                return (Delivery::Absent, None); // it came back just now: the target looks again at once
            }
            let waiting = mailboxes.absent.entry(source).or_default();
            let earlier = waiting.iter().position(|order| order.target.region() == target);
            let earlier = earlier.map(|at| waiting.swap_remove(at));
            waiting.extend(order.take());
            (Delivery::Absent, earlier)
        });
        kept.map_or(Delivery::Stuck, |(delivery, _)| delivery)
    }

    /// Has the targets that wait for a source to come back look again.
    pub(super) fn wake_targets(&self, source: RegionId) {
        let woken = self.write(|mailboxes| mailboxes.absent.remove(&source));
        drop(woken); // wakes them, and without the lock
    }

    /// The same, later; nothing if the pool is gone by then.
    pub(super) fn wake_targets_later(&self, source: RegionId) -> impl FnOnce() + Send + 'static
    where
        S: 'static,
        T: Send + 'static,
    {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                Self { shared }.wake_targets(source);
            }
        }
    }

    /// Takes all regions out, and lets no more in.
    pub(super) fn shut_down(&self) -> impl Iterator<Item = Arc<Mailbox<S, T>>> {
        let mailboxes = self.shared.mailboxes.write().unwrap_or_else(PoisonError::into_inner).take();
        mailboxes.into_iter().flat_map(|mailboxes| mailboxes.by_region.into_values())
    }

    /// Gives every region a turn, those as well that wait; nothing if the pool is gone by then.
    pub(super) fn wake_all_later(&self) -> impl FnOnce() + Send + 'static
    where
        S: 'static,
        T: Send + 'static,
    {
        let shared = Arc::downgrade(&self.shared);
        move || {
            let Some(router) = shared.upgrade().map(|shared| Self { shared }) else { return };
            let mailboxes = router.read(|mailboxes| mailboxes.by_region.values().cloned().collect::<Vec<_>>());
            mailboxes.into_iter().flatten().for_each(|mailbox| mailbox.wake());
        }
    }

    fn read<R>(&self, read: impl FnOnce(&Mailboxes<S, T>) -> R) -> Option<R> {
        self.shared.mailboxes.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(read)
    }

    /// `None` when the pool is gone.
    fn write<R>(&self, write: impl FnOnce(&mut Mailboxes<S, T>) -> R) -> Option<R> {
        self.shared.mailboxes.write().unwrap_or_else(PoisonError::into_inner).as_mut().map(write)
    }
}

impl<S: Storage, T> RegionSender<S, T> {
    /// The region.
    #[must_use]
    pub fn region(&self) -> RegionId {
        self.mailbox.region()
    }

    /// Sends an entry, and does not wait.
    ///
    /// # Errors
    /// [`SendError`], with the entry.
    pub fn try_send(&self, entry: Entry<S, T>) -> Result<(), SendError<Entry<S, T>>> {
        self.mailbox.try_send(entry)
    }

    /// Sends as many entries from the front as there is room for, under one lock.
    ///
    /// # Errors
    /// [`SendError`]; what was not taken is still in `entries`.
    pub fn try_send_all(&self, entries: &mut VecDeque<Entry<S, T>>) -> Result<(), SendError<()>> {
        self.mailbox.send_all(entries)
    }

    /// Sends an entry, and waits for room; not on a worker's thread.
    ///
    /// # Errors
    /// [`SendError`], with the entry: the region is gone, or the mailbox is full and this is a worker's thread.
    pub fn send(&self, entry: Entry<S, T>) -> Result<(), SendError<Entry<S, T>>> {
        self.mailbox.send(entry, None)
    }

    /// Sends an entry, and waits for room as long as `patience` says.
    ///
    /// # Errors
    /// [`SendError`], with the entry.
    pub fn send_within(&self, entry: Entry<S, T>, patience: Duration) -> Result<(), SendError<Entry<S, T>>> {
        self.mailbox.send(entry, Some(patience))
    }
}

impl<S: Storage, T> Clone for Router<S, T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S: Storage, T> Clone for RegionSender<S, T> {
    fn clone(&self) -> Self {
        Self { mailbox: self.mailbox.clone() }
    }
}

impl<S: Storage, T> fmt::Debug for Router<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("regions", &self.len()).finish_non_exhaustive()
    }
}

impl<S: Storage, T> fmt::Debug for RegionSender<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegionSender").field(&self.mailbox).finish()
    }
}
