//! Every method, from the client through the server to the driver and back: the answer is the one that the driver gives.

use std::time::{Duration, Instant};

use regionmeta::{BatchSwitchWitness, ChangeKind, ChangePeerV2, KeyRange, Peer, PeerChange, StoreId, WitnessSwitch};
use regionmeta_batch::pd::grpc::{
    ClientTls, GrpcError, GrpcPd, GrpcServer, GrpcSettings, Identity, ServerSettings, ServerTls,
};
use regionmeta_batch::pd::wire::pdpb::{self, ErrorType, pd_client::PdClient as Wire};
use regionmeta_batch::pd::{EmbeddedPd, HeartbeatStream, Operator, PdClient, PdError, SplitPolicy, StoreStats};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::common::{CLUSTER, STORE, Served, client, eventually, heartbeat, quick, region, settings, store};

#[test]
fn before_the_cluster_is_there() {
    let Served { pd: _pd, server: _server, client } = Served::new();
    let not_bootstrapped = Err(PdError::NotBootstrapped);
    assert_eq!(client.is_bootstrapped(), Ok(false));
    assert_eq!(client.put_store(&store(1)), not_bootstrapped);
    assert_eq!(client.get_region(b"k").map(drop), not_bootstrapped);
    assert_eq!(client.cluster_config().map(drop), not_bootstrapped);
    assert!(client.alloc_id().unwrap() < client.alloc_id().unwrap());
    let before = client.alloc_id().unwrap();
    assert_eq!((client.alloc_ids(5), client.alloc_id()), (Ok(before + 5), Ok(before + 6)));
    assert!(matches!(client.alloc_ids(u32::MAX), Err(PdError::Refused(_))));
    assert!(matches!(client.bootstrap(&store(1), &region(2, "a", "", 1)), Err(PdError::Refused(_))));
    assert_eq!(client.bootstrap(&store(1), &region(2, "", "", 1)), Ok(()));
    assert_eq!(client.bootstrap(&store(1), &region(3, "", "", 1)), Err(PdError::AlreadyBootstrapped));
    assert_eq!(client.is_bootstrapped(), Ok(true));
}

#[test]
fn stores() {
    let Served { pd, server: _server, client } = Served::bootstrapped();
    client.put_store(&store(2)).unwrap();
    assert_eq!(pd.get_store(2.into()), Ok(Some(store(2))));
    assert_eq!(client.get_store(2.into()), Ok(Some(store(2))));
    assert_eq!(client.get_store(9.into()), Ok(None));
    assert_eq!(client.get_all_stores(), pd.get_all_stores());
    assert_eq!(client.cluster_config(), pd.cluster_config());
    let stats = StoreStats {
        store_id: 2.into(),
        capacity_bytes: 100,
        available_bytes: 60,
        used_bytes: 40,
        regions: 3,
        started_unix_s: 1_700_000_000,
        is_busy: true,
    };
    assert_eq!(client.store_heartbeat(&stats), pd.store_heartbeat(&stats));
    assert_eq!(pd.store_stats(2.into()), Some(stats));
    let unknown = StoreStats { store_id: 9.into(), ..stats };
    assert_eq!(client.store_heartbeat(&unknown).map(drop), Err(PdError::UnknownStore { store: StoreId::new(9) }));
}

#[test]
fn regions_and_splits() {
    let Served { pd, server: _server, client } = Served::bootstrapped();
    let parts = [region(2, "", "g", 3), region(3, "g", "p", 3), region(4, "p", "", 3)];
    let HeartbeatStream { mut sender, receiver: _receiver } = client.region_heartbeats().unwrap();
    for part in &parts {
        sender.send(&heartbeat(part)).unwrap();
    }
    eventually("PD knows three regions", || pd.regions().snapshot().len() == 3);
    for key in [&b""[..], b"a", b"g", b"k", b"p", b"z"] {
        assert_eq!(client.get_region(key), pd.get_region(key));
        assert_eq!(client.get_prev_region(key), pd.get_prev_region(key));
    }
    assert_eq!(client.get_region(b"k").unwrap().unwrap().region, parts[1]);
    assert_eq!(client.get_prev_region(b"k").unwrap().unwrap().region, parts[0]);
    assert_eq!(client.get_region_by_id(4.into()), pd.get_region_by_id(4.into()));
    assert_eq!(client.get_region_by_id(9.into()), Ok(None));
    for (start, end, limit) in [("", "", 0), ("", "", 2), ("h", "", 0), ("a", "g", 0), ("a", "ga", 1)] {
        let range = KeyRange::from_wire(start.as_bytes(), end.as_bytes());
        assert_eq!(client.scan_regions(range, limit), pd.scan_regions(range, limit));
    }
    let ids = client.ask_batch_split(&parts[1], 4).unwrap();
    assert_eq!((ids.len(), ids[0].peer_ids.len()), (4, 1));
    let stale = client.ask_batch_split(&region(3, "g", "p", 2), 1);
    assert!(matches!(&stale, Err(PdError::Refused(why)) if why.contains("newer version")), "{stale:?}");
    assert!(matches!(client.ask_batch_split(&parts[1], 1_000_000), Err(PdError::Refused(_))));
    assert_eq!(client.report_batch_split(&parts), Ok(()));
    assert!(matches!(client.report_batch_split(&parts[..1]), Err(PdError::Refused(_))));
}

/// Scans of more regions than one answer has.
#[test]
fn a_long_scan_comes_in_pages() {
    let Served { pd, server: _server, client } = Served::bootstrapped();
    let key = |n: u64| if n == 0 || n == 10_000 { String::new() } else { format!("{n:05}") };
    for n in 0..10_000 {
        pd.heartbeat(&heartbeat(&region(n + 10, &key(n), &key(n + 1), 2))).unwrap();
    }
    let whole = pd.scan_regions(KeyRange::ALL, 0).unwrap();
    assert_eq!(whole.len(), 10_000);
    assert_eq!(client.scan_regions(KeyRange::ALL, 0).unwrap(), whole);
    assert_eq!(client.scan_regions(KeyRange::ALL, 5_000).unwrap(), whole[..5_000]);
    assert_eq!(client.scan_regions(KeyRange::from_wire(b"00010", b"09000"), 0).unwrap(), whole[10..9_000]);
}

#[test]
fn operators_come_back() {
    let Served { pd, server: _server, client } = Served::bootstrapped();
    let (peer, other) = (Peer::voter(20.into(), STORE), Peer::learner(21.into(), 2.into()));
    let add = PeerChange { kind: ChangeKind::AddLearner, peer: other };
    let remove = PeerChange { kind: ChangeKind::RemoveNode, peer };
    let switch = WitnessSwitch { peer_id: 20.into(), is_witness: true };
    let operators = [
        Operator::ChangePeer(add),
        Operator::ChangePeerV2(ChangePeerV2 { changes: vec![PeerChange { kind: ChangeKind::AddNode, peer }, remove] }),
        Operator::ChangePeerV2(ChangePeerV2 { changes: Vec::new() }),
        Operator::TransferLeader { peers: vec![other, Peer::voter(22.into(), 3.into())] },
        Operator::Split { policy: SplitPolicy::UseKeys, keys: vec![b"a".to_vec(), b"b".to_vec()] },
        Operator::Split { policy: SplitPolicy::Approximate, keys: Vec::new() },
        Operator::Merge { target: region(3, "x", "y", 8) },
        Operator::SwitchWitnesses(BatchSwitchWitness { switches: vec![switch] }),
    ];
    let HeartbeatStream { mut sender, mut receiver } = client.region_heartbeats().unwrap();
    for (version, operator) in (2..).zip(operators) {
        let region = region(2, "", "", version); // the operator before this one is done when the epoch moves
        pd.heartbeat(&heartbeat(&region)).unwrap();
        pd.add_operator(2.into(), operator.clone());
        sender.send(&heartbeat(&region)).unwrap();
        let response = receiver.receive(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!((response.region_id, response.epoch), (region.id(), region.epoch()));
        assert_eq!((response.target_peer, response.operator), (peer, Some(operator)));
    }
    assert_eq!(receiver.receive(Duration::from_millis(50)), Ok(None));
}

fn wire<T>(server: &GrpcServer, call: impl AsyncFnOnce(Wire<Channel>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { call(Wire::connect(format!("http://{}", server.address())).await.unwrap()).await })
}

fn header(cluster_id: u64) -> Option<pdpb::RequestHeader> {
    Some(pdpb::RequestHeader { cluster_id, sender_id: 0 })
}

fn key_range(start: &str, end: &str) -> pdpb::KeyRange {
    pdpb::KeyRange { start_key: start.into(), end_key: end.into() }
}

/// What this library's own client does not call, but others do.
#[test]
fn methods_for_other_clients() {
    let Served { pd, server, client: _client } = Served::bootstrapped();
    for part in [region(2, "", "g", 2), region(3, "k", "", 2)] {
        pd.heartbeat(&heartbeat(&part)).unwrap(); // nobody owns [g, k)
    }
    wire(&server, async |mut wire| {
        let members = wire.get_members(pdpb::GetMembersRequest { header: header(99) }).await.unwrap().into_inner();
        assert_eq!(members.header.unwrap().cluster_id, CLUSTER.get());
        assert_eq!(members.leader.unwrap().client_urls, [format!("http://{}", server.address())]);

        let header = header(CLUSTER.get());
        let region = Some((&region(3, "k", "", 2)).into());
        let ids = wire.ask_split(pdpb::AskSplitRequest { header, region }).await.unwrap().into_inner();
        assert!(ids.new_region_id > 0 && ids.new_peer_ids.len() == 1, "{ids:?}");
        let (left, right) = (crate::common::region(3, "k", "p", 3), crate::common::region(4, "p", "", 3));
        let (left, right) = (Some((&left).into()), Some((&right).into()));
        let reported = wire.report_split(pdpb::ReportSplitRequest { header, left, right }).await.unwrap();
        assert_eq!(reported.into_inner().header.unwrap().error, None);

        let hole = || Err(ErrorType::RegionsNotContainAllKeyRange);
        for (ranges, limit, whole, expected) in [
            (vec![key_range("a", "h"), key_range("h", "l")], 0, false, Ok(vec![2, 3])),
            (vec![key_range("a", "h")], 0, true, hole()),
            (vec![key_range("h", "l")], 0, true, hole()),
            (vec![key_range("a", "b"), key_range("c", "d"), key_range("x", "")], 0, true, Ok(vec![2, 3])),
            (vec![key_range("a", "b"), key_range("x", "")], 1, true, Ok(vec![2])),
            (vec![key_range("a", "")], 1, true, Ok(vec![2])),
            (vec![key_range("a", "")], 2, true, hole()),
            (vec![key_range("a", "b"), key_range("c", "")], 2, false, Ok(vec![2, 3])),
            (vec![key_range("b", "d"), key_range("c", "e")], 0, false, Err(ErrorType::Unknown)),
            (vec![key_range("d", "b")], 0, false, Err(ErrorType::Unknown)),
        ] {
            let contain_all_key_range = whole;
            let request =
                pdpb::BatchScanRegionsRequest { header, ranges, limit, contain_all_key_range, ..Default::default() };
            let found = wire.batch_scan_regions(request).await.unwrap().into_inner();
            let ids = found.regions.iter().map(|found| found.region.as_ref().unwrap().id).collect();
            assert_eq!(found.header.unwrap().error.map_or(Ok(ids), |error| Err(error.r#type())), expected);
        }
    });
}

#[test]
fn another_cluster_and_unknown_methods_are_refused() {
    let Served { pd: _pd, server, client: _client } = Served::bootstrapped();
    wire(&server, async |mut wire| {
        let status = wire.alloc_id(pdpb::AllocIdRequest { header: header(8), count: 1 }).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let status = wire.alloc_id(pdpb::AllocIdRequest { header: None, count: 1 }).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
    });
    let address = server.address();
    let status: Status = wire(&server, async |_| {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.unwrap();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static("/pdpb.PD/Tso");
        grpc.unary(tonic::Request::new(Vec::new()), path, crate::common::Raw).await.unwrap_err()
    });
    assert_eq!(status.code(), Code::Unimplemented);
    let stranger = GrpcPd::new(8.into(), &[address.to_string()], quick()).unwrap();
    assert_eq!(stranger.alloc_id(), Err(PdError::ClusterMismatch { pd: CLUSTER, store: 8.into() }));
}

#[test]
fn a_server_that_stops_ends_its_streams() {
    let Served { pd: _pd, server, client } = Served::bootstrapped();
    let HeartbeatStream { mut sender, mut receiver } = client.region_heartbeats().unwrap();
    sender.send(&heartbeat(&region(2, "", "", 1))).unwrap();
    let started = Instant::now();
    server.stop().unwrap();
    assert!(started.elapsed() < settings().grace / 2, "the stream held the server up for {:?}", started.elapsed());
    assert!(receiver.receive(Duration::from_secs(10)).unwrap_err().is_transient());
    eventually("the sender notices", || sender.send(&heartbeat(&region(2, "", "", 1))).is_err());
    assert!(client.alloc_id().unwrap_err().is_transient());
}

/// Calls block, also on a thread that belongs to an asynchronous runtime, and the client may be dropped there.
#[test]
fn calls_work_inside_another_runtime() {
    let Served { pd: _pd, server: _server, client } = Served::bootstrapped();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert_eq!(client.is_bootstrapped(), Ok(true));
        drop(client.region_heartbeats().unwrap());
        drop(client);
    });
}

/// A server starts, fails to start, and ends there too.
#[test]
fn a_server_starts_inside_another_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let Served { pd, server, client } = Served::bootstrapped();
        assert_eq!(client.is_bootstrapped(), Ok(true));
        server.stop().unwrap();
        let tls = ServerTls { identity: identity(b"no certificate", b"no key"), client_ca_pem: None };
        let nonsense = ServerSettings { tls: Some(tls), ..settings() };
        let started = GrpcServer::start(std::sync::Arc::new(pd), "127.0.0.1:0".parse().unwrap(), nonsense);
        assert!(matches!(started, Err(GrpcError::Tls(_))), "{started:?}");
    });
}

const AUTHORITY: &[u8] = include_bytes!("tls/authority.pem");
const STRANGER: &[u8] = include_bytes!("tls/stranger.pem");

fn identity(certificate: &[u8], key: &[u8]) -> Identity {
    Identity { certificate_pem: certificate.to_vec(), key_pem: key.to_vec() }
}

fn tls_client(address: &str, ca: &[u8], own: Option<Identity>) -> GrpcPd {
    tls_client_of("pd.test", address, ca, own)
}

fn tls_client_of(domain: &str, address: &str, ca: &[u8], own: Option<Identity>) -> GrpcPd {
    let tls = ClientTls { ca_pem: ca.to_vec(), domain: Some(domain.to_owned()), identity: own };
    GrpcPd::new(CLUSTER, &[address.to_owned()], GrpcSettings { tls: Some(tls), ..quick() }).unwrap()
}

#[test]
fn encrypted_connections_need_the_right_certificates() {
    let own = identity(include_bytes!("tls/server.pem"), include_bytes!("tls/server.key"));
    let tls = ServerTls { identity: own, client_ca_pem: Some(AUTHORITY.to_vec()) };
    let settings = ServerSettings { tls: Some(tls), ..settings() };
    let pd = std::sync::Arc::new(EmbeddedPd::new(CLUSTER));
    let server = GrpcServer::start(pd, "127.0.0.1:0".parse().unwrap(), settings).unwrap();
    let address = server.address().to_string();
    let known = || Some(identity(include_bytes!("tls/client.pem"), include_bytes!("tls/client.key")));
    assert_eq!(tls_client(&address, AUTHORITY, known()).is_bootstrapped(), Ok(false));
    for refused in [
        tls_client(&address, AUTHORITY, None),
        tls_client(&address, STRANGER, known()),
        tls_client_of("another.test", &address, AUTHORITY, known()),
        client(std::slice::from_ref(&address)),
    ] {
        let error = refused.is_bootstrapped().unwrap_err();
        assert!(matches!(error, PdError::Unavailable(_)), "{error:?}");
    }
}

#[test]
fn settings_that_cannot_be_meant_are_refused_at_once() {
    assert!(matches!(GrpcPd::new(CLUSTER, &[], quick()), Err(GrpcError::NoEndpoint)));
    let bad = GrpcPd::new(CLUSTER, &["not an address".to_owned()], quick());
    assert!(matches!(bad, Err(GrpcError::Endpoint { .. })), "{bad:?}");
    let Served { pd, server, client: _client } = Served::new();
    let taken = GrpcServer::start(std::sync::Arc::new(pd), server.address(), settings());
    assert!(matches!(taken, Err(GrpcError::Listen { .. })));
}
