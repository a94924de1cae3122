//! Admin commands and their transitions: pure functions from the current region and a command to the regions that replace
//! it, or to a typed refusal. No I/O, no clock, no store: every replica that applies the same command to the same region
//! gets the same answer.

mod change_peer;
mod split;

pub use self::change_peer::{ChangeKind, PeerChange};
pub use self::split::{BatchSplit, SplitRequest};

use crate::epoch::{AdminKind, EpochOverflow, RegionEpoch};
use crate::ids::{PeerId, RegionId, StoreId};
use crate::keys::KeyBuf;
use crate::peer::{Peer, PeerState};
use crate::region::{Region, RegionError};

/// A command that changes region metadata, as one committed log entry carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AdminCommand {
    /// One membership change (spec section 5.3).
    ChangePeer(PeerChange),
    /// A split into two or more regions (spec section 5.5).
    BatchSplit(BatchSplit),
}

/// What a command makes of a region. Nothing is stored or published yet.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The region has a new version.
    Changed {
        /// The new version.
        region: Region,
    },
    /// The command removed this store's peer: the region leaves this store.
    Destroyed {
        /// The record that stays: a tombstone that lists the remaining peers.
        tombstone: Region,
        /// The peer that is gone and must never come back (I12).
        peer: PeerId,
    },
    /// The region became several.
    Split {
        /// The results in key order, all with the same epoch.
        regions: Vec<Region>,
        /// Which of them kept the id.
        derived: RegionId,
    },
}

/// Why a command was refused. The region stays as it is; the entry still counts as applied (spec section 5.2).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum AdminError {
    #[error("epoch {request} of the {kind:?} does not match {current}: take the current region and propose anew")]
    EpochNotMatch { kind: AdminKind, request: RegionEpoch, current: Region },
    #[error("region {region} is {state:?}: it takes no {kind:?} until that is over")]
    NotNormal { region: RegionId, state: PeerState, kind: AdminKind },
    #[error("region {region}: duplicated peer: cannot add {change}, {existing} is on that store")]
    DuplicatedPeer { region: RegionId, change: Peer, existing: Peer },
    #[error("region {region}: missing peer: cannot remove {change}, no peer is on that store")]
    MissingPeer { region: RegionId, change: Peer },
    #[error("region {region}: unmatched peer: cannot remove {change}, {existing} is on that store")]
    UnmatchedPeer { region: RegionId, change: Peer, existing: Peer },
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
    #[error("region {region}: {key} is not inside [{start}, {end})")]
    KeyNotInRegion { region: RegionId, key: KeyBuf, start: KeyBuf, end: KeyBuf },
    #[error("region {region}: {cause}")]
    EpochOverflow { region: RegionId, cause: EpochOverflow },
    #[error("the command would make an invalid region: {0}")]
    Invalid(#[from] RegionError),
}

impl AdminCommand {
    /// Which command this is.
    #[must_use]
    pub const fn kind(&self) -> AdminKind {
        match self {
            Self::ChangePeer(_) => AdminKind::ChangePeer,
            Self::BatchSplit(_) => AdminKind::BatchSplit,
        }
    }

    /// Decides what this command, proposed at `epoch`, makes of `current` on the store `store_id`.
    ///
    /// Pure and deterministic. Costs the building of each resulting region.
    ///
    /// # Errors
    /// [`AdminError`]: the epoch does not match by the command's row of the table (a request from the future is refused
    /// too), the region is in no state to take commands, or the command's own conditions do not hold.
    pub fn plan(&self, current: &Region, epoch: RegionEpoch, store_id: StoreId) -> Result<Outcome, AdminError> {
        let kind = self.kind();
        if !epoch.matches(current.epoch(), kind.epoch_rule().checks) {
            return Err(AdminError::EpochNotMatch { kind, request: epoch, current: current.clone() });
        }
        if current.state() != PeerState::Normal {
            return Err(AdminError::NotNormal { region: current.id(), state: current.state(), kind });
        }
        match self {
            Self::ChangePeer(change) => change_peer::plan(current, *change, store_id),
            Self::BatchSplit(split) => split::plan(current, split),
        }
    }
}
