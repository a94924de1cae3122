//! The measuring bench: this project's map beside its peers, on the same work, with checked answers.
//!
//! - [`workload`] lays out regions as a SQL layer would and draws the keys to ask for; [`model`] is the oracle that knows every
//!   right answer. Both follow from a seed.
//! - [`map`] says what a contender is, in one small trait a capability; [`contenders`] has them, one file each; [`roster`]
//!   says who takes part in which question.
//! - [`tasks`] turns a contender and a question into something that can be run for a number of operations; the criterion
//!   suites and [`compare`](compare()) run the very same tasks.
//! - [`compare`](mod@compare) runs all contenders interleaved in one process and reports medians and ratios; [`goals`] holds them
//!   against what was asked for.
//!
//! - [`apply`] measures the apply pipeline beside raw RocksDB writes of the same bytes; [`heartbeat`] how fast the embedded
//!   placement driver takes heartbeats in, beside a locked map of clones.
//!
//! Nothing here asserts on time. What is asserted, in every task and outside the clock, is that the answers were right.

pub mod apply;
pub mod compare;
pub mod contenders;
pub mod counting;
pub mod descriptor;
pub mod flat;
pub mod goals;
pub mod heartbeat;
pub mod inline_key;
pub mod map;
pub mod model;
pub mod report;
pub mod roster;
pub mod tasks;
pub mod workload;
pub mod zipf;

pub use compare::{Settings, compare};
pub use map::{Failure, Found};
pub use report::Report;
