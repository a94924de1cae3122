//! The process that is killed: it bootstraps, grows, and serves until the end.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::RocksStorage;
use regionmeta_batch::{Store, StoreBuilder};

use super::client::{self, Reads};
use super::messages::{Message, Percentiles, ServeStats};
use super::violations::Violations;
use super::workload::{Done, Writer};
use super::{CLUSTER_ID, Error};

/// Keys a split command cuts at while the store grows, and commands in one batch.
const GROW_KEYS_PER_COMMAND: usize = 32;
const GROW_KEYS_PER_COMMIT: usize = 256;
/// Commands in one batch while serving.
const CHANGES_PER_COMMIT: usize = 64;
/// Pause of the checker between two snapshots.
const CHECK_PAUSE: Duration = Duration::from_millis(10);

/// Options of the child, set by its parent.
#[derive(clap::Args, Debug)]
pub(crate) struct ChildArguments {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    regions: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    seed: u64,
}

/// Serves until it is killed.
pub(crate) fn run(arguments: &ChildArguments) -> Result<bool, Error> {
    let pd = EmbeddedPd::new(CLUSTER_ID.into());
    let store = StoreBuilder::new(CLUSTER_ID.into()).bootstrap(&arguments.dir, &pd)?;
    let writers = if arguments.regions == 1 { 1 } else { 2 };
    let intervals = intervals(writers);
    grow(&store, &pd, arguments.regions, &intervals)?;
    serve(&store, &pd, arguments, &intervals)?;
    Ok(true)
}

/// The key interval of each writer; together they are all keys.
fn intervals(writers: u64) -> Vec<std::ops::Range<u64>> {
    let width = u64::MAX / writers;
    (0..writers).map(|at| at * width..if at + 1 == writers { u64::MAX } else { (at + 1) * width }).collect()
}

fn tell(message: &Message) -> Result<(), Error> {
    // One write a line: two threads' lines do not mix, and a parent that is gone ends this process.
    Ok(std::io::stdout().lock().write_all(message.to_line()?.as_bytes())?)
}

fn tell_committed(done: Done) -> Result<u64, Error> {
    let commands = done.commands;
    tell(&Message::Committed(done.commit))?;
    Ok(commands)
}

/// Splits the one region into `regions`, evenly, in ascending order.
fn grow(
    store: &Store<RocksStorage>,
    pd: &EmbeddedPd,
    regions: u64,
    intervals: &[std::ops::Range<u64>],
) -> Result<(), Error> {
    // Number 0 is this phase's writer; the serving ones count from 1.
    let mut writer = Writer::new(store, pd, 0);
    tell_committed(writer.add_replicas(0)?)?;
    let step = u64::MAX / regions;
    // The borders between the writers' intervals are among the keys, so that no region belongs to two writers.
    let mut keys: Vec<u64> = (1..regions).map(|at| at * step).collect();
    for border in intervals.iter().skip(1).map(|interval| interval.start) {
        let at = keys.partition_point(|&key| key < border);
        match keys.get_mut(at) {
            Some(nearest) => *nearest = border,
            None => keys.push(border),
        }
    }
    keys.truncate(usize::try_from(regions.saturating_sub(1))?);
    keys.dedup();
    for keys in keys.chunks(GROW_KEYS_PER_COMMIT) {
        tell_committed(writer.split_at(keys, GROW_KEYS_PER_COMMAND)?)?;
        tell(&Message::Grown(store.meta().snapshot().len() as u64))?;
    }
    Ok(())
}

/// Reads, checks and changes for the given time, reports, and goes on changing until the kill.
fn serve(
    store: &Store<RocksStorage>,
    pd: &EmbeddedPd,
    arguments: &ChildArguments,
    intervals: &[std::ops::Range<u64>],
) -> Result<(), Error> {
    let readers = std::thread::available_parallelism().map_or(2, |cores| cores.get().div_ceil(2).max(2));
    let measuring = AtomicBool::new(true);
    let healthy = AtomicBool::new(true);
    let is_healthy = || healthy.load(Ordering::Relaxed); // the same
    let is_measuring = || measuring.load(Ordering::Relaxed); // a late look costs one more round, nothing else
    let mut seeds = fastrand::Rng::with_seed(arguments.seed);
    tell(&Message::Serving)?;
    let started = Instant::now();
    let (failed, failures) = mpsc::channel();
    std::thread::scope(|scope| {
        let reading: Vec<_> = (0..readers)
            .map(|_| {
                let rng = seeds.fork();
                scope.spawn(move || client::read(store, rng, is_measuring))
            })
            .collect();
        let checking = scope.spawn(move || check(store, is_measuring));
        let writing: Vec<_> = (1..)
            .zip(intervals)
            .map(|(number, keys)| {
                let (rng, writer, failed) = (seeds.fork(), Writer::new(store, pd, number), failed.clone());
                scope.spawn(move || write_or_fail(writer, rng, keys.clone(), is_measuring, &failed))
            })
            .collect();
        let failure = failures.recv_timeout(Duration::from_secs(arguments.seconds));
        measuring.store(false, Ordering::Relaxed);
        if let Ok(error) = failure {
            return Err(error);
        }
        let mut stats = ServeStats { seconds: started.elapsed().as_secs_f64(), readers, ..ServeStats::default() };
        stats.writers = writing.len();
        stats.clock_ns = clock_ns();
        add_reads(&mut stats, reading)?;
        let checks = join(checking);
        stats.snapshots_checked = checks.snapshots;
        stats.violations.absorb(checks.violations);
        let mut writers = Vec::new();
        for writer in writing {
            let Some((written, writer)) = join(writer) else { return Err(failures.recv()?) };
            stats.changes += written.changes;
            stats.commits += written.commits;
            stats.commit_changes_max = stats.commit_changes_max.max(written.commit_changes_max);
            writers.push(writer);
        }
        tell(&Message::Served(stats))?;
        // The kill comes in the middle of these writes, and nothing else ends them but a failure of one of them.
        for (writer, keys) in writers.into_iter().zip(intervals) {
            let (rng, failed) = (seeds.fork(), failed.clone());
            scope.spawn(move || write_or_fail(writer, rng, keys.clone(), is_healthy, &failed));
        }
        let error = failures.recv()?;
        healthy.store(false, Ordering::Relaxed);
        Err(error)
    })
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn add_reads(
    stats: &mut ServeStats,
    readers: Vec<std::thread::ScopedJoinHandle<'_, Result<Reads, Error>>>,
) -> Result<(), Error> {
    let mut latency = client::new_histogram()?;
    for reader in readers {
        let reads = join(reader)?;
        stats.reads += reads.count;
        stats.epochs_accepted += reads.accepted;
        stats.epochs_refused += reads.refused;
        stats.violations.absorb(reads.violations);
        latency.add(reads.latency)?;
    }
    stats.read_ns = percentiles(&latency);
    Ok(())
}

struct Checks {
    snapshots: u64,
    violations: Violations,
}

/// Holds every snapshot it takes against the invariants, alone (I1, I11, I13) and against the one before (I1, I2, I3).
fn check(store: &Store<RocksStorage>, go_on: impl Fn() -> bool) -> Checks {
    let mut checks = Checks { snapshots: 0, violations: Violations::default() };
    let mut before = store.meta().snapshot();
    while go_on() {
        let now = store.meta().snapshot();
        // Nothing here destroys a region or takes a Raft snapshot.
        for violation in now.validate().into_iter().chain(before.validate_change_to(&now, |_| false)) {
            checks.violations.add(|| violation.to_string());
        }
        checks.snapshots += 1;
        before = now;
        std::thread::sleep(CHECK_PAUSE);
    }
    checks
}

#[derive(Default)]
struct Written {
    changes: u64,
    commits: u64,
    commit_changes_max: u64,
}

/// Writes as [`write()`] does. A failure, or a panic, is told at once to the parent and to the thread that waits for it.
fn write_or_fail<'a>(
    writer: Writer<'a>,
    rng: fastrand::Rng,
    keys: std::ops::Range<u64>,
    go_on: impl Fn() -> bool,
    failed: &Sender<Error>,
) -> Option<(Written, Writer<'a>)> {
    let caught = catch_unwind(AssertUnwindSafe(|| write(writer, rng, keys, go_on)));
    match caught.unwrap_or_else(|_| Err("a writer panicked".into())) {
        Ok(written) => Some(written),
        Err(error) => {
            // Before anything else: a kill may follow any moment, and must not make this a pass. If the parent is gone, or
            // another writer failed first, nobody needs to know.
            let _ = tell(&Message::Failed(error.to_string()));
            let _ = failed.send(error);
            None
        }
    }
}

/// Commits batches of random changes and acknowledges each.
fn write<'a>(
    mut writer: Writer<'a>,
    mut rng: fastrand::Rng,
    keys: std::ops::Range<u64>,
    go_on: impl Fn() -> bool,
) -> Result<(Written, Writer<'a>), Error> {
    let mut written = Written::default();
    while go_on() {
        let changes = rng.usize(1..=CHANGES_PER_COMMIT);
        let changes = tell_committed(writer.change_randomly(&mut rng, keys.clone(), changes)?)?;
        written.changes += changes;
        written.commits += 1;
        written.commit_changes_max = written.commit_changes_max.max(changes);
    }
    Ok((written, writer))
}

/// The median cost of reading the clock twice.
fn clock_ns() -> u64 {
    let mut samples: Vec<_> = (0..10_001).map(|_| Instant::now().elapsed().as_nanos()).collect();
    samples.sort_unstable();
    samples.get(samples.len() / 2).map_or(0, |&nanos| u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn percentiles(latency: &Histogram<u64>) -> Percentiles {
    let at = |quantile| latency.value_at_quantile(quantile);
    Percentiles { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
}
