//! Every failpoint x every command x {error, panic, delay, kill -9}, with reopen (T4), and every command held while every other
//! one runs (T5). A point that is never reached fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail, and a panic says where"
)]

#[path = "../it/common.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with the other test binary")]
mod common;

mod cases;
mod killed;
mod pairs;
mod points;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const WATCHDOG: Duration = Duration::from_secs(30);

/// Failpoints belong to the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}
