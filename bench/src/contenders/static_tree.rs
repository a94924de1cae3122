//! The limit of look-ups by key: an immutable B+ tree without pointers, over 8-byte heads of the keys.
//!
//! It knows what no map that changes can know: which bytes tell all its keys apart. The head of a key is made of those, so
//! that one number is compared a key, on every level. The record that the search ends at is then read and must contain the
//! key; if it does not, which takes a key that differs from all regions' keys where those are equal, a binary search decides.

use crate::contenders::sorted_array::SortedArray;
use crate::flat::FlatRegion;
use crate::inline_key::InlineKey;
use crate::map::{BATCH, Failure, Found, Locate, RegionMap};
use crate::model::RegionSpec;

/// Heads a node: two cache lines.
const WIDTH: usize = 16;

type Node = [u64; WIDTH];

/// The static tree.
#[derive(Debug)]
pub struct StaticTree {
    heads: HeadShape,
    /// The root's level first. Child `n` of node `m` is node `WIDTH * m + n` of the next level, or region of that number.
    levels: Vec<Vec<Node>>,
    array: SortedArray,
}

impl StaticTree {
    #[inline]
    fn descend(&self, head: u64) -> usize {
        self.levels.iter().fold(0, |at, level| level.get(at).map_or(usize::MAX, |node| child(at, node, head)))
    }

    #[inline]
    fn finish(&self, place: usize, key: &InlineKey) -> Option<Found> {
        match self.array.regions().get(place) {
            Some(region) if region.contains(key) => Some(region.found()),
            _ => self.search_all(key),
        }
    }

    #[cold]
    fn search_all(&self, key: &InlineKey) -> Option<Found> {
        self.array.regions().get(self.array.place(key)?).map(FlatRegion::found)
    }
}

/// The child that leads on to `head`: the last one that does not begin after it. Without a branch: among four quarters of the
/// node, then in one of them, three comparisons each that wait for nobody.
#[inline]
fn child(at: usize, node: &Node, head: u64) -> usize {
    let begun = |place: usize| usize::from(node.get(place % WIDTH).is_some_and(|&first| first <= head));
    let quarter = 4 * (begun(4) + begun(8) + begun(12));
    at * WIDTH + quarter + begun(quarter + 1) + begun(quarter + 2) + begun(quarter + 3)
}

impl RegionMap for StaticTree {
    type Record = FlatRegion;

    fn record(spec: &RegionSpec<'_>) -> Result<FlatRegion, Failure> {
        FlatRegion::new(spec)
    }

    fn build(regions: Vec<FlatRegion>) -> Result<Self, Failure> {
        let heads = HeadShape::telling_apart(&regions);
        let mut level: Vec<Node> = nodes(regions.iter().map(|region| heads.head(&region.start)));
        let mut levels = Vec::new();
        while level.len() > 1 {
            let above = nodes(level.iter().map(|[first, ..]| *first));
            levels.push(level);
            level = above;
        }
        levels.push(level);
        levels.reverse();
        Ok(Self { heads, levels, array: SortedArray::build(regions)? })
    }
}

fn nodes(firsts: impl Iterator<Item = u64>) -> Vec<Node> {
    let mut nodes = Vec::with_capacity(firsts.size_hint().0.div_ceil(WIDTH));
    for (nth, first) in firsts.enumerate() {
        if nth % WIDTH == 0 {
            nodes.push([u64::MAX; WIDTH]);
        }
        if let Some(place) = nodes.last_mut().and_then(|node| node.get_mut(nth % WIDTH)) {
            *place = first;
        }
    }
    nodes
}

impl Locate for &StaticTree {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        let key = InlineKey::query(key);
        self.finish(self.descend(self.heads.head(&key)), &key)
    }

    /// Goes down level by level with all keys, so that their cache misses overlap.
    #[inline]
    fn locate_many(&mut self, keys: &[&[u8]; BATCH], found: &mut [Option<Found>; BATCH]) {
        let keys = keys.map(InlineKey::query);
        let heads = keys.map(|key| self.heads.head(&key));
        let mut places = [0; BATCH];
        for level in &self.levels {
            for (at, &head) in places.iter_mut().zip(&heads) {
                *at = level.get(*at).map_or(usize::MAX, |node| child(*at, node, head));
            }
        }
        for ((key, place), found) in keys.iter().zip(places).zip(found) {
            *found = self.finish(place, key);
        }
    }
}

/// Which bytes of a key make its head: the first two runs of bytes in which the regions' keys differ, cut to 8 in all.
#[derive(Clone, Copy, Debug, Default)]
struct HeadShape {
    runs: [Run; 2],
}

/// Consecutive bytes of a key. The word that they begin in is chosen by masks: an index would send the key through memory,
/// where a look-up would wait for the one before it.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// All bits set for the word that the run begins in, none for the others.
    begins_in: [u64; 3],
    shift_left: u32,
    bits: u32,
}

impl HeadShape {
    fn telling_apart(regions: &[FlatRegion]) -> Self {
        let mut differing = [0_u64; 3];
        // The first region begins before every key and would differ everywhere.
        let starts = || regions.iter().skip(1).map(|region| region.start.words());
        for (left, right) in starts().zip(starts().skip(1)) {
            for ((bits, left), right) in differing.iter_mut().zip(left).zip(right) {
                *bits |= left ^ right;
            }
        }
        let differs: Vec<bool> = differing.iter().flat_map(|word| word.to_be_bytes()).map(|byte| byte != 0).collect();
        let mut runs = [Run::default(); 2];
        let (mut from, mut bytes_left) = (0, 8);
        for run in &mut runs {
            let start = from + differs.iter().skip(from).take_while(|&&differs| !differs).count();
            let len = differs.iter().skip(start).take_while(|&&differs| differs).count().min(bytes_left);
            *run = Run::new(start, len);
            (from, bytes_left) = (start + len, bytes_left - len);
        }
        Self { runs }
    }

    #[inline]
    fn head(&self, key: &InlineKey) -> u64 {
        let [first, second] = self.runs;
        let words = key.words();
        let low = second.of(words);
        if second.bits == 64 { low } else { (first.of(words) << second.bits) | low }
    }
}

impl Run {
    fn new(start: usize, len: usize) -> Self {
        let begins_in = [0, 1, 2].map(|word| if start / 8 == word { u64::MAX } else { 0 });
        Self { begins_in, shift_left: (start % 8 * 8) as u32, bits: (len * 8) as u32 }
    }

    #[inline]
    fn of(self, [a, b, c]: [u64; 3]) -> u64 {
        let [in_a, in_b, in_c] = self.begins_in;
        let (word, next) = ((a & in_a) | (b & in_b) | (c & in_c), (b & in_a) | (c & in_b));
        let from_start = ((u128::from(word) << 64 | u128::from(next)) << (self.shift_left % 64)) >> 64;
        (from_start as u64).checked_shr(64 - self.bits).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::tasks::Stage;
    use crate::workload::{Layout, Probes, SEED};

    /// The limit is one only if no look-up of the workload has to fall back.
    #[test]
    fn heads_tell_all_keys_of_the_workload_apart() {
        let layout = Layout::new(100_000, SEED);
        let mut regions = Vec::new();
        let model = Model::new(&layout);
        model.try_for_each(|spec| FlatRegion::new(&spec).map(|region| regions.push(region))).unwrap();
        let heads = HeadShape::telling_apart(&regions);
        let ascending = |pair: &[FlatRegion]| heads.head(&pair[0].start) < heads.head(&pair[1].start);
        assert!(regions[1..].windows(2).all(ascending), "{heads:?}");
    }

    #[test]
    fn the_descent_alone_finds_the_region_of_every_workload_key() {
        let layout = Layout::new(5_000, SEED);
        let tree: StaticTree = Stage::map_of(&Model::new(&layout)).unwrap();
        let probes = Probes::uniform(&layout, SEED);
        let rows = probes.pieces(0, probes.len() as u64).flat_map(|(keys, _)| keys);
        let starts = tree.array.regions().iter().map(|region| region.start);
        for key in rows.map(|key| InlineKey::query(key)).chain(starts) {
            assert!(tree.array.regions()[tree.descend(tree.heads.head(&key))].contains(&key), "{key:?}");
        }
    }

    #[test]
    fn a_run_may_cross_two_words() {
        let key = InlineKey::query(b"0123456789abcdef");
        let run = Run::new(6, 4);
        assert_eq!(run.of(key.words()), u64::from(u32::from_be_bytes(*b"6789")));
        let whole = Run::new(8, 8);
        assert_eq!(whole.of(key.words()), u64::from_be_bytes(*b"89abcdef"));
        let last = Run::new(23, 1);
        assert_eq!(last.of(key.words()), 16);
        assert_eq!(Run::new(24, 0).of(key.words()), 0);
    }
}
