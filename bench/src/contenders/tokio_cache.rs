//! A client's region cache, as in client-rust: tokio's reader-writer lock over a map from start key to (id, epoch), a map
//! from there to the region, and a map from id; a look-up clones the region.
//!
//! The lock is tried first and waited for only if that fails, which is what its future does when it is polled; the numbers
//! hold no executor.

use std::collections::BTreeMap;

use regionmeta::RegionEpoch;
use rustc_hash::FxHashMap;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::descriptor::Descriptor;
use crate::map::{Edit, Failure, Found, Get, Locate, Publish, RegionMap, edits, up_to};
use crate::model::{Change, RegionSpec};

/// The client's cache.
#[derive(Debug)]
pub struct TokioCache(RwLock<Maps>);

type VersionId = (u64, RegionEpoch);

#[derive(Debug, Default)]
struct Maps {
    by_start: BTreeMap<Vec<u8>, VersionId>,
    by_version: FxHashMap<VersionId, Descriptor>,
    by_id: FxHashMap<u64, VersionId>,
}

impl Maps {
    fn locate(&self, key: &[u8]) -> Option<&Descriptor> {
        let (_, version) = self.by_start.range::<[u8], _>(up_to(key)).next_back()?;
        self.by_version.get(version).filter(|region| region.ends_after(key))
    }

    fn get(&self, id: u64) -> Option<&Descriptor> {
        self.by_version.get(self.by_id.get(&id)?)
    }

    fn put(&mut self, region: Descriptor) {
        let version = (region.id, region.epoch);
        if let Some(before) = self.by_id.insert(region.id, version) {
            self.by_version.remove(&before);
        }
        self.by_start.insert(region.start_key.clone(), version);
        self.by_version.insert(version, region);
    }

    fn apply(&mut self, edit: Edit<Descriptor>) {
        edit.puts.into_iter().for_each(|region| self.put(region));
        if let Some(gone) = edit.gone {
            self.by_start.remove(gone.boundary.as_slice());
            if let Some(version) = self.by_id.remove(&gone.id) {
                self.by_version.remove(&version);
            }
        }
    }
}

impl TokioCache {
    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.0.try_read().unwrap_or_else(|_| self.0.blocking_read())
    }
}

impl RegionMap for TokioCache {
    type Record = Descriptor;

    fn record(spec: &RegionSpec<'_>) -> Result<Descriptor, Failure> {
        Ok(Descriptor::new(spec))
    }

    fn build(records: Vec<Descriptor>) -> Result<Self, Failure> {
        let mut maps = Maps::default();
        records.into_iter().for_each(|region| maps.put(region));
        Ok(Self(RwLock::new(maps)))
    }
}

impl Locate for &TokioCache {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        let region = self.read().locate(key).cloned();
        region.map(|region| region.found())
    }
}

impl Get for &TokioCache {
    #[inline]
    fn get(&mut self, id: u64) -> Option<Found> {
        let region = self.read().get(id).cloned();
        region.map(|region| region.found())
    }
}

impl Publish for TokioCache {
    type Plan = Vec<Edit<Descriptor>>;

    fn plan(&self, changes: &[Change<'_>]) -> Result<Self::Plan, Failure> {
        edits::<Self>(changes)
    }

    fn publish(&self, plan: Self::Plan) -> Result<(), Failure> {
        let mut maps = self.0.try_write().unwrap_or_else(|_| self.0.blocking_write());
        plan.into_iter().for_each(|edit| maps.apply(edit));
        Ok(())
    }
}
