//! Which peers are being made that have no record yet: by a message, or by a split whose batch is not written (spec section
//! 5.5). One map for the store, under a lock of its own, so that of a message and a split that make the same region one wins.
//!
//! It is the outermost lock of those that peers take. Writes that must not be overtaken by a split are made under it; readers
//! never come here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use regionmeta::{ChildReservation, RegionId};

/// By region, who is being made there.
pub(crate) type Reserved = HashMap<RegionId, ChildReservation>;

/// The reservations of one store.
#[derive(Debug, Default)]
pub(crate) struct Creating {
    reserved: Mutex<Reserved>,
}

impl Creating {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Reserved> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
