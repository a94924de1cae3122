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
mod child;
mod common;
mod directory;
mod kill;
mod merge;
mod model;
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
mod pool_model;
mod recovery;
mod storage;
