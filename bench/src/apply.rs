//! The apply pipeline, from the mailbox to published and answered, beside raw RocksDB writes of the same bytes.
//!
//! A change is a membership change of one region: a region record and an apply state, and nothing of the host's. The raw side
//! writes exactly these records with RocksDB's own `WriteBatch`, in the same database, interleaved with the pipeline; what it
//! leaves out is everything else that makes them true.

mod report;
mod stages;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use regionmeta::layout::{apply_state_key, region_state_key};
use regionmeta::{
    AdminCommand, AdminHeader, AdminRequest, ApplyState, BatchSplit, ChangeKind, LogPosition, Peer, PeerChange,
    PeerRole, Record, Region, RegionDraft, RegionEpoch, RegionId, SplitRequest,
};
use regionmeta_batch::apply::{Answer, ApplyHost, ApplyPool, ApplySettings, Committed, Entry, SyncPolicy};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Durability, RocksStorage, Storage};
use regionmeta_batch::{Store, StoreBuilder};
use tempfile::TempDir;

pub use self::report::{Measured, Report};
pub use self::stages::Stages;

/// Why a measurement ended.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

const TERM: u64 = 6;
/// Children of one split while the store is filled.
const CHILDREN: usize = 500;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Regions in the store.
    pub regions: usize,
    /// Rounds; the report has their medians.
    pub rounds: usize,
    /// Changes in one unsynced measurement; synced ones of small batches take fewer.
    pub changes: usize,
}

/// One way to apply the changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// Whether every batch is synced.
    pub synced: bool,
    /// Changes in a batch.
    pub batch: usize,
    /// Workers of the pipeline; 0 for raw writes.
    pub workers: usize,
}

/// Every way that is measured: raw and pipeline at each size, then more workers.
#[must_use]
pub fn ways() -> Vec<Way> {
    let sizes = [1, 16, 256, 4_096];
    let of_size = |synced| {
        let plain = sizes.into_iter().flat_map(move |batch| [0, 1].map(|workers| Way { synced, batch, workers }));
        plain.chain([2, 4].map(|workers| Way { synced, batch: 256, workers }))
    };
    of_size(false).chain(of_size(true)).collect()
}

/// Measures every way, interleaved, and where the time of a change goes.
///
/// # Errors
/// Whatever the store says; an entry that is not applied ends the run.
pub fn run(settings: &Settings, progress: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    progress(&format!("two stores of {} regions", settings.regions));
    let mut beds = [Bed::new(settings.regions, false)?, Bed::new(settings.regions, true)?];
    let ways = ways();
    let mut rates = vec![Vec::new(); ways.len()];
    for round in 1..=settings.rounds {
        progress(&format!("round {round} of {}", settings.rounds));
        for (way, rates) in ways.iter().zip(&mut rates) {
            let [unsynced, synced] = &mut beds;
            let bed = if way.synced { synced } else { unsynced };
            let changes = changes_of(*way, settings.changes);
            let took = bed.measure(*way, changes)?;
            rates.push(changes as f64 / took.as_secs_f64());
        }
    }
    let [unsynced, _] = &mut beds;
    let stages = stages::measure(unsynced, 256, settings.changes)?;
    Ok(Report::new(settings, ways, rates, stages))
}

/// A synced write takes a third of a millisecond whatever its size.
fn changes_of(way: Way, changes: usize) -> usize {
    if way.synced { changes.min(way.batch.saturating_mul(200)).max(way.batch) } else { changes }
}

/// One region, as the host knows it.
#[derive(Clone, Debug)]
struct Known {
    region: Region,
    applied: u64,
}

/// A store on RocksDB, and what the next entries of its regions are.
#[derive(Debug)]
pub struct Bed {
    store: Arc<Store<RocksStorage>>,
    known: Vec<Known>,
    next: usize,
    last_id: u64,
    /// After the store: a directory goes when nobody has it open.
    _directory: TempDir,
}

/// A change, ready to be applied: the entry, and the records that it writes.
#[derive(Debug)]
pub struct Planned {
    region: RegionId,
    before: Region,
    position: LogPosition,
    request: AdminRequest,
    after: Region,
}

impl Bed {
    /// A fresh store of so many regions.
    ///
    /// # Errors
    /// Whatever the store says.
    pub fn new(regions: usize, synced: bool) -> Result<Self, Error> {
        let directory = TempDir::new()?;
        let pd = EmbeddedPd::new(7.into());
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        let store =
            StoreBuilder::new(7.into()).durability(durability).bootstrap(directory.path().join("store"), &pd)?;
        let mut bed =
            Self { store: Arc::new(store), known: Vec::new(), next: 0, last_id: 1_000, _directory: directory };
        bed.fill(regions)?;
        Ok(bed)
    }

    fn fill(&mut self, regions: usize) -> Result<(), Error> {
        let first = self.store.meta().snapshot().locate(b"").ok_or("no region")?.region().id();
        let mut made = 1;
        let mut index = 6;
        while made < regions {
            let children = CHILDREN.min(regions - made);
            let requests = (made..made + children).map(|number| self.child(number)).collect();
            let command = AdminCommand::BatchSplit(BatchSplit { requests, right_derive: true, shares_size: false });
            let mut batch = self.store.begin();
            let epoch = batch.region(first).ok_or("no region")?.epoch();
            batch.apply(first, position(index), epoch, &command)?;
            batch.commit()?;
            (made, index) = (made + children, index + 1);
        }
        let snapshot = self.store.meta().snapshot();
        let known = snapshot.regions().map(|region| {
            let applied = self.store.apply_state(region.id()).applied_index.get();
            Known { region: region.clone(), applied }
        });
        self.known = known.collect();
        fastrand::Rng::with_seed(7).shuffle(&mut self.known);
        Ok(())
    }

    fn child(&mut self, number: usize) -> SplitRequest {
        let split_key = format!("t\u{1}_r{number:012}").into_bytes();
        self.last_id += 2;
        let (id, peer) = (self.last_id - 1, self.last_id);
        SplitRequest { split_key, new_region_id: id.into(), new_peer_ids: vec![peer.into()] }
    }

    /// The next change of the next region: a learner comes, or the learner that is there goes.
    fn plan_one(&mut self) -> Result<Planned, Error> {
        self.last_id += 1;
        let at = self.next % self.known.len();
        self.next += 1;
        let spare = Peer::learner(self.last_id.into(), 2.into());
        let known = self.known.get_mut(at).ok_or("no region")?;
        let before = known.region.clone();
        let (change, peers) = match before.peers().find(|peer| peer.role == PeerRole::Learner) {
            Some(peer) => (
                PeerChange { kind: ChangeKind::RemoveNode, peer },
                before.peers().filter(|other| *other != peer).collect(),
            ),
            None => (PeerChange { kind: ChangeKind::AddLearner, peer: spare }, before.peers().chain([spare]).collect()),
        };
        known.applied += 1;
        let epoch = RegionEpoch { conf_ver: before.epoch().conf_ver + 1, ..before.epoch() };
        known.region = RegionDraft { epoch, peers, ..before.to_draft() }.build()?;
        let request = AdminRequest {
            header: AdminHeader::new(before.id(), before.epoch()),
            command: AdminCommand::ChangePeer(change),
        };
        let (position, after) = (position(known.applied), known.region.clone());
        Ok(Planned { region: before.id(), before, position, request, after })
    }

    fn plan(&mut self, changes: usize) -> Result<Vec<Planned>, Error> {
        (0..changes).map(|_| self.plan_one()).collect()
    }

    /// How long so many changes take.
    ///
    /// # Errors
    /// Whatever the store says.
    pub fn measure(&mut self, way: Way, changes: usize) -> Result<Duration, Error> {
        let planned = self.plan(changes)?;
        if way.workers > 0 {
            return Ok(self.through_the_pipeline(way, planned)?.whole);
        }
        let took = self.raw(way, &planned)?;
        // The raw writes went past the store: it has to be told, and that is outside of the clock.
        self.through_the_pipeline(Way { workers: 1, batch: 4_096, ..way }, planned)?;
        Ok(took)
    }

    /// The same records, with RocksDB's own batch and the family's handle, which is looked up once.
    fn raw(&self, way: Way, planned: &[Planned]) -> Result<Duration, Error> {
        let records: Vec<_> = planned.iter().map(Planned::records).collect();
        let storage = self.store.storage();
        let family = storage.db().cf_handle("raft").ok_or("no family raft")?;
        let durability = if way.synced { Durability::Synced } else { Durability::Buffered };
        let started = Instant::now();
        for records in records.chunks(way.batch) {
            let mut batch = storage.batch();
            for (key, value) in records.iter().flatten() {
                batch.put_cf(&family, key, value);
            }
            storage.write(batch, durability)?;
        }
        Ok(started.elapsed())
    }

    fn through_the_pipeline(&self, way: Way, planned: Vec<Planned>) -> Result<Took, Error> {
        let settings = ApplySettings {
            workers: way.workers,
            round_regions_max: way.batch,
            batch_entries_max: way.batch,
            sync: if way.synced { SyncPolicy::Every } else { SyncPolicy::Never },
            ..ApplySettings::default()
        };
        let (host, done) = Counter::new(planned.len() as u64);
        let pool = ApplyPool::start(self.store.clone(), host, settings)?;
        let entries: Vec<_> = planned.into_iter().map(Planned::into_entry).collect();
        let started = Instant::now();
        for (region, entry) in entries {
            pool.router().send(region, entry).map_err(|error| error.to_string())?;
        }
        done.recv()?;
        let whole = started.elapsed();
        let answers = Duration::from_nanos(pool.host().answering_ns.load(Ordering::Relaxed));
        match pool.host().failed.load(Ordering::Relaxed) {
            0 => Ok(Took { whole, answers }),
            failed => Err(format!("{failed} changes were not applied").into()),
        }
    }
}

impl Planned {
    fn into_entry(self) -> (RegionId, Entry<RocksStorage, ()>) {
        (self.region, Entry::admin(self.position, self.request, ()))
    }

    /// The keys and values that the change writes.
    fn records(&self) -> [(Vec<u8>, Vec<u8>); 2] {
        let state = ApplyState { applied_index: self.position.index, commit: self.position, ..ApplyState::INITIAL };
        [
            encoded(region_state_key(self.region).to_vec(), &self.after),
            encoded(apply_state_key(self.region).to_vec(), &state),
        ]
    }
}

fn encoded(key: Vec<u8>, record: &impl Record) -> (Vec<u8>, Vec<u8>) {
    let mut value = Vec::new();
    record.encode(&key, &mut value);
    (key, value)
}

fn position(index: u64) -> LogPosition {
    LogPosition { index: index.into(), term: TERM.into() }
}

/// How long the pipeline took, and what of it went into answers.
struct Took {
    whole: Duration,
    /// From published to the last answer of each batch. It means something with one worker.
    answers: Duration,
}

/// Counts answers, and says when the last one has come.
#[derive(Debug)]
struct Counter {
    /// Counted down by workers; whoever takes it to 0 tells the waiting thread, by the channel.
    left: AtomicU64,
    failed: AtomicU64,
    /// Written when a batch is published, read at its last answer; the same thread does both.
    started: Instant,
    published_ns: AtomicU64,
    left_of_batch: AtomicU64,
    answering_ns: AtomicU64,
    done: Sender<()>,
}

impl Counter {
    fn new(left: u64) -> (Self, Receiver<()>) {
        let (done, heard) = bounded(1);
        let [failed, published_ns, left_of_batch, answering_ns] = [0; 4].map(AtomicU64::new);
        let started = Instant::now();
        let left = AtomicU64::new(left);
        (Self { left, failed, started, published_ns, left_of_batch, answering_ns, done }, heard)
    }
}

impl Counter {
    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}

impl ApplyHost<RocksStorage> for Counter {
    type Tag = ();

    fn committed(&self, committed: &Committed) {
        self.left_of_batch.store(committed.changes.len() as u64, Ordering::Relaxed);
        self.published_ns.store(self.now_ns(), Ordering::Relaxed);
    }

    fn answer(&self, answer: Answer<()>) {
        if answer.result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        if self.left_of_batch.fetch_sub(1, Ordering::Relaxed) == 1 {
            let answering = self.now_ns() - self.published_ns.load(Ordering::Relaxed);
            self.answering_ns.fetch_add(answering, Ordering::Relaxed);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.done.send(());
        }
    }
}
