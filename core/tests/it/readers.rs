//! Readers beside a writer that never pauses: what they see is whole (I1, I11) and never goes back (I2). What it costs them is
//! in `cost.rs`.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use regionmeta::{
    Changeset, KeyRange, Peer, Reason, RegionDraft, RegionEpoch, RegionId, Removal, Snapshot, StoreId, StoreMeta,
};

use crate::seed::rng;

/// Regions 1 to 128 tile the key space for ever; each is split in two and merged again.
pub(crate) const SLOTS: u8 = 128;

pub(crate) fn tiled() -> StoreMeta {
    let region = |slot: u8| {
        let (start, end) = bounds(slot);
        let peers = vec![Peer::voter(1.into(), 1.into()), Peer::voter(2.into(), 2.into())];
        let id = RegionId::new(u64::from(slot) + 1);
        RegionDraft::new(id, KeyRange::from_wire(&start, &end), RegionEpoch::INITIAL, peers).build().unwrap()
    };
    StoreMeta::recover(None, (0..SLOTS).map(region), []).unwrap()
}

/// Two bytes: the slot in the upper bits, so that a slot has many keys.
fn bounds(slot: u8) -> (Vec<u8>, Vec<u8>) {
    let start = if slot == 0 { vec![] } else { vec![slot * 2, 0] };
    let end = if slot == SLOTS - 1 { vec![] } else { vec![slot * 2 + 2, 0] };
    (start, end)
}

/// One publish: a split if the slot is whole, else a merge; now and then a membership change instead.
pub(crate) fn change(meta: &StoreMeta, rng: &mut fastrand::Rng, next_id: &mut u64) {
    let snapshot = meta.snapshot();
    let slot = rng.u8(0..SLOTS);
    let entry = snapshot.get(RegionId::new(u64::from(slot) + 1)).unwrap();
    let (region, base) = (entry.region(), entry.changed_at());
    let middle = [slot * 2 + 1, 0];
    let (_, end) = bounds(slot);
    let mut draft = region.to_draft();
    if rng.u8(0..4) == 0 {
        draft.epoch = draft.epoch.with_conf_ver_moved(1).unwrap();
        draft.peers[1] = Peer::learner((*next_id).into(), 2.into());
        *next_id += 1;
        let changeset = Changeset::new().update(base, draft.build().unwrap(), Reason::ChangePeer);
        meta.prepare(changeset).unwrap().publish();
        return;
    }
    draft.epoch = draft.epoch.with_version_moved(1).unwrap();
    let changeset = if region.range().contains(&middle) {
        let right = RegionDraft { id: (*next_id).into(), range: KeyRange::from_wire(&middle, &end), ..draft.clone() };
        *next_id += 1;
        draft.range = KeyRange::from_wire(region.start_key(), &middle);
        Changeset::new().update(base, draft.build().unwrap(), Reason::Split).create(right.build().unwrap())
    } else {
        let right = snapshot.locate(&middle).unwrap();
        draft.range = KeyRange::from_wire(region.start_key(), &end);
        draft.epoch.version = draft.epoch.version.max(right.region().epoch().version + 1);
        let changeset = Changeset::new().update(base, draft.build().unwrap(), Reason::CommitMerge);
        changeset.remove(right.region().id(), right.changed_at(), Removal::Merged, None)
    };
    meta.prepare(changeset).unwrap().publish();
}

/// One look of a reader; called again until it breaks off.
pub(crate) type Read<'a> = Box<dyn FnMut() -> ControlFlow<()> + Send + 'a>;

/// Runs `readers` beside a writer for `time`, or until the first of them breaks off. Returns the number of publishes.
pub(crate) fn beside_a_writer(meta: &StoreMeta, time: Duration, seed: u64, readers: Vec<Read<'_>>) -> u64 {
    let stop = AtomicBool::new(false);
    let until = Instant::now() + time;
    std::thread::scope(|scope| {
        let stop = &stop;
        for mut read in readers {
            scope.spawn(move || {
                let _stop_others = StopOnDrop(stop);
                // Relaxed: nothing is handed over by the flag, it only ends the loop.
                while !stop.load(Ordering::Relaxed) && read().is_continue() {}
            });
        }
        let _stop_readers = StopOnDrop(stop);
        let (mut rng, mut next_id, mut publishes) = (fastrand::Rng::with_seed(seed), 1_000, 0);
        while !stop.load(Ordering::Relaxed) && Instant::now() < until {
            change(meta, &mut rng, &mut next_id);
            publishes += 1;
        }
        publishes
    })
}

/// A thread that fails must not leave the others running for ever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What one thread has seen, and what it may therefore never see again.
struct Watcher<'a> {
    rng: fastrand::Rng,
    epochs: [RegionEpoch; SLOTS as usize],
    sequence: u64,
    /// The highest sequence number that any watcher has seen. Written with Release after a look, read with Acquire before
    /// the next: the happens-before by which one thread's view binds another's (I2).
    announced: &'a AtomicU64,
}

impl<'a> Watcher<'a> {
    fn new(seed: u64, announced: &'a AtomicU64) -> Self {
        let epochs = [RegionEpoch::default(); SLOTS as usize];
        Self { rng: fastrand::Rng::with_seed(seed), epochs, sequence: 0, announced }
    }

    fn look(&mut self, view: impl FnOnce(&mut dyn FnMut(&Snapshot))) {
        let announced = self.announced.load(Ordering::Acquire);
        view(&mut |snapshot| self.check(snapshot, announced));
        self.announced.fetch_max(self.sequence, Ordering::Release);
    }

    fn check(&mut self, snapshot: &Snapshot, announced: u64) {
        let sequence = snapshot.sequence().get();
        assert!(sequence >= self.sequence, "own view went back from {} to {sequence}", self.sequence);
        assert!(sequence >= announced, "went back to {sequence} after another thread saw {announced}");
        self.sequence = sequence;
        let key = [self.rng.u8(..), self.rng.u8(..)];
        let by_key = snapshot.locate(&key).unwrap_or_else(|| panic!("{key:?} is in a hole at #{sequence}"));
        assert!(by_key.region().range().contains(&key), "{by_key:?} for {key:?}");
        let by_id = snapshot.get(by_key.region().id()).expect("both indexes know it");
        assert!(by_id.region().same_buffer(by_key.region()), "{by_key:?} by key, {by_id:?} by id");
        assert!(by_key.changed_at() <= snapshot.sequence(), "{by_key:?} at #{sequence}");
        if let Some(seen) = self.epochs.get_mut(by_id.region().id().get() as usize - 1) {
            let epoch = by_id.region().epoch();
            assert!(!epoch.is_behind_any(*seen), "{by_id:?} after {seen}");
            *seen = epoch;
        }
    }
}

#[test]
fn readers_beside_a_writer_see_whole_states_that_never_go_back() {
    let mut rng = rng("readers_beside_a_writer_see_whole_states_that_never_go_back");
    let (meta, announced) = (tiled(), AtomicU64::new(0));
    let (mut cached, mut direct) = (Watcher::new(rng.u64(..), &announced), Watcher::new(rng.u64(..), &announced));
    let mut reader = meta.reader();
    let publishes = beside_a_writer(
        &meta,
        Duration::from_secs(2),
        rng.u64(..),
        vec![
            Box::new(|| {
                cached.look(|check| check(reader.snapshot()));
                ControlFlow::Continue(())
            }),
            Box::new(|| {
                direct.look(|check| check(&meta.snapshot()));
                ControlFlow::Continue(())
            }),
        ],
    );
    println!("{publishes} publishes, {} regions at the end", meta.snapshot().len());
    assert!(publishes > 100 && cached.sequence > 1 && direct.sequence > 1);
    assert_eq!(meta.snapshot().validate(), []);
}

/// I2 between threads, with nothing else in the way: one thread looks at the root and says what it saw, the other asks a
/// cached reader. It would lag behind if the root were swapped before the version counter moved.
#[test]
fn a_cached_reader_never_lags_behind_what_another_thread_has_seen() {
    const HAND_OVERS: u64 = 10_000;
    let (meta, announced) = (tiled(), AtomicU64::new(0));
    let mut reader = meta.reader();
    let mut handed_over = 0u64;
    let mut last = 0;
    let seed = rng("a_cached_reader_never_lags_behind_what_another_thread_has_seen").u64(..);
    beside_a_writer(
        &meta,
        Duration::from_secs(10),
        seed,
        vec![
            Box::new(|| {
                announced.store(meta.snapshot().sequence().get(), Ordering::Release);
                ControlFlow::Continue(())
            }),
            Box::new(|| {
                // Acquire, with the Release store of the other thread: its look at the root happened before ours.
                let seen = announced.load(Ordering::Acquire);
                let found = reader.snapshot().sequence().get();
                assert!(found >= seen, "#{found} after another thread saw #{seen}");
                handed_over += u64::from(seen > last);
                last = seen;
                if handed_over < HAND_OVERS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            }),
        ],
    );
    assert!(handed_over > HAND_OVERS / 100, "{handed_over} sequence numbers were handed over");
}

/// A handle and a reader borrow nothing: a thread keeps them, sees what is published after it began, and may be the last
/// that looks.
#[test]
fn a_thread_keeps_its_reader_also_after_the_map_is_gone() {
    let meta = tiled();
    let (handle, mut reader) = (meta.read_handle(), meta.reader());
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let watch = move || {
        let before = reader.snapshot().sequence().get();
        told.recv().unwrap();
        let mut fresh = handle.reader();
        let seen = [reader.snapshot().sequence(), fresh.snapshot().sequence(), handle.snapshot().sequence()];
        (before, seen.map(|sequence| sequence.get()), handle.sequence().get(), handle.store_id())
    };
    let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(watch).unwrap();
    let (mut rng, mut next_id) = (rng("a_thread_keeps_its_reader_also_after_the_map_is_gone"), 1_000);
    for _ in 0..10 {
        change(&meta, &mut rng, &mut next_id);
    }
    drop(meta);
    tell.send(()).unwrap();
    let (before, seen, counter, store) = thread.join().unwrap();
    assert!(before <= 11, "#{before}");
    assert_eq!((seen, counter, store), ([11; 3], 11, None));
}

/// A store of a map without an owner, so that nothing here depends on tombstones.
#[test]
fn a_map_of_many_stores_has_no_store_of_its_own() {
    assert_eq!(tiled().store_id(), None);
    assert_eq!(StoreMeta::new(Some(StoreId::new(4))).store_id(), Some(StoreId::new(4)));
}
