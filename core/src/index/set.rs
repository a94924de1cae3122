//! [`RegionSet`]: some of the regions, by their ids, in two or three bytes each.

use std::iter::FusedIterator;

use triomphe::{Arc, ThinArc};

use super::radix::{Radix, Value, skip};
use crate::ids::RegionId;
use crate::prefetch;

/// Ids that differ in these low bits only are in one chunk.
const CHUNK_BITS: u32 = 14;
const CHUNK: u64 = 1 << CHUNK_BITS;
const WORDS: usize = (CHUNK / 64) as usize;

/// Up to so many ids a chunk lists them; with more, a bit for each id takes no more room than the list.
const FEW_MAX: usize = CHUNK as usize / 16;
/// A chunk of bits goes back to a list below that. Well below, so that it does not do so at every other edit.
const MANY_MIN: usize = FEW_MAX / 2;

/// The low bits of some ids. The length stands beside the pointer: counting reads no chunk.
#[derive(Clone)]
enum Chunk {
    /// In ascending order.
    Few { len: u16, ids: ThinArc<(), u16> },
    /// A bit for each.
    Many { len: u16, bits: Arc<[u64; WORDS]> },
}

/// A copy-on-write set of ids. Cloning it is two reference counts. An edit copies one chunk, of at most 2 KiB and a few
/// hundred bytes where many stores share the regions, and the few nodes that lead to it; for an id among the largest, and
/// those of new regions are, there are no such nodes.
#[derive(Clone, Default)]
pub(super) struct RegionSet {
    /// None of them is empty.
    chunks: Radix<Chunk>,
    /// The chunk of the largest ids so far and its number, above all others. It may be empty.
    last: Option<(u64, Chunk)>,
}

impl RegionSet {
    /// A set of ids that come in ascending order, each once.
    pub(super) fn build(ids: &[u64]) -> Self {
        let mut chunks = ids.chunk_by(|left, right| chunk_of(*left) == chunk_of(*right)).filter_map(|ids| {
            let low: Vec<u16> = ids.iter().copied().map(low_of).collect();
            Some((chunk_of(*ids.first()?), Chunk::build(&low)))
        });
        let last = chunks.next_back();
        Self { chunks: Radix::build(chunks), last }
    }

    /// O(1).
    pub(super) fn len(&self) -> usize {
        self.chunks.weight() + self.last.as_ref().map_or(0, |(_, chunk)| chunk.len())
    }

    pub(super) fn contains(&self, id: RegionId) -> bool {
        let id = id.get();
        let chunk = match &self.last {
            Some((last, chunk)) if *last == chunk_of(id) => Some(chunk),
            _ => self.chunks.get(chunk_of(id)),
        };
        chunk.is_some_and(|chunk| chunk.at_or_after(low_of(id)) == Some(low_of(id)))
    }

    /// Puts in an id that is not there.
    pub(super) fn insert(&mut self, id: RegionId) {
        let (key, low) = (chunk_of(id.get()), low_of(id.get()));
        match &mut self.last {
            Some((last, chunk)) if *last == key => chunk.insert(low),
            Some((last, _)) if *last > key => self.chunks.edit(key, |slot| match slot {
                Some(chunk) => chunk.insert(low),
                None => *slot = Some(Chunk::build(&[low])),
            }),
            last => {
                let before = last.replace((key, Chunk::build(&[low])));
                if let Some((key, chunk)) = before.filter(|(_, chunk)| chunk.len() > 0) {
                    self.chunks.insert(key, chunk);
                }
            }
        }
    }

    /// Takes out an id that is there.
    pub(super) fn remove(&mut self, id: RegionId) {
        let (key, low) = (chunk_of(id.get()), low_of(id.get()));
        match &mut self.last {
            Some((last, chunk)) if *last == key => chunk.remove(low),
            _ => self.chunks.edit(key, |slot| match slot {
                Some(chunk) if chunk.len() > 1 => chunk.remove(low),
                _ => *slot = None,
            }),
        }
    }

    /// The id that has so many others before it. O(log regions).
    pub(super) fn select(&self, nth: usize) -> Option<RegionId> {
        let (key, chunk, nth) = match nth.checked_sub(self.chunks.weight()) {
            None => self.chunks.select(nth)?,
            Some(nth) => self.last.as_ref().map(|(key, chunk)| (*key, chunk, nth))?,
        };
        Some(id_of(key, chunk.select(nth)?))
    }

    /// Every id, in ascending order.
    pub(super) fn iter(&self) -> Ids<'_> {
        Ids { next: self.first_from(0), set: Some(self) }
    }

    /// The first id of the first chunk from that number on.
    fn first_from(&self, key: u64) -> Option<(u64, &Chunk, u16)> {
        let last = || self.last.as_ref().filter(|(last, _)| *last >= key).map(|(last, chunk)| (*last, chunk));
        let (key, chunk) = self.chunks.at_or_after(key).or_else(last)?;
        Some((key, chunk, chunk.at_or_after(0)?))
    }
}

/// The ids of a set in ascending order, lazily. It allocates nothing.
#[derive(Clone, Default)]
pub(super) struct Ids<'a> {
    set: Option<&'a RegionSet>,
    /// The chunk of the next id, and its low bits.
    next: Option<(u64, &'a Chunk, u16)>,
}

impl Ids<'_> {
    pub(super) fn peek(&self) -> Option<RegionId> {
        self.next.map(|(key, _, low)| id_of(key, low))
    }
}

impl Iterator for Ids<'_> {
    type Item = RegionId;

    fn next(&mut self) -> Option<RegionId> {
        let (key, chunk, low) = self.next?;
        let in_chunk = chunk.at_or_after(low + 1).map(|low| (key, chunk, low));
        self.next = in_chunk.or_else(|| self.set?.first_from(key + 1));
        Some(id_of(key, low))
    }
}

impl FusedIterator for Ids<'_> {}

fn chunk_of(id: u64) -> u64 {
    id >> CHUNK_BITS
}

fn low_of(id: u64) -> u16 {
    (id % CHUNK) as u16
}

fn id_of(key: u64, low: u16) -> RegionId {
    RegionId::new(key << CHUNK_BITS | u64::from(low))
}

impl Value for Chunk {
    fn weight(&self) -> usize {
        self.len()
    }

    fn prefetch_count(&self) {
        match self {
            Self::Few { ids, .. } => prefetch::lines(ids.as_ptr().cast(), 1),
            Self::Many { bits, .. } => prefetch::lines(bits.as_ptr().cast(), 1),
        }
    }
}

impl Chunk {
    /// Of ids in ascending order.
    fn build(ids: &[u16]) -> Self {
        let len = ids.len() as u16;
        if ids.len() <= FEW_MAX {
            return Self::Few { len, ids: ThinArc::from_header_and_slice((), ids) };
        }
        let mut bits = [0; WORDS];
        ids.iter().for_each(|id| flip(&mut bits, *id));
        Self::Many { len, bits: Arc::new(bits) }
    }

    fn len(&self) -> usize {
        match self {
            Self::Few { len, .. } | Self::Many { len, .. } => usize::from(*len),
        }
    }

    /// Puts in an id that is not there.
    fn insert(&mut self, id: u16) {
        match self {
            Self::Few { ids, .. } => {
                let (before, after) = around(&ids.slice, id);
                *self = Self::build(&[before, &[id], after].concat());
            }
            Self::Many { len, bits } => {
                flip(Arc::make_mut(bits), id);
                *len += 1;
            }
        }
    }

    /// Takes out an id that is there.
    fn remove(&mut self, id: u16) {
        match self {
            Self::Few { ids, .. } => {
                let (before, after) = around(&ids.slice, id);
                *self = Self::build(&[before, after.get(1..).unwrap_or_default()].concat());
            }
            Self::Many { len, bits } => {
                flip(Arc::make_mut(bits), id);
                *len -= 1;
                if self.len() < MANY_MIN {
                    *self = Self::build(&(0..self.len()).filter_map(|nth| self.select(nth)).collect::<Vec<_>>());
                }
            }
        }
    }

    /// The first id from `low` on.
    fn at_or_after(&self, low: u16) -> Option<u16> {
        match self {
            Self::Few { ids, .. } => ids.slice.get(place_of(&ids.slice, low)).copied(),
            Self::Many { bits, .. } => {
                let first = usize::from(low / 64);
                bits.iter().enumerate().skip(first).find_map(|(at, &word)| {
                    let from = if at == first { low % 64 } else { 0 };
                    lowest(at, word >> from << from)
                })
            }
        }
    }

    fn select(&self, mut nth: usize) -> Option<u16> {
        match self {
            Self::Few { ids, .. } => ids.slice.get(nth).copied(),
            Self::Many { bits, .. } => bits.iter().enumerate().find_map(|(at, &word)| {
                let nth = skip(&mut nth, word.count_ones() as usize)?;
                lowest(at, (0..nth).fold(word, |word, _| word & word.wrapping_sub(1)))
            }),
        }
    }
}

/// How many ids of a list come before one.
fn place_of(ids: &[u16], id: u16) -> usize {
    ids.partition_point(|other| *other < id)
}

/// The ids of a list before one, and from it on.
fn around(ids: &[u16], id: u16) -> (&[u16], &[u16]) {
    ids.split_at_checked(place_of(ids, id)).unwrap_or_default()
}

fn flip(bits: &mut [u64; WORDS], id: u16) {
    if let Some(word) = bits.get_mut(usize::from(id / 64)) {
        *word ^= 1 << (id % 64);
    }
}

/// The id of the lowest bit of the word at a position.
fn lowest(at: usize, word: u64) -> Option<u16> {
    (word != 0).then(|| at as u16 * 64 + word.trailing_zeros() as u16)
}

#[cfg(test)]
impl RegionSet {
    /// Panics if a chunk is out of order, in the wrong form, or counts wrongly.
    pub(super) fn check(&self) {
        self.chunks.check();
        let mut next = 0;
        while let Some((key, chunk)) = self.chunks.at_or_after(next) {
            assert!(chunk.len() > 0 && self.last.as_ref().is_some_and(|(last, _)| *last > key), "chunk {key}");
            chunk.check();
            next = key + 1;
        }
        self.last.iter().for_each(|(_, chunk)| chunk.check());
        assert_eq!(self.iter().count(), self.len());
    }

    pub(super) fn collect_nodes(&self, nodes: &mut std::collections::HashSet<*const ()>) {
        self.chunks.collect_nodes(nodes);
    }
}

#[cfg(test)]
impl Chunk {
    fn check(&self) {
        match self {
            Self::Few { ids, .. } => {
                assert!(ids.slice.len() == self.len() && self.len() <= FEW_MAX);
                assert!(ids.slice.iter().all(|id| u64::from(*id) < CHUNK));
                assert!(ids.slice.is_sorted_by(|left, right| left < right));
            }
            Self::Many { bits, .. } => {
                assert!(self.len() >= MANY_MIN);
                assert_eq!(bits.iter().map(|word| word.count_ones() as usize).sum::<usize>(), self.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn compare(set: &RegionSet, expected: &BTreeSet<u64>) {
        set.check();
        assert!(set.iter().map(RegionId::get).eq(expected.iter().copied()));
        let selected: Vec<u64> = (0..=set.len()).map_while(|nth| set.select(nth)).map(RegionId::get).collect();
        assert!(selected.iter().eq(expected), "select");
        for id in expected.iter().flat_map(|id| [id.saturating_sub(1), *id, id.saturating_add(1)]) {
            assert_eq!(set.contains(RegionId::new(id)), expected.contains(&id), "{id}");
        }
    }

    /// Through lists, bits and back, in small ids, large ones and the largest.
    #[test]
    fn a_set_agrees_with_its_naive_twin_and_old_versions_stay_as_they_are() {
        let seed = std::env::var("REGIONMETA_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("REGIONMETA_SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        for (bases, width) in
            [(&[0][..], 3_000), (&[0, 1 << 20, 1 << 40, u64::MAX - 40_000], 40_000), (&[0], 1_000_000)]
        {
            let (mut set, mut twin) = (RegionSet::default(), BTreeSet::new());
            let mut held = Vec::new();
            for step in 0..16_000 {
                let id = bases[rng.usize(0..bases.len())] + rng.u64(0..width);
                // Three quarters of the edits put in, then three quarters of them take out.
                if (rng.u8(0..4) < 3) == (step < 8_000) {
                    if twin.insert(id) {
                        set.insert(RegionId::new(id));
                    }
                } else if let Some(&id) = twin.range(id..).next() {
                    twin.remove(&id);
                    set.remove(RegionId::new(id));
                }
                if step % 2_000 == 0 {
                    compare(&set, &twin);
                    compare(&RegionSet::build(&twin.iter().copied().collect::<Vec<_>>()), &twin);
                    held.push((set.clone(), twin.clone()));
                }
            }
            held.iter().for_each(|(set, twin)| compare(set, twin));
            for id in std::mem::take(&mut twin) {
                set.remove(RegionId::new(id));
            }
            compare(&set, &twin);
            set.insert(RegionId::new(7));
            compare(&set, &BTreeSet::from([7]));
        }
    }
}
