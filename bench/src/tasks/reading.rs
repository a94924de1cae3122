//! Reading tasks: look-ups by key and by id, and scans. The sum of the ids found is checked against the oracle's.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use super::{Entrant, Outcome, Stage};
use crate::map::{BATCH, Failure, Found, Get, Locate, RegionMap, Scan};
use crate::workload::{Probes, RowKey};

impl<M: RegionMap> Stage<'_, M> {
    /// Look-ups by key, one after the other.
    pub fn locate<'r, L: Locate>(&'r self, probes: &'r Probes, reader: impl Fn(&'r M) -> L + 'r) -> Entrant<'r> {
        let mut at = 0;
        Entrant::new(self.name, self.role, move |ops| {
            let mut reader = reader(&self.map);
            let started = Instant::now();
            let seen = locate_pieces(&mut reader, probes, at, ops);
            let elapsed = started.elapsed();
            let right = seen == expected_ids(probes, at, ops);
            at += ops as usize;
            Ok(Outcome::of(ops, elapsed, right))
        })
    }

    /// Look-ups by key, [`BATCH`] at once.
    pub fn locate_batched<'r, L: Locate>(
        &'r self,
        probes: &'r Probes,
        reader: impl Fn(&'r M) -> L + 'r,
    ) -> Entrant<'r> {
        let mut at = 0;
        Entrant::new(self.name, self.role, move |ops| {
            let mut reader = reader(&self.map);
            let ops = ops.next_multiple_of(BATCH as u64); // the number of probes is one, too
            let started = Instant::now();
            let mut seen = Seen::default();
            for (keys, _) in probes.pieces(at, ops) {
                for batch in keys.as_chunks::<BATCH>().0 {
                    let mut found = [None; BATCH];
                    reader.locate_many(&batch.each_ref().map(RowKey::as_slice), &mut found);
                    found.iter().for_each(|found| seen.add(*found));
                }
            }
            let (ids, elapsed) = (seen.finish(), started.elapsed());
            let right = ids == expected_ids(probes, at, ops);
            at += ops as usize;
            Ok(Outcome::of(ops, elapsed, right))
        })
    }

    /// Look-ups by key on two threads; the time is for all operations together.
    pub fn locate_on_two_threads<'r, L: Locate>(
        &'r self,
        probes: &'r Probes,
        reader: impl Fn(&'r M) -> L + Sync + 'r,
    ) -> Entrant<'r> {
        let map = &self.map;
        Entrant::new(self.name, self.role, move |ops| {
            let barrier = Barrier::new(2);
            let ops_each = ops.div_ceil(2);
            let one = |at: usize| {
                let mut reader = reader(map);
                barrier.wait();
                let started = Instant::now();
                let seen = locate_pieces(&mut reader, probes, at, ops_each);
                Outcome::of(ops_each, started.elapsed(), seen == expected_ids(probes, at, ops_each))
            };
            let (first, second) = std::thread::scope(|threads| {
                let other = threads.spawn(|| one(probes.len() / 2));
                (one(0), other.join())
            });
            let second = second.map_err(|_| Failure::Panicked)?;
            let (ops, elapsed) = (first.ops + second.ops, first.elapsed.max(second.elapsed));
            Ok(Outcome::of(ops, elapsed, first.wrong + second.wrong == 0))
        })
    }

    /// Look-ups by id.
    pub fn get<'r, G: Get>(&'r self, probes: &'r Probes, reader: impl Fn(&'r M) -> G + 'r) -> Entrant<'r> {
        let mut at = 0;
        Entrant::new(self.name, self.role, move |ops| {
            let mut reader = reader(&self.map);
            let mut seen = Seen::default();
            let started = Instant::now();
            for (_, slots) in probes.pieces(at, ops) {
                slots.iter().for_each(|&slot| seen.add(reader.get(u64::from(slot) + 1)));
            }
            let (ids, elapsed) = (seen.finish(), started.elapsed());
            let right = ids == expected_ids(probes, at, ops);
            at += ops as usize;
            Ok(Outcome::of(ops, elapsed, right))
        })
    }

    /// Scans of `regions` regions from a key on.
    pub fn scan<'r, S: Scan>(
        &'r self,
        probes: &'r Probes,
        regions: usize,
        reader: impl Fn(&'r M) -> S + 'r,
    ) -> Entrant<'r> {
        let mut at = 0;
        Entrant::new(self.name, self.role, move |ops| {
            let mut reader = reader(&self.map);
            let mut seen = Seen::default();
            let started = Instant::now();
            for (keys, _) in probes.pieces(at, ops) {
                keys.iter().for_each(|key| reader.scan(key, regions, |found| seen.add(Some(found))));
            }
            let (ids, elapsed) = (seen.finish(), started.elapsed());
            let last = self.model.borrow().slots();
            let ids_of = |&slot: &u32| (slot as usize..last.min(slot as usize + regions)).map(|slot| slot as u64 + 1);
            let expected: u64 = probes.pieces(at, ops).flat_map(|(_, slots)| slots).flat_map(ids_of).sum();
            at += ops as usize;
            Ok(Outcome::of(ops, elapsed, ids == Some(expected)))
        })
    }
}

/// Adds up what look-ups found, so that all of it is needed and the ids can be checked afterwards.
#[derive(Default)]
struct Seen {
    ids: u64,
    epochs: u64,
    misses: u64,
}

impl Seen {
    #[inline]
    fn add(&mut self, found: Option<Found>) {
        match found {
            Some(Found { id, epoch }) => {
                self.ids = self.ids.wrapping_add(id);
                self.epochs = self.epochs.wrapping_add(epoch.version ^ epoch.conf_ver);
            }
            None => self.misses += 1,
        }
    }

    /// The sum of the ids; `None` if something was not found.
    #[inline]
    fn finish(self) -> Option<u64> {
        black_box(self.epochs);
        (self.misses == 0).then_some(self.ids)
    }
}

#[inline]
fn locate_pieces(reader: &mut impl Locate, probes: &Probes, at: usize, ops: u64) -> Option<u64> {
    let mut seen = Seen::default();
    for (keys, _) in probes.pieces(at, ops) {
        keys.iter().for_each(|key| seen.add(reader.locate(key)));
    }
    seen.finish()
}

/// Outside of the writing tasks no slot is split: slot `n` belongs to region `n + 1`.
fn expected_ids(probes: &Probes, at: usize, ops: u64) -> Option<u64> {
    Some(probes.pieces(at, ops).flat_map(|(_, slots)| slots).map(|&slot| u64::from(slot) + 1).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contenders::sorted_array::SortedArray;
    use crate::model::Model;
    use crate::tasks::Role;
    use crate::workload::{Layout, SEED};

    /// Answers rightly, but for one look-up in a thousand.
    struct Liar<'a> {
        map: &'a SortedArray,
        asked: u32,
    }

    impl Locate for Liar<'_> {
        fn locate(&mut self, key: &[u8]) -> Option<Found> {
            self.asked += 1;
            let found = self.map.locate(key)?;
            Some(if self.asked.is_multiple_of(1_000) { Found { id: found.id + 1, ..found } } else { found })
        }
    }

    #[test]
    fn a_contender_that_answers_wrongly_is_found_out() {
        let layout = Layout::new(100, SEED);
        let model = Model::new(&layout);
        let map = Stage::<SortedArray>::map_of(&model).unwrap();
        let stage = Stage::new("sorted_array", Role::Peer, map, model);
        let probes = Probes::uniform(&layout, SEED);
        assert_eq!(stage.locate(&probes, |map| map).run(2_000).unwrap().wrong, 0);
        assert_eq!(stage.locate_batched(&probes, |map| map).run(2_000).unwrap().wrong, 0);
        let liar = |map| Liar { map, asked: 0 };
        assert_eq!(stage.locate(&probes, liar).run(2_000).unwrap().wrong, 1);
        assert_eq!(stage.locate_batched(&probes, liar).run(2_000).unwrap().wrong, 1);
        assert_eq!(stage.locate_on_two_threads(&probes, liar).run(4_000).unwrap().wrong, 1);
    }
}
