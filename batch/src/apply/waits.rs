//! [`Waits`]: which target waits for which source, so that nobody waits for himself.
//!
//! Two merges that wait for each other (cockroach#46639) cannot come from a correct log: each PrepareMerge would have to be
//! committed before the other one. A log that has them all the same contradicts itself on every replica, and on none can any
//! of their CommitMerges ever be executed. So the target that would close the circle is refused for good, and its entry does
//! not count; that ends the wait of the next one, whose entry does not count either, and so on round the circle. Which of them
//! a replica finds first does not matter: all end where they were.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regionmeta::RegionId;

use super::delegate::CaughtUp;

/// By target, for which source it waits, and whether that is over.
type ByTarget = HashMap<RegionId, (RegionId, Arc<CaughtUp>)>;

/// All waits of a pool. Each target waits for one source at most.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits {
    by_target: Arc<Mutex<ByTarget>>,
}

/// A target waits as long as it has this.
#[derive(Debug)]
pub(super) struct Wait {
    waits: Waits,
    target: RegionId,
    caught_up: Arc<CaughtUp>,
}

impl Waits {
    /// Begins a wait; `None` if the source waits for the target already, be it by way of others. O(length of the chain).
    pub(super) fn begin(&self, target: RegionId, source: RegionId) -> Option<Wait> {
        let mut by_target = self.lock();
        let mut next = Some(source);
        while let Some(region) = next {
            if region == target {
                return None;
            }
            // A wait that is over goes round no circle, though its target may not have noticed yet.
            next = by_target.get(&region).filter(|(_, caught_up)| !caught_up.is_over()).map(|(source, _)| *source);
        }
        let caught_up = Arc::new(CaughtUp::default());
        by_target.insert(target, (source, caught_up.clone()));
        drop(by_target);
        Some(Wait { waits: self.clone(), target, caught_up })
    }

    fn lock(&self) -> MutexGuard<'_, ByTarget> {
        self.by_target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wait {
    /// What the source tells when it has stopped.
    pub(super) fn caught_up(&self) -> Arc<CaughtUp> {
        self.caught_up.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.caught_up.is_over()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waits.lock().remove(&self.target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(waits: &Waits, target: u64, source: u64) -> Option<Wait> {
        waits.begin(target.into(), source.into())
    }

    #[test]
    fn a_chain_is_no_circle_and_a_circle_of_any_length_is() {
        let waits = Waits::default();
        let chain: Vec<_> = (1..9).map(|target| begin(&waits, target, target + 1)).collect();
        assert!(chain.iter().all(Option::is_some));
        for target in 2..=9 {
            assert!(begin(&waits, 10, target).is_some(), "a branch");
        }
        assert!(begin(&waits, 9, 1).is_none() && begin(&waits, 9, 5).is_none() && begin(&waits, 9, 9).is_none());
        assert!(begin(&waits, 9, 10).is_some());
    }

    #[test]
    fn a_wait_that_is_over_or_given_up_closes_no_circle() {
        let waits = Waits::default();
        let wait = begin(&waits, 1, 2).unwrap();
        assert!(begin(&waits, 2, 1).is_none());
        wait.caught_up.end();
        assert!(wait.is_over() && begin(&waits, 2, 1).is_some());
        drop(wait);
        let wait = begin(&waits, 1, 2);
        assert!(begin(&waits, 2, 1).is_none());
        drop(wait);
        assert!(begin(&waits, 2, 1).is_some());
        assert!(waits.lock().is_empty());
    }
}
