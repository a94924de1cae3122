//! T17: regions, roots and events are made and freed so fast that the same addresses come back again and again, while readers
//! hold what they have cached: nobody takes an old thing at a known address for the current one.
//!
//! This is the pattern of arc-swap#210, where a cell's load returned a value that was stored into *another* cell: the feed is
//! a ring of cells beside the root's, and each of them gets what was just freed by a neighbour. So what is read is held
//! against what it says of itself: a region's key, peers and epoch all follow from one serial number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use regionmeta::{
    Changeset, KeyRange, Peer, Reader, Reason, Region, RegionDraft, RegionEpoch, RegionId, Removal, Snapshot, StoreId,
    StoreMeta, Subscription, View,
};

use crate::seed::rng;

const STORE: StoreId = StoreId::new(1);
/// Each is there, changed, destroyed and there again for ever, as a later peer.
const IDS: u64 = 4;
const READERS: u64 = 6;
const TIME: Duration = Duration::from_secs(3);
/// At least so many regions and roots must come back, or the test has shown nothing. A sanitizer keeps freed memory back for
/// long, so there it takes longer.
const RECURRENCES: u64 = 1_000;
const TIME_MAX: Duration = Duration::from_secs(100);

/// The `serial`-th version of a region: its epoch and its second peer are a canary. The own peer moves when the region is
/// made anew.
fn region(id: u64, peer: u64, serial: u64) -> Region {
    let (start, end) = (id.to_be_bytes(), (id + 1).to_be_bytes());
    let peers =
        vec![Peer::voter(peer.into(), STORE), Peer::voter((1_000_000_000 + serial * IDS + id).into(), 2.into())];
    let epoch = RegionEpoch::new(serial, 1_000 + serial);
    RegionDraft::new(id.into(), KeyRange::from_wire(&start, &end), epoch, peers).build().unwrap()
}

/// The serial number of a region that is whole.
fn serial_of(found: &Region, id: u64) -> u64 {
    let serial = found.epoch().conf_ver;
    assert_eq!(found.id(), RegionId::new(id), "{found} is another region");
    assert_eq!(found.epoch().version, 1_000 + serial, "{found}");
    assert_eq!(found.start_key(), id.to_be_bytes(), "{found}");
    assert_eq!(found.peer_on(2.into()).unwrap().id.get(), 1_000_000_000 + serial * IDS + id, "{found}");
    serial
}

/// What the writer has published. Stored with Release after a publish, loaded with Acquire before a look: whoever looks
/// afterwards finds that or something newer.
#[derive(Default)]
struct Told {
    sequence: AtomicU64,
    /// Of each region, the last serial number that was published.
    serials: [AtomicU64; IDS as usize],
    stop: AtomicBool,
}

/// How often each kind of thing came back to an address at which one of its kind had been before.
#[derive(Default, Debug)]
struct Recurrences {
    regions: HashMap<usize, u64>,
    roots: HashMap<usize, u64>,
    came_back: [u64; 2],
}

impl Recurrences {
    fn are_enough(&self) -> bool {
        self.came_back.iter().all(|&times| times > RECURRENCES)
    }

    fn note(&mut self, made: &Region, state: &Snapshot) {
        let sequence = state.sequence().get();
        let region = self.regions.insert(made.as_bytes().as_ptr() as usize, sequence);
        let root = self.roots.insert(state.address(), sequence);
        self.came_back[0] += u64::from(region.is_some());
        self.came_back[1] += u64::from(root.is_some());
    }
}

fn write(meta: &StoreMeta, told: &Told, mut rng: fastrand::Rng) -> Recurrences {
    let (started, mut recurrences, mut serial) = (Instant::now(), Recurrences::default(), 0);
    let mut peer = 10;
    while !(recurrences.are_enough() && started.elapsed() > TIME) && started.elapsed() < TIME_MAX {
        if told.stop.load(Ordering::Relaxed) {
            break; // a reader has failed
        }
        serial += 1;
        let id = rng.u64(1..=IDS);
        let before = meta.snapshot();
        let Some(entry) = before.get(id.into()) else {
            peer += 1;
            let made = region(id, peer, serial);
            recurrences.note(&made, &publish(meta, told, Changeset::new().create(made.clone())));
            told.serials[id as usize - 1].store(serial, Ordering::Release);
            continue;
        };
        let (base, own) = (entry.changed_at(), entry.region().peer_on(STORE).unwrap().id);
        drop(before);
        if rng.u8(0..4) == 0 {
            drop(publish(meta, told, Changeset::new().remove(id.into(), base, Removal::Destroyed, Some(own))));
        } else {
            let made = region(id, own.get(), serial);
            let changeset = Changeset::new().update(base, made.clone(), Reason::Snapshot);
            recurrences.note(&made, &publish(meta, told, changeset));
            told.serials[id as usize - 1].store(serial, Ordering::Release);
        }
    }
    told.stop.store(true, Ordering::Relaxed);
    recurrences
}

fn publish(meta: &StoreMeta, told: &Told, changeset: Changeset) -> Snapshot {
    let state = meta.prepare(changeset).unwrap().publish();
    told.sequence.store(state.sequence().get(), Ordering::Release);
    state
}

/// One reader, and all that it may hold on to.
struct Holder<'a> {
    meta: &'a StoreMeta,
    told: &'a Told,
    rng: fastrand::Rng,
    reader: Reader,
    view: Option<View>,
    feed: Subscription,
    heard: u64,
    /// Of each region, the last serial number that this reader has seen.
    seen: [u64; IDS as usize],
    reads: u64,
}

impl<'a> Holder<'a> {
    fn new(meta: &'a StoreMeta, told: &'a Told, seed: u64) -> Self {
        let (handle, rng) = (meta.read_handle(), fastrand::Rng::with_seed(seed));
        let (reader, feed) = (meta.reader(), handle.subscribe_from(0.into()));
        Self { meta, told, rng, reader, view: None, feed, heard: 0, seen: [0; IDS as usize], reads: 0 }
    }

    fn read(mut self) -> u64 {
        let _stop = StopOnDrop(self.told);
        while !self.told.stop.load(Ordering::Relaxed) {
            match self.rng.u8(0..8) {
                0 => self.hear(),
                1 | 2 => self.follow(),
                3 if self.rng.u8(0..32) == 0 => self.reader.release(),
                _ => self.look(),
            }
            self.reads += 1;
        }
        self.reads
    }

    fn look(&mut self) {
        let id = self.rng.u64(1..=IDS);
        let (sequence, told) = (self.told.sequence.load(Ordering::Acquire), self.told_of(id));
        let fresh = self.rng.bool().then(|| self.meta.snapshot());
        let state = fresh.as_ref().unwrap_or_else(|| self.reader.snapshot());
        assert!(state.sequence().get() >= sequence, "an old root: {state:?} after #{sequence}");
        let found = match self.rng.bool() {
            true => state.get(id.into()),
            false => state.locate(&id.to_be_bytes()),
        };
        let serial = found.map(|entry| serial_of(entry.region(), id));
        self.saw(id, serial, told);
    }

    fn follow(&mut self) {
        let Some(view) = &mut self.view else {
            let id = self.rng.u64(1..=IDS);
            self.view = self.meta.read_handle().view(id.into());
            return;
        };
        let (id, peer) = (view.id().get(), view.peer());
        let told = self.told.serials[id as usize - 1].load(Ordering::Acquire);
        match view.current() {
            Ok(found) => {
                assert_eq!(found.peer_on(STORE).map(|peer| peer.id), peer, "{found} is another incarnation");
                let serial = serial_of(found, id);
                self.saw(id, Some(serial), told);
            }
            Err(_) => self.view = None,
        }
    }

    fn hear(&mut self) {
        match self.feed.next() {
            Ok(None) => {}
            Ok(Some(published)) => {
                assert_eq!(published.sequence().get(), self.heard + 1, "an event of another number");
                self.heard += 1;
                for made in published.changes().iter().filter_map(|change| change.after()) {
                    serial_of(made, made.id().get());
                }
            }
            Err(lagged) => {
                assert!(lagged.resync.sequence().get() > self.heard);
                self.heard = lagged.resync.sequence().get();
            }
        }
    }

    fn told_of(&self, id: u64) -> u64 {
        self.told.serials[id as usize - 1].load(Ordering::Acquire)
    }

    fn saw(&mut self, id: u64, serial: Option<u64>, told: u64) {
        let seen = &mut self.seen[id as usize - 1];
        let Some(serial) = serial else { return };
        assert!(
            serial >= told && serial >= *seen,
            "region {id}: serial {serial} after {told} was told and {seen} seen"
        );
        *seen = serial;
    }
}

/// A reader that fails must not leave the others running.
struct StopOnDrop<'a>(&'a Told);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_old_at_a_known_address_is_taken_for_current() {
    let mut rng = rng("nothing_old_at_a_known_address_is_taken_for_current");
    // A small ring: each event soon lies where another was freed, and slow subscribers are overrun.
    let meta = StoreMeta::with_feed_capacity(Some(STORE), 8);
    let told = Told::default();
    let (recurrences, reads) = std::thread::scope(|scope| {
        let seeds: Vec<_> = (0..READERS).map(|_| rng.u64(..)).collect();
        let (meta, told) = (&meta, &told);
        let start = |seed| scope.spawn(move || Holder::new(meta, told, seed).read());
        let readers: Vec<_> = seeds.into_iter().map(start).collect();
        let recurrences = write(meta, told, rng.fork());
        (recurrences, readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>())
    });
    let Recurrences { regions, roots, came_back } = &recurrences;
    println!(
        "{} publishes, {reads} reads; {} regions and {} roots came back to {} and {} addresses",
        meta.sequence(),
        came_back[0],
        came_back[1],
        regions.len(),
        roots.len()
    );
    assert!(recurrences.are_enough(), "{came_back:?} came back: nothing was tried");
    assert_eq!(meta.snapshot().validate(), []);
}
