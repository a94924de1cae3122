//! Every way to read, in one table: what is shown of reading (no allocation, no lock, no system call) is shown of all of it.
//! A method that reads and is new gets a line here.

use std::hint::black_box;

use regionmeta::{
    EndKey, EpochHalves, KeyRange, PeerClass, ReadHandle, Reader, RegionEpoch, RegionId, Sequence, Snapshot, StoreMeta,
    Subscription, View,
};

use crate::readers::SLOTS;

/// A reading thread with everything that it may hold. The map is `readers::tiled`.
pub(crate) struct Looker {
    handle: ReadHandle,
    reader: Reader,
    view: View,
    feed: Subscription,
    /// An older state, which this thread is likely to be the last to hold.
    held: Snapshot,
    /// How often an older state was let go of by its last holder.
    pub(crate) last_drops: u64,
    pub(crate) news: u64,
    keys: fastrand::Rng,
}

type Way = fn(&mut Looker);

/// The names of the methods, and a call.
pub(crate) const WAYS: [(&str, Way); 29] = [
    ("StoreMeta::snapshot, ReadHandle::snapshot", |l| drop(black_box(l.handle.snapshot()))),
    ("StoreMeta::sequence, ReadHandle::sequence", |l| assert!(l.handle.sequence() >= l.held.sequence())),
    ("StoreMeta::read_handle, ReadHandle::clone", |l| drop(black_box(l.handle.clone()))),
    ("StoreMeta::reader, ReadHandle::reader", |l| assert!(l.handle.reader().snapshot().len() >= SLOTS.into())),
    ("Reader::snapshot", |l| assert!(!l.reader.snapshot().is_empty())),
    ("Reader::release", |l| l.reader.release()),
    ("Snapshot::clone, sequence", |l| assert!(l.reader.snapshot().clone().sequence() >= l.held.sequence())),
    ("Snapshot::locate, Entry::changed_at", |l| {
        let (key, state) = (l.key(), l.reader.snapshot());
        assert!(state.locate(&key).unwrap().changed_at() <= state.sequence());
    }),
    ("Snapshot::locate_many", |l| {
        let keys = [l.key(), l.key(), l.key()];
        let (keys, mut found) = (keys.each_ref().map(|key| &key[..]), [None; 3]);
        l.reader.snapshot().locate_many(&keys, &mut found);
        assert!(found.iter().all(Option::is_some));
    }),
    ("Snapshot::locate_end_key", |l| {
        let key = l.key();
        assert!(key == [0, 0] || l.reader.snapshot().locate_end_key(EndKey::Finite(&key)).is_some());
    }),
    ("Snapshot::region_before", |l| {
        let key = l.key();
        assert!(key == [0, 0] || l.reader.snapshot().region_before(&key).is_some());
    }),
    ("Snapshot::region_after", |l| {
        let key = l.key();
        assert!(key[0] >= 254 || l.reader.snapshot().region_after(&key).is_some());
    }),
    ("Snapshot::get", |l| {
        let id = l.id();
        assert!(l.reader.snapshot().get(id).is_some_and(|entry| entry.region().id() == id));
    }),
    ("Snapshot::regions", |l| assert!(l.reader.snapshot().regions().rev().take(3).count() == 3)),
    ("Snapshot::overlapping", |l| {
        let key = l.key();
        let range = KeyRange::from_wire(&key, &[]);
        assert!(l.reader.snapshot().overlapping(range).take(3).all(|region| region.range().overlaps(range)));
    }),
    ("Snapshot::starting_in", |l| {
        let key = l.key();
        let range = KeyRange::from_wire(&[], &key);
        assert!(l.reader.snapshot().starting_in(range).rev().take(3).all(|region| range.contains(region.start_key())));
    }),
    ("Snapshot::diff", |l| {
        let (mut changes, now) = (0, l.reader.snapshot());
        l.held.diff(now, |_, _| changes += 1);
        // Every publish of this test changes a region, and a state does not differ from itself.
        assert_eq!(changes > 0, l.held.sequence() != now.sequence());
    }),
    ("Snapshot::check_epoch", |l| {
        let (id, state) = (l.id(), l.reader.snapshot());
        let epoch = state.get(id).unwrap().region().epoch();
        assert!(state.check_epoch(id, epoch, EpochHalves::BOTH).is_ok());
        assert!(state.check_epoch(id, RegionEpoch::new(0, 0), EpochHalves::BOTH).is_err());
    }),
    ("Snapshot::count", |l| {
        let key = l.key();
        assert!(l.reader.snapshot().count(KeyRange::from_wire(&key, &[])) > 0);
    }),
    ("Snapshot::stats, sums", |l| {
        let (end, id, state) = ([l.keys.u8(1..)], l.id(), l.reader.snapshot());
        assert!(state.sums(KeyRange::from_wire(&[], &end)).regions > 0);
        black_box(state.stats(id));
    }),
    ("Snapshot::stores, store_count, regions_on", |l| {
        let state = l.reader.snapshot();
        let store = state.stores().next().unwrap();
        assert!(state.store_count(store, PeerClass::Any) >= SLOTS.into());
        assert!(state.regions_on(store, PeerClass::Voter).take(3).count() == 3);
    }),
    ("Snapshot::random_region_in, random_region_on", |l| {
        let (key, keys, state) = ([l.keys.u8(0..200), 0], &mut l.keys, l.reader.snapshot());
        let ranges = [KeyRange::from_wire(&key, &[])];
        assert!(state.random_region_in(&ranges, &mut |below| keys.u64(0..below)).is_some());
        let store = state.stores().next().unwrap();
        assert!(state.random_region_on(store, PeerClass::Any, &ranges, &mut |below| keys.u64(0..below)).is_some());
    }),
    ("Snapshot::covers, holes", |l| {
        let key = l.key();
        let behind = [key[0], key[1], 0];
        assert!(l.reader.snapshot().covers(KeyRange::from_wire(&key, &behind)));
    }),
    ("Snapshot::siblings", |l| {
        let id = l.id();
        let siblings = l.reader.snapshot().siblings(id).unwrap();
        assert!(siblings.left.is_some() || id.get() == 1);
    }),
    ("Snapshot::group_by_region", |l| {
        let (mut keys, state) = ([l.key(), l.key(), l.key()], l.reader.snapshot());
        keys.sort_unstable();
        assert!(state.group_by_region(&keys).all(|(entry, at)| entry.is_some() && !at.is_empty()));
    }),
    ("View::current, is_current, changed_at", |l| {
        let id = l.view.id();
        assert!(l.view.current().unwrap().id() == id);
        black_box((l.view.is_current(), l.view.changed_at(), l.view.peer()));
    }),
    ("ReadHandle::view", |l| {
        let id = l.id();
        l.view = l.handle.view(id).unwrap();
    }),
    ("ReadHandle::subscribe_from, Subscription::next", |l| match l.feed.next() {
        Ok(None) => {}
        Ok(Some(published)) => l.news += published.changes().len() as u64,
        Err(lagged) => l.feed = l.handle.subscribe_from(lagged.resync.sequence()),
    }),
    ("Snapshot::drop, of a version that nobody else holds", |l| {
        let current = l.handle.snapshot();
        l.last_drops += u64::from(l.held.sequence().get() + 1 < current.sequence().get());
        l.held = current;
    }),
];

impl Looker {
    /// The first load of a thread registers it with arc-swap, once: that is done here.
    pub(crate) fn new(meta: &StoreMeta, seed: u64) -> Self {
        let handle = meta.read_handle();
        let (view, feed) = (handle.view(RegionId::new(1)).unwrap(), handle.subscribe_from(Sequence::new(0)));
        let keys = fastrand::Rng::with_seed(seed);
        Self { reader: meta.reader(), view, feed, held: meta.snapshot(), last_drops: 0, news: 0, keys, handle }
    }

    fn key(&mut self) -> [u8; 2] {
        [self.keys.u8(..), self.keys.u8(..)]
    }

    fn id(&mut self) -> RegionId {
        RegionId::new(u64::from(self.keys.u8(0..SLOTS)) + 1)
    }

    /// One read in that way.
    pub(crate) fn look(&mut self, way: usize) {
        WAYS[way].1(self);
    }

    /// A million reads, and more until the writer has been in the way often enough.
    pub(crate) fn look_a_million_times(&mut self, mut look: impl FnMut(&mut Self, usize)) {
        const LAST_DROPS: u64 = 100;
        let (enough, mut reads) = (self.last_drops + LAST_DROPS, 0);
        while reads < 1_000_000 || self.last_drops < enough && reads < 100_000_000 {
            look(self, reads % WAYS.len());
            reads += 1;
        }
        assert!(self.last_drops >= enough, "{} versions were let go of by their last holder", self.last_drops);
    }
}
