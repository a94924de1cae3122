//! Random changes by three writers beside two readers, a subscriber and one who follows a view, in random interleavings.
//!
//! Over `core/src/sync/locked.rs`, since shuttle cannot see into arc-swap. Loom looks at every interleaving of a few steps;
//! here histories are long and changes of every kind, and whatever anybody saw is held against the naive model.
//!
//! `REGIONMETA_SEED` replays a run, `SHUTTLE_ITERATIONS` says how many interleavings it has.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking; clippy knows test functions, not helpers")]

use std::sync::{Arc, Mutex};

use regionmeta::testkit::{History, Model};
use regionmeta::{Changeset, PeerId, Published, ReadHandle, Reader, Region, RegionId, Snapshot, StoreId, StoreMeta};
use shuttle::rand::Rng;
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

const STORE: StoreId = StoreId::new(1);
const WRITERS: usize = 3;
const READERS: usize = 2;
const CHANGES: usize = 4;
const LOOKS: usize = 6;

/// What happened in one interleaving. Its locks are std's: shuttle does not stop anybody who holds one.
#[derive(Default)]
struct Record {
    published: Mutex<Vec<(Snapshot, Changeset)>>,
    seen: Mutex<Vec<Snapshot>>,
    heard: Mutex<Vec<Published>>,
    viewed: Mutex<Vec<Viewed>>,
    /// The newest sequence number that anybody has seen and told the others of.
    told: AtomicU64,
}

/// What a view answered, at a moment between two sequence numbers.
struct Viewed {
    region: RegionId,
    peer: Option<PeerId>,
    found: Option<Region>,
    between: std::ops::RangeInclusive<u64>,
}

impl Viewed {
    /// Whether it is what that state has for the view's peer.
    fn is_of(&self, state: &Snapshot) -> bool {
        let entry = state.get(self.region).map(|entry| entry.region());
        let live = entry.filter(|region| region.peer_on(STORE).map(|peer| peer.id) == self.peer);
        match (live, &self.found) {
            (Some(live), Some(found)) => live.same_buffer(found),
            (live, found) => live.is_none() && found.is_none(),
        }
    }
}

impl Record {
    fn saw(&self, snapshot: &Snapshot) {
        self.told.fetch_max(snapshot.sequence().get(), Ordering::SeqCst);
        self.seen.lock().unwrap().push(snapshot.clone());
    }

    /// The published changesets, one after the other on the naive model, give each state that anybody saw: so no update was
    /// lost, nothing was seen that was refused or given up, and every state is one of the history.
    fn check(&self, last: Snapshot) {
        let mut published = self.published.lock().unwrap();
        published.sort_by_key(|(state, _)| state.sequence());
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.push(last);
        let mut model = Model::new(Some(STORE));
        agree(&model, &seen);
        for (state, changeset) in published.iter() {
            assert_eq!(model.objections(changeset), [].into(), "published as {state:?}");
            model.publish(changeset);
            assert_eq!(model.check(state), Ok(()));
            agree(&model, &seen);
        }
        self.check_heard(&published);
        self.check_viewed(&published);
        let count = published.len() as u64;
        assert_eq!(seen.iter().map(|state| state.sequence().get()).max(), Some(count), "seen, and never published");
    }
}

impl Record {
    /// An event is the changeset of its number, whole.
    fn check_heard(&self, published: &[(Snapshot, Changeset)]) {
        for event in self.heard.lock().unwrap().iter() {
            let (_, changeset) = published.iter().find(|(state, _)| state.sequence() == event.sequence()).unwrap();
            assert_eq!(format!("{:?}", event.changes()), format!("{:?}", changeset.changes()));
        }
    }

    /// A view's answer is that of a state that was current while it was asked.
    fn check_viewed(&self, published: &[(Snapshot, Changeset)]) {
        for viewed in self.viewed.lock().unwrap().iter() {
            let mut then = published.iter().filter(|(state, _)| viewed.between.contains(&state.sequence().get()));
            assert!(then.any(|(state, _)| viewed.is_of(state)), "{:?} between {:?}", viewed.found, viewed.between);
        }
    }
}

/// Every state of the model's sequence number is the model's.
fn agree(model: &Model, seen: &[Snapshot]) {
    for state in seen.iter().filter(|state| state.sequence() == model.sequence()) {
        assert_eq!(model.check(state), Ok(()));
        assert_eq!(state.validate(), []);
    }
}

/// Computes changes from what the map shows, and publishes them, gives them up or is refused, as chance will have it.
fn write(meta: &StoreMeta, history: &Mutex<History>, record: &Record) {
    for _ in 0..CHANGES {
        let before = meta.snapshot();
        let changeset = history.lock().unwrap().right(&Model::of(&before, Some(STORE)));
        let Ok(permit) = meta.prepare(changeset.clone()) else { continue };
        thread::yield_now(); // persisting takes its time
        if shuttle::rand::thread_rng().gen_ratio(1, 4) {
            continue;
        }
        let state = permit.publish();
        record.published.lock().unwrap().push((state.clone(), changeset));
        assert!(meta.sequence() >= state.sequence());
        record.saw(&state);
        assert!(meta.snapshot().sequence() >= state.sequence());
    }
}

/// I2: by whichever view, nothing older than what this reader, or whoever told it, has seen.
fn read(handle: &ReadHandle, mut reader: Reader, record: &Record) {
    for _ in 0..LOOKS {
        let told = record.told.load(Ordering::SeqCst);
        let snapshot = match shuttle::rand::thread_rng().gen_bool(0.5) {
            true => reader.snapshot().clone(),
            false => handle.snapshot(),
        };
        assert!(snapshot.sequence().get() >= told, "I2: told of {told}, and sees {snapshot:?}");
        record.saw(&snapshot);
    }
}

/// Hears every number once, in order, or is told what it missed.
fn listen(handle: &ReadHandle, record: &Record) {
    let (mut feed, mut last) = (handle.subscribe_from(0.into()), 0);
    for _ in 0..LOOKS {
        match feed.next() {
            Ok(None) => thread::yield_now(),
            Ok(Some(published)) => {
                assert_eq!(published.sequence().get(), last + 1);
                last += 1;
                assert!(handle.snapshot().sequence() >= published.sequence(), "heard of before it can be seen");
                record.heard.lock().unwrap().push(published);
            }
            Err(lagged) => {
                assert!(lagged.resync.sequence().get() > last);
                last = lagged.resync.sequence().get();
                record.saw(&lagged.resync);
            }
        }
    }
}

/// Follows one region after the other, each to its end.
fn follow(handle: &ReadHandle, record: &Record) {
    let mut view = None;
    for _ in 0..LOOKS {
        let Some(followed) = &mut view else {
            let first = handle.snapshot().regions().next().map(Region::id);
            view = first.and_then(|id| handle.view(id));
            thread::yield_now();
            continue;
        };
        let before = handle.snapshot().sequence().get();
        let found = followed.current().ok().cloned();
        let between = before..=handle.snapshot().sequence().get();
        let ended = found.is_none();
        record.viewed.lock().unwrap().push(Viewed { region: followed.id(), peer: followed.peer(), found, between });
        if ended {
            assert!(followed.current().is_err(), "it came back");
            view = None;
        }
    }
}

fn one_interleaving(seed: u64) {
    let meta = Arc::new(StoreMeta::new(Some(STORE)));
    let (history, record) = (Arc::new(Mutex::new(History::new(seed, STORE))), Arc::new(Record::default()));
    let writers = (0..WRITERS).map(|_| {
        let (meta, history, record) = (meta.clone(), history.clone(), record.clone());
        thread::spawn(move || write(&meta, &history, &record))
    });
    let readers = (0..READERS).map(|_| {
        let (handle, reader, record) = (meta.read_handle(), meta.reader(), record.clone());
        thread::spawn(move || read(&handle, reader, &record))
    });
    let others: [fn(&ReadHandle, &Record); 2] = [listen, follow];
    let others = others.into_iter().map(|work| {
        let (handle, record) = (meta.read_handle(), record.clone());
        thread::spawn(move || work(&handle, &record))
    });
    let threads: Vec<_> = writers.chain(readers).chain(others).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    record.check(meta.snapshot());
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap())
}

#[test]
fn whatever_anybody_sees_is_a_state_of_the_history() {
    let seed = number("REGIONMETA_SEED").unwrap_or_else(|| fastrand::u64(..));
    let iterations = number("SHUTTLE_ITERATIONS").unwrap_or(2_000);
    println!("{iterations} interleavings, REGIONMETA_SEED={seed}");
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20; // the naive model is generous with the stack
    let scheduler = RandomScheduler::new_from_seed(seed, usize::try_from(iterations).unwrap());
    let histories = std::sync::atomic::AtomicU64::new(seed);
    let next_seed = move || histories.fetch_add(1, Ordering::Relaxed);
    shuttle::Runner::new(scheduler, config).run(move || one_interleaving(next_seed()));
}
