//! Several writers at once: each publishes changes of regions of its own, and persists between the check and the swap.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::writing::{distinct_slots, plan};
use super::{Entrant, Kind, Outcome, Stage};
use crate::contenders::ours::Ours;
use crate::map::{Failure, Publish};

/// Changes of one writer that are prepared together, then published one by one under the clock.
const CHANGES_IN_A_ROW: u64 = 512;

/// Who writes what.
#[derive(Clone, Copy, Debug)]
pub struct Writers {
    /// Threads that publish.
    pub threads: usize,
    /// What kind of change.
    pub kind: Kind,
    /// How long a writer sleeps between the check and the swap, as it would for its disk. The system adds its own slack.
    pub persist: Duration,
}

impl Stage<'_, Ours> {
    /// Changes of random regions, each in a publish of its own, by several threads; one change is an operation, and the time
    /// is for all of them together. What was split is merged back outside the clock.
    pub fn publish_on_threads(&self, writers: Writers, seed: u64) -> Entrant<'_> {
        let mut rng = Rng::with_seed(seed);
        Entrant::new(self.name, self.role, move |ops| {
            let Writers { threads, kind, persist } = writers;
            let model = &mut *self.model.borrow_mut();
            let mut total = Outcome::default();
            while total.ops < ops {
                let each = (ops - total.ops).div_ceil(threads as u64).min(CHANGES_IN_A_ROW) as usize;
                let slots = distinct_slots(model, each * threads, &mut rng);
                let plans =
                    slots.iter().map(|&slot| plan(&self.map, model, kind, &[slot])).collect::<Result<Vec<_>, _>>()?;
                total.elapsed += publish_side_by_side(&self.map, plans, threads, persist, &mut total.samples_ns)?;
                if kind == Kind::SplitOrMerge {
                    self.map.publish(plan(&self.map, model, kind, &slots)?)?;
                }
                total.ops += slots.len().max(1) as u64;
            }
            Ok(total)
        })
    }
}

type Plan = <Ours as Publish>::Plan;

/// From the first writer's first change to the last writer's last.
fn publish_side_by_side(
    map: &Ours,
    mut plans: Vec<Plan>,
    threads: usize,
    persist: Duration,
    samples_ns: &mut Vec<u64>,
) -> Result<Duration, Failure> {
    let each = plans.len().div_ceil(threads);
    let barrier = Barrier::new(threads);
    let write = |plans: Vec<Plan>| {
        barrier.wait();
        let started = Instant::now();
        let samples = plans.into_iter().map(|plan| publish_timed(map, plan, persist)).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Failure>((started, Instant::now(), samples))
    };
    let spans = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|_| plans.split_off(plans.len().saturating_sub(each))).collect();
        let running: Vec<_> = parts.into_iter().map(|part| scope.spawn(|| write(part))).collect();
        running.into_iter().map(|one| one.join().map_err(|_| Failure::Panicked)?).collect::<Result<Vec<_>, _>>()
    })?;
    let (first, last) = (spans.iter().map(|span| span.0).min(), spans.iter().map(|span| span.1).max());
    samples_ns.extend(spans.iter().flat_map(|span| &span.2));
    Ok(first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first))
}

/// One change: how long the publish took, the check and the sleep left out.
fn publish_timed(map: &Ours, plan: Plan, persist: Duration) -> Result<u64, Failure> {
    let permit = map.prepare(plan)?;
    if !persist.is_zero() {
        std::thread::sleep(persist);
    }
    let started = Instant::now();
    permit.publish();
    Ok(started.elapsed().as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Role;
    use crate::workload::{Layout, SEED};

    /// Also where the changes do not divide evenly, and where there are fewer regions than changes asked for.
    #[test]
    fn every_change_is_published_once_and_timed() {
        let layout = Layout::new(60, SEED);
        let model = crate::model::Model::new(&layout);
        let map = Stage::<Ours>::map_of(&model).unwrap();
        let stage = Stage::new("ours", Role::Ours, map, model);
        for threads in [1, 3, 8] {
            for persist in [Duration::ZERO, Duration::from_micros(50)] {
                let before = stage.map.reader().snapshot().sequence().get();
                let writers = Writers { threads, kind: Kind::ChangePeer, persist };
                let outcome = stage.publish_on_threads(writers, SEED).run(100).unwrap();
                let published = stage.map.reader().snapshot().sequence().get() - before;
                assert!(outcome.ops >= 100 && !outcome.elapsed.is_zero());
                assert_eq!((published, outcome.samples_ns.len() as u64), (outcome.ops, outcome.ops));
                let splits = Writers { kind: Kind::SplitOrMerge, ..writers };
                assert!(stage.publish_on_threads(splits, SEED).run(100).unwrap().ops >= 100);
                assert!((0..60).all(|slot| !stage.model.borrow().is_split(slot)));
            }
        }
    }
}
