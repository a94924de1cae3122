//! I9, measured: after a million random changes, with readers that hold states for a while, a map has no more in use than one
//! that was freshly built from the regions that it ends with.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use fastrand::Rng;
use regionmeta::{Region, Snapshot};
use regionmeta_bench::contenders::ours::Ours;
use regionmeta_bench::counting::Counting;
use regionmeta_bench::map::{Failure, Publish, RegionMap, TakeSnapshot};
use regionmeta_bench::model::Model;
use regionmeta_bench::workload::{self, Layout};
use serde::Serialize;

type Error = Box<dyn std::error::Error + Send + Sync>;

const READERS: u64 = 2;
/// As many as the change feed keeps, twice: after them its ring is full.
const FILL_FEED: u64 = 2_048;
/// Look-ups that a reader does with one snapshot before it lets go, at most.
const LOOKUPS_MAX: u64 = 50_000;
/// How often the bytes in use are looked at for the peak: every so many changes.
const SAMPLE_EVERY: u64 = 64;
/// Beside a region's buffer: what the allocation that it lies in has in front.
const REGION_OVERHEAD: usize = 16;
/// How much more than a fresh map may be in use at the end. Nodes that were split and merged are less full than fresh ones.
const RETAINED_PERCENT_MAX: f64 = 5.0;

/// Options of the churn.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// How many changes to publish, each in a changeset of its own.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    changes: u64,
    /// Regions in the map, before the splits.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    regions: u64,
    /// Seed of the regions and of the changes.
    #[arg(long, default_value_t = workload::SEED)]
    seed: u64,
    /// Print the result as one JSON object on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// What was measured. Bytes are as they were asked for: what the allocator adds is left out.
#[derive(Debug, Serialize)]
struct Report {
    regions: usize,
    regions_at_the_end: usize,
    changes: u64,
    changes_per_sec: f64,
    snapshots_held: u64,
    bytes_before: usize,
    bytes_peak: usize,
    bytes_after: usize,
    bytes_fresh: usize,
    index_bytes_after: usize,
    index_bytes_fresh: usize,
    retained_percent: f64,
}

/// Runs the churn. `false` if more is retained than [`RETAINED_PERCENT_MAX`].
pub(crate) fn run<A>(arguments: &Arguments, allocator: &'static Counting<A>) -> Result<bool, Error> {
    let layout = Layout::new(usize::try_from(arguments.regions)?, arguments.seed);
    let mut outcome = None;
    allocator.count(&mut || outcome = Some(measure(arguments, &layout, &|| allocator.in_use())));
    let report = outcome.ok_or("nothing was measured")??;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(report.retained_percent <= RETAINED_PERCENT_MAX)
}

fn measure(arguments: &Arguments, layout: &Layout, in_use: &dyn Fn() -> usize) -> Result<Report, Error> {
    let (mut model, mut rng) = (Model::new(layout), Rng::with_seed(arguments.seed));
    let nothing = in_use();
    let map = build(&model)?;
    (0..FILL_FEED).try_for_each(|_| change(&map, &mut model, &mut rng))?;
    let before = in_use() - nothing;
    eprintln!("{} changes of {} regions ...", arguments.changes, layout.len());
    let started = Instant::now();
    let (peak, snapshots_held) = churn(&map, &mut model, &mut rng, arguments.changes, in_use)?;
    let seconds = started.elapsed().as_secs_f64();
    settle(&map)?;
    let after = in_use() - nothing;

    let end = map.take_snapshot();
    let regions = descriptor_bytes(&end);
    let (now, copies) = (in_use(), copies_of(&end)?);
    let fresh_map = Ours::build(copies)?;
    (0..FILL_FEED).try_for_each(|_| change(&fresh_map, &mut model, &mut rng))?;
    settle(&fresh_map)?;
    let fresh = in_use() - now;
    let regions_fresh = descriptor_bytes(&fresh_map.take_snapshot());
    Ok(Report {
        regions: layout.len(),
        regions_at_the_end: end.len(),
        changes: arguments.changes,
        changes_per_sec: arguments.changes as f64 / seconds,
        snapshots_held,
        bytes_before: before,
        bytes_peak: peak - nothing,
        bytes_after: after,
        bytes_fresh: fresh,
        index_bytes_after: after - regions,
        index_bytes_fresh: fresh - regions_fresh,
        retained_percent: (after as f64 / fresh as f64 - 1.0) * 100.0,
    })
}

fn build(model: &Model<'_>) -> Result<Ours, Failure> {
    let mut records = Vec::new();
    model.try_for_each(|spec| {
        records.push(Ours::record(&spec)?);
        Ok::<_, Failure>(())
    })?;
    Ours::build(records)
}

/// A split or a merge back, or as often a membership change, of a random slot.
fn change(map: &Ours, model: &mut Model<'_>, rng: &mut Rng) -> Result<(), Failure> {
    let slot = rng.usize(0..model.slots());
    let bounds = model.layout().bounds(slot);
    let change = match rng.bool() {
        true => model.split_or_merge(slot, &bounds),
        false => model.change_peer(slot, &bounds),
    };
    map.publish(map.plan(&[change])?)
}

/// What writers free later, they have freed after a few more publishes.
fn settle(map: &Ours) -> Result<(), Failure> {
    (0..4).try_for_each(|_| map.publish(map.plan(&[])?))
}

/// The most bytes that were in use, and how many snapshots were held meanwhile.
fn churn(
    map: &Ours,
    model: &mut Model<'_>,
    rng: &mut Rng,
    changes: u64,
    in_use: &dyn Fn() -> usize,
) -> Result<(usize, u64), Error> {
    // Relaxed, both: one ends loops, the other is a number to look at after the threads have ended.
    let (stop, held) = (AtomicBool::new(false), AtomicU64::new(0));
    let peak = std::thread::scope(|scope| {
        for reader in 0..READERS {
            let (stop, held, rng) = (&stop, &held, rng.fork());
            let name = format!("reader {reader}");
            std::thread::Builder::new().name(name).spawn_scoped(scope, move || hold(map, rng, stop, held))?;
        }
        let peak = write(map, model, rng, changes, in_use);
        stop.store(true, Ordering::Relaxed);
        peak
    })?;
    Ok((peak, held.into_inner()))
}

fn write(
    map: &Ours,
    model: &mut Model<'_>,
    rng: &mut Rng,
    changes: u64,
    in_use: &dyn Fn() -> usize,
) -> Result<usize, Error> {
    let mut peak = 0;
    for n in 0..changes {
        change(map, model, rng)?;
        if n.is_multiple_of(SAMPLE_EVERY) {
            peak = in_use().max(peak);
        }
    }
    Ok(peak)
}

/// Takes a state, uses it for a random while, and lets go, again and again.
fn hold(map: &Ours, mut rng: Rng, stop: &AtomicBool, held: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let state = map.take_snapshot();
        for _ in 0..rng.u64(0..LOOKUPS_MAX) {
            let row = workload::row_key(rng.u64(40..400), rng.u64(0..1 << 28));
            std::hint::black_box(state.locate(&row));
        }
        held.fetch_add(1, Ordering::Relaxed);
    }
}

fn descriptor_bytes(state: &Snapshot) -> usize {
    state.regions().map(|region| region.as_bytes().len() + REGION_OVERHEAD).sum()
}

/// The same regions in memory of their own.
fn copies_of(state: &Snapshot) -> Result<Vec<Region>, Error> {
    Ok(state.regions().map(|region| Region::from_bytes(region.as_bytes())).collect::<Result<_, _>>()?)
}

fn print(report: &Report) {
    let Report { regions, regions_at_the_end, changes, changes_per_sec, snapshots_held, .. } = report;
    println!("{changes} changes of {regions} regions ({regions_at_the_end} at the end), {changes_per_sec:.0} a second");
    println!("{snapshots_held} states were held for a while and let go");
    println!(
        "bytes in use: {} before, {} at most, {} after",
        report.bytes_before, report.bytes_peak, report.bytes_after
    );
    println!("a freshly built map of the same regions: {}", report.bytes_fresh);
    println!("of these the index: {} after, {} fresh", report.index_bytes_after, report.index_bytes_fresh);
    println!("retained: {:.2} % (at most {RETAINED_PERCENT_MAX} %)", report.retained_percent);
}
