//! The demo: the main job of the library on real RocksDB, with a proof at the end.
//!
//! A child process bootstraps a store, splits it into N regions, then serves lookups and epoch checks while splits and
//! conf changes go on, and tells its parent of every commit that returned. The parent kills it in the middle of the writes,
//! opens the store again, and compares.

mod acks;
mod child;
mod client;
mod messages;
mod progress;
mod report;
mod supervise;
mod verify;
mod violations;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use regionmeta_batch::StoreBuilder;

use self::progress::Progress;
use self::report::Report;
use self::supervise::Plan;

pub(crate) use self::child::{ChildArguments, run as run_child};

/// The cluster of the demo's store.
const CLUSTER_ID: u64 = 1;
/// How long the child may be silent, and how much longer than asked it may serve.
const PATIENCE: Duration = Duration::from_secs(60);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Options of the demo.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// How many regions to split the store into before serving.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    regions: u64,
    /// How many seconds to serve before the kill.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Where the store goes: a directory that does not exist or is empty. Default: a temporary one.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print the result as one JSON object on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
    /// Keep the store's directory. It is kept in any case when a check does not hold.
    #[arg(long)]
    keep: bool,
    /// Seed of the workload and of the moment of the kill. Default: random; the report names it.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the demo; whether every check held.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Error> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let directory = Directory::choose(arguments)?;
    let outcome = demonstrate(arguments, &directory.store, seed);
    let held = matches!(outcome, Ok(true));
    // A store that failed a check is the evidence.
    if let Some(kept) = directory.keep_or_remove(arguments.keep || !held) {
        eprintln!("the store is in {}", kept.display());
    }
    if !held {
        eprintln!("the seed was {seed}");
    }
    outcome
}

/// Serves, kills, recovers, proves and reports.
fn demonstrate(arguments: &Arguments, directory: &Path, seed: u64) -> Result<bool, Error> {
    let progress = Progress::new(arguments.regions, arguments.seconds);
    let plan = Plan {
        kill_after: Duration::from_millis(fastrand::Rng::with_seed(seed).u64(20..300)),
        silence_max: PATIENCE,
        serving_max: Duration::from_secs(arguments.seconds) + PATIENCE,
    };
    let mut child = child_command(arguments, directory, seed)?;
    let (acknowledged, served) = supervise::run_and_kill(&mut child, plan, &progress)?;

    progress.recovering();
    let started = Instant::now();
    let store = StoreBuilder::new(CLUSTER_ID.into()).open(directory)?;
    let recovery_time = started.elapsed();
    progress.proving();
    let proof = verify::prove(&store, &acknowledged)?;
    drop(progress);

    let report = Report::new(seed, &served, &store, recovery_time, &proof);
    store.close()?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    for violation in served.violations.first.iter().chain(&proof.violations.first) {
        eprintln!("violation: {violation}");
    }
    Ok(report.holds())
}

fn child_command(arguments: &Arguments, store: &Path, seed: u64) -> Result<Command, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("demo-child").arg("--dir").arg(store);
    command.args(["--regions", &arguments.regions.to_string()]);
    command.args(["--seconds", &arguments.seconds.to_string()]);
    command.args(["--seed", &seed.to_string()]);
    Ok(command)
}

/// Where the store is, and what is removed with it.
struct Directory {
    store: PathBuf,
    /// The temporary directory around it, or the store's own.
    all: PathBuf,
}

impl Directory {
    fn choose(arguments: &Arguments) -> Result<Self, Error> {
        let Some(store) = arguments.dir.clone() else {
            // Nothing but a demo that held removes it.
            let all = tempfile::Builder::new().prefix("regionmeta-demo-").tempdir()?.keep();
            return Ok(Self { store: all.join("store"), all });
        };
        match std::fs::read_dir(&store).map(|entries| entries.count()) {
            Ok(1..) => Err(format!("{} is not empty: the demo starts from an empty directory", store.display()).into()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", store.display()).into())
            }
            _ => Ok(Self { all: store.clone(), store }),
        }
    }

    /// The store if it is still there afterwards.
    fn keep_or_remove(self, keep: bool) -> Option<PathBuf> {
        if keep && self.store.exists() {
            return Some(self.store);
        }
        // It was empty or absent before, so everything in it is the demo's.
        let _ = std::fs::remove_dir_all(&self.all);
        None
    }
}
