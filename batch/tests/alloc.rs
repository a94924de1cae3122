//! How much is allocated: by the pipeline O(1) for each change, whatever the number of changes, of regions, and of batches
//! before; by the heartbeat of a region that has not changed nothing at all.

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

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use regionmeta::{AdminHeader, AdminRequest, BatchSplit, RegionEpoch, RegionId, SplitRequest};
use regionmeta_batch::Store;
use regionmeta_batch::apply::{Answer, ApplyHost, ApplyPool, ApplySettings, Data, Entry, Mutation};
use regionmeta_batch::pd::storm::SimulatedClock;
use regionmeta_batch::pd::{
    Clock, EmbeddedPd, Flow, HeartbeatDriver, HeartbeatResponse, HeartbeatSettings, Heartbeats, OperatorHost, PdClient,
    PeerProgress, PeerReport, Proposal, StoreInfo,
};
use regionmeta_batch::storage::RocksStorage;

use common::{CLUSTER, Disk, Rocks, add_learner, at, builder, learner, remove};

/// What all threads have asked for. Relaxed: nothing else is published through them, and a test reads them when the threads
/// that it counts are idle.
static TIMES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The counts are the process's, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Debug)]
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every method hands its arguments to the system's allocator and returns what that returned; the counting is two
// atomics, and neither allocates nor unwinds.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TIMES.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is the one that is asked for here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc`, hence from the system's allocator, with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

const FIRST: RegionId = RegionId::new(2);

struct Countdown {
    left: AtomicU64,
    done: Sender<()>,
}

impl ApplyHost<RocksStorage> for Countdown {
    type Tag = ();

    fn answer(&self, answer: Answer<()>) {
        assert!(answer.result.is_ok(), "{:?}", answer.result);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.done.send(());
        }
    }
}

/// A store with that many regions; the first has `["", k000000)`.
fn filled(disk: &Rocks, regions: u64) -> Store<RocksStorage> {
    let store = builder().bootstrap_storage(disk.storage(), &EmbeddedPd::new(CLUSTER)).unwrap();
    let request = |number: u64| SplitRequest {
        split_key: format!("k{number:06}").into_bytes(),
        new_region_id: (1_000 + number).into(),
        new_peer_ids: vec![(1_000_000 + number).into()],
    };
    let split =
        BatchSplit { requests: (0..regions - 1).map(request).collect(), right_derive: false, shares_size: false };
    let mut batch = store.begin();
    let epoch = batch.region(FIRST).unwrap().epoch();
    batch.apply(FIRST, at(6), epoch, &regionmeta::AdminCommand::BatchSplit(split)).unwrap();
    batch.commit().unwrap();
    store
}

/// Membership changes and writes of one region after another, from index 7 on: a learner comes, a write, it goes, a write.
fn entries(store: &Store<RocksStorage>, changes: u64) -> VecDeque<Entry<RocksStorage, ()>> {
    let version = store.meta().snapshot().get(FIRST).unwrap().region().epoch().version;
    let put = || Data::List(vec![Mutation::Put { key: b"host".to_vec(), value: b"data".to_vec() }]);
    let make = |number: u64| {
        let (position, epoch) = (at(7 + number), RegionEpoch::new(1 + number.div_ceil(2), version));
        let command = match number % 4 {
            1 | 3 => return Entry::write(position, epoch, put(), ()),
            0 => add_learner(learner(5_000_000, 2)),
            _ => remove(learner(5_000_000, 2)),
        };
        Entry::admin(position, AdminRequest { header: AdminHeader::new(FIRST, epoch), command }, ())
    };
    (0..changes).map(make).collect()
}

/// Allocations and bytes for each entry, from the mailbox to the answer; what the host allocates to make them is left out.
fn allocated_each(regions: u64, changes: u64) -> (f64, f64) {
    let disk = Rocks::empty();
    let store = Arc::new(filled(&disk, regions));
    let (done, heard): (_, Receiver<()>) = bounded(1);
    let settings = ApplySettings {
        workers: 1,
        mailbox_entries_max: changes as usize,
        turn_entries_max: 256,
        batch_entries_max: 256,
        ..ApplySettings::default()
    };
    let host = Countdown { left: AtomicU64::new(changes), done };
    let pool = ApplyPool::start(store.clone(), host, settings).unwrap();
    let mut entries = entries(&store, changes);
    let before = (TIMES.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    pool.router().region(FIRST).unwrap().try_send_all(&mut entries).unwrap();
    heard.recv_timeout(Duration::from_secs(30)).unwrap();
    let after = (TIMES.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    ((after.0 - before.0) as f64 / changes as f64, (after.1 - before.1) as f64 / changes as f64)
}

#[test]
fn the_pipeline_allocates_a_constant_for_each_change() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let few = allocated_each(10, 1_024);
    let many_changes = allocated_each(10, 8_192);
    let many_regions = allocated_each(5_000, 1_024);
    println!(
        "allocations and bytes a change: {few:?}, with 8 times the changes {many_changes:?}, with 500 times the regions {many_regions:?}"
    );
    assert!(few.0 < 8.0 && few.1 < 1_024.0, "{few:?}");
    for (times, bytes) in [many_changes, many_regions] {
        assert!(times < few.0 * 1.2 + 1.0 && bytes < few.1 * 1.5 + 512.0, "({times}, {bytes}) against {few:?}");
    }
}

#[derive(Debug)]
struct Nothing;

impl OperatorHost for Nothing {
    fn propose(&self, proposal: Proposal) {
        panic!("{proposal:?}");
    }

    fn refused(&self, response: &HeartbeatResponse, _: &regionmeta_batch::pd::OperatorError) {
        panic!("{response:?}");
    }
}

/// From the host's report, over the driver and the stream, into the embedded placement driver: not one allocation, from the
/// second heartbeat of a region on.
#[test]
fn the_heartbeat_of_an_unchanged_region_allocates_nothing() {
    const REGIONS: u64 = 500;
    const ROUNDS: u64 = 10;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let disk = Rocks::empty();
    let store = filled(&disk, REGIONS);
    let (store_id, settings) = (store.ident().store_id, HeartbeatSettings::default());
    let pd = EmbeddedPd::resume(CLUSTER, store.meta().snapshot().regions().cloned(), [], 0).unwrap();
    pd.put_store(&StoreInfo { id: store_id, address: String::new() }).unwrap();
    let clock = SimulatedClock::default();
    let tasks = Arc::new(Heartbeats::new(store_id, store.meta().clone(), &settings, clock.clone()));
    let client: Arc<dyn PdClient> = Arc::new(pd.clone());
    let mut driver = HeartbeatDriver::new(tasks.clone(), client, Nothing, &settings);
    let regions: Vec<_> = store.meta().snapshot().regions().cloned().collect();
    for region in &regions {
        assert!(tasks.lead(region.id(), region.peer_on(store_id).unwrap().id, 6.into()));
    }
    let progress = [PeerProgress { peer: 99.into(), matched: 9.into(), heard: true, waits_for_data: false }];
    let flow = Flow { written_bytes: 1, ..Flow::default() };
    let report = PeerReport { progress: &progress, flow, ..PeerReport::default() };
    let mut round = || {
        regions.iter().for_each(|region| tasks.report(region.id(), &report));
        let until = clock.now().elapsed + settings.interval;
        while clock.now().elapsed < until {
            let wait = driver.turn().min(Duration::from_millis(200));
            clock.advance(wait.max(Duration::from_micros(1)));
        }
        driver.counts().sent
    };
    round();
    round();
    let (before, sent) = (TIMES.load(Ordering::Relaxed), round());
    let last = (0..ROUNDS).map(|_| round()).last().unwrap();
    let allocated = TIMES.load(Ordering::Relaxed) - before;
    println!("{allocated} allocations in {} heartbeats", last - sent);
    assert_eq!(last - sent, ROUNDS * REGIONS);
    assert_eq!(allocated, 0);
    assert_eq!(pd.load(regions[0].id()).unwrap().flow.written_bytes, 1);
}
