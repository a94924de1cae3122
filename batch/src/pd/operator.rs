//! [`Operator`]: what PD wants a region's leader to do.

use regionmeta::{BatchSwitchWitness, ChangePeerV2, Peer, PeerChange, Region, RegionEpoch, RegionId};

/// PD's response to a heartbeat. What it addresses may have moved on since: whoever receives it checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatResponse {
    /// The region that is meant.
    pub region_id: RegionId,
    /// Its epoch as PD knows it.
    pub epoch: RegionEpoch,
    /// The leader that is meant.
    pub target_peer: Peer,
    /// What it is to do; `None` for a sign of life.
    pub operator: Option<Operator>,
}

/// What PD wants a region's leader to do. A message that has several counts as the first of them, in the order of the list
/// here.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operator {
    /// One membership change.
    ChangePeer(PeerChange),
    /// Membership changes by joint consensus; none: leave the joint state.
    ChangePeerV2(ChangePeerV2),
    /// One of these peers is to lead; never empty.
    TransferLeader {
        /// The candidates.
        peers: Vec<Peer>,
    },
    /// The region is to be split.
    Split {
        /// How the keys are found.
        policy: SplitPolicy,
        /// The keys, if the policy is [`SplitPolicy::UseKeys`].
        keys: Vec<Vec<u8>>,
    },
    /// The region is to be merged into another one.
    Merge {
        /// Into which.
        target: Region,
    },
    /// Peers become witnesses, or stop being ones.
    SwitchWitnesses(BatchSwitchWitness),
}

/// How the keys of a split are found. The numbers are those of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum SplitPolicy {
    /// In half, by looking at every key.
    #[default]
    Scan = 0,
    /// In half, by what the storage knows without looking.
    Approximate = 1,
    /// At the keys that PD names.
    UseKeys = 2,
}
