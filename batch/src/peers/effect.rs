//! [`Effect`]: what the life of peers asks of the host, of Raft and of PD.

use regionmeta::{LogPosition, Peer, PeerId, Region, RegionId};

use super::data::DataRange;

/// Something that the host has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Effect {
    /// Give the Raft group its new members, unless a snapshot that Raft took in has had the entry already.
    ChangeMembers {
        /// The region with its members.
        region: Region,
        /// The entry.
        entry: LogPosition,
    },
    /// The leader votes no longer: Raft has to become a follower. Its role is a follower's already.
    StepDown {
        /// Its region.
        region: RegionId,
    },
    /// A split has made a peer: build its Raft group from its records.
    Create {
        /// Its region.
        region: Region,
        /// The peer.
        peer: PeerId,
        /// An uninitialized peer of the same id, made by a message, has been waiting: put it away first.
        replaces: bool,
        /// The parent leads: the child asks for votes at once, since the others wait for it.
        campaign: bool,
        /// The payload of a message that came for this peer before it was there: give it to the group.
        first_message: Option<Box<[u8]>>,
    },
    /// The parent of this region has come to lead, and none of its children may have a leader: ask for votes.
    Campaign {
        /// The child.
        region: RegionId,
    },
    /// The leadership is handed over. A peer that is named asks for votes; if several are named, the leader chooses.
    TransferLeader {
        /// The region.
        region: RegionId,
        /// To one of these.
        transferees: Vec<Peer>,
    },
    /// A peer is gone, and its records too. Put its Raft group away.
    Destroy {
        /// Its region.
        region: RegionId,
        /// The peer.
        peer: PeerId,
        /// Who owns its data now; `None` if nobody does.
        merged_into: Option<RegionId>,
    },
    /// Nobody owns these keys here any more: delete the host's data, then [say so](super::Peers::data_deleted). Until then no
    /// snapshot that wants the keys is accepted.
    DeleteData {
        /// The keys.
        range: DataRange,
    },
    /// A peer is stale: [stop](crate::apply::Router::stop) its region, then [destroy](super::Peers::destroy) it.
    DestroyStale {
        /// Its region.
        region: RegionId,
        /// The peer.
        peer: PeerId,
    },
    /// A region goes with the snapshot that was just accepted: [stop](crate::apply::Router::stop) it before that is persisted.
    StopSource {
        /// The region.
        region: RegionId,
    },
    /// A peer has had no leader for long: ask the others of its group whether it still exists.
    CheckStale {
        /// The region, with its members.
        region: Region,
    },
    /// A peer has had no leader for very long: ask PD for the region, and give the answer to
    /// [`on_pd_region`](super::Peers::on_pd_region).
    AskPd {
        /// The region.
        region: RegionId,
        /// The peer.
        peer: PeerId,
    },
    /// See whether the target of the merge may go on, now and every few seconds.
    CheckMerge {
        /// The source.
        region: RegionId,
    },
    /// The merge was given up: stop looking.
    ForgetMerge {
        /// The source.
        region: RegionId,
    },
    /// Witness flags changed: set the election priority, and ask for data if this peer waits for it.
    SwitchWitness {
        /// The region.
        region: Region,
    },
    /// The log up to this entry may be deleted.
    CompactLog {
        /// The region.
        region: RegionId,
        /// The last entry that goes.
        truncated: LogPosition,
    },
    /// Tell PD of this region at once. Only of regions that this store leads, or whose parent it leads.
    Heartbeat {
        /// The region.
        region: RegionId,
    },
}
