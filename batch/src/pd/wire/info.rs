//! What PD tells about regions and the cluster, and how a store is.

use regionmeta::Peer;

use super::{each, malformed, metapb, needed, pdpb, replication_modepb};
use crate::pd::{
    AnswerError, ClusterConfig, Interval, RegionInfo, ReplicationState, ReplicationStatus, SplitIds, StoreAdvice,
    StoreStats, check,
};
use replication_modepb::{DrAutoSyncState, ReplicationMode};

impl From<&RegionInfo> for pdpb::Region {
    fn from(info: &RegionInfo) -> Self {
        Self {
            region: Some((&info.region).into()),
            leader: Some(info.leader.map(Into::into).unwrap_or_default()),
            down_peers: info.down_peers.iter().copied().map(Into::into).collect(),
            pending_peers: info.pending_peers.iter().copied().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pdpb::Region> for RegionInfo {
    type Error = AnswerError;

    fn try_from(info: pdpb::Region) -> Result<Self, AnswerError> {
        Ok(Self {
            region: needed("region", info.region)?.try_into()?,
            leader: known_peer(info.leader)?,
            down_peers: each(info.down_peers)?,
            pending_peers: each(info.pending_peers)?,
        })
    }
}

/// On the wire a leader that PD does not know is absent, or a peer without an id.
fn known_peer(peer: Option<metapb::Peer>) -> Result<Option<Peer>, AnswerError> {
    peer.filter(|peer| peer.id != 0).map(Peer::try_from).transpose()
}

impl From<Option<&RegionInfo>> for pdpb::GetRegionResponse {
    fn from(found: Option<&RegionInfo>) -> Self {
        let Some(info) = found.map(pdpb::Region::from) else { return Self::default() };
        let pdpb::Region { region, leader, down_peers, pending_peers } = info;
        Self { header: None, region, leader, down_peers, pending_peers }
    }
}

impl pdpb::GetRegionResponse {
    /// The region that was found; an empty region means none.
    ///
    /// # Errors
    /// [`AnswerError`] if it breaks I13.
    pub fn into_info(self) -> Result<Option<RegionInfo>, AnswerError> {
        let Self { header: _, region, leader, down_peers, pending_peers } = self;
        let Some(region) = region.filter(|region| *region != metapb::Region::default()) else { return Ok(None) };
        RegionInfo::try_from(pdpb::Region { region: Some(region), leader, down_peers, pending_peers }).map(Some)
    }
}

impl From<&[RegionInfo]> for pdpb::ScanRegionsResponse {
    fn from(found: &[RegionInfo]) -> Self {
        let regions: Vec<pdpb::Region> = found.iter().map(Into::into).collect();
        Self {
            header: None,
            region_metas: regions.iter().filter_map(|info| info.region.clone()).collect(),
            leaders: regions.iter().map(|info| info.leader.unwrap_or_default()).collect(),
            regions,
        }
    }
}

impl pdpb::ScanRegionsResponse {
    /// The regions that were found. A PD that knows no more than descriptors and leaders sends them in fields of their own.
    ///
    /// # Errors
    /// [`AnswerError`] if one of them breaks I13, or if there are not as many leaders as regions.
    pub fn into_infos(self) -> Result<Vec<RegionInfo>, AnswerError> {
        if !self.regions.is_empty() || self.region_metas.is_empty() {
            return each(self.regions);
        }
        let (asked, found) = (self.region_metas.len(), self.leaders.len());
        if asked != found {
            return Err(AnswerError::Count { what: "leaders of a scan", asked, found });
        }
        let pairs = self.region_metas.into_iter().zip(self.leaders);
        each(pairs.map(|(region, leader)| pdpb::Region {
            region: Some(region),
            leader: Some(leader),
            ..pdpb::Region::default()
        }))
    }
}

impl From<&SplitIds> for pdpb::SplitId {
    fn from(ids: &SplitIds) -> Self {
        let new_peer_ids = ids.peer_ids.iter().map(|id| id.get()).collect();
        Self { new_region_id: ids.region_id.get(), new_peer_ids }
    }
}

impl From<pdpb::SplitId> for SplitIds {
    fn from(ids: pdpb::SplitId) -> Self {
        let peer_ids = ids.new_peer_ids.into_iter().map(Into::into).collect();
        Self { region_id: ids.new_region_id.into(), peer_ids }
    }
}

impl From<ClusterConfig> for metapb::Cluster {
    fn from(config: ClusterConfig) -> Self {
        Self { id: config.id.get(), max_peer_count: config.peers_max }
    }
}

impl From<metapb::Cluster> for ClusterConfig {
    fn from(cluster: metapb::Cluster) -> Self {
        Self { id: cluster.id.into(), peers_max: cluster.max_peer_count }
    }
}

impl From<Interval> for pdpb::TimeInterval {
    fn from(interval: Interval) -> Self {
        Self { start_timestamp: interval.start_unix_s, end_timestamp: interval.end_unix_s }
    }
}

impl From<pdpb::TimeInterval> for Interval {
    fn from(interval: pdpb::TimeInterval) -> Self {
        Self { start_unix_s: interval.start_timestamp, end_unix_s: interval.end_timestamp }
    }
}

/// The message has 32 bits for the time of the start, which last until 2106.
impl From<&StoreStats> for pdpb::StoreStats {
    fn from(stats: &StoreStats) -> Self {
        Self {
            store_id: stats.store_id.get(),
            capacity: stats.capacity_bytes,
            available: stats.available_bytes,
            used_size: stats.used_bytes,
            region_count: stats.regions,
            start_time: u32::try_from(stats.started_unix_s).unwrap_or(u32::MAX),
            is_busy: stats.is_busy,
            ..Self::default()
        }
    }
}

/// Refuses store id 0.
impl TryFrom<pdpb::StoreStats> for StoreStats {
    type Error = AnswerError;

    fn try_from(stats: pdpb::StoreStats) -> Result<Self, AnswerError> {
        Ok(Self {
            store_id: check::id("store", stats.store_id)?.into(),
            capacity_bytes: stats.capacity,
            available_bytes: stats.available,
            used_bytes: stats.used_size,
            regions: stats.region_count,
            started_unix_s: stats.start_time.into(),
            is_busy: stats.is_busy,
        })
    }
}

/// PD names the state that the cluster is in; what it asks of a region follows from that.
impl From<ReplicationStatus> for replication_modepb::ReplicationStatus {
    fn from(status: ReplicationStatus) -> Self {
        let state = match status.state {
            ReplicationState::IntegrityOverLabel => DrAutoSyncState::Sync,
            ReplicationState::SimpleMajority | ReplicationState::Unknown => DrAutoSyncState::Async,
        };
        let sync =
            replication_modepb::DrAutoSync { state: state.into(), state_id: status.state_id, ..Default::default() };
        Self { mode: ReplicationMode::DrAutoSync.into(), dr_auto_sync: Some(sync) }
    }
}

impl From<&StoreAdvice> for pdpb::StoreHeartbeatResponse {
    fn from(advice: &StoreAdvice) -> Self {
        let replication_status = advice.replication.map(Into::into);
        Self { header: None, replication_status, cluster_version: advice.cluster_version.clone() }
    }
}

/// Refuses a replication state that no version of this library knows.
impl TryFrom<pdpb::StoreHeartbeatResponse> for StoreAdvice {
    type Error = AnswerError;

    fn try_from(answer: pdpb::StoreHeartbeatResponse) -> Result<Self, AnswerError> {
        let status = answer.replication_status.filter(|status| status.mode != i32::from(ReplicationMode::Majority));
        let replication = status.and_then(|status| status.dr_auto_sync).map(asked_of_regions).transpose()?;
        Ok(Self { replication, cluster_version: answer.cluster_version })
    }
}

fn asked_of_regions(sync: replication_modepb::DrAutoSync) -> Result<ReplicationStatus, AnswerError> {
    let unknown = |_| malformed("replication status", format!("unknown state {}", sync.state));
    let state = match DrAutoSyncState::try_from(sync.state).map_err(unknown)? {
        DrAutoSyncState::Sync | DrAutoSyncState::SyncRecover => ReplicationState::IntegrityOverLabel,
        DrAutoSyncState::Async | DrAutoSyncState::AsyncWait => ReplicationState::SimpleMajority,
    };
    Ok(ReplicationStatus { state, state_id: sync.state_id })
}
