//! [`Router`]: from a region to its mailbox.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam::channel::Sender;
use crossbeam::sync::ShardedLock;
use regionmeta::RegionId;

use super::entry::Entry;
use super::mailbox::{Closed, Mailbox, Order, SendError, Turn};
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
    mailboxes: ShardedLock<RegionMap<Arc<Mailbox<S, T>>>>,
    capacity: usize,
    ready: Sender<Turn<S, T>>,
}

/// Sends entries to one region.
pub struct RegionSender<S: Storage, T> {
    mailbox: Arc<Mailbox<S, T>>,
}

impl<S: Storage, T> Router<S, T> {
    pub(super) fn new(capacity: usize, ready: Sender<Turn<S, T>>) -> Self {
        Self { shared: Arc::new(Shared { mailboxes: ShardedLock::default(), capacity, ready }) }
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

    /// Adds a region that the pool does not know: a peer that a message or a snapshot has made. Whether it is new.
    pub fn add(&self, region: RegionId) -> bool {
        let mut mailboxes = self.shared.mailboxes.write().unwrap_or_else(PoisonError::into_inner);
        if mailboxes.contains_key(&region) {
            return false;
        }
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
        self.shared.mailboxes.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is no region.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn mailbox(&self, region: RegionId) -> Option<Arc<Mailbox<S, T>>> {
        self.shared.mailboxes.read().unwrap_or_else(PoisonError::into_inner).get(&region).cloned()
    }

    /// Takes a region out, and returns what nobody will apply.
    pub(super) fn close(&self, region: RegionId) -> Option<Closed<S, T>> {
        let mailbox = self.shared.mailboxes.write().unwrap_or_else(PoisonError::into_inner).remove(&region)?;
        Some(mailbox.close())
    }

    pub(super) fn regions(&self) -> Vec<RegionId> {
        self.shared.mailboxes.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
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
