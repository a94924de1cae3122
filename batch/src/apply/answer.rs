//! What the host hears: answers to its entries, and the [`ApplyHost`] that takes them.

use crossbeam::channel::Sender;
use regionmeta::{AdminError, AdminKind, CommitMerge, LogPosition, Outcome, Peer, Region, RegionEpoch, RegionId};

use super::batch::{ApplyError, Committed};
use crate::poison::Poisoned;
use crate::storage::Storage;

/// What an entry has done. It is written and published when the host hears of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ExecResult {
    /// Data was written, or nothing was to be done.
    Written,
    /// An admin command was executed.
    Admin {
        /// Which.
        kind: AdminKind,
        /// What it made of the region.
        outcome: Outcome,
    },
    /// The leadership is to be handed over: no metadata changes.
    TransferLeader {
        /// To one of these.
        transferees: Vec<Peer>,
    },
}

/// Why an entry has done nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Proposed at another epoch. The entry counts as applied.
    #[error("epoch {request} does not match: take the current regions and propose anew")]
    EpochNotMatch {
        /// The epoch of the proposal.
        request: RegionEpoch,
        /// The region, then the siblings that the proposer does not know of; at most eleven. Empty if the region has been
        /// merged since: the proposer would be sent to keys that it never asked for.
        current: Vec<Region>,
    },
    /// The command's own conditions do not hold, or flashback mode takes no such write. The entry counts as applied.
    #[error("command refused: {0}")]
    Refused(AdminError),
    /// The entry does not follow, or cannot be applied here and now. It does not count.
    #[error("not applied: {0}")]
    NotApplied(ApplyError),
    /// The region left the pool before the entry was applied: destroyed, merged, stopped, or the pool was shut down. The
    /// entry does not count.
    #[error("region {region} takes no more entries")]
    Closed {
        /// Which region.
        region: RegionId,
    },
    /// A write failed, this one or an earlier one, and nothing more is acknowledged (I14). Whether the entry counts is
    /// unknown until the store is opened again.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// The answer to one entry.
#[derive(Debug)]
pub struct Answer<T> {
    /// The region whose log it is from.
    pub region: RegionId,
    /// Where it stands there.
    pub position: LogPosition,
    /// The host's tag.
    pub tag: T,
    /// What the entry has done, or why not.
    pub result: Result<ExecResult, AnswerError>,
}

/// What a host implements to hear from its [`ApplyPool`](super::ApplyPool).
///
/// All methods are called on a worker's thread, after the batch was written and published, with no lock held. The worker
/// waits for them: hand long work to another thread. Entries may be sent from here; a send that would have to wait comes
/// back as full instead, because the mailbox may be this very worker's to empty.
pub trait ApplyHost<S: Storage>: Send + Sync + 'static {
    /// What comes with an entry and goes back with its answer.
    type Tag: Send + 'static;

    /// A batch was written and published. Called before the answers to its entries.
    fn committed(&self, committed: &Committed) {
        let _ = committed;
    }

    /// One entry's answer; in the order of the log for each region. Every entry that was taken gets exactly one, except the
    /// one during which a panic unwinds.
    fn answer(&self, answer: Answer<Self::Tag>);

    /// The target of a merge waits for its source, which lacks entries on this store. `merge.entries` are those that some
    /// replica may lack: the host appends what is missing to the source's log, commits it, and sends it to the source's
    /// mailbox like any other entry. Nothing else waits meanwhile. A source that is out of the pool is asked for when it is
    /// back, and once more if it leaves and comes back again: the host skips what the log has by then.
    fn catch_up(&self, target: RegionId, merge: &CommitMerge) {
        let _ = (target, merge);
    }

    /// A region has left the pool, and its entries so far were answered: its record and data are now the caller's to
    /// replace or destroy. After [`ApplyError::BatchRefused`] the host may [add](super::Router::add) it again, and send it what
    /// follows [its applied index](crate::Store::apply_state). A target of a merge waits for a source that was stopped, and
    /// goes on when that is added again; only if the source has left because it can apply nothing more is the target told
    /// [`ApplyError::Waits`], and may be added again behind its source.
    fn stopped(&self, region: RegionId) {
        let _ = region;
    }
}

/// Answers through a channel. A bounded channel whose receiver is slow holds the workers up: that is back-pressure, and it
/// must not be the receiver that then waits in a send.
#[derive(Clone, Debug)]
pub struct ChannelHost<T> {
    answers: Sender<Answer<T>>,
}

impl<T> ChannelHost<T> {
    /// Sends every answer into `answers`. When nobody receives any more, answers are dropped.
    #[must_use]
    pub fn new(answers: Sender<Answer<T>>) -> Self {
        Self { answers }
    }
}

impl<S: Storage, T: Send + 'static> ApplyHost<S> for ChannelHost<T> {
    type Tag = T;

    fn answer(&self, answer: Answer<T>) {
        let _ = self.answers.send(answer);
    }
}
