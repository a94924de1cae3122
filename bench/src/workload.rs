//! The work: where the regions lie, and which keys are asked for. Everything follows from a seed.

use fastrand::Rng;
use regionmeta::{EndKey, KeyRange};

use crate::zipf::Zipf;

/// The seed of every benchmark, so that two runs ask the same questions.
pub const SEED: u64 = 0x005e_ed0f_4e61_0b5e;

/// Length of a workload key: `t`, 8 bytes table id, `_r`, 8 bytes row id.
pub const KEY_BYTES: usize = 19;
/// A key of the workload.
pub type RowKey = [u8; KEY_BYTES];

const TABLES_MAX: usize = 300;
const REGIONS_PER_TABLE_MIN: usize = 8;
const ROWS_PER_REGION_MIN: u64 = 300_000;
const ROWS_PER_REGION_MAX: u64 = 700_000;
const PROBES_MIN: usize = 1 << 14;
const PROBES_MAX: usize = 1 << 20;

/// The key of a table's row, as TiDB encodes it: both ids big-endian, with the sign bit turned.
#[must_use]
pub fn row_key(table: u64, row: u64) -> RowKey {
    const SIGN: u64 = 1 << 63;
    let mut key = *b"t........_r........";
    let ids = [(table, 1), (row, 11)];
    for (id, at) in ids {
        if let Some(bytes) = key.get_mut(at..at + 8) {
            bytes.copy_from_slice(&(id ^ SIGN).to_be_bytes());
        }
    }
    key
}

/// A region's slot as the layout made it: the rows of one table from `row` on, `rows` of them.
#[derive(Clone, Copy, Debug)]
struct Slot {
    table: u32,
    rows: u32,
    row: u64,
}

/// Slots of the key space, one for each region before any split. Together they cover every key, but for [holes](Layout::with_holes).
///
/// A few hundred tables of unequal size share prefixes as a SQL layer's keys do; inside a table a region holds 300,000 to
/// 700,000 rows. Slot `n` belongs to region `n + 1`.
#[derive(Clone, Debug)]
pub struct Layout {
    slots: Vec<Slot>,
    holes: Vec<bool>,
    /// The seed that it was made from.
    seed: u64,
}

impl Layout {
    /// `regions` slots that tile the whole key space.
    #[must_use]
    pub fn new(regions: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut slots = Vec::with_capacity(regions);
        let mut table = 40_u32; // the ids before are the system's own
        for regions_of_table in table_sizes(regions, &mut rng) {
            table = table.saturating_add(rng.u32(1..9));
            let mut row = 0_u64;
            for _ in 0..regions_of_table {
                let rows = rng.u64(ROWS_PER_REGION_MIN..=ROWS_PER_REGION_MAX);
                slots.push(Slot { table, rows: rows as u32, row });
                row = row.saturating_add(rows);
            }
        }
        Self { slots, holes: Vec::new(), seed }
    }

    /// The same slots, of which about every `one_in`th belongs to no region.
    #[must_use]
    pub fn with_holes(mut self, one_in: usize) -> Self {
        let mut rng = Rng::with_seed(self.seed ^ 1);
        self.holes = self.slots.iter().map(|_| rng.usize(0..one_in) == 0).collect();
        self
    }

    /// The number of slots, holes included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether no region owns this slot.
    #[must_use]
    pub fn is_hole(&self, slot: usize) -> bool {
        self.holes.get(slot).copied().unwrap_or(false)
    }

    /// The boundaries of a slot: where it begins, where a split would cut it, and where it ends.
    ///
    /// The first slot begins before every key and the last ends after every key; a slot outside the layout is empty.
    #[must_use]
    pub fn bounds(&self, slot: usize) -> SlotBounds {
        SlotBounds {
            start: if slot == 0 { None } else { self.row_of(slot, |_| 0) },
            middle: self.row_of(slot, |slot| u64::from(slot.rows) / 2).unwrap_or_default(),
            end: self.row_of(slot.saturating_add(1), |_| 0),
        }
    }

    /// The slot that contains `key`, hole or not. A naive binary search: the oracle uses it.
    #[must_use]
    pub fn slot_of(&self, key: &[u8]) -> usize {
        let after = self.slots.partition_point(|slot| row_key(slot.table.into(), slot.row).as_slice() <= key);
        after.saturating_sub(1)
    }

    /// A random row of a slot.
    #[must_use]
    pub fn random_row(&self, slot: usize, rng: &mut Rng) -> RowKey {
        self.row_of(slot, |slot| rng.u64(0..u64::from(slot.rows))).unwrap_or_default()
    }

    fn row_of(&self, slot: usize, offset: impl FnOnce(&Slot) -> u64) -> Option<RowKey> {
        self.slots.get(slot).map(|slot| row_key(slot.table.into(), slot.row.saturating_add(offset(slot))))
    }
}

/// Splits `regions` among tables of unequal size, each with one region at least.
fn table_sizes(regions: usize, rng: &mut Rng) -> Vec<usize> {
    let tables = (regions / REGIONS_PER_TABLE_MIN).clamp(1, TABLES_MAX);
    let weights: Vec<f64> = (0..tables).map(|_| 0.05 + rng.f64().powi(3)).collect();
    let total: f64 = weights.iter().sum();
    let mut left = regions;
    let mut sizes = Vec::with_capacity(tables);
    for (at, weight) in weights.iter().enumerate() {
        let tables_after = tables - at - 1;
        let wanted = (regions as f64 * weight / total) as usize;
        let size = if tables_after == 0 { left } else { wanted.clamp(1, left.saturating_sub(tables_after).max(1)) };
        sizes.push(size);
        left = left.saturating_sub(size);
    }
    sizes
}

/// See [`Layout::bounds`].
#[derive(Clone, Copy, Debug)]
pub struct SlotBounds {
    /// Inclusive; `None` before every key.
    pub start: Option<RowKey>,
    /// Strictly inside.
    pub middle: RowKey,
    /// Exclusive; `None` after every key.
    pub end: Option<RowKey>,
}

impl SlotBounds {
    /// The whole slot as a range of keys.
    #[must_use]
    pub fn whole(&self) -> KeyRange<'_> {
        KeyRange::new(self.start(), self.end())
    }

    /// What a split leaves to the region that was there.
    #[must_use]
    pub fn left(&self) -> KeyRange<'_> {
        KeyRange::new(self.start(), EndKey::Finite(&self.middle))
    }

    /// What a split gives to the new region.
    #[must_use]
    pub fn right(&self) -> KeyRange<'_> {
        KeyRange::new(&self.middle, self.end())
    }

    fn start(&self) -> &[u8] {
        self.start.as_ref().map_or(&[], |key| key.as_slice())
    }

    fn end(&self) -> EndKey<'_> {
        self.end.as_ref().map_or(EndKey::Infinite, |key| EndKey::Finite(key.as_slice()))
    }
}

/// Keys to ask for, each with the slot that it lies in. Their number is a power of two, at most a million.
#[derive(Clone, Debug)]
pub struct Probes {
    keys: Vec<RowKey>,
    slots: Vec<u32>,
}

impl Probes {
    /// Every region as likely as any other.
    #[must_use]
    pub fn uniform(layout: &Layout, seed: u64) -> Self {
        let slots = layout.len().max(1);
        Self::draw(layout, seed, |rng| rng.usize(0..slots))
    }

    /// A few regions asked for most of the time; the hot ones lie scattered.
    #[must_use]
    pub fn zipfian(layout: &Layout, seed: u64) -> Self {
        let zipf = Zipf::new(layout.len().max(1));
        let mut scattered: Vec<usize> = (0..layout.len().max(1)).collect();
        Rng::with_seed(seed ^ 2).shuffle(&mut scattered);
        Self::draw(layout, seed, |rng| scattered.get(zipf.rank(rng)).copied().unwrap_or(0))
    }

    fn draw(layout: &Layout, seed: u64, mut slot: impl FnMut(&mut Rng) -> usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let len = layout.len().next_power_of_two().clamp(PROBES_MIN, PROBES_MAX);
        let slots: Vec<u32> = (0..len).map(|_| slot(&mut rng) as u32).collect();
        let keys = slots.iter().map(|&slot| layout.random_row(slot as usize, &mut rng)).collect();
        Self { keys, slots }
    }

    /// The number of probes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The next `ops` probes from position `at` on, round and round, as contiguous pieces of keys and their slots.
    pub fn pieces(&self, at: usize, ops: u64) -> impl Iterator<Item = (&[RowKey], &[u32])> {
        let len = self.len();
        let mut at = at % len.max(1);
        let mut left = ops as usize;
        std::iter::from_fn(move || {
            let piece = at..at + left.min(len - at);
            left -= piece.len();
            at = piece.end % len.max(1);
            let found = (self.keys.get(piece.clone())?, self.slots.get(piece)?);
            (!found.0.is_empty()).then_some(found)
        })
    }
}

/// Ranges to count the regions of, each with the right answer for regions that are whole. None of their ends is a boundary.
#[derive(Clone, Debug)]
pub struct Ranges {
    ranges: Vec<(RowKey, Option<RowKey>, usize)>,
}

impl Ranges {
    /// Random ranges that share keys with `regions` regions each, or with all where there are fewer.
    #[must_use]
    pub fn of_about(regions: usize, layout: &Layout, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let regions = regions.clamp(1, layout.len().max(1));
        let last_first = layout.len().saturating_sub(regions);
        let draw = |_| {
            let first = rng.usize(0..=last_first);
            let last = first + regions - 1;
            // A range within one region must not end before it begins.
            let end = if regions > 1 { Some(layout.bounds(last).middle) } else { layout.bounds(last).end };
            (layout.random_row(first, &mut rng), end, regions)
        };
        Self { ranges: (0..PROBES_MIN).map(draw).collect() }
    }

    /// The ranges from position `at` on, round and round, each with the number of its regions.
    pub fn from(&self, at: usize) -> impl Iterator<Item = (KeyRange<'_>, usize)> {
        self.ranges.iter().cycle().skip(at % self.ranges.len().max(1)).map(|(start, end, regions)| {
            let end = end.as_ref().map_or(EndKey::Infinite, |end| EndKey::Finite(end.as_slice()));
            (KeyRange::new(start, end), *regions)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_work() {
        let work = |seed| {
            let layout = Layout::new(3_000, seed);
            let starts: Vec<_> = (0..layout.len()).map(|slot| layout.bounds(slot).start).collect();
            (starts, Probes::uniform(&layout, seed).keys, Probes::zipfian(&layout, seed).keys)
        };
        assert!(work(SEED) == work(SEED));
        let (starts, uniform, zipfian) = work(SEED);
        let (other_starts, other_uniform, other_zipfian) = work(SEED + 1);
        assert!(starts != other_starts && uniform != other_uniform && zipfian != other_zipfian);
    }

    #[test]
    fn slots_tile_the_key_space_in_order() {
        for regions in [1, 2, 7, 8, 9, 1_000, 10_000] {
            let layout = Layout::new(regions, SEED);
            assert_eq!(layout.len(), regions);
            assert!(layout.bounds(0).start.is_none() && layout.bounds(regions - 1).end.is_none());
            for slot in 0..regions {
                let bounds = layout.bounds(slot);
                assert!(bounds.whole().contains_inside(&bounds.middle), "{slot} of {regions}: {bounds:?}");
                assert!(slot == 0 || layout.bounds(slot - 1).end == bounds.start, "{slot} of {regions}");
            }
        }
    }

    #[test]
    fn probes_lie_in_their_slots_and_reach_far() {
        let layout = Layout::new(2_000, SEED);
        for (probes, regions_min, regions_max) in
            [(Probes::uniform(&layout, 1), 1_900, 2_000), (Probes::zipfian(&layout, 1), 800, 1_900)]
        {
            for (key, &slot) in probes.keys.iter().zip(&probes.slots) {
                assert!(layout.bounds(slot as usize).whole().contains(key));
                assert_eq!(layout.slot_of(key), slot as usize);
            }
            let mut hit = probes.slots.clone();
            hit.sort_unstable();
            hit.dedup();
            assert!((regions_min..=regions_max).contains(&hit.len()), "{} regions", hit.len());
        }
    }

    #[test]
    fn ranges_share_keys_with_as_many_regions_as_they_say() {
        for (regions, layout) in [(1, 50), (2, 50), (17, 50), (50, 50), (1_000, 50), (1, 1)] {
            let layout = Layout::new(layout, SEED);
            for (range, answer) in Ranges::of_about(regions, &layout, SEED).from(0).take(200) {
                let overlaps = |&slot: &usize| layout.bounds(slot).whole().overlaps(range);
                assert_eq!((0..layout.len()).filter(overlaps).count(), answer, "{range:?}");
                assert_eq!(answer, regions.min(layout.len()));
            }
        }
    }

    #[test]
    fn pieces_go_round() {
        let probes = Probes::uniform(&Layout::new(10, SEED), 1);
        let (len, ops) = (probes.len(), probes.len() as u64 * 2 + 5);
        let keys: Vec<RowKey> = probes.pieces(len - 3, ops).flat_map(|(keys, _)| keys.to_vec()).collect();
        let expected: Vec<RowKey> = (0..ops as usize).map(|n| probes.keys[(len - 3 + n) % len]).collect();
        assert!(keys == expected);
    }
}
