//! [`Applier`]: one turn of one region. Orders first, then entries, up to the bounds of a turn.

use std::sync::Arc;

use regionmeta::{AdminCommand, AdminKind, AdminRequest, Outcome, RegionId};

use super::answer::{AnswerError, ApplyHost, ExecResult};
use super::batch::ApplyError;
use super::delegate::Delegate;
use super::entry::{Data, Entry, Work};
use super::flush::{Answers, Flush};
use super::mailbox::{Mailbox, Next, Order};
use super::pool::Shared;
use super::round::{Leave, Owned};
use super::settings::SyncPolicy;
use crate::failpoint::FailPoint;
use crate::storage::{Storage, StorageError};

pub(super) struct Applier<'r, 's, S: Storage, H: ApplyHost<S>> {
    pub(super) shared: &'s Shared<S, H>,
    pub(super) flush: &'r mut Flush<'s, S, H>,
    answers: &'r mut Answers<H::Tag>,
}

/// What became of one entry.
enum Step<S: Storage, T> {
    Done,
    /// It was the region's last entry here.
    Last(Leave),
    /// It waits for another region, or for another batch, which wakes this one.
    Later(Entry<S, T>),
}

impl<'r, 's, S: Storage, H: ApplyHost<S>> Applier<'r, 's, S, H> {
    pub(super) fn new(
        shared: &'s Shared<S, H>,
        flush: &'r mut Flush<'s, S, H>,
        answers: &'r mut Answers<H::Tag>,
    ) -> Self {
        Self { shared, flush, answers }
    }

    /// Applies what the region has, until it has nothing, has to wait, leaves, or has had its share.
    pub(super) fn turn(&mut self, owned: &mut Owned<S, H::Tag>) {
        let delegate = &mut *owned.delegate;
        if self.obey(delegate, owned.mailbox.take_orders()) {
            owned.leaves = Some(Leave::Free);
            return;
        }
        let bytes_until = self.flush.bytes().saturating_add(self.shared.settings.turn_bytes_max);
        for _ in 0..self.shared.settings.turn_entries_max {
            if self.must_wait(delegate) {
                owned.next = Next::Park;
                return;
            }
            let Some(entry) = delegate.held.take().or_else(|| owned.mailbox.pop()) else { return };
            match self.entry(&owned.mailbox, delegate, entry) {
                Step::Done => {}
                Step::Last(leave) => {
                    owned.leaves = Some(leave);
                    return;
                }
                Step::Later(entry) => {
                    delegate.held = Some(entry);
                    owned.next = Next::Park;
                    return;
                }
            }
            if self.flush.is_full() {
                self.flush.commit(self.answers);
            }
            if self.flush.bytes() >= bytes_until {
                break;
            }
        }
        // It may have caught up with its last entry of this turn.
        owned.next = if self.must_wait(delegate) { Next::Park } else { Next::Ready };
    }

    /// For another region. In a poisoned store nobody waits: the other one comes no further.
    fn must_wait(&mut self, delegate: &mut Delegate<S, H::Tag>) -> bool {
        let waits = self.stop_if_caught_up(delegate) || delegate.is_waiting();
        waits && self.shared.store.check_writable().is_ok()
    }

    /// Whether the region leaves.
    fn obey(&mut self, delegate: &mut Delegate<S, H::Tag>, orders: Vec<Order<S, H::Tag>>) -> bool {
        let mut leaves = false;
        for order in orders {
            match order {
                Order::Stop => leaves = true,
                Order::CatchUp(catch_up) => delegate.catch_up = Some(catch_up),
            }
        }
        leaves
    }

    fn entry(
        &mut self,
        mailbox: &Arc<Mailbox<S, H::Tag>>,
        delegate: &mut Delegate<S, H::Tag>,
        entry: Entry<S, H::Tag>,
    ) -> Step<S, H::Tag> {
        if let Err(poisoned) = self.shared.store.check_writable() {
            self.answer(delegate, entry, Err(poisoned.into()));
            return Step::Done;
        }
        if entry.flush_first || must_see_the_storage(&entry.work) {
            self.flush.commit(self.answers);
        }
        let applied = match self.must_wait_for_source(delegate, mailbox, &entry) {
            Ok(true) => return Step::Later(entry),
            Ok(false) => self.apply(delegate.region, &entry),
            Err(circle) => Err(circle),
        };
        let applied = match applied {
            Err(ApplyError::CommitFirst { .. }) => {
                self.flush.commit(self.answers);
                self.apply(delegate.region, &entry)
            }
            applied => applied,
        };
        if let Err(ApplyError::Busy { region }) = applied {
            let mailbox = mailbox.clone();
            self.shared.store.progress().when_free(region, move || mailbox.wake());
            return Step::Later(entry);
        }
        self.settle(delegate, entry, applied)
    }

    fn apply(&mut self, region: RegionId, entry: &Entry<S, H::Tag>) -> Result<ExecResult, ApplyError> {
        FailPoint::Taken.reach()?;
        let batch = self.flush.batch();
        match &entry.work {
            Work::Nothing => batch.advance(region, entry.position).map(|_| ExecResult::Written),
            Work::Write { epoch, is_flashback } => {
                batch.check_and_write(region, entry.position, *epoch, *is_flashback).map(|_| ExecResult::Written)
            }
            Work::Admin(request) => {
                let AdminRequest { header, command } = &**request;
                let outcome = batch.execute(region, entry.position, header, command)?;
                Ok(match command {
                    AdminCommand::TransferLeader(transfer) => {
                        ExecResult::TransferLeader { transferees: transfer.transferees.clone() }
                    }
                    command => ExecResult::Admin { kind: command.kind(), outcome },
                })
            }
        }
    }

    /// The consequences of what the batch said to the entry.
    fn settle(
        &mut self,
        delegate: &mut Delegate<S, H::Tag>,
        entry: Entry<S, H::Tag>,
        applied: Result<ExecResult, ApplyError>,
    ) -> Step<S, H::Tag> {
        match applied {
            Ok(result) => self.applied(delegate, entry, result),
            Err(ApplyError::Storage(error)) => {
                self.fail(&error);
                self.answer(delegate, entry, Ok(ExecResult::Written)); // the poison overrides it
                Step::Done
            }
            Err(error) => {
                if error.counts() {
                    self.flush.count_entry();
                }
                let leaves = error.ends_the_region();
                let error = refusal(error, delegate.merged_at_version);
                self.answer(delegate, entry, Err(error));
                if leaves { Step::Last(Leave::Stuck) } else { Step::Done }
            }
        }
    }

    fn applied(
        &mut self,
        delegate: &mut Delegate<S, H::Tag>,
        mut entry: Entry<S, H::Tag>,
        result: ExecResult,
    ) -> Step<S, H::Tag> {
        self.flush.count_entry();
        if let Err(error) = self.put_data(delegate.region, std::mem::replace(&mut entry.data, Data::None), &result) {
            self.fail(&error);
        }
        if self.shared.settings.sync == SyncPolicy::Hinted && (entry.wants_sync || changes_metadata(&entry.work)) {
            self.flush.batch().synced();
        }
        if let ExecResult::Admin { outcome: Outcome::Merged { target, .. }, .. } = &result {
            delegate.merged_at_version = target.epoch().version;
        }
        let last = matches!(result, ExecResult::Admin { outcome: Outcome::Destroyed { .. }, .. });
        self.answer(delegate, entry, Ok(result));
        if last { Step::Last(Leave::Free) } else { Step::Done }
    }

    /// The region's last own version goes with the data; a destroyed region's is its tombstone.
    fn put_data(&mut self, region: RegionId, data: Data<S>, result: &ExecResult) -> Result<(), StorageError> {
        if matches!(data, Data::None) {
            return Ok(());
        }
        let batch = self.flush.batch();
        let after = match result {
            ExecResult::Admin { outcome: Outcome::Destroyed { tombstone, .. }, .. } => Some(tombstone.clone()),
            _ => batch.region(region),
        };
        match after {
            Some(after) => batch.put_data(|storage, batch| data.put(&after, storage, batch)),
            None => Ok(()),
        }
    }

    /// Part of an entry may be in the batch, or unread: nothing of this batch, and nothing later, is acknowledged.
    fn fail(&mut self, error: &StorageError) {
        self.shared.store.poison().set(error);
        self.flush.count_entry();
    }

    fn answer(
        &mut self,
        delegate: &Delegate<S, H::Tag>,
        entry: Entry<S, H::Tag>,
        result: Result<ExecResult, AnswerError>,
    ) {
        self.answers.push_back(entry.answer(delegate.region, result));
    }
}

fn refusal(error: ApplyError, merged_at_version: u64) -> AnswerError {
    let stale = error.epoch_not_match().map(|(request, current)| (request, current.clone()));
    match (stale, error) {
        (Some((request, current)), _) => {
            let known = request.version >= merged_at_version;
            AnswerError::EpochNotMatch { request, current: known.then_some(current).into_iter().collect() }
        }
        (None, ApplyError::Refused(error)) => AnswerError::Refused(error),
        (None, error) => AnswerError::NotApplied(error),
    }
}

/// Commands that read records, or have the host read its data.
fn must_see_the_storage(work: &Work) -> bool {
    match work {
        Work::Admin(request) => {
            matches!(request.command.kind(), AdminKind::ComputeHash | AdminKind::CommitMerge | AdminKind::RollbackMerge)
        }
        Work::Nothing | Work::Write { .. } => false,
    }
}

fn changes_metadata(work: &Work) -> bool {
    let Work::Admin(request) = work else { return false };
    !matches!(
        request.command.kind(),
        AdminKind::CompactLog | AdminKind::ComputeHash | AdminKind::VerifyHash | AdminKind::TransferLeader
    )
}
