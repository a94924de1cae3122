//! What a store tells PD about itself, and what PD tells about stores and regions.

use regionmeta::{ClusterId, Peer, PeerId, Region, RegionId, StoreId};

use super::heartbeat::{DownPeer, ReplicationStatus};

/// What a store tells PD about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreInfo {
    /// The store's id.
    pub id: StoreId,
    /// Where other stores reach it. This library only passes it on.
    pub address: String,
}

/// How a store is, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreStats {
    /// Whose.
    pub store_id: StoreId,
    /// Bytes of the disk.
    pub capacity_bytes: u64,
    /// Bytes of it that are free.
    pub available_bytes: u64,
    /// Bytes that the store's data take.
    pub used_bytes: u64,
    /// Regions that have a peer on it.
    pub regions: u32,
    /// When the process began, in seconds since 1970.
    pub started_unix_s: u64,
    /// Whether it takes no more work at present.
    pub is_busy: bool,
}

/// What PD answers to a store's heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreAdvice {
    /// The replication mode; `None` if PD does not replicate by labels.
    pub replication: Option<ReplicationStatus>,
    /// The lowest version of all stores, as PD writes it; empty if it says nothing.
    pub cluster_version: String,
}

/// What holds for the whole cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClusterConfig {
    /// The cluster.
    pub id: ClusterId,
    /// How many peers PD gives a region.
    pub peers_max: u32,
}

/// A region as PD last heard of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionInfo {
    /// Its descriptor.
    pub region: Region,
    /// Who leads it; `None` if PD has not heard since it started.
    pub leader: Option<Peer>,
    /// Peers that the leader has not heard for long.
    pub down_peers: Vec<DownPeer>,
    /// Peers that wait for a snapshot.
    pub pending_peers: Vec<Peer>,
}

impl RegionInfo {
    /// A region whose leader PD does not know.
    #[must_use]
    pub const fn without_leader(region: Region) -> Self {
        Self { region, leader: None, down_peers: Vec::new(), pending_peers: Vec::new() }
    }
}

/// The ids of one child of a split.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplitIds {
    /// The child's own id.
    pub region_id: RegionId,
    /// The ids of its peers, in the order of the parent's.
    pub peer_ids: Vec<PeerId>,
}
