//! How far each region was applied, and who may move that on: one batch at a time.
//!
//! A batch claims a region when it first touches it, and gives the claim back when it is committed or dropped. Whatever it
//! reads of a claimed region, descriptor and apply state, stays true until then, so no entry is checked against a region
//! that another batch has changed meanwhile, and no applied index goes back (I5, I8).

use std::sync::{Mutex, MutexGuard, PoisonError};

use regionmeta::{ApplyState, RegionId};

use crate::region_map::{RegionMap, RegionSet};

/// The apply states of all live regions, as of the last commit. Apply workers only; no reader comes here.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    applied: RegionMap<ApplyState>,
    claimed: RegionSet,
}

/// Another batch holds the region.
#[derive(Debug)]
pub(crate) struct Claimed;

impl Progress {
    pub(crate) fn new(applied: RegionMap<ApplyState>) -> Self {
        Self { state: Mutex::new(State { applied, claimed: RegionSet::default() }) }
    }

    pub(crate) fn get(&self, region: RegionId) -> Option<ApplyState> {
        self.lock().applied.get(&region).copied()
    }

    /// Claims a region for one batch, and says how far it was applied.
    pub(crate) fn claim(&self, region: RegionId) -> Result<Option<ApplyState>, Claimed> {
        let mut state = self.lock();
        if state.claimed.insert(region) { Ok(state.applied.get(&region).copied()) } else { Err(Claimed) }
    }

    /// Takes over the states that were written; `None` for a region that is gone.
    pub(crate) fn record(&self, written: impl Iterator<Item = (RegionId, Option<ApplyState>)>) {
        let mut state = self.lock();
        for (region, applied) in written {
            match applied {
                Some(applied) => state.applied.insert(region, applied),
                None => state.applied.remove(&region),
            };
        }
    }

    pub(crate) fn release<'a>(&self, regions: impl Iterator<Item = &'a RegionId>) {
        let mut state = self.lock();
        for region in regions {
            state.claimed.remove(region);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
