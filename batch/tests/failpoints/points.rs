//! Every point x every command x {error, panic, delay} (T4): what is stored is the state before or the state after, never
//! anything between, and nobody was told otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::unbounded;
use fail::FailScenario;
use regionmeta_batch::apply::{Answer, AnswerError, ApplyPool, ApplySettings, ChannelHost};
use regionmeta_batch::storage::{MemStorage, Storage};
use regionmeta_batch::{FailPoint, Store};

use crate::cases::{self, CASES, Case, MAIN};
use crate::common::{Dump, at, builder, dump};
use crate::{WATCHDOG, alone};

/// A store on which a case can be applied.
pub(crate) fn prepared<S: Storage>(storage: S, case: Case) -> Store<S> {
    let store = cases::three_regions(storage);
    cases::prepare(&store, case);
    store
}

/// What became of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The first refusal among the answers; `None` if there is none, and a panic took an entry.
    answer: Option<Result<(), AnswerError>>,
    /// Whether readers saw anything new.
    is_published: bool,
}

impl Outcome {
    fn is_done(&self) -> bool {
        matches!(self.answer, Some(Ok(())))
    }
}

/// Sends the entries of a case through a pool, all in one batch.
pub(crate) fn run<S: Storage>(store: Store<S>, case: Case) -> Outcome {
    let store = Arc::new(store);
    let sequence = store.meta().sequence();
    let (sender, answers) = unbounded::<Answer<Arc<()>>>();
    let settings = ApplySettings { workers: 1, ..ApplySettings::default() };
    let pool = ApplyPool::start(store.clone(), ChannelHost::new(sender), settings).unwrap();
    let tag = Arc::new(());
    let entries = cases::entries(&store, case, &tag);
    let sent = entries.len();
    pool.router().region(case.region).unwrap().try_send_all(&mut entries.into()).unwrap();
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
    let answer = heard.into_iter().reduce(Result::and).filter(|answer| are_all_there || answer.is_err());
    Outcome { answer, is_published: store.meta().sequence() != sequence }
}

/// The content of the storage before and after a case, as an open finds and leaves it.
pub(crate) fn before_and_after(case: Case) -> (Dump, Dump) {
    let disk = MemStorage::new();
    let store = prepared(disk.clone(), case);
    let before = dump(&disk);
    assert!(run(store, case).is_done(), "{case:?} is refused");
    drop(builder().open_storage(disk.clone()).unwrap()); // finishes a destroy
    (before, dump(&disk))
}

/// Opens what is left, and says whether the case is in it.
#[track_caller]
pub(crate) fn reopened<S: Storage>(storage: S, (before, after): &(Dump, Dump), what: &str) -> bool {
    let store = builder().open_storage(storage).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(store.meta().snapshot().validate(), [], "{what}");
    let found = dump(store.storage());
    assert!(found == *before || found == *after, "{what}: neither before nor after");
    found == *after
}

/// Whether the batch is on disk when the way comes to a point.
pub(crate) fn is_written_at(point: FailPoint) -> bool {
    is_behind(point, FailPoint::Written)
}

/// Whether a point is another one, or behind it.
fn is_behind(point: FailPoint, other: FailPoint) -> bool {
    let position = |point| FailPoint::ALL.iter().position(|known| *known == point);
    position(point) >= position(other)
}

#[test]
fn every_point_and_every_command_with_an_error_a_panic_and_a_delay() {
    let _alone = alone();
    for case in CASES.into_iter().chain(["five changes"]).map(cases::in_the_middle) {
        let expected = before_and_after(case);
        for point in FailPoint::ALL {
            for action in ["error", "panic", "delay"] {
                inject(case, point, action, &expected);
            }
        }
    }
}

fn inject(case: Case, point: FailPoint, action: &'static str, expected: &(Dump, Dump)) {
    let what = format!("{} at {} with {action}", case.name, point.name());
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
    let outcome = run(store, case);
    scenario.teardown();
    let done = reopened(disk, expected, &what);
    if action == "delay" {
        assert!(reached.load(Ordering::Relaxed) > 0, "{what}: never reached");
        assert!(done && outcome.is_done(), "{what}: {outcome:?}");
        return;
    }
    // Answers are given before the last point only.
    assert_eq!(outcome.is_done(), point == FailPoint::Answered, "{what}: {outcome:?}");
    assert_eq!(done, is_written_at(point), "{what}");
    assert!(!outcome.is_published || is_behind(point, FailPoint::Published), "{what}: published too early");
}

/// A region that another batch holds is not asked for again and again: a worker that did so would be busy with nothing.
#[test]
fn a_worker_does_not_spin_for_a_region_that_another_batch_holds() {
    let _alone = alone();
    let store = Arc::new(cases::three_regions(MemStorage::new()));
    let mut other = store.begin();
    other.advance(MAIN, at(cases::next(&store, MAIN))).unwrap();
    let scenario = FailScenario::setup();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    fail::cfg_callback(FailPoint::Check.name(), move || {
        counted.fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();
    let (sender, answers) = unbounded::<Answer<Arc<()>>>();
    let pool = ApplyPool::start(store.clone(), ChannelHost::new(sender), ApplySettings::default()).unwrap();
    let held = cases::entry(&store, cases::in_the_middle("write"), Arc::new(()));
    pool.router().send(MAIN, held).unwrap();
    let started = Instant::now();
    while tries.load(Ordering::Relaxed) == 0 {
        assert!(started.elapsed() < WATCHDOG, "it is never tried");
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(tries.load(Ordering::Relaxed), 1);
    drop(other);
    assert!(answers.recv_timeout(WATCHDOG).unwrap().result.is_ok());
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    scenario.teardown();
}
