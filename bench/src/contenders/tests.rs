//! Every contender answers exactly as the oracle: with holes and without, on every boundary and beside it, on keys that no
//! region has, and after every one of many random splits, merges and conf changes.
//!
//! A failure prints its seed; `REGIONMETA_SEED` replays it.

use fastrand::Rng;
use regionmeta::KeyRange;

use super::dashmap_ids::DashmapIds;
use super::dense_ids::DenseIds;
use super::imbl_swap::ImblSwap;
use super::mutex_clone::MutexClone;
use super::ours::Ours;
use super::papaya_ids::PapayaIds;
use super::rwlock_arc::RwLockArc;
use super::skip_map::SkipList;
use super::sorted_array::SortedArray;
use super::static_tree::StaticTree;
use super::tokio_cache::TokioCache;
use super::tree_index::SccTree;
use crate::map::{BATCH, Count, Found, Get, Locate, Publish, RegionMap, Scan};
use crate::model::Model;
use crate::tasks::Stage;
use crate::workload::{Layout, SlotBounds};

const REGIONS: [usize; 5] = [1, 2, 17, 300, 2_000];
const STEPS: usize = 60;
const PROBES_PER_STEP: usize = 50;

fn seed() -> u64 {
    std::env::var("REGIONMETA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| Rng::new().u64(..))
}

/// Runs `check` on layouts of all sizes, with and without holes.
fn on_layouts(check: impl Fn(&mut Model<'_>, &mut Rng, &str)) {
    let seed = seed();
    for regions in REGIONS {
        for one_hole_in in [usize::MAX, 4] {
            let layout = Layout::new(regions, seed).with_holes(one_hole_in);
            let context = format!("{regions} regions, a hole in {one_hole_in}, REGIONMETA_SEED={seed}");
            check(&mut Model::new(&layout), &mut Rng::with_seed(seed), &context);
        }
    }
}

/// A map that can change: asked after each of many random changesets.
fn changing<M: Publish>(ask: impl Fn(&M, &Model<'_>, &mut Rng, &str)) {
    on_layouts(|model, rng, context| {
        let map: M = Stage::map_of(model).unwrap();
        ask(&map, model, rng, context);
        for step in 0..STEPS {
            let changes_max = rng.usize(1..10);
            change(model, changes_max, rng, |changes| map.publish(map.plan(changes).unwrap()).unwrap());
            ask(&map, model, rng, &format!("step {step}, {context}"));
        }
    });
}

/// A map that stands still: built anew of a state that random changes have led to.
fn standing<M: RegionMap>(ask: impl Fn(&M, &Model<'_>, &mut Rng, &str)) {
    on_layouts(|model, rng, context| {
        for step in 0..4 {
            ask(&Stage::map_of(model).unwrap(), model, rng, &format!("step {step}, {context}"));
            (0..STEPS).for_each(|_| change(model, 3, rng, |_| ()));
        }
    });
}

fn change(model: &mut Model<'_>, changes_max: usize, rng: &mut Rng, publish: impl FnOnce(&[crate::model::Change<'_>])) {
    let mut slots: Vec<usize> = (0..changes_max).map(|_| rng.usize(0..model.slots())).collect();
    slots.retain(|&slot| !model.layout().is_hole(slot));
    slots.sort_unstable();
    slots.dedup();
    rng.shuffle(&mut slots);
    let bounds: Vec<SlotBounds> = slots.iter().map(|&slot| model.layout().bounds(slot)).collect();
    let changes: Vec<_> = slots
        .iter()
        .zip(&bounds)
        .map(|(&slot, bounds)| match rng.bool() {
            true => model.split_or_merge(slot, bounds),
            false => model.change_peer(slot, bounds),
        })
        .collect();
    publish(&changes);
}

/// A row, a boundary, one of its neighbours, or bytes that are no row at all.
fn any_key(model: &Model<'_>, rng: &mut Rng) -> Vec<u8> {
    let slot = rng.usize(0..model.slots());
    let bounds = model.layout().bounds(slot);
    let boundaries = [bounds.start, Some(bounds.middle), bounds.end];
    let boundary = boundaries[rng.usize(0..3)].map_or(vec![], |key| key.to_vec());
    match rng.u8(0..8) {
        0..3 => model.layout().random_row(slot, rng).to_vec(),
        3 => boundary,
        4 => [boundary.as_slice(), &[0]].concat(),
        5 => just_before(boundary),
        6 => boundary[..rng.usize(0..=boundary.len())].to_vec(),
        _ => (0..rng.usize(0..40)).map(|_| *rng.choice(b"\0t\x80_r\xff").unwrap()).collect(),
    }
}

/// The largest key of the same length below `key`.
fn just_before(mut key: Vec<u8>) -> Vec<u8> {
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            break;
        }
    }
    key
}

fn asks_by_key<L: Locate>(reader: &mut L, model: &Model<'_>, rng: &mut Rng, context: &str) {
    for _ in 0..PROBES_PER_STEP {
        let key = any_key(model, rng);
        assert_eq!(reader.locate(&key), model.locate(&key), "{} in {context}", key.escape_ascii());
    }
    let keys: Vec<Vec<u8>> = (0..BATCH).map(|_| any_key(model, rng)).collect();
    let mut found = [None; BATCH];
    reader.locate_many(&std::array::from_fn(|nth| keys[nth].as_slice()), &mut found);
    let expected: Vec<_> = keys.iter().map(|key| model.locate(key)).collect();
    assert_eq!(found.as_slice(), expected, "{context}");
}

fn asks_by_id<G: Get>(reader: &mut G, model: &Model<'_>, rng: &mut Rng, context: &str) {
    for _ in 0..PROBES_PER_STEP {
        let id = rng.u64(0..2 * model.slots() as u64 + 3);
        assert_eq!(reader.get(id), model.get(id), "region {id} in {context}");
    }
}

fn counts<C: Count>(reader: &mut C, model: &Model<'_>, rng: &mut Rng, context: &str) {
    for _ in 0..3 {
        let (start, end) = (any_key(model, rng), any_key(model, rng));
        let range = KeyRange::from_wire(&start, &end);
        if range.is_empty() {
            continue;
        }
        let mut expected = 0;
        let visited: Result<(), ()> = model.try_for_each(|spec| {
            expected += usize::from(spec.range.overlaps(range));
            Ok(())
        });
        assert!(visited.is_ok());
        assert_eq!(reader.count(range), expected, "{range:?} in {context}");
    }
}

fn scans<S: Scan>(reader: &mut S, model: &Model<'_>, rng: &mut Rng, context: &str) {
    let (key, regions) = (any_key(model, rng), rng.usize(1..200));
    let mut scanned = Vec::new();
    reader.scan(&key, regions, |found| scanned.push(found));
    let mut expected: Vec<Found> = Vec::new();
    let visited: Result<(), ()> = model.try_for_each(|spec| {
        if spec.range.end.is_after(&key) && expected.len() < regions {
            expected.push(spec.found());
        }
        Ok(())
    });
    assert!(visited.is_ok());
    assert_eq!(scanned, expected, "{regions} from {} in {context}", key.escape_ascii());
}

#[test]
fn ours() {
    changing(|map: &Ours, model, rng, context| {
        asks_by_key(&mut map.reader(), model, rng, context);
        asks_by_key(&mut map.by_snapshot(), model, rng, context);
        asks_by_id(&mut map.reader(), model, rng, context);
        asks_by_id(&mut map.by_snapshot(), model, rng, context);
        scans(&mut map.reader(), model, rng, context);
        counts(&mut map.reader(), model, rng, context);
    });
}

#[test]
fn mutex_clone() {
    changing(|map: &MutexClone, model, rng, context| {
        asks_by_key(&mut &*map, model, rng, context);
        asks_by_id(&mut &*map, model, rng, context);
        scans(&mut &*map, model, rng, context);
        counts(&mut &*map, model, rng, context);
    });
}

#[test]
fn rwlock_arc() {
    changing(|map: &RwLockArc, model, rng, context| {
        asks_by_key(&mut &*map, model, rng, context);
        asks_by_id(&mut &*map, model, rng, context);
        scans(&mut &*map, model, rng, context);
        counts(&mut &*map, model, rng, context);
    });
}

#[test]
fn tokio_cache() {
    changing(|map: &TokioCache, model, rng, context| {
        asks_by_key(&mut &*map, model, rng, context);
        asks_by_id(&mut &*map, model, rng, context);
    });
}

#[test]
fn skip_map() {
    changing(|map: &SkipList, model, rng, context| {
        asks_by_key(&mut &*map, model, rng, context);
        scans(&mut &*map, model, rng, context);
    });
}

#[test]
fn tree_index() {
    changing(|map: &SccTree, model, rng, context| {
        asks_by_key(&mut &*map, model, rng, context);
        scans(&mut &*map, model, rng, context);
    });
}

#[test]
fn imbl_swap() {
    changing(|map: &ImblSwap, model, rng, context| {
        asks_by_key(&mut &*map, model, rng, context);
        asks_by_id(&mut &*map, model, rng, context);
        scans(&mut &*map, model, rng, context);
        counts(&mut &*map, model, rng, context);
    });
}

#[test]
fn papaya_ids() {
    standing(|map: &PapayaIds, model, rng, context| asks_by_id(&mut &*map, model, rng, context));
}

#[test]
fn dashmap_ids() {
    standing(|map: &DashmapIds, model, rng, context| asks_by_id(&mut &*map, model, rng, context));
}

#[test]
fn dense_ids() {
    standing(|map: &DenseIds, model, rng, context| asks_by_id(&mut &*map, model, rng, context));
}

#[test]
fn sorted_array() {
    standing(|map: &SortedArray, model, rng, context| {
        asks_by_key(&mut &*map, model, rng, context);
        scans(&mut &*map, model, rng, context);
        counts(&mut &*map, model, rng, context);
    });
}

#[test]
fn static_tree() {
    standing(|map: &StaticTree, model, rng, context| asks_by_key(&mut &*map, model, rng, context));
}
