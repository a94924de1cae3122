//! A server among hostile clients: what is wrong is refused by itself, and everything else goes on.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use prost::Message;
use regionmeta_batch::pd::PdClient;
use regionmeta_batch::pd::wire::{metapb, pdpb};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::common::{CLUSTER, Raw, Served, eventually, heartbeat, region};

/// A heartbeat stream into which any bytes go.
struct RawStream {
    sender: tokio::sync::mpsc::Sender<Vec<u8>>,
    answers: Streaming<Vec<u8>>,
}

async fn open(served: &Served) -> RawStream {
    let url = format!("http://{}", served.server.address());
    let mut grpc = tonic::client::Grpc::new(Channel::from_shared(url).unwrap().connect().await.unwrap());
    grpc.ready().await.unwrap();
    let (sender, requests) = tokio::sync::mpsc::channel(16);
    let path = PathAndQuery::from_static("/pdpb.PD/RegionHeartbeat");
    let answers = grpc.streaming(Request::new(ReceiverStream::new(requests)), path, Raw).await.unwrap().into_inner();
    RawStream { sender, answers }
}

impl RawStream {
    /// Why the heartbeat with these bytes is refused.
    async fn refusal(&mut self, bytes: Vec<u8>) -> String {
        self.sender.send(bytes).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(10), self.answers.message()).await.unwrap();
        let answer = pdpb::RegionHeartbeatResponse::decode(&answer.unwrap().unwrap()[..]).unwrap();
        answer.header.unwrap().error.unwrap().message
    }

    async fn end(&mut self, bytes: Vec<u8>) -> Status {
        self.sender.send(bytes).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.answers.message()).await.unwrap().unwrap_err()
    }
}

fn message(change: impl FnOnce(&mut pdpb::RegionHeartbeatRequest)) -> Vec<u8> {
    let mut message = pdpb::RegionHeartbeatRequest::from(&heartbeat(&region(2, "", "", 2)));
    message.header = Some(pdpb::RequestHeader { cluster_id: CLUSTER.get(), sender_id: 0 });
    change(&mut message);
    message.encode_to_vec()
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_broken_heartbeat_costs_itself_alone() {
    let served = Served::bootstrapped();
    on_a_runtime(async {
        let mut stream = open(&served).await;
        let peer = |message: &mut pdpb::RegionHeartbeatRequest| message.region.as_ref().unwrap().peers[0];
        for (bytes, why) in [
            (b"\xff\xff\xff\xff garbage".to_vec(), "cannot be decoded"),
            (b"\xfb\x01".repeat(100_000), "recursion limit"), // a group in a group in a group
            (vec![0x0a; 3 << 20], "bytes, at most"),
            (message(|message| message.region = None), "region of a heartbeat"),
            (message(|message| message.leader = None), "leader of a heartbeat"),
            (message(|message| message.region.as_mut().unwrap().id = 0), "region id is 0"),
            (message(|message| message.region.as_mut().unwrap().peers.clear()), "has no peers"),
            (message(|message| message.region.as_mut().unwrap().end_key = b"\0".repeat(70_000)), "70000 bytes"),
            (message(|message| message.region.as_mut().unwrap().region_epoch = None), "zero half"),
            (
                message(|message| {
                    let again = peer(message);
                    message.region.as_mut().unwrap().peers.push(again);
                }),
                "twice",
            ),
            (message(|message| message.region.as_mut().unwrap().peers[0].role = 9), "unknown role 9"),
            // Whoever looked the region up, or scanned over it, would have to refuse PD's answer.
            (message(|message| message.pending_peers = vec![metapb::Peer { id: 99, ..peer(message) }]), "pending peer"),
            (
                message(|message| {
                    let peer = Some(metapb::Peer { store_id: 99, ..peer(message) });
                    message.down_peers = vec![pdpb::PeerStats { peer, down_seconds: 700 }];
                }),
                "down peer",
            ),
        ] {
            let refusal = stream.refusal(bytes).await;
            assert!(refusal.contains(why), "{refusal:?} instead of {why:?}");
        }
        assert_eq!(served.pd.regions().snapshot().get(2.into()).unwrap().region().epoch().version, 1);
        stream.sender.send(message(|_| {})).await.unwrap();
        eventually("the good one is in", || {
            served.pd.regions().snapshot().get(2.into()).unwrap().region().epoch().version == 2
        });
    });
}

#[test]
fn a_stream_of_another_cluster_or_without_bounds_ends() {
    let served = Served::bootstrapped();
    on_a_runtime(async {
        let other = message(|message| message.header.as_mut().unwrap().cluster_id = 8);
        assert_eq!(open(&served).await.end(other).await.code(), Code::FailedPrecondition);
        assert_eq!(open(&served).await.end(vec![0x0a; 5 << 20]).await.code(), Code::OutOfRange);
    });
    assert_eq!(served.client.is_bootstrapped(), Ok(true));
}

#[test]
fn bytes_that_are_no_protocol_at_all() {
    let served = Served::bootstrapped();
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\xff\0\xff", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff"]
    {
        let mut stream = TcpStream::connect(served.server.address()).unwrap();
        stream.write_all(&bytes.repeat(100)).unwrap_or(()); // the server may have hung up already
    }
    assert_eq!(served.client.is_bootstrapped(), Ok(true));
}
