//! Region heartbeats, and the operators that come back.

use regionmeta::{BatchSwitchWitness, ChangeKind, ChangePeerV2, Peer, PeerChange, WitnessSwitch};

use super::{each, eraftpb, malformed, needed, pdpb, replication_modepb};
use crate::pd::{
    AnswerError, Flow, HeartbeatResponse, Operator, RegionHeartbeat, ReplicationState, ReplicationStatus, SplitPolicy,
    check,
};
use eraftpb::ConfChangeType;

/// Without a header, which is the stream's.
impl From<&RegionHeartbeat> for pdpb::RegionHeartbeatRequest {
    fn from(heartbeat: &RegionHeartbeat) -> Self {
        Self {
            header: None,
            region: Some((&heartbeat.region).into()),
            leader: Some(heartbeat.leader.into()),
            down_peers: heartbeat.down_peers.iter().copied().map(Into::into).collect(),
            pending_peers: heartbeat.pending_peers.iter().copied().map(Into::into).collect(),
            bytes_written: heartbeat.flow.written_bytes,
            keys_written: heartbeat.flow.written_keys,
            bytes_read: heartbeat.flow.read_bytes,
            keys_read: heartbeat.flow.read_keys,
            approximate_size: heartbeat.size_bytes,
            approximate_keys: heartbeat.keys,
            interval: Some(heartbeat.interval.into()),
            term: heartbeat.term.get(),
            replication_status: heartbeat.replication.map(Into::into),
            query_stats: None,
            cpu_usage: 0,
        }
    }
}

/// Refuses a region that breaks I13, a heartbeat without a leader, and peers that the region does not have ([`check::heartbeat`]).
impl TryFrom<pdpb::RegionHeartbeatRequest> for RegionHeartbeat {
    type Error = AnswerError;

    fn try_from(heartbeat: pdpb::RegionHeartbeatRequest) -> Result<Self, AnswerError> {
        let found = Self {
            region: needed("region of a heartbeat", heartbeat.region)?.try_into()?,
            leader: needed("leader of a heartbeat", heartbeat.leader)?.try_into()?,
            term: heartbeat.term.into(),
            down_peers: each(heartbeat.down_peers)?,
            pending_peers: each(heartbeat.pending_peers)?,
            flow: Flow {
                written_bytes: heartbeat.bytes_written,
                written_keys: heartbeat.keys_written,
                read_bytes: heartbeat.bytes_read,
                read_keys: heartbeat.keys_read,
            },
            interval: heartbeat.interval.unwrap_or_default().into(),
            size_bytes: heartbeat.approximate_size,
            keys: heartbeat.approximate_keys,
            replication: heartbeat.replication_status.map(TryInto::try_into).transpose()?,
        };
        check::heartbeat(&found)?;
        Ok(found)
    }
}

impl From<ReplicationStatus> for replication_modepb::RegionReplicationStatus {
    fn from(status: ReplicationStatus) -> Self {
        Self { state: i32::from(status.state as u8), state_id: status.state_id }
    }
}

impl TryFrom<replication_modepb::RegionReplicationStatus> for ReplicationStatus {
    type Error = AnswerError;

    fn try_from(status: replication_modepb::RegionReplicationStatus) -> Result<Self, AnswerError> {
        let state = match status.state {
            0 => ReplicationState::Unknown,
            1 => ReplicationState::SimpleMajority,
            2 => ReplicationState::IntegrityOverLabel,
            other => return Err(malformed("replication status of a region", format!("unknown state {other}"))),
        };
        Ok(Self { state, state_id: status.state_id })
    }
}

impl From<PeerChange> for pdpb::ChangePeer {
    fn from(change: PeerChange) -> Self {
        let kind = match change.kind {
            ChangeKind::AddNode => ConfChangeType::AddNode,
            ChangeKind::RemoveNode => ConfChangeType::RemoveNode,
            ChangeKind::AddLearner => ConfChangeType::AddLearnerNode,
        };
        Self { peer: Some(change.peer.into()), change_type: kind.into() }
    }
}

impl TryFrom<pdpb::ChangePeer> for PeerChange {
    type Error = AnswerError;

    fn try_from(change: pdpb::ChangePeer) -> Result<Self, AnswerError> {
        let unknown = |_| malformed("change of a peer", format!("unknown kind {}", change.change_type));
        let kind = match ConfChangeType::try_from(change.change_type).map_err(unknown)? {
            ConfChangeType::AddNode => ChangeKind::AddNode,
            ConfChangeType::RemoveNode => ChangeKind::RemoveNode,
            ConfChangeType::AddLearnerNode => ChangeKind::AddLearner,
        };
        Ok(Self { kind, peer: needed("peer of a change", change.peer)?.try_into()? })
    }
}

/// Without a header, which is the stream's.
impl From<&HeartbeatResponse> for pdpb::RegionHeartbeatResponse {
    fn from(response: &HeartbeatResponse) -> Self {
        let mut message = Self {
            region_id: response.region_id.get(),
            region_epoch: Some(response.epoch.into()),
            target_peer: Some(response.target_peer.into()),
            ..Self::default()
        };
        if let Some(operator) = &response.operator {
            set_operator(&mut message, operator);
        }
        message
    }
}

fn set_operator(message: &mut pdpb::RegionHeartbeatResponse, operator: &Operator) {
    match operator {
        Operator::ChangePeer(change) => message.change_peer = Some((*change).into()),
        Operator::ChangePeerV2(change) => {
            let changes = change.changes.iter().copied().map(Into::into).collect();
            message.change_peer_v2 = Some(pdpb::ChangePeerV2 { changes });
        }
        Operator::TransferLeader { peers } => {
            let peers: Vec<_> = peers.iter().copied().map(Into::into).collect();
            message.transfer_leader = Some(pdpb::TransferLeader { peer: peers.first().copied(), peers });
        }
        Operator::Split { policy, keys } => {
            let policy = i32::from(*policy as u8);
            message.split_region = Some(pdpb::SplitRegion { policy, keys: keys.clone() });
        }
        Operator::Merge { target } => message.merge = Some(pdpb::Merge { target: Some(target.into()) }),
        Operator::SwitchWitnesses(switch) => {
            let to_wire =
                |one: &WitnessSwitch| pdpb::SwitchWitness { peer_id: one.peer_id.get(), is_witness: one.is_witness };
            let switch_witnesses = switch.switches.iter().map(to_wire).collect();
            message.switch_witnesses = Some(pdpb::BatchSwitchWitness { switch_witnesses });
        }
    }
}

/// Refuses a response that names nobody, and an operator that cannot be meant ([`check::response`]).
impl TryFrom<pdpb::RegionHeartbeatResponse> for HeartbeatResponse {
    type Error = AnswerError;

    fn try_from(mut message: pdpb::RegionHeartbeatResponse) -> Result<Self, AnswerError> {
        let response = Self {
            region_id: message.region_id.into(),
            epoch: message.region_epoch.unwrap_or_default().into(),
            target_peer: needed("target of a response", message.target_peer)?.try_into()?,
            operator: take_operator(&mut message)?,
        };
        check::response(&response)?;
        Ok(response)
    }
}

/// The first operator, in the order in which every store looks at them (spec section 14.4).
fn take_operator(message: &mut pdpb::RegionHeartbeatResponse) -> Result<Option<Operator>, AnswerError> {
    let operator = if let Some(change) = message.change_peer.take() {
        Operator::ChangePeer(change.try_into()?)
    } else if let Some(change) = message.change_peer_v2.take() {
        Operator::ChangePeerV2(ChangePeerV2 { changes: each(change.changes)? })
    } else if let Some(transfer) = message.transfer_leader.take() {
        Operator::TransferLeader { peers: candidates(transfer)? }
    } else if let Some(split) = message.split_region.take() {
        Operator::Split { policy: policy(split.policy)?, keys: split.keys }
    } else if let Some(merge) = message.merge.take() {
        Operator::Merge { target: needed("target of a merge", merge.target)?.try_into()? }
    } else if let Some(switch) = message.switch_witnesses.take() {
        let from_wire =
            |one: pdpb::SwitchWitness| WitnessSwitch { peer_id: one.peer_id.into(), is_witness: one.is_witness };
        let switches = switch.switch_witnesses.into_iter().map(from_wire).collect();
        Operator::SwitchWitnesses(BatchSwitchWitness { switches })
    } else {
        return Ok(None);
    };
    Ok(Some(operator))
}

/// Several, or one in the field that older versions know.
fn candidates(transfer: pdpb::TransferLeader) -> Result<Vec<Peer>, AnswerError> {
    if transfer.peers.is_empty() { each(transfer.peer) } else { each(transfer.peers) }
}

fn policy(number: i32) -> Result<SplitPolicy, AnswerError> {
    match number {
        0 => Ok(SplitPolicy::Scan),
        1 => Ok(SplitPolicy::Approximate),
        2 => Ok(SplitPolicy::UseKeys),
        other => Err(malformed("split", format!("unknown policy {other}"))),
    }
}
