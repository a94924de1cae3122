//! The demo: the main job of the library on real RocksDB, with a proof at the end.
//!
//! A child process bootstraps a store, splits it into N regions, then serves lookups and epoch checks while splits and
//! conf changes go on, and tells its parent of every commit that returned. The parent kills it in the middle of the writes,
//! opens the store again, and compares.

mod acks;
mod child;
mod messages;
mod progress;
mod report;
mod verify;
mod workload;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use regionmeta_batch::StoreBuilder;

use self::acks::Acknowledged;
use self::messages::{Message, ServeStats};
use self::progress::Progress;
use self::report::Report;

pub(crate) use self::child::{ChildArguments, run as run_child};

/// The cluster of the demo's store.
const CLUSTER_ID: u64 = 1;

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
    /// Keep the store's directory.
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
    let progress = Progress::new(arguments.regions, arguments.seconds);
    let (acknowledged, served) = serve_and_kill(arguments, &directory.store, seed, &progress)?;

    progress.recovering();
    let started = Instant::now();
    let store = StoreBuilder::new(CLUSTER_ID.into()).open(&directory.store)?;
    let recovery_time = started.elapsed();
    progress.proving();
    let proof = verify::prove(&store, &acknowledged)?;
    progress.finish();

    let report = Report::new(seed, &served, &store, recovery_time, &proof);
    store.close()?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    for violation in served.violations.iter().chain(&proof.violations).take(10) {
        eprintln!("violation: {violation}");
    }
    if let Some(kept) = directory.keep_or_remove(arguments.keep) {
        eprintln!("the store is in {}", kept.display());
    }
    Ok(report.holds())
}

/// Starts the child, collects what it acknowledges, and kills it a random moment after it has served its time.
fn serve_and_kill(
    arguments: &Arguments,
    store: &Path,
    seed: u64,
    progress: &Progress,
) -> Result<(Acknowledged, ServeStats), Error> {
    let mut child = start_child(arguments, store, seed)?;
    let killed = listen_and_kill(&mut child, seed, progress);
    // Whatever happened, no child is left behind.
    let _ = child.kill();
    child.wait()?;
    killed
}

fn start_child(arguments: &Arguments, store: &Path, seed: u64) -> Result<Child, Error> {
    let child = Command::new(std::env::current_exe()?)
        .arg("demo-child")
        .arg("--dir")
        .arg(store)
        .args(["--regions", &arguments.regions.to_string()])
        .args(["--seconds", &arguments.seconds.to_string()])
        .args(["--seed", &seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(child)
}

fn listen_and_kill(child: &mut Child, seed: u64, progress: &Progress) -> Result<(Acknowledged, ServeStats), Error> {
    let mut lines = std::io::BufReader::with_capacity(1 << 20, child.stdout.take().ok_or("the child has no stdout")?);
    let mut acknowledged = Acknowledged::default();
    let mut served: Option<ServeStats> = None;
    let mut kill_at: Option<Instant> = None;
    let mut line = String::new();
    loop {
        line.clear();
        // A line without its end was cut by the kill: the child never got to know that it was read.
        if lines.read_line(&mut line)? == 0 || !line.ends_with('\n') {
            break;
        }
        match Message::parse(&line)? {
            Message::Grown(regions) => progress.grown(regions),
            Message::Serving => progress.serving(),
            Message::Committed(commit) => acknowledged.add(commit),
            Message::Served(stats) => {
                served = Some(stats);
                let moment = fastrand::Rng::with_seed(seed).u64(20..300);
                kill_at = Some(Instant::now() + Duration::from_millis(moment));
            }
        }
        if kill_at.is_some_and(|at| Instant::now() >= at) {
            // SIGKILL; what is still in the pipe was acknowledged and is read to its end.
            child.kill()?;
            kill_at = None;
        }
    }
    let served = served.ok_or("the child ended before it had served; its message is above")?;
    Ok((acknowledged, served))
}

/// Where the store is, and who removes it.
struct Directory {
    store: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Directory {
    fn choose(arguments: &Arguments) -> Result<Self, Error> {
        let Some(store) = arguments.dir.clone() else {
            let temporary = tempfile::Builder::new().prefix("regionmeta-demo-").tempdir()?;
            return Ok(Self { store: temporary.path().join("store"), temporary: Some(temporary) });
        };
        match std::fs::read_dir(&store).map(|entries| entries.count()) {
            Ok(1..) => Err(format!("{} is not empty: the demo starts from an empty directory", store.display()).into()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", store.display()).into())
            }
            _ => Ok(Self { store, temporary: None }),
        }
    }

    /// The directory if it is still there afterwards.
    fn keep_or_remove(self, keep: bool) -> Option<PathBuf> {
        match self.temporary {
            Some(temporary) if keep => Some(temporary.keep().join("store")),
            Some(_) => None,
            None if keep => Some(self.store),
            None => {
                // It was empty or absent before, so everything in it is the demo's.
                let _ = std::fs::remove_dir_all(&self.store);
                None
            }
        }
    }
}
