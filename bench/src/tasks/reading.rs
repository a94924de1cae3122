//! Reading tasks: look-ups by key and by id, counts and scans. The sum of what was found is checked against the oracle's.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use super::{Entrant, Outcome, Stage};
use crate::map::{BATCH, Count, Failure, Found, Get, Locate, RegionMap, Scan};
use crate::workload::{Probes, Ranges, RowKey};

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

    /// Look-ups by key on two threads, half of the probes apart; the time is for all operations together.
    pub fn locate_on_two_threads<'r, L: Locate>(
        &'r self,
        probes: &'r Probes,
        reader: impl Fn(&'r M) -> L + Sync + 'r,
    ) -> Entrant<'r> {
        let (map, mut begin) = (&self.map, 0);
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
                let other = threads.spawn(|| one(begin + probes.len() / 2));
                (one(begin), other.join())
            });
            begin += ops_each as usize;
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

    /// Counts of the regions that share a key with a range.
    pub fn count<'r, C: Count>(&'r self, ranges: &'r Ranges, reader: impl Fn(&'r M) -> C + 'r) -> Entrant<'r> {
        let mut at = 0;
        Entrant::new(self.name, self.role, move |ops| {
            let mut reader = reader(&self.map);
            let asked = || ranges.from(at).take(ops as usize);
            let started = Instant::now();
            let seen: usize = asked().map(|(range, _)| reader.count(range)).sum();
            let elapsed = started.elapsed();
            let right = seen == asked().map(|(_, regions)| regions).sum::<usize>();
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
    use std::sync::Mutex;

    use regionmeta::KeyRange;

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

    impl Count for Liar<'_> {
        fn count(&mut self, range: KeyRange<'_>) -> usize {
            self.asked += 1;
            let mut map = self.map;
            map.count(range) + usize::from(self.asked.is_multiple_of(1_000))
        }
    }

    /// Writes down what it is asked for.
    struct Witness<'a> {
        map: &'a SortedArray,
        asked: &'a Mutex<Vec<Vec<u8>>>,
    }

    impl Locate for Witness<'_> {
        fn locate(&mut self, key: &[u8]) -> Option<Found> {
            self.asked.lock().unwrap().push(key.to_vec());
            self.map.locate(key)
        }
    }

    /// The same few probes again and again would be answered out of the cache, which one thread's are not.
    #[test]
    fn two_threads_go_on_through_all_probes_as_one_does() {
        let layout = Layout::new(100, SEED);
        let model = Model::new(&layout);
        let map = Stage::<SortedArray>::map_of(&model).unwrap();
        let stage = Stage::new("sorted_array", Role::Peer, map, model);
        let probes = Probes::uniform(&layout, SEED);
        let asked = Mutex::new(Vec::new());
        let mut entrant = stage.locate_on_two_threads(&probes, |map| Witness { map, asked: &asked });
        (0..4).for_each(|_| assert_eq!(entrant.run(probes.len() as u64 / 4).unwrap().wrong, 0));
        let mut asked = asked.lock().unwrap().clone();
        let all = probes.pieces(0, probes.len() as u64).flat_map(|(keys, _)| keys);
        let mut all: Vec<Vec<u8>> = all.map(|key| key.to_vec()).collect();
        asked.sort_unstable();
        all.sort_unstable();
        assert!(asked == all, "{} look-ups of {} probes, not each once", asked.len(), all.len());
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
        let ranges = Ranges::of_about(10, &layout, SEED);
        assert_eq!(stage.count(&ranges, |map| map).run(2_000).unwrap().wrong, 0);
        assert_eq!(stage.count(&ranges, liar).run(2_000).unwrap().wrong, 1);
    }
}
