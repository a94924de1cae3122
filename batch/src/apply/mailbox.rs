//! [`Mailbox`]: the entries that wait for one region, and the rule that a region has one owner at a time.
//!
//! Whoever holds the region's [`Delegate`] owns it. It lies in the mailbox while nobody does; a worker takes it out and
//! puts it back. Queue and turn change under one lock, so a send and the end of a turn cannot miss each other: either the
//! worker sees the new entry when it gives the region back, or the sender sees that nobody owns the region and queues it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use regionmeta::RegionId;

use super::delegate::Delegate;
use super::entry::Entry;
use crate::storage::Storage;

/// What workers receive.
pub(super) enum Turn<S: Storage, T> {
    /// A region has entries. Each region is in the channel at most once, so the channel is bounded by the regions.
    Region(Arc<Mailbox<S, T>>),
    /// The pool is shutting down.
    Stop,
}

/// An entry that was not taken, with the reason; the entry itself comes back.
pub enum SendError<E> {
    /// The mailbox is full. Try again later, or wait.
    Full(E),
    /// The region is not in the pool, or no longer.
    Closed(E),
}

impl<E> SendError<E> {
    /// The entry that was not taken.
    pub fn into_inner(self) -> E {
        match self {
            Self::Full(entry) | Self::Closed(entry) => entry,
        }
    }

    /// Whether the mailbox was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl<E> fmt::Display for SendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the region's mailbox is full: wait until entries were applied",
            Self::Closed(_) => "the region takes no more entries",
        })
    }
}

impl<E> fmt::Debug for SendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "Full(..)" } else { "Closed(..)" })
    }
}

impl<E> std::error::Error for SendError<E> {}

/// What the owner does with a region when it gives it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Another turn, if entries are waiting.
    Ready,
    /// No turn before somebody wakes it: it waits for another region, or for another batch.
    Park,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Schedule {
    Idle,
    Queued,
    Owned,
    Parked,
    Closed,
}

pub(super) struct Mailbox<S: Storage, T> {
    region: RegionId,
    capacity: usize,
    ready: Sender<Turn<S, T>>,
    inner: Mutex<Inner<S, T>>,
    /// Told when an entry was taken out, for senders that wait.
    room: Condvar,
}

struct Inner<S: Storage, T> {
    entries: VecDeque<Entry<S, T>>,
    orders: Vec<Order<S, T>>,
    schedule: Schedule,
    /// Somebody called while the region was owned: do not park.
    woken: bool,
    senders_waiting: usize,
    /// Here while nobody owns the region.
    delegate: Option<Box<Delegate<S, T>>>,
}

/// What is asked of a delegate beside its entries. Not bounded by the capacity: at most a few in a region's life.
pub(super) enum Order<S: Storage, T> {
    /// The host wants the region out of the pool.
    Stop,
    /// A merge target waits for this region.
    CatchUp(super::delegate::CatchUp<S, T>),
}

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as one that empties mailboxes, and so must never wait for room in one.
pub(super) fn this_thread_is_a_worker() {
    IS_WORKER.set(true);
}

impl<S: Storage, T> Mailbox<S, T> {
    pub(super) fn new(region: RegionId, capacity: usize, ready: Sender<Turn<S, T>>) -> Self {
        let inner = Inner {
            entries: VecDeque::new(),
            orders: Vec::new(),
            schedule: Schedule::Idle,
            woken: false,
            senders_waiting: 0,
            delegate: Some(Box::new(Delegate::new(region))),
        };
        Self { region, capacity, ready, inner: Mutex::new(inner), room: Condvar::new() }
    }

    pub(super) fn region(&self) -> RegionId {
        self.region
    }

    // --- senders -----------------------------------------------------------------------------------------------------

    pub(super) fn try_send(self: &Arc<Self>, entry: Entry<S, T>) -> Result<(), SendError<Entry<S, T>>> {
        self.push(self.lock(), entry)
    }

    /// Waits for room, until `patience` ends; for as long as it takes if there is none.
    pub(super) fn send(
        self: &Arc<Self>,
        entry: Entry<S, T>,
        patience: Option<Duration>,
    ) -> Result<(), SendError<Entry<S, T>>> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut inner = self.lock();
        while inner.entries.len() >= self.capacity && inner.schedule != Schedule::Closed && !IS_WORKER.get() {
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            inner.senders_waiting += 1;
            inner = self.room.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
            inner.senders_waiting -= 1;
        }
        self.push(inner, entry)
    }

    /// Takes entries from the front until the mailbox is full; all or some may stay.
    pub(super) fn send_all(self: &Arc<Self>, entries: &mut VecDeque<Entry<S, T>>) -> Result<(), SendError<()>> {
        let mut inner = self.lock();
        if inner.schedule == Schedule::Closed {
            return Err(SendError::Closed(()));
        }
        let room = self.capacity.saturating_sub(inner.entries.len()).min(entries.len());
        inner.entries.extend(entries.drain(..room));
        if room > 0 {
            self.queue(inner);
        }
        if entries.is_empty() { Ok(()) } else { Err(SendError::Full(())) }
    }

    fn push(
        self: &Arc<Self>,
        mut inner: MutexGuard<'_, Inner<S, T>>,
        entry: Entry<S, T>,
    ) -> Result<(), SendError<Entry<S, T>>> {
        if inner.schedule == Schedule::Closed {
            return Err(SendError::Closed(entry));
        }
        if inner.entries.len() >= self.capacity {
            return Err(SendError::Full(entry));
        }
        inner.entries.push_back(entry);
        self.queue(inner);
        Ok(())
    }

    /// Gives an order, which a parked region hears too. Whether the region was still there to take it; if not, the order is
    /// dropped.
    pub(super) fn order(self: &Arc<Self>, order: Order<S, T>) -> bool {
        let mut inner = self.lock();
        if inner.schedule == Schedule::Closed {
            drop(inner);
            return false;
        }
        inner.orders.push(order);
        self.wake_locked(inner);
        true
    }

    /// Gives a parked region its next turn.
    pub(super) fn wake(self: &Arc<Self>) {
        self.wake_locked(self.lock());
    }

    fn wake_locked(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner<S, T>>) {
        match inner.schedule {
            Schedule::Parked => {
                inner.schedule = Schedule::Idle;
                self.queue(inner);
            }
            Schedule::Owned => inner.woken = true,
            _ => self.queue(inner),
        }
    }

    /// Queues a region that nobody owns and that does not wait for another. The channel is told after the lock.
    fn queue(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner<S, T>>) {
        if inner.schedule != Schedule::Idle {
            return;
        }
        inner.schedule = Schedule::Queued;
        drop(inner);
        // It fails only when the pool is gone, and with it everybody who could take a turn.
        let _ = self.ready.send(Turn::Region(self.clone()));
    }

    // --- the owner ---------------------------------------------------------------------------------------------------

    /// Makes the caller the owner; `None` if the region has left.
    pub(super) fn take(&self) -> Option<Box<Delegate<S, T>>> {
        let mut inner = self.lock();
        if inner.schedule != Schedule::Queued {
            return None;
        }
        inner.schedule = Schedule::Owned;
        inner.delegate.take()
    }

    pub(super) fn pop(&self) -> Option<Entry<S, T>> {
        let mut inner = self.lock();
        let entry = inner.entries.pop_front();
        let wake = entry.is_some() && inner.senders_waiting > 0;
        drop(inner);
        if wake {
            self.room.notify_one();
        }
        entry
    }

    pub(super) fn take_orders(&self) -> Vec<Order<S, T>> {
        std::mem::take(&mut self.lock().orders)
    }

    /// Gives the region back.
    pub(super) fn release(self: &Arc<Self>, delegate: Box<Delegate<S, T>>, next: Next) {
        let mut inner = self.lock();
        if inner.schedule == Schedule::Closed {
            drop(inner);
            drop(delegate); // wakes who waits for it, so not under the lock
            return;
        }
        inner.delegate = Some(delegate);
        let woken = std::mem::take(&mut inner.woken) || !inner.orders.is_empty();
        inner.schedule = if next == Next::Park && !woken { Schedule::Parked } else { Schedule::Idle };
        if woken || (next == Next::Ready && !inner.entries.is_empty()) {
            self.queue(inner);
        }
    }

    /// Takes the region out for good, and returns what nobody will apply.
    pub(super) fn close(&self) -> Closed<S, T> {
        let mut inner = self.lock();
        inner.schedule = Schedule::Closed;
        let closed = Closed {
            entries: std::mem::take(&mut inner.entries),
            orders: std::mem::take(&mut inner.orders),
            delegate: inner.delegate.take(),
        };
        drop(inner);
        self.room.notify_all();
        closed
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S, T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was left in a mailbox.
pub(super) struct Closed<S: Storage, T> {
    pub(super) entries: VecDeque<Entry<S, T>>,
    pub(super) orders: Vec<Order<S, T>>,
    pub(super) delegate: Option<Box<Delegate<S, T>>>,
}

impl<S: Storage, T> fmt::Debug for Mailbox<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Mailbox")
            .field("region", &self.region)
            .field("entries", &inner.entries.len())
            .field("schedule", &inner.schedule)
            .finish_non_exhaustive()
    }
}
