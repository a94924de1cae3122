//! crossbeam's lock-free skip list by start key.
//!
//! A split is two steps, and a reader may come in between. The new right part is put in first, so that the old region is
//! still found by every other key; but replacing an entry is itself a removal and an insertion.

use std::ops::Bound;
use std::sync::Arc;

use crossbeam_skiplist::SkipMap;

use crate::descriptor::Descriptor;
use crate::map::{Edit, Failure, Found, Locate, Publish, RegionMap, Scan, edits};
use crate::model::{Change, RegionSpec};

/// The skip list peer.
#[derive(Debug)]
pub struct SkipList(SkipMap<Box<[u8]>, Arc<Descriptor>>);

impl SkipList {
    fn put(&self, region: Arc<Descriptor>) {
        self.0.insert(region.start_key.as_slice().into(), region);
    }

    fn apply(&self, edit: Edit<Arc<Descriptor>>) {
        edit.puts.into_iter().rev().for_each(|region| self.put(region));
        if let Some(gone) = edit.gone {
            self.0.remove(gone.boundary.as_slice());
        }
    }
}

impl RegionMap for SkipList {
    type Record = Arc<Descriptor>;

    fn record(spec: &RegionSpec<'_>) -> Result<Arc<Descriptor>, Failure> {
        Ok(Arc::new(Descriptor::new(spec)))
    }

    fn build(records: Vec<Arc<Descriptor>>) -> Result<Self, Failure> {
        let list = Self(SkipMap::new());
        records.into_iter().for_each(|region| list.put(region));
        Ok(list)
    }
}

impl Locate for &SkipList {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        let entry = self.0.upper_bound(Bound::Included(key))?;
        entry.value().ends_after(key).then(|| entry.value().found())
    }
}

impl Scan for &SkipList {
    fn scan(&mut self, key: &[u8], regions: usize, visit: impl FnMut(Found)) {
        let below = self.0.upper_bound(Bound::Included(key));
        let first =
            below.filter(|entry| entry.value().ends_after(key)).or_else(|| self.0.lower_bound(Bound::Excluded(key)));
        let entries = std::iter::successors(first, |entry| entry.next());
        entries.take(regions).map(|entry| entry.value().found()).for_each(visit);
    }
}

impl Publish for SkipList {
    type Plan = Vec<Edit<Arc<Descriptor>>>;

    fn plan(&self, changes: &[Change<'_>]) -> Result<Self::Plan, Failure> {
        edits::<Self>(changes)
    }

    fn publish(&self, plan: Self::Plan) -> Result<(), Failure> {
        plan.into_iter().for_each(|edit| self.apply(edit));
        Ok(())
    }
}
