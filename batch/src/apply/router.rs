//! [`Router`]: from a region to its mailbox.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam::channel::Sender;
use crossbeam::sync::ShardedLock;
use regionmeta::RegionId;

use super::entry::Entry;
use super::mailbox::{Mailbox, Order, SendError, Turn};
use crate::region_map::RegionMap;
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

type Mailboxes<S, T> = RegionMap<Arc<Mailbox<S, T>>>;

/// Sends entries to one region.
pub struct RegionSender<S: Storage, T> {
    mailbox: Arc<Mailbox<S, T>>,
}

impl<S: Storage, T> Router<S, T> {
    pub(super) fn new(capacity: usize, ready: Sender<Turn<S, T>>) -> Self {
        Self { shared: Arc::new(Shared { mailboxes: ShardedLock::new(Some(RegionMap::default())), capacity, ready }) }
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
    /// when the pool was shut down.
    pub fn add(&self, region: RegionId) -> bool {
        let mut mailboxes = self.shared.mailboxes.write().unwrap_or_else(PoisonError::into_inner);
        let Some(mailboxes) = mailboxes.as_mut().filter(|mailboxes| !mailboxes.contains_key(&region)) else {
            return false;
        };
        let mailbox = Mailbox::new(region, self.shared.capacity, self.shared.ready.clone());
        mailboxes.insert(region, Arc::new(mailbox));
        true
    }

    /// Takes a region out of the pool, before its peer is destroyed or a snapshot replaces it. What it has applied is
    /// written first, entries behind that are answered [`Closed`](super::AnswerError::Closed), and then
    /// [`ApplyHost::stopped`](super::ApplyHost::stopped) says so. A merge that it waits for is given up. Whether the region
    /// was there.
    pub fn stop(&self, region: RegionId) -> bool {
        self.mailbox(region).is_some_and(|mailbox| mailbox.order(Order::Stop))
    }

    /// How many regions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read(Mailboxes::len).unwrap_or_default()
    }

    /// Whether there is no region.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn mailbox(&self, region: RegionId) -> Option<Arc<Mailbox<S, T>>> {
        self.read(|mailboxes| mailboxes.get(&region).cloned()).flatten()
    }

    /// Takes a region out by its mailbox: a later one of the same id, which the host has added meanwhile, stays. Whether it was
    /// still there.
    pub(super) fn remove(&self, mailbox: &Arc<Mailbox<S, T>>) -> bool {
        let mut mailboxes = self.shared.mailboxes.write().unwrap_or_else(PoisonError::into_inner);
        let Some(mailboxes) = mailboxes.as_mut() else { return false };
        let region = mailbox.region();
        let is_there = mailboxes.get(&region).is_some_and(|found| Arc::ptr_eq(found, mailbox));
        is_there && mailboxes.remove(&region).is_some()
    }

    /// Takes all regions out, and lets no more in.
    pub(super) fn shut_down(&self) -> impl Iterator<Item = Arc<Mailbox<S, T>>> {
        let mailboxes = self.shared.mailboxes.write().unwrap_or_else(PoisonError::into_inner).take();
        mailboxes.into_iter().flat_map(RegionMap::into_values)
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
            let mailboxes = router.read(|mailboxes| mailboxes.values().cloned().collect::<Vec<_>>());
            mailboxes.into_iter().flatten().for_each(|mailbox| mailbox.wake());
        }
    }

    fn read<R>(&self, read: impl FnOnce(&Mailboxes<S, T>) -> R) -> Option<R> {
        self.shared.mailboxes.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(read)
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
