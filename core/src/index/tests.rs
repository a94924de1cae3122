//! The index against a naive twin: a `BTreeMap` of start keys and a `BTreeMap` of ids, changed and asked alike.

use std::collections::BTreeMap;

use super::heads::{Heads, WIDTH};
use super::slots::{self, Keyed, Slots};
use super::{Index, IndexWriter};
use crate::RegionEpoch;
use crate::ids::{PeerId, RegionId, Sequence, StoreId};
use crate::keys::{EndKey, KeyRange};
use crate::peer::{Peer, PeerClass, PeerRole};
use crate::region::{Region, RegionDraft};
use crate::stats::{Stats, Sums};
use crate::sync::Arc;

/// A seed for this run, printed so that a failure replays: `REGIONMETA_SEED=<n> cargo test -p regionmeta index`.
fn rng() -> fastrand::Rng {
    let seed = std::env::var("REGIONMETA_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("REGIONMETA_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn region(id: u64, start: &[u8], end: &[u8]) -> Region {
    region_on(id, start, end, vec![Peer::voter(PeerId::new(id / 2 + 1), StoreId::new(1))])
}

fn region_on(id: u64, start: &[u8], end: &[u8], peers: Vec<Peer>) -> Region {
    RegionDraft::new(RegionId::new(id), KeyRange::from_wire(start, end), RegionEpoch::INITIAL, peers).build().unwrap()
}

/// In any part, on a few of some small and some very large stores.
fn some_peers(rng: &mut fastrand::Rng, id: u64) -> Vec<Peer> {
    let mut stores: Vec<u64> = (1..20).chain([u64::from(u32::MAX), u64::MAX]).collect();
    rng.shuffle(&mut stores);
    let peers = stores.into_iter().take(rng.usize(1..5)).zip(1..).map(|(store, nth)| Peer {
        id: PeerId::new(id * 8 + nth),
        store_id: StoreId::new(store),
        role: PeerRole::from_wire(rng.u8(0..4)).unwrap(),
        is_witness: rng.u8(0..4) == 0,
    });
    peers.collect()
}

fn end_of(region: &Region) -> &[u8] {
    region.end_key().to_wire()
}

/// How keys look. What the nodes do with their heads depends on nothing else.
#[derive(Clone, Copy, Debug)]
enum Keys {
    /// Short, out of few bytes: the empty key, prefixes of one another, zeroes at the end.
    Tiny,
    /// As in a database: table and row, the same bytes around them.
    Rows,
    /// More in common than a template holds, and different lengths behind it.
    Deep,
    /// Nothing in common.
    Wide,
    /// All of these in one map.
    Mixed,
}

const ALL_KEYS: [Keys; 5] = [Keys::Tiny, Keys::Rows, Keys::Deep, Keys::Wide, Keys::Mixed];

impl Keys {
    fn key(self, rng: &mut fastrand::Rng) -> Vec<u8> {
        match self {
            Self::Tiny => tiny(rng, 9),
            Self::Rows => {
                let table = [b"t\x80\0\0\0\0\0\0".as_slice(), &[rng.u8(0..4)]].concat();
                match rng.u8(0..8) {
                    0 => table,
                    1 => [table.as_slice(), b"_r"].concat(),
                    _ => [table.as_slice(), b"_r\x80\0\0\0\0", &[rng.u8(0..3), rng.u8(..)], &tiny(rng, 4)].concat(),
                }
            }
            Self::Deep => [vec![b'd'; rng.usize(29..32)], vec![0; rng.usize(0..12)], tiny(rng, 8)].concat(),
            Self::Wide => (0..rng.usize(0..60)).map(|_| rng.u8(..)).collect(),
            Self::Mixed => [Self::Tiny, Self::Rows, Self::Deep, Self::Wide][rng.usize(0..4)].key(rng),
        }
    }
}

fn tiny(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    (0..rng.usize(0..len)).map(|_| [0, 0, 1, b'a', 0xff][rng.usize(0..5)]).collect()
}

/// The naive twin.
#[derive(Clone, Default)]
struct Model {
    by_key: BTreeMap<Vec<u8>, Region>,
    by_id: BTreeMap<RegionId, (Region, Sequence)>,
    stats: BTreeMap<RegionId, Stats>,
}

impl Model {
    fn apply(&mut self, changes: &[(RegionId, Option<Region>)], at: Sequence) {
        for (id, _) in changes {
            if let Some((before, _)) = self.by_id.remove(id) {
                self.by_key.remove(before.start_key());
            }
        }
        for (id, _) in changes.iter().filter(|(_, after)| after.is_none()) {
            self.stats.remove(id);
        }
        for region in changes.iter().filter_map(|(_, after)| after.as_ref()) {
            self.by_key.insert(region.start_key().to_vec(), region.clone());
            self.by_id.insert(region.id(), (region.clone(), at));
        }
    }

    fn locate(&self, key: &[u8]) -> Option<&Region> {
        let below = self.by_key.range(..=key.to_vec());
        below.map(|(_, region)| region).next_back().filter(|region| region.range().contains(key))
    }

    fn overlapping(&self, range: KeyRange<'_>) -> Vec<RegionId> {
        self.by_key.values().filter(|region| region.range().overlaps(range)).map(Region::id).collect()
    }

    fn sums(&self, range: KeyRange<'_>) -> Sums {
        let stats = |id: &RegionId| self.stats.get(id).copied().unwrap_or_default();
        self.starting_in(range).iter().map(stats).fold(Sums::default(), |sum, stats| Sums {
            regions: sum.regions + 1,
            size_bytes: sum.size_bytes + stats.size_bytes,
            keys: sum.keys + stats.keys,
        })
    }

    fn starting_in(&self, range: KeyRange<'_>) -> Vec<RegionId> {
        self.by_key.values().filter(|region| range.contains(region.start_key())).map(Region::id).collect()
    }
}

/// One version of a map, and of its twin.
#[derive(Clone)]
struct Version {
    index: Arc<Index>,
    model: Model,
    next_id: u64,
}

/// A map under test: its newest version, and who makes the next.
struct Pair {
    now: Version,
    writer: IndexWriter,
    sequence: u64,
}

impl Default for Pair {
    fn default() -> Self {
        let (writer, index) = IndexWriter::new();
        Self { now: Version { index: Arc::new(index), model: Model::default(), next_id: 0 }, writer, sequence: 0 }
    }
}

impl std::ops::Deref for Pair {
    type Target = Version;

    fn deref(&self) -> &Version {
        &self.now
    }
}

impl Pair {
    fn apply(&mut self, changes: &[(RegionId, Option<Region>)]) {
        self.sequence += 1;
        let at = Sequence::new(self.sequence);
        let mut next = self.writer.next(at);
        next.apply(changes.iter().map(|(id, after)| (*id, after.as_ref())));
        self.now.index = Arc::new(next.publish());
        self.now.model.apply(changes, at);
        drop(self.writer.collect());
    }

    /// Something is reported of some regions, and of one that is not there.
    fn report(&mut self, rng: &mut fastrand::Rng) {
        self.sequence += 1;
        let mut next = self.writer.next(Sequence::new(self.sequence));
        for id in self.now.model.by_id.keys() {
            if rng.u8(0..8) > 0 {
                continue;
            }
            let stats = Stats { size_bytes: rng.u64(0..4), keys: rng.u64(0..1 << 40) };
            let stats = (rng.u8(0..4) > 0).then_some(stats);
            let before = match stats {
                Some(stats) => self.now.model.stats.insert(*id, stats),
                None => self.now.model.stats.remove(id),
            };
            assert_eq!(next.report(*id, stats), Some(before != stats));
        }
        assert_eq!(next.report(RegionId::new(u64::MAX), Some(Stats::default())), None);
        self.now.index = Arc::new(next.publish());
        drop(self.writer.collect());
    }

    fn new_id(&mut self, rng: &mut fastrand::Rng) -> u64 {
        self.now.next_id += if rng.u8(..) == 0 { rng.u64(1..1 << 20) } else { rng.u64(1..6) };
        self.now.next_id
    }

    fn some_region(&self, rng: &mut fastrand::Rng) -> Option<Region> {
        let len = self.model.by_key.len();
        if len == 0 { None } else { self.model.by_key.values().nth(rng.usize(0..len)).cloned() }
    }

    /// A changeset of one kind. `grow` says whether splits or merges are more frequent.
    fn step(&mut self, rng: &mut fastrand::Rng, keys: Keys, grow: bool) {
        let Some(region) = self.some_region(rng) else {
            let id = self.new_id(rng);
            return self.apply(&[(RegionId::new(id), Some(region_of(id, &keys.key(rng), b"")))]);
        };
        match rng.u8(0..if grow { 10 } else { 20 }) {
            0 => self.conf_changes(rng),
            1 => self.destroy(rng, &region),
            2 => self.take_over(rng, &region),
            3..10 => self.split(rng, keys, &region),
            _ => self.merge(rng, &region),
        }
    }

    /// Splits every region that owns one of many keys, all in one changeset; the old id keeps the left or the right part.
    fn split(&mut self, rng: &mut fastrand::Rng, keys: Keys, region: &Region) {
        let count = if rng.bool() { rng.usize(1..4) } else { rng.usize(4..200) };
        let mut cuts: Vec<Vec<u8>> = (0..count).map(|_| keys.key(rng)).collect();
        // Close to a key that is there: neighbours that differ late.
        cuts.extend([&b"\0"[..], b"\0\0", &[rng.u8(..)]].map(|tail| [region.start_key(), tail].concat()));
        cuts.sort_unstable();
        cuts.dedup();
        let mut owned: BTreeMap<RegionId, Vec<Vec<u8>>> = BTreeMap::new();
        for key in cuts {
            let owner = self.model.locate(&key).filter(|owner| owner.start_key() != key);
            owner.into_iter().for_each(|owner| owned.entry(owner.id()).or_default().push(key.clone()));
        }
        let mut changes = Vec::new();
        for (id, cuts) in owned {
            let (before, _) = self.model.by_id[&id].clone();
            let starts = std::iter::once(before.start_key()).chain(cuts.iter().map(Vec::as_slice));
            let ends = cuts.iter().map(Vec::as_slice).chain([end_of(&before)]);
            let keeps = if rng.bool() { 0 } else { cuts.len() };
            for (at, (start, end)) in starts.zip(ends).enumerate() {
                let id = if at == keeps { id.get() } else { self.new_id(rng) };
                changes.push((RegionId::new(id), Some(region_of(id, start, end))));
            }
        }
        rng.shuffle(&mut changes);
        self.apply(&changes);
    }

    /// Each of some regions is absorbed by its right neighbour if the two touch, all in one changeset.
    fn merge(&mut self, rng: &mut fastrand::Rng, first: &Region) {
        let count = if rng.bool() { 2 } else { rng.usize(2..100) };
        let run: Vec<_> =
            self.model.by_key.values().skip_while(|region| !region.same_buffer(first)).take(count).cloned().collect();
        let mut changes = Vec::new();
        for pair in run.chunks_exact(2).filter(|pair| pair[0].range().touches(pair[1].range())) {
            let id = pair[1].id().get();
            changes.push((pair[0].id(), None));
            changes.push((pair[1].id(), Some(region_of(id, pair[0].start_key(), end_of(&pair[1])))));
        }
        self.apply(&changes);
    }

    /// Many regions get a new version in one changeset, most of them with other peers.
    fn conf_changes(&mut self, rng: &mut fastrand::Rng) {
        let changed: Vec<_> = self.model.by_key.values().filter(|_| rng.u8(0..4) == 0).collect();
        let mut again = |region: &Region| {
            let id = region.id().get();
            let peers = if rng.u8(0..4) == 0 { region.peers().collect() } else { some_peers(rng, id) };
            (region.id(), Some(region_on(id, region.start_key(), end_of(region), peers)))
        };
        let changes: Vec<_> = changed.into_iter().map(&mut again).collect();
        self.apply(&changes);
    }

    /// A few neighbours leave a hole, and sometimes everything is gone.
    fn destroy(&mut self, rng: &mut fastrand::Rng, region: &Region) {
        let all = rng.u8(0..50) == 0;
        let run = if rng.bool() { 1 } else { rng.usize(1..60) };
        let values = self.model.by_key.values();
        let gone =
            values.skip_while(|other| !all && !other.same_buffer(region)).take(if all { usize::MAX } else { run });
        let changes: Vec<_> = gone.map(|region| (region.id(), None)).collect();
        self.apply(&changes);
    }

    /// A snapshot moves a region: another id takes over its place, in the same changeset.
    fn take_over(&mut self, rng: &mut fastrand::Rng, region: &Region) {
        let id = self.new_id(rng);
        self.apply(&[
            (region.id(), None),
            (RegionId::new(id), Some(region_of(id, region.start_key(), end_of(region)))),
        ]);
    }
}

impl Version {
    /// Every read method against the twin, for one key.
    fn compare_at(&self, key: &[u8], other: &[u8]) {
        let (index, model) = (&self.index, &self.model);
        let id = |entry: Option<super::Entry<'_>>| entry.map(|entry| entry.region().id());
        assert_eq!(id(index.locate(key)), model.locate(key).map(Region::id), "locate {key:?}");
        let before = model.by_key.values().rev().find(|region| region.start_key() < key);
        assert_eq!(id(index.before(key)), before.map(Region::id), "before {key:?}");
        let after = model.by_key.values().find(|region| region.start_key() > key);
        assert_eq!(id(index.after(key)), after.map(Region::id), "after {key:?}");
        for end in [EndKey::Finite(key), EndKey::Infinite] {
            let last = model.by_key.values().rev().find(|region| end > EndKey::Finite(region.start_key()));
            let expected = last.filter(|region| region.end_key() >= end);
            assert_eq!(id(index.locate_end_key(end)), expected.map(Region::id), "locate_end_key {end:?}");
        }
        for range in [KeyRange::new(key, EndKey::Finite(other)), KeyRange::new(key, EndKey::Infinite)] {
            compare_regions(index.overlapping(range), &model.overlapping(range), "overlapping", range);
            compare_regions(index.starting_in(range), &model.starting_in(range), "starting_in", range);
            assert_eq!(index.sums(range), model.sums(range), "sums {range}");
        }
    }

    /// Everything there is, against the twin.
    fn compare(&self) {
        self.index.check();
        let ids: Vec<_> = self.model.by_key.values().map(Region::id).collect();
        compare_regions(self.index.iter(), &ids, "iter", KeyRange::ALL);
        for (id, (region, changed_at)) in &self.model.by_id {
            let entry = self.index.get(*id).unwrap_or_else(|| panic!("region {id} is missing"));
            assert!(entry.region().same_buffer(region));
            assert_eq!(entry.changed_at(), *changed_at, "region {id}");
        }
        for id in [0, 1, self.next_id + 1, self.next_id + 1000, u64::MAX].map(RegionId::new) {
            assert_eq!(self.index.get(id).is_some(), self.model.by_id.contains_key(&id), "region {id}");
        }
    }

    fn compare_many(&self, keys: &[Vec<u8>]) {
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut found = vec![None; keys.len()];
        self.index.locate_many(&keys, &mut found);
        for (key, found) in keys.iter().zip(found) {
            let found = found.map(|entry| entry.region().id());
            assert_eq!(found, self.model.locate(key).map(Region::id), "locate_many {key:?}");
        }
    }

    fn compare_diff(&self, later: &Self) {
        let mut found = Vec::new();
        self.index.diff(&later.index, |before, after| {
            let id = before.or(after).map(|entry| entry.region().id());
            found.push((id, before.map(super::Entry::changed_at), after.map(super::Entry::changed_at)));
        });
        let changed_at = |model: &Model, id| model.by_id.get(id).map(|(_, changed_at)| *changed_at);
        let mut ids: Vec<_> = self.model.by_id.keys().chain(later.model.by_id.keys()).collect();
        ids.sort_unstable();
        ids.dedup();
        let all = ids.into_iter().map(|id| (Some(*id), changed_at(&self.model, id), changed_at(&later.model, id)));
        let expected: Vec<_> = all.filter(|(_, before, after)| before != after).collect();
        assert_eq!(found, expected, "diff");
    }
}

use self::region as region_of;

/// From the front, from the back, from both ends at once, and by its length.
fn compare_regions(found: super::Regions<'_>, expected: &[RegionId], what: &str, range: KeyRange<'_>) {
    assert_eq!(found.len(), expected.len(), "{what} {range}: count");
    assert!(found.clone().map(Region::id).eq(expected.iter().copied()), "{what} {range}");
    assert!(found.clone().rev().map(Region::id).eq(expected.iter().rev().copied()), "{what} {range}: backwards");
    let mut both = found.clone();
    let mut ends: std::collections::VecDeque<_> = expected.iter().copied().collect();
    while let Some(front) = ends.pop_front() {
        assert_eq!(both.next().map(Region::id), Some(front), "{what} {range}: from the front");
        assert_eq!(both.next_back().map(Region::id), ends.pop_back(), "{what} {range}: from the back");
    }
    assert!(both.next().is_none());
    let middle = expected.len() / 2;
    assert_eq!(found.clone().nth(middle).map(Region::id), expected.get(middle).copied(), "{what} {range}: nth");
}

#[test]
fn agrees_with_the_naive_twin_and_old_versions_stay_as_they_are() {
    let mut rng = rng();
    for keys in ALL_KEYS {
        let mut pair = Pair::default();
        let mut held: Vec<Version> = Vec::new();
        let mut most = 0;
        for step in 0..150 {
            pair.step(&mut rng, keys, step % 100 < 60);
            if rng.u8(0..6) == 0 {
                pair.report(&mut rng);
            }
            if pair.index.len() < 200 || step % 8 == 0 {
                pair.index.check();
            }
            most = most.max(pair.index.len());
            let near: Vec<_> =
                pair.some_region(&mut rng).map(|region| region.start_key().to_vec()).into_iter().collect();
            let some: Vec<_> = (0..rng.usize(0..40)).map(|_| keys.key(&mut rng)).chain(near).collect();
            some.iter().take(2).for_each(|key| pair.compare_at(key, &keys.key(&mut rng)));
            pair.compare_many(&some);
            if rng.u8(0..8) == 0 {
                pair.compare();
                held.push(pair.now.clone());
                let earlier = rng.usize(0..held.len());
                held[earlier].compare_diff(&pair);
                pair.now.compare_diff(&held[earlier]);
            }
            if held.len() > 5 {
                let version = held.swap_remove(rng.usize(0..held.len()));
                version.compare();
                version.compare_many(&some);
            }
        }
        pair.compare();
        println!("{keys:?}: at most {most} regions, {} at the end", pair.index.len());
    }
}

#[test]
fn bulk_build_equals_inserting_at_every_size_near_a_boundary() {
    let mut rng = rng();
    for size in [0, 1, 2, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 2100] {
        let starts: Vec<Vec<u8>> = (0..size as u32).map(|at| at.to_be_bytes().to_vec()).collect();
        let ends = starts.iter().skip(1).cloned().chain([vec![]]);
        let regions: Vec<_> =
            (1..).zip(starts.iter().zip(ends)).map(|(id, (start, end))| region(id, start, &end)).collect();
        let change = |region: &Region| (region.id(), Some(region.clone()));
        let (mut built, mut grown) = (Pair::default(), Pair::default());
        built.apply(&regions.iter().map(change).collect::<Vec<_>>());
        built.compare();
        let mut order: Vec<_> = regions.iter().map(change).collect();
        rng.shuffle(&mut order);
        order.iter().for_each(|change| grown.apply(std::slice::from_ref(change)));
        grown.compare();
        assert!(built.index.iter().eq(grown.index.iter()), "{size} regions");
    }
}

impl Keyed for Vec<u8> {
    fn key(&self) -> &[u8] {
        self
    }
}

/// A node's search against counting, after any history of keys that came, went and changed.
#[test]
fn heads_place_every_probe_where_comparing_keys_would() {
    let mut rng = rng();
    for keys in ALL_KEYS {
        for _ in 0..200 {
            let mut sorted: Vec<Vec<u8>> = (0..rng.usize(0..WIDTH)).map(|_| keys.key(&mut rng)).collect();
            sorted.sort_unstable();
            sorted.dedup();
            let mut all = slots::fill(sorted.iter().cloned());
            let mut heads = Heads::of(&all);
            for _ in 0..20 {
                change_heads(&mut rng, keys, (&mut heads, &mut all, &mut sorted));
                compare_heads(&heads, &all, &sorted, &keys.key(&mut rng));
                let near = sorted.get(rng.usize(0..=sorted.len())).cloned().unwrap_or_default();
                compare_heads(&heads, &all, &sorted, &[near.as_slice(), &[rng.u8(0..2)]].concat());
                compare_heads(&heads, &all, &sorted, &near[..rng.usize(0..=near.len())]);
            }
        }
    }
}

/// One key comes, goes or takes the place of its neighbour, or the node is split.
fn change_heads(
    rng: &mut fastrand::Rng,
    keys: Keys,
    (heads, all, sorted): (&mut Heads, &mut Slots<Vec<u8>>, &mut Vec<Vec<u8>>),
) {
    let (key, len) = (keys.key(rng), sorted.len());
    match sorted.binary_search(&key) {
        Ok(at) => {
            sorted.remove(at);
            slots::remove(all, at);
            heads.remove(at);
        }
        Err(at) if at < len && rng.bool() => {
            sorted[at] = key.clone();
            all[at] = Some(key);
            heads.changed(at, all);
        }
        Err(at) if len < WIDTH => {
            sorted.insert(at, key.clone());
            slots::insert(all, at, key);
            heads.inserted(at, all);
        }
        Err(_) => {
            let at = rng.usize(1..len);
            let right = (heads.split_off(at), slots::split_off(all, at), sorted.split_off(at));
            if rng.bool() {
                (*heads, *all, *sorted) = right;
            }
        }
    }
}

fn compare_heads(heads: &Heads, slots: &Slots<Vec<u8>>, sorted: &[Vec<u8>], probe: &[u8]) {
    assert!(slots.iter().flatten().eq(sorted));
    heads.check(probe, slots);
}

#[test]
fn an_edit_shares_every_node_that_it_does_not_touch() {
    let mut pair = Pair::default();
    let starts: Vec<Vec<u8>> = (0..3000u32).map(|at| at.to_be_bytes().to_vec()).collect();
    let ends = starts.iter().skip(1).cloned().chain([vec![]]);
    let regions: Vec<_> = (1..).zip(starts.iter().zip(ends)).map(|(id, (s, e))| region(id, s, &e)).collect();
    pair.apply(&regions.iter().map(|region| (region.id(), Some(region.clone()))).collect::<Vec<_>>());
    let before = pair.index.clone();
    let again = |at: usize| (regions[at].id(), Some(region(at as u64 + 1, &starts[at], end_of(&regions[at]))));
    // Three levels by key; a leaf and two levels of branches by id.
    pair.apply(&[again(1000)]);
    assert_eq!(pair.index.nodes().difference(&before.nodes()).count(), 3 + 3);
    // Neighbours by key and by id: no node more than for one of them, but where two leaves meet.
    pair.apply(&(1000..1008).map(again).collect::<Vec<_>>());
    assert!(pair.index.nodes().difference(&before.nodes()).count() <= 4 + 5);
    pair.compare();
}

#[test]
fn ids_may_be_as_large_as_they_like_and_leave_no_levels_behind() {
    let mut pair = Pair::default();
    let ids = [1, 17, 4096, u64::from(u32::MAX), u64::MAX];
    for (at, id) in (0u8..).zip(ids) {
        pair.apply(&[(RegionId::new(id), Some(region(id, &[at], &[at + 1])))]);
        pair.compare();
    }
    for id in ids.into_iter().rev() {
        pair.apply(&[(RegionId::new(id), None)]);
        pair.compare();
        let largest = pair.model.by_id.keys().next_back().map_or(0, |id| id.get());
        let levels = (64 - largest.leading_zeros()).saturating_sub(8).div_ceil(6);
        assert_eq!(pair.index.id_levels(), levels, "after {id} left");
    }
}

/// Peers that are as they were cost nothing, and a change of one peer touches its store only.
#[test]
fn the_stores_of_unchanged_peers_are_not_touched() {
    let peers = |id: u64| (1..=3).map(move |nth| Peer::voter(PeerId::new(id * 8 + nth), StoreId::new(id % 90 + nth)));
    let bounds = |id: u64| (id.to_be_bytes(), (id + 1).to_be_bytes());
    let plain = |id: u64| region_on(id, &bounds(id).0, &bounds(id).1, peers(id).collect());
    let ids = 1..100_000;
    let mut pair = Pair::default();
    pair.apply(&ids.clone().map(|id| (RegionId::new(id), Some(plain(id)))).collect::<Vec<_>>());
    pair.index.check();
    let all = pair.index.store_nodes();
    let new_nodes = |pair: &Pair| pair.index.store_nodes().difference(&all).count();

    pair.apply(&[(RegionId::new(500), Some(plain(500)))]);
    assert_eq!(new_nodes(&pair), 0, "another version with the same peers");
    let mut successors: Vec<_> = peers(500).collect();
    successors[1].id = PeerId::new(u64::MAX);
    let (start, end) = bounds(500);
    pair.apply(&[(RegionId::new(500), Some(region_on(500, &start, &end, successors.clone())))]);
    assert_eq!(new_nodes(&pair), 0, "another peer in the same part");

    successors[1].role = PeerRole::DemotingVoter;
    pair.apply(&[(RegionId::new(500), Some(region_on(500, &start, &end, successors)))]);
    // Down to the store: a leaf, a branch above it, the sets. One set loses an id, the other is too small for nodes.
    let touched = new_nodes(&pair);
    assert!((3..=5).contains(&touched), "{touched} nodes");
    assert_eq!(pair.index.stores().count(StoreId::new(52), PeerClass::Joint), 1);

    let before = pair.index.store_nodes();
    pair.apply(&[(RegionId::new(100_000), Some(plain(100_000)))]);
    let touched = pair.index.store_nodes().difference(&before).count();
    assert!((5..=7).contains(&touched), "a new region touched {touched} nodes of three stores");
    pair.index.check();
}

/// I9: what no living version uses is freed, also what came and went while an old version was held; the old version keeps
/// what it uses itself.
#[test]
fn a_held_version_keeps_its_own_memory_and_no_other() {
    let mut pair = Pair::default();
    let bounds = |id: u64| (vec![id as u8], vec![id as u8 + 1]);
    let version = |id: u64| region(id, &bounds(id).0, &bounds(id).1);
    let all: Vec<_> = (1..200).map(version).collect();
    let change = |region: &Region| (region.id(), Some(region.clone()));
    pair.apply(&all.iter().map(change).collect::<Vec<_>>());
    let held = pair.now.clone();
    let passing: Vec<Region> = (0..50).map(|_| version(7)).collect();
    passing.iter().for_each(|region| pair.apply(&[change(region)]));
    // The handle here, and the twin's two of the newest one.
    let (last, gone) = passing.split_last().unwrap();
    assert!(gone.iter().all(|region| region.holders() == 1), "a version in between keeps memory");
    assert_eq!(last.holders(), 1 + 2 + 1);
    // Here, in the twin twice, in the held twin twice, and in the index once for all versions.
    assert_eq!(all[6].holders(), 1 + 2 + 1);
    held.compare();
    drop(held);
    drop(pair.writer.collect_all());
    assert_eq!(all[6].holders(), 1, "the version has ended");
    assert_eq!(all[8].holders(), 1 + 2 + 1);
    let now = pair.now.clone();
    drop(pair);
    now.compare();
    assert_eq!(all[8].holders(), 1 + 2 + 1, "a version outlives its writer");
    drop(now);
    assert!(all.iter().chain(&passing).all(|region| region.holders() == 1), "all memory goes with the last version");
}

/// The memory of nodes that end serves the next ones, for ever; a run's memory does not take its place.
#[test]
fn spare_memory_does_not_run_out() {
    let mut pair = Pair::default();
    let one = region(1, b"", b"");
    for _ in 0..300 {
        pair.apply(&[(one.id(), Some(region(1, b"", b"")))]);
    }
    let before = pair.writer.spares.len();
    pair.apply(&[(one.id(), Some(one))]);
    assert!(
        before > 0 && pair.writer.spares.len() == before,
        "{before} spare nodes, then {}",
        pair.writer.spares.len()
    );
}

/// A next version that is given up leaves no memory behind and changes nothing.
#[test]
fn a_version_that_is_given_up_was_never_there() {
    let mut pair = Pair::default();
    let all: Vec<_> = (1..100).map(|id: u8| region(id.into(), &[id], &[id + 1])).collect();
    pair.apply(&all.iter().map(|region| (region.id(), Some(region.clone()))).collect::<Vec<_>>());
    let other = region(7, &[7], &[8]);
    let mut next = pair.writer.next(Sequence::new(pair.sequence + 1));
    next.apply([(other.id(), Some(&other)), (all[20].id(), None)].into_iter());
    assert!(other.holders() > 1);
    drop(next);
    assert_eq!(other.holders(), 1);
    pair.compare();
    pair.apply(&[(other.id(), Some(other.clone()))]);
    pair.compare();
}
