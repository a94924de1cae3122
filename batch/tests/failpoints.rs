//! Every failpoint x every command x {error, panic, delay, kill -9}, with reopen (T4): what is stored is the state before or
//! the state after, never anything between, and nobody was told otherwise. A point that is never reached fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail, and a panic says where"
)]

#[path = "it/common.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with the other test binary")]
mod common;

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::unbounded;
use fail::FailScenario;
use regionmeta::layout::raft_state_key;
use regionmeta::{
    AdminCommand, AdminHeader, AdminRequest, BatchSwitchWitness, ChangeKind, ChangePeerV2, CommitMerge, CompactLog,
    ComputeHash, FinishFlashback, HardState, LogPosition, PeerChange, PrepareFlashback, PrepareMerge, RaftState,
    Region, RegionId, RollbackMerge, Split, SplitRequest, TransferLeader, VerifyHash, WitnessSwitch,
};
use regionmeta_batch::apply::{Answer, AnswerError, ApplyPool, ApplySettings, ChannelHost, Data, Entry, Mutation};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Family, MemStorage, RocksStorage, Storage};
use regionmeta_batch::{FailPoint, Store, records};
use rustix::process::{Signal, getpid, kill_process};
use std::os::unix::process::ExitStatusExt;

use common::{CLUSTER, Dump, add, add_learner, at, builder, dump, learner, remove, split, voter};

/// Failpoints belong to the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const LEFT: RegionId = RegionId::new(2);
const RIGHT: RegionId = RegionId::new(10);
/// The one that no case touches.
const BESIDE: RegionId = RegionId::new(50);
const WATCHDOG: Duration = Duration::from_secs(30);

/// Every command, an ordinary write, and the removal of this store's peer.
const CASES: [&str; 16] = [
    "write",
    "ChangePeer",
    "Destroy",
    "Split",
    "CompactLog",
    "TransferLeader",
    "ComputeHash",
    "VerifyHash",
    "PrepareMerge",
    "CommitMerge",
    "RollbackMerge",
    "BatchSplit",
    "ChangePeerV2",
    "PrepareFlashback",
    "FinishFlashback",
    "BatchSwitchWitness",
];

/// Three regions in a row, each with peers on stores 1 and 2.
fn prepared<S: Storage>(storage: S, case: &str) -> Store<S> {
    let store = builder().bootstrap_storage(storage, &EmbeddedPd::new(CLUSTER)).unwrap();
    apply(&store, LEFT, &add(voter(4, 2)));
    apply(&store, LEFT, &split("m", 10, &[11, 12]));
    apply(&store, RIGHT, &split("t", 50, &[51, 52]));
    match case {
        "CommitMerge" | "RollbackMerge" => apply(&store, RIGHT, &prepare_merge(&store)),
        "FinishFlashback" => apply(&store, LEFT, &AdminCommand::PrepareFlashback(PrepareFlashback { start_ts: 9 })),
        "CompactLog" => {
            let mut batch = store.begin();
            batch.advance(LEFT, at(8)).unwrap();
            batch.advance(LEFT, at(9)).unwrap();
            // The host's log, which the truncation must not overtake.
            let hard_state = HardState { term: 6.into(), vote: 0.into(), commit: 9.into() };
            let log = RaftState { hard_state, last_index: 9.into() };
            records::put(store.storage(), batch.data(), Family::Raft, &raft_state_key(LEFT), &log).unwrap();
            batch.commit().unwrap();
        }
        _ => {}
    }
    store
}

fn apply<S: Storage>(store: &Store<S>, id: RegionId, command: &AdminCommand) {
    let mut batch = store.begin();
    batch.apply(id, at(next(store, id)), region(store, id).epoch(), command).unwrap();
    batch.commit().unwrap();
}

fn region<S: Storage>(store: &Store<S>, id: RegionId) -> Region {
    store.meta().snapshot().get(id).unwrap().region().clone()
}

fn next<S: Storage>(store: &Store<S>, id: RegionId) -> u64 {
    store.apply_state(id).applied_index.get() + 1
}

fn prepare_merge<S: Storage>(store: &Store<S>) -> AdminCommand {
    let min_index = next(store, RIGHT).into();
    AdminCommand::PrepareMerge(PrepareMerge { target: region(store, LEFT), min_index })
}

/// What a case applies, and to which region.
fn case_command<S: Storage>(store: &Store<S>, case: &str) -> (RegionId, Option<AdminCommand>) {
    let right = || region(store, RIGHT);
    let prepared_at = || right().merge_state().unwrap().commit;
    let request = || SplitRequest {
        split_key: b"f".to_vec(),
        new_region_id: 30.into(),
        new_peer_ids: vec![31.into(), 32.into()],
    };
    let change = |kind, peer| PeerChange { kind, peer };
    let command = match case {
        "write" => return (LEFT, None),
        "ChangePeer" => add_learner(learner(40, 3)),
        "Destroy" => remove(voter(3, 1)),
        "Split" => AdminCommand::Split(Split { request: request(), right_derive: true }),
        "CompactLog" => {
            let compact = LogPosition { index: 8.into(), term: 6.into() };
            AdminCommand::CompactLog(CompactLog { compact, voter_replicated_index: 9.into() })
        }
        "TransferLeader" => AdminCommand::TransferLeader(TransferLeader { transferees: vec![voter(4, 2)] }),
        "ComputeHash" => AdminCommand::ComputeHash(ComputeHash { context: Vec::new() }),
        "VerifyHash" => AdminCommand::VerifyHash(VerifyHash { index: 6.into(), hash: vec![1], context: Vec::new() }),
        "PrepareMerge" => return (RIGHT, Some(prepare_merge(store))),
        "CommitMerge" => {
            let (source, commit) = (right(), prepared_at());
            AdminCommand::CommitMerge(CommitMerge { source, commit, entries: Vec::new() })
        }
        "RollbackMerge" => {
            return (RIGHT, Some(AdminCommand::RollbackMerge(RollbackMerge { commit: prepared_at() })));
        }
        "BatchSplit" => split("f", 30, &[31, 32]),
        "ChangePeerV2" => {
            let changes =
                vec![change(ChangeKind::AddLearner, learner(4, 2)), change(ChangeKind::AddNode, voter(40, 3))];
            AdminCommand::ChangePeerV2(ChangePeerV2 { changes })
        }
        "PrepareFlashback" => AdminCommand::PrepareFlashback(PrepareFlashback { start_ts: 9 }),
        "FinishFlashback" => AdminCommand::FinishFlashback(FinishFlashback),
        "BatchSwitchWitness" => {
            let switches = vec![WitnessSwitch { peer_id: 4.into(), is_witness: true }];
            AdminCommand::BatchSwitchWitness(BatchSwitchWitness { switches })
        }
        other => panic!("no such case: {other}"),
    };
    (LEFT, Some(command))
}

/// What a case sends: one entry, or five changes of one region.
fn entries<S: Storage>(store: &Store<S>, case: &str, tag: &Arc<()>) -> (RegionId, VecDeque<Entry<S, Arc<()>>>) {
    if case != "five changes" {
        let (id, entry) = entry(store, case, tag.clone());
        return (id, VecDeque::from([entry]));
    }
    let (first, epoch) = (next(store, LEFT), region(store, LEFT).epoch());
    let changes = [
        (0, add_learner(learner(40, 3))),
        (1, add(voter(40, 3))),
        (2, add_learner(learner(41, 4))),
        (3, remove(learner(41, 4))),
        (4, split("f", 30, &[31, 32, 33])),
    ];
    let entry = |(number, command)| {
        let epoch = epoch.with_conf_ver_moved(number).unwrap();
        let request = AdminRequest { header: AdminHeader::new(LEFT, epoch), command };
        let put = Mutation::Put { key: b"host".to_vec(), value: number.to_string().into_bytes() };
        Entry::admin(at(first + number), request, tag.clone()).with_data(Data::List(vec![put]))
    };
    (LEFT, changes.into_iter().map(entry).collect())
}

fn entry<S: Storage>(store: &Store<S>, case: &str, tag: Arc<()>) -> (RegionId, Entry<S, Arc<()>>) {
    let (id, command) = case_command(store, case);
    let put = || Data::List(vec![Mutation::Put { key: b"host".to_vec(), value: case.as_bytes().to_vec() }]);
    let (position, epoch) = (at(next(store, id)), region(store, id).epoch());
    let entry = match command {
        None => Entry::write(position, epoch, put(), tag),
        Some(command) => {
            let flashback = command.kind() == regionmeta::AdminKind::PrepareFlashback
                || command.kind() == regionmeta::AdminKind::FinishFlashback;
            let header = AdminHeader { flashback, ..AdminHeader::new(id, epoch) };
            Entry::admin(position, AdminRequest { header, command }, tag).with_data(put())
        }
    };
    (id, entry)
}

/// Sends the entries of a case through a pool, all in one batch, and returns the first refusal among their answers; `None` if
/// there is none, and a panic took an entry.
fn run<S: Storage>(store: Store<S>, case: &str) -> Option<Result<(), AnswerError>> {
    let store = Arc::new(store);
    let (sender, answers) = unbounded::<Answer<Arc<()>>>();
    let settings = ApplySettings { workers: 1, ..ApplySettings::default() };
    let pool = ApplyPool::start(store.clone(), ChannelHost::new(sender), settings).unwrap();
    let tag = Arc::new(());
    let (id, mut entries) = entries(&store, case, &tag);
    let sent = entries.len();
    pool.router().region(id).unwrap().try_send_all(&mut entries).unwrap();
    let (started, mut heard) = (Instant::now(), Vec::new());
    loop {
        // A tag is gone with its entry: either it is in an answer, or a panic took it.
        let is_over = Arc::strong_count(&tag) == 1;
        match answers.recv_timeout(Duration::from_millis(2)) {
            Ok(answer) => heard.push(answer.result.map(drop)),
            Err(_) if is_over => break,
            Err(_) => assert!(started.elapsed() < WATCHDOG, "a deadlock"),
        }
    }
    let are_all_there = heard.len() == sent;
    let answer = heard.into_iter().reduce(Result::and);
    answer.filter(|answer| are_all_there || answer.is_err())
}

/// The content of the storage before and after a case, as an open finds and leaves it.
fn before_and_after(case: &str) -> (Dump, Dump) {
    let disk = MemStorage::new();
    let store = prepared(disk.clone(), case);
    let before = dump(&disk);
    assert!(matches!(run(store, case), Some(Ok(()))), "{case} is refused");
    drop(builder().open_storage(disk.clone()).unwrap()); // finishes a destroy
    (before, dump(&disk))
}

/// Opens what is left, and says whether the case is in it.
#[track_caller]
fn reopened<S: Storage>(storage: S, (before, after): &(Dump, Dump), what: &str) -> bool {
    let store = builder().open_storage(storage).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(store.meta().snapshot().validate(), [], "{what}");
    let found = dump(store.storage());
    assert!(found == *before || found == *after, "{what}: neither before nor after");
    found == *after
}

/// Whether the batch is on disk when the way comes to a point.
fn is_written_at(point: FailPoint) -> bool {
    let position = |point| FailPoint::ALL.iter().position(|other| *other == point);
    position(point) >= position(FailPoint::Written)
}

#[test]
fn every_point_and_every_command_with_an_error_a_panic_and_a_delay() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for case in CASES.into_iter().chain(["five changes"]) {
        let expected = before_and_after(case);
        for point in FailPoint::ALL {
            for action in ["error", "panic", "delay"] {
                inject(case, point, action, &expected);
            }
        }
    }
}

fn inject(case: &str, point: FailPoint, action: &'static str, expected: &(Dump, Dump)) {
    let what = format!("{case} at {} with {action}", point.name());
    let disk = MemStorage::new();
    let store = prepared(disk.clone(), case);
    let scenario = FailScenario::setup();
    let reached = Arc::new(AtomicUsize::new(0));
    match action {
        "error" => fail::cfg(point.name(), "return").unwrap(),
        "panic" => fail::cfg(point.name(), "panic").unwrap(),
        _ => {
            let reached = reached.clone();
            let wait = move || {
                reached.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            };
            fail::cfg_callback(point.name(), wait).unwrap();
        }
    }
    let answer = run(store, case);
    scenario.teardown();
    let done = reopened(disk, expected, &what);
    if action == "delay" {
        assert!(reached.load(Ordering::Relaxed) > 0, "{what}: never reached");
        assert!(done && matches!(answer, Some(Ok(()))), "{what}: {answer:?}");
        return;
    }
    // Answers are given before the last point only.
    let answered = point == FailPoint::Answered;
    assert_eq!(matches!(answer, Some(Ok(()))), answered, "{what}: {answer:?}");
    assert_eq!(done, is_written_at(point), "{what}");
}

/// Each command is held at each point, by the first of two workers; the other changes a region beside it, and that change is
/// published and answered meanwhile (T5). Then both are there.
#[test]
fn a_change_that_is_held_holds_up_nobody_else() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for case in CASES {
        for point in FailPoint::ALL {
            hold(case, point);
        }
    }
}

fn hold(case: &str, point: FailPoint) {
    let what = format!("{case} held at {}", point.name());
    let disk = MemStorage::new();
    let store = Arc::new(prepared(disk.clone(), case));
    let scenario = FailScenario::setup();
    let ((arrived, at_point), (open, gate)) = (unbounded(), unbounded::<()>());
    let first = AtomicBool::new(true);
    let stop_here = move || {
        if first.swap(false, Ordering::Relaxed) {
            arrived.send(()).unwrap();
            gate.recv_timeout(WATCHDOG).unwrap();
        }
    };
    fail::cfg_callback(point.name(), stop_here).unwrap();
    let (sender, answers) = unbounded::<Answer<Arc<()>>>();
    let settings = ApplySettings { workers: 2, ..ApplySettings::default() };
    let pool = ApplyPool::start(store.clone(), ChannelHost::new(sender), settings).unwrap();
    let tag = Arc::new(());
    let (id, held) = entry(&store, case, tag.clone());
    pool.router().send(id, held).unwrap();
    at_point.recv_timeout(WATCHDOG).unwrap_or_else(|_| panic!("{what}: never reached"));

    let (epoch, command) = (region(&store, BESIDE).epoch(), add_learner(learner(60, 3)));
    let request = AdminRequest { header: AdminHeader::new(BESIDE, epoch), command };
    pool.router().send(BESIDE, Entry::admin(at(next(&store, BESIDE)), request, tag)).unwrap();
    let answer = || answers.recv_timeout(WATCHDOG).unwrap_or_else(|_| panic!("{what}: a deadlock"));
    // The held change is answered already if it is held at the very end.
    let mut heard = vec![answer()];
    if heard[0].region != BESIDE {
        heard.push(answer());
    }
    assert_eq!(region(&store, BESIDE).peers().len(), 3, "{what}");

    open.send(()).unwrap();
    if heard.len() == 1 {
        heard.push(answer());
    }
    assert!(heard.iter().all(|answer| answer.result.is_ok()), "{what}: {heard:?}");
    pool.shut_down();
    scenario.teardown();
    drop(store);
    let reopened = builder().open_storage(disk).unwrap();
    assert_eq!(reopened.meta().snapshot().validate(), [], "{what}");
    assert_eq!(region(&reopened, BESIDE).peers().len(), 3, "{what}");
    assert!(reopened.storage().get(Family::Default, b"host").unwrap().is_some(), "{what}: the held change is lost");
}

/// A region that another batch holds is not asked for again and again: a worker that did so would be busy with nothing.
#[test]
fn a_worker_does_not_spin_for_a_region_that_another_batch_holds() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let store = Arc::new(prepared(MemStorage::new(), "write"));
    let mut other = store.begin();
    other.advance(LEFT, at(next(&store, LEFT))).unwrap();
    let scenario = FailScenario::setup();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    fail::cfg_callback(FailPoint::Check.name(), move || drop(counted.fetch_add(1, Ordering::Relaxed))).unwrap();
    let (sender, answers) = unbounded::<Answer<Arc<()>>>();
    let pool = ApplyPool::start(store.clone(), ChannelHost::new(sender), ApplySettings::default()).unwrap();
    let (id, held) = entry(&store, "write", Arc::new(()));
    pool.router().send(id, held).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(tries.load(Ordering::Relaxed), 1);
    drop(other);
    assert!(answers.recv_timeout(WATCHDOG).unwrap().result.is_ok());
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    scenario.teardown();
}

const CHILD_CASE: &str = "REGIONMETA_TEST_FAILPOINT";
const CHILD_DIRECTORY: &str = "REGIONMETA_TEST_DIRECTORY";

/// Not a test of its own: runs a case on RocksDB and kills itself at a point.
#[test]
#[ignore = "plays the process that is killed"]
fn child() {
    let (Ok(case), Ok(directory)) = (std::env::var(CHILD_CASE), std::env::var(CHILD_DIRECTORY)) else { return };
    let (case, point) = case.rsplit_once(' ').unwrap();
    let store = builder().open(&directory).unwrap();
    let _scenario = FailScenario::setup();
    fail::cfg_callback(point, || kill_process(getpid(), Signal::KILL).unwrap()).unwrap();
    drop(run(store, case));
}

#[test]
fn every_point_with_kill_9_on_rocksdb() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for case in ["write", "BatchSplit", "CommitMerge", "Destroy", "five changes"] {
        let expected = before_and_after(case);
        for point in FailPoint::ALL {
            let root = tempfile::TempDir::new().unwrap();
            let path = root.path().join("store");
            let storage = RocksStorage::create(&path, regionmeta_batch::storage::Durability::Synced).unwrap();
            drop(prepared(storage, case));
            kill_at(case, point, &path);
            let storage = RocksStorage::open(&path, regionmeta_batch::storage::Durability::Synced).unwrap();
            let what = format!("{case} at {} with kill -9", point.name());
            assert_eq!(reopened(storage, &expected, &what), is_written_at(point), "{what}");
        }
    }
}

fn kill_at(case: &str, point: FailPoint, path: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--ignored", "--test-threads=1", "--quiet"]);
    child.env(CHILD_CASE, format!("{case} {}", point.name())).env(CHILD_DIRECTORY, path);
    let output = child.output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{case} never came to {}: {output:?}", point.name());
}
