//! [`Delegate`]: what the pool remembers of one region between turns. Who holds it owns the region.
//!
//! It keeps no copy of the region: the region as published, or as a batch has left it, is the batch's to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use regionmeta::{LogIndex, RegionId};

use super::entry::Entry;
use super::mailbox::Mailbox;
use super::waits::Wait;
use crate::storage::Storage;

pub(super) struct Delegate<S: Storage, T> {
    pub(super) region: RegionId,
    /// An entry that could not be applied yet; it comes before those in the mailbox.
    pub(super) held: Option<Entry<S, T>>,
    /// Set while `held` is a CommitMerge whose source was asked to catch up.
    pub(super) waits_for: Option<Wait>,
    /// The target that waits for this region.
    pub(super) catch_up: Option<CatchUp<S, T>>,
    /// The region has caught up with its merge and applies nothing more.
    pub(super) stopped: bool,
    /// The version at which it last absorbed another region: who knows it only from before would be sent to keys that it
    /// never asked for.
    pub(super) merged_at_version: u64,
}

impl<S: Storage, T> Delegate<S, T> {
    pub(super) fn new(region: RegionId) -> Self {
        Self { region, held: None, waits_for: None, catch_up: None, stopped: false, merged_at_version: 0 }
    }

    /// Whether an entry is held back for a source that has not caught up.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits_for.as_ref().is_some_and(|wait| !wait.is_over())
    }

    /// Whether the target that waits for this region has what it waits for.
    pub(super) fn has_caught_up(&self, applied: LogIndex) -> bool {
        self.catch_up.as_ref().is_some_and(|catch_up| catch_up.commit <= applied)
    }
}

/// Whether a merge source has stopped, or will never answer. Written by the source's owner, read by the target's.
#[derive(Debug, Default)]
pub(super) struct CaughtUp(AtomicBool);

impl CaughtUp {
    /// Acquire, with the Release store in `end`, which [`CatchUp`]'s drop calls: a target that sees the source stopped also sees that the
    /// source's batch was committed and its claim given back.
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Release, with the Acquire load in `is_over`.
    pub(super) fn end(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Asks a merge source to apply up to its PrepareMerge, and to stop. Dropping it tells the target to look again: the source
/// has caught up, or it is gone and the target's command will say so.
pub(super) struct CatchUp<S: Storage, T> {
    pub(super) commit: LogIndex,
    pub(super) target: Arc<Mailbox<S, T>>,
    pub(super) caught_up: Arc<CaughtUp>,
}

impl<S: Storage, T> Drop for CatchUp<S, T> {
    fn drop(&mut self) {
        self.caught_up.end();
        self.target.wake();
    }
}
