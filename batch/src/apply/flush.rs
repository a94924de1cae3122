//! [`Flush`]: the batch of a round, and what happens when it is written: publish, open and close mailboxes, answer.

use std::collections::VecDeque;
use std::sync::Arc;

use regionmeta::mutant::{Mutant, planted};
use regionmeta::{Change, Refusal, RegionId};

use super::answer::{Answer, AnswerError, ApplyHost};
use super::batch::{ApplyBatch, ApplyError, CommitError, Committed};
use super::entry::Entry;
use super::mailbox::{Closed, Mailbox};
use super::pool::Shared;
use super::round::Leave;
use super::settings::SyncPolicy;
use super::siblings;
use crate::failpoint::FailPoint;
use crate::poison::Poisoned;
use crate::storage::{Durability, Storage, StorageError};

/// Answers that wait for their batch. They live outside of the batch, so that a panic does not lose them.
pub(super) type Answers<T> = VecDeque<Answer<T>>;

pub(super) struct Flush<'s, S: Storage, H: ApplyHost<S>> {
    shared: &'s Shared<S, H>,
    batch: ApplyBatch<'s, S>,
    /// Entries in the batch.
    entries: usize,
    /// In the batches before this one.
    bytes_written: usize,
    /// A batch was refused: what its regions have done did not happen.
    is_refused: bool,
}

impl<'s, S: Storage, H: ApplyHost<S>> Flush<'s, S, H> {
    pub(super) fn new(shared: &'s Shared<S, H>) -> Self {
        Self { shared, batch: begin(shared), entries: 0, bytes_written: 0, is_refused: false }
    }

    pub(super) fn batch(&mut self) -> &mut ApplyBatch<'s, S> {
        &mut self.batch
    }

    pub(super) fn count_entry(&mut self) {
        self.entries += 1;
    }

    /// What was put into the batches of this round so far. A batch that is written in the middle of a turn is part of that turn.
    pub(super) fn bytes(&self) -> usize {
        self.bytes_written.saturating_add(self.batch.data_bytes())
    }

    pub(super) fn is_full(&self) -> bool {
        let settings = &self.shared.settings;
        self.entries >= settings.batch_entries_max || self.batch.data_bytes() >= settings.batch_bytes_max
    }

    /// Whether a batch was refused: then the regions of the round leave, because their delegates may have seen what did not
    /// happen.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Persists, publishes, answers. Whatever happens, every answer is given.
    pub(super) fn commit(&mut self, answers: &mut Answers<H::Tag>) {
        if self.entries == 0 {
            // Nothing counted; answers to entries that were not applied need no write.
            return self.answer(answers);
        }
        self.entries = 0;
        self.bytes_written = self.bytes();
        let batch = std::mem::replace(&mut self.batch, begin(self.shared));
        let done = batch.commit().and_then(|committed| Ok(self.committed(&committed, answers)?));
        match done {
            Ok(()) => {}
            Err(CommitError::Refused(refusal)) => self.refused(&refusal, answers),
            Err(error) => {
                self.shared.store.poison().set(&error);
                answer_poisoned(self.shared, answers);
            }
        }
    }

    /// Somebody beside the pool has changed what the batch was computed from. Nothing was written, so disk and memory agree,
    /// and no entry counts: those that follow do not fit any more, and are not acknowledged either.
    fn refused(&mut self, refusal: &Refusal, answers: &mut Answers<H::Tag>) {
        tracing::error!(%refusal, "a batch was refused; its regions leave the pool");
        self.is_refused = true;
        while let Some(answer) = answers.pop_front() {
            let result = Err(AnswerError::NotApplied(ApplyError::BatchRefused(refusal.clone())));
            self.shared.host.answer(Answer { result, ..answer });
        }
    }

    fn committed(&self, committed: &Committed, answers: &mut Answers<H::Tag>) -> Result<(), StorageError> {
        for change in &committed.changes {
            if let Change::Create { region } = change {
                self.shared.router.add(region.id());
            }
        }
        let held = planted(Mutant::M19).then(|| self.shared.store.creating().lock());
        self.shared.host.committed(committed);
        drop(held);
        FailPoint::Answer.reach()?;
        self.answer(answers);
        for change in &committed.changes {
            if let Change::Remove { id, .. } = change
                && let Some(mailbox) = self.shared.router.mailbox(*id)
            {
                self.shared.close(&mailbox, Leave::Free);
            }
        }
        FailPoint::Answered.reach()
    }

    fn answer(&self, answers: &mut Answers<H::Tag>) {
        while let Some(mut answer) = answers.pop_front() {
            self.add_siblings(&mut answer);
            self.shared.host.answer(answer);
        }
    }

    /// Looked up now and not earlier, so that the siblings are those that readers find.
    fn add_siblings(&self, answer: &mut Answer<H::Tag>) {
        let Err(AnswerError::EpochNotMatch { request, current }) = &mut answer.result else { return };
        if let Some(own) = current.pop() {
            let snapshot = self.shared.store.meta().snapshot();
            *current = siblings::current_regions(&snapshot, own, *request, self.shared.settings.right_derive);
        }
    }
}

/// I14: nothing is acknowledged any more.
pub(super) fn answer_poisoned<S: Storage, H: ApplyHost<S>>(shared: &Shared<S, H>, answers: &mut Answers<H::Tag>) {
    let poisoned = shared.store.check_writable().err();
    let poisoned = poisoned.unwrap_or_else(|| Poisoned { cause: "the batch of this entry was given up".to_owned() });
    while let Some(answer) = answers.pop_front() {
        shared.host.answer(Answer { result: Err(poisoned.clone().into()), ..answer });
    }
}

fn begin<S: Storage, H: ApplyHost<S>>(shared: &Shared<S, H>) -> ApplyBatch<'_, S> {
    shared.store.begin_with(match shared.settings.sync {
        SyncPolicy::Every => Durability::Synced,
        SyncPolicy::Hinted | SyncPolicy::Never => Durability::Buffered,
    })
}

impl<S: Storage, H: ApplyHost<S>> Shared<S, H> {
    /// Takes a region out of the pool, and answers whatever is left of it. Once for each mailbox, whoever comes first.
    pub(super) fn close(&self, mailbox: &Arc<Mailbox<S, H::Tag>>, leave: Leave) {
        if self.router.remove(mailbox, leave) {
            self.end(mailbox.region(), mailbox.close());
        }
    }

    /// The end of a mailbox that nobody finds, and that takes nothing any more.
    pub(super) fn end(&self, region: RegionId, closed: Closed<S, H::Tag>) {
        let Closed { entries, orders, mut delegate } = closed;
        let held = delegate.as_mut().and_then(|delegate| delegate.held.take());
        held.into_iter().chain(entries).for_each(|entry| self.answer_closed(region, entry));
        self.host.stopped(region);
        drop((orders, delegate)); // targets that still wait look again
    }

    pub(super) fn answer_closed(&self, region: RegionId, entry: Entry<S, H::Tag>) {
        self.host.answer(entry.answer(region, Err(AnswerError::Closed { region })));
    }
}
