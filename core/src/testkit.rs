//! The slow, obvious twin of [`StoreMeta`](crate::StoreMeta), and random histories to drive both with. Shared by the tests,
//! benches and fuzz targets of this workspace; behind the feature `testkit`, outside every promise of compatibility.

mod faults;
mod history;
mod model;
#[cfg(feature = "mutants")]
mod mutants;
mod reads;
mod stores;

pub use self::faults::Fault;
pub use self::history::History;
pub use self::model::{Model, Objection};
#[cfg(feature = "mutants")]
pub use self::mutants::planted_mutant;
pub use crate::sync::taken::locks_taken_here;
