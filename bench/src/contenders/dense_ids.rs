//! The limit of look-ups by id: an array of shared descriptors, indexed by the id itself. It stands still.

use std::sync::Arc;

use crate::descriptor::Descriptor;
use crate::map::{Failure, Found, Get, RegionMap};
use crate::model::RegionSpec;

/// An array with one place for each id from 0 on.
#[derive(Debug)]
pub struct DenseIds(Vec<Option<Arc<Descriptor>>>);

impl RegionMap for DenseIds {
    type Record = Arc<Descriptor>;

    fn record(spec: &RegionSpec<'_>) -> Result<Arc<Descriptor>, Failure> {
        Ok(Arc::new(Descriptor::new(spec)))
    }

    fn build(records: Vec<Arc<Descriptor>>) -> Result<Self, Failure> {
        let id_max = records.iter().map(|region| region.id).max().unwrap_or(0);
        let mut places = vec![None; id_max as usize + 1];
        for region in records {
            if let Some(place) = places.get_mut(region.id as usize) {
                *place = Some(region);
            }
        }
        Ok(Self(places))
    }
}

impl Get for &DenseIds {
    #[inline]
    fn get(&mut self, id: u64) -> Option<Found> {
        let place = self.0.get(usize::try_from(id).ok()?)?;
        place.as_ref().map(|region| region.found())
    }
}
