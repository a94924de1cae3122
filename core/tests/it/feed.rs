//! The change feed: whoever applies its events has the map's state at each number; whoever is too slow is told, and goes
//! on from a snapshot.

use std::collections::BTreeMap;

use regionmeta::testkit::{History, Model};
use regionmeta::{Changeset, Published, Region, RegionId, Sequence, Snapshot, StoreId, StoreMeta, Subscription};

use crate::seed::rng;

const STORE: StoreId = StoreId::new(1);

/// What a subscriber has put together.
struct Follower {
    feed: Subscription,
    regions: BTreeMap<RegionId, Region>,
    sequence: Sequence,
    lagged: u32,
    events: u32,
}

impl Follower {
    fn new(meta: &StoreMeta) -> Self {
        let feed = meta.read_handle().subscribe_from(0.into());
        Self { feed, regions: BTreeMap::new(), sequence: 0.into(), lagged: 0, events: 0 }
    }

    /// One event or one new start; whether there was any.
    fn step(&mut self) -> bool {
        match self.feed.next() {
            Ok(None) => return false,
            Ok(Some(published)) => self.apply(&published),
            Err(lagged) => {
                assert!(lagged.resync.sequence() >= self.sequence);
                self.regions = lagged.resync.regions().map(|region| (region.id(), region.clone())).collect();
                self.sequence = lagged.resync.sequence();
                self.lagged += 1;
            }
        }
        true
    }

    fn apply(&mut self, published: &Published) {
        assert_eq!(published.sequence().get(), self.sequence.get() + 1, "each change once, in order");
        for change in published.changes() {
            match change.after() {
                Some(region) => drop(self.regions.insert(change.id(), region.clone())),
                None => drop(self.regions.remove(&change.id()).expect("a region that leaves was there")),
            }
        }
        self.sequence = published.sequence();
        self.events += 1;
    }

    fn check(&self, state: &Snapshot) {
        assert_eq!(self.regions.len(), state.len(), "at {:?}", self.sequence);
        for (id, region) in &self.regions {
            assert!(state.get(*id).is_some_and(|entry| entry.region().same_buffer(region)), "{region}");
        }
    }
}

/// Two rings: one that keeps everything, and one so small that subscribers are often too slow, or a changeset is too large.
#[test]
fn subscribers_have_the_state_of_every_number_they_stop_at() {
    let mut rng = rng("subscribers_have_the_state_of_every_number_they_stop_at");
    for capacity in [1_000, 2, 0] {
        let meta = StoreMeta::with_feed_capacity(Some(STORE), capacity);
        let (mut model, mut history) = (Model::new(Some(STORE)), History::new(rng.u64(..), STORE));
        let (mut keen, mut slow) = (Follower::new(&meta), Follower::new(&meta));
        let mut states = vec![meta.snapshot()];
        for _ in 0..800 {
            let changeset = history.right(&model);
            states.push(meta.prepare(changeset.clone()).unwrap().publish());
            model.publish(&changeset);
            while keen.step() {
                keen.check(&states[keen.sequence.get() as usize]);
            }
            assert_eq!(keen.sequence, meta.sequence());
            if rng.u8(0..3) == 0 {
                slow.step();
                slow.check(&states[slow.sequence.get() as usize]);
            }
        }
        println!("{capacity}: keen {} and {}, slow {} and {}", keen.events, keen.lagged, slow.events, slow.lagged);
        match capacity {
            1_000 => assert_eq!((keen.lagged, slow.lagged, keen.events), (0, 0, 800)),
            2 => assert!(keen.events > 100 && keen.lagged > 10 && slow.lagged > 100),
            _ => assert_eq!((keen.events, slow.events, keen.lagged), (0, 0, 800)),
        }
    }
}

#[test]
fn a_number_from_elsewhere_is_answered_with_a_snapshot() {
    let meta = StoreMeta::new(None);
    let mut feed = meta.read_handle().subscribe_from(7.into());
    assert_eq!(feed.next().map(drop).unwrap_err().resync.sequence(), meta.sequence());
    assert!(feed.next().unwrap().is_none());
    drop(meta.prepare(Changeset::new()).unwrap().publish());
    assert_eq!(feed.next().unwrap().unwrap().sequence(), meta.sequence());
}

/// Beside a writer that overruns it again and again, a subscriber never misses a number without being told, and finds the
/// state of every event published.
#[test]
fn a_subscriber_beside_a_writer_misses_nothing_unnoticed() {
    const PUBLISHES: u64 = 20_000;
    let meta = StoreMeta::with_feed_capacity(None, 16);
    let mut feed = meta.read_handle().subscribe_from(0.into());
    let (mut last, mut events, mut lagged) = (0, 0u64, 0u64);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..PUBLISHES).for_each(|_| drop(meta.prepare(Changeset::new()).unwrap().publish())));
        while last < PUBLISHES {
            match feed.next() {
                Ok(Some(published)) => {
                    assert_eq!(published.sequence().get(), last + 1);
                    assert!(meta.snapshot().sequence() >= published.sequence());
                    (last, events) = (last + 1, events + 1);
                }
                Ok(None) => std::thread::yield_now(),
                Err(missed) => {
                    assert!(missed.resync.sequence().get() > last);
                    (last, lagged) = (missed.resync.sequence().get(), lagged + 1);
                }
            }
        }
    });
    println!("{events} events, {lagged} times too slow");
    // However often it was overrun, it goes on with the very next one.
    drop(meta.prepare(Changeset::new()).unwrap().publish());
    assert_eq!(feed.next().unwrap().unwrap().sequence().get(), PUBLISHES + 1);
}
