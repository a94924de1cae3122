//! Random changes by three writers beside two readers, in random interleavings.
//!
//! Over `core/src/sync/locked.rs`, since shuttle cannot see into arc-swap. Loom looks at every interleaving of a few steps;
//! here histories are long and changes of every kind, and whatever anybody saw is held against the naive model.
//!
//! `REGIONMETA_SEED` replays a run, `SHUTTLE_ITERATIONS` says how many interleavings it has.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking; clippy knows test functions, not helpers")]

use std::sync::{Arc, Mutex};

use regionmeta::testkit::{History, Model};
use regionmeta::{Changeset, ReadHandle, Reader, Snapshot, StoreId, StoreMeta};
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
    /// The newest sequence number that anybody has seen and told the others of.
    told: AtomicU64,
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
        let count = published.len() as u64;
        assert_eq!(seen.iter().map(|state| state.sequence().get()).max(), Some(count), "seen, and never published");
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
    let threads: Vec<_> = writers.chain(readers).collect();
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
