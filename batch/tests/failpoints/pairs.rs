//! Pairs of commands (T5): the first of two workers is held at a point of its way with command A, and command B is applied
//! meanwhile: to the same region, to its neighbour, or to the one that it merges with. Nobody waits for ever, whoever need not
//! wait does not, and what is there in the end is what one after the other would have left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};
use fail::FailScenario;
use regionmeta::RegionId;
use regionmeta_batch::apply::{Answer, AnswerError, ApplyPool, ApplySettings, ChannelHost, Entry};
use regionmeta_batch::storage::MemStorage;
use regionmeta_batch::{FailPoint, Store};

use crate::cases::{self, CASES, Case, MAIN, NEAR, PARTNER};
use crate::common::{Dump, at, builder, dump, setting};
use crate::{WATCHDOG, alone};

/// Where A is held: before anything, decided, reserved, written, published.
const POINTS: [FailPoint; 5] =
    [FailPoint::Taken, FailPoint::Planned, FailPoint::Reserved, FailPoint::Written, FailPoint::Answer];

/// How long B is given to come through while A is held, where it may have to wait for A.
const MAY_WAIT: Duration = Duration::from_millis(2);

/// A and B, prepared for; `store` is the state before both.
struct Pair {
    a: Case,
    b: Case,
    /// Built from the state after A, if both are of one region: its log is in that order.
    follows: bool,
}

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Became {
    Done,
    Refused,
    NotApplied,
    Closed,
}

/// What a run has left: the answers to A and to B, and the storage as an open finds and leaves it.
type Left = (Became, Became, Dump);

impl Pair {
    fn new(a: &'static str, b: &'static str, region: RegionId) -> Self {
        let partner = if region == MAIN { PARTNER } else { MAIN };
        Self {
            a: Case { name: a, region: MAIN, partner: PARTNER },
            b: Case { name: b, region, partner },
            follows: region == MAIN,
        }
    }

    /// B first, so that A is as it is by itself.
    fn prepared(&self, disk: &MemStorage) -> Store<MemStorage> {
        let store = cases::three_regions(disk.clone());
        cases::prepare(&store, self.b);
        cases::prepare(&store, self.a);
        store
    }

    /// The entry of B: as proposed before A was applied, or after it.
    fn b(&self, before: &Store<MemStorage>) -> Entry<MemStorage, ()> {
        if !self.follows {
            return cases::entry(before, self.b, ());
        }
        let disk = MemStorage::new();
        let running = Running::over(self.prepared(&disk), 1);
        running.send(MAIN, cases::entry(&running.store, self.a, ()));
        running.heard(MAIN);
        let is_live = |region| running.store.meta().snapshot().get(region).is_some();
        match (is_live(MAIN), is_live(self.b.partner)) {
            (true, true) => cases::entry(&running.store, self.b, ()),
            (true, false) => cases::entry(&running.store, Case { name: "write", ..self.b }, ()), // nobody to merge with
            (false, _) => Entry::empty(at(100), ()), // nobody will hear of it
        }
    }

    /// One after the other.
    fn in_order(&self, a_first: bool) -> Left {
        let disk = MemStorage::new();
        let running = Running::over(self.prepared(&disk), 1);
        let (entry_a, entry_b) = (cases::entry(&running.store, self.a, ()), self.b(&running.store));
        let mut both = [(MAIN, entry_a), (self.b.region, entry_b)].map(Some);
        let order = if a_first { [0, 1] } else { [1, 0] };
        let mut became = [Became::Closed; 2];
        for at in order {
            let (region, entry) = both[at].take().unwrap();
            if running.pool.router().send(region, entry).is_ok() {
                became[at] = running.heard(region);
            }
            running.settle();
        }
        running.left(became[0], became[1], disk)
    }

    /// Whether B may have to wait for A, because one of the two takes in the other's region.
    fn may_wait(&self) -> bool {
        self.follows
            || (self.a.name == "CommitMerge" && self.b.region == PARTNER)
            || (self.b.name == "CommitMerge" && self.b.partner == MAIN)
    }
}

struct Running {
    store: Arc<Store<MemStorage>>,
    pool: ApplyPool<MemStorage, ChannelHost<()>>,
    answers: Receiver<Answer<()>>,
}

impl Running {
    fn over(store: Store<MemStorage>, workers: usize) -> Self {
        let (sender, answers) = unbounded();
        let store = Arc::new(store);
        let settings = ApplySettings { workers, ..ApplySettings::default() };
        let pool = ApplyPool::start(store.clone(), ChannelHost::new(sender), settings).unwrap();
        Self { store, pool, answers }
    }

    fn send(&self, region: RegionId, entry: Entry<MemStorage, ()>) {
        self.pool.router().send(region, entry).unwrap();
    }

    #[track_caller]
    fn heard(&self, region: RegionId) -> Became {
        let answer = self.answers.recv_timeout(WATCHDOG).expect("a deadlock");
        assert_eq!(answer.region, region);
        became(answer)
    }

    /// Waits until whoever leaves has left: after the answers.
    fn settle(&self) {
        let started = std::time::Instant::now();
        while self.pool.router().len() > self.store.meta().snapshot().len() {
            assert!(started.elapsed() < WATCHDOG, "a region does not leave");
            std::thread::yield_now();
        }
    }

    fn left(self, a: Became, b: Became, disk: MemStorage) -> Left {
        self.pool.shut_down();
        drop(self.store);
        let store = builder().open_storage(disk).unwrap();
        assert_eq!(store.meta().snapshot().validate(), []);
        (a, b, dump(store.storage()))
    }
}

fn became(answer: Answer<()>) -> Became {
    match answer.result {
        Ok(_) => Became::Done,
        Err(AnswerError::Refused(_) | AnswerError::EpochNotMatch { .. }) => Became::Refused,
        Err(AnswerError::NotApplied(_)) => Became::NotApplied,
        Err(AnswerError::Closed { .. }) => Became::Closed,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn whatever_is_held_everything_else_goes_on() {
    let _alone = alone();
    for region in [MAIN, NEAR, PARTNER] {
        for (a, b) in CASES.into_iter().flat_map(|a| CASES.map(|b| (a, b))) {
            if is_everyday(a) && is_everyday(b) || setting("REGIONMETA_ALL_PAIRS", 0) > 0 {
                hold_at_each(&POINTS, &Pair::new(a, b, region));
            }
        }
    }
}

/// Those left out do what another one does: `Split`, `PrepareFlashback`, and the two that change as little as `ComputeHash`.
fn is_everyday(case: &str) -> bool {
    !["Split", "PrepareFlashback", "TransferLeader", "VerifyHash"].contains(&case)
}

/// At all the other points, one change beside it.
#[test]
fn at_no_point_is_a_neighbour_held_up() {
    let _alone = alone();
    CASES.into_iter().for_each(|a| hold_at_each(&FailPoint::ALL, &Pair::new(a, "ChangePeer", NEAR)));
}

#[track_caller]
fn hold_at_each(points: &[FailPoint], pair: &Pair) {
    let mut one_after_the_other = vec![pair.in_order(true)];
    if !pair.follows {
        one_after_the_other.push(pair.in_order(false));
    }
    for &point in points {
        let (a, b) = (pair.a.name, pair.b);
        let what = format!("{a} held at {}, {} of region {} meanwhile", point.name(), b.name, b.region);
        let found = hold(pair, point, &what);
        let answers = |left: &Left| (left.0, left.1);
        let expected: Vec<_> = one_after_the_other.iter().map(answers).collect();
        assert!(one_after_the_other.contains(&found), "{what}: {:?}, but {expected:?}", answers(&found));
    }
}

fn hold(pair: &Pair, point: FailPoint, what: &str) -> Left {
    let disk = MemStorage::new();
    let store = pair.prepared(&disk);
    let (entry_a, entry_b) = (cases::entry(&store, pair.a, ()), pair.b(&store));
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
    let running = Running::over(store, 2);
    running.send(MAIN, entry_a);
    at_point.recv_timeout(WATCHDOG).unwrap_or_else(|_| panic!("{what}: never reached"));
    running.send(pair.b.region, entry_b);
    let patience = if pair.may_wait() { MAY_WAIT } else { WATCHDOG };
    let mut heard = Vec::from_iter(running.answers.recv_timeout(patience));
    if !pair.may_wait() && heard.iter().all(|answer| answer.region == MAIN) {
        heard.extend(running.answers.recv_timeout(patience)); // A is held at the very end, and answered
    }
    let is_through = heard.iter().any(|answer| answer.region == pair.b.region);
    assert!(pair.may_wait() || is_through, "{what}: it does not come through");
    open.send(()).unwrap();
    while heard.len() < 2 {
        heard.push(running.answers.recv_timeout(WATCHDOG).unwrap_or_else(|_| panic!("{what}: a deadlock")));
    }
    running.settle();
    scenario.teardown();
    let a_first = pair.follows || heard[0].region == MAIN;
    let mut became = heard.into_iter().map(became);
    let (one, other) = (became.next().unwrap(), became.next().unwrap());
    if a_first { running.left(one, other, disk) } else { running.left(other, one, disk) }
}
