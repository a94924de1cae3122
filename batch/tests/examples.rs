//! Every example runs, and what it checks holds.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "an example that fails has to fail here")]

#[path = "../examples/attach.rs"]
mod attach;
#[allow(dead_code, reason = "its own way in reads the arguments of a program")]
#[path = "../examples/multi_raft/main.rs"]
mod multi_raft;
#[cfg(feature = "pd-grpc")]
#[path = "examples/multi_raft_pd.rs"]
mod multi_raft_pd;
#[path = "../examples/quickstart.rs"]
mod quickstart;

#[test]
fn attach_runs() {
    attach::main().unwrap();
}

#[test]
fn multi_raft_runs() {
    multi_raft::run([]).unwrap();
}

#[test]
fn quickstart_runs() {
    quickstart::main().unwrap();
}
