//! The tests of this package's public behaviour, in one binary. Every behaviour is tested on real RocksDB and in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail, and a panic says where"
)]

mod apply;
mod bootstrap;
mod bounds;
mod child;
mod common;
mod directory;
mod fixture;
mod hostile;
mod kill;
mod merge;
mod model;
mod numbered;
mod options;
mod peer_life;
mod peer_snapshot;
mod peers;
mod pool;
mod pool_model;
#[cfg(target_os = "linux")]
mod power;
mod recovery;
mod recovery_crash;
mod storage;
mod wal;
