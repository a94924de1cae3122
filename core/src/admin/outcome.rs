//! [`Outcome`]: what a command makes of its region, as data for the layer that stores and publishes it.

use crate::ids::{LogIndex, PeerId, RegionId};
use crate::meta::Reason;
use crate::raft::LogPosition;
use crate::region::Region;

/// What a command makes of a region. Nothing is stored or published yet.
///
/// Each region in it is the complete record to be stored, in the state that it is to have ([`Region::state`]); a merge state
/// that a record does not carry is dropped from disk. [`records`](Self::records) lists them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// No record changes: the entry only counts as applied.
    Unchanged,
    /// The region has a new version. Its state may be new too: Merging after PrepareMerge, Unavailable after this store's
    /// witness is to hold data again.
    Changed {
        /// The new version.
        region: Region,
        /// Why, for observers.
        reason: Reason,
    },
    /// The command removed this store's peer: the region leaves this store, and applies nothing more.
    Destroyed {
        /// The record that stays: a tombstone that lists the remaining peers.
        tombstone: Region,
        /// The peer that is gone and must never come back (I12).
        peer: PeerId,
    },
    /// The region became several. Whether a child comes to be on this store is for [`SplitChild`](super::SplitChild) to say.
    Split {
        /// The results in key order, all with the same epoch.
        regions: Vec<Region>,
        /// Which of them kept the id.
        derived: RegionId,
        /// Children that do not come to be on the store that applied the command. A plan skips none.
        skipped: Vec<Region>,
        /// Whether the parts share the parent's measured size; otherwise their sizes are unknown.
        shares_size: bool,
    },
    /// The region absorbed its source. Both records belong in one batch, and both changes in one changeset.
    Merged {
        /// The target, with the range of both.
        target: Region,
        /// The source's tombstone: its own epoch and peers, and the target as it was before.
        source: Region,
        /// This store's peer of the source, which must never come back (I12); `None` if it had none here.
        source_peer: Option<PeerId>,
    },
    /// The log up to here may go: the new truncated state. No region record changes.
    LogTruncated {
        /// The last entry that goes.
        truncated: LogPosition,
    },
    /// This store's peer is a witness and keeps its log until the voters have it. No record changes.
    LogTruncationDelayed {
        /// The last entry that may go then.
        truncated: LogPosition,
        /// What the voters have so far; the truncation waits until that is at least `truncated`.
        voter_replicated_index: LogIndex,
    },
}

impl Outcome {
    /// The region records to store, each complete.
    pub fn records(&self) -> impl Iterator<Item = &Region> + '_ {
        let (several, one, other): (&[Region], _, _) = match self {
            Self::Unchanged | Self::LogTruncated { .. } | Self::LogTruncationDelayed { .. } => (&[], None, None),
            Self::Changed { region, .. } => (&[], Some(region), None),
            Self::Destroyed { tombstone, .. } => (&[], Some(tombstone), None),
            Self::Split { regions, .. } => (regions, None, None),
            Self::Merged { target, source, .. } => (&[], Some(target), Some(source)),
        };
        several.iter().chain(one).chain(other)
    }
}
