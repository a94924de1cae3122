//! A reader-writer lock over two maps that share their descriptors: a look-up takes a reference count out of the lock.
#![expect(clippy::disallowed_types, reason = "it is here to be measured, not to be used")]

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use regionmeta::KeyRange;
use rustc_hash::FxHashMap;

use crate::descriptor::Descriptor;
use crate::map::{Count, Edit, Failure, Found, Get, Locate, Publish, RegionMap, Scan, edits, from, starts, up_to};
use crate::model::{Change, RegionSpec};

/// The peer with a reader-writer lock.
#[derive(Debug)]
pub struct RwLockArc(RwLock<Maps>);

#[derive(Debug, Default)]
struct Maps {
    by_start: BTreeMap<Box<[u8]>, Arc<Descriptor>>,
    by_id: FxHashMap<u64, Arc<Descriptor>>,
}

impl Maps {
    fn locate(&self, key: &[u8]) -> Option<&Arc<Descriptor>> {
        let (_, region) = self.by_start.range::<[u8], _>(up_to(key)).next_back()?;
        region.ends_after(key).then_some(region)
    }

    fn put(&mut self, region: Arc<Descriptor>) {
        self.by_id.insert(region.id, region.clone());
        self.by_start.insert(region.start_key.as_slice().into(), region);
    }

    fn apply(&mut self, edit: Edit<Arc<Descriptor>>) {
        edit.puts.into_iter().for_each(|region| self.put(region));
        if let Some(gone) = edit.gone {
            self.by_start.remove(gone.boundary.as_slice());
            self.by_id.remove(&gone.id);
        }
    }
}

impl RwLockArc {
    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegionMap for RwLockArc {
    type Record = Arc<Descriptor>;

    fn record(spec: &RegionSpec<'_>) -> Result<Arc<Descriptor>, Failure> {
        Ok(Arc::new(Descriptor::new(spec)))
    }

    fn build(records: Vec<Arc<Descriptor>>) -> Result<Self, Failure> {
        let mut maps = Maps::default();
        records.into_iter().for_each(|region| maps.put(region));
        Ok(Self(RwLock::new(maps)))
    }
}

impl Locate for &RwLockArc {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        let region = self.read().locate(key).cloned();
        region.map(|region| region.found())
    }
}

impl Get for &RwLockArc {
    #[inline]
    fn get(&mut self, id: u64) -> Option<Found> {
        let region = self.read().by_id.get(&id).cloned();
        region.map(|region| region.found())
    }
}

/// The map has no sums: the regions are counted one by one under the lock.
impl Count for &RwLockArc {
    fn count(&mut self, range: KeyRange<'_>) -> usize {
        let maps = self.read();
        let first = maps.locate(range.start).map_or(range.start, |region| region.start_key.as_slice());
        maps.by_start.range::<[u8], _>(starts(first, range.end)).count()
    }
}

impl Scan for &RwLockArc {
    fn scan(&mut self, key: &[u8], regions: usize, visit: impl FnMut(Found)) {
        let shared: Vec<Arc<Descriptor>> = {
            let maps = self.read();
            let first = maps.locate(key).map_or(key, |region| region.start_key.as_slice());
            maps.by_start.range::<[u8], _>(from(first)).take(regions).map(|(_, region)| region.clone()).collect()
        };
        shared.iter().map(|region| region.found()).for_each(visit);
    }
}

impl Publish for RwLockArc {
    type Plan = Vec<Edit<Arc<Descriptor>>>;

    fn plan(&self, changes: &[Change<'_>]) -> Result<Self::Plan, Failure> {
        edits::<Self>(changes)
    }

    fn publish(&self, plan: Self::Plan) -> Result<(), Failure> {
        let mut maps = self.write();
        plan.into_iter().for_each(|edit| maps.apply(edit));
        Ok(())
    }
}
