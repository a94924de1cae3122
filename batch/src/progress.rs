//! How far each region was applied, and who may move that on: one batch at a time.
//!
//! The published map refuses the second of two batches that change a region, but most entries change no region. A batch
//! therefore claims the regions whose entries it holds before it writes: what it began with must still be true, or the
//! applied index of an entry that was acknowledged would go back (I5, I8).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use regionmeta::{ApplyState, RegionId};

/// The apply states of all live regions, as of the last commit. Apply workers only; no reader comes here.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    applied: HashMap<RegionId, ApplyState>,
    claimed: HashSet<RegionId>,
}

impl Progress {
    pub(crate) fn new(applied: HashMap<RegionId, ApplyState>) -> Self {
        Self { state: Mutex::new(State { applied, claimed: HashSet::new() }) }
    }

    pub(crate) fn get(&self, region: RegionId) -> Option<ApplyState> {
        self.lock().applied.get(&region).copied()
    }

    /// Claims regions for the batch that found them at these states, or names one that has moved on or is being moved.
    pub(crate) fn claim(&self, found: &[(RegionId, ApplyState)]) -> Result<Claim<'_>, RegionId> {
        let mut state = self.lock();
        for (region, applied) in found {
            if state.claimed.contains(region) || state.applied.get(region) != Some(applied) {
                return Err(*region);
            }
        }
        let regions: Vec<_> = found.iter().map(|(region, _)| *region).collect();
        state.claimed.extend(&regions);
        Ok(Claim { progress: self, regions })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Regions that no other batch may move on until this is dropped.
#[derive(Debug)]
#[must_use = "a claim that is dropped keeps nobody away"]
pub(crate) struct Claim<'a> {
    progress: &'a Progress,
    regions: Vec<RegionId>,
}

impl Claim<'_> {
    /// Takes over the states that were written; `None` for a region that is gone. The claim lasts on.
    pub(crate) fn record(&self, written: impl Iterator<Item = (RegionId, Option<ApplyState>)>) {
        let mut state = self.progress.lock();
        for (region, applied) in written {
            match applied {
                Some(applied) => state.applied.insert(region, applied),
                None => state.applied.remove(&region),
            };
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.progress.lock();
        for region in &self.regions {
            state.claimed.remove(region);
        }
    }
}
