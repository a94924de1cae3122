//! PLACEHOLDER
pub mod apply;
pub mod bootstrap;
pub mod pd;
mod poison;
mod progress;
pub mod raft_engine;
pub mod records;
pub mod recovery;
pub mod storage;
mod store;

pub use self::poison::Poisoned;
pub use self::store::{OpenError, Store, StoreBuilder};
