//! Three stores in one process, several regions, and the real `raft` crate. One store begins with all keys; the others get
//! their peers by messages and their data by snapshots. Then splits, joint conf changes, leader changes, merges and log
//! compactions go through the log and this library, and stores die and come back in between. In the end all have the same
//! regions to the last byte, and the same data.
//!
//! A host has one thread that owns the Raft groups, and an apply pool. To follow an entry on its way, read:
//!
//! | file | what |
//! |---|---|
//! | `command.rs`, `propose.rs` | what goes through the log: admin commands and writes |
//! | `log.rs`, `node.rs` | one region's log in RocksDB, and its Raft group over it |
//! | `host.rs`, `ready.rs` | a store: its loop, and what Raft has ready |
//! | `pool.rs`, `effects.rs` | the apply pool's answers, and what Raft, network and PD have to do then |
//! | `wire.rs`, `receive.rs` | letters between stores: the library says whose receivers are here, may come to be, or are gone |
//! | `snapshot.rs`, `ingest.rs`, `data.rs` | a region's snapshot on its way out and in, and the host's own data |
//! | `merge.rs` | two regions become one, also where a replica of the source lags |
//! | `progress.rs`, `errand.rs` | what PD is told and asked |
//! | `cluster.rs`, `story/` | three hosts in one process, and what happens to them |
//! | `arguments.rs`, `processes/` | the same with three processes and a PD that is another one |
//!
//! A peer's configuration, its way to other stores and where it goes on after a restart come from the descriptor and the apply
//! state; nothing else remembers them. Log and hard state are in the same RocksDB, under the library's keys.
//!
//! Left out: rollback of merges, witnesses and flashback.
//!
//! `cargo run --example multi_raft`, or with `--pd` (see `arguments.rs`)

pub(crate) mod arguments;
mod blobs;
mod cluster;
mod command;
mod data;
mod effects;
mod errand;
mod host;
mod ingest;
mod log;
mod merge;
mod node;
mod pool;
#[cfg(feature = "pd-grpc")]
pub(crate) mod processes;
mod progress;
mod propose;
mod ready;
mod receive;
mod snapshot;
mod story;
mod wire;

use std::error::Error;
use std::process::ExitCode;

use regionmeta::ClusterId;
use regionmeta_batch::StoreBuilder;

use self::arguments::Arguments;

type Done<T = ()> = Result<T, Box<dyn Error>>;

const CLUSTER: ClusterId = ClusterId::new(7);

fn builder() -> StoreBuilder {
    StoreBuilder::new(CLUSTER)
}

/// Runs the example as its arguments say.
pub fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("multi_raft: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that the example shows; an error if anything is not as it says.
pub(crate) fn run(arguments: impl IntoIterator<Item = String>) -> Done {
    let arguments = Arguments::parse(arguments)?;
    if arguments.pd.is_empty() { story::tell() } else { in_processes(&arguments) }
}

#[cfg(feature = "pd-grpc")]
fn in_processes(arguments: &Arguments) -> Done {
    processes::run(arguments, processes::this_program)
}

#[cfg(not(feature = "pd-grpc"))]
fn in_processes(_: &Arguments) -> Done {
    Err("--pd needs the feature pd-grpc: cargo run --features pd-grpc --example multi_raft -- --pd ...".into())
}
