//! PD over gRPC: the encoding, every method from client to server, hostile peers, and a cluster of processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail, and a panic says where"
)]

mod calls;
mod common;
mod fake;
mod golden;
mod hostile_client;
mod hostile_pd;
mod processes;
mod shutdown;
