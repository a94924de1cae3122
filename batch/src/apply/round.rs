//! [`Round`]: one worker's way through the regions that are ready, into one batch.

use std::sync::Arc;

use crossbeam::channel::Receiver;

use super::answer::ApplyHost;
use super::delegate::Delegate;
use super::flush::{Answers, Flush};
use super::mailbox::{Mailbox, Next, Turn};
use super::pool::Shared;
use super::turn::Applier;
use crate::storage::Storage;

/// A region that a worker owns until its round ends, because until then the batch may hold its entries.
pub(super) struct Owned<S: Storage, T> {
    pub(super) mailbox: Arc<Mailbox<S, T>>,
    pub(super) delegate: Box<Delegate<S, T>>,
    pub(super) next: Next,
    /// It leaves the pool after the flush.
    pub(super) leaves: Option<Leave>,
}

/// How a region leaves the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leave {
    /// It is gone from the store, or the host has taken it out and may bring it back.
    Free,
    /// Its next entry can be neither skipped nor executed.
    Stuck,
}

/// What outlives a panic in the middle of a round: regions to give back, entries to answer.
pub(super) struct Kept<S: Storage, T> {
    pub(super) owned: Vec<Owned<S, T>>,
    pub(super) answers: Answers<T>,
}

impl<S: Storage, T> Default for Kept<S, T> {
    fn default() -> Self {
        Self { owned: Vec::new(), answers: Answers::new() }
    }
}

pub(super) struct Round<'s, 'k, S: Storage, H: ApplyHost<S>> {
    shared: &'s Shared<S, H>,
    flush: Flush<'s, S, H>,
    kept: &'k mut Kept<S, H::Tag>,
}

impl<'s, 'k, S: Storage, H: ApplyHost<S>> Round<'s, 'k, S, H> {
    pub(super) fn new(shared: &'s Shared<S, H>, kept: &'k mut Kept<S, H::Tag>) -> Self {
        Self { shared, flush: Flush::new(shared), kept }
    }

    /// Drains ready regions into the batch, beginning with this one; then flushes.
    pub(super) fn run(mut self, first: Arc<Mailbox<S, H::Tag>>, ready: &Receiver<Turn<S, H::Tag>>) {
        self.serve(first);
        while self.kept.owned.len() < self.shared.settings.round_regions_max {
            match ready.try_recv() {
                Ok(Turn::Region(mailbox)) => self.serve(mailbox),
                Ok(Turn::Stop) | Err(_) => break,
            }
        }
        self.flush.commit(&mut self.kept.answers);
        if self.flush.is_refused() {
            self.kept.owned.iter_mut().for_each(|owned| owned.leaves = Some(Leave::Free));
        }
    }

    fn serve(&mut self, mailbox: Arc<Mailbox<S, H::Tag>>) {
        let Some(delegate) = mailbox.take() else { return };
        // Kept while it has its turn, so that a panic leaves no region without an owner.
        let Kept { owned, answers } = &mut *self.kept;
        owned.push(Owned { mailbox, delegate, next: Next::Ready, leaves: None });
        if let Some(owned) = owned.last_mut() {
            Applier::new(self.shared, &mut self.flush, answers).turn(owned);
        }
    }
}

impl<S: Storage, H: ApplyHost<S>> Shared<S, H> {
    /// Gives a region back after the flush. Everything that it has put into the batch is written, or the store is poisoned.
    pub(super) fn give_back(&self, owned: Owned<S, H::Tag>) {
        let Owned { mailbox, mut delegate, next, leaves } = owned;
        let caught_up = delegate.stopped.then(|| delegate.catch_up.take());
        if let Some(held) = mailbox.release(delegate, next) {
            self.answer_closed(mailbox.region(), held);
        }
        if let Some(leave) = leaves {
            self.close(&mailbox, leave);
        }
        drop(caught_up); // wakes the target, and only now is the source free
    }
}
