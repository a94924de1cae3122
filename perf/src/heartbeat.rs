//! Heartbeats: into the embedded placement driver beside a locked map of clones, and a storm against a store's own.

#[cfg(feature = "pd-grpc")]
mod grpc;

use std::time::{Duration, Instant};

use regionmeta_batch::pd::HeartbeatSettings;
use regionmeta_batch::pd::storm::{self, StormSettings};
use regionmeta_bench::counting::Counting;
use regionmeta_bench::heartbeat::{Report as Rates, Settings, run as measure};
use regionmeta_bench::workload;
use serde::Serialize;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How much more may be in use after the storm than after the calm before it.
const GROWTH_PERCENT_MAX: f64 = 5.0;

/// Options of the measurement.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Regions that report to the driver.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    regions: u32,
    /// Rounds; the result is their median.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Regions of the store that is in the storm; 0 for no storm.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    storm_regions: u32,
    /// Seed of the regions, of the order of heartbeats, and of the storm.
    #[arg(long, default_value_t = workload::SEED)]
    seed: u64,
    /// Print the result as one JSON object on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    rates: Rates,
    /// Only if this was built with the feature `pd-grpc`.
    grpc: Option<OverGrpc>,
    storm: Option<Storm>,
}

/// The same heartbeats through a client, the loopback device and a server, all in this process: one stream, medians of all rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct OverGrpc {
    unchanged_per_s: f64,
    changed_per_s: f64,
}

/// What a storm was like. Nothing went back, no queue was too long, no rate too high: otherwise there is no report.
#[derive(Debug, Serialize)]
struct Storm {
    regions: u32,
    simulated_s: u64,
    took_s: f64,
    heartbeats: u64,
    connects: u64,
    connects_in_10_s_max: usize,
    operators: u64,
    operators_refused: u64,
    invalid_answers: u64,
    queued_max: usize,
    /// Bytes in use at the end of each kind of weather.
    bytes_in_use: Vec<(&'static str, usize)>,
    growth_percent: f64,
}

/// Runs both. `false` if memory grew in the storm by more than [`GROWTH_PERCENT_MAX`].
pub(crate) fn run<A>(arguments: &Arguments, allocator: &'static Counting<A>) -> Result<bool, Error> {
    let Arguments { regions, rounds, storm_regions, seed, json } = *arguments;
    let settings = Settings { regions: regions as usize, rounds: rounds as usize, seed };
    let rates = measure(&settings, &mut |what| eprintln!("{what} ..."))?;
    let grpc = over_grpc(&settings)?;
    let storm = match storm_regions {
        0 => None,
        regions => Some(weather(regions, seed, allocator)?),
    };
    let report = Report { rates, grpc, storm };
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(report.storm.is_none_or(|storm| storm.growth_percent <= GROWTH_PERCENT_MAX))
}

#[cfg(feature = "pd-grpc")]
fn over_grpc(settings: &Settings) -> Result<Option<OverGrpc>, Error> {
    eprintln!("over gRPC ...");
    grpc::measure(settings).map(Some)
}

#[cfg(not(feature = "pd-grpc"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
fn over_grpc(_: &Settings) -> Result<Option<OverGrpc>, Error> {
    Ok(None)
}

fn weather<A>(regions: u32, seed: u64, allocator: &'static Counting<A>) -> Result<Storm, Error> {
    eprintln!("a storm over {regions} regions ...");
    let settings = StormSettings {
        regions: regions as usize,
        phase: Duration::from_secs(60),
        changes: (regions as usize / 1_000).max(20),
        heartbeats: HeartbeatSettings { rate_per_s: (regions / 20).max(2_000), ..HeartbeatSettings::default() },
        seed,
    };
    let (started, mut bytes, mut outcome) = (Instant::now(), Vec::new(), None);
    let mut watch = |weather| bytes.push((weather, allocator.in_use()));
    allocator.count(&mut || outcome = Some(storm::run(&settings, &mut watch)));
    let seen = outcome.ok_or("there was no storm")??;
    let in_use = |at: Option<&(&str, usize)>| at.map_or(f64::NAN, |(_, bytes)| *bytes as f64);
    let growth_percent = (in_use(bytes.last()) / in_use(bytes.first()) - 1.0) * 100.0;
    Ok(Storm {
        regions,
        simulated_s: seen.simulated_s,
        took_s: started.elapsed().as_secs_f64(),
        heartbeats: seen.counts.sent,
        connects: seen.counts.connects,
        connects_in_10_s_max: seen.connects_max,
        operators: seen.counts.operators,
        operators_refused: seen.counts.refused,
        invalid_answers: seen.counts.invalid,
        queued_max: seen.queued_max,
        bytes_in_use: bytes,
        growth_percent,
    })
}

fn print(report: &Report) {
    print!("{}", report.rates);
    if let Some(grpc) = report.grpc {
        println!(
            "over gRPC on loopback, one stream: {:.0} unchanged/s, {:.0} changed/s",
            grpc.unchanged_per_s, grpc.changed_per_s
        );
    }
    let Some(storm) = &report.storm else { return };
    println!(
        "a storm over {} regions: {} s on its own clock, {:.1} s on ours",
        storm.regions, storm.simulated_s, storm.took_s
    );
    println!("  {} heartbeats, none behind an earlier one; at most {} waited", storm.heartbeats, storm.queued_max);
    println!("  {} connects, at most {} in 10 s", storm.connects, storm.connects_in_10_s_max);
    println!(
        "  {} operators handed over, {} refused, {} invalid answers",
        storm.operators, storm.operators_refused, storm.invalid_answers
    );
    for (weather, bytes) in &storm.bytes_in_use {
        println!("  {bytes:>12} bytes in use after: {weather}");
    }
    println!("  growth: {:.2} % (at most {GROWTH_PERCENT_MAX} %)", storm.growth_percent);
}
