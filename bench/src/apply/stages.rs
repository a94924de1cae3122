//! Where the time of a change goes: each stage of the pipeline by itself, on the same changes, in one thread.

use std::time::{Duration, Instant};

use regionmeta::{ApplyContext, ApplyState, Changeset, Reason, StoreMeta};
use regionmeta_batch::storage::{Durability, Storage};
use serde::Serialize;

use super::{Bed, Error, Planned, Way};

/// Nanoseconds a change, in batches of one size, unsynced, one worker.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stages {
    /// Changes in a batch.
    pub batch: usize,
    /// Epoch check and transition, with the building of the new region.
    pub transition_ns: f64,
    /// The envelopes of both records, with their checksums.
    pub encode_ns: f64,
    /// Putting both into the batch.
    pub batch_ns: f64,
    /// RocksDB's write.
    pub write_ns: f64,
    /// Checking and publishing the changeset.
    pub publish_ns: f64,
    /// The whole pipeline, measured beside them.
    pub whole_ns: f64,
    /// What is left of the whole: mailboxes, hand-over between threads, bookkeeping, answers. Below 0 if a stage by itself
    /// takes longer than on its way, where another thread fills the mailboxes meanwhile.
    pub rest_ns: f64,
}

/// A write costs what RocksDB's buffer is filled with, and the buffer fills in waves: stages and whole take turns, so that
/// they meet the same waves.
const TURNS: usize = 8;

/// The stages in the order in which they are reported, and last the whole.
type Took = [Duration; 6];

/// Runs each stage on `changes` changes of the bed.
pub(super) fn measure(bed: &mut Bed, batch: usize, changes: usize) -> Result<Stages, Error> {
    let a_turn = (changes / 2).max(batch); // long enough for a pool that has just started to get going
    let mut took = Took::default();
    for _ in 0..TURNS {
        let turn = one_turn(bed, batch, a_turn)?;
        took.iter_mut().zip(turn).for_each(|(sum, more)| *sum += more);
    }
    let each = |took: Duration| took.as_secs_f64() * 1e9 / (TURNS * a_turn) as f64;
    let [transition_ns, encode_ns, batch_ns, write_ns, publish_ns, whole_ns] = took.map(each);
    let rest_ns = whole_ns - transition_ns - encode_ns - batch_ns - write_ns - publish_ns;
    Ok(Stages { batch, transition_ns, encode_ns, batch_ns, write_ns, publish_ns, whole_ns, rest_ns })
}

fn one_turn(bed: &mut Bed, batch: usize, changes: usize) -> Result<Took, Error> {
    let planned = bed.plan(changes)?;
    let transition = transition(bed, &planned)?;
    let encode = time(|| planned.iter().for_each(|planned| drop(std::hint::black_box(planned.records()))));
    let (puts, write) = write(bed, &planned, batch)?;
    let publish = publish(bed, &planned, batch)?;
    let way = Way { synced: false, batch, workers: 1 };
    // The raw writes went past the store: it has to be told, and that is outside of the clock.
    bed.through_the_pipeline(way, planned)?;
    let whole = bed.measure(way, changes)?;
    Ok([transition, encode, puts, write, publish, whole])
}

fn time(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn transition(bed: &Bed, planned: &[Planned]) -> Result<Duration, Error> {
    let store = bed.store.ident().store_id;
    let started = Instant::now();
    for planned in planned {
        let context = ApplyContext::new(store, planned.position, ApplyState::INITIAL);
        std::hint::black_box(planned.request.plan(&planned.before, &context)?);
    }
    Ok(started.elapsed())
}

/// Puts and writes, timed apart. Into the very store: the pipeline writes the same records once more afterwards.
fn write(bed: &Bed, planned: &[Planned], batch: usize) -> Result<(Duration, Duration), Error> {
    let storage = bed.store.storage();
    let family = storage.db().cf_handle("raft").ok_or("no family raft")?;
    let records: Vec<_> = planned.iter().map(Planned::records).collect();
    let (mut puts, mut writes) = (Duration::ZERO, Duration::ZERO);
    for records in records.chunks(batch) {
        let mut batch = storage.batch();
        puts += time(|| records.iter().flatten().for_each(|(key, value)| batch.put_cf(&family, key, value)));
        let started = Instant::now();
        storage.write(batch, Durability::Buffered)?;
        writes += started.elapsed();
    }
    Ok((puts, writes))
}

/// On a map of the same regions that nobody else writes to.
fn publish(bed: &Bed, planned: &[Planned], batch: usize) -> Result<Duration, Error> {
    let regions: Vec<_> = bed.store.meta().snapshot().regions().cloned().collect();
    let meta = StoreMeta::recover(Some(bed.store.ident().store_id), regions, [])?;
    let mut took = Duration::ZERO;
    for planned in planned.chunks(batch) {
        let snapshot = meta.snapshot();
        let mut changes = Changeset::new();
        for planned in planned {
            let base = snapshot.get(planned.region).ok_or("no region")?.changed_at();
            changes = changes.update(base, planned.after.clone(), Reason::ChangePeer);
        }
        drop(snapshot);
        let started = Instant::now();
        let permit = meta.prepare(changes)?;
        drop(permit.publish());
        took += started.elapsed();
    }
    Ok(took)
}
