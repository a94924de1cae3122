//! The history of a region: what the naive list of all publishes says, cut to its bounds (I9), and nothing when it is off.

use std::collections::{BTreeMap, BTreeSet};

use regionmeta::testkit::{History, Model};
use regionmeta::{Change, Changeset, RegionId, Sequence, StoreId, StoreMeta, Version};

use crate::alloc;
use crate::readers::{change, tiled};
use crate::seed::rng;

const STORE: StoreId = StoreId::new(1);

/// Everything that happened, and which of it the bounds let stay: the plainest way to say it.
struct Past {
    all: Vec<(Sequence, Change)>,
    versions: usize,
    in_all: usize,
}

impl Past {
    fn note(&mut self, sequence: Sequence, changeset: &Changeset) {
        for change in changeset.changes() {
            self.all.push((sequence, change.clone()));
            self.cut();
        }
    }

    /// Forgets the oldest of a region that has too many, then the oldest of all.
    fn cut(&mut self) {
        let mut seen: BTreeMap<RegionId, usize> = BTreeMap::new();
        let mut kept = Vec::new();
        for (sequence, change) in self.all.drain(..).rev() {
            let count = seen.entry(change.id()).or_default();
            *count += 1;
            if *count <= self.versions && kept.len() < self.in_all {
                kept.push((sequence, change));
            }
        }
        kept.reverse();
        self.all = kept;
    }

    fn of(&self, id: RegionId) -> String {
        let of_the_region = self.all.iter().rev().filter(|(_, change)| change.id() == id);
        let versions = of_the_region.map(|(sequence, change)| Version { sequence: *sequence, change: change.clone() });
        format!("{:?}", versions.collect::<Vec<_>>())
    }

    fn check(&self, meta: &StoreMeta, ids: &BTreeSet<RegionId>) {
        for &id in ids {
            assert_eq!(format!("{:?}", meta.history(id)), self.of(id));
        }
        let kept: usize = ids.iter().map(|&id| meta.read_handle().history(id).len()).sum();
        assert!(kept == self.all.len() && kept <= self.in_all, "{kept} versions");
    }
}

#[test]
fn the_history_is_the_end_of_the_list_of_all_publishes() {
    let mut rng = rng("the_history_is_the_end_of_the_list_of_all_publishes");
    for (versions, in_all) in [(1, 1_000), (3, 1_000), (3, 7), (1_000, 20), (0, 5), (5, 0)] {
        let meta = StoreMeta::new(Some(STORE));
        meta.keep_history(versions, in_all);
        let mut past = Past { all: Vec::new(), versions, in_all: if versions == 0 { 0 } else { in_all } };
        let (mut model, mut history) = (Model::new(Some(STORE)), History::new(rng.u64(..), STORE));
        let mut ids = BTreeSet::new();
        for _ in 0..300 {
            let changeset = history.right(&model);
            let state = meta.prepare(changeset.clone()).unwrap().publish();
            model.publish(&changeset);
            ids.extend(changeset.changes().iter().map(Change::id));
            past.note(state.sequence(), &changeset);
        }
        past.check(&meta, &ids);
        // Narrower bounds hold at once, and wider ones bring nothing back.
        (past.versions, past.in_all) = (past.versions.min(2), past.in_all.min(4));
        meta.keep_history(past.versions, past.in_all);
        past.cut();
        past.check(&meta, &ids);
        meta.keep_history(10, 10);
        past.check(&meta, &ids);
        println!("{versions} of a region and {in_all} in all: {} are left of {} regions", past.all.len(), ids.len());
    }
}

#[test]
fn nothing_is_kept_unless_it_was_asked_for() {
    let (meta, mut next_id) = (tiled(), 1_000);
    let mut rng = rng("nothing_is_kept_unless_it_was_asked_for");
    (0..100).for_each(|_| change(&meta, &mut rng, &mut next_id));
    assert!((0..next_id).all(|id| meta.history(id.into()).is_empty()));
}

/// I9: what is kept does not grow with the number of changes.
#[test]
fn a_history_that_is_full_takes_no_more_memory() {
    let mut rng = rng("a_history_that_is_full_takes_no_more_memory");
    // Without a feed, whose ring fills up as well.
    let meta = StoreMeta::with_feed_capacity(None, 0);
    let regions = tiled().snapshot();
    let all = regions.regions().cloned().fold(Changeset::new(), Changeset::create);
    drop(meta.prepare(all).unwrap().publish());
    drop(regions);
    meta.keep_history(4, 500);
    let mut next_id = 1_000;
    let mut churn = |changes: u32| (0..changes).for_each(|_| change(&meta, &mut rng, &mut next_id));
    churn(5_000);
    let before = alloc::in_use_here();
    churn(20_000);
    let grown = alloc::in_use_here() - before;
    println!("{grown} bytes more after four times the changes");
    assert!(grown.abs() < 100_000, "{grown} bytes more"); // a region and what is kept with it has over 200, so at most 5 in 100
}
