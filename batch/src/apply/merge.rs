//! Merges in the pool: a target waits for its source without a worker waiting for either (spec section 12.4).
//!
//! A `CommitMerge` that the target may execute parks the target and gives the source an order: apply up to your PrepareMerge,
//! then stop. The source stops for good, because its next owner is the target; and it says so only after its flush, so the
//! target finds it written, published and in nobody's batch. Everything that every replica answers alike is decided before
//! anybody waits: a stale CommitMerge never stops a source.
//!
//! A source may be out of the pool for a while, as for a snapshot of its own. Its target waits for that as well, and looks
//! again when the source is back, or when a batch beside the pool has changed or removed it. What ends such a wait without
//! the merge: the target is stopped, the source is gone from this store, or the source has left because it can apply nothing
//! more. Who waits for that one can come no further either.

use std::sync::Arc;

use regionmeta::{AdminCommand, AdminRequest, CommitMerge, RegionId};

use super::answer::ApplyHost;
use super::batch::ApplyError;
use super::delegate::{CatchUp, Delegate};
use super::entry::{Entry, Work};
use super::mailbox::Mailbox;
use super::router::Delivery;
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
        let has_waited = delegate.waits_for.take().is_some();
        match self.flush.batch().plan(delegate.region, entry.position, header, command) {
            // A source that is there and complete still stops before it is absorbed; one that is out of the pool needs not.
            Ok(_) if has_waited || self.shared.router.mailbox(merge.source.id()).is_none() => Ok(false),
            Ok(_) => self.begin_wait(delegate, mailbox, merge, false),
            Err(ApplyError::Waits(_)) => self.begin_wait(delegate, mailbox, merge, true),
            Err(_) => Ok(false), // nothing to wait for: the command will be refused
        }
    }

    /// Whether there is something to wait for.
    fn begin_wait(
        &self,
        delegate: &mut Delegate<S, H::Tag>,
        mailbox: &Arc<Mailbox<S, H::Tag>>,
        merge: &CommitMerge,
        lacks_entries: bool,
    ) -> Result<bool, ApplyError> {
        let (region, source) = (delegate.region, merge.source.id());
        let wait = self.shared.waits.begin(region, source);
        let wait = wait.ok_or(ApplyError::MergeCircle { region, partner: source })?;
        let order = CatchUp { commit: merge.commit, target: mailbox.clone(), caught_up: wait.caught_up() };
        let waits = match self.shared.router.order_source(source, order) {
            Delivery::Delivered => {
                if lacks_entries {
                    self.shared.host.catch_up(region, merge);
                }
                true
            }
            Delivery::Absent => self.may_come_back(source),
            Delivery::Stuck => false,
        };
        delegate.waits_for = waits.then_some(wait);
        Ok(waits)
    }

    /// Whether a source that is out of the pool is still on this store. Asked after the wake is ready, so that a removal
    /// which this look misses calls it.
    fn may_come_back(&self, source: RegionId) -> bool {
        let (store, router) = (&self.shared.store, &self.shared.router);
        store.progress().when_next_released(source, router.wake_targets_later(source));
        let may = store.meta().snapshot().get(source).is_some();
        if !may {
            router.wake_targets(source);
        }
        may
    }

    /// A source that has applied its PrepareMerge applies nothing more. Its target is told after the flush.
    pub(super) fn stop_if_caught_up(&mut self, delegate: &mut Delegate<S, H::Tag>) -> bool {
        if !delegate.stopped && delegate.catch_up.is_some() {
            delegate.stopped = delegate.has_caught_up(self.flush.batch().applied_index(delegate.region));
        }
        delegate.stopped
    }
}
