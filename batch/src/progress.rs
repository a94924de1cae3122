//! How far each region was applied, and who may move that on: one batch at a time.
//!
//! A batch claims a region when it first touches it, and gives the claim back when it is committed or dropped. Whatever it
//! reads of a claimed region, descriptor and apply state, stays true until then, so no entry is checked against a region
//! that another batch has changed meanwhile, and no applied index goes back (I5, I8).
//!
//! Who meets a claim is told when it is over ([`Progress::when_free`]), and who meets what another batch has reserved waits for
//! the end of one ([`Progress::wait_for_an_end`]): nobody asks again and again.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use regionmeta::{ApplyState, RegionId};

use crate::region_map::{RegionMap, RegionSet};
use crate::wake::Wake;

/// The apply states of all live regions, as of the last commit. Apply workers only; no reader comes here.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    /// Told whenever a batch ends.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    applied: RegionMap<ApplyState>,
    claimed: RegionSet,
    /// What is done when a claim is over.
    waiting: RegionMap<Vec<Wake>>,
    batches_ended: u64,
}

/// Another batch holds the region.
#[derive(Debug)]
pub(crate) struct Claimed;

impl Progress {
    pub(crate) fn new(applied: RegionMap<ApplyState>) -> Self {
        Self { state: Mutex::new(State { applied, ..State::default() }), ended: Condvar::new() }
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

    /// Ends a batch: gives its claims back, and wakes who waits for them. Called once for every batch.
    pub(crate) fn release<'a>(&self, regions: impl Iterator<Item = &'a RegionId>) {
        let mut state = self.lock();
        let mut woken = Vec::new();
        for region in regions {
            state.claimed.remove(region);
            woken.extend(state.waiting.remove(region).into_iter().flatten());
        }
        state.batches_ended = state.batches_ended.wrapping_add(1);
        drop(state);
        self.ended.notify_all();
        woken.into_iter().for_each(Wake::wake);
    }

    /// Calls `wake` once, with no lock held, when no batch holds the region: at once, or by whoever ends the batch that does.
    pub(crate) fn when_free(&self, region: RegionId, wake: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.claimed.contains(&region) {
            state.waiting.entry(region).or_default().push(Wake::new(wake));
            return;
        }
        drop(state);
        wake();
    }

    /// Calls `wake` once, with no lock held, when the batch that holds the region ends, or the next one that will.
    pub(crate) fn when_next_released(&self, region: RegionId, wake: impl FnOnce() + Send + 'static) {
        self.lock().waiting.entry(region).or_default().push(Wake::new(wake));
    }

    /// How many batches have ended so far.
    pub(crate) fn batches_ended(&self) -> u64 {
        self.lock().batches_ended
    }

    /// Waits until another batch has ended since `batches_ended` was asked.
    pub(crate) fn wait_for_an_end(&self, before: u64) {
        let state = self.lock();
        let ended = self.ended.wait_while(state, |state| state.batches_ended == before);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
