//! Merges in the pool: a target waits for its source without a worker waiting for either (spec section 12.4).
//!
//! A `CommitMerge` that the target may execute parks the target and gives the source an order: apply up to your PrepareMerge,
//! then stop. The source stops for good, because its next owner is the target; and it says so only after its flush, so the
//! target finds it written, published and in nobody's batch. Everything that every replica answers alike is decided before
//! anybody waits: a stale CommitMerge never stops a source.

use std::sync::Arc;

use regionmeta::{AdminCommand, AdminRequest, CommitMerge};

use super::answer::ApplyHost;
use super::batch::ApplyError;
use super::delegate::{CatchUp, Delegate};
use super::entry::{Entry, Work};
use super::mailbox::{Mailbox, Order};
use super::turn::Applier;
use crate::storage::Storage;

impl<S: Storage, H: ApplyHost<S>> Applier<'_, '_, S, H> {
    /// Whether the entry is a CommitMerge whose source has not stopped yet. The source is asked to, once.
    ///
    /// # Errors
    /// [`ApplyError::MergeCircle`] if the source waits for this region in its turn.
    pub(super) fn must_wait_for_source(
        &mut self,
        delegate: &mut Delegate<S, H::Tag>,
        mailbox: &Arc<Mailbox<S, H::Tag>>,
        entry: &Entry<S, H::Tag>,
    ) -> Result<bool, ApplyError> {
        let Work::Admin(request) = &entry.work else { return Ok(false) };
        let AdminRequest { header, command } = &**request;
        let AdminCommand::CommitMerge(merge) = command else { return Ok(false) };
        if delegate.waits_for.take().is_some() {
            return Ok(false); // it was asked, and that is over
        }
        let lacks_entries = match self.flush.batch().plan(delegate.region, entry.position, header, command) {
            Ok(_) => false,
            Err(ApplyError::Waits(_)) => true,
            Err(_) => return Ok(false), // nothing to wait for: the command will be refused
        };
        let Some(source) = self.shared.router.mailbox(merge.source.id()) else { return Ok(false) };
        let wait = self.shared.waits.begin(delegate.region, source.region());
        let wait = wait.ok_or(ApplyError::MergeCircle { region: delegate.region, partner: source.region() })?;
        let caught_up = wait.caught_up();
        delegate.waits_for = Some(wait);
        // A source that leaves in between drops the order, and that wakes the target.
        let _ = source.order(Order::CatchUp(CatchUp { commit: merge.commit, target: mailbox.clone(), caught_up }));
        if lacks_entries {
            self.ask_host(delegate, merge);
        }
        Ok(true)
    }

    fn ask_host(&self, delegate: &Delegate<S, H::Tag>, merge: &CommitMerge) {
        self.shared.host.catch_up(delegate.region, merge);
    }

    /// A source that has applied its PrepareMerge applies nothing more. Its target is told after the flush.
    pub(super) fn stop_if_caught_up(&mut self, delegate: &mut Delegate<S, H::Tag>) -> bool {
        if !delegate.stopped && delegate.catch_up.is_some() {
            delegate.stopped = delegate.has_caught_up(self.flush.batch().applied_index(delegate.region));
        }
        delegate.stopped
    }
}
