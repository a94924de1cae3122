//! The load driver of regionmeta. `./dev demo` and `./dev perf` run it; each subcommand says what it does with `--help`.

mod apply;
mod churn;
mod compare;
mod demo;
mod heartbeat;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use regionmeta_bench::counting::Counting;

/// Counts bytes only while `compare` builds its maps, during `churn`, and in the storm of `heartbeat`; at all other times that costs one relaxed load an allocation.
#[global_allocator]
static ALLOCATOR: Counting<MiMalloc> = Counting::new(MiMalloc);

/// Drives regionmeta on this machine: the demo, and measurements.
#[derive(Parser, Debug)]
#[command(name = "regionmeta-perf", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// From an empty directory to a recovered store: bootstrap, split, serve, kill -9, recover, prove.
    Demo(demo::Arguments),
    /// This map beside other ways to do the same, interleaved in one process: medians and ratios.
    Compare(compare::Arguments),
    /// The apply pipeline, mailbox to published and answered, beside raw RocksDB writes of the same bytes.
    Apply(apply::Arguments),
    /// A million random changes, and what they leave in memory beside a freshly built map.
    Churn(churn::Arguments),
    /// Heartbeats into the embedded placement driver, beside a locked map of clones, and a storm against a store's own.
    Heartbeat(heartbeat::Arguments),
    /// The process that the demo starts and kills.
    #[command(hide = true)]
    DemoChild(demo::ChildArguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Compare(arguments) => compare::run(arguments, &ALLOCATOR),
        Command::Apply(arguments) => apply::run(&arguments),
        Command::Churn(arguments) => churn::run(&arguments, &ALLOCATOR),
        Command::Heartbeat(arguments) => heartbeat::run(&arguments, &ALLOCATOR),
        Command::DemoChild(arguments) => demo::run_child(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
