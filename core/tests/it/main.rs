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

mod admin;
mod admin_bytes;
mod admin_oracle;
mod alloc;
mod codec;
mod examples;
mod feed;
mod fixtures;
mod meta;
mod notation;
mod permits;
mod readers;
mod records;
mod scenarios;
mod seed;
mod views;
