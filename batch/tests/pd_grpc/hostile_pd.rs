//! A client before a hostile PD: slow, without a leader, in a circle, of another cluster, or talking nonsense.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use regionmeta::KeyRange;
use regionmeta_batch::pd::grpc::{GrpcPd, GrpcSettings};
use regionmeta_batch::pd::wire::{metapb, pdpb};
use regionmeta_batch::pd::{AnswerError, HeartbeatStream, Operator, PdClient, PdError};
use tonic::Status;

use crate::common::{CLUSTER, client, heartbeat, quick, region};
use crate::fake::{Answer, Fake, header, members};

fn alloc_id(cluster: u64, id: u64) -> Answer {
    Answer::message(&pdpb::AllocIdResponse { header: header(cluster), id, count: 1 })
}

#[test]
fn answers_that_cannot_be_meant() {
    let pd = Fake::new();
    let client = client(&[pd.address.to_string()]);
    pd.answers("AllocID", alloc_id(7, 5));
    assert_eq!(client.alloc_id(), Ok(5));
    pd.answers("AllocID", alloc_id(7, 0));
    assert!(matches!(client.alloc_id(), Err(PdError::InvalidAnswer(AnswerError::ZeroId { .. }))));
    pd.answers("AllocID", Answer::message(&pdpb::AllocIdResponse { header: None, id: 5, count: 1 }));
    assert!(matches!(client.alloc_id(), Err(PdError::InvalidAnswer(AnswerError::Malformed { .. }))));
    pd.answers("AllocID", Answer::Bytes(b"\xff\xff\xff\xff".to_vec()));
    assert!(matches!(client.alloc_id(), Err(PdError::InvalidAnswer(AnswerError::Malformed { .. }))));
    pd.answers("AllocID", Answer::Bytes(vec![0; 17 << 20]));
    assert!(matches!(client.alloc_id(), Err(PdError::InvalidAnswer(AnswerError::Malformed { .. }))));
    pd.answers("AllocID", alloc_id(7, 5));
    assert!(matches!(client.alloc_ids(3), Err(PdError::InvalidAnswer(AnswerError::Count { asked: 3, found: 1, .. }))));
    pd.answers("AllocID", Answer::message(&pdpb::AllocIdResponse { header: header(7), id: 2, count: 3 }));
    assert!(matches!(client.alloc_ids(3), Err(PdError::InvalidAnswer(AnswerError::ZeroId { .. }))));
    pd.answers("AllocID", alloc_id(8, 5));
    assert_eq!(client.alloc_id(), Err(PdError::ClusterMismatch { pd: 8.into(), store: CLUSTER }));
}

#[test]
fn regions_that_were_not_asked_for() {
    let pd = Fake::new();
    let client = client(&[pd.address.to_string()]);
    let found = |region: Option<metapb::Region>| {
        Answer::message(&pdpb::GetRegionResponse { header: header(7), region, ..Default::default() })
    };
    pd.answers("GetRegion", found(Some((&region(2, "a", "b", 1)).into())));
    assert_eq!(client.get_region(b"a").unwrap().unwrap().region, region(2, "a", "b", 1));
    assert!(matches!(client.get_region(b"b"), Err(PdError::InvalidAnswer(AnswerError::KeyNotInRegion { .. }))));
    let broken = metapb::Region { id: 2, ..Default::default() };
    pd.answers("GetRegion", found(Some(broken)));
    assert!(matches!(client.get_region(b"b"), Err(PdError::InvalidAnswer(AnswerError::Region(_)))));
    for none in [None, Some(metapb::Region::default())] {
        pd.answers("GetRegion", found(none));
        assert_eq!(client.get_region(b"b"), Ok(None));
    }

    let scanned = |regions: &[regionmeta::Region]| {
        let regions = regions.iter().map(|region| pdpb::Region { region: Some(region.into()), ..Default::default() });
        let regions = regions.collect();
        Answer::message(&pdpb::ScanRegionsResponse { header: header(7), regions, ..Default::default() })
    };
    let (left, right) = (region(2, "a", "m", 1), region(3, "k", "z", 1));
    pd.answers("ScanRegions", scanned(&[left.clone(), right.clone()]));
    let found = client.scan_regions(KeyRange::ALL, 0);
    assert!(matches!(found, Err(PdError::InvalidAnswer(AnswerError::Unsorted { .. }))), "{found:?}");
    pd.answers("ScanRegions", scanned(&[right]));
    let found = client.scan_regions(KeyRange::from_wire(b"a", b"b"), 0);
    assert!(matches!(found, Err(PdError::InvalidAnswer(AnswerError::OutsideOfScan { .. }))), "{found:?}");
    let ids = pdpb::SplitId { new_region_id: 2, new_peer_ids: vec![30] };
    pd.answers("AskBatchSplit", Answer::message(&pdpb::AskBatchSplitResponse { header: header(7), ids: vec![ids] }));
    let found = client.ask_batch_split(&left, 1);
    assert!(matches!(found, Err(PdError::InvalidAnswer(AnswerError::UsedId { .. }))), "{found:?}");
}

#[test]
fn a_slow_pd_costs_the_deadline_and_no_more() {
    let pd = Fake::new();
    let client = client(&[pd.address.to_string()]);
    pd.answers("AllocID", Answer::Nothing);
    let started = Instant::now();
    assert_eq!(client.alloc_id(), Err(PdError::Timeout { what: "AllocID", after: quick().deadline }));
    pd.answers("GetMembers", Answer::Nothing);
    assert!(matches!(client.alloc_id(), Err(PdError::Unavailable(_))));
    assert!(started.elapsed() < quick().deadline * 2 + Duration::from_secs(1), "{:?}", started.elapsed());
}

/// One member is silent for as long as a call may take: the next call begins with the other one.
#[test]
fn a_silent_member_does_not_hide_the_others() {
    let (silent, pd) = (TcpListener::bind("127.0.0.1:0").unwrap(), Fake::new());
    let settings = GrpcSettings { deadline: Duration::from_millis(500), ..quick() };
    let addresses = [silent.local_addr().unwrap().to_string(), pd.address.to_string()];
    let client = GrpcPd::new(CLUSTER, &addresses, settings).unwrap();
    pd.answers("AllocID", alloc_id(7, 5));
    assert!(client.alloc_id().is_err_and(|error| error.is_transient()));
    assert_eq!(client.alloc_id(), Ok(5));
}

#[test]
fn no_leader_and_leaders_in_a_circle() {
    let (one, two) = (Fake::new(), Fake::new());
    one.answers("GetMembers", members(None));
    let lonely = client(&[one.address.to_string()]);
    assert_eq!(lonely.alloc_id(), Err(PdError::NoLeader));

    one.answers("GetMembers", members(Some(two.address)));
    two.answers("GetMembers", members(Some(one.address)));
    let asked = one.calls("GetMembers");
    let dizzy = client(&[one.address.to_string()]);
    assert_eq!(dizzy.alloc_id(), Err(PdError::NoLeader));
    let asked = one.calls("GetMembers") + two.calls("GetMembers") - asked;
    assert!((2..=64).contains(&asked), "asked {asked} times");
}

#[test]
fn a_leader_that_changes_is_found_again() {
    let (one, two) = (Fake::new(), Fake::new());
    let client = client(&[one.address.to_string()]);
    one.answers("AllocID", alloc_id(7, 5));
    assert_eq!(client.alloc_id(), Ok(5));
    one.answers("GetMembers", members(Some(two.address)));
    one.answers("AllocID", Answer::Fails(Status::unavailable("not leader")));
    two.answers("AllocID", alloc_id(7, 6));
    assert_eq!(client.alloc_id(), Ok(6));
    // The first may be gone for good: the second one's address was learned.
    drop(one);
    two.answers("AllocID", Answer::Fails(Status::unavailable("try again")));
    assert!(matches!(client.alloc_id(), Err(PdError::Unavailable(_))));
    two.answers("AllocID", alloc_id(7, 8));
    assert_eq!(client.alloc_id(), Ok(8));
}

#[test]
fn another_cluster_at_the_same_address() {
    let pd = Fake::new();
    let client = client(&[pd.address.to_string()]);
    pd.answers("AllocID", alloc_id(7, 5));
    assert_eq!(client.alloc_id(), Ok(5));
    let leader = Some(pdpb::Member { client_urls: vec![format!("http://{}", pd.address)], ..Default::default() });
    let stranger = pdpb::GetMembersResponse { header: header(8), leader, ..Default::default() };
    pd.answers("GetMembers", Answer::message(&stranger));
    pd.answers("AllocID", Answer::Fails(Status::failed_precondition("mismatch cluster id, need 8 but got 7")));
    assert_eq!(client.alloc_id(), Err(PdError::ClusterMismatch { pd: 8.into(), store: CLUSTER }));
}

/// A listener that hangs up at once, or nobody at all: an error in time, and no storm of connections.
#[test]
fn connections_that_break_are_not_made_by_the_thousand() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let hang_up = move || {
        for stream in listener.incoming() {
            drop(stream);
            count.fetch_add(1, Ordering::Relaxed); // read after the calls have ended
        }
    };
    std::thread::Builder::new().name("hangs up".to_owned()).spawn(hang_up).unwrap();
    let client = client(&[address]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let started = Instant::now();
                while started.elapsed() < Duration::from_secs(2) {
                    assert!(client.alloc_id().unwrap_err().is_transient());
                }
            });
        }
    });
    let accepted = accepted.load(Ordering::Relaxed);
    assert!((1..60).contains(&accepted), "{accepted} connections");
}

#[test]
fn nonsense_in_a_heartbeat_stream_costs_itself_alone() {
    let pd = Fake::new();
    let client = client(&[pd.address.to_string()]);
    let target = || Some(metapb::Peer { id: 20, store_id: 1, ..Default::default() });
    let epoch = Some(metapb::RegionEpoch { conf_ver: 1, version: 1 });
    let good = pdpb::RegionHeartbeatResponse {
        header: header(7),
        region_id: 2,
        region_epoch: epoch,
        target_peer: target(),
        ..Default::default()
    };
    let split = |keys: &[&str]| {
        let keys = keys.iter().map(|&key| key.into()).collect();
        let split_region = Some(pdpb::SplitRegion { policy: pdpb::CheckPolicy::Usekey.into(), keys });
        pdpb::RegionHeartbeatResponse { split_region, ..good.clone() }.encode_to_vec()
    };
    let change = pdpb::ChangePeer { peer: target(), change_type: 77 };
    let refused = pdpb::ResponseHeader {
        cluster_id: 7,
        error: Some(pdpb::Error { r#type: pdpb::ErrorType::Unknown.into(), message: "stale".to_owned() }),
    };
    let messages = vec![
        pdpb::RegionHeartbeatResponse { header: header(7), ..Default::default() }.encode_to_vec(), // a sign of life
        b"\xff\xff\xff\xff garbage".to_vec(),
        vec![0x0a; 3 << 20],
        split(&["b", "a"]),
        split(&[]),
        pdpb::RegionHeartbeatResponse { target_peer: None, ..good.clone() }.encode_to_vec(),
        pdpb::RegionHeartbeatResponse { region_id: 0, ..good.clone() }.encode_to_vec(),
        pdpb::RegionHeartbeatResponse { change_peer: Some(change), ..good.clone() }.encode_to_vec(),
        pdpb::RegionHeartbeatResponse { header: Some(refused), ..good.clone() }.encode_to_vec(), // logged, not delivered
        split(&["a", "b"]),
        pdpb::RegionHeartbeatResponse { header: header(8), ..good }.encode_to_vec(),
    ];
    pd.answers("RegionHeartbeat", Answer::Stream(messages));
    let HeartbeatStream { mut sender, mut receiver } = client.region_heartbeats().unwrap();
    sender.send(&heartbeat(&region(2, "", "", 1))).unwrap();
    let wait = Duration::from_secs(10);
    for _ in 0..7 {
        let error = receiver.receive(wait).unwrap_err();
        assert!(matches!(error, PdError::InvalidAnswer(_)), "{error:?}");
    }
    let response = receiver.receive(wait).unwrap().unwrap();
    assert!(matches!(response.operator, Some(Operator::Split { keys, .. }) if keys.len() == 2));
    sender.send(&heartbeat(&region(2, "", "", 1))).unwrap();
    // Another cluster's answer is the end.
    assert!(matches!(receiver.receive(wait), Err(PdError::ClusterMismatch { .. })));
    assert!(matches!(receiver.receive(wait), Err(PdError::Unavailable(_))));
}

#[test]
fn a_stream_that_is_refused_says_so_on_both_halves() {
    let pd = Fake::new();
    pd.answers("RegionHeartbeat", Answer::Fails(Status::unavailable("no streams today")));
    let client = client(&[pd.address.to_string()]);
    let HeartbeatStream { mut sender, mut receiver } = client.region_heartbeats().unwrap();
    assert!(matches!(receiver.receive(Duration::from_secs(10)), Err(PdError::Unavailable(_))));
    assert!(matches!(sender.send(&heartbeat(&region(2, "", "", 1))), Err(PdError::Unavailable(_))));
}

/// A PD that reads nothing makes the sender wait, for no longer than the deadline, and holds a bounded number of heartbeats.
#[test]
fn a_stream_that_nobody_reads_fills_up() {
    let pd = Fake::new();
    pd.answers("RegionHeartbeat", Answer::Nothing);
    let client = client(&[pd.address.to_string()]);
    let HeartbeatStream { mut sender, receiver: _receiver } = client.region_heartbeats().unwrap();
    let heartbeat = heartbeat(&region(2, "", "", 1));
    let sent = (0..1_000_000).find_map(|sent| sender.send(&heartbeat).err().map(|error| (sent, error)));
    let (sent, error) = sent.unwrap();
    assert_eq!(error, PdError::Timeout { what: "RegionHeartbeat", after: quick().deadline });
    assert!((1_024..200_000).contains(&sent), "{sent} heartbeats were taken");
}
