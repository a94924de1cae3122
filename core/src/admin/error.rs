//! [`AdminError`]: why a command was not executed, and what that means for the log entry that carried it.

use crate::epoch::{AdminKind, EpochOverflow, RegionEpoch};
use crate::ids::{LogIndex, PeerId, RegionId};
use crate::keys::KeyBuf;
use crate::peer::{Peer, PeerState};
use crate::raft::LogPosition;
use crate::region::{Region, RegionError};

/// What an [`AdminError`] means for the log entry that carried the command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Every replica refuses. The region stays as it is, and the entry counts as applied (spec section 5.2).
    Refused,
    /// This store is not that far yet. The entry does not count: plan it again later.
    Wait,
    /// This store and its log contradict each other: what it holds is not trustworthy. The entry does not count, and nothing
    /// more of the region may be applied.
    Fatal,
}

/// Why a command was not executed. Each names the region and both sides of what does not fit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum AdminError {
    #[error("the command is for region {request}, not for region {region}")]
    OtherRegion { region: RegionId, request: RegionId },
    #[error("epoch {request} of the {kind:?} does not match {current}: take the current region and propose anew")]
    EpochNotMatch { kind: AdminKind, request: RegionEpoch, current: Region },
    #[error("missing epoch: the {kind:?} needs one to be held against {current}")]
    MissingEpoch { kind: AdminKind, current: Region },
    #[error("region {region} is in flashback mode since {start_ts} and takes only what is part of the flashback")]
    FlashbackInProgress { region: RegionId, start_ts: u64 },
    #[error("region {region} is not in flashback mode and takes nothing that is part of a flashback")]
    FlashbackNotPrepared { region: RegionId },
    #[error("region {region} is {state:?}: it takes no {kind:?} in that state")]
    WrongState { region: RegionId, state: PeerState, kind: AdminKind },
    #[error("region {region}: {cause}")]
    EpochOverflow { region: RegionId, cause: EpochOverflow },
    #[error("the command would make an invalid region: {0}")]
    Invalid(#[from] RegionError),

    // --- membership
    #[error("region {region}: duplicated peer: cannot add {change}, {existing} is on that store")]
    DuplicatedPeer { region: RegionId, change: Peer, existing: Peer },
    #[error("region {region}: missing peer: cannot remove {change}, no peer is on that store")]
    MissingPeer { region: RegionId, change: Peer },
    #[error("region {region}: unmatched peer: cannot remove {change}, {existing} is on that store")]
    UnmatchedPeer { region: RegionId, change: Peer, existing: Peer },
    #[error("region {region}: can not remove voter {existing} in a joint change: demote it first")]
    RemovesVoter { region: RegionId, existing: Peer },
    #[error("region {region}: multiple commands for the same peer {peer}")]
    PeerChangedTwice { region: RegionId, peer: PeerId },
    #[error("region {region}: multiple changes that only effect learner: nothing would mark the joint state")]
    OnlyLearners { region: RegionId },
    #[error("region {region} is in joint state by {peer}: it takes no other change before it leaves that")]
    InJointState { region: RegionId, peer: Peer },
    #[error("region {region} is not in joint state: there is nothing to leave")]
    NotInJointState { region: RegionId },
    #[error("region {region}: nobody would vote any more")]
    NoVoters { region: RegionId },
    #[error("region {region}: no witness to switch")]
    MissingSwitches { region: RegionId },
    #[error("region {region} has no peer {peer} whose witness flag could be switched")]
    SwitchOfUnknownPeer { region: RegionId, peer: PeerId },
    #[error("region {region}: the witness flag of {existing} is already as asked for")]
    NothingToSwitch { region: RegionId, existing: Peer },

    // --- split
    #[error("region {region}: missing split requests")]
    MissingSplitRequests { region: RegionId },
    #[error("region {region}: missing split key in request {request}")]
    MissingSplitKey { region: RegionId, request: usize },
    #[error("region {region}: invalid split request: {key} does not come after {before}")]
    UnsortedSplitKeys { region: RegionId, before: KeyBuf, key: KeyBuf },
    #[error("region {region}: invalid new peer id count: {found} for {peers} peers in request {request}")]
    NewPeerIdCount { region: RegionId, request: usize, peers: usize, found: usize },
    #[error("region {region}: the new region id {id} is its own, or is used twice")]
    NewRegionIdTaken { region: RegionId, id: RegionId },
    #[error("region {region}: the new peer id {id} in request {request} is one of its own, or is used twice")]
    NewPeerIdTaken { region: RegionId, request: usize, id: PeerId },
    #[error("region {region}: {key} is not inside [{start}, {end})")]
    KeyNotInRegion { region: RegionId, key: KeyBuf, start: KeyBuf, end: KeyBuf },
    #[error("region {child} has a record on this store although peer {peer} of it was never initialized")]
    ChildContradiction { child: RegionId, peer: PeerId },

    // --- merge
    #[error("region {region} cannot merge with {partner}: they are not siblings")]
    NotSiblings { region: RegionId, partner: Region },
    #[error("region {region} cannot merge with {partner}: they have other stores, roles or witnesses")]
    OtherPeers { region: RegionId, partner: Region },
    #[error("region {region}: the merge begins at log index {min_index}, after its own entry {entry}")]
    MinIndexAhead { region: RegionId, min_index: LogIndex, entry: LogIndex },
    #[error("region {region}: the merge needs the log from {min_index} on, and it begins at {first_index}")]
    MinIndexTruncated { region: RegionId, min_index: LogIndex, first_index: LogIndex },
    #[error("region {region}: its merge was prepared at {prepared}, not at {request}")]
    OtherPrepare { region: RegionId, prepared: LogIndex, request: LogIndex },
    #[error("region {region} is not what it should absorb: {merging}")]
    NotMergingHere { region: RegionId, merging: Region },
    #[error("region {region}: the source's entries are not those from {min_index} to {commit}")]
    MergeEntries { region: RegionId, min_index: LogIndex, commit: LogIndex },
    #[error("region {region} waits for its merge source: {expected} is to come, {found} is there")]
    SourceNotReady { region: RegionId, expected: Region, found: Region },
    #[error("region {region}: its merge source {expected} is not on this store")]
    SourceMissing { region: RegionId, expected: Region },
    #[error("region {region}: its merge source is {found}, and should be {expected}")]
    SourceMismatch { region: RegionId, expected: Region, found: Region },

    // --- log
    #[error("region {region}: the log cannot be compacted to index {} without its term", compact.index)]
    CompactTermMissing { region: RegionId, compact: LogPosition },
    #[error("region {region}: the log cannot be compacted to index {}, {applied} is applied", compact.index)]
    CompactNotApplied { region: RegionId, compact: LogPosition, applied: LogIndex },
}

impl AdminError {
    /// What becomes of the log entry. Everything that all replicas answer alike is a refusal.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::SourceNotReady { .. } => Verdict::Wait,
            // A suspended peer applies nothing until its data is there.
            Self::WrongState { state: PeerState::Applying | PeerState::Unavailable, .. } => Verdict::Wait,
            Self::WrongState { state: PeerState::Tombstone, .. }
            | Self::ChildContradiction { .. }
            | Self::MinIndexTruncated { .. }
            | Self::SourceMissing { .. }
            | Self::SourceMismatch { .. } => Verdict::Fatal,
            _ => Verdict::Refused,
        }
    }
}
