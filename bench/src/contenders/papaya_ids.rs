//! `papaya`, a lock-free hash map: look-ups by id only.

use std::sync::Arc;

use papaya::HashMap;
use rustc_hash::FxBuildHasher;

use crate::descriptor::Descriptor;
use crate::map::{Failure, Found, Get, RegionMap};
use crate::model::RegionSpec;

/// The `papaya` peer.
#[derive(Debug)]
pub struct PapayaIds(HashMap<u64, Arc<Descriptor>, FxBuildHasher>);

impl RegionMap for PapayaIds {
    type Record = Arc<Descriptor>;

    fn record(spec: &RegionSpec<'_>) -> Result<Arc<Descriptor>, Failure> {
        Ok(Arc::new(Descriptor::new(spec)))
    }

    fn build(records: Vec<Arc<Descriptor>>) -> Result<Self, Failure> {
        let map = HashMap::with_hasher(FxBuildHasher);
        {
            let pinned = map.pin();
            for region in records {
                pinned.insert(region.id, region);
            }
        }
        Ok(Self(map))
    }
}

impl Get for &PapayaIds {
    #[inline]
    fn get(&mut self, id: u64) -> Option<Found> {
        self.0.pin().get(&id).map(|region| region.found())
    }
}
