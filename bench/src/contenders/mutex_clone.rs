//! What TiKV's `StoreMeta` does: one mutex over a map from end key to id and a map from id to region; a look-up clones the
//! region and lets go of the lock.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use regionmeta::KeyRange;
use rustc_hash::FxHashMap;

use crate::descriptor::Descriptor;
use crate::inline_key::DataKey;
use crate::map::{Count, Edit, Failure, Found, Get, Locate, Publish, RegionMap, Scan, TakeSnapshot, edits};
use crate::model::{Change, RegionSpec};

/// The mutex-and-clone peer.
#[derive(Debug)]
pub struct MutexClone(Mutex<Maps>);

#[derive(Clone, Debug, Default)]
struct Maps {
    by_end: BTreeMap<Vec<u8>, u64>,
    by_id: FxHashMap<u64, Descriptor>,
}

impl Maps {
    fn regions_from<'a>(&'a self, key: &[u8]) -> impl Iterator<Item = &'a Descriptor> + use<'a> {
        let after_key = (Bound::Excluded(&*DataKey::query(key)), Bound::Unbounded);
        self.by_end.range::<[u8], _>(after_key).filter_map(|(_, id)| self.by_id.get(id))
    }

    fn locate(&self, key: &[u8]) -> Option<&Descriptor> {
        self.regions_from(key).next().filter(|region| region.starts_by(key))
    }

    fn put(&mut self, region: Descriptor) {
        self.by_end.insert(DataKey::end(&region.end_key), region.id);
        self.by_id.insert(region.id, region);
    }

    fn apply(&mut self, edit: Edit<Descriptor>) {
        edit.puts.into_iter().for_each(|region| self.put(region));
        if let Some(gone) = edit.gone {
            self.by_end.remove(&*DataKey::query(&gone.boundary));
            self.by_id.remove(&gone.id);
        }
    }
}

impl MutexClone {
    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegionMap for MutexClone {
    type Record = Descriptor;

    fn record(spec: &RegionSpec<'_>) -> Result<Descriptor, Failure> {
        Ok(Descriptor::new(spec))
    }

    fn build(records: Vec<Descriptor>) -> Result<Self, Failure> {
        let mut maps = Maps::default();
        records.into_iter().for_each(|region| maps.put(region));
        Ok(Self(Mutex::new(maps)))
    }
}

impl Locate for &MutexClone {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        let region = self.lock().locate(key).cloned(); // the guard is gone before the copy is read
        region.map(|region| region.found())
    }
}

impl Get for &MutexClone {
    #[inline]
    fn get(&mut self, id: u64) -> Option<Found> {
        let region = self.lock().by_id.get(&id).cloned();
        region.map(|region| region.found())
    }
}

/// The map has no sums: the regions are counted one by one under the lock, as far as they begin before the range ends.
impl Count for &MutexClone {
    fn count(&mut self, range: KeyRange<'_>) -> usize {
        let maps = self.lock();
        maps.regions_from(range.start).take_while(|region| range.end.is_after(&region.start_key)).count()
    }
}

impl Scan for &MutexClone {
    fn scan(&mut self, key: &[u8], regions: usize, visit: impl FnMut(Found)) {
        let copies: Vec<Descriptor> = self.lock().regions_from(key).take(regions).cloned().collect();
        copies.iter().map(Descriptor::found).for_each(visit);
    }
}

/// A consistent state can only be had by copying all of it under the lock.
impl TakeSnapshot for MutexClone {
    type Snapshot = Box<dyn Send>;

    fn take_snapshot(&self) -> Self::Snapshot {
        Box::new(self.lock().clone())
    }
}

impl Publish for MutexClone {
    type Plan = Vec<Edit<Descriptor>>;

    fn plan(&self, changes: &[Change<'_>]) -> Result<Self::Plan, Failure> {
        edits::<Self>(changes)
    }

    fn publish(&self, plan: Self::Plan) -> Result<(), Failure> {
        let mut maps = self.lock();
        plan.into_iter().for_each(|edit| maps.apply(edit));
        Ok(())
    }
}
