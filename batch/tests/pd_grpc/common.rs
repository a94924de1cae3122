//! What the tests share: a served driver, regions, and a codec that sends any bytes at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::bytes::{Buf, BufMut};
use regionmeta::{ClusterId, KeyRange, Peer, Region, RegionDraft, RegionEpoch, StoreId};
use regionmeta_batch::pd::grpc::{GrpcPd, GrpcServer, GrpcSettings, ServerSettings};
use regionmeta_batch::pd::{EmbeddedPd, Flow, Interval, PdClient, RegionHeartbeat, StoreInfo};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

pub(crate) const CLUSTER: ClusterId = ClusterId::new(7);
pub(crate) const STORE: StoreId = StoreId::new(1);

/// A driver, served, and a client of it.
pub(crate) struct Served {
    pub(crate) pd: EmbeddedPd,
    pub(crate) server: GrpcServer,
    pub(crate) client: GrpcPd,
}

impl Served {
    pub(crate) fn new() -> Self {
        let pd = EmbeddedPd::new(CLUSTER);
        let server = GrpcServer::start(Arc::new(pd.clone()), "127.0.0.1:0".parse().unwrap(), settings()).unwrap();
        let client = client(&[server.address().to_string()]);
        Self { pd, server, client }
    }

    /// With one store and the first region, id 2.
    pub(crate) fn bootstrapped() -> Self {
        let served = Self::new();
        while served.pd.alloc_id().unwrap() < 100 {} // the ids that the tests take without asking
        served.pd.bootstrap(&store(1), &region(2, "", "", 1)).unwrap();
        served
    }
}

pub(crate) fn settings() -> ServerSettings {
    ServerSettings { grace: Duration::from_secs(20), ..ServerSettings::default() }
}

pub(crate) fn client(addresses: &[String]) -> GrpcPd {
    GrpcPd::new(CLUSTER, addresses, quick()).unwrap()
}

/// Short deadlines.
pub(crate) fn quick() -> GrpcSettings {
    let (deadline, connect_timeout) = (Duration::from_secs(3), Duration::from_secs(1));
    GrpcSettings { deadline, connect_timeout, ..GrpcSettings::default() }
}

pub(crate) fn store(id: u64) -> StoreInfo {
    StoreInfo { id: id.into(), address: format!("store{id}:20160") }
}

/// A region with one voter on the store, whose peer id is ten times the region's.
pub(crate) fn region(id: u64, start: &str, end: &str, version: u64) -> Region {
    let range = KeyRange::from_wire(start.as_bytes(), end.as_bytes());
    let peers = vec![Peer::voter((id * 10).into(), STORE)];
    RegionDraft::new(id.into(), range, RegionEpoch::new(1, version), peers).build().unwrap()
}

pub(crate) fn heartbeat(region: &Region) -> RegionHeartbeat {
    RegionHeartbeat {
        leader: region.peers().next().unwrap(),
        region: region.clone(),
        term: 6.into(),
        down_peers: Vec::new(),
        pending_peers: Vec::new(),
        flow: Flow::default(),
        interval: Interval::default(),
        size_bytes: 1,
        keys: 0,
        replication: None,
    }
}

/// Waits until it is so, for no longer than a stuck test may take.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Messages as they are, whatever they are.
#[derive(Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
