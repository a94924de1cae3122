//! Random regions: only such as are asked for, each as often as any other, whichever way they are found.

use std::collections::BTreeMap;

use regionmeta::{
    Changeset, KeyRange, Peer, PeerClass, PeerRole, Region, RegionDraft, RegionEpoch, RegionId, Snapshot, StoreId,
    StoreMeta,
};

use crate::alloc::{self, Allocated};
use crate::seed::rng;

const REGIONS: u64 = 2_000;
/// In a few of the lower half of the regions, and in all of the upper half.
const LOPSIDED: StoreId = StoreId::new(99);

fn key(at: u64) -> Vec<u8> {
    format!("k{at:05}").into_bytes()
}

/// Regions over five stores in every role, with holes between them; ids are in no order of keys.
fn snapshot(rng: &mut fastrand::Rng) -> Snapshot {
    let mut ids: Vec<u64> = (1..=REGIONS).map(|at| at * 37).collect();
    rng.shuffle(&mut ids);
    let region = |(at, id): (u64, u64)| {
        let stores = (0..3).map(|nth| StoreId::new((id / 37 + nth) % 5 + 1));
        let lopsided = (at >= REGIONS / 2 || at % 200 == 7).then_some(LOPSIDED);
        let peers = (1..).zip(stores.chain(lopsided)).map(|(nth, store)| {
            let role = PeerRole::from_wire(rng.u8(0..4)).unwrap();
            Peer { id: (id + nth).into(), store_id: store, role, is_witness: rng.u8(0..4) == 0 }
        });
        let (start, end) = (key(at * 2), key(at * 2 + 1 + at % 2));
        RegionDraft::new(id.into(), KeyRange::from_wire(&start, &end), RegionEpoch::INITIAL, peers.collect()).build()
    };
    let regions = (0..).zip(ids).map(region).map(Result::unwrap);
    let meta = StoreMeta::new(None);
    meta.prepare(regions.fold(Changeset::new(), Changeset::create)).unwrap().publish()
}

type Asked<'a> = (Option<(StoreId, PeerClass)>, &'a [KeyRange<'a>]);

fn expected(snapshot: &Snapshot, (on, ranges): Asked<'_>) -> BTreeMap<RegionId, u64> {
    let inside = |region: &&Region| {
        let within = |range: &KeyRange<'_>| range.start <= region.start_key() && region.end_key() <= range.end;
        ranges.is_empty() || ranges.iter().any(within)
    };
    let on_store = |region: &&Region| {
        let is =
            |(store, class): (StoreId, PeerClass)| region.peers().any(|p| p.store_id == store && class.includes(p));
        on.is_none_or(is)
    };
    snapshot.regions().filter(inside).filter(on_store).map(|region| (region.id(), 0)).collect()
}

fn draw(snapshot: &Snapshot, (on, ranges): Asked<'_>, rng: &mut fastrand::Rng) -> Option<RegionId> {
    let mut draw = |below| rng.u64(0..below);
    let (allocated, entry) = alloc::count(|| match on {
        Some((store, class)) => snapshot.random_region_on(store, class, ranges, &mut draw),
        None => snapshot.random_region_in(ranges, &mut draw),
    });
    assert_eq!(allocated, Allocated::default());
    entry.map(|entry| entry.region().id())
}

/// Pearson's statistic over so many draws a region stays below a bound that one run in a million exceeds by chance.
fn check_uniform(snapshot: &Snapshot, asked: Asked<'_>, draws_each: u64, rng: &mut fastrand::Rng) {
    let mut counts = expected(snapshot, asked);
    if counts.is_empty() {
        assert_eq!(draw(snapshot, asked, rng), None, "{asked:?}");
        return;
    }
    for _ in 0..draws_each * counts.len() as u64 {
        let drawn = draw(snapshot, asked, rng).unwrap_or_else(|| panic!("{asked:?}: nothing found"));
        *counts.get_mut(&drawn).unwrap_or_else(|| panic!("{asked:?}: {drawn:?} was not asked for")) += 1;
    }
    let each = draws_each as f64;
    let statistic: f64 = counts.values().map(|count| (*count as f64 - each).powi(2) / each).sum();
    let freedom = (counts.len() - 1) as f64;
    // Wilson and Hilferty: the cube root is nearly normal; 4.9 standard deviations above it.
    let spread = if freedom > 0.0 { 2.0 / (9.0 * freedom) } else { 0.0 };
    let bound = freedom * (1.0 - spread + 4.9 * spread.sqrt()).powi(3);
    assert!(statistic <= bound, "{asked:?}: {statistic} over {freedom} degrees of freedom");
}

#[test]
fn every_region_that_is_asked_for_has_the_same_chance() {
    let mut rng = rng("every_region_that_is_asked_for_has_the_same_chance");
    let snapshot = snapshot(&mut rng);
    let [a, b, c, d, e] = [100, 161, 140, 301, 1_000].map(key);
    let middle = key(REGIONS);
    let ranges: [&[KeyRange<'_>]; 6] = [
        &[],
        &[KeyRange::from_wire(&a, &b)],
        // They overlap, repeat one another and are in no order; one is empty.
        &[
            KeyRange::from_wire(&c, &d),
            KeyRange::from_wire(&a, &b),
            KeyRange::from_wire(&a, &b),
            KeyRange::from_wire(&e, &e),
        ],
        &[KeyRange::from_wire(&e, &e)],
        &[KeyRange::from_wire(&e, &a)],
        &[KeyRange::from_wire(b"", &middle)],
    ];
    for ranges in ranges {
        check_uniform(&snapshot, (None, ranges), 30, &mut rng);
        for class in PeerClass::ALL {
            check_uniform(&snapshot, (Some((3.into(), class)), ranges), 30, &mut rng);
            // Few of many on either side: what is left to do is to look at all of them.
            check_uniform(&snapshot, (Some((LOPSIDED, class)), ranges), 30, &mut rng);
        }
        check_uniform(&snapshot, (Some((7.into(), PeerClass::Any)), ranges), 30, &mut rng);
    }
}

#[test]
fn a_poor_generator_finds_what_is_there_all_the_same() {
    let mut rng = rng("a_poor_generator_finds_what_is_there_all_the_same");
    let snapshot = snapshot(&mut rng);
    let middle = key(REGIONS);
    let below = [KeyRange::from_wire(b"", &middle)];
    let mut constants: [fn(u64) -> u64; 3] = [|_| 0, |below| below - 1, |_| u64::MAX];
    for draw in &mut constants {
        let asked = (Some((LOPSIDED, PeerClass::Any)), below.as_slice());
        let found = snapshot.random_region_on(LOPSIDED, PeerClass::Any, &below, draw);
        // The last of these numbers is never one that was asked for: at worst nothing is chosen.
        let id = found.map(|entry| entry.region().id());
        assert!(id.is_none_or(|id| expected(&snapshot, asked).contains_key(&id)), "{id:?}");
    }
    let first = snapshot.random_region_on(LOPSIDED, PeerClass::Any, &below, &mut |_| 0);
    assert!(first.is_some());
}
