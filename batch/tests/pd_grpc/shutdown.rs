//! A server that stops while a call runs, and a driver with a bug.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use regionmeta::{ClusterId, KeyRange, Region, RegionId, StoreId};
use regionmeta_batch::pd::grpc::GrpcServer;
use regionmeta_batch::pd::{
    ClusterConfig, EmbeddedPd, HeartbeatStream, PdClient, PdError, RegionInfo, SplitIds, StoreAdvice, StoreInfo,
    StoreStats,
};

use crate::common::{CLUSTER, client, settings};

/// A driver that says when it is asked for an id, and answers when it is told to. It panics at nearly everything else.
#[derive(Debug)]
struct Held {
    streams: EmbeddedPd,
    asked: Mutex<Sender<()>>,
    go: Mutex<Receiver<()>>,
}

type Answer<T> = Result<T, PdError>;

impl PdClient for Held {
    fn cluster_id(&self) -> ClusterId {
        CLUSTER
    }

    fn alloc_id(&self) -> Answer<u64> {
        self.asked.lock().unwrap().send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        Ok(5)
    }

    fn region_heartbeats(&self) -> Answer<HeartbeatStream> {
        self.streams.region_heartbeats()
    }

    fn is_bootstrapped(&self) -> Answer<bool> {
        panic!("a bug")
    }

    fn bootstrap(&self, _: &StoreInfo, _: &Region) -> Answer<()> {
        panic!("a bug")
    }

    fn cluster_config(&self) -> Answer<ClusterConfig> {
        panic!("a bug")
    }

    fn put_store(&self, _: &StoreInfo) -> Answer<()> {
        panic!("a bug")
    }

    fn get_store(&self, _: StoreId) -> Answer<Option<StoreInfo>> {
        panic!("a bug")
    }

    fn get_all_stores(&self) -> Answer<Vec<StoreInfo>> {
        panic!("a bug")
    }

    fn store_heartbeat(&self, _: &StoreStats) -> Answer<StoreAdvice> {
        panic!("a bug")
    }

    fn ask_batch_split(&self, _: &Region, _: usize) -> Answer<Vec<SplitIds>> {
        panic!("a bug")
    }

    fn report_batch_split(&self, _: &[Region]) -> Answer<()> {
        panic!("a bug")
    }

    fn get_region(&self, _: &[u8]) -> Answer<Option<RegionInfo>> {
        panic!("a bug")
    }

    fn get_prev_region(&self, _: &[u8]) -> Answer<Option<RegionInfo>> {
        panic!("a bug")
    }

    fn get_region_by_id(&self, _: RegionId) -> Answer<Option<RegionInfo>> {
        panic!("a bug")
    }

    fn scan_regions(&self, _: KeyRange<'_>, _: usize) -> Answer<Vec<RegionInfo>> {
        panic!("a bug")
    }
}

struct Bed {
    server: GrpcServer,
    asked: Receiver<()>,
    go: Sender<()>,
}

fn serve() -> Bed {
    let ((tell, asked), (go, told)) = (channel(), channel());
    let held = Held { streams: EmbeddedPd::new(CLUSTER), asked: Mutex::new(tell), go: Mutex::new(told) };
    let server = GrpcServer::start(Arc::new(held), "127.0.0.1:0".parse().unwrap(), settings()).unwrap();
    Bed { server, asked, go }
}

#[test]
fn a_call_that_runs_is_answered_before_the_server_ends() {
    let Bed { server, asked, go } = serve();
    let client = client(&[server.address().to_string()]);
    let mut stream = client.region_heartbeats().unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.alloc_id());
        asked.recv().unwrap();
        let started = Instant::now();
        let stop = scope.spawn(move || server.stop());
        // The stream ends at once: this is how the test knows that the server is stopping.
        assert!(stream.receiver.receive(Duration::from_secs(10)).unwrap_err().is_transient());
        go.send(()).unwrap();
        assert_eq!(call.join().unwrap(), Ok(5));
        stop.join().unwrap().unwrap();
        assert!(started.elapsed() < settings().grace / 2, "{:?}", started.elapsed());
    });
}

#[test]
fn a_driver_that_panics_costs_the_call_alone() {
    let Bed { server, asked: _asked, go } = serve();
    let client = client(&[server.address().to_string()]);
    assert!(matches!(client.is_bootstrapped(), Err(PdError::InvalidAnswer(_))));
    go.send(()).unwrap();
    assert_eq!(client.alloc_id(), Ok(5));
}
