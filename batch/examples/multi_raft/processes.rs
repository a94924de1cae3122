//! Three stores, each a process of its own, and a placement driver that is another one.
//!
//! | file in `processes/` | what |
//! |---|---|
//! | `serve.rs` | one store as a process: its loop, on a real clock |
//! | `frame.rs`, `post.rs`, `door.rs` | bytes between processes: frames, the way out, the way in |
//! | `desk.rs` | what the store tells PD, and what PD wants of it |
//! | `order.rs`, `obey.rs` | what else a store may be asked for: changes, writes, and what it has |
//! | `fleet.rs` | the three processes, their orders, and their end |
//! | `story.rs`, `compare.rs` | what happens to them, and what must hold then |

mod compare;
mod desk;
mod door;
mod fleet;
mod frame;
mod obey;
mod order;
mod post;
mod serve;
mod story;

use std::process::Command;

use regionmeta_batch::pd::grpc::{GrpcPd, GrpcSettings};

use super::Done;
use super::arguments::Arguments;

/// Makes the command that runs this program again, with other arguments.
pub(crate) type Again = fn(&[String]) -> std::io::Result<Command>;

/// The program that runs now.
pub(crate) fn this_program(arguments: &[String]) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    Ok(command)
}

pub(crate) fn run(arguments: &Arguments, again: Again) -> Done {
    match &arguments.store {
        Some(directory) => serve::serve(arguments, directory),
        None => story::tell(arguments, again),
    }
}

fn connect(arguments: &Arguments) -> Done<GrpcPd> {
    Ok(GrpcPd::new(arguments.cluster, &arguments.pd, GrpcSettings::default())?)
}
