//! The tests of this package's public behaviour, in one binary. Every behaviour is tested on real RocksDB and in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail, and a panic says where"
)]

#[path = "../../../core/tests/it/admin_oracle.rs"]
#[allow(dead_code, reason = "shared with the tests of the transitions")]
mod admin_oracle;
#[path = "../../../core/tests/it/admin_world.rs"]
#[allow(dead_code, reason = "shared with the tests of the transitions")]
mod admin_world;
mod apply;
mod bad_input;
mod bootstrap;
mod bounds;
mod callbacks;
mod child;
mod common;
mod directory;
mod disk_full;
mod fixture;
mod hostile;
mod kill;
mod memory;
mod merge;
mod merge_absent;
mod model;
mod numbered;
mod options;
mod pd_embedded;
mod pd_heartbeats;
mod pd_puppet;
mod pd_strangers;
mod peer_data;
mod peer_life;
mod peer_snapshot;
mod peer_stale;
mod peers;
mod pool;
mod pool_commands;
mod pool_model;
#[cfg(target_os = "linux")]
mod power;
mod recovery;
mod recovery_crash;
mod storage;
mod wal;
