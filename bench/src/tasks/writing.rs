//! Writing tasks: publishing splits and conf changes.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{Entrant, Outcome, Stage};
use crate::map::{Failure, Publish};
use crate::model::Model;
use crate::workload::SlotBounds;

/// Changes that are prepared together, then published one by one under the clock.
const CHANGES_IN_A_ROW: usize = 64;

/// What kind of change is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A split of a region that is whole, a merge of one that is split.
    SplitOrMerge,
    /// A conf change.
    ChangePeer,
}

impl<M: Publish> Stage<'_, M> {
    /// Changes of random regions, `batch` in a publish; one change is an operation. What was split is merged back outside the
    /// clock, so that the map stays as large as it was.
    pub fn publish<'r>(&'r self, kind: Kind, batch: usize, seed: u64) -> Entrant<'r> {
        let mut rng = Rng::with_seed(seed);
        Entrant::new(self.name, self.role, move |ops| {
            let model = &mut *self.model.borrow_mut();
            let mut elapsed = Duration::ZERO;
            let mut done = 0;
            while done < ops {
                let wanted = (ops - done).next_multiple_of(batch as u64).min(batch.max(CHANGES_IN_A_ROW) as u64);
                let slots = distinct_slots(model, wanted as usize, &mut rng);
                elapsed += publish_timed(&self.map, model, kind, slots.chunks(batch))?;
                if kind == Kind::SplitOrMerge {
                    self.map.publish(plan(&self.map, model, kind, &slots)?)?;
                }
                done += slots.len().max(1) as u64;
            }
            Ok(Outcome::of(done, elapsed, true))
        })
    }
}

/// At most `len` slots, each once: a changeset holds one change a region.
pub(super) fn distinct_slots(model: &Model<'_>, len: usize, rng: &mut Rng) -> Vec<usize> {
    let len = len.min(model.slots());
    let mut slots = Vec::with_capacity(len);
    while slots.len() < len {
        slots.push(rng.usize(0..model.slots()));
        if slots.len() == len {
            slots.sort_unstable();
            slots.dedup();
        }
    }
    rng.shuffle(&mut slots);
    slots
}

fn publish_timed<'s, M: Publish>(
    map: &M,
    model: &mut Model<'_>,
    kind: Kind,
    batches: impl Iterator<Item = &'s [usize]>,
) -> Result<Duration, Failure> {
    let plans = batches.map(|slots| plan(map, model, kind, slots)).collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    for plan in plans {
        map.publish(plan)?;
    }
    Ok(started.elapsed())
}

/// Moves the model on and prepares the same changes for the map.
pub(super) fn plan<M: Publish>(
    map: &M,
    model: &mut Model<'_>,
    kind: Kind,
    slots: &[usize],
) -> Result<M::Plan, Failure> {
    let bounds: Vec<SlotBounds> = slots.iter().map(|&slot| model.layout().bounds(slot)).collect();
    let change = |(&slot, bounds)| match kind {
        Kind::SplitOrMerge => model.split_or_merge(slot, bounds),
        Kind::ChangePeer => model.change_peer(slot, bounds),
    };
    let changes: Vec<_> = slots.iter().zip(&bounds).map(change).collect();
    map.plan(&changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contenders::ours::Ours;
    use crate::tasks::Role;
    use crate::workload::{Layout, SEED};

    #[test]
    fn a_changeset_changes_no_region_twice() {
        let layout = Layout::new(20, SEED);
        let model = Model::new(&layout);
        let mut rng = Rng::with_seed(1);
        for len in [1, 5, 20, 64] {
            let mut slots = distinct_slots(&model, len, &mut rng);
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), len.min(20));
        }
    }

    #[test]
    fn what_was_split_is_whole_again() {
        let layout = Layout::new(50, SEED);
        let model = Model::new(&layout);
        let map = Stage::<Ours>::map_of(&model).unwrap();
        let stage = Stage::new("ours", Role::Ours, map, model);
        let outcome = stage.publish(Kind::SplitOrMerge, 7, SEED).run(30).unwrap();
        assert!(outcome.ops >= 30 && !outcome.elapsed.is_zero());
        let model = stage.model.borrow();
        assert!(
            (0..50).all(|slot| !model.is_split(slot))
                && (0..50).any(|slot| model.get(slot + 1).unwrap().epoch.version > 1)
        );
    }
}
