//! `dashmap`, a hash map of locked shards: look-ups by id only. The record is read under the shard's lock.

use std::sync::Arc;

use dashmap::DashMap;
use rustc_hash::FxBuildHasher;

use crate::descriptor::Descriptor;
use crate::map::{Failure, Found, Get, RegionMap};
use crate::model::RegionSpec;

/// The `dashmap` peer.
#[derive(Debug)]
pub struct DashmapIds(DashMap<u64, Arc<Descriptor>, FxBuildHasher>);

impl RegionMap for DashmapIds {
    type Record = Arc<Descriptor>;

    fn record(spec: &RegionSpec<'_>) -> Result<Arc<Descriptor>, Failure> {
        Ok(Arc::new(Descriptor::new(spec)))
    }

    fn build(records: Vec<Arc<Descriptor>>) -> Result<Self, Failure> {
        let map = DashMap::with_hasher(FxBuildHasher);
        for region in records {
            map.insert(region.id, region);
        }
        Ok(Self(map))
    }
}

impl Get for &DashmapIds {
    #[inline]
    fn get(&mut self, id: u64) -> Option<Found> {
        self.0.get(&id).map(|region| region.found())
    }
}
