//! Three stores and a PD, each a process of its own, on real RocksDB: a cluster with nothing but this repository.
//!
//! There is no Raft here: a region's only peer is on the store that has it, and that store applies its changes.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use regionmeta::{AdminCommand, BatchSplit, KeyRange, LogPosition, Region, SplitRequest, Term};
use regionmeta_batch::pd::grpc::{GrpcPd, GrpcSettings};
use regionmeta_batch::pd::{
    HeartbeatDriver, HeartbeatSettings, Heartbeats, OperatorHost, PdClient, PdError, Proposal, SystemClock,
};
use regionmeta_batch::storage::RocksStorage;
use regionmeta_batch::{OpenError, Store, StoreBuilder};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::common::{CLUSTER, eventually};

const ROLE: &str = "REGIONMETA_TEST_STORE";
const PD: &str = "REGIONMETA_TEST_PD";
/// Begins and ends every line that a store means for its parent.
const MARKS: (&str, &str) = ("@store ", " @");
/// New regions of one split.
const CHILDREN: usize = 8;

// --- the store's process -------------------------------------------------------------------------------------------

/// Not a test of its own: one store, as long as its parent wants. Does nothing without a parent.
#[test]
#[ignore = "plays a store in the test that needs three"]
fn store_process() {
    let (Ok(directory), Ok(address)) = (std::env::var(ROLE), std::env::var(PD)) else { return };
    let settings = GrpcSettings { deadline: Duration::from_secs(1), ..GrpcSettings::default() };
    let pd: Arc<dyn PdClient> = Arc::new(GrpcPd::new(CLUSTER, &[address], settings).unwrap());
    let store = open(Path::new(&directory), &*pd);
    let settings = HeartbeatSettings { interval: Duration::from_secs(5), ..HeartbeatSettings::default() };
    let tasks = Heartbeats::new(store.ident().store_id, store.meta().clone(), &settings, SystemClock::new());
    let tasks = Arc::new(tasks);
    let mut driver = HeartbeatDriver::new(Arc::clone(&tasks), Arc::clone(&pd), NoOperators, &settings);
    let run = move || driver.run(&AtomicBool::new(false));
    thread::Builder::new().name("heartbeats".to_owned()).spawn(run).unwrap();
    store.meta().snapshot().regions().for_each(|region| lead(&tasks, region));
    say(&format!("{} {}", store.ident().store_id, store.meta().snapshot().len()));
    for command in std::io::stdin().lock().lines() {
        match command.unwrap().split_once(' ').unwrap() {
            ("split", until) => split(&store, &*pd, &tasks, until.parse().unwrap()),
            ("map", _) => store.meta().snapshot().regions().for_each(|region| say(&region.to_string())),
            (other, _) => panic!("no such command: {other}"),
        }
        say("done");
    }
}

/// A store that was here before; otherwise a new one, which may lose the race for the first region.
fn open(directory: &Path, pd: &dyn PdClient) -> Store<RocksStorage> {
    let builder = || StoreBuilder::new(CLUSTER).address("store").pd_patience(20, Duration::from_millis(100));
    match builder().open(directory) {
        Err(OpenError::Storage(_)) => builder().bootstrap(directory, pd).unwrap(),
        opened => opened.unwrap(),
    }
}

#[derive(Debug)]
struct NoOperators;

impl OperatorHost for NoOperators {
    fn propose(&self, proposal: Proposal) {
        panic!("nobody asked for {proposal:?}");
    }
}

fn lead(tasks: &Heartbeats<SystemClock>, region: &Region) {
    let peer = region.peers().next().unwrap().id;
    assert!(tasks.lead(region.id(), peer, Term::new(6)));
    tasks.announce(region.id());
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{}{line}{}", MARKS.0, MARKS.1).unwrap();
    out.flush().unwrap();
}

/// Splits the last region until there are so many, each time with ids from PD, however long PD is away.
fn split(store: &Store<RocksStorage>, pd: &dyn PdClient, tasks: &Heartbeats<SystemClock>, until: usize) {
    loop {
        let snapshot = store.meta().snapshot();
        let (count, last) = (snapshot.len(), snapshot.regions().last().unwrap().clone());
        if count >= until {
            return;
        }
        let children = CHILDREN.min(until - count);
        let ids = match pd.ask_batch_split(&last, children) {
            // PD has heard of the parent's new end, and not yet of the child behind it.
            Err(PdError::RegionNotFound { .. }) => continue,
            Err(error) if error.is_transient() => continue,
            ids => ids.unwrap(),
        };
        let requests = ids.into_iter().zip(count..).map(|(ids, at)| SplitRequest {
            split_key: format!("{at:06}").into_bytes(),
            new_region_id: ids.region_id,
            new_peer_ids: ids.peer_ids,
        });
        let command = BatchSplit { requests: requests.collect(), right_derive: false, shares_size: false };
        let index = store.apply_state(last.id()).applied_index.get() + 1;
        let entry = LogPosition { index: index.into(), term: 6.into() };
        let mut batch = store.begin();
        batch.apply(last.id(), entry, last.epoch(), &AdminCommand::BatchSplit(command)).unwrap();
        batch.commit().unwrap();
        let made = store.meta().snapshot();
        let made: Vec<_> = made.overlapping(last.range()).cloned().collect();
        made.iter().for_each(|region| lead(tasks, region));
        match pd.report_batch_split(&made) {
            Err(error) if !error.is_transient() => panic!("{error}"),
            _ => {}
        }
    }
}

// --- the parent ----------------------------------------------------------------------------------------------------

/// A process, killed at the latest when it is dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// The next line between the marks.
    fn heard(&mut self, marks: (&str, &str)) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the process has ended");
            if let Some(said) = line.trim_end().strip_prefix(marks.0).and_then(|said| said.strip_suffix(marks.1)) {
                return said.to_owned();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    fn terminate(mut self) -> ExitStatus {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct StoreProcess(Process);

impl StoreProcess {
    fn spawn(directory: &Path, pd: SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "processes::store_process", "--ignored", "--nocapture", "--test-threads=1"]);
        Self(Process::spawn(command.env(ROLE, directory).env(PD, pd.to_string())))
    }

    /// Its id, and how many regions it opened with.
    fn born(&mut self) -> (u64, usize) {
        let said = self.0.heard(MARKS);
        let (id, regions) = said.split_once(' ').unwrap();
        (id.parse().unwrap(), regions.parse().unwrap())
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.0.input, "{command}").unwrap();
    }

    /// What it says until it is done.
    fn answer(&mut self) -> Vec<String> {
        let lines = std::iter::from_fn(|| Some(self.0.heard(MARKS)).filter(|line| line != "done"));
        lines.collect()
    }

    fn ask(&mut self, command: &str) -> Vec<String> {
        self.tell(command);
        self.answer()
    }
}

fn pd_command(directory: &Path, listen: &str, cluster: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regionmeta-pd"));
    command.arg("--data-dir").arg(directory).args(["--listen", listen, "--cluster-id", cluster]);
    command
}

fn spawn_pd(directory: &Path, listen: &str) -> (Process, SocketAddr) {
    let mut process = Process::spawn(&mut pd_command(directory, listen, &CLUSTER.to_string()));
    let address = process.heard(("listening on ", "")).parse().unwrap();
    (process, address)
}

/// The stores' regions in key order, and PD's.
fn maps(stores: &mut [StoreProcess], pd: &dyn PdClient) -> (Vec<String>, Vec<String>) {
    let of_stores = stores.iter_mut().flat_map(|store| store.ask("map now")).collect();
    let of_pd = pd.scan_regions(KeyRange::ALL, 0).unwrap_or_default();
    (of_stores, of_pd.iter().map(|found| found.region.to_string()).collect())
}

fn come_to_agree(stores: &mut [StoreProcess], pd: &dyn PdClient, regions: usize) {
    eventually("PD's map is the stores'", || {
        let (of_stores, of_pd) = maps(stores, pd);
        of_stores.len() == regions && of_stores == of_pd
    });
}

/// Every region by its id, by its first key, and as what lies before the next one.
fn look_everything_up(pd: &dyn PdClient) {
    let all = pd.scan_regions(KeyRange::ALL, 0).unwrap();
    for (at, info) in all.iter().enumerate().step_by(13) {
        assert_eq!(pd.get_region(info.region.start_key()).unwrap().as_ref(), Some(info));
        assert_eq!(pd.get_region_by_id(info.region.id()).unwrap().as_ref(), Some(info));
        let before = at.checked_sub(1).and_then(|before| all.get(before));
        assert_eq!(pd.get_prev_region(info.region.start_key()).unwrap().as_ref(), before);
        let page = pd.scan_regions(KeyRange::from_wire(info.region.start_key(), b""), 10).unwrap();
        assert_eq!(page, all[at..all.len().min(at + 10)]);
    }
}

/// What a process says before it ends by itself, on standard error.
fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_pd_says_what_goes_wrong() {
    let directory = TempDir::new().unwrap();
    let said = fails(&mut pd_command(directory.path(), "0.0.0.0:0", "7"));
    assert!(said.contains("--advertise"), "{said}");

    let pd = pd_command(directory.path(), "127.0.0.1:0", "7").stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut pd = pd.unwrap();
    let mut log = String::new();
    BufReader::new(pd.stderr.take().unwrap()).read_line(&mut log).unwrap();
    pd.kill().unwrap();
    pd.wait().unwrap();
    assert!(log.contains("serving PD address=127.0.0.1:"), "{log:?}");

    let said = fails(&mut pd_command(directory.path(), "127.0.0.1:0", "8"));
    assert!(said.contains("belongs to cluster 7"), "{said}");
}

#[test]
fn three_stores_and_a_pd() {
    let started = Instant::now();
    let directory = TempDir::new().unwrap();
    let path = |name: &str| -> PathBuf { directory.path().join(name) };
    let (pd_process, address) = spawn_pd(&path("pd"), "127.0.0.1:0");
    let pd = GrpcPd::new(CLUSTER, &[address.to_string()], GrpcSettings::default()).unwrap();

    // The race: one of three has the first region, and all three know of each other.
    let mut stores: Vec<_> = (1..=3).map(|n| StoreProcess::spawn(&path(&format!("store{n}")), address)).collect();
    let born: Vec<_> = stores.iter_mut().map(StoreProcess::born).collect();
    assert_eq!(born.iter().map(|&(_, regions)| regions).sum::<usize>(), 1, "{born:?}");
    let winner = born.iter().position(|&(_, regions)| regions == 1).unwrap();
    let mut registered: Vec<_> = pd.get_all_stores().unwrap().iter().map(|store| store.id.get()).collect();
    let mut expected: Vec<_> = born.iter().map(|&(id, _)| id).collect();
    registered.sort_unstable();
    expected.sort_unstable();
    assert_eq!(registered, expected);
    let owner = pd.get_region(b"").unwrap().unwrap();
    assert_eq!(owner.region.peers().next().unwrap().store_id.get(), born[winner].0);

    stores[winner].ask("split 1000");
    come_to_agree(&mut stores, &pd, 1000);
    look_everything_up(&pd);

    // PD dies in the middle of splits, and comes back with what it knew.
    stores[winner].tell("split 1200");
    eventually("splits are under way", || pd.scan_regions(KeyRange::ALL, 0).is_ok_and(|found| found.len() > 1000));
    pd_process.kill();
    stores[winner].tell("split 1300"); // which cannot be done while PD is away
    assert!(pd.alloc_id().is_err_and(|error| PdError::is_transient(&error)));
    let (pd_process, _) = spawn_pd(&path("pd"), &address.to_string());
    stores[winner].answer();
    stores[winner].answer();
    come_to_agree(&mut stores, &pd, 1300);

    // A store dies, and comes back with its regions.
    stores.remove(winner).0.kill();
    stores.insert(winner, StoreProcess::spawn(&path(&format!("store{}", winner + 1)), address));
    assert_eq!(stores[winner].born(), (born[winner].0, 1300));
    stores[winner].ask("split 1350");
    come_to_agree(&mut stores, &pd, 1350);
    look_everything_up(&pd);

    // A PD that knows nothing but what is on its disk, and no heartbeat since.
    let (before, _) = maps(&mut stores, &pd);
    drop(stores);
    pd_process.kill();
    let (pd_process, _) = spawn_pd(&path("pd"), &address.to_string());
    eventually("PD is back", || pd.is_bootstrapped() == Ok(true));
    let after: Vec<_> =
        pd.scan_regions(KeyRange::ALL, 0).unwrap().iter().map(|found| found.region.to_string()).collect();
    assert_eq!(after, before);

    // It ends when it is asked to.
    assert!(pd_process.terminate().success());
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
