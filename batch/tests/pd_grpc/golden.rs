//! The encoding of every message, held against bytes that Google's own protobuf made (`make_vectors.py`).

use std::collections::BTreeSet;
use std::fmt::Debug;

use prost::Message;
use regionmeta::{ChangeKind, EndKey, Peer, PeerChange, PeerRole, Region, RegionDraft, RegionEpoch};
use regionmeta_batch::pd::wire::{eraftpb, metapb, pdpb, replication_modepb};
use regionmeta_batch::pd::{
    DownPeer, Flow, Interval, RegionHeartbeat, ReplicationState, ReplicationStatus, StoreAdvice, StoreStats,
};

use crate::common;

const VECTORS: &str = include_str!("vectors.txt");

struct Vector {
    name: &'static str,
    bytes: Vec<u8>,
    content: &'static str,
}

fn vectors() -> impl Iterator<Item = Vector> {
    VECTORS.lines().map(|line| {
        let mut parts = line.split('\t');
        let (name, hex, content) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        Vector { name, bytes, content }
    })
}

/// The bytes say what the vector says, and what they say is encoded as they are.
fn holds<M: Message + Default + Debug>(vector: &Vector) {
    let message = M::decode(vector.bytes.as_slice()).unwrap();
    assert_eq!(format!("{message:?}"), vector.content, "{}", vector.name);
    assert_eq!(message.encode_to_vec(), vector.bytes, "{}", vector.name);
    for length in 0..vector.bytes.len() {
        let _ = M::decode(&vector.bytes[..length]); // an error or a shorter message, never a panic
    }
}

/// One arm for each message, and the names of all of them.
macro_rules! messages {
    ($($name:literal => $message:path),* $(,)?) => {
        const NAMES: &[&str] = &[$($name),*];

        fn check(vector: &Vector) {
            match vector.name {
                $($name => holds::<$message>(vector),)*
                other => panic!("no message {other}"),
            }
        }
    };
}

messages! {
    "metapb.Cluster" => metapb::Cluster,
    "metapb.Peer" => metapb::Peer,
    "metapb.Region" => metapb::Region,
    "metapb.RegionEpoch" => metapb::RegionEpoch,
    "metapb.Store" => metapb::Store,
    "metapb.StoreLabel" => metapb::StoreLabel,
    "replication_modepb.DRAutoSync" => replication_modepb::DrAutoSync,
    "replication_modepb.RegionReplicationStatus" => replication_modepb::RegionReplicationStatus,
    "replication_modepb.ReplicationStatus" => replication_modepb::ReplicationStatus,
    "pdpb.AllocIDRequest" => pdpb::AllocIdRequest,
    "pdpb.AllocIDResponse" => pdpb::AllocIdResponse,
    "pdpb.AskBatchSplitRequest" => pdpb::AskBatchSplitRequest,
    "pdpb.AskBatchSplitResponse" => pdpb::AskBatchSplitResponse,
    "pdpb.AskSplitRequest" => pdpb::AskSplitRequest,
    "pdpb.AskSplitResponse" => pdpb::AskSplitResponse,
    "pdpb.BatchScanRegionsRequest" => pdpb::BatchScanRegionsRequest,
    "pdpb.BatchScanRegionsResponse" => pdpb::BatchScanRegionsResponse,
    "pdpb.BatchSwitchWitness" => pdpb::BatchSwitchWitness,
    "pdpb.BootstrapRequest" => pdpb::BootstrapRequest,
    "pdpb.BootstrapResponse" => pdpb::BootstrapResponse,
    "pdpb.ChangePeer" => pdpb::ChangePeer,
    "pdpb.ChangePeerV2" => pdpb::ChangePeerV2,
    "pdpb.ChangeSplit" => pdpb::ChangeSplit,
    "pdpb.Error" => pdpb::Error,
    "pdpb.GetAllStoresRequest" => pdpb::GetAllStoresRequest,
    "pdpb.GetAllStoresResponse" => pdpb::GetAllStoresResponse,
    "pdpb.GetClusterConfigRequest" => pdpb::GetClusterConfigRequest,
    "pdpb.GetClusterConfigResponse" => pdpb::GetClusterConfigResponse,
    "pdpb.GetMembersRequest" => pdpb::GetMembersRequest,
    "pdpb.GetMembersResponse" => pdpb::GetMembersResponse,
    "pdpb.GetRegionByIDRequest" => pdpb::GetRegionByIdRequest,
    "pdpb.GetRegionRequest" => pdpb::GetRegionRequest,
    "pdpb.GetRegionResponse" => pdpb::GetRegionResponse,
    "pdpb.GetStoreRequest" => pdpb::GetStoreRequest,
    "pdpb.GetStoreResponse" => pdpb::GetStoreResponse,
    "pdpb.IsBootstrappedRequest" => pdpb::IsBootstrappedRequest,
    "pdpb.IsBootstrappedResponse" => pdpb::IsBootstrappedResponse,
    "pdpb.KeyRange" => pdpb::KeyRange,
    "pdpb.Member" => pdpb::Member,
    "pdpb.Merge" => pdpb::Merge,
    "pdpb.PeerStats" => pdpb::PeerStats,
    "pdpb.PutStoreRequest" => pdpb::PutStoreRequest,
    "pdpb.PutStoreResponse" => pdpb::PutStoreResponse,
    "pdpb.QueryStats" => pdpb::QueryStats,
    "pdpb.Region" => pdpb::Region,
    "pdpb.RegionHeartbeatRequest" => pdpb::RegionHeartbeatRequest,
    "pdpb.RegionHeartbeatResponse" => pdpb::RegionHeartbeatResponse,
    "pdpb.ReportBatchSplitRequest" => pdpb::ReportBatchSplitRequest,
    "pdpb.ReportBatchSplitResponse" => pdpb::ReportBatchSplitResponse,
    "pdpb.ReportSplitRequest" => pdpb::ReportSplitRequest,
    "pdpb.ReportSplitResponse" => pdpb::ReportSplitResponse,
    "pdpb.RequestHeader" => pdpb::RequestHeader,
    "pdpb.ResponseHeader" => pdpb::ResponseHeader,
    "pdpb.ScanRegionsRequest" => pdpb::ScanRegionsRequest,
    "pdpb.ScanRegionsResponse" => pdpb::ScanRegionsResponse,
    "pdpb.SplitID" => pdpb::SplitId,
    "pdpb.SplitRegion" => pdpb::SplitRegion,
    "pdpb.StoreHeartbeatRequest" => pdpb::StoreHeartbeatRequest,
    "pdpb.StoreHeartbeatResponse" => pdpb::StoreHeartbeatResponse,
    "pdpb.StoreStats" => pdpb::StoreStats,
    "pdpb.SwitchWitness" => pdpb::SwitchWitness,
    "pdpb.TimeInterval" => pdpb::TimeInterval,
    "pdpb.TransferLeader" => pdpb::TransferLeader,
}

#[test]
fn every_message_is_encoded_as_protobuf_does_it() {
    vectors().for_each(|vector| check(&vector));
    let covered: BTreeSet<_> = vectors().map(|vector| vector.name).collect();
    assert_eq!(covered, NAMES.iter().copied().collect());
}

/// The way from the wire into this library's own types, and back to the very bytes.
#[test]
fn a_region_comes_from_its_bytes_and_goes_back_to_them() {
    let peers = vec![
        Peer::voter(3.into(), 1.into()),
        Peer { id: 4.into(), store_id: 2.into(), role: PeerRole::DemotingVoter, is_witness: true },
    ];
    // Field by field: id 2; start "a"; end "b"; epoch 5/6; two peers; encryption metadata; flashback at 7.
    let bytes = b"\x08\x02\x12\x01a\x1a\x01b\x22\x04\x08\x05\x10\x06\x2a\x04\x08\x03\x10\x01\x2a\x08\x08\x04\x10\x02\x18\x03\x20\x01\x32\x02\xaa\xbb\x38\x01\x40\x07";
    let region = Region::try_from(metapb::Region::decode(&bytes[..]).unwrap()).unwrap();
    assert_eq!((region.id(), region.epoch()), (2.into(), RegionEpoch::new(5, 6)));
    assert_eq!((region.start_key(), region.end_key()), (&b"a"[..], EndKey::Finite(b"b")));
    assert!(region.peers().eq(peers));
    assert_eq!(region.flashback_start_ts(), Some(7));
    assert_eq!(metapb::Region::from(&region).encode_to_vec(), bytes);
}

/// Each number of a heartbeat is in the field of that name: a swap in both directions would go unnoticed everywhere else.
#[test]
fn a_heartbeat_says_each_thing_in_its_field() {
    let (leader, other) = (Peer::voter(20.into(), 1.into()), Peer::learner(21.into(), 2.into()));
    let draft = common::region(2, "a", "b", 3);
    let region = RegionDraft { peers: vec![leader, other], ..draft.to_draft() }.build().unwrap();
    let heartbeat = RegionHeartbeat {
        region: region.clone(),
        leader,
        term: 6.into(),
        down_peers: vec![DownPeer { peer: other, down_s: 700 }],
        pending_peers: vec![other],
        flow: Flow { written_bytes: 11, written_keys: 12, read_bytes: 13, read_keys: 14 },
        interval: Interval { start_unix_s: 15, end_unix_s: 16 },
        size_bytes: 17,
        keys: 18,
        replication: Some(ReplicationStatus { state: ReplicationState::IntegrityOverLabel, state_id: 19 }),
    };
    let wire_peer =
        |id, store_id, role: metapb::PeerRole| metapb::Peer { id, store_id, role: role.into(), is_witness: false };
    let status = replication_modepb::RegionReplicationStatus { state: 2, state_id: 19 };
    let message = pdpb::RegionHeartbeatRequest {
        header: None,
        region: Some((&region).into()),
        leader: Some(wire_peer(20, 1, metapb::PeerRole::Voter)),
        down_peers: vec![pdpb::PeerStats {
            peer: Some(wire_peer(21, 2, metapb::PeerRole::Learner)),
            down_seconds: 700,
        }],
        pending_peers: vec![wire_peer(21, 2, metapb::PeerRole::Learner)],
        bytes_written: 11,
        keys_written: 12,
        bytes_read: 13,
        keys_read: 14,
        interval: Some(pdpb::TimeInterval { start_timestamp: 15, end_timestamp: 16 }),
        approximate_size: 17,
        approximate_keys: 18,
        term: 6,
        replication_status: Some(status),
        query_stats: None,
        cpu_usage: 0,
    };
    assert_eq!(pdpb::RegionHeartbeatRequest::from(&heartbeat), message);
    assert_eq!(RegionHeartbeat::try_from(message).unwrap(), heartbeat);
}

#[test]
fn changes_of_peers_and_stores_are_numbered_as_pd_does() {
    let peer = Peer::voter(20.into(), 1.into());
    for (kind, number) in [(ChangeKind::AddNode, 0), (ChangeKind::RemoveNode, 1), (ChangeKind::AddLearner, 2)] {
        let message = pdpb::ChangePeer { peer: Some(peer.into()), change_type: number };
        assert_eq!(pdpb::ChangePeer::from(PeerChange { kind, peer }), message);
        assert_eq!(PeerChange::try_from(message), Ok(PeerChange { kind, peer }));
    }
    assert_eq!(eraftpb::ConfChangeType::AddLearnerNode as i32, 2);
    let stats = StoreStats {
        store_id: 1.into(),
        capacity_bytes: 2,
        available_bytes: 3,
        used_bytes: 4,
        regions: 5,
        started_unix_s: 6,
        is_busy: true,
    };
    let message = pdpb::StoreStats {
        store_id: 1,
        capacity: 2,
        available: 3,
        used_size: 4,
        region_count: 5,
        start_time: 6,
        is_busy: true,
        ..Default::default()
    };
    assert_eq!(pdpb::StoreStats::from(&stats), message);
    assert_eq!(StoreStats::try_from(message), Ok(stats));
}

/// PD tells the state of the cluster, and what it asks of regions follows: integrity while it is in sync, or comes back to it.
#[test]
fn replication_states_mean_what_they_ask_of_regions() {
    let advice = |mode, state| {
        let sync = replication_modepb::DrAutoSync { state, state_id: 9, ..Default::default() };
        let status = replication_modepb::ReplicationStatus { mode, dr_auto_sync: Some(sync) };
        let answer = pdpb::StoreHeartbeatResponse { replication_status: Some(status), ..Default::default() };
        StoreAdvice::try_from(answer).map(|advice| advice.replication)
    };
    let asks = |state| Ok(Some(ReplicationStatus { state, state_id: 9 }));
    assert_eq!(advice(0, 0), Ok(None));
    assert_eq!(advice(1, 0), asks(ReplicationState::IntegrityOverLabel));
    assert_eq!(advice(1, 1), asks(ReplicationState::SimpleMajority));
    assert_eq!(advice(1, 2), asks(ReplicationState::SimpleMajority));
    assert_eq!(advice(1, 3), asks(ReplicationState::IntegrityOverLabel));
    assert!(advice(1, 4).is_err());
}
