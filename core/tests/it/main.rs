//! The proof of package `regionmeta`, through its public API alone.
//!
//! Random tests print their seed; `REGIONMETA_SEED=n` replays it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking; clippy knows test functions, not their helpers"
)]

mod addresses;
mod admin;
mod admin_bytes;
mod admin_oracle;
mod admin_world;
mod alloc;
mod churn;
mod codec;
mod cost;
mod every_read;
mod examples;
mod feed;
mod fixtures;
mod history;
mod linear;
mod meta;
mod notation;
mod permits;
mod random;
mod readers;
mod records;
mod scenarios;
mod seed;
mod sizes;
#[cfg(target_os = "linux")]
mod system_calls;
mod views;
