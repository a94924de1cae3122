//! Stores with a real Raft, each a process of its own, against `regionmeta-pd` and against a driver that wants things done.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use regionmeta::{ChangeKind, ClusterId, KeyRange, Peer, PeerChange};
use regionmeta_batch::pd::grpc::{GrpcServer, ServerSettings};
use regionmeta_batch::pd::{EmbeddedPd, Operator, PdClient, RegionInfo, SplitPolicy};
use tempfile::TempDir;

use super::multi_raft;
use super::multi_raft::arguments::Arguments;

const ARGUMENTS: &str = "REGIONMETA_TEST_ARGUMENTS";

/// Not a test of its own: one store of the example. Does nothing without a parent.
#[test]
#[ignore = "plays a store in the test that needs three"]
fn store_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    multi_raft::run(arguments.lines().map(str::to_owned)).unwrap();
}

/// This test binary again, in the place of the example's.
fn again(arguments: &[String]) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "multi_raft_pd::store_process", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ARGUMENTS, arguments.join("\n"));
    Ok(command)
}

/// A process that is killed at the latest when it is dropped.
struct Process(Child);

impl Process {
    /// Starts the driver, and says where it listens.
    fn pd(directory: &Path, listen: &str) -> (Self, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regionmeta-pd"));
        command.arg("--data-dir").arg(directory).args(["--cluster-id", "7", "--listen", listen]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        (Self(child), address)
    }

    fn store(directory: &Path, pd: &str) -> Self {
        let arguments = ["--pd", pd, "--store", directory.to_str().unwrap(), "--seconds", "60"];
        Self(again(&arguments.map(str::to_owned)).unwrap().spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The story of the example. The driver dies in between, and comes back with what is on its disk.
#[test]
fn three_processes_and_a_driver_that_dies() {
    let directory = TempDir::new().unwrap();
    let (pd, address) = Process::pd(directory.path(), "127.0.0.1:0");
    std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            let arguments = ["--pd", &address, "--seconds", "55"].map(str::to_owned);
            let arguments = Arguments::parse(arguments).unwrap();
            multi_raft::processes::run(&arguments, again).map_err(|error| error.to_string())
        });
        std::thread::sleep(Duration::from_secs(2)); // wherever the story is then
        drop(pd);
        let _pd = Process::pd(directory.path(), &address);
        told.join().unwrap().unwrap();
    });
}

/// Nobody but PD says what is to be done: each wish is taken from a heartbeat's response, proposed, applied, and reported.
#[test]
fn what_pd_wants_is_done() {
    let directory = TempDir::new().unwrap();
    let pd = EmbeddedPd::new(ClusterId::new(7));
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = GrpcServer::start(Arc::new(pd.clone()), listen, ServerSettings::default()).unwrap();
    let store = |name: &str| Process::store(&directory.path().join(name), &server.address().to_string());
    let _first = store("first");
    let first = come_to(&pd, "the first store leads the first region", |map| match map {
        [only] => only.leader.map(|leader| (only.region.id(), leader)),
        _ => None,
    });
    let _second = store("second");
    while pd.stores().len() < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (root, old_leader) = first;
    let other = pd.stores().iter().map(|store| store.id).find(|id| *id != old_leader.store_id).unwrap();

    let new = Peer::voter(pd.alloc_id().unwrap().into(), other);
    pd.add_operator(root, Operator::ChangePeer(PeerChange { kind: ChangeKind::AddNode, peer: new }));
    come_to(&pd, "the region has two peers, and the new one is up to date", |map| match map {
        [only] => (only.region.peers().any(|peer| peer == new) && only.pending_peers.is_empty()).then_some(()),
        _ => None,
    });
    pd.add_operator(root, Operator::Split { policy: SplitPolicy::UseKeys, keys: vec![b"m".to_vec()] });
    let child = come_to(&pd, "the region is two regions, both led", |map| match map {
        [left, right] => (left.leader.is_some() && right.leader.is_some()).then(|| right.region.id()),
        _ => None,
    });
    for region in [root, child] {
        let heir = pd.get_region_by_id(region).unwrap().unwrap().region.peer_on(other).unwrap();
        pd.add_operator(region, Operator::TransferLeader { peers: vec![heir] });
    }
    come_to(&pd, "the second store leads both", |map| {
        map.iter().all(|known| known.leader.is_some_and(|leader| leader.store_id == other)).then_some(())
    });
    let target = pd.get_region_by_id(root).unwrap().unwrap().region;
    pd.add_operator(child, Operator::Merge { target });
    come_to(&pd, "the two are one again", |map| match map {
        [only] => (only.region.id() == root && only.region.range() == KeyRange::ALL).then_some(()),
        _ => None,
    });
}

/// Waits until PD's map has something.
fn come_to<T>(pd: &EmbeddedPd, what: &str, found: impl Fn(&[RegionInfo]) -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        let map = pd.scan_regions(KeyRange::ALL, 0).unwrap();
        if let Some(found) = found(&map) {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(40), "still not: {what}: {map:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
