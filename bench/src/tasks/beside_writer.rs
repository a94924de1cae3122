//! Reading beside a writer that never pauses: throughput, latency, and keys that were missed.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::writing::plan;
use super::{Entrant, Kind, Outcome, Stage};
use crate::map::{Failure, Found, Locate, Publish};
use crate::model::Model;
use crate::workload::{Probes, RowKey};

/// One look-up in so many is timed alone; the others are timed together.
const LOOKUPS_PER_SAMPLE: usize = 16;

impl<M: Publish> Stage<'_, M> {
    /// Look-ups by key beside a writer. It splits a random region, changes a peer of another and merges the first one back,
    /// publishing each by itself and building the descriptors in between, as an apply worker would.
    pub fn locate_beside_writer<'r, L: Locate>(
        &'r self,
        probes: &'r Probes,
        seed: u64,
        reader: impl Fn(&'r M) -> L + 'r,
    ) -> Entrant<'r> {
        let (map, mut at, mut seed) = (&self.map, 0, seed);
        Entrant::new(self.name, self.role, move |ops| {
            let model = &mut *self.model.borrow_mut();
            let (regions, stop, begun) = (model.slots() as u64, AtomicBool::new(false), Barrier::new(2));
            let (outcome, published) = std::thread::scope(|threads| {
                let writing = threads.spawn(|| {
                    begun.wait();
                    write_until(&stop, map, model, seed)
                });
                begun.wait();
                let outcome = locate_checked(&mut reader(map), regions, probes, at, ops);
                // Relaxed, with the load in `write_until`: the flag passes nothing else on.
                stop.store(true, Ordering::Relaxed);
                (outcome, writing.join())
            });
            (at, seed) = (at + ops as usize, seed.wrapping_add(1));
            Ok(Outcome { published: published.map_err(|_| Failure::Panicked)??, ..outcome })
        })
    }
}

/// Returns how many changes it has published. Every region that it splits is whole again at the end.
fn write_until<M: Publish>(stop: &AtomicBool, map: &M, model: &mut Model<'_>, seed: u64) -> Result<u64, Failure> {
    let mut rng = Rng::with_seed(seed);
    let mut published = 0;
    while !stop.load(Ordering::Relaxed) {
        let (split, changed) = (rng.usize(0..model.slots()), rng.usize(0..model.slots()));
        for (kind, slot) in [(Kind::SplitOrMerge, split), (Kind::ChangePeer, changed), (Kind::SplitOrMerge, split)] {
            map.publish(plan(map, model, kind, &[slot])?)?;
            published += 1;
        }
    }
    Ok(published)
}

fn locate_checked(reader: &mut impl Locate, regions: u64, probes: &Probes, at: usize, ops: u64) -> Outcome {
    let mut outcome =
        Outcome { ops, samples_ns: Vec::with_capacity(ops as usize / LOOKUPS_PER_SAMPLE + 1), ..Outcome::default() };
    let mut seen = Seen { regions, misses: 0, wrong: 0 };
    for (keys, slots) in probes.pieces(at, ops) {
        for (keys, slots) in keys.chunks(LOOKUPS_PER_SAMPLE).zip(slots.chunks(LOOKUPS_PER_SAMPLE)) {
            let started = Instant::now();
            let mut sample = Duration::ZERO;
            for (nth, (key, &slot)) in keys.iter().zip(slots).enumerate() {
                seen.add(reader.locate(RowKey::as_slice(key)), slot);
                if nth == 0 {
                    sample = started.elapsed();
                }
            }
            outcome.elapsed += started.elapsed();
            outcome.samples_ns.push(sample.as_nanos() as u64);
        }
    }
    Outcome { misses: seen.misses, wrong: seen.wrong, ..outcome }
}

struct Seen {
    regions: u64,
    misses: u64,
    wrong: u64,
}

impl Seen {
    /// A slot's key belongs to the slot's region, or to the one that is split off it for a while.
    #[inline]
    fn add(&mut self, found: Option<Found>, slot: u32) {
        let left = u64::from(slot) + 1;
        match found {
            Some(Found { id, epoch }) => {
                self.wrong += u64::from((id != left && id != left + self.regions) || epoch.version == 0);
            }
            None => self.misses += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regionmeta::RegionEpoch;

    #[test]
    fn misses_and_strangers_are_told_from_both_parts_of_a_split() {
        let mut seen = Seen { regions: 10, misses: 0, wrong: 0 };
        let found = |id| Some(Found { id, epoch: RegionEpoch::INITIAL });
        seen.add(found(4), 3);
        seen.add(found(14), 3);
        assert_eq!((seen.misses, seen.wrong), (0, 0));
        seen.add(None, 3);
        seen.add(found(5), 3);
        seen.add(found(13), 3);
        assert_eq!((seen.misses, seen.wrong), (1, 2));
    }
}
